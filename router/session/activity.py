"""Frozen pictures of what clients do: their statements, their transactions, their errors."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from ..histograms import quantiles
from ..queries import OTHERS, Fingerprint
from ..snapshots import ErrorSnapshot, HistogramSnapshot, QuerySnapshot, TransactionSnapshot
from ..stats import microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ..engine.loop import Engine
    from ..faults import Faults
    from ..histograms import Histogram
    from ..pool.server import ServerConnection
    from ..queries import Queries, StatementFigures, Table
    from .lease import Lease
    from .session import Session

_FRACTIONS: Final = (0.5, 0.95, 0.99)


def query_snapshots(queries: Queries) -> Iterator[QuerySnapshot]:
    """The rows of SHOW QUERIES, those that took most of the servers' time first.

    Each is made when it is asked for, since there may be many, and tells what is there then.
    """
    found: list[tuple[int, Table, StatementFigures]] = []
    for table in queries.tables():
        of_table = [*table.rows.values(), *((table.others,) if table.dropped else ())]
        found += [(-_total(figures.times), table, figures) for figures in of_table]
    found.sort(key=itemgetter(0))
    return (_query_snapshot(table, figures) for _, table, figures in found)


def _query_snapshot(table: Table, figures: StatementFigures) -> QuerySnapshot:
    fingerprint = figures.fingerprint
    return QuerySnapshot(
        database=table.database,
        user=table.user,
        shard=table.shard,
        role="primary" if table.is_primary else "replica",
        identifier="" if fingerprint is None else fingerprint.identifier,
        kind="" if fingerprint is None else fingerprint.kind,
        query=OTHERS if fingerprint is None else fingerprint.text,
        calls=figures.calls,
        errors=dict(figures.errors),
        rows=figures.rows,
        size=figures.size,
        wait_time=_total(figures.waits),
        waits=_quantiles(figures.waits, figures.calls),
        time=_total(figures.times),
        times=_quantiles(figures.times, figures.calls),
        stall_time=_total(figures.stalls),
        stalls=_quantiles(figures.stalls, figures.calls),
    )


def _total(histogram: Histogram | None) -> int:
    return 0 if histogram is None else microseconds(histogram.total)


def _quantiles(histogram: Histogram | None, count: int) -> tuple[int, int, int]:
    if histogram is None:
        return (0, 0, 0)
    zeros = max(count - histogram.count, 0)
    p50, p95, p99 = quantiles(histogram.counts, _FRACTIONS, zeros)
    return microseconds(p50), microseconds(p95), microseconds(p99)


def transaction_snapshots(sessions: Iterable[Session], now: float) -> list[TransactionSnapshot]:
    """The rows of SHOW TRANSACTIONS, the oldest first."""
    found = [
        _transaction_snapshot(session, server, now)
        for session in sessions
        for server in (session.lease.server,)
        if server is not None and _is_open(session.lease, server)
    ]
    return sorted(found, key=lambda row: -row.xact_us)


def _is_open(lease: Lease, server: ServerConnection) -> bool:
    return lease.xact_open or (bool(server.queue) and server.queue[0].sink is lease.holder)


def _transaction_snapshot(
    session: Session, server: ServerConnection, now: float
) -> TransactionSnapshot:
    client, lease, known = session.client, session.lease, session.lease.xact
    segment = server.queue[0] if server.queue else None
    found: object = None if known is None else known.fingerprint
    since = server.began_at
    if segment is not None:
        found = segment.fingerprint or segment.parsed
        since = max(since, segment.started)
    fingerprint = found if isinstance(found, Fingerprint) else None
    is_lasting = known is not None and known.is_lasting
    running = "" if segment is None else "statement"
    return TransactionSnapshot(
        client_id=client.number,
        database=lease.pool.database,
        user=lease.pool.user,
        application_name=session.settings.application_name,
        addr=client.peer,
        server_id=server.serial,
        server_pid=server.pid,
        address=server.pool.address.name,
        state=lease.activity.value,
        state_us=microseconds(max(now - since, 0.0)),
        xact_us=microseconds(lease.transaction_age(now)),
        statements=0 if known is None else known.statements,
        identifier="" if fingerprint is None else fingerprint.identifier,
        kind="" if fingerprint is None else fingerprint.kind,
        query="" if fingerprint is None else fingerprint.text,
        writes=(known is not None and known.writes)
        or (fingerprint is not None and fingerprint.writes),
        snapshot="transaction" if is_lasting else running,
    )


def error_snapshots(faults: Faults, now: float, wall: float) -> list[ErrorSnapshot]:
    """The rows of SHOW ERRORS, the most frequent first."""
    found = [
        ErrorSnapshot(
            database=ledger.database,
            user=ledger.user,
            source=source,
            sqlstate=sqlstate,
            count=fault.count,
            last=wall - (now - fault.last_at),
            message=fault.message,
        )
        for (ledger, source, sqlstate), fault in faults
    ]
    return sorted(found, key=lambda row: -row.count)


def histogram_snapshots(engine: Engine) -> list[HistogramSnapshot]:
    """The times of what clients did, by pool, shard and role; of logins; and of the loop."""
    found: list[HistogramSnapshot] = []
    for table in engine.figures.queries.tables():
        labels = {
            "pool": table.database,
            "user": table.user,
            "shard": str(table.shard),
            "role": "primary" if table.is_primary else "replica",
        }
        found.append(_histogram("query_seconds", labels, table.times))
        found.append(_histogram("query_wait_seconds", labels, table.waits))
        found.append(_histogram("query_stall_seconds", labels, table.stalls))
        found.append(_histogram("transaction_seconds", labels, table.xacts))
    found.append(_histogram("login_seconds", {}, engine.figures.logins))
    found.append(_histogram("event_loop_delay_seconds", {}, engine.figures.delays))
    return found


def _histogram(name: str, labels: dict[str, str], one: Histogram) -> HistogramSnapshot:
    return HistogramSnapshot(name, labels, tuple(one.counts), one.total)
