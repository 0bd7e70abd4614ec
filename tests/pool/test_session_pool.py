"""Connections with start-up parameters of their own: who gets which, and in what order."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from router.config.values import PoolMode
from router.errors import LoginTimeout, ServerUnavailable, StartupRefused
from tests.support.harness import Harness, read_messages
from tests.support.wire import TERMINATE, kinds, query, rows, sqlstates

if TYPE_CHECKING:
    from tests.support.harness import FakeClient

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
