"""The suite's results as pictures; needs matplotlib (`pip install -e '.[bench]'`)."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from .beds import MULTIPLEXED, ROUTER
from .suite_report import FAILED, REFERENCE, name, ours
from .targets import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .results import Report, Result

# What is compared with PgBouncer, and what it is called above a panel.
_PANELS: Final = {
    "value": "what the load measures",
    "cpu": "processor time of the proxy",
    "p99": "latency, p99",
}
_COLOURS: Final = ("#1f6f8b", "#e07a1f", "#6b4fa0", "#3a8f3a", "#a04f6b", "#7a7a2a")
_NAMES: Final = {
    "direct": "no proxy",
    ROUTER: "router, multiplexing off",
    MULTIPLEXED: "router, multiplexing reads",
}
_DIRECT: Final = "#9a9a9a"
_RED: Final = "#b00020"
_LEAST, _MOST = 0.03, 33.0


def draw(report: Report, folder: Path) -> list[Path]:
    """Draw all pictures, as PNG and as SVG; return the PNG files.

    Raises:
        BenchmarkError: there is no matplotlib.
    """
    try:
        import matplotlib as mpl
    except ImportError:
        raise BenchmarkError(
            "no pictures without matplotlib: pip install -e '.[bench]'"
        ) from None
    mpl.rcParams["svg.hashsalt"] = "pgcat-router"  # the same numbers, the same file
    made = []
    pictures = {"suite": _ratios(report), "clients": _clients(report)}
    for stem, figure in pictures.items():
        if figure is None:
            continue
        for suffix, metadata in ((".png", {}), (".svg", {"Date": None})):
            figure.savefig(folder / f"{stem}{suffix}", dpi=130, metadata=metadata)
        made.append(folder / f"{stem}.png")
    return made


@dataclass(frozen=True, slots=True)
class _Bar:
    """Where one target's bar of one load is, from above."""

    result: Result
    target: str
    y: float


@dataclass(slots=True)
class _Layout:
    """Bars one below the other, loads apart, and groups of loads below their names."""

    bars: list[_Bar] = field(default_factory=list)
    loads: dict[float, str] = field(default_factory=dict)
    groups: dict[float, str] = field(default_factory=dict)
    height: float = 0.0

    def add(self, result: Result, targets: Sequence[str]) -> None:
        """Append a load below the others."""
        if result.group not in self.groups.values():
            self.groups[self.height + 0.9] = result.group
            self.height += 1.8
        first = self.height
        for target in targets:
            self.bars.append(_Bar(result, target, self.height + 0.5))
            self.height += 1
        self.loads[(first + self.height) / 2] = result.load
        self.height += 0.7


def _ratios(report: Report) -> Figure | None:
    """Each load a row, each target a bar: to the right of the line it is the better one."""
    layout = _Layout()
    targets = [target for target in report.targets if target != REFERENCE]
    for result in report.results:
        shown = [
            target
            for target in targets
            if result.ratio(target, REFERENCE) is not None or result.error(target) is not None
        ]
        if shown and result.median(REFERENCE) is not None:
            layout.add(result, shown)
    if not layout.bars:
        return None
    colours = {
        target: _DIRECT if target == "direct" else _colour(targets, target)
        for target in targets
    }
    figure = _figure(2.2 + 0.115 * layout.height)
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    for axis, (what, title) in zip(axes, _PANELS.items(), strict=True):
        _panel(axis, layout, colours, what)
        axis.set_title(title, fontsize=9)
    axes[0].set_ylim(layout.height, 0)
    for y, group in layout.groups.items():
        axes[0].text(
            *(-0.03, y, group),
            transform=axes[0].get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=8,
            fontweight="bold",
        )
    axes[0].set_yticks(list(layout.loads), list(layout.loads.values()), fontsize=8)
    figure.legend(
        *_legend(colours),
        loc="outside lower center",
        ncols=len(targets),
        fontsize=9,
        frameon=False,
    )
    figure.suptitle("\n".join(_headline(report)), fontsize=9)
    return figure


