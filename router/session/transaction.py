"""The transaction that a client has open: what it has done so far, or that it has yet to begin.

A BEGIN says nothing about the server that its transaction needs. So it is answered here, and
*deferred*: the first statement that needs a server gets one by its own route, and the BEGIN
goes ahead of it there, in the same write. What the client does before that (routing commands,
savepoints, SET TRANSACTION, the end of it all) needs no server either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..protocol import codes
from ..queries import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.server import ServerConnection
    from ..protocol.segments import Segment
    from ..routing.router import QueryRouter
    from ..routing.state import RoutingState
    from ..routing.transactions import TransactionStatement
    from ..routing.types import Route

# An error of the BEGIN must keep the statement from being run that is on its way behind it. A
# savepoint that is rolled back to must not bring this back, so it is over before the first.
_BEGIN: Final = "SET LOCAL exit_on_error TO on;BEGIN{};SET LOCAL exit_on_error TO {}"

# More statements about savepoints of one transaction are not kept.
_MOST_DIVISIONS: Final = 100

_FAILURE: Final = b'ROLLBACK TO SAVEPOINT "pgcat: it has failed"'

_TRUE: Final = ("on", "true", "yes", "1", "t", "y")


def transaction_failed() -> RoutingError:
    """What PostgreSQL says to anything but the end of a transaction that has failed."""
    return RoutingError(
        "current transaction is aborted, commands ignored until end of transaction block",
        sqlstate="25P02",
    )


class Transaction:
    """What is known of a transaction that is open.

    Attributes:
        fingerprint: of the last statement that was answered.
        statements: how many were.
        writes: one of them surely did.
        is_lasting: one of them asked for one snapshot for all.
        is_clear: each statement is known, and where it was divided by savepoints.
    """

    __slots__ = (
        "_begun",
        "_divisions",
        "fingerprint",
        "is_clear",
        "is_lasting",
        "statements",
        "writes",
    )

    def __init__(self, begun: Deferred | None = None) -> None:
        """`begun` is how the client has begun it, if that was answered here."""
        self._begun: Final = begun
        self._divisions: list[str] | None = None
        self.is_clear = begun is not None
        self.fingerprint: Fingerprint | None = None
        self.statements = 0
        self.writes = False
        self.is_lasting = False

    def note(self, segment: Segment) -> None:
        """A segment has been answered in it."""
        self.statements += 1
        fingerprint = segment.fingerprint or segment.parsed
        self.fingerprint = fingerprint if isinstance(fingerprint, Fingerprint) else None
        has_run = segment.has_bound or not segment.extended
        if has_run and (
            self.fingerprint is None or not self.fingerprint.kind or segment.done is not None
        ):
            self.is_clear = False
        if self.fingerprint is not None and not segment.failed:
            self.writes |= self.fingerprint.writes
            self.is_lasting |= self.fingerprint.is_lasting
            if self.fingerprint.divides and fingerprint is segment.fingerprint:
                self._divide(self.fingerprint.text)

    def _divide(self, sql: str) -> None:
        if self._divisions is None:
            self._divisions = []
        self._divisions.append(sql)
        self.is_clear &= len(self._divisions) <= _MOST_DIVISIONS

    def again(self, values: Mapping[str, str]) -> bytes:
        """What begins it at another server and divides it there, if all is clear."""
        assert self._begun is not None
        divisions = [sql.encode() for sql in self._divisions or ()]
        return b";".join((self._begun.sql(values), *divisions))


class Deferred:
    """A transaction that the client has begun, and of which no server has answered anything.

    Attributes:
        since: when it was begun.
        has_failed: all but its end is refused.
        fails_at_server: a server is to be in it as it is, failed.
        savepoints: names of those that are open, the outermost first.
    """

    __slots__ = (
        "_is_deferrable",
        "_is_read_only",
        "_isolation",
        "_state",
        "fails_at_server",
        "has_failed",
        "savepoints",
        "since",
    )

    def __init__(self, begun: TransactionStatement, state: RoutingState, now: float) -> None:
        self._state: Final = state
        self.since = now
        self.has_failed = self.fails_at_server = False
        self.savepoints: list[str] = []
        self._isolation = ""
        self._is_read_only: bool | None = None
        self._is_deferrable: bool | None = None
        self.set_modes(begun)

    @property
    def status(self) -> int:
        """What a ReadyForQuery says of it."""
        return codes.IN_FAILED_TRANSACTION if self.has_failed else codes.IN_TRANSACTION

    def set_modes(self, wanted: TransactionStatement) -> None:
        """It is to be as a BEGIN or SET TRANSACTION says, as far as that says something."""
        self._isolation = wanted.isolation or self._isolation
        if wanted.is_read_only is not None:
            self._is_read_only = wanted.is_read_only
        if wanted.is_deferrable is not None:
            self._is_deferrable = wanted.is_deferrable

    def begin_anew(self, now: float) -> None:
        """AND CHAIN: it is over, and another one has begun.

        PostgreSQL lets that inherit no modes if this one has failed; else it had none.
        """
        self.since = now
        self.has_failed = self.fails_at_server = False
        self.savepoints.clear()
        self._isolation, self._is_read_only, self._is_deferrable = "", None, None

    @property
    def has_modes(self) -> bool:
        """Whether the client has said what kind of transaction it is."""
        return bool(self._isolation) or (
            self._is_read_only is not None or self._is_deferrable is not None
        )

    def fits_replicas(self, values: Mapping[str, str]) -> bool:
        """Whether all of it can be run by a hot standby, with these settings of the client."""
        isolation = self._isolation or values.get("default_transaction_isolation", "")
        if isolation.upper() == "SERIALIZABLE":
            return False
        if self._is_read_only is None:
            return values.get("default_transaction_read_only", "").lower() in _TRUE
        return self._is_read_only

    def route(self, found: Route, router: QueryRouter, values: Mapping[str, str]) -> Route:
        """Where all of it goes, if its first statement alone would go there.

        Raises:
            RoutingError: it has failed.
        """
        if self.has_failed and not self.fails_at_server:
            raise transaction_failed()
        is_read_only = self.fits_replicas(values)
        return router.transaction_route(found, self._state, is_read_only=is_read_only)

    def begin(self, server: ServerConnection, values: Mapping[str, str]) -> None:
        """Begin it there, ahead of its first statement."""
        server.send_query(self.sql(values))
        if self.has_failed:
            # Nobody is told of that error, but the transaction is.
            server.send_query(_FAILURE).orphaned = True

    def sql(self, values: Mapping[str, str]) -> bytes:
        """What begins it at a server, with these settings of the client."""
        modes = []
        if self._isolation:
            modes.append(f"ISOLATION LEVEL {self._isolation}")
        if self._is_read_only is not None:
            modes.append("READ ONLY" if self._is_read_only else "READ WRITE")
        if self._is_deferrable is not None:
            modes.append("DEFERRABLE" if self._is_deferrable else "NOT DEFERRABLE")
        is_on = values.get("exit_on_error", "").lower() in _TRUE
        begin = _BEGIN.format(" " * bool(modes) + ", ".join(modes), "on" if is_on else "off")
        return ";".join((begin, *(f"SAVEPOINT {name}" for name in self.savepoints))).encode()
