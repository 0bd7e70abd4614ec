"""The messages of the simple protocol, FunctionCall and CopyData."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol import codes, marks
from ..protocol.framing import string_in
from ..protocol.segments import Segment
from . import intercept, local, straying

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from ..protocol.marks import Glance
    from .session import Session


def on_query(session: Session, data: bytes, start: int, end: int) -> bool:
    """Act on the Query data[start:end]; False declines it for now."""
    extended = session.extended
    if extended.skipping:
        return True
    if extended.collected.operations:
        session.extended.collected.dispatch()
        return session.on_message(codes.QUERY, data, start, end)
    server = session.server
    if server is not None and extended.segment is not None:
        return query_in_batch(session, server, extended.segment, data[start:end])
    sql = string_in(data, start, end)
    if intercept.may_concern(sql):
        handled = intercept.answer(session, sql)
        if handled is not None:
            return handled
    inspector = session.pool.inspector
    if inspector is not None:
        if server is not None and server.queue:
            return False  # what is said to this one depends on what came before
        if local.takes_query(session, inspector, data[start:end]):
            return True
    if server is None:
        session.dispatch(data[start:end], sql)
        return True
    if server.queue and not session.may_follow(server):
        return False
    error = straying.query_objection(session, server, sql)
    if error is not None:
        local.refuse(session, codes.QUERY, error)
        return True
    send_query(session, server, data[start:end], marks.of_text(sql))
    return True


def send_query(
    session: Session, server: ServerConnection, message: bytes, glance: Glance
) -> None:
    """Send a whole Query or FunctionCall, or its head, and expect its replies."""
    segment = Segment(session, session.engine.now)
    server.queue.append(segment)
    server.marks |= glance.leaves
    if glance.resets_all:
        session.expect_reset(segment)
    _end_unnamed(session, server, message)
    if session.writes is not None:
        session.writes.note_message(message, is_whole=glance is not marks.UNREAD)
    server.send(message)


def _end_unnamed(session: Session, server: ServerConnection, message: bytes) -> None:
    """PostgreSQL drops the unnamed statement when a Query comes."""
    if message[0] == codes.QUERY:
        server.unnamed = 0
        session.extended.names.drop_unnamed()


def query_in_batch(
    session: Session,
    server: ServerConnection,
    segment: Segment,
    message: bytes,
    *,
    is_whole: bool = True,
) -> bool:
    """A Query before the batch's Sync: it ends the batch, unless the batch has failed.

    Whether it has failed must be known first, because a failed batch makes the server skip it.
    """
    if segment.failed:
        return True
    if not segment.is_answered(server.queue):
        session.extended.flush(server)
        # Else all that was missing was ours to make up.
        if not segment.is_answered(server.queue):
            return False  # `script_done` comes back here
    inspector = session.pool.inspector
    if (
        inspector is not None
        and message[0] == codes.QUERY
        and local.takes_query(session, inspector, message, is_whole=is_whole)
    ):
        return True
    if message[0] == codes.QUERY:
        if is_whole:
            sql = string_in(message, 0, len(message))
            error = straying.query_objection(session, server, sql)
        else:
            error = straying.long_objection(session, codes.QUERY)
        if error is not None:
            session.long.refused = not is_whole
            local.refuse(session, codes.QUERY, error)
            return True
    segment.end_with_query()
    session.extended.reset()
    glance = marks.of_text(message)
    server.marks |= glance.leaves
    if glance.resets_all:
        session.expect_reset(segment)
    _end_unnamed(session, server, message)
    # PostgreSQL may say that the transaction is over and fail the next statement with XX000.
    server.needs_barrier = True
    if session.writes is not None:
        session.writes.note(None)
    server.send(message)
    return True


def on_copy(session: Session, server: ServerConnection | None, message: bytes) -> bool:
    """CopyData, CopyDone or CopyFail: for the server if it is at work, else too late."""
    if session.extended.collected.operations:
        session.extended.collected.dispatch()
        return session.on_message(message[0], message, 0, len(message))
    if server is not None and server.queue:
        session.extended.send_pending(server)
        server.send(message)
        if message[0] != codes.COPY_DATA:
            server.queue[-1].end_copy()
    return True


def on_function_call(session: Session, message: bytes) -> bool:
    """Act on a FunctionCall; False declines it for now."""
    server, extended = session.server, session.extended
    if extended.skipping:
        return True
    if extended.collected.operations:
        session.extended.collected.dispatch()
        return session.on_message(codes.FUNCTION_CALL, message, 0, len(message))
    if server is not None and extended.segment is not None:
        return query_in_batch(session, server, extended.segment, message)
    if server is None:
        session.dispatch(message)
        return True
    if server.queue and not session.may_follow(server):
        return False
    send_query(session, server, message, marks.UNREAD)
    return True
