"""What is counted, and the averages of a window."""

from __future__ import annotations

from router.stats import Averages, Counters, microseconds


def test_averages_are_of_one_window_and_per_second_or_per_piece() -> None:
    counters = Counters()
    for _ in range(2):  # the second is as the first, whatever was there before it
        counters.xact_count += 30
        counters.query_count += 60
        counters.received += 1500
        counters.sent += 3000
        counters.xact_time += 6.0
        counters.query_time += 3.0
        counters.wait_time += 1.5
        counters.errors += 15
        counters.close_window(15.0)
        assert counters.average == Averages(
            xact_count=2,
            query_count=4,
            received=100,
            sent=200,
            errors=1,
            xact_time=200_000,
            query_time=50_000,
            wait_time=100_000,
        )
    assert counters.xact_count == 60


def test_a_window_without_anything_has_averages_of_zero() -> None:
    counters = Counters()
    counters.close_window(15.0)
    assert counters.average == Averages()


def test_time_without_an_end_is_shown_as_that_of_one_piece() -> None:
    counters = Counters()
    counters.xact_time = counters.query_time = 0.5
    counters.close_window(15.0)
    assert (counters.average.xact_time, counters.average.query_time) == (500_000, 500_000)


def test_counters_begin_at_zero() -> None:
    counters = Counters()
    assert set(counters.totals()) == {0}
    assert counters.average == Averages()


def test_times_are_shown_in_microseconds() -> None:
    assert microseconds(7.25) == 7_250_000
