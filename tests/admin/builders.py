"""A view with snapshots made by hand, a link that only remembers, and a client for both."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from router.admin.console import AdminSession
from router.admin.verbs import Verbs
from router.engine.link import Output
from router.histograms import BOUNDS
from router.hosts import HostSnapshot, PatroniSnapshot
from router.listeners import HubSnapshot, ListenerSnapshot
from router.multiplexing import MultiplexingSnapshot
from router.pool.planning import ReloadPlan
from router.pool.registry import PoolRegistry
from router.protocol import messages
from router.protocol.features import FeatureSnapshot
from router.protocol.messages import parse_error_fields
from router.protocol.prepared import PreparedSnapshot
from router.session.clients import Clients
from router.snapshots import (
    AddressSnapshot,
    BanSnapshot,
    ClientSnapshot,
    ErrorSnapshot,
    HealthSnapshot,
    HistogramSnapshot,
    LimitSnapshot,
    PeerSnapshot,
    PoolSnapshot,
    QuerySnapshot,
    RoutingSnapshot,
    ServerSnapshot,
    ShardedSnapshot,
    TimeoutSnapshot,
    TransactionSnapshot,
)
from router.stats import Averages
from router.traces import TracesSnapshot
from router.two_phase import TwoPhaseSnapshot
from tests.support.harness import FakeEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from router.admin.show import ConfigRow
    from router.errors import RouterError
    from router.pool.address_pool import AddressPool
    from router.pool.server import ServerConnection
    from router.protocol.variables import Variables

POOL = PoolSnapshot(
    database="app",
    user="ann",
    pool_mode="transaction",
    cl_idle=1,
    cl_active=2,
    cl_waiting=3,
    cl_cancel_req=4,
    sv_active=5,
    sv_idle=6,
    sv_used=7,
    sv_tested=8,
    sv_login=9,
    maxwait_us=2_345_678,
    paused=True,
    held_by="db1: 1 of 1",
)

ADDRESS = AddressSnapshot(
    name="app_shard_0_primary",
    pool="app",
    user="ann",
    host="db1",
    port=5433,
    database="app0",
    shard=0,
    index=0,
    role="primary",
    pool_mode="transaction",
    pool_size=20,
    min_pool_size=2,
    current_connections=11,
    sv_idle=6,
    sv_active=5,
    sv_tested=1,
    sv_login=3,
    paused=False,
    banned=True,
    xact_count=100,
    query_count=200,
    received=300_000,
    sent=40_000,
    xact_time=5_000_999,
    query_time=600_999,
    wait_time=7000,
    errors=8,
    average=Averages(
        xact_count=11,
        query_count=12,
        received=13,
        sent=14,
        errors=15,
        xact_time=16_999,
        query_time=17_999,
        wait_time=18,
    ),
)

CLIENT = ClientSnapshot(
    client_id=0xBEEF,
    database="app",
    user="ann",
    application_name="web",
    state="idle",
    addr="10.0.0.7:4711",
    tls="TLSv1.3",
    transaction_count=4,
    query_count=7,
    error_count=1,
    age_seconds=61,
    maxwait_us=1_500_000,
    activity="idle in transaction",
    server_id=0x1A,
    server_pid=4242,
    xact_us=5,
    wait_us=6,
    statements=7,
    pinned="LISTEN",
    pinned_us=8,
    fd=11,
)

SERVER = ServerSnapshot(
    server_id=0x1A,
    pool="app",
    user="ann",
    address="app_shard_0_primary",
    application_name="web",
    state="active",
    pid=4242,
    tls="",
    transaction_count=9,
    query_count=10,
    bytes_sent=11,
    bytes_received=12,
    age_seconds=13,
    prepare_cache_hit=14,
    prepare_cache_miss=15,
    prepare_cache_eviction=16,
    prepare_cache_size=17,
    host="db1",
    port=5433,
    activity="idle in transaction",
    client_id=0xBEEF,
    xact_us=5,
    close_needed=True,
    fd=12,
    ip="10.0.0.1",
)


ROUTING = RoutingSnapshot(
    database="app",
    user="ann",
    texts=1,
    fingerprints=2,
    bytes=3,
    hits=994,
    fingerprint_hits=4,
    misses=2,
    tables=5,
    functions=6,
    too_complex=7,
    decisions={"by_key": 7, "refused_no_key": 8},
    retried_reads=9,
    prepared_anew=10,
    reads_waited=11,
    reads_to_primary=12,
)

MULTIPLEXING = MultiplexingSnapshot(
    "app",
    "ann",
    "app_shard_0_primary",
    is_on=True,
    depth=8,
    shared=1,
    moved=2,
    deepest=3,
    under_way=7,
    alone={"no_room": 4, "not_a_read": 5, "state": 6},
)

HEALTH = HealthSnapshot(
    host="db2",
    port=5432,
    condition="down",
    since_seconds=12,
    cause="connection refused",
    banned="failed",
    ban_reason="refused",
    ban_seconds=48,
    attempts=3,
    checks=40,
    failed_checks=5,
    checked_seconds=1,
    check_time_us=1234,
    recovery="standby",
    timeline=0,
    lag_bytes=1000,
    lag_us=2500,
)

TWO_PHASE = TwoPhaseSnapshot("app", "ann", 1, "pgcat_7_16384_00000001_742_1", 12, "in progress")
SHARDED = ShardedSnapshot("app", "ann", "public", "events", "table", "id")


BAN = BanSnapshot(
    pool="app",
    user="ann",
    role="replica",
    host="db2",
    port=5432,
    kind="admin",
    reason="AdminBan(60)",
    since=1_767_225_600.25,
    duration=60.0,
    remaining=47.1,
)

DNS_HOST = HostSnapshot(
    "db.test", ("10.0.0.1", "10.0.0.2"), ("10.0.0.2",), {"10.0.0.1": 3, "10.0.0.9": 1}
)

QUERY = QuerySnapshot(
    database="app",
    user="ann",
    shard=1,
    role="replica",
    identifier="c148796e1220075a",
    kind="SELECT",
    query="SELECT ?",
    calls=100,
    errors={"22012": 1, "57014": 2},
    rows=200,
    size=3000,
    wait_time=40,
    waits=(1, 2, 3),
    time=50,
    times=(4, 5, 6),
    stall_time=60,
    stalls=(7, 8, 9),
)

TRANSACTION = TransactionSnapshot(
    client_id=0xBEEF,
    database="app",
    user="ann",
    application_name="web",
    addr="10.0.0.7:4711",
    server_id=0x1A,
    server_pid=4242,
    address="app_shard_0_primary",
    state="idle in transaction",
    state_us=1000,
    xact_us=2000,
    statements=3,
    identifier="c148796e1220075a",
    kind="SELECT",
    query="SELECT ?",
    writes=True,
    snapshot="transaction",
)

FEATURE = FeatureSnapshot(
    "app", "ann", "web", "LISTEN", "keeps the server", 5, 7.9, 3, 1, 2.5, 4
)
LISTENER = ListenerSnapshot(
    "app", "ann", 1, "jobs", 12, 3400, 2, "listening", "db1:5432", 4711, 3
)
HUB = HubSnapshot("app", "ann", 1, 2, 12, 3500, 4, is_up=True, reconnects=5)
ERROR = ErrorSnapshot(
    "app", "ann", "router", "3D000", 7, 1_767_225_600.25, "No pool configured for database: ?"
)

_PLACE = {"pool": "app", "user": "ann", "shard": "0", "role": "primary"}
HISTOGRAMS = [
    HistogramSnapshot(name, labels, (0, 3, 0, 2, *[0] * (len(BOUNDS) - 4), 1), 71.5)
    for name, labels in (
        ("query_seconds", _PLACE),
        ("query_wait_seconds", _PLACE),
        ("query_stall_seconds", _PLACE),
        ("transaction_seconds", _PLACE),
        ("login_seconds", dict[str, str]()),
        ("event_loop_delay_seconds", dict[str, str]()),
    )
]

PATRONI = PatroniSnapshot(
    pool="app",
    shard=1,
    name="pg0",
    host="db1",
    port=5432,
    role="leader",
    state="running",
    lag=-1,
    is_used=True,
    url="http://db1:8008",
    answered_seconds=3,
    asked_seconds=1,
    error="http://db1:8008: it did not answer in time",
)

PEER = PeerSnapshot(2, "/run/two", 6432, 20, 5, 4, 2, 77, 8, 9)
LIMIT = LimitSnapshot("max_db_connections", "app db1:5432", 20, 19, 1, 4, 7)

TIMEOUT = TimeoutSnapshot("query", "query_timeout", "57014", 3)


@dataclass
class FakeView:
    """Snapshots that a test has put together."""

    pool_rows: list[PoolSnapshot] = field(default_factory=lambda: [POOL])
    address_rows: list[AddressSnapshot] = field(default_factory=lambda: [ADDRESS])
    client_rows: list[ClientSnapshot] = field(default_factory=lambda: [CLIENT])
    server_rows: list[ServerSnapshot] = field(default_factory=lambda: [SERVER])
    routing_rows: list[RoutingSnapshot] = field(default_factory=lambda: [ROUTING])
    multiplexing_rows: list[MultiplexingSnapshot] = field(
        default_factory=lambda: [MULTIPLEXING]
    )
    health_rows: list[HealthSnapshot] = field(default_factory=lambda: [HEALTH])
    ban_rows: list[BanSnapshot] = field(default_factory=lambda: [BAN])
    limit_rows: list[LimitSnapshot] = field(default_factory=lambda: [LIMIT])
    timeout_rows: list[TimeoutSnapshot] = field(default_factory=lambda: [TIMEOUT])
    two_phase_rows: list[TwoPhaseSnapshot] = field(default_factory=lambda: [TWO_PHASE])
    sharded_rows: list[ShardedSnapshot] = field(default_factory=lambda: [SHARDED])
    host_rows: list[HostSnapshot] = field(default_factory=lambda: [DNS_HOST])
    histogram_rows: list[HistogramSnapshot] = field(default_factory=lambda: HISTOGRAMS)
    patroni_rows: list[PatroniSnapshot] = field(default_factory=lambda: [PATRONI])
    transaction_rows: list[TransactionSnapshot] = field(default_factory=lambda: [TRANSACTION])
    prepared_rows: list[PreparedSnapshot] = field(
        default_factory=lambda: [PreparedSnapshot("app", "ann", 7, 500, 21, 99, 1, 3)]
    )
    feature_rows: list[FeatureSnapshot] = field(default_factory=lambda: [FEATURE])
    listener_rows: list[ListenerSnapshot] = field(default_factory=lambda: [LISTENER])
    hub_rows: list[HubSnapshot] = field(default_factory=lambda: [HUB])
    traced: TracesSnapshot | None = TracesSnapshot(sent=30, failed=2, dropped=1)  # noqa: RUF009
    error_rows: list[ErrorSnapshot] = field(default_factory=lambda: [ERROR])
    query_rows: list[QuerySnapshot] = field(default_factory=lambda: [QUERY])
    peer_rows: list[PeerSnapshot] = field(default_factory=lambda: [PEER])

    def listening(self) -> list[tuple[int, str, int]]:
        """Where clients come in."""
        return [(5, "0.0.0.0", 6432), (6, "/run/pgcat/.s.PGSQL.6432", 0)]

    def pools(self) -> list[PoolSnapshot]:
        """The pools."""
        return self.pool_rows

    def addresses(self) -> list[AddressSnapshot]:
        """The addresses."""
        return self.address_rows

    def each_client(self) -> Iterator[ClientSnapshot]:
        """The clients, one by one."""
        return iter(self.client_rows)

    def health(self) -> list[HealthSnapshot]:
        """How the servers are."""
        return self.health_rows

    def hubs(self) -> list[HubSnapshot]:
        """What is listened to in each shard."""
        return self.hub_rows

    def hosts(self) -> list[HostSnapshot]:
        """The hosts."""
        return self.host_rows

    def two_phase(self) -> list[TwoPhaseSnapshot]:
        """The prepared transactions."""
        return self.two_phase_rows

    def patroni(self) -> list[PatroniSnapshot]:
        """What Patroni has told."""
        return self.patroni_rows

    def bans(self) -> list[BanSnapshot]:
        """The bans."""
        return self.ban_rows

    def sharded(self) -> list[ShardedSnapshot]:
        """What is sharded."""
        return self.sharded_rows

    def traces(self) -> TracesSnapshot | None:
        """What has become of traced statements."""
        return self.traced

    def histograms(self) -> list[HistogramSnapshot]:
        """The times of what clients did."""
        return self.histogram_rows

    def transactions(self) -> list[TransactionSnapshot]:
        """What is open."""
        return self.transaction_rows

    def prepared(self) -> list[PreparedSnapshot]:
        """What there is of prepared statements."""
        return self.prepared_rows

    def features(self) -> list[FeatureSnapshot]:
        """What clients use."""
        return self.feature_rows

    def listeners(self) -> list[ListenerSnapshot]:
        """What clients listen to."""
        return self.listener_rows

    def errors(self) -> list[ErrorSnapshot]:
        """What clients were answered with."""
        return self.error_rows

    def queries(self) -> Iterator[QuerySnapshot]:
        """What has become of statements."""
        return iter(self.query_rows)

    def peers(self) -> list[PeerSnapshot]:
        """The other processes of the group."""
        return self.peer_rows

    def limits(self) -> list[LimitSnapshot]:
        """What is limited."""
        return self.limit_rows

    def timeouts(self) -> list[TimeoutSnapshot]:
        """What time limits have ended."""
        return self.timeout_rows

    def servers(self) -> list[ServerSnapshot]:
        """The server connections."""
        return self.server_rows

    def multiplexing(self) -> list[MultiplexingSnapshot]:
        """Rows of SHOW MULTIPLEXING."""
        return self.multiplexing_rows

    def routing(self) -> list[RoutingSnapshot]:
        """What the routers know."""
        return self.routing_rows


def many_clients(count: int) -> FakeView:
    """A view whose SHOW CLIENTS is long."""
    return FakeView(client_rows=[replace(CLIENT, client_id=number) for number in range(count)])


class NoServers:
    """A connector that nobody needs."""

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        """Nothing is opened."""

    def listen(self, *_: object) -> None:
        """Nobody listens."""

    def cancel(self, server: ServerConnection) -> None:
        """Nothing is cancelled."""


def _verbs() -> Verbs:
    """What can be done to no pools and no clients."""
    engine = FakeEngine()
    return Verbs(engine, PoolRegistry(engine, NoServers(), lambda *_: None), Clients())


@dataclass
class FakeActions:
    """Notes what it was asked for; `reload_error` makes a reload fail."""

    done: list[str] = field(default_factory=list)
    verbs: Verbs = field(default_factory=_verbs)
    reload_error: RouterError | None = None

    def reload(self) -> None:
        """Note it, or fail."""
        if self.reload_error is not None:
            raise self.reload_error
        self.done.append("reload")

    def plan(self) -> ReloadPlan:
        """Nothing would happen."""
        if self.reload_error is not None:
            raise self.reload_error
        return ReloadPlan((), (), ())

    def shutdown(self, wait_for: str = "") -> None:
        """Note it."""
        self.done.append(f"shutdown {wait_for}".strip())


class FakeLink(Output):
    """Keeps what is written; above `room` bytes it is congested."""

    def __init__(self, room: int = 1 << 30) -> None:
        super().__init__()
        self.room = room
        self.out = bytearray()
        self.paused = False
        self.deferred = False

    def write(self, data: bytes) -> None:
        """Keep it."""
        assert not self.closed
        self.out += data
        self.congested = len(self.out) > self.room

    def close(self) -> None:
        """Note it."""
        self.closed = True

    def pause(self) -> None:
        """Note it."""
        self.paused = True

    def resume(self) -> None:
        """Note it."""
        self.paused = False

    def defer(self) -> None:
        """Note it."""
        self.deferred = True

    def take(self) -> bytes:
        """All that was written since the last time; there is room again."""
        data = bytes(self.out)
        self.out.clear()
        self.congested = False
        return data


@dataclass(frozen=True)
class Answer:
    """Messages from the admin database, and what they say."""

    messages: tuple[tuple[str, bytes], ...]

    @property
    def kinds(self) -> str:
        """Their type bytes."""
        return "".join(kind for kind, _ in self.messages)

    def _bodies(self, kind: str) -> list[bytes]:
        return [body for found, body in self.messages if found == kind]

    @property
    def columns(self) -> list[tuple[str, int, int]]:
        """Name, type oid and format of each column of the last RowDescription."""
        body = self._bodies("T")[-1]
        columns: list[tuple[str, int, int]] = []
        position = 2
        while position < len(body):
            end = body.index(b"\0", position)
            _table, _number, oid, _size, _modifier, fmt = struct.unpack_from(
                "!IhIhih", body, end + 1
            )
            columns.append((body[position:end].decode(), oid, fmt))
            position = end + 19
        return columns

    @property
    def raw_rows(self) -> list[list[bytes]]:
        """The values of each DataRow."""
        return [_values(body) for body in self._bodies("D")]

    @property
    def rows(self) -> list[list[str]]:
        """The same as text."""
        return [[value.decode() for value in row] for row in self.raw_rows]

    @property
    def row(self) -> dict[str, str]:
        """The only row, by column name."""
        [row] = self.rows
        return {name: value for (name, _, _), value in zip(self.columns, row, strict=True)}

    @property
    def tags(self) -> list[str]:
        """The tags of CommandComplete."""
        return [body[:-1].decode() for body in self._bodies("C")]

    @property
    def errors(self) -> list[dict[str, str]]:
        """The fields of each ErrorResponse."""
        return [parse_error_fields(body) for body in self._bodies("E")]

    @property
    def error(self) -> dict[str, str]:
        """The fields of the only one."""
        [error] = self.errors
        return error


def _values(body: bytes) -> list[bytes]:
    [count] = struct.unpack_from("!H", body)
    values: list[bytes] = []
    position = 2
    for _ in range(count):
        [size] = struct.unpack_from("!i", body, position)
        values.append(body[position + 4 : position + 4 + max(size, 0)])
        position += 4 + max(size, 0)
    assert position == len(body)
    return values


def decode(data: bytes) -> Answer:
    """Cut bytes into messages; nothing may be left."""
    found: list[tuple[str, bytes]] = []
    position = 0
    while position < len(data):
        kind, length = struct.unpack_from("!BI", data, position)
        body = data[position + 5 : position + 1 + length]
        assert len(body) == length - 4
        found.append((chr(kind), body))
        position += 1 + length
    return Answer(tuple(found))


class AdminClient:
    """A session with everything around it, and a client's end of its link."""

    def __init__(
        self,
        view: FakeView | None = None,
        *,
        settings: list[ConfigRow] | None = None,
        room: int = 1 << 30,
        may_act: bool = True,
        database: str = "pgcat",
    ) -> None:
        self.actions = FakeActions()
        self.link = FakeLink(room)
        self.ends: list[str] = []
        self.session = AdminSession(
            view or FakeView(),
            self.actions,
            settings=lambda: settings or [],
            peer="10.0.0.9:5000",
            tls="TLSv1.3",
            user="admin",
            database=database,
            application_name="psql",
            may_act=may_act,
            on_end=lambda _session, reason: self.ends.append(reason),
        )
        self.session.link = self.link

    def send(self, *parts: bytes) -> Answer:
        """Send bytes all at once; returns what came back."""
        self.feed(b"".join(parts))
        return decode(self.link.take())

    def feed(self, data: bytes) -> None:
        """Send bytes, and let the session have the turns that it asks for."""
        self.session.on_data(data)
        while self.link.deferred:
            self.link.deferred = False
            self.session.on_data(b"")

    def ask(self, sql: str) -> Answer:
        """A simple query, to which some answer and ReadyForQuery have to come."""
        answer = self.send(messages.query(sql.encode()))
        assert answer.kinds.count("Z") == 1
        assert answer.kinds.endswith("Z")
        return answer

    def prepare(self, sql: str, *formats: int, limit: int = 0) -> Answer:
        """The usual batch of the extended protocol, with unnamed statement and portal."""
        return self.send(
            parse(sql), bind(formats=formats), DESCRIBE, execute(limit=limit), messages.SYNC
        )


def _message(kind: str, *parts: bytes) -> bytes:
    return messages.message(ord(kind), b"".join(parts))


def parse(sql: str, name: str = "") -> bytes:
    """A Parse without parameter types."""
    return _message("P", name.encode(), b"\0", sql.encode(), b"\0\0\0")


def bind(portal: str = "", name: str = "", formats: tuple[int, ...] = ()) -> bytes:
    """A Bind without parameters."""
    head = portal.encode() + b"\0" + name.encode() + b"\0\0\0\0\0"
    return _message("B", head, struct.pack(f"!{len(formats) + 1}H", len(formats), *formats))


def describe(kind: str, name: str = "") -> bytes:
    """A Describe of a statement "S" or a portal "P"."""
    return _message("D", kind.encode(), name.encode(), b"\0")


def execute(portal: str = "", limit: int = 0) -> bytes:
    """An Execute."""
    return _message("E", portal.encode(), b"\0", struct.pack("!i", limit))


def close(kind: str, name: str = "") -> bytes:
    """A Close of a statement "S" or a portal "P"."""
    return _message("C", kind.encode(), name.encode(), b"\0")


DESCRIBE = describe("P")
