"""Clients that have waited for as long as they may: they go elsewhere, or are told so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import calls, moving, refusals

if TYPE_CHECKING:
    from ..engine.loop import Engine, Timer
    from .address_pool import AddressPool


class Expiry:
    """When the first of those who wait for one server has waited for long enough."""

    __slots__ = ("_engine", "_part", "_timer")

    def __init__(self, engine: Engine, part: AddressPool) -> None:
        self._engine: Final = engine
        self._part: Final = part
        self._timer: Timer | None = None

    def watch(self) -> None:
        """See to it that it is noticed; one timer serves all who wait."""
        waiters, timer = self._part.waiters, self._timer
        if not waiters:
            return
        due = waiters[0].deadline
        if timer is not None and timer.when > due:  # he has waited elsewhere before
            timer.cancel()
            timer = None
        if timer is None:
            self._timer = self._engine.call_at(due, self._fire)

    def _fire(self) -> None:
        self._timer = None
        part = self._part
        if part.paused:
            return
        now, waiters = self._engine.now, part.waiters
        if waiters and waiters[0].deadline <= now and part.health.silence(now) > 0:
            part.health.doubt()  # it may hang
        while waiters and waiters[0].deadline <= now:
            waiter = waiters.popleft()
            waiter.pool = None
            part.counters.errors += 1
            following = moving.following(part, waiter)
            is_early = moving.last_moment(part, waiter) > now
            if following is not None and (following.idle or is_early):
                moving.move_on(part, waiter, following, now)
            else:
                self._engine.figures.timeouts.note("query_wait")
                calls.disappoint(waiter.client, refusals.timeout(part, waiter.since, now))
        self.watch()
