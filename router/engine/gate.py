"""How many connections may be logging in at a time: those to come wait in the kernel.

A place is taken when a connection is accepted and given back as soon as the client has proven
who it is, or has gone. Who takes long over that gives way while others wait: else some clients
that connect and say nothing could keep everybody out.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from ..errors import PoolError
from ..protocol import messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .wire import Wire

log = logging.getLogger("router.listener")

# So long a login may take while others wait, in seconds.
PATIENCE: Final = 5.0


class Place:
    """One login in progress."""

    __slots__ = ("_gate", "_wire", "scope", "since")

    def __init__(self, gate: Gate, wire: Wire, since: float) -> None:
        self._gate: Final = gate
        self._wire: Final = wire
        self.scope: Final = trio.CancelScope()
        self.since: Final = since

    def leave(self) -> None:
        """The client has proven who it is, or has gone."""
        self._gate.left(self)

    def give_way(self) -> None:
        """End this login in favour of others."""
        self.leave()
        error = PoolError(
            "too many clients are logging in",
            detail=f"The router takes {self._gate.limit()} at a time (max_logins_in_progress), "
            f"and ends those who take longer than {PATIENCE:g} s when others wait.",
        )
        self._wire.send_at_once(messages.error_from(error, severity="FATAL"))
        self.scope.cancel()


class Gate:
    """The places of one listening socket.

    Attributes:
        limit: how many there are; 0 is any number.
        ended: logins that had to give way.
        is_waiting: connections may be waiting to be accepted.
    """

    def __init__(self, limit: Callable[[], int]) -> None:
        self.limit: Final = limit
        self._places: Final[dict[Place, None]] = {}
        self._freed = trio.Event()  # replaced at each
        self.ended = 0
        self.is_waiting = False

    @property
    def used(self) -> int:
        """Logins in progress."""
        return len(self._places)

    @property
    def is_full(self) -> bool:
        """Whether one more would be one too many."""
        return 0 < self.limit() <= len(self._places)

    def enter(self, wire: Wire) -> Place:
        """A connection has been accepted."""
        place = Place(self, wire, trio.current_time())
        self._places[place] = None
        wire.on_known = place.leave
        return place

    def left(self, place: Place) -> None:
        """A place is free again; harmless when it is already."""
        if self._places.pop(place, self) is None:
            self._freed.set()
            self._freed = trio.Event()

    async def wait(self) -> None:
        """Wait until there is a place."""
        if not self.is_full:
            return
        log.warning(
            "%d clients are logging in (max_logins_in_progress): others wait", self.used
        )
        self.is_waiting = True
        while self.is_full:
            oldest = next(iter(self._places))
            with trio.move_on_at(oldest.since + PATIENCE):
                await self._freed.wait()
                continue
            if oldest in self._places:
                self.ended += 1
                oldest.give_way()
        self.is_waiting = False


async def attend(wire: Wire, place: Place, handler: Callable[[Wire], Awaitable[None]]) -> None:
    """Have a connection handled in its place."""
    try:
        with place.scope:
            await handler(wire)
    finally:
        place.leave()
