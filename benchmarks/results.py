"""What the suite has measured, and what that says of one target beside another."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Nobody's stopwatch is better.
EVEN = 0.02


@dataclass(frozen=True, slots=True)
class Run:
    """One target under one load in one round.

    Attributes:
        value: in the load's unit; None if the run failed, or the target is not made for it.
        cpu: microseconds of the proxy's processor time for a piece of work.
        p50, p99: latencies in milliseconds.
        memory: resident megabytes of the proxy right after the run.
        machine_busy: the share of all processors that was in use by anything.
        machine_stolen: the share that the host gave to others.
        error: why it failed.
    """

    target: str
    round: int
    value: float | None = None
    cpu: float | None = None
    p50: float | None = None
    p99: float | None = None
    memory: float | None = None
    machine_busy: float = 0.0
    machine_stolen: float = 0.0
    details: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times as good as another: the median of the rounds, the least and the most."""

    middle: float
    low: float
    high: float

    @property
    def verdict(self) -> str:
        """Better or worse, if all rounds say so, else even."""
        if self.low > 1 and self.middle > 1 + EVEN:
            return "better"
        return "worse" if self.high < 1 and self.middle < 1 - EVEN else "even"


@dataclass(frozen=True, slots=True)
class Result:
    """All runs of one load.

    Attributes:
        unit: of the runs' values.
        piece: what their processor time is told by.
        is_less_better: whether a smaller value is the better one.
    """

    group: str
    load: str
    unit: str
    piece: str
    is_less_better: bool
    runs: tuple[Run, ...]

    def median(self, target: str, what: str = "value") -> float | None:
        """Of a field of the target's runs; None if none of them has it."""
        values = [getattr(run, what) for run in self.of(target)]
        known = [value for value in values if value is not None]
        return median(known) if known else None

    def ratio(self, target: str, other: str, what: str = "value") -> Ratio | None:
        """How many times as good the target is, by pairs of one round: over 1 is better.

        None if they have no round in common.
        """
        is_less_better = self.is_less_better if what == "value" else True
        others = {run.round: getattr(run, what) for run in self.of(other)}
        ratios = []
        for run in self.of(target):
            one, two = getattr(run, what), others.get(run.round)
            if one and two:
                ratios.append(two / one if is_less_better else one / two)
        return Ratio(median(ratios), min(ratios), max(ratios)) if ratios else None

    def error(self, target: str) -> str | None:
        """Why the target's runs failed, if one did."""
        return next((run.error for run in self.of(target) if run.error is not None), None)

    def of(self, target: str) -> list[Run]:
        """The target's runs."""
        return [run for run in self.runs if run.target == target]


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known after a suite.

    Attributes:
        machine: what the numbers depend on.
        options: how the suite was run.
        targets: names, in the order in which they are shown, and versions.
    """

    machine: dict[str, Any]
    options: dict[str, Any]
    targets: dict[str, str]
    results: tuple[Result, ...]

    def write(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @staticmethod
    def read(path: Path) -> Report:
        """Read what `write` has written."""
        found = json.loads(path.read_text())
        results = tuple(
            Result(**{**result, "runs": tuple(Run(**run) for run in result["runs"])})
            for result in found["results"]
        )
        return Report(found["machine"], found["options"], found["targets"], results)

    def verdicts(self, target: str, other: str) -> dict[str, list[tuple[Result, Ratio]]]:
        """Loads by whether the target is better, even or worse; the worst ratios first."""
        found: dict[str, list[tuple[Result, Ratio]]] = {"worse": [], "even": [], "better": []}
        for result in self.results:
            if (ratio := result.ratio(target, other)) is not None:
                found[ratio.verdict].append((result, ratio))
        for pairs in found.values():
            pairs.sort(key=lambda pair: pair[1].middle)
        return found


def names(results: Sequence[Result]) -> list[str]:
    """All targets that have a run, each once."""
    return list(dict.fromkeys(run.target for result in results for run in result.runs))
