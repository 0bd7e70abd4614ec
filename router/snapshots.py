"""Frozen snapshots of what there is: the rows that the admin database and the metrics show."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .hosts import HostSnapshot, PatroniSnapshot
    from .listeners import HubSnapshot, ListenerSnapshot
    from .multiplexing import MultiplexingSnapshot
    from .protocol.features import FeatureSnapshot
    from .protocol.prepared import PreparedSnapshot
    from .stats import Averages
    from .traces import TracesSnapshot
    from .two_phase import TwoPhaseSnapshot

_SECOND: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class TimeoutSnapshot:
    """A row of SHOW TIMEOUTS: what the clients concerned are told, and how many were."""

    kind: str
    key: str
    sqlstate: str
    total: int


@dataclass(frozen=True, slots=True)
class LimitSnapshot:
    """A row of SHOW LIMITS.

    Attributes:
        key, name: the setting, and whom or what it limits; "" for the router as a whole.
        value, used: 0 is no limit; and what there is of that now.
        waiting, refused: pools or clients that wait for some; clients it has turned away.
        evictions: connections that were closed to make room for others.
    """

    key: str
    name: str
    value: int
    used: int
    waiting: int = 0
    refused: int = 0
    evictions: int = 0


@dataclass(frozen=True, slots=True)
class PeerSnapshot:
    """A row of SHOW PEERS and SHOW PEER_POOLS: another process of the group.

    Attributes:
        pool_size: cancel requests that may be on their way to it at a time.
        active, waiting: those that are, and those that wait for that.
        connecting: of the active ones, those that have not reached it yet.
        passed_on, failed, dropped: those that it has had, that it has not, and that there
            were too many of.
    """

    peer_id: int
    host: str
    port: int
    pool_size: int
    active: int
    waiting: int
    connecting: int
    passed_on: int
    failed: int
    dropped: int


@dataclass(frozen=True, slots=True)
class PoolSnapshot:
    """A row of SHOW POOLS: one (database, user) pair. `maxwait_us` is the whole wait."""

    database: str
    user: str
    pool_mode: str
    cl_idle: int
    cl_active: int
    cl_waiting: int
    cl_cancel_req: int
    sv_active: int
    sv_idle: int
    sv_used: int
    sv_tested: int
    sv_login: int
    maxwait_us: int
    paused: bool
    held_by: str

    @property
    def maxwait(self) -> int:
        """The whole seconds of the wait."""
        return self.maxwait_us // _SECOND

    @property
    def maxwait_rest(self) -> int:
        """What is left of it, in microseconds."""
        return self.maxwait_us % _SECOND


@dataclass(frozen=True, slots=True)
class AddressSnapshot:
    """One server of one shard of one pool: SHOW DATABASES, SHOW STATS and the metrics."""

    name: str
    pool: str
    user: str
    host: str
    port: int
    database: str
    shard: int
    index: int
    role: str
    pool_mode: str
    pool_size: int
    min_pool_size: int
    current_connections: int
    sv_idle: int
    sv_active: int
    sv_tested: int
    sv_login: int
    paused: bool
    banned: bool
    xact_count: int
    query_count: int
    received: int
    sent: int
    xact_time: int
    query_time: int
    wait_time: int
    errors: int
    average: Averages
    reserve_pool_size: int = 0
    max_db_connections: int = 0
    max_db_client_connections: int = 0


@dataclass(frozen=True, slots=True)
class RoutingSnapshot:
    """A row of SHOW ROUTING: what the router of one pool knows about statements.

    Attributes:
        texts, fingerprints: that are remembered, in `bytes`.
        hits, fingerprint_hits, misses: look-ups of a known text, a new text of a known
            fingerprint, and a new fingerprint.
        tables, functions: that have been learned from servers.
        too_complex: statements that nobody has looked at all of.
        decisions: how often it has decided what, by the name of the column.
        retried_reads: statements that were sent again, their server being lost.
        prepared_anew: statements that were prepared again, their columns being others.
        reads_waited, reads_to_primary: reads that waited for a replica to have what their
            client has written, and those that went to the primary for that.
    """

    database: str
    user: str
    texts: int
    fingerprints: int
    bytes: int
    hits: int
    fingerprint_hits: int
    misses: int
    tables: int
    functions: int
    too_complex: int
    decisions: Mapping[str, int] = field(default_factory=dict)
    retried_reads: int = 0
    prepared_anew: int = 0
    reads_waited: int = 0
    reads_to_primary: int = 0

    @property
    def refused(self) -> int:
        """Statements that were given no place."""
        return sum(n for name, n in self.decisions.items() if name.startswith("refused_"))

    @property
    def without_key(self) -> int:
        """Statements on sharded tables that went to default_shard for want of a key."""
        return self.decisions.get("without_key", 0)

    @property
    def hit_rate(self) -> str:
        """The part of the look-ups that found the text itself."""
        looked_up = self.hits + self.fingerprint_hits + self.misses
        return f"{self.hits / max(looked_up, 1):.3f}"


@dataclass(frozen=True, slots=True)
class ClientSnapshot:
    """A row of SHOW CLIENTS.

    Attributes:
        maxwait_us: the longest single wait of its life.
        activity: its state as PostgreSQL would call it.
        server_id, server_pid: of the connection that it has.
        replication: "logical", "physical" or "none", as PgBouncer has it.
        xact_us: for how long its transaction has been open.
        wait_us: how long it has been waiting for a server.
        statements: that it has prepared.
        fd: of its connection.
        pinned: what it keeps its server for, and for how long that has been so, in
            microseconds.
    """

    client_id: int
    database: str
    user: str
    application_name: str
    state: str
    addr: str
    tls: str
    transaction_count: int
    query_count: int
    error_count: int
    age_seconds: int
    maxwait_us: int
    activity: str = "idle"
    server_id: int | None = None
    server_pid: int | None = None
    replication: str = "none"
    xact_us: int = 0
    wait_us: int = 0
    statements: int = 0
    pinned: str = ""
    pinned_us: int = 0
    fd: int = -1


@dataclass(frozen=True, slots=True)
class ServerSnapshot:
    """A row of SHOW SERVERS: one connection to a server.

    Attributes:
        activity, xact_us, client_id: of the client that has it.
        close_needed: it is closed when it is released.
        fd: of the connection.
        replication: as in `ClientSnapshot`.
    """

    server_id: int
    pool: str
    user: str
    address: str
    application_name: str
    state: str
    pid: int
    tls: str
    transaction_count: int
    query_count: int
    bytes_sent: int
    bytes_received: int
    age_seconds: int
    prepare_cache_hit: int
    prepare_cache_miss: int
    prepare_cache_eviction: int
    prepare_cache_size: int
    host: str = ""
    port: int = 0
    activity: str = "idle"
    client_id: int | None = None
    xact_us: int = 0
    close_needed: bool = False
    fd: int = -1
    replication: str = "none"
    ip: str = ""

    @property
    def addr(self) -> str:
        """Where it really leads to: an address, or the directory of a Unix socket."""
        return self.ip or self.host


@dataclass(frozen=True, slots=True)
class ShardedSnapshot:
    """A row of SHOW SHARDED_TABLES.

    Attributes:
        schema, name: "" stands for any schema, "*" for any name.
        kind: what the server says that it is, or the setting that names it.
        key: its sharding key, or "".
    """

    database: str
    user: str
    schema: str
    name: str
    kind: str
    key: str


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """A row of SHOW HEALTH: one server, whatever pools use it.

    Attributes:
        condition: "up", "suspect" or "down"; `since_seconds` ago it became so.
        cause: what is the matter, or "".
        banned: "no", "failed" or "admin"; for so many seconds more, -1 for ever.
        attempts: to connect to it and to check it, that have failed since it was up.
        checked_seconds: how long ago the last check ended; -1 if there was none.
        check_time_us: how long that took.
        recovery: "primary", "standby" or "", as it has told.
        timeline: of a primary.
        lag_bytes, lag_us: how far it is behind as a replica; -1 if nobody knows.
        paused: an administrator has taken it out of service.
    """

    host: str
    port: int
    condition: str
    since_seconds: int
    cause: str
    banned: str
    ban_reason: str
    ban_seconds: int
    attempts: int
    checks: int
    failed_checks: int
    checked_seconds: int
    check_time_us: int
    recovery: str
    timeline: int
    lag_bytes: int
    lag_us: int
    paused: bool = False

    @property
    def is_up(self) -> bool:
        """Whether the server answers."""
        return self.condition == "up"

    @property
    def is_banned(self) -> bool:
        """Whether it is left out as a replica."""
        return self.banned != "no"


@dataclass(frozen=True, slots=True)
class BanSnapshot:
    """A row of SHOW BANS: a server that is left out as a replica, for one pool.

    Attributes:
        kind: "admin"; "failed": the server has; "refused": it does not want the user.
        since: when it began, in seconds of the Unix epoch.
        duration, remaining: in seconds, which may be math.inf.
    """

    pool: str
    user: str
    role: str
    host: str
    port: int
    kind: str
    reason: str
    since: float
    duration: float
    remaining: float


@dataclass(frozen=True, slots=True)
class QuerySnapshot:
    """A row of SHOW QUERIES. Times are in microseconds.

    Attributes:
        identifier, kind, query: of the fingerprint; "" and "(others)" of the rows that
            there is no room for.
        errors: how often which SQLSTATE was the answer.
        waits, times, stalls: the median, and what 95 and 99 of 100 did not exceed.
    """

    database: str
    user: str
    shard: int
    role: str
    identifier: str
    kind: str
    query: str
    calls: int
    errors: Mapping[str, int]
    rows: int
    size: int
    wait_time: int
    waits: tuple[int, int, int]
    time: int
    times: tuple[int, int, int]
    stall_time: int
    stalls: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class TransactionSnapshot:
    """A row of SHOW TRANSACTIONS.

    Attributes:
        address: of the server.
        state: as PostgreSQL calls it; `state_us` ago it became so.
        xact_us, statements: for how long it has been open; what has been answered in it.
        identifier, kind, query: of the statement that it runs, or of the last one.
        writes: it has surely written.
        snapshot: what it has one for: a statement, the transaction, or nothing known: "".
    """

    client_id: int
    database: str
    user: str
    application_name: str
    addr: str
    server_id: int
    server_pid: int
    address: str
    state: str
    state_us: int
    xact_us: int
    statements: int
    identifier: str
    kind: str
    query: str
    writes: bool
    snapshot: str


@dataclass(frozen=True, slots=True)
class ErrorSnapshot:
    """A row of SHOW ERRORS.

    Attributes:
        database, user: "" of those who were not logged in.
        source: "server" or "router".
        last: when it was the last time, in seconds of the Unix epoch.
        message: the router's own, without values.
    """

    database: str
    user: str
    source: str
    sqlstate: str
    count: int
    last: float
    message: str


@dataclass(frozen=True, slots=True)
class HistogramSnapshot:
    """A histogram of times.

    Attributes:
        name, labels: of what, and whose.
        counts: of each bucket, see `histograms`.
        total: all times together, in seconds.
    """

    name: str
    labels: Mapping[str, str]
    counts: tuple[int, ...]
    total: float


class View(Protocol):
    """Where the admin database and the metrics read from."""

    def listening(self) -> list[tuple[int, str, int]]:
        """Where clients come in: descriptor, address, port; 0 of a Unix socket."""

    def pools(self) -> list[PoolSnapshot]:
        """All pools, in the order of the configuration."""

    def addresses(self) -> list[AddressSnapshot]:
        """All servers of all shards of all pools."""

    def each_client(self) -> Iterator[ClientSnapshot]:
        """All clients that are logged in, those of the admin database included.

        Each is made when it is asked for: to make all of them at once may take too long.
        """

    def servers(self) -> list[ServerSnapshot]:
        """All connections to servers."""

    def health(self) -> list[HealthSnapshot]:
        """How all servers are."""

    def listeners(self) -> list[ListenerSnapshot]:
        """The channels that clients listen to by a connection that they share."""

    def hubs(self) -> list[HubSnapshot]:
        """The same, for each shard in all."""

    def hosts(self) -> list[HostSnapshot]:
        """The hosts of servers that have been looked up."""

    def patroni(self) -> list[PatroniSnapshot]:
        """What Patroni has told of which cluster."""

    def two_phase(self) -> list[TwoPhaseSnapshot]:
        """Each prepared transaction that was left, of each pool."""

    def bans(self) -> list[BanSnapshot]:
        """Which servers are left out, pool by pool."""

    def sharded(self) -> list[ShardedSnapshot]:
        """What the routers of all pools take for sharded."""

    def timeouts(self) -> list[TimeoutSnapshot]:
        """How often which time limit has ended something."""

    def prepared(self) -> list[PreparedSnapshot]:
        """What servers have of prepared statements, pool by pool."""

    def features(self) -> list[FeatureSnapshot]:
        """SHOW SESSION_FEATURES."""

    def peers(self) -> list[PeerSnapshot]:
        """The other processes of the group."""

    def limits(self) -> list[LimitSnapshot]:
        """What is limited, and how much of it there is."""

    def transactions(self) -> list[TransactionSnapshot]:
        """Those that are open, the oldest first."""

    def traces(self) -> TracesSnapshot | None:
        """What has become of traced statements; None if none are noted."""

    def histograms(self) -> list[HistogramSnapshot]:
        """The times of what clients did."""

    def errors(self) -> list[ErrorSnapshot]:
        """What clients were answered with, the most frequent first."""

    def queries(self) -> Iterator[QuerySnapshot]:
        """What has become of statements, by fingerprint, each made when it is asked for."""

    def multiplexing(self) -> list[MultiplexingSnapshot]:
        """What clients share, server by server."""

    def routing(self) -> list[RoutingSnapshot]:
        """What the routers of all pools know, in the order of the configuration."""
