"""Statements of one client that got no server: what the log is told, and how many may be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import PoolError, ServerError

if TYPE_CHECKING:
    from ..errors import RouterError
    from .client import Client
    from .lease import Lease

log = logging.getLogger("router.session")


class Failures:
    """Those since a server last answered the client."""

    __slots__ = ("_answers", "_client", "_count", "_lease")

    def __init__(self, client: Client, lease: Lease) -> None:
        self._client: Final = client
        self._lease: Final = lease
        self._count = self._answers = 0

    def note(self, error: RouterError) -> RouterError | None:
        """A statement has got no server; returns why that ends the session, if it does.

        Of those that a dead server fails, a few are logged.
        """
        pool = self._lease.pool
        is_of_server = isinstance(error, PoolError | ServerError)
        more = pool.unserved.admit(self._lease.engine.now) if is_of_server else ""
        if more is not None:
            known = self._client.fields(sqlstate=error.sqlstate)
            log.info("client %s: %s%s", self._client.peer, error.line, more, extra=known)
        if not is_of_server:
            return None
        if self._answers != self._client.query_count:
            self._answers = self._client.query_count
            self._count = 0
        self._count += 1
        limit = pool.settings.checkout_failure_limit
        if limit is None or self._count < limit:
            return None
        return PoolError(f"checkout failure limit reached ({self._count} / {limit})")
