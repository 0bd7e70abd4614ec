"""Which line of a client's COPY each line is that a shard has been given of it."""

from __future__ import annotations

from collections import deque
from typing import Final

MOST_LINES: Final = 1 << 20
"""Of so many lines, the last ones, it is known; a byte each."""
_MOST_SHARDS: Final = 256


class Lines:
    """The lines that have been dealt out, as PostgreSQL counts them.

    Attributes:
        total: how many lines there have been.
    """

    __slots__ = ("_before", "_kept", "_pieces", "_uncounted", "total")

    def __init__(self, shards: int) -> None:
        """Begin with none, for shards numbered from 0."""
        # The shards of lines, piece by piece, with the number of lines before the piece; and
        # how many lines each shard has been given before the first of them.
        self._pieces: Final[deque[tuple[int, bytes]]] = deque()
        self._before: Final = [0] * shards
        self._kept = 0
        # How many of a shard's lines its server has not counted.
        self._uncounted: Final = [0] * shards
        self.total = 0

    def has_given(self, shard: int) -> bool:
        """Whether a shard has been given any."""
        return self._before[shard] > 0 or any(shard in piece for _, piece in self._pieces)

    def note_uncounted(self, shard: int, count: int) -> None:
        """So many lines at the beginning of a shard's are not counted there."""
        self._uncounted[shard] = count

    def add_common(self, count: int) -> None:
        """Every shard has been given these lines, before any others."""
        self.total += count
        for shard in range(len(self._before)):
            self._before[shard] += count

    def add(self, shards: bytes) -> None:
        """So many lines have been given to these shards, a byte for each line."""
        self._pieces.append((self.total, shards))
        self.total += len(shards)
        self._kept += len(shards)
        while self._kept > MOST_LINES:
            _, first = self._pieces.popleft()
            self._kept -= len(first)
            for shard in set(first):
                self._before[shard] += first.count(shard)

    def line_of(self, shard: int, number: int) -> int:
        """The client's line that is that line of a shard; 0 if that is not known any more."""
        if len(self._before) > _MOST_SHARDS:
            return 0
        left = number + self._uncounted[shard] - self._before[shard]
        if left <= 0:
            # A line that all of them have is the same everywhere.
            return number if not self._pieces or self._pieces[0][0] >= number else 0
        for before, shards in self._pieces:
            count = shards.count(shard)
            if left > count:
                left -= count
                continue
            position = -1
            for _ in range(left):
                position = shards.index(shard, position + 1)
            return before + position + 1
        return self.total + 1  # one that has been begun