def _panel(axis: Axes, layout: _Layout, colours: Mapping[str, str], what: str) -> None:
    for bar in layout.bars:
        ratio = bar.result.ratio(bar.target, REFERENCE, what)
        if ratio is None:
            if what == "value" and bar.result.error(bar.target) is not None:
                _write(axis, FAILED, 1, bar.y, is_lost=False, colour=_RED)
            continue
        middle = min(max(ratio.middle, _LEAST), _MOST)
        spread = [
            [max(0.0, middle - max(ratio.low, _LEAST))],
            [max(0.0, min(ratio.high, _MOST) - middle)],
        ]
        axis.barh(
            *(bar.y, middle - 1, 1),
            left=1,
            color=colours[bar.target],
            xerr=spread,
            error_kw={"lw": 0.7, "ecolor": "#333333"},
        )
        is_lost = ratio.middle < 1
        x = max(ratio.low, 2.2 * _LEAST) if is_lost else min(ratio.high, _MOST / 2.2)
        colour = _RED if is_lost else "#222222"
        _write(axis, f"{ratio.middle:.2f}", x, bar.y, is_lost=is_lost, colour=colour)
    axis.axvline(1, color="black", lw=1)
    axis.set_xscale("log")
    axis.set_xlim(_LEAST, _MOST)
    ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axis.minorticks_off()
    axis.grid(axis="x", lw=0.3)
    axis.set_xlabel("← worse     times as good     better →", fontsize=8)


def _write(axis: Axes, text: str, x: float, y: float, *, is_lost: bool, colour: str) -> None:
    """A figure at the end of its bar."""
    axis.annotate(
        *(text, (x, y)),
        xytext=(-2 if is_lost else 2, 0),
        textcoords="offset points",
        ha="right" if is_lost else "left",
        va="center",
        fontsize=7,
        color=colour,
    )


def _legend(colours: Mapping[str, str]) -> tuple[list[Artist], list[str]]:
    from matplotlib.patches import Patch

    return [Patch(color=colour) for colour in colours.values()], [
        _NAMES.get(target, target) for target in colours
    ]


def _headline(report: Report) -> list[str]:
    facts, options = report.machine, report.options
    lines = []
    for target in ours(report):
        found = report.verdicts(target, REFERENCE)
        counts = {kind: len(pairs) for kind, pairs in found.items()}
        if sum(counts.values()):
            told = ", ".join(f"{kind} in {count}" for kind, count in counts.items())
            who = _NAMES.get(target, target)
            lines.append(f"{who}, against PgBouncer: {told} of {sum(counts.values())} loads")
    absent = [
        name(result)
        for result in report.results
        if result.median(REFERENCE) is None and any(map(result.median, ours(report)))
    ]
    if absent:
        told = f"not here, since PgBouncer has no figure: {'; '.join(absent)}"
        lines += textwrap.wrap(told, 120)
    where = f"{facts['processors']} processors for pgbench, PostgreSQL and proxy together"
    how = (
        f"medians of the rounds, {options['rounds']} at most; whiskers: the least and the most"
    )
    return [*lines, f"{where}; {how}; {facts['time'][:10]}"]


def _clients(report: Report) -> Figure | None:
    """Transactions a second by the number of clients, a panel for each protocol."""
    points: dict[str, dict[int, Result]] = {}
    for result in report.results:
        found = re.fullmatch(r"(\w+), ([\d,]+) clients?", result.load)
        if found is not None and result.unit == "transactions/s":
            points.setdefault(found[1], {})[int(found[2].replace(",", ""))] = result
    points = {protocol: each for protocol, each in points.items() if len(each) > 1}
    if not points:
        return None
    figure = _figure(3.6)
    axes = figure.subplots(1, len(points), sharey=True, squeeze=False)
    targets = list(report.targets)
    for axis, (protocol, each) in zip(axes[0], points.items(), strict=True):
        for target in targets:
            numbers = sorted(each)
            values = [each[number].median(target) for number in numbers]
            known = [(x, y) for x, y in zip(numbers, values, strict=True) if y is not None]
            if known:
                axis.plot(
                    *zip(*known, strict=True),
                    marker="o",
                    ms=4,
                    color="black" if target == REFERENCE else _colour(targets, target),
                    ls="--" if target == "direct" else "-",
                    label=_NAMES.get(target, target),
                )
        axis.set_xscale("log")
        axis.set_xticks(sorted(each), [str(number) for number in sorted(each)], fontsize=8)
        axis.minorticks_off()
        axis.grid(lw=0.3)
        axis.set_title(f"pgbench -S, {protocol}", fontsize=10)
        axis.set_xlabel("clients")
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].set_ylabel("transactions a second")
    axes[0][0].legend(fontsize=8, frameon=False)
    return figure


def _colour(targets: list[str], target: str) -> str:
    if target == "direct":
        return _DIRECT
    coloured = [each for each in targets if each not in ("direct", REFERENCE)]
    return _COLOURS[coloured.index(target) % len(_COLOURS)]


def _figure(height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(10.5, height), layout="constrained")
