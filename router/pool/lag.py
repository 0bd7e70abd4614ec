"""How far a replica is behind its primary.

A check tells how far a server is in the WAL. What the primary had reached when is kept for a
while: a replica is behind by what the primary has written since it was where the replica is.
The replica itself tells how old the last transaction is that it has replayed; that is exact
while there are transactions, and grows without any. So the less of the two counts, and who has
all that the primary was last known to have is not behind.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .facts import Facts

# So many positions of a primary are remembered.
_MOST: Final = 120


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a replica is behind."""

    size: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.size} bytes"


class Positions:
    """Where a primary was in the WAL, and when; times are time.monotonic()."""

    def __init__(self) -> None:
        self._reached: Final[deque[tuple[float, int]]] = deque(maxlen=_MOST)

    def note(self, now: float, position: int) -> None:
        """It has got so far."""
        if self._reached and position < self._reached[-1][1]:
            self._reached.clear()  # another history than before
        self._reached.append((now, position))

    def behind(self, now: float, facts: Facts) -> Lag | None:
        """How far behind a standby is that has just told; None if nobody knows."""
        if not self._reached:
            return None
        latest = self._reached[-1][1]
        if facts.position >= latest:
            return Lag(0, 0.0)
        # The first is the earliest that is known: it may be longer.
        since = self._reached[0][0]
        for when, position in self._reached:
            if position > facts.position:
                break
            since = when
        seconds = now - since
        is_known = self._reached[0][1] <= facts.position
        if facts.age is not None:
            seconds = min(seconds, facts.age) if is_known else facts.age
        return Lag(latest - facts.position, seconds)
