"""How long a client may keep a transaction open and say nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientTimeout, RouterError
from ..protocol import codes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .lease import Lease


class IdleWatch:
    """Ends a session that is idle for idle_client_in_transaction_timeout.

    One timer serves a whole transaction: when it fires, it looks since when the client is idle.
    """

    __slots__ = ("_end", "_idle_since", "_is_running", "_lease")

    def __init__(self, lease: Lease, end: Callable[[RouterError], None]) -> None:
        self._lease: Final = lease
        self._end: Final = end
        self._idle_since = 0.0
        self._is_running = False

    def start(self) -> None:
        """The client has all its answers, and a transaction is open."""
        self._idle_since = self._lease.engine.now
        if not self._is_running:
            self._wait(self._lease.pool.settings.idle_client_in_transaction_timeout)

    def _wait(self, seconds: float) -> None:
        self._is_running = True
        self._lease.engine.call_later(seconds, self._look)

    def _look(self) -> None:
        self._is_running = False
        lease = self._lease
        server = lease.server
        if server is None or server.queue or server.status == codes.IDLE:
            return
        timeout = lease.pool.settings.idle_client_in_transaction_timeout
        left = self._idle_since + timeout - lease.engine.now
        if left > 0:
            self._wait(left)
            return
        text = "terminating connection due to idle-in-transaction timeout"
        self._end(ClientTimeout(text, sqlstate="25P03"))
