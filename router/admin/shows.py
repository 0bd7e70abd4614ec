"""The commands that look: the tables of the admin database, SHOW by SHOW."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from . import activity, bans, bouncer, show
from .registry import BOUNCER, table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..hosts import HostSnapshot, PatroniSnapshot
    from ..listeners import ListenerSnapshot
    from ..multiplexing import MultiplexingSnapshot
    from ..protocol.features import FeatureSnapshot
    from ..protocol.prepared import PreparedSnapshot
    from ..snapshots import (
        AddressSnapshot,
        BanSnapshot,
        ClientSnapshot,
        ErrorSnapshot,
        HealthSnapshot,
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
    from ..two_phase import TwoPhaseSnapshot
    from .replies import Console
    from .show import ConfigRow, ListRow
    from .statements import Words

USAGE: Final = (
    "SHOW HELP|CONFIG|DATABASES|POOLS|CLIENTS|SERVERS|USERS|VERSION",
    "SHOW LISTS|LISTENERS|SHARDED_TABLES",
    "SHOW HEALTH|REPLICATION|PATRONI|BANS|LIMITS|TIMEOUTS|ROUTING|ROUTES|MULTIPLEXING",
    "SHOW TWO_PHASE|QUERIES|TRANSACTIONS|ERRORS|SESSION_FEATURES|PREPARED_STATEMENTS",
    "SHOW STATS|STATS_TOTALS|STATS_AVERAGES|TOTALS",
    "SHOW SOCKETS|ACTIVE_SOCKETS|FDS|STATE|MEM",
    "SHOW PEERS|PEER_POOLS|DNS_HOSTS|DNS_ZONES",
)
"""What SHOW HELP tells of them."""


@table("SHOW CONFIG", show.CONFIG)
def _config(console: Console, _arguments: Words) -> list[ConfigRow]:
    return console.settings()


@table("SHOW DATABASES", show.DATABASES)
def _databases(console: Console, _arguments: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


@table("SHOW POOLS", show.POOLS)
def _pools(console: Console, _arguments: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW CLIENTS", show.CLIENTS)
def _clients(console: Console, _arguments: Words) -> Iterator[ClientSnapshot]:
    return console.view.each_client()


@table("SHOW SERVERS", show.SERVERS)
def _servers(console: Console, _arguments: Words) -> list[ServerSnapshot]:
    return console.view.servers()


@table("SHOW HEALTH", show.HEALTH)
def _health(console: Console, _arguments: Words) -> list[HealthSnapshot]:
    return console.view.health()


@table("SHOW REPLICATION", show.REPLICATION)
def _replication(console: Console, _arguments: Words) -> list[HealthSnapshot]:
    return console.view.health()


@table("SHOW PATRONI", show.PATRONI)
def _patroni(console: Console, _arguments: Words) -> list[PatroniSnapshot]:
    return console.view.patroni()


@table("SHOW TWO_PHASE", show.TWO_PHASE)
def _two_phase(console: Console, _arguments: Words) -> list[TwoPhaseSnapshot]:
    return console.view.two_phase()


@table("SHOW BANS", bans.BANS)
def _show_bans(console: Console, _arguments: Words) -> list[BanSnapshot]:
    return console.view.bans()


@table("SHOW LIMITS", show.LIMITS)
def _limits(console: Console, _arguments: Words) -> list[LimitSnapshot]:
    return console.view.limits()


@table("SHOW PREPARED_STATEMENTS", show.PREPARED)
def _prepared(console: Console, _arguments: Words) -> list[PreparedSnapshot]:
    return console.view.prepared()


@table("SHOW SESSION_FEATURES", show.SESSION_FEATURES)
def _features(console: Console, _arguments: Words) -> list[FeatureSnapshot]:
    return console.view.features()


@table("SHOW LISTENERS", show.LISTENERS)
def _listeners(console: Console, _arguments: Words) -> list[ListenerSnapshot]:
    return console.view.listeners()


@table("SHOW TIMEOUTS", show.TIMEOUTS)
def _timeouts(console: Console, _arguments: Words) -> list[TimeoutSnapshot]:
    return console.view.timeouts()


@table("SHOW ROUTES", show.ROUTING)
@table("SHOW ROUTING", show.ROUTING)
def _routing(console: Console, _arguments: Words) -> list[RoutingSnapshot]:
    return console.view.routing()


@table("SHOW MULTIPLEXING", show.MULTIPLEXING)
def _multiplexing(console: Console, _arguments: Words) -> list[MultiplexingSnapshot]:
    return console.view.multiplexing()


@table("SHOW TRANSACTIONS", activity.TRANSACTIONS)
def _transactions(console: Console, _arguments: Words) -> list[TransactionSnapshot]:
    return console.view.transactions()


@table("SHOW ERRORS", activity.ERRORS)
def _errors(console: Console, _arguments: Words) -> list[ErrorSnapshot]:
    return console.view.errors()


@table("SHOW QUERIES", activity.QUERIES)
def _queries(console: Console, _arguments: Words) -> Iterator[QuerySnapshot]:
    return console.view.queries()


@table("SHOW SHARDED_TABLES", show.SHARDED_TABLES)
def _sharded(console: Console, _arguments: Words) -> list[ShardedSnapshot]:
    return console.view.sharded()


@table("SHOW USERS", show.USERS)
def _users(console: Console, _arguments: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW VERSION", show.VERSION)
def _version(_console: Console, _arguments: Words) -> list[str]:
    return [show.PRODUCT]


@table("SHOW LISTS", show.LISTS)
def _lists(console: Console, _arguments: Words) -> Iterator[ListRow | None]:
    return show.lists(console.view)


@table("SHOW STATS", show.STATS)
def _stats(console: Console, _arguments: Words) -> list[AddressSnapshot]:
    return console.view.addresses()


# --- looking, as in PgBouncer


@table("SHOW STATS", bouncer.STATS, among=BOUNCER)
@table("SHOW STATS_TOTALS", bouncer.STATS_TOTALS)
@table("SHOW STATS_AVERAGES", bouncer.STATS_AVERAGES)
def _bouncer_stats(console: Console, _arguments: Words) -> list[bouncer.Stats]:
    return bouncer.stats(console.view)


@table("SHOW TOTALS", bouncer.TOTALS)
def _totals(console: Console, _arguments: Words) -> list[bouncer.Figure]:
    return bouncer.totals(console.view)


@table("SHOW POOLS", bouncer.POOLS, among=BOUNCER)
def _bouncer_pools(console: Console, _arguments: Words) -> list[PoolSnapshot]:
    return console.view.pools()


@table("SHOW DATABASES", bouncer.DATABASES, among=BOUNCER)
def _bouncer_databases(
    console: Console, _arguments: Words
) -> Iterator[bouncer.Database | None]:
    return bouncer.databases(console.view, console.actions.verbs.control.is_disabled)


@table("SHOW USERS", bouncer.USERS, among=BOUNCER)
def _bouncer_users(console: Console, _arguments: Words) -> Iterator[bouncer.User | None]:
    return bouncer.users(console.view)


@table("SHOW LISTS", show.LISTS, among=BOUNCER)
def _bouncer_lists(console: Console, _arguments: Words) -> Iterator[ListRow | None]:
    return bouncer.lists(console.view)


@table("SHOW CLIENTS", bouncer.SOCKETS, among=BOUNCER)
def _bouncer_clients(console: Console, _arguments: Words) -> Iterator[bouncer.Socket]:
    return map(bouncer.client_socket, console.view.each_client())


@table("SHOW SERVERS", bouncer.SOCKETS, among=BOUNCER)
def _bouncer_servers(console: Console, _arguments: Words) -> list[bouncer.Socket]:
    return [bouncer.server_socket(server) for server in console.view.servers()]


@table("SHOW SOCKETS", bouncer.SOCKETS)
def _sockets(console: Console, _arguments: Words) -> Iterator[bouncer.Socket | None]:
    return bouncer.sockets(console.view)


@table("SHOW ACTIVE_SOCKETS", bouncer.SOCKETS)
def _active_sockets(console: Console, _arguments: Words) -> Iterator[bouncer.Socket | None]:
    return bouncer.sockets(console.view, active=True)


@table("SHOW FDS", bouncer.FDS)
def _fds(console: Console, _arguments: Words) -> Iterator[bouncer.Descriptor | None]:
    return bouncer.descriptors(console.view)


@table("SHOW STATE", bouncer.STATE)
def _state(console: Console, _arguments: Words) -> list[bouncer.Setting]:
    return bouncer.state(console.view.pools())


@table("SHOW MEM", bouncer.MEM)
def _mem(console: Console, _arguments: Words) -> list[bouncer.Memory]:
    return bouncer.memory(console.view)


@table("SHOW DNS_HOSTS", bouncer.DNS_HOSTS, among=BOUNCER)
@table("SHOW DNS_HOSTS", bouncer.MORE_OF_HOSTS)
def _hosts(console: Console, _arguments: Words) -> list[HostSnapshot]:
    return console.view.hosts()


@table("SHOW PEERS", bouncer.PEERS, among=BOUNCER)
@table("SHOW PEERS", bouncer.MORE_OF_PEERS)
@table("SHOW PEER_POOLS", bouncer.PEER_POOLS)
def _peers(console: Console, _arguments: Words) -> list[PeerSnapshot]:
    return console.view.peers()


@table("SHOW DNS_ZONES", bouncer.DNS_ZONES)
def _none(_console: Console, _arguments: Words) -> list[None]:
    return []
