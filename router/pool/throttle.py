"""Keeps what happens to many clients at once from filling the log."""

from __future__ import annotations

from typing import Final

# So often a kind of event is logged, in seconds.
INTERVAL: Final = 1.0


class Throttle:
    """Lets so many events through in a while, and counts the others."""

    __slots__ = ("_held_back", "_left", "_most", "_next")

    def __init__(self, most: int = 1) -> None:
        self._most: Final = most
        self._left = 0
        self._next = 0.0
        self._held_back = 0

    def admit(self, now: float) -> str | None:
        """What to add to the line about an event; None if there is to be no line."""
        if now >= self._next:
            self._next = now + INTERVAL
            self._left = self._most
        if not self._left:
            self._held_back += 1
            return None
        self._left -= 1
        count, self._held_back = self._held_back, 0
        return f" (and {count} more like this before)" if count else ""
