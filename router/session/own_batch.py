"""Messages about the router's own statements, on their way past a server.

What goes to the server is about the stand-in; see `own`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RouterError
from ..protocol import codes, marks, messages
from ..protocol.segments import EMIT, FORWARD, FORWARD_BIND, REPLACE_ERROR, SWALLOW, Step
from .own import EMPTY_BODY, transaction_failed

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from ..protocol.segments import Segment
    from .operations import Operation
    from .own import Own
    from .session import Session

# A Bind to a statement that cannot exist: no serial number is 0.
POISON: Final = messages.bind_head(b"", b"PGCAT_0", 6) + bytes(6)
# A Bind of no values, from behind its names.
_NOTHING_BOUND: Final = bytes(6)


def must_wait(server: ServerConnection, segment: Segment | None) -> bool:
    """Whether the status of the transaction is not known before earlier replies."""
    return bool(server.queue) and server.queue[0] is not segment


def steps(
    session: Session,
    server: ServerConnection,
    segment: Segment,
    operation: Operation,
    own: Own,
) -> list[tuple[bytes, Step]]:
    """Do what the message asks for.

    Returns:
        What is sent to the server, perhaps nothing, and what becomes of the reply. None of it
        if the message is a Parse like any other.
    """
    undo = lambda: session.extended.names.undo(operation)  # noqa: E731
    kind = operation.kind
    try:
        if _fails(server, segment, kind):
            raise transaction_failed()
        reply = own.perform(session, kind, operation.data)
    except RouterError as error:
        return [(POISON, Step(REPLACE_ERROR, b"", messages.error_from(error), undo))]
    data, statement = operation.data, own.statement
    if kind == codes.PARSE and data:  # another statement, by the name of this one
        server.marks |= marks.PREPARE | marks.of_text(data).leaves
        return [(data, Step(FORWARD, b"1", undo=undo))]
    if kind == codes.PARSE:
        is_forwarded = session.pool.is_session_mode and not session.extended.names.renames
        if not statement.client_name or not is_forwarded:
            return []
        statement.is_at_server = True
        server.marks |= marks.PREPARE
        named = messages.parse(statement.client_name, EMPTY_BODY)
        return [(named, Step(FORWARD, b"1", undo=undo))]
    if kind == codes.BIND:
        head = messages.bind_head(operation.name, statement.name, len(_NOTHING_BOUND))
        return [(head + _NOTHING_BOUND, FORWARD_BIND)]
    if kind == codes.EXECUTE:
        return [(data, Step(SWALLOW, b"I", undo=undo)), (b"", Step(EMIT, b"", reply))]
    if own.portal is not None and kind == codes.DESCRIBE:
        return [(data, Step(SWALLOW, b"n")), (b"", Step(EMIT, b"", reply))]
    if own.portal is not None or (kind == codes.CLOSE and statement.is_at_server):
        return [(data, Step(FORWARD, b"3", undo=undo))]
    return [(b"", Step(EMIT, b"", reply, undo))]


def _fails(server: ServerConnection, segment: Segment, kind: int) -> bool:
    """Whether the transaction has failed, which the server does not mind.

    For it lets an empty statement be parsed and described even then.
    """
    return (
        server.status == codes.IN_FAILED_TRANSACTION
        and kind in (codes.PARSE, codes.DESCRIBE)
        and segment.is_blank
    )
