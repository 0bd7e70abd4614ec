"""How many clients may be logging in at a time."""

from __future__ import annotations

from collections import deque
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from router.engine.gate import PATIENCE, Gate, Place
from router.engine.loop import Engine, Timer
from router.errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.errors import RouterError


class Clock(Engine):
    """An engine whose time is moved by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.time = 1000.0
        self.timers: list[Timer] = []

    @property
    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        self.timers.append(Timer(when, callback))
        return self.timers[-1]

    def pass_by(self, seconds: float) -> None:
        """Let time pass, and call what is due meanwhile."""
        end = self.time + seconds
        while due := [timer for timer in self.timers if timer.when <= end]:
            first = min(due, key=lambda timer: timer.when)
            self.timers.remove(first)
            self.time = max(self.time, first.when)
            if first.callback is not None:
                first.callback()
        self.time = end


class Logins:
    """A gate, those who are in, and those who wait in the kernel; as a `Door` does it."""

    def __init__(self, clock: Clock, limit: int, doors: int = 1) -> None:
        self.clock = clock
        self.limit = limit
        self.gate = Gate(clock, lambda: self.limit)
        self.queues: list[deque[int]] = [deque() for _ in range(doors)]
        self.is_open = [True] * doors
        self.places: dict[int, Place] = {}
        self.entered: list[int] = []
        self.ended: dict[int, tuple[float, RouterError]] = {}

    def come(self, number: int, door: int = 0) -> None:
        self.queues[door].append(number)
        self.accept(door)

    def accept(self, door: int) -> None:
        while self.is_open[door] and self.queues[door]:
            if self.gate.is_full:
                self.is_open[door] = False
                self.gate.wait(lambda: self.resume(door))
                return
            number = self.queues[door].popleft()
            self.places[number] = self.gate.enter(partial(self.end, number))
            self.entered.append(number)

    def resume(self, door: int) -> None:
        assert not self.is_open[door]
        self.is_open[door] = True
        self.accept(door)

    def end(self, number: int, error: RouterError) -> None:
        place = self.places.pop(number)
        self.ended[number] = (self.clock.now - place.since, error)
        assert any(self.queues), "nobody waits"

    def leave(self, number: int) -> None:
        place = self.places.pop(number)
        place.leave()
        place.leave()  # as often as somebody likes

    @property
    def waiting(self) -> int:
        return sum(map(len, self.queues))


@given(
    limit=st.integers(0, 4),
    doors=st.integers(1, 2),
    events=st.lists(
        st.tuples(st.sampled_from(("come", "leave", "time", "raise")), st.integers(0, 9)),
        max_size=60,
    ),
)
def test_all_get_in_as_soon_as_there_is_a_place(
    limit: int, doors: int, events: list[tuple[str, int]]
) -> None:
    with closing(Clock()) as clock:
        logins = Logins(clock, limit, doors)
        for serial, (event, number) in enumerate(events):
            if event == "come":
                logins.come(serial, number % doors)
            elif event == "leave" and logins.places:
                logins.leave(sorted(logins.places)[number % len(logins.places)])
            elif event == "time":
                clock.pass_by(number / 3)
            elif event == "raise" and logins.limit:
                logins.limit += 1  # which those who wait need not see before somebody leaves
                continue
            clock.pass_by(0.0)  # what is due at once
            gate = logins.gate
            assert gate.used == len(logins.places)
            assert gate.is_waiting == bool(logins.waiting)
            if logins.limit:
                assert gate.used <= logins.limit
            else:
                assert not logins.waiting
            if logins.waiting:
                assert all(
                    clock.now - place.since < PATIENCE for place in logins.places.values()
                )
        for took, error in logins.ended.values():
            assert took >= PATIENCE
            assert isinstance(error, PoolError)
            assert error.sqlstate == "53300"
            assert "max_logins_in_progress" in error.detail
        assert logins.gate.ended == len(logins.ended)
        waits, clock.time = logins.waiting, clock.time
        clock.pass_by(PATIENCE * (waits + 1))
        assert logins.waiting == 0, "nobody is kept out by those who say nothing"


@given(
    gaps=st.lists(st.integers(0, 6), min_size=2, max_size=8),
    limit=st.integers(1, 7),
    leaving=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 7)), max_size=8),
)
def test_a_limit_that_is_lowered_ends_nobody_before_its_time(
    gaps: list[int], limit: int, leaving: list[tuple[int, int]]
) -> None:
    with closing(Clock()) as clock:
        logins = Logins(clock, len(gaps))
        for number, gap in enumerate(gaps):
            logins.come(number)
            clock.pass_by(gap / 4)
        logins.limit = min(limit, len(gaps))
        logins.come(len(gaps))
        for after, number in leaving:
            clock.pass_by(after / 4)
            if number in logins.places:
                logins.leave(number)
        clock.pass_by(PATIENCE * (len(gaps) + 1))
        assert all(took >= PATIENCE for took, _ in logins.ended.values())
        assert logins.waiting == 0


def test_those_who_came_first_give_way_first() -> None:
    with closing(Clock()) as clock:
        logins = Logins(clock, 3)
        for number in range(6):
            logins.come(number)
            clock.pass_by(1)
        clock.pass_by(PATIENCE)
        assert list(logins.ended) == [0, 1, 2]
        assert logins.entered == [0, 1, 2, 3, 4, 5]


def test_nobody_gives_way_if_nobody_waits() -> None:
    with closing(Clock()) as clock:
        logins = Logins(clock, 2)
        logins.come(0)
        logins.come(1)
        clock.pass_by(PATIENCE * 10)
        assert logins.ended == {}
        logins.come(2)
        clock.pass_by(0)
        assert list(logins.ended) == [0]
