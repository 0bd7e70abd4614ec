"""Histograms of times: how many were how long, in buckets that grow with the times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .compiling import i64

_STEPS: Final = (10, 15, 20, 30, 50, 70)

BOUNDS: Final[tuple[float, ...]] = tuple(
    step * 10**decade / 1e6 for decade in range(7) for step in _STEPS
)
"""Up to which time a bucket goes, in seconds: six to a decade, from 10 us to 70 s.

There is one bucket more, for all that took longer.
"""

_STEPS_A_DECADE: Final = len(_STEPS)
_LAST: Final = len(BOUNDS)
_WIDTH: Final = _LAST + 1


def place_of(seconds: float) -> int:
    """The number of the bucket of a time.

    Two are looked up for each statement: compiled, comparing a few numbers costs a tenth of
    what `bisect` does, which has to compare objects.
    """
    place: i64 = 0
    tenfold = seconds
    while tenfold > 100e-6 and place < _LAST:
        tenfold /= 10.0
        place += _STEPS_A_DECADE
    # As near as dividing comes; the bounds themselves have the last word.
    while place < _LAST and BOUNDS[place] < seconds:
        place += 1
    while place > 0 and BOUNDS[place - 1] >= seconds:
        place -= 1
    return place


class Histogram:
    """How many times there were in each bucket.

    Attributes:
        counts: of each bucket.
        total: all times together, in seconds.
    """

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * _WIDTH
        self.total = 0.0

    def add(self, seconds: float, count: int = 1) -> None:
        """Count a time, or so many of the same length."""
        counts, place = self.counts, place_of(seconds)
        counts[place] = counts[place] + count
        self.total += seconds * count

    def add_at(self, place: int, seconds: float) -> None:
        """Count a time whose bucket is known."""
        counts = self.counts
        counts[place] = counts[place] + 1
        self.total += seconds

    def take_in(self, other: Histogram) -> None:
        """Add all that another one has counted."""
        for number, count in enumerate(other.counts):
            self.counts[number] += count
        self.total += other.total

    @property
    def count(self) -> int:
        """How many times there were."""
        return sum(self.counts)


def quantiles(counts: Sequence[int], fractions: Sequence[float], zeros: int = 0) -> list[float]:
    """Which times such parts of all did not exceed, in seconds; the smallest part first.

    Within a bucket times are taken to lie at equal distances; beyond the last bound nothing is
    known, and that bound is returned.

    Args:
        counts: of each bucket.
        fractions: 0.5 is the median.
        zeros: how many times of no length there were besides.
    """
    found: list[float] = []
    number, seen, lower = 0, zeros, 0.0
    everything = sum(counts) + zeros
    for fraction in fractions:
        wanted = fraction * everything
        while number < _WIDTH - 1 and seen + counts[number] < wanted:
            seen += counts[number]
            lower = BOUNDS[number]
            number += 1
        if wanted <= seen:
            found.append(0.0 if wanted <= zeros else lower)
        elif number == _WIDTH - 1:
            found.append(lower)
        else:
            share = (wanted - seen) / counts[number]
            found.append(lower + (BOUNDS[number] - lower) * share)
    return found
