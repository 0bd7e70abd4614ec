"""Keeps what happens to many clients at once from filling the log."""

from __future__ import annotations

from typing import Final

# So often a kind of event is logged, in seconds.
INTERVAL: Final = 1.0


class Throttle:
    """Lets one event through in a while, and counts the others."""

    __slots__ = ("_held_back", "_next")

    def __init__(self) -> None:
        self._next = 0.0
        self._held_back = 0

    def admit(self, now: float) -> str | None:
        """What to add to the line about an event; None if there is to be no line."""
        if now < self._next:
            self._held_back += 1
            return None
        count, self._held_back = self._held_back, 0
        self._next = now + INTERVAL
        return f" (and {count} more like this before)" if count else ""
