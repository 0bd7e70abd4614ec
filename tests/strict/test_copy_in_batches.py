"""COPY from the client on several shards is refused in the extended protocol, and cleanly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.postgres import Database
from tests.support.shards import (
    KEYED,
    Shards,
    start_shards,
)
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    WireClient,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    kinds,
    parse,
    query,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

pytestmark = pytest.mark.postgres

OPTIONS: Final = f'{KEYED}\nomnisharded_tables = ["copies"]'
LINES: Final = copy_data(b"1\tx\n2\ty\n3\tz\n")

# What a client sends of a COPY that is prepared as s already, up to its last Sync; each makes
# PostgreSQL fail where it is told that the COPY is wrong, and skip what follows.
PROGRAMS: Final = (
    (bind(name="s") + execute() + SYNC,),
    (bind(name="s") + execute() + LINES + COPY_DONE + SYNC,),
    (bind(name="s") + execute() + SYNC, LINES + COPY_DONE + SYNC),
    (bind(name="s") + execute() + copy_fail() + SYNC,),
    (bind(name="s") + describe() + execute() + FLUSH + SYNC,),
    (bind(name="s", portal="p") + execute("p") + close("P", "p") + SYNC,),
    (bind(name="s") + execute() + bind(name="s") + execute() + SYNC,),
    (bind(name="s") + execute() + LINES + COPY_DONE + query("SELECT 1") + SYNC,),
)


@pytest.fixture
def shards(
    private_primary: Callable[..., Server], start_router: Callable[..., RouterProcess]
) -> Shards:
    """Three shards in one server."""
    server = private_primary(max_prepared_transactions="20")
    table = "CREATE TABLE copies (id bigint, body text)"
    return start_shards(server, start_router, OPTIONS, lambda each: each.execute(table))


def _answered(client: WireClient, messages: tuple[bytes, ...]) -> str:
    """The types of the answers, but that PostgreSQL sees it at the Execute: those before."""
    found = ""
    for sent in messages:
        client.send(sent)
        answer = client.read_until("Z")
        status = answer[-1].body.decode()
        found += kinds(answer).replace("2", "").replace("n", "") + status
    return found


@pytest.mark.parametrize("table", ["items", "copies"])
def test_the_protocol_goes_on_as_behind_any_error(shards: Shards, table: str) -> None:
    server = shards.databases[0].server
    server.execute("CREATE DATABASE plain")
    plain = Database(server, "plain")
    plain.execute("CREATE TABLE made (id int)")
    copy = f"COPY {table} (id, body) FROM STDIN"
    with (
        shards.client() as client,
        WireClient.login(server.port, user="postgres", database="plain") as direct,
    ):
        for messages in PROGRAMS:
            for first in ((), ("BEGIN",), ("BEGIN", "CREATE TABLE made_too (id int)")):
                both = []
                # To the server itself the table is not known, which it sees as it executes.
                for each in (client, direct):
                    for sql in first:
                        each.query(sql)
                    prepared = each.ask(parse(copy, "s") + describe("S", "s") + SYNC)
                    assert kinds(prepared) == "1tnZ"
                    both.append(_answered(each, messages))
                    if first:
                        each.query("ROLLBACK")
                    assert kinds(each.ask(close("S", "s") + SYNC)) == "3Z"
                    assert each.value("SELECT 1") == "1"
                assert both[0] == both[1], (messages, first)
        answer = client.ask(parse(copy) + bind() + execute() + SYNC)
        assert sqlstates(answer) == ["0A000"]
        (error,) = [message.fields for message in answer if message.kind == "E"]
        assert table in error["M"]
        assert "in the simple protocol" in error["H"]
        # The way out.
        client.query("SET SHARD TO 1")
        sent = parse(copy) + bind() + execute() + FLUSH
        client.send(sent)
        assert kinds(client.read_until("G")) == "12G"
        client.send(LINES + COPY_DONE + SYNC)
        assert kinds(client.read_until("Z")) == "CZ"
    found = [len(each.execute(f"SELECT 1 FROM {table}")) for each in shards.databases]
    assert found == [0, 3, 0]
    assert shards.left() == 0
