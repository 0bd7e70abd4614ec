"""The suite's results as pictures; needs matplotlib (`pip install -e '.[bench]'`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .suite_report import REFERENCE, name, ours
from .targets import BenchmarkError

if TYPE_CHECKING:
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
_DIRECT: Final = "#9a9a9a"
_LEAST, _MOST = 0.05, 20.0


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
            figure.savefig(folder / f"{stem}{suffix}", dpi=110, metadata=metadata)
        made.append(folder / f"{stem}.png")
    return made


def _ratios(report: Report) -> Figure | None:
    """Each load a row, each target a bar: to the right of the line it is the better one."""
    results = [
        result
        for result in report.results
        if any(result.ratio(target, REFERENCE) is not None for target in report.targets)
    ]
    if not results:
        return None
    targets = [target for target in report.targets if target != REFERENCE]
    height = 1.6 + len(results) * (0.12 * len(targets) + 0.14)
    figure = _figure(height)
    axes = figure.subplots(1, len(_PANELS), sharey=True)
    for axis, (what, title) in zip(axes, _PANELS.items(), strict=True):
        _panel(axis, results, targets, what)
        axis.set_title(title, fontsize=10)
    axes[0].set_yticks(range(len(results)), [name(result) for result in results], fontsize=8)
    axes[0].invert_yaxis()
    axes[0].legend(
        *_legend(axes[0]),
        loc="upper left",
        bbox_to_anchor=(-1.25, 1.0),
        fontsize=8,
        frameon=False,
    )
    figure.suptitle("\n".join(_headline(report)), fontsize=10)
    return figure


def _panel(axis: Axes, results: list[Result], targets: list[str], what: str) -> None:
    thickness = 0.8 / len(targets)
    for place, target in enumerate(targets):
        colour = _DIRECT if target == "direct" else _colour(targets, target)
        label = target
        for row, result in enumerate(results):
            ratio = result.ratio(target, REFERENCE, what)
            if ratio is None:
                continue
            middle = min(max(ratio.middle, _LEAST), _MOST)
            y = row - 0.4 + thickness * (place + 0.5)
            spread = [
                [max(0.0, middle - max(ratio.low, _LEAST))],
                [max(0.0, min(ratio.high, _MOST) - middle)],
            ]
            axis.barh(
                *(y, middle - 1, thickness),
                left=1,
                color=colour,
                xerr=spread,
                error_kw={"lw": 0.7, "ecolor": "#333333"},
                label=label,
            )
            is_lost = ratio.middle < 1
            axis.annotate(
                f"{ratio.middle:.2f}",
                (max(ratio.low, 1.3 * _LEAST) if is_lost else min(ratio.high, _MOST / 1.3), y),
                xytext=(-2 if is_lost else 2, 0),
                textcoords="offset points",
                ha="right" if is_lost else "left",
                va="center",
                fontsize=6,
                color="#b00020" if is_lost else "#222222",
            )
            label = "_"
    axis.axvline(1, color="black", lw=1)
    axis.set_xscale("log")
    axis.set_xlim(_LEAST, _MOST)
    ticks = [0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks], fontsize=8)
    axis.minorticks_off()
    axis.grid(axis="x", lw=0.3)
    axis.set_xlabel("← worse      times as good as PgBouncer      better →", fontsize=8)


def _legend(axis: Axes) -> tuple[list[Artist], list[str]]:
    handles, labels = axis.get_legend_handles_labels()
    pairs = [pair for pair in zip(handles, labels, strict=True) if not pair[1].startswith("_")]
    return [handle for handle, _ in pairs], [label for _, label in pairs]


def _headline(report: Report) -> list[str]:
    facts, options = report.machine, report.options
    lines = []
    for target in ours(report):
        found = report.verdicts(target, REFERENCE)
        counts = {kind: len(pairs) for kind, pairs in found.items()}
        if sum(counts.values()):
            told = ", ".join(f"{kind} in {count}" for kind, count in counts.items())
            lines.append(f"{target} against PgBouncer: {told} of {sum(counts.values())} loads")
    absent = [
        name(result)
        for result in report.results
        if result.median(REFERENCE) is None and any(map(result.median, ours(report)))
    ]
    if absent:
        lines.append(f"not here, since PgBouncer has no figure: {'; '.join(absent)}")
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
    figure = _figure(4.5)
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
                    label=target,
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

    return Figure(figsize=(15, height), layout="constrained")
