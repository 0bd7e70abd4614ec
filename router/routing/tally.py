"""A counter."""

from __future__ import annotations


class Tally:
    """A counter that whoever decides the same shares."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0
