"""The tables of PgBouncer, with its columns and units, for those who log in to `pgbouncer`.

What is not counted here is NULL. What PgBouncer measures at clients is measured at servers: it
is the same traffic, from the other side.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from ..printable import printable
from .show import ListRow, counted, int4, numeric, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ..hosts import HostSnapshot
    from ..snapshots import (
        AddressSnapshot,
        ClientSnapshot,
        PeerSnapshot,
        PoolSnapshot,
        ServerSnapshot,
        View,
    )
    from .show import Column

S = TypeVar("S")

_SECOND: Final = 1_000_000
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")

# --- SHOW STATS and its kin

_COUNTS: Final = (
    "server_assignment_count",
    "xact_count",
    "query_count",
    "received",
    "sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
)
# Short forms in the names of the averages.
_SHORT: Final = {"received": "recv"}
# What they are called in STATS_TOTALS and STATS_AVERAGES, and in TOTALS. PgBouncer's manual has
# it otherwise; its exporter for Prometheus counts on these.
_BARE: Final = {"received": "bytes_received", "sent": "bytes_sent"}
_SIDES: Final = {"received": "client_bytes", "sent": "server_bytes"}


@dataclass(frozen=True, slots=True)
class Stats:
    """The figures of a database, or of all of them.

    Attributes:
        totals: since the start, by name; None is not counted.
        averages: of the last window.
    """

    database: str
    totals: dict[str, int | None]
    averages: dict[str, int | None]


def _stats(database: str, addresses: Sequence[AddressSnapshot]) -> Stats:
    xacts = sum(address.average.xact_count for address in addresses)
    queries = sum(address.average.query_count for address in addresses)

    def total(name: str) -> int:
        return sum(getattr(address, name) for address in addresses)

    def average(name: str) -> int:
        return sum(getattr(address.average, name) for address in addresses)

    def each(name: str, count: str, counts: int) -> int:
        """A time for each piece: those of addresses count as much as there were pieces."""
        weighed: int = sum(
            getattr(address.average, name) * getattr(address.average, count)
            for address in addresses
        )
        return weighed // max(counts, 1)

    # Received is what came from clients, and so went to servers.
    totals: dict[str, int | None] = {
        "xact_count": total("xact_count"),
        "query_count": total("query_count"),
        "received": total("sent"),
        "sent": total("received"),
        "xact_time": total("xact_time"),
        "query_time": total("query_time"),
        "wait_time": total("wait_time"),
    }
    averages: dict[str, int | None] = {
        "xact_count": xacts,
        "query_count": queries,
        "received": average("sent"),
        "sent": average("received"),
        "xact_time": each("xact_time", "xact_count", xacts),
        "query_time": each("query_time", "query_count", queries),
    }
    return Stats(database, totals, averages)


def stats(view: View) -> list[Stats]:
    """The figures of each database."""
    addresses = view.addresses()
    return [
        _stats(name, [address for address in addresses if address.pool == name])
        for name in dict.fromkeys(address.pool for address in addresses)
    ]


def _total(name: str) -> Column[Stats]:
    return numeric(f"total_{name}", lambda stats: stats.totals.get(name))


def _average(name: str) -> Column[Stats]:
    return numeric(f"avg_{_SHORT.get(name, name)}", lambda stats: stats.averages.get(name))


def _bare_total(name: str) -> Column[Stats]:
    return numeric(_BARE.get(name, name), lambda stats: stats.totals.get(name))


def _bare_average(name: str) -> Column[Stats]:
    return numeric(_BARE.get(name, name), lambda stats: stats.averages.get(name))


_DATABASE: Final[Column[Stats]] = text("database", lambda stats: stats.database)
STATS: Final = (_DATABASE, *map(_total, _COUNTS), *map(_average, _COUNTS))
STATS_TOTALS: Final = (_DATABASE, *map(_bare_total, _COUNTS))
STATS_AVERAGES: Final = (_DATABASE, *map(_bare_average, _COUNTS))


@dataclass(frozen=True, slots=True)
class Figure:
    """A row of SHOW TOTALS."""

    name: str
    value: int | None


TOTALS: Final[tuple[Column[Figure], ...]] = (
    text("name", lambda row: row.name),
    numeric("value", lambda row: row.value),
)


def totals(view: View) -> list[Figure]:
    """The figures of all databases together."""
    found = _stats("", view.addresses())
    return [
        Figure(f"{kind}_{_SIDES.get(name, name)}", values.get(name))
        for kind, values in (("total", found.totals), ("avg", found.averages))
        for name in _COUNTS
    ]


# --- SHOW POOLS, DATABASES, USERS, LISTS

POOLS: Final[tuple[Column[PoolSnapshot], ...]] = (
    text("database", lambda pool: pool.database),
    text("user", lambda pool: pool.user),
    int4("cl_active", lambda pool: pool.cl_active + pool.cl_idle),
    int4("cl_waiting", lambda pool: pool.cl_waiting),
    int4("cl_active_cancel_req", lambda pool: pool.cl_cancel_req),
    int4("cl_waiting_cancel_req", lambda _: 0),
    int4("sv_active", lambda pool: pool.sv_active),
    int4("sv_active_cancel", lambda pool: pool.cl_cancel_req),
    int4("sv_being_canceled", lambda _: None),
    int4("sv_idle", lambda pool: pool.sv_idle),
    int4("sv_used", lambda pool: pool.sv_used),
    int4("sv_tested", lambda pool: pool.sv_tested),
    int4("sv_login", lambda pool: pool.sv_login),
    int4("maxwait", lambda pool: pool.maxwait),
    int4("maxwait_us", lambda pool: pool.maxwait_rest),
    text("pool_mode", lambda pool: pool.pool_mode),
    text("load_balance_hosts", lambda _: None),
)


@dataclass(frozen=True, slots=True)
class Database:
    """A server of a database, with the connections of all users."""

    address: AddressSnapshot
    clients: int
    is_disabled: bool


DATABASES: Final[tuple[Column[Database], ...]] = (
    text("name", lambda row: row.address.pool),
    text("host", lambda row: row.address.host),
    int4("port", lambda row: row.address.port),
    text("database", lambda row: row.address.database),
    text("force_user", lambda _: None),
    int4("pool_size", lambda row: row.address.pool_size),
    int4("min_pool_size", lambda row: row.address.min_pool_size),
    int4("reserve_pool_size", lambda row: row.address.reserve_pool_size),
    int4("server_lifetime", lambda _: None),
    text("pool_mode", lambda row: row.address.pool_mode),
    text("load_balance_hosts", lambda _: None),
    int4("max_connections", lambda row: row.address.max_db_connections),
    int4("current_connections", lambda row: row.address.current_connections),
    int4("max_client_connections", lambda row: row.address.max_db_client_connections),
    int4("current_client_connections", lambda row: row.clients),
    int4("paused", lambda row: row.address.paused),
    int4("disabled", lambda row: row.is_disabled),
)


def databases(view: View, is_disabled: Callable[[str], bool]) -> Iterator[Database | None]:
    """Each server of each database once, its users taken together."""
    clients = yield from counted(view, lambda client: client.database)
    found: dict[str, AddressSnapshot] = {}
    for address in view.addresses():
        known = found.get(address.name)
        if known is not None:
            address = replace(
                address,
                pool_size=known.pool_size + address.pool_size,
                min_pool_size=known.min_pool_size + address.min_pool_size,
                reserve_pool_size=known.reserve_pool_size + address.reserve_pool_size,
                current_connections=known.current_connections + address.current_connections,
                paused=known.paused and address.paused,
            )
        found[address.name] = address
    for address in found.values():
        yield Database(address, clients[address.pool], is_disabled(address.pool))


@dataclass(frozen=True, slots=True)
class User:
    """A user, in all databases, with its limits of connections and of clients; 0 is none."""

    name: str
    connections: int
    clients: int
    most_connections: int
    most_clients: int


USERS: Final[tuple[Column[User], ...]] = (
    text("name", lambda user: user.name),
    text("pool_size", lambda _: None),
    text("reserve_pool_size", lambda _: None),
    text("pool_mode", lambda _: None),
    int4("max_user_connections", lambda user: user.most_connections),
    int4("current_connections", lambda user: user.connections),
    int4("max_user_client_connections", lambda user: user.most_clients),
    int4("current_client_connections", lambda user: user.clients),
)


def users(view: View) -> Iterator[User | None]:
    """The users of all pools."""
    clients = yield from counted(view, lambda client: client.user)
    addresses, limits = view.addresses(), view.limits()
    # Connections are limited at each server, which the name has behind the user's.
    servers = {
        limit.name.rpartition(" ")[0]: limit.value
        for limit in limits
        if limit.key == "max_user_connections"
    }
    most = {
        limit.name: limit.value
        for limit in limits
        if limit.key == "max_user_client_connections"
    }
    for name in dict.fromkeys(pool.user for pool in view.pools()):
        connections = sum(each.current_connections for each in addresses if each.user == name)
        yield User(name, connections, clients[name], servers.get(name, 0), most.get(name, 0))


def lists(view: View) -> Iterator[ListRow | None]:
    """How much there is of everything."""
    clients = yield from counted(view, lambda _: "")
    pools, servers = view.pools(), view.servers()
    yield from (
        ListRow("databases", len({pool.database for pool in pools})),
        ListRow("users", len({pool.user for pool in pools})),
        ListRow("peers", len(view.peers())),
        ListRow("pools", len(pools)),
        ListRow("peer_pools", len(view.peers())),
        ListRow("free_clients", 0),
        ListRow("used_clients", clients.total()),
        ListRow("login_clients", 0),
        ListRow("free_servers", 0),
        ListRow("used_servers", len(servers)),
        ListRow("dns_names", len(view.hosts())),
        ListRow("dns_zones", 0),
        ListRow("dns_queries", 0),
        ListRow("dns_pending", 0),
    )


# --- SHOW CLIENTS, SERVERS, SOCKETS, ACTIVE_SOCKETS


@dataclass(frozen=True, slots=True)
class Socket:
    """A connection, of a client or to a server."""

    type: str
    user: str
    database: str
    state: str
    addr: str
    port: int
    age_seconds: int
    wait_us: int
    close_needed: bool
    id: int
    link: int | None
    remote_pid: int
    tls: str
    application_name: str
    statements: int
    replication: str


SOCKETS: Final[tuple[Column[Socket], ...]] = (
    text("type", lambda row: row.type),
    text("user", lambda row: row.user),
    text("database", lambda row: row.database),
    text("replication", lambda row: row.replication),
    text("state", lambda row: row.state),
    text("addr", lambda row: row.addr),
    int4("port", lambda row: row.port),
    text("local_addr", lambda _: None),
    int4("local_port", lambda _: None),
    text("connect_time", lambda row: _time(row.age_seconds)),
    text("request_time", lambda _: None),
    int4("wait", lambda row: row.wait_us // _SECOND),
    int4("wait_us", lambda row: row.wait_us % _SECOND),
    int4("close_needed", lambda row: row.close_needed),
    text("ptr", lambda row: _pointer(row.type, row.id)),
    text("link", lambda row: _pointer("S" if row.type == "C" else "C", row.link)),
    int4("remote_pid", lambda row: row.remote_pid),
    text("tls", lambda row: row.tls),
    text("application_name", lambda row: row.application_name),
    int4("prepared_statements", lambda row: row.statements),
    int4("id", lambda row: row.id),
)


def _time(age_seconds: int) -> str:
    began = datetime.now(UTC) - timedelta(seconds=age_seconds)
    return began.strftime("%Y-%m-%d %H:%M:%S UTC")


def _pointer(kind: str, number: int | None) -> str:
    return "" if number is None else f"{kind}0x{number:08X}"


def client_socket(client: ClientSnapshot) -> Socket:
    """The row of a client."""
    host, _, port = client.addr.rpartition(":")
    return Socket(
        type="C",
        user=client.user,
        database=client.database,
        state=client.state,
        addr=host.strip("[]") or client.addr,  # "unix"
        port=int(port) if port.isdecimal() else 0,
        age_seconds=client.age_seconds,
        wait_us=client.wait_us,
        close_needed=False,
        id=client.client_id,
        link=client.server_id,
        remote_pid=0,
        tls=client.tls,
        application_name=client.application_name,
        statements=client.statements,
        replication=client.replication,
    )


def server_socket(server: ServerSnapshot) -> Socket:
    """The row of a connection to a server."""
    return Socket(
        type="S",
        user=server.user,
        database=server.pool,
        state=server.state,
        addr=server.addr,
        port=server.port,
        age_seconds=server.age_seconds,
        wait_us=0,
        close_needed=server.close_needed,
        id=server.server_id,
        link=server.client_id,
        remote_pid=server.pid,
        tls=server.tls,
        application_name=server.application_name,
        statements=server.prepare_cache_size,
        replication=server.replication,
    )


def sockets(view: View, *, active: bool = False) -> Iterator[Socket | None]:
    """All connections, or those that are at work and None for each other, one by one."""
    clients = map(client_socket, view.each_client())
    servers = map(server_socket, view.servers())
    return (
        None if active and row.state == "idle" else replace(row, state=f"{prefix}_{row.state}")
        for prefix, rows in (("cl", clients), ("sv", servers))
        for row in rows
    )


# --- SHOW FDS


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A row of SHOW FDS; `link` is the descriptor at the other end."""

    fd: int
    task: str
    user: str | None
    database: str | None
    addr: str
    port: int
    link: int | None = None


