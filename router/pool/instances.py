"""Standbys as they run, and how far each is known to have replayed the log.

What is known of a server is true for as long as that process runs: it only goes forward. Its
address proves nothing, for another server may be behind it the next moment, or several at a
time. So a connection is asked once which standby it leads to, and what that has told on one
connection holds for all of them. (A connection does not outlive its standby, not even one that
has crashed and begins to replay anew at an earlier position.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..routing.positions import Position

# So many are remembered for an address, the latest ones.
_MOST: Final = 16


class Instance:
    """One standby, from its start to its end.

    Attributes:
        timeline: the latest that it is known to be on; 0 as long as that is not known.
        offset: what it has replayed of that.
    """

    __slots__ = ("offset", "timeline")

    def __init__(self) -> None:
        self.timeline = 0
        self.offset = -1

    def has(self, needed: Position) -> bool:
        """Whether it is known to have replayed that much.

        On another timeline it may have lost it, or never had it.
        """
        return 0 < needed.timeline == self.timeline and self.offset >= needed.offset

    def may_get(self, needed: Position) -> bool:
        """Whether it may have that before long."""
        return self.timeline in (0, needed.timeline)

    def told(self, timeline: int, offset: int) -> None:
        """It has told how far it is; answers of several connections come in any order."""
        if timeline > self.timeline:
            self.timeline, self.offset = timeline, offset
        elif timeline == self.timeline:
            self.offset = max(self.offset, offset)


class Instances:
    """Those that have been seen at one address."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: Final[dict[str, Instance]] = {}

    def of(self, name: str) -> Instance:
        """The one that has told this of itself, which no other does."""
        found = self._found.pop(name, None)
        if found is None:
            found = Instance()
            if len(self._found) >= _MOST:
                del self._found[next(iter(self._found))]
        self._found[name] = found
        return found

    def have(self, needed: Position) -> bool:
        """Whether one of them is known to have replayed that much."""
        # A loop is what the compiler knows best.
        for each in self._found.values():  # noqa: SIM110
            if each.has(needed):
                return True
        return False

    def may_get(self, needed: Position) -> bool:
        """Whether one of them may have that before long, or nobody knows any."""
        return not self._found or any(each.may_get(needed) for each in self._found.values())
