"""A plot of what clients got done while servers failed: in text, or as a picture."""

from __future__ import annotations

import importlib
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .load import Record

# What one line stands for may be so long, in seconds; there are no more lines than that.
_STEPS = (0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_MOST_LINES = 60
_WIDTH = 24


def plot(
    began: float, records: Mapping[str, Record], events: Sequence[tuple[float, str]]
) -> list[str]:
    """The lines of a plot: downwards the time since `began`, to the right the calls done.

    Args:
        began: by time.monotonic().
        records: by the names of their columns.
        events: what happened, and when, in seconds since then.
    """
    step = _step(began, records)
    done = {name: _by_step(_ends(record, began), step) for name, record in records.items()}
    failed = _by_step(
        [each.ended - began for record in records.values() for each in record.failures], step
    )
    told = _by_step([when for when, _ in events], step)
    times = [*failed, *told, *(time for counts in done.values() for time in counts)]
    if not times:
        return []
    most = {name: max(counts.values(), default=1) for name, counts in done.items()}
    heads = "  ".join(f"{name + ' each ' + f'{step:g} s':<{_WIDTH + 6}}" for name in records)
    lines = [f"{'':10}{heads}  failed"]
    for time in range(min(times), max(times) + 1):
        bars = "  ".join(
            f"{counts[time]:5} {_bar(counts[time], most[name]):<{_WIDTH}}"
            for name, counts in done.items()
        )
        what = [text for when, text in sorted(events) if _place(when, step) == time]
        line = f"{time * step:7.2f} s {bars}  {failed[time] or '':>6}"
        lines.append(f"{line}  {what[0] if what else ''}".rstrip())
        lines += [" " * (len(line) + 2) + text for text in what[1:]]
    return lines


def picture(
    path: Path,
    began: float,
    records: Mapping[str, Record],
    events: Sequence[tuple[float, str]],
) -> bool:
    """Write the plot as a PNG; False if matplotlib is not there."""
    try:
        pyplot = importlib.import_module("matplotlib.pyplot")
    except ImportError:
        return False
    step = _step(began, records)
    told = sorted(events)
    heights = [*[2] * len(records), 0.35 * (len(told) + 1)]
    figure, panels = pyplot.subplots(
        len(heights),
        figsize=(12, sum(heights)),
        height_ratios=heights,
        sharex=True,
        layout="constrained",
    )
    # Each kind of call has a scale of its own: there may be many times as many reads.
    for panel, (name, record) in zip(panels, records.items(), strict=False):
        counts = _by_step(_ends(record, began), step)
        times = range(min(counts, default=0), max(counts, default=0) + 1)
        starts = [time * step for time in times]
        panel.bar(starts, [counts[time] / step for time in times], width=step, align="edge")
        failed = _by_step([each.ended - began for each in record.failures], step)
        for time, count in failed.items():
            place = (time + 0.5) * step
            panel.plot(place, 0, "rx", clip_on=False)
            panel.text(place, 0, f"{count} failed\n", ha="center", va="bottom", color="red")
        for number, (when, _) in enumerate(told, 1):
            panel.axvline(when, linestyle=":", linewidth=0.8, color="black")
            above = panel.get_xaxis_transform()
            panel.text(when, 1.0, str(number), ha="center", va="bottom", transform=above)
        panel.set_title(
            f"{name}: {len(record.done)} done, {len(record.failures)} failed",
            loc="left",
            pad=16,
        )
        panel.set_ylabel("a second")
        panel.margins(x=0.01)
    panels[-2].set_xlabel("seconds")
    panels[-2].xaxis.set_tick_params(labelbottom=True)
    # Words beside the lines would cover each other, and the figures.
    panels[-1].axis("off")
    for number, (when, what) in enumerate(told, 1):
        line = f"{number:2}  {when:6.2f} s  {what}"
        place = 1 - number / (len(told) + 1)
        panels[-1].text(
            0, place, line, family="monospace", size=9, transform=panels[-1].transAxes
        )
    figure.savefig(path)
    pyplot.close(figure)
    return True


def _ends(record: Record, began: float) -> list[float]:
    return [ended - began for _, ended in record.done]


def _step(began: float, records: Mapping[str, Record]) -> float:
    ends = [end for record in records.values() for end in _ends(record, began)]
    length = max(ends, default=0.0) - min(ends, default=0.0)
    return next((step for step in _STEPS if length / step <= _MOST_LINES), _STEPS[-1])


def _place(when: float, step: float) -> int:
    return int(when // step)


def _by_step(times: Sequence[float], step: float) -> Counter[int]:
    return Counter(_place(when, step) for when in times)


def _bar(count: int, most: int) -> str:
    # Something is never drawn as nothing.
    return "#" * (-(-count * _WIDTH // most) if most else 0)
