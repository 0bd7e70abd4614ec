"""Which tables have been written lately, so that reads of them are not sent to a replica.

A replica shows a change a little later than the primary. So for a time after a write its tables
are *fresh*, and whatever reads them goes to the primary. The time begins when the write is
executed, and again when its transaction ends.

What cannot be known counts against the replicas: a write to unknown tables makes all of them
fresh, and a read that names no tables is not sent to a replica while any table is fresh. Tables
that a write reaches by triggers, foreign keys or views stay unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from .types import Analysis

Written = tuple[str, ...] | None
"""Tables that a statement writes; None: some, but nobody knows which."""

FRESH: Final = "it reads a table that was written lately"
STARTING: Final = "the database has not been used for a while"

# More tables than that are not told apart.
_MOST_TABLES: Final = 1000


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Commands that are no reads, and leave tables as they are. (What a transaction has written is
# noted when it is executed; a cursor's query is taken for a read.)
_HARMLESS: Final = _names(
    """
    BEGIN COMMIT END ROLLBACK ABORT SAVEPOINT RELEASE SET RESET DISCARD LISTEN UNLISTEN NOTIFY
    LOCK PREPARE DEALLOCATE DECLARE FETCH MOVE CLOSE CHECKPOINT VACUUM ANALYZE ANALYSE REINDEX
    CLUSTER GRANT REVOKE COMMENT LOAD SHOW
    """
) | {"START TRANSACTION"}
_QUERIES: Final = _names("SELECT VALUES TABLE")
# Commands that write the tables which they name, or some of them.
_CHANGES: Final = _names("INSERT UPDATE DELETE MERGE COPY EXPLAIN TRUNCATE CREATE ALTER DROP")


def written_by(analysis: Analysis | None) -> Written:
    """Return the tables that a text may write, together with those that it reads besides."""
    if analysis is None:
        return None
    if analysis.is_read:
        return ()
    writes = False
    for statement in analysis.statements:
        kind = statement.kind
        if kind in _HARMLESS:
            continue
        if kind in _QUERIES:
            if not analysis.self_contained:
                return None
        elif kind.partition(" ")[0] not in _CHANGES or not analysis.tables:
            return None
        writes = True
    if writes and not analysis.tables_known:
        return None
    return analysis.tables if writes else ()


class Activity:
    """What goes on in one database, as far as its routers see it.

    The clock is monotonic, all times are seconds.
    """

    __slots__ = (
        "_all_until",
        "_clock",
        "_delay",
        "_fresh",
        "_since",
        "_ttl",
        "_unused",
        "_used",
    )

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        init_delay: float,
        ttl: float,
        table_ttl: float,
    ) -> None:
        """Begin with a database that nobody has used.

        Args:
            clock: tells the time.
            init_delay: how long everything goes to the primary when it is used again.
            ttl: how long it must have been unused for that.
            table_ttl: how long a table stays fresh.
        """
        self._clock: Final = clock
        self._delay: Final = init_delay
        self._unused: Final = ttl
        self._ttl: Final = table_ttl
        self._since: float | None = None
        self._used = 0.0
        # Until when tables are fresh: "schema.table" or "table" as written, and "*.table".
        self._fresh: dict[str, float] = {}
        self._all_until = 0.0

    def needs_primary(self, analysis: Analysis) -> str:
        """Return why a read must go to the primary, or ""."""
        now = self._clock()
        if self._is_starting(now):
            return STARTING
        if now < self._all_until:
            return FRESH
        if self._fresh and self._is_fresh(analysis.tables, now):
            return FRESH
        return ""

    def note(self, written: Written) -> None:
        """A statement that writes these tables is executed, or its transaction has ended."""
        now = self._clock()
        self._is_starting(now)
        until = now + self._ttl
        if written is None:
            self._all_until = until
            return
        fresh = self._fresh
        if len(fresh) + 2 * len(written) > _MOST_TABLES:
            fresh = self._fresh = {name: end for name, end in fresh.items() if now < end}
        if len(fresh) + 2 * len(written) > _MOST_TABLES:
            self._all_until = until
            return
        for name in written:
            schema, table = _parts(name)
            fresh[f"{schema}.{table}" if schema else table] = until
            fresh[f"*.{table}"] = until

    def _is_starting(self, now: float) -> bool:
        if self._since is None or now - self._used > self._unused:
            self._since = now
        self._used = now
        return now - self._since < self._delay

    def _is_fresh(self, tables: Collection[str], now: float) -> bool:
        if not tables:
            if all(end <= now for end in self._fresh.values()):
                self._fresh.clear()
            return bool(self._fresh)
        return any(now < self._until(name) for name in tables)

    def _until(self, name: str) -> float:
        """Until when a table is fresh that goes by this name."""
        schema, table = _parts(name)
        fresh = self._fresh
        if not schema:
            return fresh.get(f"*.{table}", 0.0)
        return max(fresh.get(f"{schema}.{table}", 0.0), fresh.get(table, 0.0))


def _parts(name: str) -> tuple[str, str]:
    """Take a table's name apart; one in another database than ours is none."""
    before, _, table = name.rpartition(".")
    return before.rpartition(".")[2], table
