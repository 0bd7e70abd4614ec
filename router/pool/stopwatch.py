"""Statements and transactions that take too long: query_timeout and transaction_timeout.

One timer serves all connections of a pool. It is set to when the first of them can be due, and
looks then; whatever begins in between cannot be due before. So nothing has to be done for a
statement, nor for a transaction, as long as both come to an end in time.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from ..errors import ClientTimeout
from . import calls, sharing

if TYPE_CHECKING:
    from ..engine.loop import Engine, Timer
    from .address_pool import AddressPool
    from .server import ServerConnection

log = logging.getLogger("router.pool")


class Stopwatch:
    """Looks after the connections of one pool that are at work for clients."""

    __slots__ = ("_engine", "_part", "_timer")

    def __init__(self, engine: Engine, part: AddressPool) -> None:
        self._engine: Final = engine
        self._part: Final = part
        self._timer: Timer | None = None

    def start(self) -> None:
        """A connection is at work, or the limits have changed."""
        if self._timer is None:
            self._wait(self._shortest)

    @property
    def _shortest(self) -> float:
        settings = self._part.settings
        return min(settings.query_timeout or math.inf, settings.transaction_timeout or math.inf)

    def restart(self) -> None:
        """The limits are other ones."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if self._part.active:
            self._look()

    def _wait(self, seconds: float) -> None:
        if seconds < math.inf:
            self._timer = self._engine.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        left = self._shortest
        for server in list(self._part.active):
            left = min(left, self._transaction_left(server), self._query_left(server))
        if self._part.active:
            self._wait(left)

    def _query_left(self, server: ServerConnection) -> float:
        """For how long the statement of a connection may go on; cancels it if it is over."""
        timeout = self._part.settings.query_timeout
        if not timeout or sharing.client_of(server) is None or not server.queue:
            return math.inf
        if server.queue[0].sink is not sharing.client_of(server):
            return math.inf  # by the router itself, or for a client that has gone
        now = self._engine.now
        left = max(server.queue[0].started, server.began_at) + timeout - now
        if left > 0:
            return left
        log.info(
            "%r: query_timeout is over, cancelling the statement", server, extra=server.fields()
        )
        self._engine.figures.timeouts.note("query")
        server.began_at = now  # it is asked again, should it go on for as long
        if server.client is None:
            sharing.move(server, 1)
        self._part.cancel(server)
        return timeout

    def _transaction_left(self, server: ServerConnection) -> float:
        """For how long the transaction of a connection may go on; ends it if it is over."""
        timeout, client = self._part.settings.transaction_timeout, sharing.client_of(server)
        if not timeout or client is None:
            return math.inf
        left = timeout - client.transaction(self._engine.now)[0]
        if left > 0:
            return left
        more = server.fields(sqlstate="25P04")
        log.warning("%r: transaction_timeout is over, ending the client", server, extra=more)
        self._engine.figures.timeouts.note("transaction")
        text = "terminating connection due to transaction timeout"
        calls.expel(client, ClientTimeout(text, sqlstate="25P04"))
        return math.inf
