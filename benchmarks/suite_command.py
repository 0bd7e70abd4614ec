"""`python -m benchmarks all`, and `plot`: the suite, and its pictures once more."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from . import plots
from .beds import Proxies
from .loads import LOADS, select
from .others import OTHERS
from .results import Report
from .suite import Plan, run_suite
from .suite_report import grids, line, summary, to_markdown
from .targets import BenchmarkError, Target, find_pgbouncer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from .results import Result

RESULTS = Path(__file__).with_name("results")
# Seconds of a run and rounds.
FULL, QUICK = (1, 5), (1, 2)


def run_all(options: argparse.Namespace, console: Console) -> None:
    """Run the whole suite, or the loads that are named, and write tables and pictures."""
    if options.list:
        for load in LOADS:
            console.print(f"{load.group}: {load.name}", highlight=False)
        return
    loads = select(is_quick=options.quick, words=tuple(options.loads))
    if not loads:
        raise BenchmarkError("no load has such a name: see --list")
    seconds, rounds = QUICK if options.quick else FULL
    plan = Plan(
        loads=loads,
        proxies=_proxies(options),
        seconds=options.seconds or seconds,
        rounds=options.rounds or rounds,
        scale=options.scale,
        bin_dir=options.bin_dir,
        port=options.postgres_port,
    )
    columns = (
        *(TextColumn("[progress.description]{task.description}"), BarColumn()),
        *(MofNCompleteColumn(), TimeElapsedColumn()),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        watcher = _Watcher(progress, progress.add_task("", total=len(loads)))
        report = run_suite(plan, watcher, quick=options.quick)
    _show(report, console)
    options.out.mkdir(parents=True, exist_ok=True)
    report.write(options.out / "suite.json")
    _write(report, options.out, console)


def run_plot(options: argparse.Namespace, console: Console) -> None:
    """Write the tables and pictures of a suite again, from its JSON."""
    _write(Report.read(options.json), options.json.parent, console)


def add_to(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    setting: argparse.ArgumentParser,
) -> None:
    """Add both commands to those of the program; `setting` has options of others, too."""
    suite = commands.add_parser("all", parents=[setting], help=run_all.__doc__)
    suite.add_argument("--quick", action="store_true", help="fewer loads, shorter runs")
    suite.add_argument("--list", action="store_true", help="print the loads, do nothing")
    suite.add_argument(
        "--loads",
        nargs="+",
        default=[],
        metavar="WORDS",
        help="only those with this in the name",
    )
    suite.add_argument("--seconds", type=int, help="length of a run (1)")
    suite.add_argument("--rounds", type=int, help="runs of each target (5, quick 2)")
    suite.add_argument("--scale", type=int, default=10, help="of pgbench's tables (10)")
    suite.add_argument(
        "--proxy",
        type=_program,
        action="append",
        default=[],
        metavar="NAME=PROGRAM",
        help=f"another proxy that is not on the PATH: {', '.join(OTHERS)}",
    )
    suite.add_argument(
        "--target",
        type=_target,
        action="append",
        default=[],
        metavar="NAME=HOST:PORT[@PID]",
        help="a proxy that runs already; with its process id its costs are measured, too",
    )
    suite.add_argument(
        "--postgres-port", type=int, help="where PostgreSQL listens, for what runs already"
    )
    suite.add_argument(
        "--out", type=Path, default=RESULTS, help="where to write (benchmarks/results)"
    )
    suite.set_defaults(run=run_all)
    plot = commands.add_parser("plot", help=run_plot.__doc__)
    plot.add_argument("json", type=Path, nargs="?", default=RESULTS / "suite.json")
    plot.set_defaults(run=run_plot)


@dataclass(frozen=True, slots=True)
class _Watcher:
    """A bar, and above it a line for each load that is done."""

    progress: Progress
    task: TaskID

    def doing(self, what: str) -> None:
        self.progress.update(self.task, description=what)

    def advance(self, loads: float) -> None:
        self.progress.update(self.task, advance=loads)

    def finished(self, result: Result) -> None:
        self.progress.print(line(result), markup=False, highlight=False)


def _show(report: Report, console: Console) -> None:
    for grid in grids(report):
        if grid.is_brief:
            console.print(grid.to_rich())
    for told in summary(report):
        console.print(told, markup=False, highlight=False)


def _write(report: Report, folder: Path, console: Console) -> None:
    try:
        pictures = [path.name for path in plots.draw(report, folder)]
    except BenchmarkError as error:
        console.print(str(error), markup=False, highlight=False)
        pictures = []
    (folder / "suite.md").write_text(to_markdown(report, pictures))
    names = ", ".join(["suite.json", "suite.md", *pictures])
    console.print(f"Written to {folder}: {names}", markup=False, highlight=False)


def _proxies(options: argparse.Namespace) -> Proxies:
    others = {name: program for name, other in OTHERS.items() if (program := other.find())}
    return Proxies(
        router_command=tuple(shlex.split(options.router)),
        pgbouncer=None if options.no_pgbouncer else find_pgbouncer(),
        others=others | dict(options.proxy),
        running=tuple(options.target),
    )


def _program(text: str) -> tuple[str, str]:
    name, _, program = text.partition("=")
    if name not in OTHERS or not program:
        raise argparse.ArgumentTypeError(f"choose from {', '.join(OTHERS)}, as NAME=PROGRAM")
    return name, program


def _target(text: str) -> Target:
    name, _, rest = text.partition("=")
    place, _, pid = rest.partition("@")
    host, _, port = place.rpartition(":")
    if not (name and host and port.isdigit() and (not pid or pid.isdigit())):
        raise argparse.ArgumentTypeError("say it as NAME=HOST:PORT or NAME=HOST:PORT@PID")
    return Target(name, place, int(port), None, int(pid) if pid else None, host=host)
