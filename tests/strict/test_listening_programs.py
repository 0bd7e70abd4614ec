"""Programs of LISTEN, UNLISTEN, NOTIFY and transactions, of several clients, drawn at random.

Each client must be told the same as on a connection of its own, and in the same order.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strict.test_listening import notification
from tests.support.wire import SYNC, WireClient, kinds, query, run, sqlstates

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

CLIENTS: Final = 3
CHANNELS: Final = ("a", "b", '"C c"')
FENCE: Final = "fence"
# What takes everything away has to keep the fence.
UNLISTEN_ALL: Final = f"UNLISTEN *; LISTEN {FENCE}"

channels: Final = st.sampled_from(CHANNELS)
payloads: Final = st.sampled_from(("", "x", "x", "y", "z" * 3000))
listens: Final = st.one_of(
    channels.map(lambda name: f"LISTEN {name}"),
    channels.map(lambda name: f"LISTEN {name}"),
    channels.map(lambda name: f"UNLISTEN {name}"),
    channels.map(lambda name: f"DO $$ BEGIN EXECUTE 'LISTEN {name}'; END $$"),
    st.just(UNLISTEN_ALL),
)
notifies: Final = st.one_of(
    st.builds("NOTIFY {}, '{}'".format, channels, payloads),
    st.builds(
        lambda name, text: f"SELECT pg_notify('{name.strip(chr(34))}', '{text}')",
        channels,
        payloads,
    ),
)
transactions: Final = st.sampled_from(
    ("BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s")
)
others: Final = st.sampled_from(("SELECT 1", "SELECT 1/0", "SET work_mem = '3MB'", "RELEASE s"))
statements: Final = st.one_of(listens, listens, notifies, notifies, transactions, others)
texts: Final = st.one_of(
    statements.map(query),
    statements.map(query),
    st.lists(statements, min_size=2, max_size=3).map("; ".join).map(query),
    statements.filter(lambda sql: ";" not in sql).map(lambda sql: run(sql) + SYNC),
)
# Who says what; the last of them is not one that listens.
steps: Final = st.one_of(
    st.tuples(st.integers(0, CLIENTS - 1), texts),
    st.tuples(st.integers(0, CLIENTS - 1), texts),
    st.tuples(st.just(CLIENTS), notifies.map(query)),
)
programs: Final = st.lists(steps, min_size=4, max_size=20)


@dataclass
class Theatre:
    """Where programs are played."""

    database: Database
    router: RouterProcess

    def play(
        self, program: Sequence[tuple[int, bytes]], port: int, name: str
    ) -> tuple[list[list[tuple[str, str]]], list[tuple[str, list[str]]]]:
        """What each client was notified of, and how each step was answered."""
        heard = [list[tuple[str, str]]() for _ in range(CLIENTS)]
        answers = []
        with ExitStack() as stack:

            def login(port: int, name: str) -> WireClient:
                return stack.enter_context(WireClient.login(port, name))

            clients = [login(port, name) for _ in range(CLIENTS)]
            other = login(self.database.port, self.database.name)
            status = ["I"] * CLIENTS
            for client in clients:
                client.query(f"LISTEN {FENCE}")
            ends = [(number, query("COMMIT")) for number in range(CLIENTS)]
            for fence, (number, data) in enumerate((*program, *ends)):
                said = [*clients, other][number].ask(data)
                plain = [one for one in said if one.kind not in "ANS"]
                answers.append((kinds(plain), sqlstates(plain)))
                if number < CLIENTS:
                    status[number] = said[-1].body.decode()
                    told = [notification(one) for one in said if one.kind == "A"]
                    heard[number] += [one for one in told if one[0] != FENCE]
                other.query(f"NOTIFY {FENCE}, '{fence}'")
                for listener, client in enumerate(clients):
                    if status[listener] == "I":
                        heard[listener] += until(client, str(fence))
        return heard, answers


def until(client: WireClient, fence: str) -> list[tuple[str, str]]:
    """What the client is told, up to a fence."""
    told = []
    while True:
        message = client.read_message()
        if message.kind == "N":
            continue
        assert message.kind == "A", message
        told.append(notification(message))
        if told[-1] == (FENCE, fence):
            return [one for one in told if one[0] != FENCE]


@pytest.fixture(scope="module")
def theatre(database: Database, module_router: ModuleRouter, pool_for: PoolFor) -> Theatre:
    """A router with pools of three servers and of six, whose clients share a connection."""
    shared = 'listen = "shared"'
    # As many as there are clients: all of them may be in a transaction.
    pools = {name: pool_for(size=size, options=shared) for name, size in POOLS.items()}
    return Theatre(database, module_router(pools))


POOLS: Final = {"narrow": 3, "wide": 6}


@pytest.mark.parametrize("pool", POOLS)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(program=programs)
def test_clients_are_told_what_they_would_be_on_connections_of_their_own(
    theatre: Theatre, pool: str, program: list[tuple[int, bytes]]
) -> None:
    directly = theatre.play(program, theatre.database.port, theatre.database.name)
    assert theatre.play(program, theatre.router.port, pool) == directly
