"""Pools keep to their sizes and times, whoever pulls at them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.router import RouterProcess, wait_until
from tests.support.wire import SYNC, WireClient, kinds, query, run, sqlstates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database

SIZE = 5
USERS = {
    "warm": "min_pool_size = 3",
    "short": "idle_timeout = 200",
    "mortal": "server_lifetime = 300",
}


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One with a pool for each limit."""
    pools = {name: pool_for(size=SIZE) for name in ("five", *USERS)}
    for name, option in USERS.items():
        pools[name].user_options += f"\n{option}"
    pools["hasty"] = pool_for(size=1, options="connect_timeout = 200")
    pools["one"] = pool_for(size=1)
    return module_router(pools)


@pytest.fixture
def clients(router: RouterProcess) -> Iterator[Clients]:
    """Connects clients that are gone after the test."""
    with ExitStack() as stack:
        yield Clients(router, stack)


class Clients:
    """Connects clients."""

    def __init__(self, router: RouterProcess, stack: ExitStack) -> None:
        self._router = router
        self._stack = stack

    def connect(self, pool: str) -> WireClient:
        """One more, whose server connections can be told from others."""
        return self._stack.enter_context(
            WireClient.login(self._router.port, pool, parameters={"application_name": pool})
        )


def backends(database: Database, application: str) -> set[int]:
    """The backends that have worked for clients with an application name."""
    found = database.execute(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name = %s",
        [application],
    )
    return {int(str(pid)) for (pid,) in found}


def test_no_more_connections_than_pool_size_whatever_the_crowd(
    database: Database, clients: Clients
) -> None:
    crowd = [clients.connect("five") for _ in range(100)]
    used: set[bytes | None] = set()
    for _ in range(5):
        for client in crowd:
            client.send(query("SELECT pg_backend_pid(), pg_sleep(0.002)"))
        assert len(backends(database, "five")) <= SIZE
        for client in crowd:
            answers = client.read_until("Z")
            assert not sqlstates(answers)
            used.add(answers[1].row[0])
    assert len(used) == SIZE


def test_who_waits_longest_is_served_first(
    router: RouterProcess, database: Database, clients: Clients
) -> None:
    database.execute("CREATE SEQUENCE turn")
    holder = clients.connect("one")
    holder.query("BEGIN")
    queue = []
    for number in range(1, 11):
        client = clients.connect("one")
        client.send(query("SELECT nextval('turn')"))
        queue.append(client)
        wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == str(number))  # noqa: B023
    holder.query("COMMIT")
    turns = [client.read_until("Z")[1].row for client in queue]
    assert turns == [[b"%d" % number] for number in range(1, 11)]


@pytest.mark.parametrize("data", [query("SELECT 1"), run("SELECT 1") + SYNC, run("SELECT 1")])
def test_to_wait_too_long_is_an_error_and_the_session_goes_on(
    clients: Clients, data: bytes
) -> None:
    holder, client = clients.connect("hasty"), clients.connect("hasty")
    holder.query("BEGIN")
    begun = time.monotonic()
    client.send(data)
    if data == run("SELECT 1"):
        client.send(SYNC)
    answers = client.read_until("Z")
    assert time.monotonic() - begun >= 0.2
    assert kinds(answers) == "EZ"
    assert sqlstates(answers) == ["53300"]
    assert answers[0].fields["S"] == "ERROR"
    assert answers[1].body == b"I"
    holder.query("COMMIT")
    assert client.value("SELECT 2") == "2"


def test_min_pool_size_is_there_before_anybody_asks(router: RouterProcess) -> None:
    wait_until("three are open", lambda: router.pool("warm")["sv_idle"] == "3")


def work_at_once(clients: Clients, pool: str) -> None:
    """Use all connections of a pool."""
    crowd = [clients.connect(pool) for _ in range(SIZE)]
    for client in crowd:
        client.query("BEGIN")
    for client in crowd:
        client.query("COMMIT")


def test_idle_connections_are_closed_in_time(router: RouterProcess, clients: Clients) -> None:
    work_at_once(clients, "short")
    wait_until("all are closed", lambda: router.pool("short")["sv_idle"] == "0")


def test_no_connection_outlives_its_lifetime(database: Database, clients: Clients) -> None:
    work_at_once(clients, "mortal")
    first = backends(database, "mortal")
    assert len(first) == SIZE
    client = clients.connect("mortal")
    client.query("BEGIN")
    kept = int(client.value("SELECT pg_backend_pid()"))
    wait_until("the others are gone", lambda: backends(database, "mortal") & first <= {kept})
    assert int(client.value("SELECT pg_backend_pid()")) == kept, "a transaction is not cut off"
    client.query("COMMIT")
    wait_until("it is gone", lambda: kept not in backends(database, "mortal"))


def test_a_storm_of_connections_leaves_nothing_open(
    router: RouterProcess, database: Database
) -> None:
    for _ in range(500):
        with WireClient.login(router.port, "five") as client:
            assert client.value("SELECT 1") == "1"
    wait_until("all clients are gone", lambda: router.pool("five")["cl_idle"] == "0")
    assert len(backends(database, "five")) <= SIZE
