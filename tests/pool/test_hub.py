"""The connection that listens for all: opened, and closed when it has come too late."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.pool.hub import Hub
from router.pool.line import Line
from tests.support.harness import FakeLink, Harness

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.errors import RouterError
    from router.pool.address_pool import AddressPool
    from router.pool.server import ServerConnection
    from router.protocol.variables import Variables


class Lines:
    """Opens lines when it is told to.

    Attributes:
        wanted: who is to be given a line, the first first.
    """

    def __init__(self) -> None:
        self.wanted: list[Callable[[Line], None]] = []

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
        line, link = Line("primary", 1), FakeLink()
        line.link = link
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
