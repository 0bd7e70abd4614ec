"""Hosts that get other addresses: connections to the old ones end when nobody has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
import trio.testing

from router.engine.loop import Engine
from router.pool import names, upkeep
from tests.support.harness import Harness

from .builders import opened

if TYPE_CHECKING:
    import pytest

OLD, NEW = "10.0.0.1", "10.0.0.2"


class Resolver:
    """Knows what any host has for addresses; `answer` is what it says next."""

    def __init__(self) -> None:
        self.answer: frozenset[str] | None = frozenset((OLD,))
        self.asked = 0

    async def look_up(self, host: str) -> frozenset[str] | None:
        """Answer."""
        assert host == "host00"
        await trio.lowlevel.checkpoint()
        self.asked += 1
        return self.answer


def connected(harness: Harness, count: int) -> None:
    """Idle connections to the old address."""
    for server in opened(harness, count):
        server.connection.ip = OLD


async def test_old_connections_end_when_nobody_has_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    harness, engine, resolver = Harness(pool_size=3), Engine(), Resolver()
    connected(harness, 3)
    server = harness.part.take()
    assert server is not None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.watch, engine, harness.healths, lambda: 30.0, resolver.look_up)
        await trio.sleep(100)
        assert resolver.asked == 3
        assert len(harness.part.idle) == 2
        resolver.answer = frozenset((NEW,))
        await trio.sleep(30)
        assert len(harness.part.idle) == 2, "it may have told a part only"
        await trio.sleep(30)
        assert not harness.part.idle
        assert harness.part.active == {server}
        harness.part.release(server)
        assert server.link is None
        nursery.cancel_scope.cancel()
    engine.close()


async def test_a_name_that_cannot_be_looked_up_changes_nothing(
    autojump_clock: trio.testing.MockClock,
) -> None:
    harness, engine, resolver = Harness(), Engine(), Resolver()
    connected(harness, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(names.watch, engine, harness.healths, lambda: 30.0, resolver.look_up)
        await trio.sleep(40)
        resolver.answer = None
        await trio.sleep(300)
        assert len(harness.part.idle) == 1
        nursery.cancel_scope.cancel()
    engine.close()


async def test_nothing_is_looked_up_while_it_is_not_wanted(
    autojump_clock: trio.testing.MockClock,
) -> None:
    harness, engine, resolver = Harness(), Engine(), Resolver()
    wanted: list[float | None] = [None]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            names.watch, engine, harness.healths, lambda: wanted[0], resolver.look_up
        )
        await trio.sleep(100)
        assert resolver.asked == 0
        wanted[0] = 10.0
        await trio.sleep(15)
        assert resolver.asked == 1
        nursery.cancel_scope.cancel()
    engine.close()


async def test_what_was_told_before_it_was_off_does_not_count_any_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    harness, engine, resolver = Harness(), Engine(), Resolver()
    connected(harness, 1)
    wanted: list[float | None] = [10.0]
    resolver.answer = frozenset((NEW,))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            names.watch, engine, harness.healths, lambda: wanted[0], resolver.look_up
        )
        await trio.sleep(5)
        wanted[0] = None
        await trio.sleep(50)
        assert resolver.asked == 1
        wanted[0] = 10.0
        await trio.sleep(15)
        assert resolver.asked == 2
        assert len(harness.part.idle) == 1, "one answer may have told a part only"
        await trio.sleep(10)
        assert not harness.part.idle
        nursery.cancel_scope.cancel()
    engine.close()


def test_connections_to_an_address_that_is_still_there_stay() -> None:
    harness = Harness(pool_size=3)
    connected(harness, 2)
    harness.part.idle[0].ip = NEW
    assert upkeep.let_go(harness.part, OLD.__eq__) == 1
    assert [server.ip for server in harness.part.idle] == [NEW]
    harness.part.idle[0].ip = ""  # a Unix socket
    assert upkeep.let_go(harness.part, NEW.__eq__) == 0


async def test_the_system_is_asked_for_addresses(caplog: pytest.LogCaptureFixture) -> None:
    found = await names.look_up("localhost")
    assert found is not None
    assert found & {"127.0.0.1", "::1"}
    assert await names.look_up("no-such-host.invalid") is None
    assert caplog.messages[0].startswith("no-such-host.invalid cannot be looked up: ")
