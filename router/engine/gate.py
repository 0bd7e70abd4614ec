"""How many connections may be logging in at a time: those to come wait in the kernel.

A place is taken when a connection is accepted and given back as soon as the client has proven
who it is, or has gone. Who takes long over that gives way while others wait: else some clients
that connect and say nothing could keep everybody out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import PoolError, RouterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .loop import Engine, Timer

log = logging.getLogger("router.listener")

# So long a login may take while others wait, in seconds.
PATIENCE: Final = 5.0
# That others wait is logged once in so many seconds.
_LOG_INTERVAL: Final = 1.0


class Place:
    """One login in progress."""

    __slots__ = ("_end", "_gate", "since")

    def __init__(self, gate: Gate, since: float, end: Callable[[RouterError], None]) -> None:
        self._gate: Final = gate
        self._end: Final = end
        self.since: Final = since

    def leave(self) -> None:
        """The client has proven who it is, or has gone."""
        self._gate.left(self)

    def give_way(self) -> None:
        """End this login in favour of others."""
        error = PoolError(
            "too many clients are logging in",
            detail=f"The router takes {self._gate.limit()} at a time (max_logins_in_progress), "
            f"and ends those who take longer than {PATIENCE:g} s when others wait.",
        )
        self._end(error)
        self.leave()


class Gate:
    """The places of the listening sockets of one kind.

    Attributes:
        limit: how many there are; 0 is any number.
        ended: logins that had to give way.
    """

    def __init__(self, engine: Engine, limit: Callable[[], int]) -> None:
        self._engine: Final = engine
        self.limit: Final = limit
        self._places: Final[dict[Place, None]] = {}
        self._waiting: list[Callable[[], None]] = []
        self._timer: Timer | None = None
        self._next_line = 0.0
        self.ended = 0

    @property
    def used(self) -> int:
        """Logins in progress."""
        return len(self._places)

    @property
    def is_full(self) -> bool:
        """Whether one more would be one too many."""
        return 0 < self.limit() <= len(self._places)

    @property
    def is_waiting(self) -> bool:
        """Whether connections may be waiting to be accepted."""
        return bool(self._waiting)

    def enter(self, end: Callable[[RouterError], None]) -> Place:
        """A connection has been accepted; `end` ends it with an error."""
        place = Place(self, self._engine.now, end)
        self._places[place] = None
        return place

    def left(self, place: Place) -> None:
        """A place is free again; harmless when it is already."""
        if self._places.pop(place, self) is None:
            self._look()

    def wait(self, resume: Callable[[], None]) -> None:
        """It is full, and somebody has come: call back when there is a place."""
        now = self._engine.now
        if now >= self._next_line:
            self._next_line = now + _LOG_INTERVAL
            log.warning(
                "%d clients are logging in (max_logins_in_progress): others wait", self.used
            )
        self._waiting.append(resume)
        self._watch()

    def _watch(self) -> None:
        """See to it that the oldest gives way in time."""
        if self._timer is None:
            oldest = next(iter(self._places))
            self._timer = self._engine.call_at(oldest.since + PATIENCE, self._expired)

    def _expired(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        if self.is_full:
            oldest = next(iter(self._places))
            if oldest.since + PATIENCE <= self._engine.now:
                self.ended += 1
                oldest.give_way()
        self._look()
        if self._waiting:
            self._watch()

    def _look(self) -> None:
        """If there is a place, let those know who wait for one."""
        if self._waiting and not self.is_full:
            waiting, self._waiting = self._waiting, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            for resume in waiting:
                resume()
