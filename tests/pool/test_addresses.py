"""Hosts with several addresses: one that is dead costs time once."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine.dial import HEAD_START
from router.engine.wire import connect
from router.pool import checks
from router.pool.addresses import Addresses
from router.pool.connect import deliver_cancel, open_server
from router.pool.health import Condition
from tests.support.postgres import PASSWORD

from .test_checks import engine, health_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.engine.dial import Target
    from router.engine.loop import Engine
    from tests.support.cluster.server import Server

__all__ = ["engine"]

ONE, OTHER = "127.0.0.1", "127.0.0.2"
NAME = "db.test"


class Resolver(trio.abc.HostnameResolver):
    """Knows one name, whose addresses are always told in the same order."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def getaddrinfo(  # type: ignore[override]
        self, host: object, port: int, *_: object, **__: object
    ) -> list[Target]:
        """Answer."""
        await trio.lowlevel.checkpoint()
        assert host == NAME.encode()
        kind = socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, ""
        return [(*kind, (address, port)) for address in self.addresses]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        """Nobody asks."""
        raise NotImplementedError


def use(*addresses: str) -> Resolver:
    """Have the name lead there, until the test's trio ends."""
    resolver = Resolver(*addresses)
    trio.socket.set_custom_hostname_resolver(resolver)
    return resolver


@contextmanager
def listening(host: str, port: int = 0, *, is_dead: bool = False) -> Iterator[socket.socket]:
    """Listen; if it is dead, connections to it hang, as to a machine that is gone."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_server((host, port), backlog=0))
        while is_dead:
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
            # The kernel finishes handshakes of this machine within the call, if it wants to.
            if filler.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) != b"\1":
                break
        yield sock


def port_of(sock: socket.socket) -> int:
    """Where it listens."""
    return int(sock.getsockname()[1])


def has_caller(sock: socket.socket) -> bool:
    """Whether somebody has connected to it."""
    sock.setblocking(False)
    try:
        sock.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def test_a_dead_address_costs_time_once() -> None:
    use(ONE, OTHER)
    known = Addresses()
    with ExitStack() as stack:
        with listening(ONE, is_dead=True) as dead:
            port = port_of(dead)
            other = stack.enter_context(listening(OTHER, port))
            began = trio.current_time()
            wire = await connect(NAME, port, None, known.order)
            assert trio.current_time() - began >= HEAD_START
            assert wire.ip == OTHER
            assert has_caller(other)
            wire.close()
            known.worked(wire.ip)
        # It would answer now, and nobody asks it.
        alive = stack.enter_context(listening(ONE, port))
        wire = await connect(NAME, port, None, known.order)
        assert wire.ip == OTHER
        assert has_caller(other)
        assert not has_caller(alive)
        wire.close()


async def test_an_address_that_refuses_is_left_for_the_next() -> None:
    use(ONE, OTHER)
    with listening(OTHER) as other:
        wire = await connect(NAME, port_of(other), None)
        assert wire.ip == OTHER
        wire.close()


async def test_if_nobody_can_be_reached_the_error_is_the_systems() -> None:
    use(ONE, OTHER)
    with listening(OTHER) as other:
        port = port_of(other)
    with pytest.raises(ConnectionRefusedError):
        await connect(NAME, port, None)


async def test_a_name_without_addresses_is_an_error() -> None:
    use()
    with pytest.raises(OSError, match="no address"):
        await connect(NAME, 1, None)


async def test_when_all_addresses_are_dead_a_time_limit_ends_it() -> None:
    use(ONE, OTHER)
    with listening(ONE, is_dead=True) as one, listening(OTHER, port_of(one), is_dead=True):
        with trio.move_on_after(2 * HEAD_START) as scope:
            await connect(NAME, port_of(one), None)
    assert scope.cancelled_caught


def test_what_has_worked_comes_first_and_what_failed_last_comes_last() -> None:
    known = Addresses()
    assert known.order(["a", "b", "c"]) == ["a", "b", "c"]
    known.worked("c")
    assert known.order(["a", "b", "c"]) == ["c", "a", "b"]
    assert known.order(["a", "b"]) == ["a", "b"]
    known.failed("c")
    assert known.order(["c", "a", "b"]) == ["a", "b", "c"]
    known.failed("a")
    assert known.order(["c", "a", "b"]) == ["b", "c", "a"]
    known.failed("b")
    assert known.order(["c", "a", "b"]) == ["c", "a", "b"]
    known.worked("a")
    assert known.order(["b", "c", "a"]) == ["a", "b", "c"]


async def test_a_deaf_address_is_left_for_another_by_checks_and_by_pools(
    engine: Engine, postgres: Server
) -> None:
    use(OTHER, ONE)
    with listening(OTHER, postgres.port) as deaf:
        health = health_of(engine, postgres.port, PASSWORD, host=NAME, timeout=0.2)
        await checks.check(engine, health)
        found = [health.condition]
        assert has_caller(deaf)
        health.parts[0].settings = health_of(engine, 1, PASSWORD).parts[0].settings
        await checks.check(engine, health)
        found.append(health.condition)
        assert found == [Condition.SUSPECT, Condition.UP]
        server = await open_server(engine, health.parts[0])
        assert server.ip == ONE
        server.close()
        assert not has_caller(deaf)


async def test_a_cancel_request_goes_where_the_connection_leads_to(
    engine: Engine, postgres: Server
) -> None:
    resolver = use(ONE)
    with listening(OTHER, postgres.port) as other:
        health = health_of(engine, postgres.port, PASSWORD, host=NAME)
        server = await open_server(engine, health.parts[0])
        resolver.addresses = (OTHER,)
        await deliver_cancel(server.pool, server.pid, server.secret, server.ip)
        assert not has_caller(other)
        server.close()
