"""What the data plane counts: integers that it adds to, and the averages of a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .faults import Ledger
    from .queries import ServerTables

# Averages are taken over windows of so many seconds, as PgCat and PgBouncer do by default.
AVERAGE_WINDOW: Final = 15.0

_COUNTED: Final = (
    "xact_count",
    "query_count",
    "received",
    "sent",
    "xact_time",
    "query_time",
    "wait_time",
    "errors",
)


class Counters:
    """What one server address has done. Times are seconds, sizes are bytes.

    Attributes:
        received, sent: from and to the server.
        wait_time: that clients spent waiting for a connection.
        errors: failed checkouts and failed connections.
        place, ledger: where its statements are counted, and the errors that it answers with.
    """

    __slots__ = (*_COUNTED, "average", "ledger", "place", "_before")

    def __init__(self) -> None:
        self.xact_count = self.query_count = 0
        self.received = self.sent = 0
        self.xact_time = 0.0
        self.query_time = 0.0
        self.wait_time = 0.0
        self.errors = 0
        self._before: tuple[float, ...] = (0,) * len(_COUNTED)
        self.average = Averages()
        self.place: ServerTables | None = None
        self.ledger: Ledger | None = None

    def totals(self) -> tuple[float, ...]:
        """All counters, in the order of SHOW STATS."""
        return tuple(getattr(self, name) for name in _COUNTED)

    def reset(self) -> None:
        """Begin anew."""
        self.xact_count = self.query_count = 0
        self.received = self.sent = 0
        self.xact_time = self.query_time = self.wait_time = 0.0
        self.errors = 0
        self._before = (0,) * len(_COUNTED)
        self.average = Averages()

    def close_window(self, seconds: float) -> None:
        """Compute the averages of the window that ends now."""
        now = self.totals()
        xacts, queries, received, sent, xact_time, query_time, wait_time, errors = (
            after - before for after, before in zip(now, self._before, strict=True)
        )
        self._before = now
        self.average = Averages(
            xact_count=int(xacts / seconds),
            query_count=int(queries / seconds),
            received=int(received / seconds),
            sent=int(sent / seconds),
            errors=int(errors / seconds),
            xact_time=microseconds(xact_time / max(xacts, 1)),
            query_time=microseconds(query_time / max(queries, 1)),
            wait_time=microseconds(wait_time / seconds),
        )


def microseconds(seconds: float) -> int:
    """The unit in which times are shown."""
    return int(seconds * 1e6)


@dataclass(frozen=True, slots=True)
class Averages:
    """Per second over the last window; the times of xacts and queries are per piece, in us."""

    xact_count: int = 0
    query_count: int = 0
    received: int = 0
    sent: int = 0
    errors: int = 0
    xact_time: int = 0
    query_time: int = 0
    wait_time: int = 0


class Timeouts:
    """How often which time limit has ended something, since the start of the router."""

    # The kinds with their keys, and what PostgreSQL's own answer to that has as its SQLSTATE.
    KINDS: Final = (
        ("connect", "connect_timeout", "57P03"),
        ("server_login", "server_login_timeout", "57P03"),
        ("client_login", "client_login_timeout", "57014"),
        ("query_wait", "query_wait_timeout, connect_timeout", "53300"),
        ("query", "query_timeout", "57014"),
        ("transaction", "transaction_timeout", "25P04"),
        ("idle_transaction", "idle_client_in_transaction_timeout", "25P03"),
        ("client_idle", "client_idle_timeout", "57P05"),
        ("server_idle", "idle_timeout", ""),
        ("server_lifetime", "server_lifetime", ""),
        ("shutdown", "shutdown_timeout", "57P01"),
    )

    def __init__(self) -> None:
        self._counts = {kind: 0 for kind, _, _ in self.KINDS}

    def note(self, kind: str, count: int = 1) -> None:
        """It has happened."""
        self._counts[kind] += count

    def count(self, kind: str) -> int:
        """How often it has."""
        return self._counts[kind]
