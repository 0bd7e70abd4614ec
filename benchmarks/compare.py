"""Rounds of pgbench over all targets in turn, so that the machine's moods hit all alike."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from . import pgbench
from .pgbench import Load, Outcome
from .processes import CpuTime, Meter
from .targets import BenchmarkError, log_tail

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from router.demo.installation import Installation

    from .targets import Target

WARM_UP_SECONDS = 1


@dataclass(frozen=True, slots=True)
class Run:
    """One target under one load in one round.

    Attributes:
        cpu: what the proxy used, None for PostgreSQL itself.
        machine_busy: the share of all processors that was in use by anything.
        machine_stolen: the share that the host gave to others.
    """

    target: str
    load: Load
    round: int
    outcome: Outcome
    cpu: CpuTime | None
    machine_busy: float
    machine_stolen: float

    @property
    def cpu_per_transaction(self) -> float | None:
        """Microseconds."""
        if self.cpu is None:
            return None
        return self.cpu.total / self.outcome.transactions * 1e6


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs of one load."""

    load: Load
    runs: tuple[Run, ...]

    def tps(self, target: str) -> float | None:
        """The median over the rounds; None if the target cannot serve the load."""
        return _median([run.outcome.tps for run in self._of(target)])

    def latency_p99(self, target: str) -> float | None:
        """The median of the rounds' p99, in milliseconds."""
        values = [run.outcome.latency_p99 for run in self._of(target)]
        return _median([value for value in values if value is not None])

    def cpu(self, target: str) -> CpuTime | None:
        """Microseconds a transaction, over all rounds."""
        runs = self._of(target)
        used = [run.cpu for run in runs if run.cpu is not None]
        if not used:
            return None
        total = sum(used, CpuTime())
        count = sum(run.outcome.transactions for run in runs) / 1e6
        return CpuTime(total.user / count, total.system / count)

    def tps_ratio(self, target: str, other: str) -> float | None:
        """The median of the rounds' ratios: what slows a whole round cancels out."""
        pairs = zip(self._of(target), self._of(other), strict=False)
        return _median([one.outcome.tps / two.outcome.tps for one, two in pairs])

    def cpu_ratio(self, target: str, other: str) -> float | None:
        """How many times the other's processor time a transaction costs."""
        one, two = self.cpu(target), self.cpu(other)
        return None if one is None or two is None else one.total / two.total

    def spread(self, target: str) -> float | None:
        """How far the rounds lie apart, as a share of their median; one alone tells nothing."""
        values = [run.outcome.tps for run in self._of(target)]
        return (max(values) - min(values)) / median(values) if len(values) > 1 else None

    def _of(self, target: str) -> list[Run]:
        return [run for run in self.runs if run.target == target]


def compare(
    installation: Installation,
    targets: Sequence[Target],
    load: Load,
    *,
    rounds: int,
    progress: Callable[[str], None],
) -> Comparison:
    """Run one load on all targets, round after round, each round beginning with another."""
    able = [target for target in targets if load.protocol in target.protocols]
    rates = {}
    for target in able:
        progress(f"{describe(load)}: warming up {target.name}")
        short = Load(load.script, load.protocol, load.clients, WARM_UP_SECONDS, load.threads)
        tps = _run(installation, target, short).tps
        rates[target.name] = min(1.0, pgbench.SAMPLES_PER_SECOND / tps)
    runs = []
    for number, target in take_turns(able, rounds):
        progress(f"{describe(load)}: round {number + 1} of {rounds}, {target.name}")
        runs.append(_measure(installation, target, load, number, rates[target.name]))
    return Comparison(load, tuple(runs))


def take_turns(targets: Sequence[Target], rounds: int) -> Iterator[tuple[int, Target]]:
    """Give every target its turn in each round, another one first each time."""
    for number in range(rounds):
        shift = number % len(targets) if targets else 0
        for target in (*targets[shift:], *targets[:shift]):
            yield number, target


def describe(load: Load) -> str:
    """A load in a few words."""
    return f"{load.protocol}, {load.clients} client{'s' * (load.clients != 1)}"


def _measure(
    installation: Installation, target: Target, load: Load, number: int, rate: float
) -> Run:
    meter = Meter(target.pid)
    outcome = _run(installation, target, load, rate=rate)
    used = meter.read()
    return Run(
        target.name, load, number, outcome, used.cpu, used.machine_busy, used.machine_stolen
    )


def _run(
    installation: Installation, target: Target, load: Load, *, rate: float = 0.0
) -> Outcome:
    try:
        return pgbench.run(installation, target, load, rate=rate)
    except BenchmarkError as error:
        log = log_tail(target.log_path)
        raise BenchmarkError(f"{target.name}: {error}\nIts log ends:\n{log}") from None


def _median(values: Sequence[float]) -> float | None:
    return median(values) if values else None