# Keys of cancel requests and passwords are nobody's to see, and settings are not kept by
# descriptor.
FDS: Final[tuple[Column[Descriptor], ...]] = (
    int4("fd", lambda row: row.fd),
    text("task", lambda row: row.task),
    text("user", lambda row: row.user),
    text("database", lambda row: row.database),
    text("addr", lambda row: row.addr),
    int4("port", lambda row: row.port),
    numeric("cancel", lambda _: None),
    int4("link", lambda row: row.link),
    text("client_encoding", lambda _: None),
    text("std_strings", lambda _: None),
    text("datestyle", lambda _: None),
    text("timezone", lambda _: None),
    text("password", lambda _: None),
)


def descriptors(view: View) -> Iterator[Descriptor | None]:
    """Of the sockets that clients come in by, of clients, and of connections to servers."""
    for fd, addr, port in view.listening():
        yield Descriptor(fd, "pooler", None, None, addr if port else "unix", port)
    servers = view.servers()
    of_servers = {server.server_id: server.fd for server in servers}
    of_clients: dict[int, int] = {}
    for client in view.each_client():
        of_clients[client.client_id] = client.fd
        linked = client.server_id
        link = None if linked is None else of_servers.get(linked)
        yield _descriptor(client.fd, "client", client_socket(client), link)
    for server in servers:
        linked = server.client_id
        link = None if linked is None else of_clients.get(linked)
        yield _descriptor(server.fd, "server", server_socket(server), link)


