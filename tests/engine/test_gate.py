"""How many clients may be logging in at a time."""

from __future__ import annotations

import math
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine import listener
from router.engine.gate import PATIENCE, Gate
from router.engine.wire import KeepAlive, Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trio.testing import MockClock

KEEPALIVE = KeepAlive(idle=5, count=5, interval=5, user_timeout=0)


class Logins:
    """Connections that are being handled, and go on until they are told to end."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.gate = Gate(lambda: self.limit)
        self.wires: list[Wire] = []
        self.ends: list[trio.Event] = []
        self.sock = listener.listen("127.0.0.1", 0, 64)
        self._peers: list[socket.socket] = []

    async def handle(self, wire: Wire) -> None:
        self.wires.append(wire)
        self.ends.append(trio.Event())
        try:
            await self.ends[-1].wait()
        finally:
            wire.close()

    def connect(self) -> socket.socket:
        """A client connects; the kernel accepts it at once."""
        peer = socket.create_connection(self.sock.getsockname())
        self._peers.append(peer)
        return peer

    async def settle(self) -> None:
        await trio.testing.wait_all_tasks_blocked(0.01)

    def close(self) -> None:
        for sock in (self.sock, *self._peers):
            sock.close()


@asynccontextmanager
async def serving(limit: int = 2) -> AsyncIterator[Logins]:
    """A listener whose handlers do not end by themselves."""
    made = Logins(limit)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, made.sock, made.handle, lambda: KEEPALIVE, made.gate)
        yield made
        nursery.cancel_scope.cancel()
    made.close()


async def test_those_beyond_the_limit_are_accepted_when_there_is_a_place() -> None:
    async with serving() as logins:
        for _ in range(4):
            logins.connect()
        await logins.settle()
        assert len(logins.wires) == 2
        assert logins.gate.is_waiting
        logins.ends[0].set()
        await logins.settle()
        assert len(logins.wires) == 3
        logins.ends[1].set()
        await logins.settle()
        assert (len(logins.wires), logins.gate.used) == (4, 2)
        assert not logins.gate.is_waiting


async def test_a_client_that_is_known_makes_room() -> None:
    async with serving() as logins:
        for _ in range(3):
            logins.connect()
        await logins.settle()
        known = logins.wires[0].on_known
        assert known is not None
        known()
        await logins.settle()
        assert (len(logins.wires), logins.gate.used) == (3, 2)
        logins.ends[0].set()  # that it is gone changes nothing any more
        await logins.settle()
        assert logins.gate.used == 2


async def test_who_takes_long_gives_way_when_others_wait(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = math.inf  # it is moved by hand
    async with serving() as logins:
        slow = logins.connect()
        await logins.settle()
        autojump_clock.jump(1)
        logins.connect()
        await logins.settle()
        autojump_clock.jump(PATIENCE * 10)
        await logins.settle()
        assert logins.gate.ended == 0, "nobody waits"
        logins.connect()
        await logins.settle()
        assert (len(logins.wires), logins.gate.ended) == (3, 1)
        told = slow.recv(1000)
        assert b"C53300\0" in told
        assert b"max_logins_in_progress" in told
        assert slow.recv(1) == b""


async def test_who_takes_no_longer_than_that_is_left_alone(autojump_clock: MockClock) -> None:
    autojump_clock.autojump_threshold = math.inf  # it is moved by hand
    async with serving() as logins:
        for _ in range(3):
            logins.connect()
        await logins.settle()
        autojump_clock.jump(PATIENCE - 0.1)
        await logins.settle()
        assert (len(logins.wires), logins.gate.ended) == (2, 0)
        autojump_clock.jump(0.1)
        await logins.settle()
        assert (len(logins.wires), logins.gate.ended) == (3, 1)


async def test_without_a_limit_all_are_accepted() -> None:
    async with serving() as logins:
        logins.limit = 0
        for _ in range(20):
            logins.connect()
        await logins.settle()
        assert len(logins.wires) == 20


@pytest.mark.parametrize("attempt", range(20))
async def test_who_is_known_at_the_last_moment_is_not_sent_away(
    autojump_clock: MockClock, attempt: int
) -> None:
    """Which of the two comes first is drawn by trio each time."""
    ours, theirs = socket.socketpair()
    gate, wire = Gate(lambda: 1), Wire(ours, "client")
    place, was_ended = gate.enter(wire), False

    async def become_known() -> None:
        nonlocal was_ended
        await trio.sleep_until(place.since + PATIENCE)
        was_ended = place.scope.cancel_called
        place.leave()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(become_known)
        await gate.wait()
    assert place.scope.cancel_called is was_ended
    assert gate.ended == was_ended
    wire.close()
    theirs.close()
