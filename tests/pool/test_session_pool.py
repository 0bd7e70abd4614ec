"""Connections with start-up parameters of their own: who gets which, and in what order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from router.config.values import PoolMode
from router.errors import LoginTimeout, ServerUnavailable, StartupRefused
from router.pool.contracts import Waiter
from router.protocol.variables import EMPTY, Variables
from tests.support.harness import Harness, read_messages
from tests.support.wire import TERMINATE, kinds, query, rows, sqlstates

from .builders import Client

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.pool.server import ServerConnection
    from tests.support.harness import FakeClient, FakeServer

NAMES = ("a", "b", "c", "")


def session_mode(pool_size: int) -> Harness:
    """A pool in session mode."""
    return Harness(pool_size=pool_size, pool_mode=PoolMode.SESSION, connect_timeout=1e6)


def connect(harness: Harness, name: str) -> FakeClient:
    """A client with that application_name, or with none."""
    return harness.connect(application_name=name) if name else harness.connect()


def served(client: FakeClient) -> bool:
    """Whether it has a server."""
    return client.session.lease.server is not None


def check(harness: Harness) -> None:
    """All is quiet: who has a server has one with his parameters, and nobody waits in vain."""
    part = harness.part
    assert part.size <= part.settings.pool_size
    assert part.shares.server.used == part.size
    for connection in part.active:
        assert connection.client is not None
        assert connection.first is connection.client.startup
    if part.waiters:
        assert len(part.active) == part.settings.pool_size


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("pool_size", [1, 2, 3])
def test_sessions_are_served_in_their_order_with_their_parameters(
    pool_size: int, seed: int
) -> None:
    rng = random.Random(seed)
    harness = session_mode(pool_size)
    waiting: list[FakeClient] = []
    inside: list[FakeClient] = []
    for _ in range(60):
        what = rng.random()
        if what < 0.45:
            client = connect(harness, rng.choice(NAMES))
            client.send(query("SHOW application_name"))
            waiting.append(client)
        elif what < 0.8 and inside:
            client = inside.pop(rng.randrange(len(inside)))
            if rng.random() < 0.5:
                client.send(TERMINATE)
            client.leave()
        elif what < 0.9 and waiting:
            waiting.pop(rng.randrange(len(waiting))).leave()
        elif rng.random() < 0.5:
            harness.engine.advance(3600)  # those that rest are asked whether they are there
        if rng.random() < 0.7:
            harness.run()
            check(harness)
            come = [client for client in waiting if served(client)]
            assert come == waiting[: len(come)]  # nobody has overtaken anybody
            for client in come:
                [[said]] = rows(read_messages(client.got))
                name = client.session.startup.values.get("application_name", "")
                assert said == f"SHOW application_name is {name}".encode()
            inside += come
            del waiting[: len(come)]


def test_a_connection_is_kept_for_those_with_the_same_parameters() -> None:
    harness = session_mode(2)
    for name in ("a", "b", "a", "b", "a"):
        client = connect(harness, name)
        harness.ask(client, query("SET DateStyle TO 'German'"))
        client.leave()
        harness.run()
    assert len(harness.servers) == 2
    client = connect(harness, "c")
    harness.ask(client, query("SELECT x"))
    assert [server.link.closed for server in harness.servers] == [False, True, False]


@pytest.mark.parametrize("error", [StartupRefused, LoginTimeout])
def test_what_is_refused_concerns_one_client(
    error: type[StartupRefused | LoginTimeout],
) -> None:
    harness = session_mode(1)
    bad, good = connect(harness, "a"), connect(harness, "b")
    bad.send(query("SELECT x"))
    good.send(query("SELECT x"))
    harness.refuse(error("no such thing", sqlstate="22023"))
    assert harness.part.health.is_up
    harness.run()
    assert sqlstates(read_messages(bad.got)) == ["22023"]
    assert kinds(read_messages(good.got)) == "TDCZ"
    assert bad.link.closed is (error is StartupRefused)
    assert harness.part.refused is None
    check(harness)
    # Who asks for the same again may have more luck.
    good.leave()
    again = connect(harness, "a")
    assert kinds(harness.ask(again, query("SELECT x"))) == "TDCZ"


def test_a_server_that_is_gone_concerns_all() -> None:
    harness = session_mode(1)
    client = connect(harness, "a")
    client.send(query("SELECT x"))
    harness.refuse(ServerUnavailable("nobody is there"))
    assert not harness.part.health.is_up
    assert harness.part.waiters  # it may come back


def test_each_who_waits_has_a_connection_on_its_way() -> None:
    harness = session_mode(3)
    for name in ("a", "a", "b", "a"):
        connect(harness, name).send(query("SELECT x"))
    assert len(harness.opening) == 3


def test_a_connection_that_nobody_waits_for_any_more_is_kept() -> None:
    harness = session_mode(1)
    client, other = connect(harness, "a"), connect(harness, "b")
    client.send(query("SELECT x"))
    client.leave()
    harness.run()
    assert [connection.first for connection in harness.part.idle] == [client.session.startup]
    other.send(query("SELECT x"))
    harness.run()
    assert served(other)
    assert len(harness.servers) == 2


def idle_of(harness: Harness, *names: str) -> list[FakeServer]:
    """Connections with these parameters that are idle, the one used last at the end."""
    clients = [connect(harness, name) for name in names]
    for client in clients:
        client.send(query("SELECT x"))
    harness.run()
    for client in clients:
        client.leave()
        harness.run()
    assert len(harness.part.idle) == len(names)
    return list(harness.servers)


def test_of_those_that_would_do_it_is_the_one_that_was_used_last() -> None:
    harness = session_mode(3)
    servers = idle_of(harness, "a", "a", "b")
    client = connect(harness, "a")
    harness.ask(client, query("SELECT x"))
    assert client.session.lease.server is servers[1].connection


def test_while_one_is_checked_for_a_client_no_other_is_opened() -> None:
    harness = session_mode(2)
    [server] = idle_of(harness, "a")
    harness.engine.advance(harness.part.settings.healthcheck_delay)
    client = connect(harness, "a")
    client.send(query("SELECT x"))
    assert harness.part.checked == {server.connection}
    assert not harness.opening
    harness.run()
    assert client.session.lease.server is server.connection
    assert len(harness.servers) == 1


class Wanting(Client):
    """A client that wants certain start-up parameters."""

    def __init__(self, startup: Variables) -> None:
        super().__init__()
        self.wanted = startup
        self.then: Callable[[], object] = lambda: None

    @property
    def startup(self) -> Variables:
        return self.wanted

    def take_server(self, server: ServerConnection) -> bool:
        self.then()
        return super().take_server(server)

    def server_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """It is told what the server makes of its settings."""


def waiting(harness: Harness, *clients: Wanting) -> list[Waiter]:
    """Have clients wait, in this order."""
    now = harness.engine.now
    found = [Waiter(client, [], now, now + 1e6) for client in clients]
    for waiter in found:
        harness.part.enqueue(waiter)
    return found


def test_who_is_served_has_no_place_any_more_and_its_wait_is_counted() -> None:
    harness = session_mode(1)
    [waiter] = waiting(harness, Wanting(EMPTY))
    harness.engine.advance(3)
    harness.accept()
    assert waiter.pool is None
    assert waiter.cancel()
    assert harness.part.counters.wait_time == 3


def test_who_leaves_while_another_is_served_is_not_served() -> None:
    harness = session_mode(1)
    first, second, third = (Wanting(EMPTY) for _ in range(3))
    places = waiting(harness, first, second, third)
    first.gone = True
    first.then = places[1].cancel
    harness.accept()
    assert first.server is second.server is None
    assert third.server is not None
    assert not harness.part.waiters


def test_a_replication_connection_that_nobody_waits_for_any_more_is_of_no_use() -> None:
    harness = session_mode(1)
    [waiter] = waiting(harness, Wanting(Variables({}, "true")))
    waiter.cancel()
    server = harness.accept()
    assert server.link.closed
    assert not harness.part.size


def test_what_is_idle_need_not_go_while_nothing_may_be_opened() -> None:
    harness = session_mode(2)
    [server] = idle_of(harness, "a")
    clients = [connect(harness, name) for name in ("b", "c")]
    clients[0].send(query("SELECT x"))
    harness.refuse(ServerUnavailable("too many connections", sqlstate="53300"))
    harness.engine.advance(60)
    assert len(harness.opening) == 1  # it is tried once more
    clients[1].send(query("SELECT x"))
    assert not server.link.closed
    assert len(harness.opening) == 1


def test_a_server_that_is_slow_for_the_routers_own_parameters_is_not_well() -> None:
    harness = session_mode(1)
    [waiter] = waiting(harness, Wanting(EMPTY))
    harness.refuse(LoginTimeout("did not answer in time"))
    assert not harness.part.health.is_up
    assert waiter.pool is harness.part


def test_a_server_that_is_slow_for_those_of_one_client_is_looked_at() -> None:
    harness = session_mode(1)
    client = Wanting(Variables.of({"application_name": "a"}))
    waiting(harness, client)
    harness.part.health.begin_check()
    assert not harness.part.health.wanted.is_set()
    harness.refuse(LoginTimeout("did not answer in time"))
    assert harness.part.health.is_up
    assert harness.part.health.wanted.is_set()
    assert client.error is not None


def test_the_room_of_what_was_refused_is_offered_to_other_pools() -> None:
    harness = session_mode(2)
    mine, other = (
        harness.new_pool(
            user=user, max_server_connections=1, pool_mode=PoolMode.SESSION
        ).address_pools()[0]
        for user in ("one", "two")
    )
    now = harness.engine.now
    startup = Variables.of({"application_name": "a"})
    mine.enqueue(Waiter(Wanting(startup), [], now, now + 1e6))
    other.enqueue(Waiter(Wanting(EMPTY), [], now, now + 1e6))
    assert harness.opening == [mine]
    harness.refuse(StartupRefused("no such thing", sqlstate="22023"))
    assert harness.opening == [other]
