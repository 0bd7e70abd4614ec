"""How long a client may say nothing, and how long what it has said may be held."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import ClientTimeout, RouterError
from ..protocol import codes
from ..records import fields

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine, Timer
    from .lease import Lease

log = logging.getLogger("router.session")
_HOLD_TIME: Final = 0.005  # a batch is held so long for what is still to come, in seconds


class HeldWatch:
    """Has a batch sent that is not complete when it has been held for long enough.

    PostgreSQL acts on each message at once: a client may wait for the answer to one.
    """

    __slots__ = ("_engine", "_is_running", "_send")

    def __init__(self, engine: Engine, send: Callable[[], None]) -> None:
        self._engine: Final = engine
        self._send: Final = send
        self._is_running = False

    def more_may_come(self) -> None:
        """There is something to be held."""
        if not self._is_running:
            self._is_running = True
            self._engine.call_later(_HOLD_TIME, self._end)

    def _end(self) -> None:
        self._is_running = False
        self._send()


class TransactionWatch:
    """Ends a session by what a transaction is limited to.

    Two limits are looked after, each by one timer that serves a whole transaction: when it
    fires, it looks since when that is so.

    - idle_client_in_transaction_timeout: for how long the client says nothing in it.
    - transaction_timeout: for how long it goes on. That of one that has begun on its server is
      the business of the server's pool (`Stopwatch`); this is about those that have not.
    """

    __slots__ = ("_end", "_expel", "_idle_since", "_is_limiting", "_is_running", "_lease")

    def __init__(
        self,
        lease: Lease,
        end: Callable[[RouterError], None],
        expel: Callable[[RouterError], None],
    ) -> None:
        self._lease: Final = lease
        self._end: Final = end
        self._expel: Final = expel
        self._idle_since = 0.0
        self._is_running = self._is_limiting = False

    def heard(self) -> None:
        """A transaction is open, and the client has said something or has all its answers."""
        lease = self._lease
        timeout = lease.pool.settings.idle_client_in_transaction_timeout
        if timeout:
            self._idle_since = lease.engine.now
            if not self._is_running:
                self._wait(timeout)
        if lease.deferred is not None and not self._is_limiting:
            self._limit()

    def _wait(self, seconds: float) -> None:
        self._is_running = True
        self._lease.engine.call_later(seconds, self._look)

    def _look(self) -> None:
        self._is_running = False
        lease = self._lease
        server = lease.server
        if lease.is_pending or (server is not None and server.queue):
            return
        if lease.status == codes.IDLE:
            return
        timeout = lease.pool.settings.idle_client_in_transaction_timeout
        left = self._idle_since + timeout - lease.engine.now
        if left > 0:
            self._wait(left)
            return
        lease.engine.figures.timeouts.note("idle_transaction")
        text = "terminating connection due to idle-in-transaction timeout"
        self._end(ClientTimeout(text, sqlstate="25P03"))

    def _limit(self) -> None:
        """Look again when the transaction could have taken too long, if it may not take so."""
        lease = self._lease
        timeout = lease.pool.settings.transaction_timeout
        if timeout:
            self._is_limiting = True
            left = timeout - lease.transaction_age(lease.engine.now)
            lease.engine.call_later(max(left, 0.0), self._look_at_age)

    def _look_at_age(self) -> None:
        self._is_limiting = False
        lease = self._lease
        timeout = lease.pool.settings.transaction_timeout
        if not timeout or lease.is_free:
            return
        if lease.transaction_age(lease.engine.now) < timeout:
            self._limit()  # it is another one
            return
        more = fields(database=lease.pool.database, user=lease.pool.user, sqlstate="25P04")
        text = "%r: transaction_timeout is over, ending the client"
        log.warning(text, lease.holder, extra=more)
        lease.engine.figures.timeouts.note("transaction")
        text = "terminating connection due to transaction timeout"
        self._expel(ClientTimeout(text, sqlstate="25P04"))


class ClientWatch:
    """Ends a session that asks for nothing for client_idle_timeout, outside of a transaction.

    One timer serves for good: when it fires, it looks since when the client is idle.
    """

    __slots__ = ("_end", "_heard_at", "_lease", "_timer")

    def __init__(self, lease: Lease, end: Callable[[RouterError], None]) -> None:
        self._lease: Final = lease
        self._end: Final = end
        self._heard_at = lease.engine.now
        self._timer: Timer | None = None

    @classmethod
    def of(cls, lease: Lease, end: Callable[[RouterError], None]) -> ClientWatch | None:
        """A watch over a session that begins, if there is a limit."""
        timeout = lease.pool.settings.client_idle_timeout
        if not timeout:
            return None
        watch = cls(lease, end)
        watch._wait(timeout)
        return watch

    def heard(self) -> None:
        """The client has said something."""
        self._heard_at = self._lease.engine.now

    def stop(self) -> None:
        """The session is over."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, seconds: float) -> None:
        self._timer = self._lease.engine.call_later(seconds, self._look)

    def _look(self) -> None:
        lease, now = self._lease, self._lease.engine.now
        timeout = lease.pool.settings.client_idle_timeout
        if not timeout:
            return  # switched off since
        server = lease.server
        is_asking = lease.waiter is not None or (
            lease.status != codes.IDLE or (server is not None and bool(server.queue))
        )
        # The last transaction has ended at xact_started, if that is later.
        since = now if is_asking else max(self._heard_at, lease.xact_started)
        if since + timeout > now:
            self._wait(since + timeout - now)
            return
        lease.engine.figures.timeouts.note("client_idle")
        text = "terminating connection due to idle-session timeout"
        self._end(ClientTimeout(text, sqlstate="57P05"))
