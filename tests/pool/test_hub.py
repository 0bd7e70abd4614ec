"""The connection that listens for all: opened, and closed when it has come too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.listeners import HubSnapshot
from router.pool.address_pool import AddressPool
from router.pool.contracts import Ear
from router.pool.hub import Hub
from router.pool.hubs import Hubs
from router.pool.line import Line
from router.protocol import codes, messages
from tests.support.harness import FakeLink, Harness

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.errors import RouterError
    from router.pool.server import ServerConnection
    from router.protocol.variables import Variables


class Lines:
    """Opens lines when it is told to.

    Attributes:
        wanted: who is to be given a line, the first first.
    """

    def __init__(self) -> None:
        self.wanted: list[Callable[[Line], None]] = []
        self.line = Line("primary", 1)

    def listen(
        self,
        pool: AddressPool,
        opened: Callable[[Line], None],
        failed: Callable[[RouterError], None],
    ) -> None:
        self.wanted.append(opened)

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        raise AssertionError

    def cancel(self, server: ServerConnection) -> None:
        raise AssertionError

    def accept(self) -> FakeLink:
        """Open the first that is wanted; returns its link."""
        line, link = Line("primary", 1, "10.0.0.1"), FakeLink()
        self.line, line.link = line, link
        self.wanted.pop(0)(line)
        return link


@pytest.mark.parametrize("what", ["paused", "draining"])
def test_a_line_that_comes_too_late_is_closed_and_opened_when_there_may_be_one(
    what: str,
) -> None:
    harness, lines = Harness(), Lines()
    part = harness.part

    def be_away(is_so: bool) -> None:
        if what == "paused":
            part.paused = is_so
        else:
            part.health.is_draining = is_so

    hub = Hub(harness.engine, "app/ann", 0, lines, lambda: part)
    hub.listen(frozenset([b"news"]), lambda is_heard: None)
    assert hub.state == "connecting"
    be_away(True)
    link = lines.accept()
    assert link.closed
    assert b"LISTEN" not in link.written
    assert hub.state == ("paused" if what == "paused" else "failed")
    hub.heed()
    assert not lines.wanted
    told: list[bool] = []
    hub.listen(frozenset([b"news"]), told.append)
    harness.engine.advance(0.1)
    assert told == [False]
    be_away(False)
    hub.heed()
    link = lines.accept()
    assert not link.closed
    assert b'LISTEN "news"' in link.written


@pytest.mark.parametrize("is_up", [False, True])
def test_a_line_leaves_an_address_of_its_server_and_no_other(is_up: bool) -> None:
    harness, lines = Harness(servers=[[True, False]]), Lines()
    assert harness.pool is not None
    part, other = harness.pool.address_pools()
    hub = Hub(harness.engine, "app/ann", 0, lines, lambda: part)
    assert not hub.let_go(part, lambda ip: True)
    hub.listen(frozenset([b"news"]), lambda is_heard: None)
    link = lines.accept()
    if is_up:
        lines.line.on_data(messages.command_complete("LISTEN") + messages.ready_for_query())
        assert hub.state == "listening"
    assert not hub.let_go(part, lambda ip: ip != lines.line.ip)
    assert not hub.let_go(other, lambda ip: True)
    assert not link.closed
    # The same server may be another pool's as well, or that of a pool which is replaced.
    same = AddressPool(
        harness.engine, part.address, part.settings, part.secret, harness, part.health
    )
    assert hub.let_go(same, lambda ip: ip == lines.line.ip)
    assert link.closed
    assert hub.state == "connecting"
    assert len(lines.wanted) == 1


class Listener(Ear):
    """A client that listens, and is told unless it does not read."""

    __slots__ = ("reads",)

    def __init__(self) -> None:
        self.reads = True

    def notified(self, shard: int, name: bytes, data: bytes) -> bool:
        return self.reads

    def line_lost(self, shard: int) -> None:
        """It is told later what it has missed."""

    def missed(self, shard: int, notice: bytes) -> None:
        """Now."""


def test_totals_are_of_all_channels_that_there_have_been() -> None:
    harness, lines = Harness(), Lines()
    hubs = Hubs(harness.engine, lines, "app/ann")
    hubs.use([[harness.part]])
    hub, ear, deaf = hubs.of(0), Listener(), Listener()

    def totals() -> HubSnapshot:
        [found] = hubs.totals("app", "ann")
        return found

    def answer() -> None:
        lines.line.on_data(messages.command_complete("LISTEN") + messages.ready_for_query())

    def notify(name: bytes, payload: bytes = b"") -> None:
        body = bytes(4) + name + b"\0" + payload + b"\0"
        lines.line.on_data(messages.message(codes.NOTIFICATION_RESPONSE, body))

    def listens(one: Listener, *names: bytes) -> None:
        notify(hub.marker, hub.expect(one, frozenset(names)))

    hub.listen(frozenset([b"a", b"b"]), lambda is_heard: None)
    lines.accept()
    answer()
    listens(ear, b"a", b"b")
    hub.listen(frozenset([b"a"]), lambda is_heard: None)
    listens(deaf, b"a")
    assert totals() == HubSnapshot("app", "ann", 0, 2, 3, 0, 0, is_up=True, reconnects=0)
    deaf.reads = False
    for name in (b"a", b"a", b"b", b"nobody"):
        notify(name)
    assert totals() == HubSnapshot("app", "ann", 0, 2, 3, 3, 2, is_up=True, reconnects=0)
    hub.leave(deaf)
    hub.leave(ear, [b"a"])
    assert totals() == HubSnapshot("app", "ann", 0, 1, 1, 3, 2, is_up=True, reconnects=0)
    hub.leave(ear)
    assert totals() == HubSnapshot("app", "ann", 0, 0, 0, 3, 2, is_up=True, reconnects=0)
    answer()
    hub.listen(frozenset([b"a"]), lambda is_heard: None)
    answer()
    listens(ear, b"a")
    lines.line.on_closed("it is gone")
    assert totals() == HubSnapshot("app", "ann", 0, 1, 1, 3, 2, is_up=False, reconnects=1)


class Hopeful(Listener):
    """One that notes when it is told to try again.

    Attributes:
        times: by the engine's clock.
    """

    __slots__ = ("_harness", "times")

    def __init__(self, harness: Harness) -> None:
        super().__init__()
        self._harness = harness
        self.times: list[float] = []

    def may_share(self) -> None:
        self.times.append(self._harness.engine.now)


def test_who_is_not_taken_over_tries_again_though_the_line_is_there() -> None:
    harness, lines = Harness(), Lines()
    hub = Hub(harness.engine, "app/ann", 0, lines, lambda: harness.part)
    ear, other = Hopeful(harness), Hopeful(harness)
    is_up = messages.command_complete("LISTEN") + messages.ready_for_query()
    hub.hope(ear)
    lines.accept()
    assert not ear.times
    lines.line.on_data(is_up)
    assert len(ear.times) == 1, "at once, when the line is there"
    began = harness.engine.now
    hub.hope(ear)
    harness.engine.advance(0.5)
    hub.hope(ear)
    hub.hope(other)
    harness.engine.advance(0.4)
    assert (len(ear.times), len(other.times)) == (1, 0)
    harness.engine.advance(0.2)
    assert ear.times[1:] == other.times == [pytest.approx(began + 1.0)]
    harness.engine.advance(5.0)
    assert (len(ear.times), len(other.times)) == (2, 1)
    # A line that is lost before that is waited for.
    hub.hope(ear)
    hub.hope(other)
    hub.leave(other)
    lines.line.on_closed("gone")
    harness.engine.advance(1.0)
    assert len(ear.times) == 2
    while lines.wanted:
        lines.accept()
        lines.line.on_data(is_up)
    assert (len(ear.times), len(other.times)) == (3, 1)
    hub.hope(ear)
    hub.close()
    harness.engine.advance(5.0)
    assert len(ear.times) == 3
