"""What metrics there are: their names, types and meanings, and where their values are found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ..snapshots import View


class Family(NamedTuple):
    """A metric.

    Attributes:
        kind: as Prometheus calls it.
        source: the attribute of a snapshot that has the value, in units of one in `per`.
    """

    kind: str
    name: str
    source: str
    help: str
    per: int = 1


@dataclass(frozen=True, slots=True)
class Group:
    """Metrics of the same snapshots.

    Attributes:
        rows: finds the snapshots.
        labels: the attribute that has the value of each label.
    """

    rows: Callable[[View], Iterable[object]]
    labels: Mapping[str, str]
    families: tuple[Family, ...]


def _family(line: str, prefix: str = "") -> Family:
    """Read `KIND NAME[:SOURCE[/PER]] HELP`; by default the source is called as it is."""
    kind, name, meaning = line.split(" ", 2)
    name, _, source = name.partition(":")
    source, _, per = source.partition("/")
    source = source or name.removeprefix(prefix).removesuffix("_total")
    return Family(kind, f"pgcat_{name}", source, meaning, int(per or 1))


def _group(
    prefix: str, rows: Callable[[View], Iterable[object]], labels: str, table: str
) -> Group:
    """Make a group of a table; what is indented more belongs to the line before.

    Args:
        prefix: what names of metrics begin with, and not those of their sources.
        rows: see `Group`.
        labels: `NAME[:SOURCE]` of each.
        table: see `_family`.
    """
    pairs = [label.partition(":") for label in labels.split()]
    lines = table.strip().replace("\n        ", " ").splitlines()
    return Group(
        rows,
        {name: source or name for name, _, source in pairs},
        tuple(_family(line.strip(), prefix) for line in lines),
    )


# Of the addresses, not of their connections: they stay when a connection goes.
ADDRESSES: Final = _group(
    "",
    lambda view: view.addresses(),
    "database host index pool role shard username:user",
    """
    counter stats_total_query_count:query_count Queries.
    counter stats_total_query_time:query_time/1000 Time in queries, in milliseconds.
    counter stats_total_received:received Bytes received from the server.
    counter stats_total_sent:sent Bytes sent to the server.
    counter stats_total_xact_count:xact_count Transactions.
    counter stats_total_xact_time:xact_time/1000 Time in transactions, in milliseconds.
    counter stats_total_wait_time:wait_time Time that clients waited for a connection, in
        microseconds.
    counter stats_total_query_time_us:query_time Time in queries, in microseconds.
    counter stats_total_xact_time_us:xact_time Time in transactions, in microseconds.
    counter stats_total_errors:errors Failed checkouts and connections.
    gauge stats_avg_query_count:average.query_count Queries per second.
    gauge stats_avg_query_time:average.query_time/1000 Milliseconds per query.
    gauge stats_avg_recv:average.received Bytes received per second.
    gauge stats_avg_sent:average.sent Bytes sent per second.
    gauge stats_avg_errors:average.errors Errors per second.
    gauge stats_avg_xact_count:average.xact_count Transactions per second.
    gauge stats_avg_xact_time:average.xact_time/1000 Milliseconds per transaction.
    gauge stats_avg_wait_time:average.wait_time Microseconds waited per second.
    counter servers_bytes_received:received Bytes received from the server.
    counter servers_bytes_sent:sent Bytes sent to the server.
    counter servers_transaction_count:xact_count Transactions on the server.
    counter servers_query_count:query_count Queries on the server.
    counter servers_error_count:errors Failed checkouts and connections.
    gauge servers_idle_count:sv_idle Connections that are nobody's.
    gauge servers_active_count:sv_active Connections that serve a client.
    gauge servers_tested_count:sv_tested Connections being checked.
    gauge servers_login_count:sv_login Connections being opened.
    gauge servers_is_banned:banned 1 while the server gets no clients.
    gauge servers_is_paused:paused 1 while its pool or the server is paused.
    gauge databases_pool_size:pool_size Connections that there may be.
    gauge databases_current_connections:current_connections Connections that there are.
    """,
)

POOLS: Final = _group(
    "pools_",
    lambda view: view.pools(),
    "pool:database user",
    """
    gauge pools_cl_idle Clients between transactions.
    gauge pools_cl_active Clients that have a server.
    gauge pools_cl_waiting Clients that wait for a server.
    gauge pools_sv_idle Connections that are nobody's.
    gauge pools_sv_active Connections that serve a client.
    gauge pools_sv_login Connections being opened.
    gauge pools_sv_tested Connections being checked.
    gauge pools_maxwait How long the first client in the queue has waited, whole seconds.
    gauge pools_maxwait_us:maxwait_rest The rest of pools_maxwait, in microseconds.
    """,
)

ROUTING: Final = _group(
    "routing_",
    lambda view: view.routing(),
    "pool:database user",
    """
    counter routing_hits Statements whose text was known.
    counter routing_fingerprint_hits New texts of a known fingerprint.
    counter routing_misses Statements that had to be analysed.
    gauge routing_texts Texts that are remembered.
    gauge routing_fingerprints Fingerprints remembered.
    gauge routing_bytes Bytes that they take, roughly.
    gauge routing_tables Tables whose columns are known.
    gauge routing_functions Functions known to only read.
    counter routing_too_complex Statements beyond what is analysed.
    counter routing_refused Statements that were given no place.
    counter routing_without_key Statements on sharded tables that went to default_shard for want
        of a key.
    counter retried_reads Reads that were sent again, their server being lost.
    counter prepared_anew Statements that were prepared again, their columns being others.
    counter reads_waited Reads that waited for a replica to have what their client has written.
    counter reads_to_primary Reads that went to the primary because no replica had that in time.
    """,
)

PREPARED: Final = _group(
    "prepared_statements_",
    lambda view: view.prepared(),
    "pool:database user",
    """
    counter prepared_statements_hits_total Uses of statements that the server connection had.
    counter prepared_statements_misses_total Uses of statements that had to be prepared there
        first.
    counter prepared_statements_evictions_total Statements that had to go to make room.
    gauge prepared_statements:prepared Statements that all server connections have together.
    """,
)

MULTIPLEXING: Final = _group(
    "multiplexing_",
    lambda view: [row for row in view.multiplexing() if row.is_on],
    "address pool:database user",
    """
    gauge multiplexing_depth Statements that may be on their way at one connection.
    gauge multiplexing_under_way Statements that are on their way at connections that are
        shared.
    gauge multiplexing_deepest The longest queue that there has been.
    counter multiplexing_shared_total Statements that were sent behind those of other clients.
    counter multiplexing_moved_total Those that were sent to another connection afterwards.
    """,
)

HUBS: Final = _group(
    "listen_",
    lambda view: view.hubs(),
    "pool:database shard user",
    """
    gauge listen_is_up Whether there is a connection that listens.
    gauge listen_channels Channels that somebody listens to.
    gauge listen_listeners Clients that listen, to each channel.
    counter listen_received_total Notifications that have come for somebody.
    counter listen_dropped_total How often a client was not told of one.
    counter listen_reconnects_total How often the connection was lost while somebody listened.
    """,
)

HEALTH: Final = _group(
    "health_",
    lambda view: view.health(),
    "host port",
    """
    gauge health_is_up Whether the server answers.
    gauge health_is_banned Whether it is left out as a replica.
    gauge health_attempts Connections and checks that have failed since it was up.
    counter health_checks Checks that were made.
    counter health_failed_checks Checks that it did not pass.
    gauge health_check_time_us How long the last check took, in microseconds.
    gauge health_lag_bytes How far it is behind as a replica, in bytes; -1 if nobody knows.
    gauge health_lag_us The same in microseconds.
    """,
)

LIMITS: Final = _group(
    "limits_",
    lambda view: view.limits(),
    "limit:key name",
    """
    gauge limits_value What may be, 0 for any number.
    gauge limits_used What there is.
    gauge limits_waiting Who waits for some of it.
    counter limits_refused Clients turned away.
    counter limits_evictions Connections closed to make room for others.
    """,
)

TIMEOUTS: Final = _group(
    "timeouts_",
    lambda view: view.timeouts(),
    "kind",
    """
    counter timeouts_total What time limits have ended.
    """,
)

ERRORS: Final = _group(
    "errors_",
    lambda view: view.errors(),
    "pool:database source sqlstate user",
    """
    counter errors_total:count Errors that clients were answered with.
    """,
)

GROUPS: Final = (
    ADDRESSES,
    POOLS,
    ROUTING,
    PREPARED,
    MULTIPLEXING,
    HUBS,
    HEALTH,
    LIMITS,
    TIMEOUTS,
    ERRORS,
)

ALONE: Final = _family(
    "counter multiplexing_alone_total Statements that were not shared, by the reason."
)
TRACED: Final = _family(
    "counter traced_statements_total Traced statements, by what has become of them."
)
BUILD_INFO: Final = _family("gauge build_info The version that runs.")

HISTOGRAMS: Final = {
    "query_seconds": "How long statements took at their server, less the stalls.",
    "query_wait_seconds": "How long statements waited for a server that had to.",
    "query_stall_seconds": "How long clients did not take an answer that did not at once.",
    "transaction_seconds": "How long transactions took.",
    "login_seconds": "How long clients took to log in.",
    "event_loop_delay_seconds": "How late was what was due at a time.",
}
"""Names of histograms, without what all begin with, and what they mean."""
