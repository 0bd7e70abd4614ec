"""A network that drops, resets, stalls or swallows what goes to a server: who fails by it."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from router.demo.server import HOST
from tests.support.router import PoolText, RouterProcess, servers_of, wait_until
from tests.support.wire import Ended, WireClient, query, rows, sqlstates

from .conftest import CHECKS
from .test_replicas import PORT, SPLITTING, condition, health_of, ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server
    from tests.support.proxy import Proxy

    Measured = Callable[[str], AbstractContextManager[None]]

WAITING = SPLITTING + "query_wait_timeout = 60000\n"
WRITE = "SELECT nextval('numbers')"

pytestmark = pytest.mark.slow


@pytest.fixture
def proxy(replicated: Shard, proxy_for: Callable[[Server], Proxy]) -> Proxy:
    """A proxy before the replica of the pool."""
    return proxy_for(replicated.replicas[0])


class Clients:
    """One client in each state that matters; the first three have the replica's connections.

    Attributes:
        asking: waits for the answer to a read.
        busy: the same, in a transaction.
        resting: is in a transaction, and asks for nothing.
        idle: has no transaction.
        writer: the same, and only writes.
    """

    def __init__(self, router: RouterProcess, proxy: Proxy) -> None:
        self._router = router
        self._proxy = proxy
        self._all = [WireClient.login(router.port, "db") for _ in range(5)]
        self.asking, self.busy, self.resting, self.idle, self.writer = self._all

    def prepare(self, replica: Server) -> None:
        """Have them do what they are to do when it happens."""
        wait_until("the replica reads", lambda: ports(self.idle, 1) == {str(replica.port)})
        for client in (self.busy, self.resting):
            client.query("BEGIN READ ONLY")
            assert client.value(PORT) == str(replica.port)
        # A third connection has to be there, and used, before nothing arrives any more.
        assert ports(self.asking, 1) == {str(replica.port)}
        self._proxy.stall(new=False)
        for client in (self.asking, self.busy):
            client.send(query(PORT))
        wait_until("they are at it", lambda: self._router.pool("db")["sv_active"] == "3")

    def close(self) -> None:
        """Leave."""
        for client in self._all:
            client.close()


@pytest.fixture
def begin(
    start_router: Callable[..., RouterProcess], replicated: Shard, proxy: Proxy
) -> Iterator[Callable[..., tuple[RouterProcess, Clients]]]:
    """Return a function that starts a router before a primary and the proxy, and clients."""
    made: list[Clients] = []
    replicated.primary.execute("CREATE SEQUENCE IF NOT EXISTS numbers")

    def start(pool_size: int = 3) -> tuple[RouterProcess, Clients]:
        servers = [servers_of(replicated)[0], (HOST, proxy.port, "replica")]
        pool = PoolText([servers], options=WAITING, pool_size=pool_size)
        router = start_router({"db": pool}, CHECKS)
        clients = Clients(router, proxy)
        made.append(clients)
        clients.prepare(replicated.replicas[0])
        return router, clients

    yield start
    for clients in made:
        clients.close()


def is_lost(client: WireClient) -> None:
    """Its connection to the server is: it is told so, and cut off."""
    answers = client.read_to_end()
    assert sqlstates(answers) == ["08006"]


def is_answered(client: WireClient) -> str:
    """A read that was under way has been sent again; returns to which server."""
    [[port]] = rows(client.read_until("Z"))
    assert port is not None
    return port.decode()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Measured:
    """Return a function that notes how long something takes; with -rP it is told."""

    @contextmanager
    def measure(what: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        took = time.monotonic() - began
        sys.stdout.write(f"{request.node.name}: {what}: {took:.2f} s\n")

    return measure


@pytest.mark.parametrize("how", ["drop", "reset"])
def test_connections_that_end_cost_only_those_who_have_them(
    begin: Callable[..., tuple[RouterProcess, Clients]],
    replicated: Shard,
    proxy: Proxy,
    measured: Measured,
    how: str,
) -> None:
    router, clients = begin()
    clients.idle.send(query(PORT))  # it waits for one of the three
    wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
    getattr(proxy, how)()
    with measured("until whole"):
        is_lost(clients.busy)
        is_lost(clients.resting)
        is_answered(clients.asking)
        assert not sqlstates(clients.idle.read_until("Z"))
        clients.writer.value(WRITE)
        wait_until(
            "the replica reads",
            lambda: ports(clients.idle, 1) == {str(replicated.replicas[0].port)},
        )


def test_a_server_that_resets_everything_is_left_out_and_comes_back(
    begin: Callable[..., tuple[RouterProcess, Clients]],
    replicated: Shard,
    proxy: Proxy,
    measured: Measured,
) -> None:
    router, clients = begin()
    primary, replica = str(replicated.primary.port), str(replicated.replicas[0].port)
    proxy.refuse()
    with measured("until whole without it"):
        is_lost(clients.busy)
        is_lost(clients.resting)
        assert is_answered(clients.asking) == str(replicated.primary.port)
        assert ports(clients.idle) == {primary}
        clients.writer.value(WRITE)
    assert condition(router, proxy.port) == "down"
    proxy.resume()
    with measured("until whole again"):
        wait_until("the replica reads", lambda: ports(clients.idle, 1) == {replica})


def test_a_network_that_is_cut_costs_only_the_answers_that_are_owed(
    begin: Callable[..., tuple[RouterProcess, Clients]],
    replicated: Shard,
    proxy: Proxy,
    measured: Measured,
) -> None:
    router, clients = begin()
    primary, replica = str(replicated.primary.port), str(replicated.replicas[0].port)
    proxy.stall()
    with measured("until who waits for a connection has one"):
        assert clients.idle.value(PORT) == primary
    with measured("from then until the answers are given up"):
        is_lost(clients.busy)
        assert is_answered(clients.asking) == str(replicated.primary.port)
    clients.writer.value(WRITE)
    assert condition(router, proxy.port) == "down"
    assert ports(clients.idle) == {primary}
    proxy.resume()
    # Who asked for nothing may go on.
    assert clients.resting.value(PORT) == replica
    clients.resting.query("COMMIT")
    with measured("until whole again"):
        wait_until("the replica reads", lambda: ports(clients.idle, 1) == {replica})


def test_a_server_that_stalls_on_old_connections_only_is_waited_for(
    begin: Callable[..., tuple[RouterProcess, Clients]], replicated: Shard, proxy: Proxy
) -> None:
    router, clients = begin(pool_size=4)
    replica = str(replicated.replicas[0].port)
    checks = int(health_of(router, proxy.port)["checks"])
    # As new connections are answered, nobody can tell this from statements that take long.
    assert clients.idle.value(PORT) == replica
    clients.writer.value(WRITE)
    wait_until("checks", lambda: int(health_of(router, proxy.port)["checks"]) >= checks + 3)
    assert condition(router, proxy.port) == "up"
    assert not clients.busy.has_input()
    assert not clients.asking.has_input()
    proxy.resume()
    for client in (clients.busy, clients.asking):
        assert client.read_until("Z")[1].row == [replica.encode()]
    assert clients.resting.value(PORT) == replica


def test_a_server_that_is_deaf_to_new_connections_keeps_those_that_there_are(
    begin: Callable[..., tuple[RouterProcess, Clients]],
    replicated: Shard,
    proxy: Proxy,
    measured: Measured,
) -> None:
    router, clients = begin()
    primary, replica = str(replicated.primary.port), str(replicated.replicas[0].port)
    failed = int(health_of(router, proxy.port)["failed_checks"])
    proxy.deafen()
    for client in (clients.busy, clients.asking):
        assert client.read_until("Z")[1].row == [replica.encode()]
    with measured("three checks"):
        clients.busy.send(query("SELECT pg_sleep(5)"))
        while int(health_of(router, proxy.port)["failed_checks"]) < failed + 3:
            assert clients.resting.value(PORT) == replica
    assert condition(router, proxy.port) == "suspect"
    assert ports(clients.idle) == {primary}
    clients.writer.value(WRITE)
    assert not sqlstates(clients.busy.read_until("Z"))
    assert clients.resting.value(PORT) == replica
    proxy.resume()
    with measured("until whole again"):
        wait_until("the replica reads", lambda: ports(clients.idle, 1) == {replica})


@pytest.mark.parametrize("how", ["refuse", "stall"])
def test_writes_that_were_not_sent_wait_until_the_primary_can_be_reached(
    start_router: Callable[..., RouterProcess],
    proxy_for: Callable[[Server], Proxy],
    replicated: Shard,
    measured: Measured,
    how: str,
) -> None:
    replicated.primary.execute("CREATE SEQUENCE IF NOT EXISTS numbers")
    proxy = proxy_for(replicated.primary)
    servers = [(HOST, proxy.port, "primary"), servers_of(replicated)[1]]
    router = start_router({"db": PoolText([servers], options=WAITING, pool_size=1)}, CHECKS)
    writers = [WireClient.login(router.port, "db") for _ in range(5)]
    for writer in writers:
        writer.value(WRITE)
    proxy.stall(new=False)
    sent, *waiting = writers
    sent.send(query(WRITE))
    wait_until("it is sent", lambda: router.pool("db")["sv_active"] == "1")
    for writer in waiting:
        writer.send(query(WRITE))
    wait_until("the others wait", lambda: router.pool("db")["cl_waiting"] == "4")
    getattr(proxy, how)()
    with pytest.raises(Ended) as ended:
        sent.read_until("Z")
    assert sqlstates(ended.value.messages) == ["08006"]
    wait_until("it is known", lambda: condition(router, proxy.port) == "down")
    with WireClient.login(router.port, "db") as reader:
        assert ports(reader) == {str(replicated.replicas[0].port)}
    assert router.pool("db")["cl_waiting"] == "4"
    proxy.resume()
    with measured("until whole again"):
        for writer in waiting:
            assert not sqlstates(writer.read_until("Z"))
    for writer in writers:
        writer.close()
