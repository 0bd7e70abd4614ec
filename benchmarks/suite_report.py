"""The suite's results as tables, in the terminal and in Markdown: first what was lost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.table import Table

from .beds import MULTIPLEXED, PLAIN, ROUTER
from .results import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .results import Ratio, Report, Result

REFERENCE: Final = "pgbouncer"
NOTHING: Final = "n/a"
FAILED: Final = "FAILED"
_MARKS: Final = {"better": "▲", "even": "=", "worse": "▼"}
_STYLES: Final = {"▲": "green", "▼": "bold red"}


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of texts; all columns but the first are numbers.

    Attributes:
        is_brief: whether the terminal shows it, too.
    """

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    is_brief: bool = False

    def to_rich(self) -> Table:
        """For the terminal."""
        table = Table(title=self.title, caption=self.caption or None)
        for number, header in enumerate(self.headers):
            table.add_column(header, justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(_styled(cell) for cell in row))
        return table

    def to_markdown(self) -> str:
        """For a file."""
        lines = [
            f"## {self.title}",
            "",
            f"| {' | '.join(self.headers)} |",
            f"|---|{'---:|' * (len(self.headers) - 1)}",
            *(f"| {' | '.join(_bold(cell) for cell in row)} |" for row in self.rows),
        ]
        return "\n".join([*lines, "", self.caption, ""] if self.caption else [*lines, ""])


def grids(report: Report) -> list[Grid]:
    """All tables."""
    made = [_ratios(report, other) for other in (REFERENCE, "direct", PLAIN)]
    made += [_values(report), _cpu(report), _latencies(report), _memory(report)]
    made += [_details(report), _failures(report)]
    return [grid for grid in made if grid.rows]


def summary(report: Report, other: str = REFERENCE) -> list[str]:
    """A line for each router: how many loads were lost, even and won, and which were lost."""
    lines = []
    for target in ours(report):
        found = report.verdicts(target, other)
        worse, even, better = (len(found[kind]) for kind in ("worse", "even", "better"))
        if not worse + even + better:
            continue
        lost = ", ".join(
            f"{name(result)} {ratio.middle:.2f}" for result, ratio in found["worse"]
        )
        lines.append(
            f"{target} against {other}: worse in {worse}, even in {even}, better in {better}"
            f" of {worse + even + better} loads."
            + (f" Worse, the worst first: {lost}." if lost else "")
        )
    return lines


def line(result: Result) -> str:
    """A load in a line: how each target did beside PgBouncer, else what was measured."""
    told = []
    for target in names([result]):
        if result.ratio(target, REFERENCE) is not None and target != REFERENCE:
            told.append(f"{target} {_ratio(result, target, REFERENCE)}")
        elif (value := result.median(target)) is not None:
            told.append(f"{target} {_number(value)} {result.unit}")
        else:
            told.append(f"{target} {_missing(result, target)}")
    return f"{name(result)}: {', '.join(told)}"


