"""Servers killed in the middle of what concerns all shards: it is there on all, or on none.

As if the machine had gone: the postmaster and all its processes, and then it is started anew.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from router.demo.server import PortInUse
from tests.support.cluster.server import StopMode
from tests.support.postgres import Database
from tests.support.router import HOST, wait_until
from tests.support.shards import KEYED, LEFT, SHARDS, Shards, ask_simply, pool_of
from tests.support.tripwire import Tripwire
from tests.support.wire import sqlstates

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import PrivateCluster
    from tests.support.router import RouterProcess
    from tests.support.wire import WireClient

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

OPTIONS: Final = f'{KEYED}\nomnisharded_tables = ["countries"]'
# Shards 1 and 2 are alike.
HOME, OTHER = 0, 1
ENDS: Final = (
    (HOME, b"txid_current"),
    (HOME, b"COMMIT"),
    (OTHER, b"txid_current"),
    (OTHER, b"PREPARE TRANSACTION"),
    (OTHER, b"COMMIT PREPARED"),
)


def _begins(verb: bytes) -> tuple[tuple[int, bytes], ...]:
    return tuple((shard, text) for shard in (HOME, OTHER) for text in (b"BEGIN", verb))


# What is sent, of which the last is to be told the truth about; and at which steps of it.
STORIES: Final = {
    "definition": (["CREATE TABLE made_{n} (id int)"], (*_begins(b"CREATE"), *ENDS)),
    "change": (["INSERT INTO countries VALUES ({n})"], (*_begins(b"INSERT"), *ENDS)),
    "rows": (
        ["INSERT INTO items VALUES " + ", ".join(f"({k}, '{{n}}')" for k in range(1, 13))],
        (*_begins(b"INSERT"), *ENDS),
    ),
    "transaction": (
        [
            "BEGIN",
            "CREATE TABLE made_{n} (id int)",
            "INSERT INTO countries VALUES ({n})",
            "INSERT INTO items VALUES (1, '{n}'), (2, '{n}'), (3, '{n}')",
            "COMMIT",
        ],
        ENDS,
    ),
}
# On each shard, whether it is there: what each story makes, the same everywhere.
FOUND: Final = {
    "definition": ["SELECT to_regclass('made_{n}') IS NOT NULL"],
    "change": ["SELECT count(*) > 0 FROM countries WHERE n = {n}"],
    "rows": ["SELECT count(*) > 0 FROM items WHERE body = '{n}'"],
}
FOUND["transaction"] = [sql for each in tuple(FOUND.values()) for sql in each]


def _kill(server: Server) -> None:
    """Kill a server with all of its processes."""
    pid = server.pid
    assert pid is not None
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    # It must not notice that they die.
    os.kill(pid, signal.SIGKILL)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(child), signal.SIGKILL)


def _starts(server: Server) -> bool:
    """Start it, unless a process that it had made meanwhile has not noticed its end yet."""
    server.stop(StopMode.KILL)  # waits until it is gone
    try:
        server.start()
    except PortInUse:
        return False
    return True


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("story", sorted(STORIES))
def test_whichever_server_is_killed_all_shards_have_it_or_none(
    story: str,
    before: bool,
    private_cluster: PrivateCluster,
    start_router: Callable[..., RouterProcess],
) -> None:
    settings = {"max_prepared_transactions": "20"}
    servers = [
        shard.primary for shard in private_cluster(shards=SHARDS, settings=settings).shards
    ]
    databases = []
    for number, server in enumerate(servers):
        server.execute(f"CREATE DATABASE shard_{number}")
        databases.append(Database(server, f"shard_{number}"))
        databases[-1].execute(
            "CREATE TABLE items (id bigint, body text); CREATE TABLE countries (n int)"
        )
    texts, steps = STORIES[story]
    with contextlib.ExitStack() as stack:
        wires = [stack.enter_context(Tripwire(server.port)) for server in servers]
        places = [[(HOST, wire.port, "primary")] for wire in wires]
        shards = Shards(databases, start_router({"items": pool_of(places, databases, OPTIONS)}))
        for number, (shard, text) in enumerate(steps):
            server = servers[shard]
            with shards.client() as client:
                wires[shard].set(text, before=before, act=functools.partial(_kill, server))
                told = _told(client, [sql.format(n=number) for sql in texts])
            assert wires[shard].has_gone_off, text
            wait_until("it runs again", functools.partial(_starts, server))
            # The ids of transactions that were lost are given to others.
            databases[shard].execute(f"CREATE TABLE new_{number} ()")
            wait_until("there are clients", lambda: _is_served(shards))
            wait_until(
                "nothing is left", lambda: not any(each.execute(LEFT)[0][0] for each in servers)
            )
            found = {
                bool(database.execute(sql.format(n=number))[0][0])
                for database in databases
                for sql in FOUND[story]
            }
            assert len(found) == 1, (text, shard, told)
            if told == "C" or "Nothing has been changed" in told or "has failed on all" in told:
                assert found == {told == "C"}, (text, shard, told)
            else:
                assert "not known" in told, (text, shard, told)


def _told(client: WireClient, texts: list[str]) -> str:
    """What a client is told at last: "C", or an error's message and detail."""
    for sql in texts:
        answer = ask_simply(client, sql)
        if sqlstates(answer):
            fields = next(message.fields for message in answer if message.kind == "E")
            return f"{fields['M']} {fields.get('D', '')}"
    return "C"


def _is_served(shards: Shards) -> bool:
    """Whether all shards can be reached again."""
    with shards.client() as client:
        return not sqlstates(ask_simply(client, "CREATE TABLE IF NOT EXISTS x (n int)"))
