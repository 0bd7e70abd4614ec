"""What has been done for clients in one go, in units of work by which turns are measured.

A turn is so many messages (see `protocol.frontend`), for most take about as long. Where one
takes longer because something in it is new, whoever does the work says so here, and the turn
is over the sooner. So what others wait for is bounded, and it is the same each time.
"""

from __future__ import annotations

from typing import Final


class Work:
    """What has been done since the process began.

    Attributes:
        units: one is as much as a message takes about which all is known.
    """

    __slots__ = ("units",)

    def __init__(self) -> None:
        self.units = 0

    def note_text(self, size: int) -> None:
        """A text of so many bytes is cut into tokens."""
        self.units += 1 + (size >> 8)

    def note_analysis(self, size: int) -> None:
        """A fingerprint of so many bytes is analysed that nobody has seen before."""
        self.units += 16 + (size >> 3)

    def note_shown(self, size: int) -> None:
        """One is written for people."""
        self.units += 2 + (size >> 5)

    def note_keys(self, count: int) -> None:
        """So many sharding keys are read."""
        self.units += count >> 3

    def note_rows(self, count: int) -> None:
        """So many rows are dealt out by their keys."""
        self.units += count >> 5


work: Final = Work()
"""Of this process: one thread does all of it."""
