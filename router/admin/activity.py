"""The tables of what clients do: SHOW QUERIES, SHOW TRANSACTIONS, SHOW ERRORS."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from .show import identifier, int4, numeric, text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..snapshots import ErrorSnapshot, QuerySnapshot, TransactionSnapshot
    from .show import Column


def _by_code(errors: Mapping[str, int]) -> str:
    """How often there was which SQLSTATE, the most frequent first."""
    ordered = sorted(errors.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{sqlstate}: {count}" for sqlstate, count in ordered)


QUERIES: Final[tuple[Column[QuerySnapshot], ...]] = (
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    int4("shard", lambda row: row.shard),
    text("role", lambda row: row.role),
    text("queryid", lambda row: row.identifier),
    text("kind", lambda row: row.kind),
    text("query", lambda row: row.query),
    numeric("calls", lambda row: row.calls),
    numeric("errors", lambda row: sum(row.errors.values())),
    text("sqlstates", lambda row: _by_code(row.errors)),
    numeric("rows", lambda row: row.rows),
    numeric("bytes", lambda row: row.size),
    numeric("wait_time_us", lambda row: row.wait_time),
    numeric("wait_p50_us", lambda row: row.waits[0]),
    numeric("wait_p95_us", lambda row: row.waits[1]),
    numeric("wait_p99_us", lambda row: row.waits[2]),
    numeric("server_time_us", lambda row: row.time),
    numeric("server_p50_us", lambda row: row.times[0]),
    numeric("server_p95_us", lambda row: row.times[1]),
    numeric("server_p99_us", lambda row: row.times[2]),
    numeric("stall_time_us", lambda row: row.stall_time),
    numeric("stall_p50_us", lambda row: row.stalls[0]),
    numeric("stall_p95_us", lambda row: row.stalls[1]),
    numeric("stall_p99_us", lambda row: row.stalls[2]),
)

TRANSACTIONS: Final[tuple[Column[TransactionSnapshot], ...]] = (
    text("client_id", lambda row: identifier(row.client_id)),
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    text("application_name", lambda row: row.application_name),
    text("addr", lambda row: row.addr),
    text("server_id", lambda row: identifier(row.server_id)),
    int4("server_pid", lambda row: row.server_pid),
    text("address_id", lambda row: row.address),
    text("state", lambda row: row.state),
    numeric("state_us", lambda row: row.state_us),
    numeric("xact_us", lambda row: row.xact_us),
    numeric("statements", lambda row: row.statements),
    text("queryid", lambda row: row.identifier),
    text("kind", lambda row: row.kind),
    text("query", lambda row: row.query),
    int4("writes", lambda row: row.writes),
    text("snapshot", lambda row: row.snapshot),
)

ERRORS: Final[tuple[Column[ErrorSnapshot], ...]] = (
    text("database", lambda row: row.database),
    text("user", lambda row: row.user),
    text("source", lambda row: row.source),
    text("sqlstate", lambda row: row.sqlstate),
    numeric("count", lambda row: row.count),
    text("last_time", lambda row: _time(row.last)),
    text("message", lambda row: row.message),
)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
