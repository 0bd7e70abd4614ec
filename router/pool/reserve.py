"""Connections above pool_size, for clients that have waited for reserve_pool_timeout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine, Timer
    from .address_pool import AddressPool


class Reserve:
    """When one pool may open more than pool_size."""

    __slots__ = ("_engine", "_part", "_timer", "_use")

    def __init__(self, engine: Engine, part: AddressPool, use: Callable[[], None]) -> None:
        self._engine: Final = engine
        self._part: Final = part
        self._use: Final = use
        self._timer: Timer | None = None

    def has_room(self, surplus: int) -> bool:
        """Whether another may be opened when there are so many more than pool_size."""
        return surplus < self._part.settings.reserve_pool_size and self.is_due

    @property
    def is_due(self) -> bool:
        """Whether a client has waited for long enough, and no connection is in sight for it."""
        waiter = self._part.in_vain
        if waiter is None:
            return False
        return self._engine.now >= waiter.since + self._part.settings.reserve_pool_timeout

    def watch(self) -> None:
        """See to it that the reserve is opened when that is the case."""
        waiter, timer = self._part.in_vain, self._timer
        if waiter is None or self.is_due:
            return
        due = waiter.since + self._part.settings.reserve_pool_timeout
        if timer is not None and timer.when > due:  # he has waited elsewhere before
            timer.cancel()
            timer = None
        if timer is None:
            self._timer = self._engine.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        self._use()
