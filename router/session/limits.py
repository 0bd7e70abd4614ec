"""What a client may not do for ever: hold a transaction open, and go without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ClientTimeout, PoolError

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from .session import Session


def watch_idleness(session: Session, server: ServerConnection) -> None:
    """End the session if it says nothing for idle_client_in_transaction_timeout from now on."""
    done = session.query_count

    def look() -> None:
        if session.server is server and not server.queue and session.query_count == done:
            text = "terminating connection due to idle-in-transaction timeout"
            session.end_with(ClientTimeout(text, sqlstate="25P03"))

    timeout = session.pool.settings.idle_client_in_transaction_timeout
    session.engine.call_later(timeout, look)


def fails_too_often(session: Session) -> bool:
    """Count a failed checkout; returns whether it was one too many, which ends the session."""
    session.failures += 1
    limit = session.pool.settings.checkout_failure_limit
    if limit is None or session.failures < limit:
        return False
    text = f"checkout failure limit reached ({session.failures} / {limit})"
    session.end_with(PoolError(text))
    return True
