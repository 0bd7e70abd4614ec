"""The tables of the admin database: columns, and how their values come out of snapshots.

The first columns of each table are PgCat's, in PgCat's order and types; columns that PgCat does
not have come after them, so that whatever reads by position goes on to work.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from .. import __version__
from ..multiplexing import REASONS
from ..protocol.messages import INT4_OID, NUMERIC_OID, TEXT_OID
from ..routing.tallies import NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from ..hosts import PatroniSnapshot
    from ..listeners import ListenerSnapshot
    from ..multiplexing import MultiplexingSnapshot
    from ..protocol.features import FeatureSnapshot
    from ..protocol.prepared import PreparedSnapshot
    from ..snapshots import (
        AddressSnapshot,
        ClientSnapshot,
        HealthSnapshot,
        LimitSnapshot,
        PoolSnapshot,
        RoutingSnapshot,
        ServerSnapshot,
        ShardedSnapshot,
        TimeoutSnapshot,
        View,
    )
    from ..two_phase import TwoPhaseSnapshot

S = TypeVar("S")

PRODUCT: Final = f"PgCat {__version__}"
"""What SHOW VERSION says."""

Value = str | int | None
Row = tuple[Value, ...]

_SECOND: Final = 1_000_000
# PgCat tells the times of queries in milliseconds, but waits in microseconds.
_MILLISECOND: Final = 1000


class Heading(NamedTuple):
    """A column as clients see it: a pair, as all that describes columns takes them."""

    name: str
    oid: int


@dataclass(frozen=True, slots=True)
class Column(Generic[S]):
    """A column, and the function that finds its value in a snapshot."""

    heading: Heading
    value: Callable[[S], Value]


@dataclass(frozen=True, slots=True)
class ConfigRow:
    """A row of SHOW CONFIG."""

    key: str
    value: str
    default: str
    changeable: bool


@dataclass(frozen=True, slots=True)
class ListRow:
    """A row of SHOW LISTS."""

    name: str
    items: int


def text(name: str, value: Callable[[S], str | None]) -> Column[S]:
    """A column of type text."""
    return Column(Heading(name, TEXT_OID), value)


def int4(name: str, value: Callable[[S], int | None]) -> Column[S]:
    """A column of type int4."""
    return Column(Heading(name, INT4_OID), value)


def numeric(name: str, value: Callable[[S], int | None]) -> Column[S]:
    """A column of type numeric, whose values are whole all the same."""
    return Column(Heading(name, NUMERIC_OID), value)


def headings(columns: Iterable[Column[S]]) -> tuple[Heading, ...]:
    """What RowDescription tells."""
    return tuple(column.heading for column in columns)


def rows(columns: Sequence[Column[S]], snapshots: Iterable[S | None]) -> Iterator[Row | None]:
    """One row for each snapshot, in their order, made when it is asked for; None stays None."""
    for snapshot in snapshots:
        yield None if snapshot is None else tuple(column.value(snapshot) for column in columns)


def counted(
    view: View, key: Callable[[ClientSnapshot], str]
) -> Generator[None, None, Counter[str]]:
    """Count the clients by something, with a pause after each: there may be thousands."""
    counts: Counter[str] = Counter()
    for client in view.each_client():
        counts[key(client)] += 1
        yield None
    return counts


def identifier(number: int) -> str:
    """A number as PgCat writes those of clients and servers."""
    return f"0x{number:08X}"


def _linked(number: int | None) -> str | None:
    return None if number is None else identifier(number)


POOLS: Final[tuple[Column[PoolSnapshot], ...]] = (
    text("database", lambda pool: pool.database),
    text("user", lambda pool: pool.user),
    text("pool_mode", lambda pool: pool.pool_mode),
    numeric("cl_idle", lambda pool: pool.cl_idle),
    numeric("cl_active", lambda pool: pool.cl_active),
    numeric("cl_waiting", lambda pool: pool.cl_waiting),
    numeric("cl_cancel_req", lambda pool: pool.cl_cancel_req),
    numeric("sv_active", lambda pool: pool.sv_active),
    numeric("sv_idle", lambda pool: pool.sv_idle),
    numeric("sv_used", lambda pool: pool.sv_used),
    numeric("sv_tested", lambda pool: pool.sv_tested),
    numeric("sv_login", lambda pool: pool.sv_login),
    numeric("maxwait", lambda pool: pool.maxwait),
    numeric("maxwait_us", lambda pool: pool.maxwait_rest),
    int4("paused", lambda pool: pool.paused),
    text("held_by", lambda pool: pool.held_by),
)

DATABASES: Final[tuple[Column[AddressSnapshot], ...]] = (
    text("name", lambda address: address.name),
    text("host", lambda address: address.host),
    text("port", lambda address: str(address.port)),
    text("database", lambda address: address.database),
    text("force_user", lambda address: address.user),
    int4("pool_size", lambda address: address.pool_size),
    int4("min_pool_size", lambda address: address.min_pool_size),
    int4("reserve_pool", lambda address: address.reserve_pool_size),
    text("pool_mode", lambda address: address.pool_mode),
    int4("max_connections", lambda address: address.pool_size),
    int4("current_connections", lambda address: address.current_connections),
    int4("paused", lambda address: address.paused),
    int4("disabled", lambda address: address.banned),
    text("pool", lambda address: address.pool),
    int4("shard", lambda address: address.shard),
    text("role", lambda address: address.role),
)

STATS: Final[tuple[Column[AddressSnapshot], ...]] = (
    text("instance", lambda address: address.name),
    text("database", lambda address: address.pool),
    text("user", lambda address: address.user),
    numeric("total_xact_count", lambda address: address.xact_count),
    numeric("total_query_count", lambda address: address.query_count),
    numeric("total_received", lambda address: address.received),
    numeric("total_sent", lambda address: address.sent),
    numeric("total_xact_time", lambda address: address.xact_time // _MILLISECOND),
    numeric("total_query_time", lambda address: address.query_time // _MILLISECOND),
    numeric("total_wait_time", lambda address: address.wait_time),
    numeric("total_errors", lambda address: address.errors),
    numeric("avg_xact_count", lambda address: address.average.xact_count),
    numeric("avg_query_count", lambda address: address.average.query_count),
    numeric("avg_recv", lambda address: address.average.received),
    numeric("avg_sent", lambda address: address.average.sent),
    numeric("avg_errors", lambda address: address.average.errors),
    numeric("avg_xact_time", lambda address: address.average.xact_time // _MILLISECOND),
    numeric("avg_query_time", lambda address: address.average.query_time // _MILLISECOND),
    numeric("avg_wait_time", lambda address: address.average.wait_time),
    numeric("total_xact_time_us", lambda address: address.xact_time),
    numeric("total_query_time_us", lambda address: address.query_time),
    numeric("avg_xact_time_us", lambda address: address.average.xact_time),
    numeric("avg_query_time_us", lambda address: address.average.query_time),
)

CLIENTS: Final[tuple[Column[ClientSnapshot], ...]] = (
    text("client_id", lambda client: identifier(client.client_id)),
    text("database", lambda client: client.database),
    text("user", lambda client: client.user),
    text("application_name", lambda client: client.application_name),
    text("state", lambda client: client.state),
    numeric("transaction_count", lambda client: client.transaction_count),
    numeric("query_count", lambda client: client.query_count),
    numeric("error_count", lambda client: client.error_count),
    numeric("age_seconds", lambda client: client.age_seconds),
    numeric("maxwait", lambda client: client.maxwait_us // _SECOND),
    numeric("maxwait_us", lambda client: client.maxwait_us % _SECOND),
    text("addr", lambda client: client.addr),
    text("tls", lambda client: client.tls),
    text("activity", lambda client: client.activity),
    numeric("xact_us", lambda client: client.xact_us),
    numeric("wait_us", lambda client: client.wait_us),
    text("server_id", lambda client: _linked(client.server_id)),
    int4("server_pid", lambda client: client.server_pid),
    numeric("prepared_statements", lambda client: client.statements),
    text("pinned", lambda client: client.pinned),
    numeric("pinned_us", lambda client: client.pinned_us),
)

SERVERS: Final[tuple[Column[ServerSnapshot], ...]] = (
    text("server_id", lambda server: identifier(server.server_id)),
    text("database_name", lambda server: server.pool),
    text("user", lambda server: server.user),
    text("address_id", lambda server: server.address),
    text("application_name", lambda server: server.application_name),
    text("state", lambda server: server.state),
    numeric("transaction_count", lambda server: server.transaction_count),
    numeric("query_count", lambda server: server.query_count),
    numeric("bytes_sent", lambda server: server.bytes_sent),
    numeric("bytes_received", lambda server: server.bytes_received),
    numeric("age_seconds", lambda server: server.age_seconds),
    numeric("prepare_cache_hit", lambda server: server.prepare_cache_hit),
    numeric("prepare_cache_miss", lambda server: server.prepare_cache_miss),
    numeric("prepare_cache_eviction", lambda server: server.prepare_cache_eviction),
    numeric("prepare_cache_size", lambda server: server.prepare_cache_size),
    int4("remote_pid", lambda server: server.pid),
    text("tls", lambda server: server.tls),
    text("activity", lambda server: server.activity),
    numeric("xact_us", lambda server: server.xact_us),
    text("client_id", lambda server: _linked(server.client_id)),
    int4("close_needed", lambda server: server.close_needed),
    text("addr", lambda server: server.addr),
    int4("port", lambda server: server.port),
)


def _known(number: int) -> int | None:
    return None if number < 0 else number


PATRONI: Final[tuple[Column[PatroniSnapshot], ...]] = (
    text("database", lambda row: row.pool),
    int4("shard", lambda row: row.shard),
    text("member", lambda row: row.name or None),
    text("host", lambda row: row.host or None),
    int4("port", lambda row: row.port or None),
    text("role", lambda row: row.role or None),
    text("state", lambda row: row.state or None),
    numeric("lag_bytes", lambda row: _known(row.lag)),
    int4("used", lambda row: row.is_used),
    text("url", lambda row: row.url),
    numeric("answered_seconds", lambda row: _known(row.answered_seconds)),
    numeric("asked_seconds", lambda row: _known(row.asked_seconds)),
    text("error", lambda row: row.error),
)


def _decision(name: str) -> Column[RoutingSnapshot]:
    return numeric(name, lambda routing: routing.decisions.get(name, 0))


ROUTING: Final[tuple[Column[RoutingSnapshot], ...]] = (
    text("database", lambda routing: routing.database),
    text("user", lambda routing: routing.user),
    numeric("texts", lambda routing: routing.texts),
    numeric("fingerprints", lambda routing: routing.fingerprints),
    numeric("bytes", lambda routing: routing.bytes),
    numeric("hits", lambda routing: routing.hits),
    numeric("fingerprint_hits", lambda routing: routing.fingerprint_hits),
    numeric("misses", lambda routing: routing.misses),
    text("hit_rate", lambda routing: routing.hit_rate),
    numeric("tables", lambda routing: routing.tables),
    numeric("functions", lambda routing: routing.functions),
    numeric("too_complex", lambda routing: routing.too_complex),
    *map(_decision, NAMES),
    numeric("retried_reads", lambda routing: routing.retried_reads),
    numeric("prepared_anew", lambda routing: routing.prepared_anew),
    numeric("reads_waited", lambda routing: routing.reads_waited),
    numeric("reads_to_primary", lambda routing: routing.reads_to_primary),
)


def _alone(reason: str) -> Column[MultiplexingSnapshot]:
    return numeric(reason, lambda row: row.alone.get(reason, 0))


MULTIPLEXING: Final[tuple[Column[MultiplexingSnapshot], ...]] = (
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    text("address", lambda row: row.address),
    text("multiplexing", lambda row: "reads" if row.is_on else "off"),
    numeric("depth", lambda row: row.depth),
    numeric("shared", lambda row: row.shared),
    numeric("moved", lambda row: row.moved),
    numeric("deepest", lambda row: row.deepest),
    *map(_alone, REASONS),
    numeric("under_way", lambda row: row.under_way),
)

SHARDED_TABLES: Final[tuple[Column[ShardedSnapshot], ...]] = (
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    text("schema", lambda row: row.schema),
    text("name", lambda row: row.name),
    text("kind", lambda row: row.kind),
    text("key", lambda row: row.key),
)

REPLICATION: Final[tuple[Column[HealthSnapshot], ...]] = (
    text("host", lambda server: server.host),
    int4("port", lambda server: server.port),
    text("role", lambda server: server.recovery),
    text("condition", lambda server: server.condition),
    numeric("timeline", lambda server: server.timeline),
    numeric("lag_bytes", lambda server: server.lag_bytes),
    numeric("lag_us", lambda server: server.lag_us),
    numeric("checked_seconds", lambda server: server.checked_seconds),
)

HEALTH: Final[tuple[Column[HealthSnapshot], ...]] = (
    text("host", lambda server: server.host),
    int4("port", lambda server: server.port),
    text("condition", lambda server: server.condition),
    numeric("since_seconds", lambda server: server.since_seconds),
    text("cause", lambda server: server.cause),
    text("banned", lambda server: server.banned),
    text("ban_reason", lambda server: server.ban_reason),
    numeric("ban_seconds", lambda server: server.ban_seconds),
    numeric("attempts", lambda server: server.attempts),
    numeric("checks", lambda server: server.checks),
    numeric("failed_checks", lambda server: server.failed_checks),
    numeric("checked_seconds", lambda server: server.checked_seconds),
    numeric("check_time_us", lambda server: server.check_time_us),
    text("recovery", lambda server: server.recovery),
    numeric("timeline", lambda server: server.timeline),
    numeric("lag_bytes", lambda server: server.lag_bytes),
    numeric("lag_us", lambda server: server.lag_us),
    int4("paused", lambda server: server.paused),
)

TWO_PHASE: Final[tuple[Column[TwoPhaseSnapshot], ...]] = (
    text("database", lambda row: row.pool),
    text("user", lambda row: row.user),
    int4("shard", lambda row: row.shard),
    text("gid", lambda row: row.gid),
    numeric("age_seconds", lambda row: row.age_seconds),
    text("state", lambda row: row.state),
)

LIMITS: Final[tuple[Column[LimitSnapshot], ...]] = (
    text("limit", lambda row: row.key),
    text("name", lambda row: row.name),
    numeric("value", lambda row: row.value),
    numeric("used", lambda row: row.used),
    numeric("waiting", lambda row: row.waiting),
    numeric("refused", lambda row: row.refused),
    numeric("evictions", lambda row: row.evictions),
)

SESSION_FEATURES: Final[tuple[Column[FeatureSnapshot], ...]] = (
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    text("application_name", lambda row: row.application),
    text("feature", lambda row: row.feature),
    text("transaction_mode", lambda row: row.transaction_mode),
    numeric("uses", lambda row: row.uses),
    numeric("used_seconds", lambda row: None if row.age is None else int(row.age)),
    numeric("pins", lambda row: row.pins),
    numeric("pinned", lambda row: row.pinned),
    numeric("longest_pin_us", lambda row: int(row.longest * _SECOND)),
    numeric("refused", lambda row: row.refused),
)

PREPARED: Final[tuple[Column[PreparedSnapshot], ...]] = (
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    numeric("statements", lambda row: row.statements),
    numeric("capacity", lambda row: row.capacity),
    numeric("prepared", lambda row: row.prepared),
    numeric("hits", lambda row: row.hits),
    numeric("misses", lambda row: row.misses),
    numeric("evictions", lambda row: row.evictions),
    text("hit_rate", lambda row: row.hit_rate),
)

LISTENERS: Final[tuple[Column[ListenerSnapshot], ...]] = (
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    numeric("shard", lambda row: row.shard),
    text("channel", lambda row: row.channel),
    numeric("listeners", lambda row: row.listeners),
    numeric("received", lambda row: row.received),
    numeric("dropped", lambda row: row.dropped),
    text("state", lambda row: row.state),
    text("server", lambda row: row.server),
    numeric("server_pid", lambda row: row.pid or None),
    numeric("reconnects", lambda row: row.reconnects),
)

TIMEOUTS: Final[tuple[Column[TimeoutSnapshot], ...]] = (
    text("kind", lambda row: row.kind),
    text("key", lambda row: row.key),
    text("sqlstate", lambda row: row.sqlstate),
    numeric("total", lambda row: row.total),
)

USERS: Final[tuple[Column[PoolSnapshot], ...]] = (
    text("name", lambda pool: pool.user),
    text("pool_mode", lambda pool: pool.pool_mode),
    text("database", lambda pool: pool.database),
)

LISTS: Final[tuple[Column[ListRow], ...]] = (
    text("list", lambda row: row.name),
    int4("items", lambda row: row.items),
)

CONFIG: Final[tuple[Column[ConfigRow], ...]] = (
    text("key", lambda row: row.key),
    text("value", lambda row: row.value),
    text("default", lambda row: row.default),
    text("changeable", lambda row: "yes" if row.changeable else "no"),
)

VERSION: Final[tuple[Column[str], ...]] = (text("version", lambda version: version),)

SHUTDOWN: Final[tuple[Column[bool], ...]] = (
    text("success", lambda success: "t" if success else "f"),
)


def lists(view: View) -> Iterator[ListRow | None]:
    """How much there is of everything.

    The admin database and its user count as one each, which is where the ones come from.
    """
    states = yield from counted(view, lambda client: client.state)
    pools, addresses = view.pools(), view.addresses()
    yield from (
        ListRow("databases", len(addresses) + 1),
        ListRow("users", len(pools) + 1),
        ListRow("pools", len(addresses) + 1),
        ListRow("free_clients", states["idle"]),
        ListRow("used_clients", states["active"]),
        ListRow("login_clients", 0),
        ListRow("free_servers", sum(address.sv_idle for address in addresses)),
        ListRow("used_servers", sum(address.sv_active for address in addresses)),
        ListRow("dns_names", len(view.hosts())),
        ListRow("dns_zones", 0),
        ListRow("dns_queries", 0),
        ListRow("dns_pending", 0),
        ListRow("waiting_clients", states["waiting"]),
    )