def _descriptor(fd: int, task: str, row: Socket, link: int | None) -> Descriptor | None:
    """The row of a connection that has one still."""
    if fd < 0:
        return None
    return Descriptor(fd, task, row.user, row.database, row.addr, row.port, link)


# --- the rest


def _counts(counts: Mapping[str, int]) -> str:
    return ",".join(f"{name}={count}" for name, count in sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class Setting:
    """A row of SHOW STATE."""

    key: str
    is_so: bool


STATE: Final[tuple[Column[Setting], ...]] = (
    text("key", lambda row: row.key),
    text("value", lambda row: "yes" if row.is_so else "no"),
)


def state(pools: Iterable[PoolSnapshot]) -> list[Setting]:
    """Whether all of it is paused."""
    is_paused = [pool.paused for pool in pools]
    paused = bool(is_paused) and all(is_paused)
    return [
        Setting("active", not paused),
        Setting("paused", paused),
        Setting("suspended", False),
    ]


@dataclass(frozen=True, slots=True)
class Memory:
    """A row of SHOW MEM."""

    name: str
    used: int | None
    bytes: int


MEM: Final[tuple[Column[Memory], ...]] = (
    text("name", lambda row: row.name),
    int4("size", lambda _: None),
    int4("used", lambda row: row.used),
    int4("free", lambda _: None),
    numeric("memtotal", lambda row: row.bytes),
)


def memory(view: View) -> list[Memory]:
    """What the routers of the pools remember, and the whole process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        resident = int(file.read().split()[1])
    routing = view.routing()
    return [
        Memory(
            "routing_cache",
            sum(row.texts + row.fingerprints for row in routing),
            sum(row.bytes for row in routing),
        ),
        Memory("process", None, resident * _PAGE),
    ]


PEERS: Final[tuple[Column[PeerSnapshot], ...]] = (
    int4("peer_id", lambda peer: peer.peer_id),
    text("host", lambda peer: printable(peer.host)),
    int4("port", lambda peer: peer.port),
    int4("pool_size", lambda peer: peer.pool_size),
)
MORE_OF_PEERS: Final[tuple[Column[PeerSnapshot], ...]] = (
    *PEERS,
    numeric("passed_on", lambda peer: peer.passed_on),
    numeric("failed", lambda peer: peer.failed),
    numeric("dropped", lambda peer: peer.dropped),
)
PEER_POOLS: Final[tuple[Column[PeerSnapshot], ...]] = (
    int4("peer_id", lambda peer: peer.peer_id),
    int4("cl_active_cancel_req", lambda peer: peer.active),
    int4("cl_waiting_cancel_req", lambda peer: peer.waiting),
    int4("sv_active_cancel", lambda peer: peer.active - peer.connecting),
    int4("sv_login", lambda peer: peer.connecting),
)
DNS_HOSTS: Final[tuple[Column[HostSnapshot], ...]] = (
    text("hostname", lambda host: printable(host.host)),
    numeric("ttl", lambda _: 0),
    text("addrs", lambda host: ",".join(host.addresses)),
)
MORE_OF_HOSTS: Final[tuple[Column[HostSnapshot], ...]] = (
    *DNS_HOSTS,
    text("failed", lambda host: ",".join(host.failed)),
    text("connections", lambda host: _counts(host.connections)),
)
# Names are looked up by each connection: there are no zones.
DNS_ZONES: Final[tuple[Column[None], ...]] = (
    text("zonename", lambda _: ""),
    numeric("serial", lambda _: 0),
    int4("count", lambda _: 0),
)
