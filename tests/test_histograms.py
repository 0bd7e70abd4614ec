"""Times in buckets, and what can be read from them."""

from __future__ import annotations

import math
from bisect import bisect_left
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from router.histograms import BOUNDS, Histogram, place_of, quantiles


def neighbours(bound: float) -> st.SearchStrategy[float]:
    """A bound and the numbers right beside it."""
    return st.sampled_from((math.nextafter(bound, 0), bound, math.nextafter(bound, math.inf)))


TIMES = st.lists(st.floats(0, 100), min_size=1, max_size=200)


def quantile(counts: list[int], fraction: float, zeros: int = 0) -> float:
    [found] = quantiles(counts, (fraction,), zeros)
    return found


def filled(*times: float) -> Histogram:
    histogram = Histogram()
    for seconds in times:
        histogram.add(seconds)
    return histogram


def test_bounds_grow_by_less_than_seven_tenths() -> None:
    assert all(1.3 < upper / lower < 1.7 for lower, upper in pairwise(BOUNDS))
    assert (BOUNDS[0], BOUNDS[-1]) == (10e-6, 70.0)


@given(st.sampled_from(range(len(BOUNDS))))
def test_a_time_that_is_a_bound_belongs_below_it(number: int) -> None:
    counts = filled(BOUNDS[number]).counts
    assert counts.index(1) == number


@given(TIMES)
def test_nothing_is_lost_and_the_sum_is_that_of_the_times(times: list[float]) -> None:
    histogram = filled(*times)
    assert histogram.count == len(times)
    assert abs(histogram.total - sum(times)) < 1e-6


@given(TIMES, st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_within_the_bucket_of_the_true_one(
    times: list[float], fraction: float
) -> None:
    ordered = sorted(times)
    wanted = fraction * len(times)
    true = next(time for place, time in enumerate(ordered, 1) if place >= wanted)
    found = quantile(filled(*times).counts, fraction)
    upper = next((bound for bound in BOUNDS if bound >= true), BOUNDS[-1])
    lower = max((bound for bound in BOUNDS if bound < true), default=0.0)
    assert min(lower, BOUNDS[-1]) <= found <= upper


def test_those_of_no_length_count_as_well() -> None:
    counts = filled(1.0).counts
    assert quantile(counts, 0.5, zeros=99) == 0.0
    assert quantile(counts, 0.995, zeros=99) > 0.7


def test_without_times_every_quantile_is_nought() -> None:
    assert quantile(Histogram().counts, 0.99) == 0.0


@given(TIMES, TIMES)
def test_two_taken_together_are_as_if_counted_by_one(
    some: list[float], others: list[float]
) -> None:
    both = filled(*some)
    both.take_in(filled(*others))
    assert both.counts == filled(*some, *others).counts


@given(TIMES, st.integers(0, 100))
def test_several_quantiles_are_what_each_of_them_is(times: list[float], zeros: int) -> None:
    counts, fractions = filled(*times).counts, (0.1, 0.5, 0.95, 0.99, 1.0)
    alone = [quantile(counts, fraction, zeros) for fraction in fractions]
    assert quantiles(counts, fractions, zeros) == alone == sorted(alone)


@given(st.one_of(st.floats(0, 200), st.sampled_from(BOUNDS).flatmap(neighbours)))
def test_a_time_is_found_where_bisecting_the_bounds_finds_it(seconds: float) -> None:
    assert place_of(seconds) == bisect_left(BOUNDS, seconds)
