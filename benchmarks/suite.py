"""The suite: every load before every target, round after round."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from router.errors import RouterError

from .beds import Routing, make_bed
from .compare import take_turns
from .processes import Meter, resident_bytes
from .report import machine_facts
from .results import Report, Result, Run
from .targets import BenchmarkError, log_tail
from .works import Bench, Stream

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from router.demo.installation import Installation

    from .beds import Bed, Proxies, Setup
    from .loads import Load
    from .targets import Target


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure.

    Attributes:
        loads: those of one setup follow each other.
        seconds: length of a run, where that can be chosen.
        rounds: how often each target has its turn.
        scale: of pgbench's tables.
        port: where PostgreSQL is to listen; any if None.
        warm_up: seconds that each proxy is used for before it is measured.
    """

    loads: Sequence[Load]
    proxies: Proxies
    seconds: int
    rounds: int
    scale: int
    bin_dir: Path | None = None
    port: int | None = None
    warm_up: int = 1


class Watcher(Protocol):
    """Is told how far a suite has come."""

    def doing(self, what: str) -> None:
        """Something begins."""

    def advance(self, loads: float) -> None:
        """So many loads, or so much of one, have been measured since."""

    def finished(self, result: Result) -> None:
        """A load is done."""


# What may go wrong without ending the suite.
_TROUBLE = (BenchmarkError, RouterError, OSError)


@dataclass(slots=True)
class _Suite:
    plan: Plan
    watcher: Watcher
    targets: dict[str, str] = field(default_factory=dict)
    results: list[Result] = field(default_factory=list)

    def run(self) -> None:
        """Measure the loads that need a replica last, since they need other servers."""
        for has_replica in (False, True):
            loads = [load for load in self.plan.loads if _needs_replica(load) is has_replica]
            if loads:
                with self._told(loads):
                    self._run_in_bed(loads, has_replica=has_replica)

    @contextlib.contextmanager
    def _told(self, loads: Sequence[Load]) -> Iterator[None]:
        """Go on when something goes wrong, and have each of the loads not measured say so."""
        try:
            yield
        except _TROUBLE as error:
            done = [(result.group, result.load) for result in self.results]
            for load in loads:
                if (load.group, load.name) not in done:
                    self._finish(load, [Run("direct", 0, error=str(error))])
                    self.watcher.advance(1)

    def _finish(self, load: Load, runs: Sequence[Run]) -> None:
        work = load.work
        facts = (load.group, load.name, work.unit, work.piece, work.is_less_better)
        self.results.append(Result(*facts, runs=tuple(runs)))
        self.watcher.finished(self.results[-1])

    def _run_in_bed(self, loads: Sequence[Load], *, has_replica: bool) -> None:
        plan = self.plan
        self.watcher.doing("starting PostgreSQL and filling its tables")
        streams = [load.work.rows for load in loads if isinstance(load.work, Stream)]
        with make_bed(
            plan.proxies,
            plan.bin_dir,
            has_replica=has_replica,
            max_clients=max(load.work.clients for load in loads) + 100,
            scale=plan.scale,
            rows=max(streams, default=0),
            port=plan.port,
        ) as bed:
            for setup, group in itertools.groupby(loads, key=lambda load: load.setup):
                together = list(group)
                with self._told(together):
                    self._run_setup(bed, setup, together)

    def _run_setup(self, bed: Bed, setup: Setup, loads: Sequence[Load]) -> None:
        installation = bed.server.installation
        self.watcher.doing(f"starting the proxies of {loads[0].group}")
        with bed.targets(setup) as (targets, missing):
            for target in targets:
                self.targets.setdefault(target.name, target.version)
            for name in missing:
                self.targets.setdefault(name, "did not start")
            if self.plan.warm_up and not setup.is_fresh:
                self._warm_up(installation, targets)
            for load in loads:
                failures = [Run(name, 0, error=reason) for name, reason in missing.items()]
                self._measure_load(installation, load, targets, failures)

    def _warm_up(self, installation: Installation, targets: Sequence[Target]) -> None:
        """Have every proxy open its server connections, and processors wake up."""
        for target in targets:
            self.watcher.doing(f"warming up {target.name}")
            with contextlib.suppress(BenchmarkError):  # the measurements will tell
                Bench(32).run(installation, target, self.plan.warm_up, 0)

    def _measure_load(
        self,
        installation: Installation,
        load: Load,
        targets: Sequence[Target],
        runs: list[Run],
    ) -> None:
        able = [target for target in targets if load.work.suits(target)]
        rounds = min(self.plan.rounds, load.work.rounds)
        guesses: dict[str, float] = {}
        for number, target in take_turns(able, rounds):
            self.watcher.doing(f"{load.group}: {load.name}: round {number + 1}, {target.name}")
            run = _measure(installation, load, target, number, self.plan.seconds, guesses)
            runs.append(run)
            self.watcher.advance(1 / (rounds * len(able)))
        self._finish(load, runs)


def run_suite(plan: Plan, watcher: Watcher, **options: object) -> Report:
    """Measure everything; if interrupted, tell what there is.

    Args:
        options: what else the report is to say of how the suite was run.
    """
    suite = _Suite(plan, watcher)
    facts = machine_facts()
    with contextlib.suppress(KeyboardInterrupt):
        suite.run()
    order = [load.name for load in plan.loads]
    groups = list(dict.fromkeys(load.group for load in plan.loads))
    results = sorted(
        suite.results,
        key=lambda result: (groups.index(result.group), order.index(result.load)),
    )
    told = {"seconds": plan.seconds, "rounds": plan.rounds, "scale": plan.scale, **options}
    return Report(facts, told, suite.targets, tuple(results))


def _needs_replica(load: Load) -> bool:
    return load.setup.routing is Routing.REPLICA


def _measure(
    installation: Installation,
    load: Load,
    target: Target,
    number: int,
    seconds: int,
    guesses: dict[str, float],
) -> Run:
    try:
        meter = Meter(target.pid)
        sample = load.work.run(installation, target, seconds, guesses.get(target.name, 0.0))
        used = sample.used or meter.read()
        memory = None if target.pid is None else resident_bytes(target.pid) / 1e6
    except _TROUBLE as error:
        return Run(target.name, number, error=f"{error}\n{log_tail(target.log_path)}".strip())
    guesses[target.name] = sample.value
    is_told = used.cpu is not None and load.work.piece and sample.count
    return Run(
        target.name,
        number,
        value=sample.value,
        cpu=used.cpu.total / sample.count * 1e6 if used.cpu is not None and is_told else None,
        p50=sample.p50,
        p99=sample.p99,
        memory=memory,
        machine_busy=used.machine_busy,
        machine_stolen=used.machine_stolen,
        details=sample.details,
    )
