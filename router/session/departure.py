"""How a session ends, and what becomes of the server that it holds.

Whatever ends a session goes through `leave`, which is the one place where the client's server
is given back, abandoned or closed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ShuttingDown
from ..pool.server import ServerState
from ..protocol import codes, marks, messages
from .own_batch import POISON

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from .session import Session

_COPY_FAIL: Final = messages.copy_fail("client disconnected")


def leave(session: Session, reason: str, *, polite: bool) -> None:
    """End a session; a `polite` client lets the server finish what it was asked."""
    if session.closed:
        return
    session.closed = True
    if session.waiter is not None:
        session.waiter.cancel()
        session.waiter = None
    server, session.server = session.server, None
    if server is not None and server.state is not ServerState.CLOSED:
        _give_back(session, server, polite=polite)
    session.drop_input()
    link, session.link = session.link, None
    if link is not None:
        link.close()
    session.on_end(session, reason)


def _give_back(session: Session, server: ServerConnection, *, polite: bool) -> None:
    """Give the server back in whatever state it is."""
    if session.pool.is_session_mode or session.pinned:
        server.marks |= marks.UNKNOWN
    if session.long.is_under_way or session.awaits_settings:
        # It waits for the rest of a message that will never come.
        server.close()
    elif server.queue:
        session.extended.send_pending(server)
        _end_batch(server)
        server.pool.abandon(server, cancel=not polite)
    else:
        server.pool.release(server)
    session.extended.reset()


def _end_batch(server: ServerConnection) -> None:
    """See that no batch takes effect that the client has not ended by a Sync."""
    last = server.queue[-1]
    if last.is_open:
        last.cut()
        server.send(_COPY_FAIL + POISON + messages.SYNC)
    elif last.copying:
        last.end_copy()
        server.send(_COPY_FAIL)


def leave_if_idle(session: Session) -> None:
    """The router is going away: send the client away if no transaction is open."""
    server = session.server
    is_idle = server is None or (not server.queue and server.status == codes.IDLE)
    if is_idle and session.waiter is None:
        session.end_with(ShuttingDown())


def expel(session: Session) -> None:
    """The router is going away at once: send the client away, whatever it is doing."""
    server, error = session.server, ShuttingDown()
    # In the middle of a message nothing can be said.
    can_tell = server is None or not (server.mid_message or server.doomed)
    words = messages.error_from(error, severity="FATAL") if can_tell else b""
    session.end(words, error.message)
