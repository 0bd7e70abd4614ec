"""Frozen pictures of pools and their connections, for the admin database and the metrics."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from ..hosts import HostSnapshot, PatroniSnapshot
from ..multiplexing import MultiplexingSnapshot
from ..pool.holders import holding
from ..pool.names import is_name
from ..printable import printable
from ..protocol.prepared import PreparedSnapshot, StatementCounts
from ..snapshots import (
    AddressSnapshot,
    BanSnapshot,
    HealthSnapshot,
    PoolSnapshot,
    RoutingSnapshot,
    ServerSnapshot,
    ShardedSnapshot,
)
from ..stats import microseconds
from ..two_phase import TwoPhaseSnapshot
from .states import ClientState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..pool.address_pool import AddressPool
    from ..pool.discovery import Cluster
    from ..pool.health import ServerHealth
    from ..pool.pool import Pool
    from .session import Session


def pool_snapshots(
    pools: Iterable[Pool], sessions: Iterable[Session], now: float
) -> list[PoolSnapshot]:
    """The rows of SHOW POOLS."""
    by_pool: defaultdict[tuple[str, str], list[Session]] = defaultdict(list)
    for session in sessions:
        pool = session.lease.pool
        by_pool[pool.database, pool.user].append(session)
    return [_pool_snapshot(pool, by_pool[pool.database, pool.user], now) for pool in pools]


def _pool_snapshot(pool: Pool, sessions: list[Session], now: float) -> PoolSnapshot:
    states = [session.lease.state for session in sessions]
    waits = [
        now - since
        for since in (session.lease.waiting_since for session in sessions)
        if since is not None
    ]
    parts = pool.address_pools()
    return PoolSnapshot(
        database=pool.database,
        user=pool.user,
        pool_mode=pool.settings.pool_mode.value,
        cl_idle=states.count(ClientState.IDLE),
        cl_active=states.count(ClientState.ACTIVE),
        cl_waiting=states.count(ClientState.WAITING),
        cl_cancel_req=sum(server.cancels for part in parts for server in part.servers()),
        sv_active=sum(len(part.active) for part in parts),
        sv_idle=sum(len(part.idle) for part in parts),
        sv_used=0,
        sv_tested=sum(len(part.tested) for part in parts),
        sv_login=sum(part.connecting for part in parts),
        maxwait_us=int(max(waits, default=0.0) * 1e6),
        paused=pool.paused,
        held_by=holding(parts, now),
    )


def address_snapshots(pools: Iterable[Pool]) -> list[AddressSnapshot]:
    """The rows of SHOW DATABASES and SHOW STATS."""
    return [_address_snapshot(pool, part) for pool in pools for part in pool.address_pools()]


def _address_snapshot(pool: Pool, part: AddressPool) -> AddressSnapshot:
    address, counters = part.address, part.counters
    return AddressSnapshot(
        name=address.name,
        pool=pool.database,
        user=pool.user,
        host=address.host,
        port=address.port,
        database=address.database,
        shard=address.shard,
        index=address.index,
        role=part.role,
        pool_mode=pool.settings.pool_mode.value,
        pool_size=part.settings.pool_size,
        min_pool_size=part.settings.min_pool_size,
        current_connections=part.size - part.connecting,
        sv_idle=len(part.idle),
        sv_active=len(part.active),
        sv_tested=len(part.tested),
        sv_login=part.connecting,
        paused=part.paused,
        banned=part.is_banned,
        xact_count=counters.xact_count,
        query_count=counters.query_count,
        received=counters.received,
        sent=counters.sent,
        xact_time=microseconds(counters.xact_time),
        query_time=microseconds(counters.query_time),
        wait_time=microseconds(counters.wait_time),
        errors=counters.errors,
        average=counters.average,
        reserve_pool_size=part.settings.reserve_pool_size,
        max_db_connections=part.settings.max_db_connections,
        max_db_client_connections=part.settings.max_db_client_connections,
    )


def health_snapshots(healths: Iterable[ServerHealth], now: float) -> list[HealthSnapshot]:
    """The rows of SHOW HEALTH."""
    return [_health_snapshot(health, now) for health in healths if health.parts]


def _health_snapshot(health: ServerHealth, now: float) -> HealthSnapshot:
    ban = health.admin_ban or (health.ban if health.has_replica else None)
    left = 0.0 if ban is None else max(ban.until - now, 0.0)
    checked_at, facts = health.checked_at, health.facts
    return HealthSnapshot(
        host=health.host,
        port=health.port,
        condition=health.condition.value,
        since_seconds=int(now - health.since),
        cause=printable(health.role_problem) if health.error is None else health.error.line,
        banned="no" if ban is None else "failed" if ban is health.ban else "admin",
        ban_reason="" if ban is None else printable(ban.reason),
        ban_seconds=-1 if left == math.inf else math.ceil(left),
        attempts=health.attempts,
        checks=health.checks,
        failed_checks=health.failed_checks,
        checked_seconds=-1 if checked_at is None else int(now - checked_at),
        check_time_us=microseconds(health.check_time),
        recovery="" if facts is None else "standby" if facts.is_standby else "primary",
        timeline=0 if facts is None else facts.timeline,
        lag_bytes=-1 if health.lag is None else health.lag.size,
        lag_us=-1 if health.lag is None else microseconds(health.lag.seconds),
        paused=health.is_paused,
    )


def two_phase_snapshots(pools: Iterable[Pool]) -> list[TwoPhaseSnapshot]:
    """The rows of SHOW TWO_PHASE."""
    return [
        TwoPhaseSnapshot(
            pool.database, pool.user, each.shard, each.gid, each.seconds, each.state
        )
        for pool in pools
        for each in pool.two_phase.found
    ]


def host_snapshots(healths: Iterable[ServerHealth]) -> list[HostSnapshot]:
    """The rows of SHOW DNS_HOSTS; a host with several servers is one."""
    by_host: defaultdict[str, list[ServerHealth]] = defaultdict(list)
    for health in healths:
        if health.parts and health.addresses.found and is_name(health.host):
            by_host[health.host].append(health)
    return [_host_snapshot(host, by_host[host]) for host in sorted(by_host)]


def _host_snapshot(host: str, servers: list[ServerHealth]) -> HostSnapshot:
    return HostSnapshot(
        host=host,
        addresses=_joined(server.addresses.found for server in servers),
        failed=_joined(server.addresses.failed_ones for server in servers),
        connections=Counter(
            server.ip
            for health in servers
            for part in health.parts
            for server in part.servers()
        ),
    )


def _joined(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(each for one in lists for each in one))


def patroni_snapshots(clusters: Iterable[Cluster], now: float) -> list[PatroniSnapshot]:
    """The rows of SHOW PATRONI: one for each member, or one for a cluster without any."""
    return [
        PatroniSnapshot(
            *cluster.key,
            name="" if member is None else printable(member.name),
            host="" if member is None else printable(member.host),
            port=0 if member is None else member.port,
            role="" if member is None else printable(member.role),
            state="" if member is None else printable(member.state),
            lag=-1 if member is None or member.lag is None else member.lag,
            is_used=member is not None
            and any((member.host, member.port) == (s.host, s.port) for s in cluster.sites),
            url=printable(cluster.url),
            answered_seconds=_ago(cluster.answered_at, now),
            asked_seconds=_ago(cluster.asked_at, now),
            error=printable(cluster.error),
        )
        for cluster in clusters
        for member in cluster.members or (None,)
    ]


def _ago(moment: float | None, now: float) -> int:
    return -1 if moment is None else int(now - moment)


def ban_snapshots(pools: Iterable[Pool], now: float) -> list[BanSnapshot]:
    """The rows of SHOW BANS."""
    return [
        snapshot
        for pool in pools
        for part in pool.address_pools()
        if (snapshot := _ban_snapshot(pool, part, now)) is not None
    ]


def _ban_snapshot(pool: Pool, part: AddressPool, now: float) -> BanSnapshot | None:
    health = part.health
    bans = (("admin", health.admin_ban), ("failed", health.ban), ("refused", part.refused))
    for kind, ban in bans:
        if ban is not None and ban.until > now and not part.is_primary:
            duration = ban.until - ban.since
            return BanSnapshot(
                pool=pool.database,
                user=pool.user,
                role=part.role,
                host=part.address.host,
                port=part.address.port,
                kind=kind,
                reason=printable(ban.reason),
                since=time.time() - (now - ban.since),
                duration=duration,
                remaining=ban.until - now,
            )
    return None


def server_snapshots(
    pools: Iterable[Pool], sessions: Iterable[Session], now: float
) -> list[ServerSnapshot]:
    """The rows of SHOW SERVERS."""
    holders = {
        session.lease.server: session
        for session in sessions
        if session.lease.server is not None
    }
    return [
        ServerSnapshot(
            server_id=server.serial,
            pool=pool.database,
            user=pool.user,
            address=part.address.name,
            application_name="" if server.client is None else server.client.label,
            state=server.state.value,
            pid=server.pid,
            tls=server.tls,
            transaction_count=server.transaction_count,
            query_count=server.query_count,
            bytes_sent=0 if server.link is None else server.link.sent,
            bytes_received=0 if server.link is None else server.link.received,
            age_seconds=int(now - server.opened_at),
            prepare_cache_hit=server.statements.hits,
            prepare_cache_miss=server.statements.misses,
            prepare_cache_eviction=server.statements.evictions,
            prepare_cache_size=len(server.statements),
            host=part.address.host,
            port=part.address.port,
            activity="idle" if holder is None else holder.lease.activity.value,
            client_id=None if holder is None else holder.client.number,
            xact_us=0 if holder is None else microseconds(holder.lease.transaction_age(now)),
            close_needed=server.expires_at <= now or part.is_closing,
            fd=-1 if server.link is None else server.link.fd,
            ip=server.ip,
            replication=server.first.kind_of_replication,
        )
        for pool in pools
        for part in pool.all_parts()
        for server in part.servers()
        for holder in (holders.get(server),)
    ]


def multiplexing_snapshots(pools: Iterable[Pool]) -> list[MultiplexingSnapshot]:
    """The rows of SHOW MULTIPLEXING."""
    found = []
    for pool in pools:
        for part in pool.all_parts():
            shared, name = part.sharing, part.address.name
            if shared is None:
                row = MultiplexingSnapshot(pool.database, pool.user, name, is_on=False)
            else:
                row = MultiplexingSnapshot(
                    pool.database,
                    pool.user,
                    name,
                    is_on=True,
                    depth=shared.depth,
                    shared=shared.shared,
                    moved=shared.moved,
                    deepest=shared.deepest,
                    under_way=shared.under_way,
                    alone=dict(shared.alone),
                )
            found.append(row)
    return found


def routing_snapshots(pools: Iterable[Pool]) -> list[RoutingSnapshot]:
    """The rows of SHOW ROUTING."""
    return [
        RoutingSnapshot(
            database=pool.database,
            user=pool.user,
            texts=sum(len(cache) for cache in pool.router.caches),
            fingerprints=sum(cache.fingerprints for cache in pool.router.caches),
            bytes=sum(cache.size for cache in pool.router.caches),
            hits=sum(cache.hits for cache in pool.router.caches),
            fingerprint_hits=sum(cache.fingerprint_hits for cache in pool.router.caches),
            misses=sum(cache.misses for cache in pool.router.caches),
            tables=pool.router.known_columns,
            functions=pool.router.known_functions,
            too_complex=pool.router.too_complex,
            decisions=pool.router.tallies.counts,
            retried_reads=pool.retried_reads,
            prepared_anew=pool.prepared_anew,
            reads_waited=pool.reads_waited,
            reads_to_primary=pool.reads_to_primary,
        )
        for pool in pools
    ]


def sharded_snapshots(pools: Iterable[Pool]) -> list[ShardedSnapshot]:
    """The rows of SHOW SHARDED_TABLES."""
    return [
        ShardedSnapshot(pool.database, pool.user, *row)
        for pool in pools
        if pool.router.sharded is not None
        for row in pool.router.sharded.listed()
    ]


def prepared_snapshot(pool: Pool) -> PreparedSnapshot:
    """A row of SHOW PREPARED_STATEMENTS."""
    counts, prepared = StatementCounts(), 0
    for part in pool.all_parts():
        if part.counters.place is not None:
            counts.take_in(part.counters.place.closed)
        for server in part.servers():
            counts.take_in(server.statements)
            prepared += len(server.statements)
    return PreparedSnapshot(
        database=pool.database,
        user=pool.user,
        statements=len(pool.statements),
        capacity=pool.settings.prepared_statements_cache_size,
        prepared=prepared,
        hits=counts.hits,
        misses=counts.misses,
        evictions=counts.evictions,
    )
