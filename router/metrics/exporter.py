"""Prometheus metrics over snapshots, under PgCat's names.

PgCat's counters have no `_total` at the end, which prometheus_client would add. So the samples
are made with their names as they are, and written by a function of our own.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from .. import __version__
from ..histograms import BOUNDS
from ..multiplexing import REASONS
from .families import ALONE, BUILD_INFO, GROUPS, HISTOGRAMS, MULTIPLEXING, TRACED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..snapshots import HistogramSnapshot, View
    from ..traces import TracesSnapshot
    from .families import Family, Group

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


# Every other bucket: 10 us, 20 us, 50 us, and so on for each decade.
_EXPORTED: Final = 2


class Exporter:
    """A collector of prometheus_client: metrics of the router, then of its process."""

    def __init__(self, view: View) -> None:
        self._view: Final = view
        # Not registered anywhere: the process may have other metrics than the router's.
        self._process: Final = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        for group in GROUPS:
            yield from _metrics(group, self._view)
            if group is MULTIPLEXING:
                yield _alone(self._view)
        yield _traced(self._view.traces())
        yield from _histograms(self._view.histograms())
        info = _metric(BUILD_INFO)
        info.add_sample(BUILD_INFO.name, {"version": __version__}, 1)
        yield info
        yield from self._process.collect()

    def render(self) -> bytes:
        """The metrics in the text format 0.0.4."""
        return "".join(_text(metric) for metric in self.collect()).encode()

    def render_open(self) -> bytes:
        """The metrics in the format of OpenMetrics 1.0.0, by the same names."""
        texts = [_open_text(metric) for metric in self.collect()]
        return "".join([*texts, "# EOF\n"]).encode()


def _metric(family: Family) -> Metric:
    return Metric(family.name, family.help, family.kind)


def _metrics(group: Group, view: View) -> Iterator[Metric]:
    labelled = [(row, _labels(group, row)) for row in group.rows(view)]
    for family in group.families:
        metric, value_of = _metric(family), attrgetter(family.source)
        for row, labels in labelled:
            metric.add_sample(family.name, labels, value_of(row) // family.per)
        yield metric


def _labels(group: Group, row: object) -> dict[str, str]:
    return {name: str(getattr(row, source)) for name, source in group.labels.items()}


def _alone(view: View) -> Metric:
    metric = _metric(ALONE)
    for row in view.multiplexing():
        for reason in REASONS if row.is_on else ():
            labels = {**_labels(MULTIPLEXING, row), "reason": reason}
            metric.add_sample(ALONE.name, labels, row.alone.get(reason, 0))
    return metric


def _traced(snapshot: TracesSnapshot | None) -> Metric:
    metric = _metric(TRACED)
    if snapshot is not None:
        for outcome in ("sent", "failed", "dropped"):
            metric.add_sample(TRACED.name, {"outcome": outcome}, getattr(snapshot, outcome))
    return metric


def _histograms(snapshots: Sequence[HistogramSnapshot]) -> Iterator[Metric]:
    for name, meaning in HISTOGRAMS.items():
        metric = Metric(f"pgcat_{name}", meaning, "histogram")
        for snapshot in snapshots:
            if snapshot.name == name:
                _add_histogram(metric, snapshot)
        yield metric


def _add_histogram(metric: Metric, snapshot: HistogramSnapshot) -> None:
    below, labels = 0, dict(snapshot.labels)
    for number, bound in enumerate(BOUNDS):
        below += snapshot.counts[number]
        if number % _EXPORTED == 0:
            metric.add_sample(f"{metric.name}_bucket", {**labels, "le": repr(bound)}, below)
    count = sum(snapshot.counts)
    metric.add_sample(f"{metric.name}_bucket", {**labels, "le": "+Inf"}, count)
    metric.add_sample(f"{metric.name}_count", labels, count)
    metric.add_sample(f"{metric.name}_sum", labels, snapshot.total)


def _text(metric: Metric) -> str:
    if not metric.samples:
        return ""
    # A family is called what its samples are called; of prometheus_client's own counters only
    # the samples have the `_total`.
    name = metric.name if metric.type == "histogram" else metric.samples[0].name
    lines = [
        "",
        f"# HELP {name} {metric.documentation.translate(_HELP_ESCAPES)}",
        f"# TYPE {name} {metric.type}",
        *_samples(metric),
    ]
    return "\n".join(lines) + "\n"


def _open_text(metric: Metric) -> str:
    if not metric.samples:
        return ""
    # There a counter's samples have to end in `_total`. PgCat's do not, and must not be called
    # otherwise in one format than in the other: of those the type is left open.
    first, kind = metric.samples[0].name, metric.type
    name = metric.name if kind == "histogram" else first
    if kind == "counter":
        name = first.removesuffix("_total")
        kind = "counter" if name != first else "unknown"
    lines = [
        f"# HELP {name} {metric.documentation.translate(_ESCAPES)}",
        f"# TYPE {name} {kind}",
        *_samples(metric),
    ]
    return "\n".join(lines) + "\n"


def _samples(metric: Metric) -> list[str]:
    return [
        f"{sample.name}{_label_text(sample.labels)} {_number(sample.value)}"
        for sample in metric.samples
    ]


def _label_text(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    pairs = (f'{name}="{value.translate(_ESCAPES)}"' for name, value in sorted(labels.items()))
    return "{" + ",".join(pairs) + "}"


def _number(value: float) -> str:
    # A bool is the number that it stands for; what is not whole keeps all its digits.
    return str(int(value)) if value % 1 == 0 else repr(value)
