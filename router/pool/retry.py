"""When a connection is tried again that could not be opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine, Timer

# The first pause, which doubles; the longest while somebody waits, and while nobody does. In
# seconds.
_FIRST: Final = 0.05
# No new attempt comes sooner, whoever asks.
_LEAST: Final = 0.1
_LONGEST: Final = 1.0
_LONGEST_IDLE: Final = 10.0


class Retry:
    """The pause before the next attempt, if there is one."""

    __slots__ = ("_again", "_engine", "_failed_at", "_pause", "_timer")

    def __init__(self, engine: Engine, again: Callable[[], None]) -> None:
        self._engine: Final = engine
        self._again: Final = again
        self._pause = _FIRST
        self._failed_at = 0.0
        self._timer: Timer | None = None

    @property
    def is_pending(self) -> bool:
        """Whether to wait for it."""
        return self._timer is not None

    def schedule(self, *, is_wanted: bool) -> None:
        """Try again after a pause, longer than the last; `is_wanted`: somebody waits."""
        if self._timer is None:
            self._failed_at = self._engine.now
            pause = min(self._pause, _LONGEST if is_wanted else _LONGEST_IDLE)
            self._pause = pause * 2
            self._timer = self._engine.call_later(pause, self._fire)

    def hurry(self) -> None:
        """Somebody comes and waits: end the pause, unless the last attempt was just now."""
        timer = self._timer
        if timer is not None and self._engine.now - self._failed_at >= _LEAST:
            timer.cancel()
            self._timer = None

    def reset(self) -> None:
        """All is well again."""
        self._pause = _FIRST
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._again()
