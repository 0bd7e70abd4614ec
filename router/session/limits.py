"""What a client may not do: some things not at all, others not for ever."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import ClientProtocolError, ClientTimeout, PoolError, ServerError
from ..protocol import codes

if TYPE_CHECKING:
    from ..errors import RouterError
    from .session import Session

log = logging.getLogger("router.session")


def watch_idleness(session: Session) -> None:
    """End the session if it says nothing for idle_client_in_transaction_timeout from now on."""
    session.idle_since = session.engine.now
    if not session.is_watched:
        session.is_watched = True
        timeout = session.pool.settings.idle_client_in_transaction_timeout
        session.engine.call_later(timeout, lambda: _look(session))


def _look(session: Session) -> None:
    """See whether it is idle, and since when: one timer serves the whole transaction."""
    session.is_watched = False
    server = session.server
    if server is None or server.queue or server.status == codes.IDLE:
        return
    timeout = session.pool.settings.idle_client_in_transaction_timeout
    left = session.idle_since + timeout - session.engine.now
    if left > 0:
        session.is_watched = True
        session.engine.call_later(left, lambda: _look(session))
        return
    text = "terminating connection due to idle-in-transaction timeout"
    session.end_with(ClientTimeout(text, sqlstate="25P03"))


def refuse_transaction(session: Session) -> None:
    """End the session: in statement mode no transaction may be open."""
    text = "transaction blocks are not allowed in statement pooling mode"
    session.end_with(ClientProtocolError(text, sqlstate="0A000"))


def log_failure(session: Session, error: RouterError) -> None:
    """Log that a statement gets no server: of those that a dead server fails, a few."""
    more: str | None = ""
    if isinstance(error, PoolError | ServerError):
        more = session.pool.unserved.admit(session.engine.now)
    if more is not None:
        log.info("client %s: %s%s", session.peer, error.line, more)


def fails_too_often(session: Session) -> bool:
    """Count a failed checkout; returns whether it was one too many, which ends the session."""
    session.failures += 1
    limit = session.pool.settings.checkout_failure_limit
    if limit is None or session.failures < limit:
        return False
    text = f"checkout failure limit reached ({session.failures} / {limit})"
    session.end_with(PoolError(text))
    return True
