"""Prometheus metrics over snapshots, under PgCat's names.

PgCat's counters have no `_total` at the end, which prometheus_client would add. So the samples
are made with their names as they are, and written by a function of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from prometheus_client import ProcessCollector
from prometheus_client.core import Metric

from .. import __version__
from ..histograms import BOUNDS
from ..multiplexing import REASONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ..listeners import HubSnapshot
    from ..multiplexing import MultiplexingSnapshot
    from ..protocol.prepared import PreparedSnapshot
    from ..snapshots import (
        AddressSnapshot,
        ErrorSnapshot,
        HealthSnapshot,
        HistogramSnapshot,
        LimitSnapshot,
        PoolSnapshot,
        RoutingSnapshot,
        TimeoutSnapshot,
        View,
    )
    from ..traces import TracesSnapshot

S = TypeVar("S")

_SECOND: Final = 1_000_000
# PgCat tells the times of queries in milliseconds, but waits in microseconds.
_MILLISECOND: Final = 1000

_ESCAPES: Final = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES: Final = str.maketrans({"\\": r"\\", "\n": r"\n"})


@dataclass(frozen=True, slots=True)
class Family(Generic[S]):
    """A metric, and the function that finds its value in a snapshot."""

    name: str
    kind: str
    help: str
    value: Callable[[S], int]


def counter(name: str, meaning: str, value: Callable[[S], int]) -> Family[S]:
    """A metric that only grows while the router runs."""
    return Family(f"pgcat_{name}", "counter", meaning, value)


def gauge(name: str, meaning: str, value: Callable[[S], int]) -> Family[S]:
    """A metric that goes up and down."""
    return Family(f"pgcat_{name}", "gauge", meaning, value)


# Of the addresses, not of their connections: they stay when a connection goes.
ADDRESS_FAMILIES: Final[tuple[Family[AddressSnapshot], ...]] = (
    counter("stats_total_query_count", "Queries.", lambda a: a.query_count),
    counter(
        "stats_total_query_time",
        "Time in queries, in milliseconds.",
        lambda a: a.query_time // _MILLISECOND,
    ),
    counter("stats_total_received", "Bytes received from the server.", lambda a: a.received),
    counter("stats_total_sent", "Bytes sent to the server.", lambda a: a.sent),
    counter("stats_total_xact_count", "Transactions.", lambda a: a.xact_count),
    counter(
        "stats_total_xact_time",
        "Time in transactions, in milliseconds.",
        lambda a: a.xact_time // _MILLISECOND,
    ),
    counter(
        "stats_total_wait_time",
        "Time that clients waited for a connection, in microseconds.",
        lambda a: a.wait_time,
    ),
    counter(
        "stats_total_query_time_us",
        "Time in queries, in microseconds.",
        lambda a: a.query_time,
    ),
    counter(
        "stats_total_xact_time_us",
        "Time in transactions, in microseconds.",
        lambda a: a.xact_time,
    ),
    counter("stats_total_errors", "Failed checkouts and connections.", lambda a: a.errors),
    gauge("stats_avg_query_count", "Queries per second.", lambda a: a.average.query_count),
    gauge(
        "stats_avg_query_time",
        "Milliseconds per query.",
        lambda a: a.average.query_time // _MILLISECOND,
    ),
    gauge("stats_avg_recv", "Bytes received per second.", lambda a: a.average.received),
    gauge("stats_avg_sent", "Bytes sent per second.", lambda a: a.average.sent),
    gauge("stats_avg_errors", "Errors per second.", lambda a: a.average.errors),
    gauge("stats_avg_xact_count", "Transactions per second.", lambda a: a.average.xact_count),
    gauge(
        "stats_avg_xact_time",
        "Milliseconds per transaction.",
        lambda a: a.average.xact_time // _MILLISECOND,
    ),
    gauge(
        "stats_avg_wait_time", "Microseconds waited per second.", lambda a: a.average.wait_time
    ),
    counter("servers_bytes_received", "Bytes received from the server.", lambda a: a.received),
    counter("servers_bytes_sent", "Bytes sent to the server.", lambda a: a.sent),
    counter("servers_transaction_count", "Transactions on the server.", lambda a: a.xact_count),
    counter("servers_query_count", "Queries on the server.", lambda a: a.query_count),
    counter("servers_error_count", "Failed checkouts and connections.", lambda a: a.errors),
    gauge("servers_idle_count", "Connections that are nobody's.", lambda a: a.sv_idle),
    gauge("servers_active_count", "Connections that serve a client.", lambda a: a.sv_active),
    gauge("servers_tested_count", "Connections being checked.", lambda a: a.sv_tested),
    gauge("servers_login_count", "Connections being opened.", lambda a: a.sv_login),
    gauge("servers_is_banned", "1 while the server gets no clients.", lambda a: a.banned),
    gauge("servers_is_paused", "1 while its pool or the server is paused.", lambda a: a.paused),
    gauge("databases_pool_size", "Connections that there may be.", lambda a: a.pool_size),
    gauge(
        "databases_current_connections",
        "Connections that there are.",
        lambda a: a.current_connections,
    ),
)

POOL_FAMILIES: Final[tuple[Family[PoolSnapshot], ...]] = (
    gauge("pools_cl_idle", "Clients between transactions.", lambda p: p.cl_idle),
    gauge("pools_cl_active", "Clients that have a server.", lambda p: p.cl_active),
    gauge("pools_cl_waiting", "Clients that wait for a server.", lambda p: p.cl_waiting),
    gauge("pools_sv_idle", "Connections that are nobody's.", lambda p: p.sv_idle),
    gauge("pools_sv_active", "Connections that serve a client.", lambda p: p.sv_active),
    gauge("pools_sv_login", "Connections being opened.", lambda p: p.sv_login),
    gauge("pools_sv_tested", "Connections being checked.", lambda p: p.sv_tested),
    gauge(
        "pools_maxwait",
        "How long the first client in the queue has waited, whole seconds.",
        lambda p: p.maxwait_us // _SECOND,
    ),
    gauge(
        "pools_maxwait_us",
        "The rest of pools_maxwait, in microseconds.",
        lambda p: p.maxwait_us % _SECOND,
    ),
)

ROUTING_FAMILIES: Final[tuple[Family[RoutingSnapshot], ...]] = (
    counter("routing_hits", "Statements whose text was known.", lambda r: r.hits),
    counter(
        "routing_fingerprint_hits",
        "New texts of a known fingerprint.",
        lambda r: r.fingerprint_hits,
    ),
    counter("routing_misses", "Statements that had to be analysed.", lambda r: r.misses),
    gauge("routing_texts", "Texts that are remembered.", lambda r: r.texts),
    gauge("routing_fingerprints", "Fingerprints remembered.", lambda r: r.fingerprints),
    gauge("routing_bytes", "Bytes that they take, roughly.", lambda r: r.bytes),
    gauge("routing_tables", "Tables whose columns are known.", lambda r: r.tables),
    gauge("routing_functions", "Functions known to only read.", lambda r: r.functions),
    counter(
        "routing_too_complex", "Statements beyond what is analysed.", lambda r: r.too_complex
    ),
    counter("routing_refused", "Statements that were given no place.", lambda r: r.refused),
    counter(
        "routing_without_key",
        "Statements on sharded tables that went to default_shard for want of a key.",
        lambda r: r.decisions.get("without_key", 0),
    ),
    counter(
        "retried_reads",
        "Reads that were sent again, their server being lost.",
        lambda r: r.retried_reads,
    ),
    counter(
        "prepared_anew",
        "Statements that were prepared again, their columns being others.",
        lambda r: r.prepared_anew,
    ),
    counter(
        "reads_waited",
        "Reads that waited for a replica to have what their client has written.",
        lambda r: r.reads_waited,
    ),
    counter(
        "reads_to_primary",
        "Reads that went to the primary because no replica had that in time.",
        lambda r: r.reads_to_primary,
    ),
)

MULTIPLEXING_FAMILIES: Final[tuple[Family[MultiplexingSnapshot], ...]] = (
    gauge(
        "multiplexing_depth",
        "Statements that may be on their way at one connection.",
        lambda m: m.depth,
    ),
    gauge(
        "multiplexing_under_way",
        "Statements that are on their way at connections that are shared.",
        lambda m: m.under_way,
    ),
    gauge(
        "multiplexing_deepest", "The longest queue that there has been.", lambda m: m.deepest
    ),
    counter(
        "multiplexing_shared_total",
        "Statements that were sent behind those of other clients.",
        lambda m: m.shared,
    ),
    counter(
        "multiplexing_moved_total",
        "Those that were sent to another connection afterwards.",
        lambda m: m.moved,
    ),
)

ALONE: Final = "pgcat_multiplexing_alone_total"
"""The metric of the statements that were not shared, by the reason."""

HUB_FAMILIES: Final[tuple[Family[HubSnapshot], ...]] = (
    gauge("listen_is_up", "Whether there is a connection that listens.", lambda h: h.is_up),
    gauge("listen_channels", "Channels that somebody listens to.", lambda h: h.channels),
    gauge("listen_listeners", "Clients that listen, to each channel.", lambda h: h.listeners),
    counter(
        "listen_received_total",
        "Notifications that have come for somebody.",
        lambda h: h.received,
    ),
    counter(
        "listen_dropped_total",
        "How often a client was not told of one.",
        lambda h: h.dropped,
    ),
    counter(
        "listen_reconnects_total",
        "How often the connection was lost while somebody listened.",
        lambda h: h.reconnects,
    ),
)

HEALTH_FAMILIES: Final[tuple[Family[HealthSnapshot], ...]] = (
    gauge("health_is_up", "Whether the server answers.", lambda h: h.condition == "up"),
    gauge(
        "health_is_banned", "Whether it is left out as a replica.", lambda h: h.banned != "no"
    ),
    gauge(
        "health_attempts",
        "Connections and checks that have failed since it was up.",
        lambda h: h.attempts,
    ),
    counter("health_checks", "Checks that were made.", lambda h: h.checks),
    counter("health_failed_checks", "Checks that it did not pass.", lambda h: h.failed_checks),
    gauge(
        "health_check_time_us",
        "How long the last check took, in microseconds.",
        lambda h: h.check_time_us,
    ),
    gauge(
        "health_lag_bytes",
        "How far it is behind as a replica, in bytes; -1 if nobody knows.",
        lambda h: h.lag_bytes,
    ),
    gauge("health_lag_us", "The same in microseconds.", lambda h: h.lag_us),
)

PREPARED_FAMILIES: Final[tuple[Family[PreparedSnapshot], ...]] = (
    counter(
        "prepared_statements_hits_total",
        "Uses of statements that the server connection had.",
        lambda row: row.hits,
    ),
    counter(
        "prepared_statements_misses_total",
        "Uses of statements that had to be prepared there first.",
        lambda row: row.misses,
    ),
    counter(
        "prepared_statements_evictions_total",
        "Statements that had to go to make room.",
        lambda row: row.evictions,
    ),
    gauge(
        "prepared_statements",
        "Statements that all server connections have together.",
        lambda row: row.prepared,
    ),
)

LIMIT_FAMILIES: Final[tuple[Family[LimitSnapshot], ...]] = (
    gauge("limits_value", "What may be, 0 for any number.", lambda row: row.value),
    gauge("limits_used", "What there is.", lambda row: row.used),
    gauge("limits_waiting", "Who waits for some of it.", lambda row: row.waiting),
    counter("limits_refused", "Clients turned away.", lambda row: row.refused),
    counter(
        "limits_evictions",
        "Connections closed to make room for others.",
        lambda row: row.evictions,
    ),
)

TIMEOUT_FAMILIES: Final[tuple[Family[TimeoutSnapshot], ...]] = (
    counter("timeouts_total", "What time limits have ended.", lambda row: row.total),
)

TRACED: Final = "pgcat_traced_statements_total"
"""The metric of traced statements, by what has become of them."""

ERROR_FAMILIES: Final[tuple[Family[ErrorSnapshot], ...]] = (
    counter("errors_total", "Errors that clients were answered with.", lambda row: row.count),
)

HISTOGRAMS: Final = {
    "query_seconds": "How long statements took at their server, less the stalls.",
    "query_wait_seconds": "How long statements waited for a server that had to.",
    "query_stall_seconds": "How long clients did not take an answer that did not at once.",
    "transaction_seconds": "How long transactions took.",
    "login_seconds": "How long clients took to log in.",
    "event_loop_delay_seconds": "How late was what was due at a time.",
}
"""Names of histograms, without what all begin with, and what they mean."""

# Every other bucket: 10 us, 20 us, 50 us, and so on for each decade.
_EXPORTED: Final = 2

BUILD_INFO: Final = "pgcat_build_info"


class Exporter:
    """A collector of prometheus_client: metrics of the router, then of its process."""

    def __init__(self, view: View) -> None:
        self._view: Final = view
        # Not registered anywhere: the process may have other metrics than the router's.
        self._process: Final = ProcessCollector(registry=None)

    def collect(self) -> Iterator[Metric]:
        """The metrics as they are now."""
        yield from _metrics(ADDRESS_FAMILIES, self._view.addresses(), _address_labels)
        yield from _metrics(POOL_FAMILIES, self._view.pools(), _pool_labels)
        yield from _metrics(ROUTING_FAMILIES, self._view.routing(), _pool_labels)
        yield from _metrics(PREPARED_FAMILIES, self._view.prepared(), _pool_labels)
        shared = [row for row in self._view.multiplexing() if row.is_on]
        yield from _metrics(MULTIPLEXING_FAMILIES, shared, _part_labels)
        yield _alone(shared)
        yield from _metrics(HUB_FAMILIES, self._view.hubs(), _shard_labels)
        yield from _metrics(HEALTH_FAMILIES, self._view.health(), _health_labels)
        yield from _metrics(LIMIT_FAMILIES, self._view.limits(), _limit_labels)
        yield from _metrics(TIMEOUT_FAMILIES, self._view.timeouts(), _timeout_labels)
        yield from _metrics(ERROR_FAMILIES, self._view.errors(), _error_labels)
        yield _traced(self._view.traces())
        yield from _histograms(self._view.histograms())
        info = Metric(BUILD_INFO, "The version that runs.", "gauge")
        info.add_sample(BUILD_INFO, {"version": __version__}, 1)
        yield info
        yield from self._process.collect()

    def render(self) -> bytes:
        """The metrics in the text format 0.0.4."""
        return "".join(_text(metric) for metric in self.collect()).encode()

    def render_open(self) -> bytes:
        """The metrics in the format of OpenMetrics 1.0.0, by the same names."""
        texts = [_open_text(metric) for metric in self.collect()]
        return "".join([*texts, "# EOF\n"]).encode()


def _address_labels(address: AddressSnapshot) -> dict[str, str]:
    return {
        "database": address.database,
        "host": address.host,
        "index": str(address.index),
        "pool": address.pool,
        "role": address.role,
        "shard": str(address.shard),
        "username": address.user,
    }


def _pool_labels(pool: PoolSnapshot | RoutingSnapshot | PreparedSnapshot) -> dict[str, str]:
    return {"pool": pool.database, "user": pool.user}


def _part_labels(row: MultiplexingSnapshot) -> dict[str, str]:
    return {"address": row.address, "pool": row.database, "user": row.user}


def _shard_labels(hub: HubSnapshot) -> dict[str, str]:
    return {"pool": hub.database, "shard": str(hub.shard), "user": hub.user}


def _alone(rows: Iterable[MultiplexingSnapshot]) -> Metric:
    metric = Metric(ALONE, "Statements that were not shared, by the reason.", "counter")
    for row in rows:
        for reason in REASONS:
            labels = {**_part_labels(row), "reason": reason}
            metric.add_sample(ALONE, labels, row.alone.get(reason, 0))
    return metric


def _health_labels(health: HealthSnapshot) -> dict[str, str]:
    return {"host": health.host, "port": str(health.port)}


def _limit_labels(limit: LimitSnapshot) -> dict[str, str]:
    return {"limit": limit.key, "name": limit.name}


def _timeout_labels(timeout: TimeoutSnapshot) -> dict[str, str]:
    return {"kind": timeout.kind}


def _error_labels(error: ErrorSnapshot) -> dict[str, str]:
    return {
        "pool": error.database,
        "source": error.source,
        "sqlstate": error.sqlstate,
        "user": error.user,
    }


def _traced(snapshot: TracesSnapshot | None) -> Metric:
    metric = Metric(TRACED, "Traced statements, by what has become of them.", "counter")
    if snapshot is not None:
        for outcome in ("sent", "failed", "dropped"):
            metric.add_sample(TRACED, {"outcome": outcome}, getattr(snapshot, outcome))
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


def _metrics(
    families: Iterable[Family[S]],
    snapshots: Iterable[S],
    labels_of: Callable[[S], dict[str, str]],
) -> Iterator[Metric]:
    labelled = [(snapshot, labels_of(snapshot)) for snapshot in snapshots]
    for family in families:
        metric = Metric(family.name, family.help, family.kind)
        for snapshot, labels in labelled:
            metric.add_sample(family.name, labels, family.value(snapshot))
        yield metric


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
