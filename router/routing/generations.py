"""Bounded memories of texts: what has been asked for lately, and what was here just now."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

V = TypeVar("V")

_OVERHEAD: Final = 400
"""Bytes that an entry takes besides its text, roughly."""

_SLOTS: Final = 1024
"""How many texts are known by their hashes only, a power of two."""


class Generations(Generic[V]):
    """A bounded mapping that forgets what has not been asked for lately.

    It has two halves: when the young one is full, the old one is dropped and the young one
    takes its place. That keeps what is in use, as LRU does, without any work at a hit.

    Attributes:
        young: what has been asked for lately; a caller in a hurry looks here first.
    """

    __slots__ = ("_budget", "_bytes", "_entries", "_old", "_old_bytes", "young")

    def __init__(self, entries: int, size: int) -> None:
        self._entries: Final = max(entries // 2, 1)
        self._budget: Final = size // 2
        self._bytes = 0
        self._old_bytes = 0
        self.young: dict[bytes, V] = {}
        self._old: dict[bytes, V] = {}

    def __len__(self) -> int:
        return len(self.young.keys() | self._old.keys())

    def clear(self) -> None:
        """Forget everything."""
        self.young = {}
        self._old = {}
        self._bytes = self._old_bytes = 0

    @property
    def size(self) -> int:
        """Bytes that it takes, roughly; what is in both halves counts twice."""
        return self._bytes + self._old_bytes

    def __contains__(self, key: bytes) -> bool:
        return key in self.young or key in self._old

    def get(self, key: bytes) -> V | None:
        """Return what is remembered, or None."""
        found = self.young.get(key)
        if found is None and self._old:
            found = self._old.get(key)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: bytes, value: V) -> None:
        """Remember a value, unless its key alone would fill much of the memory."""
        size = len(key) + _OVERHEAD
        if size > self._budget // 8:
            return
        if len(self.young) >= self._entries or self._bytes + size > self._budget:
            self._old = self.young
            self._old_bytes = self._bytes
            self.young = {}
            self._bytes = 0
        self.young[key] = value
        self._bytes += size


class Recent:
    """Texts that were here a short while ago, by their hashes; new ones displace old ones.

    One with literals, or with tags, may never come again, and to remember it costs more than
    its look-up: so it is remembered when it comes back.
    """

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: Final = [0] * _SLOTS

    def note(self, text: bytes) -> bool:
        """Say whether a text was here a short while ago; it has been from now on."""
        mark = hash(text)
        slot = mark & (_SLOTS - 1)
        if self._marks[slot] == mark:
            return True
        self._marks[slot] = mark
        return False
