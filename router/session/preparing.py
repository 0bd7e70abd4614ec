"""Bringing a server to have the statements that a batch prepares and uses.

What clients name they share, by a name of the router's own: a Parse of what the server has
becomes a made-up ParseComplete, and what it lacks is parsed ahead of its use. A Parse without a
name goes to the server as it stands, whose unnamed statement it becomes; if another one has
taken that place when it is used, it is parsed again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..protocol import messages
from ..protocol.prepared import UNCLEAR
from ..protocol.segments import EMIT, FORWARD, FORWARD_PARSE, SWALLOW, Step

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from ..protocol.segments import Segment
    from .extended import Extended
    from .operations import Operation
    from .own import PreparedStatement


def server_name(operation: Operation) -> bytes:
    """What the statement of an operation is called at the server."""
    statement = operation.statement
    return b"" if operation.token or statement is None else statement.name


def parse(
    extended: Extended, server: ServerConnection, segment: Segment, operation: Operation
) -> None:
    """Carry out a client's Parse."""
    statement, names = operation.statement, extended.names
    assert statement is not None
    if operation.token:
        _parse_unnamed(extended, server, segment, operation, statement)
        return
    if server.statements.use(statement.name):
        if segment.is_blank:
            # Nothing before it can fail, so that it needs no script.
            segment.prefix = messages.PARSE_COMPLETE
        else:
            undo = lambda: names.undo(operation)  # noqa: E731
            extended.special(b"", Step(EMIT, b"", messages.PARSE_COMPLETE, undo))
        return

    def undo_all() -> None:
        _forget(server, statement)
        names.undo(operation)

    _make_room(extended, server, statement)
    extended.special(
        messages.parse(statement.name, statement.body),
        Step(FORWARD, b"1", undo=undo_all, done=statement.prove),
    )


def _parse_unnamed(
    extended: Extended,
    server: ServerConnection,
    segment: Segment,
    operation: Operation,
    statement: PreparedStatement,
) -> None:
    token, names = operation.token, extended.names
    server.unnamed = token
    message = messages.parse(b"", statement.body)
    if statement.proven and segment.is_blank:
        # The first message is never skipped, so that it needs no script: the server itself says
        # what has become of it to those who use it.
        segment.opening = token
        extended.add(message, FORWARD_PARSE)
        return

    def undo() -> None:
        server.unnamed = UNCLEAR
        names.undo(operation)

    def failed() -> None:
        server.unnamed = UNCLEAR
        statement.proven = False
        names.parse_failed(token)

    extended.distrust()
    extended.special(
        message, Step(FORWARD, b"1", undo=undo, done=statement.prove, failed=failed)
    )


def provide(
    extended: Extended, server: ServerConnection, statement: PreparedStatement, token: int = 0
) -> None:
    """See that the server has the statement by the time the next message reaches it."""
    extended.begin(server)
    if token:
        _provide_unnamed(extended, server, statement, token)
        return
    if server.statements.use(statement.name):
        return

    def undo() -> None:
        _forget(server, statement)

    _make_room(extended, server, statement)
    extended.special(
        messages.parse(statement.name, statement.body),
        Step(SWALLOW, b"1", undo=undo, done=statement.prove),
    )


def _provide_unnamed(
    extended: Extended, server: ServerConnection, statement: PreparedStatement, token: int
) -> None:
    if server.unnamed == token:
        return

    def undo() -> None:
        server.unnamed = UNCLEAR

    server.unnamed = token
    extended.distrust()
    extended.special(messages.parse(b"", statement.body), Step(SWALLOW, b"1", undo=undo))


def clear_unnamed(extended: Extended, server: ServerConnection) -> None:
    """The client has no unnamed statement: see that it does not get at that of another."""
    if not server.unnamed:
        return

    def undo() -> None:
        server.unnamed = UNCLEAR

    extended.begin(server)
    server.unnamed = 0
    extended.distrust()
    extended.special(messages.close_statement(b""), Step(SWALLOW, b"3", undo=undo))


def _forget(server: ServerConnection, statement: PreparedStatement) -> None:
    server.statements.discard(statement.name)
    statement.proven = False


def _make_room(
    extended: Extended, server: ServerConnection, statement: PreparedStatement
) -> None:
    extended.distrust()
    evicted = server.statements.add(statement.name)
    if evicted is not None:
        undo = lambda: server.statements.restore(evicted)  # noqa: E731
        extended.special(messages.close_statement(evicted), Step(SWALLOW, b"3", undo=undo))
