"""Queries that the plugins of the pool answer or refuse.

An answer needs no server; if the client has one in the middle of a batch, an empty statement
there lets the answer have its turn. A statement that is refused must leave the transaction as
PostgreSQL would: failed. So with a server, something goes to it in the statement's place that
is bound to fail.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..protocol import codes, messages
from ..protocol.framing import HEADER_SIZE, string_in
from .inspection import use_objection
from .objections import text_objection
from .operations import Operation

if TYPE_CHECKING:
    from ..errors import RouterError
    from ..pool.contracts import Inspector, LocalAnswer
    from .session import Session

log = logging.getLogger("router.session")


def takes_query(
    session: Session, inspector: Inspector, message: bytes, *, is_whole: bool = True
) -> bool:
    """Answer or refuse a Query, whose turn it is; False if the plugins let it pass."""
    if not is_whole:
        return refuses_long(session, inspector, message)
    sql = string_in(message, 0, len(message))
    inspector.note(sql)
    answer = inspector.answer(sql)
    if answer is not None and session.status != codes.IN_FAILED_TRANSACTION:
        _give(session, answer)
        return True
    error = text_objection(session, sql)
    if error is not None:
        refuse(session, codes.QUERY, error)
    return error is not None


def _give(session: Session, answer: LocalAnswer) -> None:
    """Send the client an answer in text format."""
    rows = answer.rows((0,) * len(answer.columns))
    end = messages.command_complete(f"SELECT {len(rows)}")
    reply = b"".join((messages.row_description(answer.columns), *rows, end))
    server, segment = session.server, session.extended.segment
    if server is None or segment is None or segment.steps is None:
        session.reply(reply + messages.ready_for_query(session.status))
        return
    segment.end_with_answer(reply)
    session.extended.reset()
    session.extended.names.drop_unnamed()
    server.unnamed = 0
    server.send(messages.query(b""))


def refuses_long(session: Session, inspector: Inspector, head: bytes) -> bool:
    """Refuse a message that is too long to hold if the plugins are against it.

    Without a server, what is not refused comes here once more.
    """
    kind = head[0]
    error: RouterError | None = None
    if kind == codes.BIND:
        name = head[HEADER_SIZE:].split(b"\0", 2)[1:2]
        statement = session.extended.names.get(name[0]) if name else None
        if statement is not None:
            error = use_objection(session, statement)
    elif kind in (codes.QUERY, codes.PARSE):
        start = HEADER_SIZE if kind == codes.QUERY else head.find(b"\0", HEADER_SIZE) + 1
        error = inspector.objection_to_long()
        if error is not None or session.server is not None:
            inspector.note(head[start:])
    if error is not None:
        session.long.refused = True
        refuse(session, kind, error)
    return error is not None


def refuse(session: Session, kind: int, error: RouterError) -> None:
    """Answer with an error: a Query ends its batch, any other message leaves it open."""
    log.info("client %s: %s", session.peer, error.line)
    session.pool.router.tallies.refuse(error)
    extended, server, ends = session.extended, session.server, kind == codes.QUERY
    if server is None:
        session.error_count += 1
        extended.skipping = not ends
        session.reply(messages.error_from(error) + (messages.READY_IDLE if ends else b""))
        return
    extended.collected.operations.append(Operation(codes.PARSE, b"", error=error))
    if ends:
        extended.collected.operations.append(Operation(codes.SYNC, b""))
    extended.replay(server)