def to_markdown(report: Report, pictures: Sequence[str]) -> str:
    """The whole report."""
    facts = report.machine
    versions = ", ".join(f"{one}: {version}" for one, version in report.targets.items())
    options = report.options
    parts = [
        "# Benchmark results",
        "Written by `python -m benchmarks all`; [how to read them](../README.md#the-suite).",
        f"{facts['time']}, {facts['cpu']}, {facts['processors']} processors, Linux"
        f" {facts['kernel']}, Python {facts['python']}, load average before"
        f" {facts['load_average'][0]:.1f}. {options['rounds']} rounds of"
        f" {options['seconds']} s, scale {options['scale']}. {versions}.",
        *summary(report),
        *(f"![{picture}]({picture})" for picture in pictures),
        *(grid.to_markdown() for grid in grids(report)),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def ours(report: Report) -> list[str]:
    """The targets that are the router, doing what the load is about."""
    return [target for target in report.targets if target in (ROUTER, MULTIPLEXED)]


def name(result: Result) -> str:
    """A load, told apart from those of other groups."""
    return f"{result.group}: {result.load}"


def _ratios(report: Report, other: str) -> Grid:
    targets = [target for target in report.targets if target != other]
    if other == PLAIN:
        targets = ours(report)
    rows = []
    for result in report.results:
        cells = [_ratio(result, target, other) for target in targets]
        if any(result.ratio(target, other) is not None for target in targets):
            rows.append((name(result), *cells))
    return Grid(
        f"Times as good as {other}",
        ("load", *targets),
        tuple(rows),
        "Medians of the rounds' own ratios (the lowest-the highest); over 1 is better, whatever"
        " the unit. ▼ worse and ▲ better in every round, = within the spread.",
        is_brief=True,
    )


def _values(report: Report) -> Grid:
    def cells(result: Result) -> Iterator[str]:
        yield result.unit
        for target in report.targets:
            value = result.median(target)
            yield _missing(result, target) if value is None else _number(value)

    return Grid(
        "Measured: medians of the rounds",
        ("load", "unit", *report.targets),
        tuple((name(result), *cells(result)) for result in report.results),
        is_brief=True,
    )


def _cpu(report: Report) -> Grid:
    proxies = [target for target in report.targets if target != "direct"]
    rows = [
        (
            name(result),
            result.piece,
            *(_optional(result.median(target, "cpu"), ".1f") for target in proxies),
            *(_ratio(result, target, REFERENCE, "cpu") for target in ours(report)),
        )
        for result in report.results
        if result.piece and any(result.median(target, "cpu") for target in proxies)
    ]
    return Grid(
        "Processor time of the proxy, microseconds",
        ("load", "for a", *proxies, *(f"times: {target}" for target in ours(report))),
        tuple(rows),
        "Counted from when all clients are connected. Times: as good as PgBouncer; under 1 is"
        " dearer.",
        is_brief=True,
    )


def _latencies(report: Report) -> Grid:
    rows = [
        (
            name(result),
            *(
                f"{_optional(result.median(target, 'p50'), '.2f')} /"
                f" {_optional(result.median(target, 'p99'), '.2f')}"
                for target in report.targets
            ),
            *(_ratio(result, target, REFERENCE, "p99") for target in ours(report)),
        )
        for result in report.results
        if any(result.median(target, "p99") for target in report.targets)
    ]
    return Grid(
        "Latency, milliseconds: p50 / p99",
        ("load", *report.targets, *(f"p99 times: {target}" for target in ours(report))),
        tuple(rows),
        "Times: as good as PgBouncer; under 1 is slower.",
        is_brief=True,
    )


def _memory(report: Report) -> Grid:
    proxies = [target for target in report.targets if target != "direct"]
    rows = [
        (
            name(result),
            *(_optional(result.median(target, "memory"), ".1f") for target in proxies),
        )
        for result in report.results
        if any(result.median(target, "memory") for target in proxies)
    ]
    return Grid(
        "Resident memory of the proxy after the load, MB",
        ("load", *proxies),
        tuple(rows),
        "Loads of one setup come one after the other in the same processes.",
    )


def _details(report: Report) -> Grid:
    rows = []
    for result in report.results:
        for target in report.targets:
            runs = [run.details for run in result.of(target) if run.details]
            if runs:
                middle = runs[len(runs) // 2]
                told = ", ".join(f"{what} {value:g}" for what, value in middle.items())
                rows.append((f"{name(result)}: {target}", told))
    return Grid("What else was seen, in one of the rounds", ("load", ""), tuple(rows))


def _failures(report: Report) -> Grid:
    rows = [
        (f"{name(result)}: {target}", error.splitlines()[0].replace("|", "/"))
        for result in report.results
        for target in dict.fromkeys(run.target for run in result.runs)
        if (error := result.error(target)) is not None
    ]
    return Grid("Failed; the JSON has more of it", ("load", ""), tuple(rows), is_brief=True)


def _ratio(result: Result, target: str, other: str, what: str = "value") -> str:
    found: Ratio | None = result.ratio(target, other, what)
    if found is None:
        return _missing(result, target)
    spread = f" ({found.low:.2f}-{found.high:.2f})" if found.low != found.high else ""
    return f"{found.middle:.2f}{spread} {_MARKS[found.verdict]}"


def _missing(result: Result, target: str) -> str:
    return NOTHING if result.error(target) is None else FAILED


def _optional(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _styled(cell: str) -> str:
    style = "bold red" if cell == FAILED else _STYLES.get(cell[-1:])
    return f"[{style}]{cell}[/]" if style is not None else cell.replace("[", "\\[")


def _bold(cell: str) -> str:
    return f"**{cell}**" if cell == FAILED or cell.endswith("▼") else cell
