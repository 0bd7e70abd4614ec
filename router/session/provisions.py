"""What a server must be sent so that it knows statements by certain names.

Servers know most statements by names of the router's own. SQL has the client's: what EXECUTE,
DEALLOCATE or PREPARE mention must be there by that name as well. So it is made there, once
more, just before the text that mentions it; the next client has it dropped, if it means
something else by the name (see `Lease`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..pool.answer import Foregoer
from ..protocol import messages, naming
from ..protocol.binds import bind_head
from ..protocol.columns import Describing
from ..protocol.segments import Segment
from ..protocol.steps import SWALLOW, Step
from .answered import AnsweredStatement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..pool.server import ServerConnection
    from ..protocol.columns import Description
    from .answered import PreparedStatement

# By this name a PREPARE is itself prepared and run, where a Query has no place.
_OWN: Final = b"PGCAT_PREPARE"
_NOTHING_BOUND: Final = bytes(6)
_NO_TYPES: Final = b"\0\0\0"


def making(
    name: bytes, statement: PreparedStatement, undo: Callable[[], None], types: bytes = b""
) -> list[tuple[bytes, Step]]:
    """The messages that make a statement by a name, and what becomes of their replies.

    `types` are those of its parameters, if its client counts on them: without, a server finds
    out anew what they are, and after a change of the schema that may be something else.
    """
    if not statement.rest:
        step = Step(SWALLOW, b"1", undo=undo, done=statement.prove)
        body = statement.text + b"\0" + types if types else statement.body
        return [(messages.parse(name, body), step)]
    sql = naming.prepare(name, statement.rest)
    bind = bind_head(_OWN, _OWN, len(_NOTHING_BOUND)) + _NOTHING_BOUND
    return [
        # What an error has left of the last one goes first.
        (messages.close_statement(_OWN), Step(SWALLOW, b"3")),
        (messages.parse(_OWN, sql + _NO_TYPES), Step(SWALLOW, b"1")),
        (bind, Step(SWALLOW, b"2")),
        (messages.execute(_OWN), Step(SWALLOW, b"C", undo=undo)),
        (messages.close_portal(_OWN), Step(SWALLOW, b"3")),
    ]


def providing(
    server: ServerConnection, known: Mapping[bytes, PreparedStatement]
) -> list[tuple[bytes, Step]]:
    """What the server lacks of what a text mentions; from here on it has it."""
    parts: list[tuple[bytes, Step]] = []
    for name, statement in known.items():
        if isinstance(statement, AnsweredStatement):
            continue
        held = server.named.get(name)
        if held is statement:
            continue
        if held is not None:
            parts.append(dropping(server, name))
        server.named[name] = statement
        parts += making(name, statement, _undo(server, name))
    return parts


def making_unnamed(
    server: ServerConnection, statement: PreparedStatement, told: Description | None
) -> list[tuple[bytes, Step]]:
    """The messages that make it the server's unnamed one.

    `told`: the client has been, of it; if that is not so any more, the server is known not to
    have it.
    """
    step = Step(SWALLOW, b"1", undo=server.lose_unnamed)
    if told is None:
        return [(messages.parse(b"", statement.body), step)]

    def heard(description: Description) -> None:
        if not told.is_same(description):
            server.lose_unnamed()

    return [
        (messages.parse(b"", statement.text + b"\0" + told.types), step),
        describing(b"", heard, server.lose_unnamed),
    ]


def describing(
    name: bytes,
    told: Callable[[Description], None],
    undo: Callable[[], None] | None = None,
    order: int = SWALLOW,
) -> tuple[bytes, Step]:
    """Ask what the server tells of a statement, be it for the client or for our own use."""
    step = Step(order, b"Tn", undo=undo, describing=Describing(told))
    return messages.describe_statement(name), step


def retiring(server: ServerConnection, name: bytes) -> Callable[[], None]:
    """What has the server's statement of that name closed before another gets it."""
    return lambda: server.statements.retire(name)


def dropping(server: ServerConnection, name: bytes) -> tuple[bytes, Step]:
    """Have the server drop what it has by a client's name."""
    held = server.named.pop(name)

    def undo() -> None:
        server.named[name] = held

    return messages.close_statement(name), Step(SWALLOW, b"3", undo=undo)


def _undo(server: ServerConnection, name: bytes) -> Callable[[], None]:
    def undo() -> None:
        server.named.pop(name, None)

    return undo


def go_ahead(
    server: ServerConnection, parts: list[tuple[bytes, Step]], done: Callable[[bytes], None]
) -> None:
    """Send messages of the router's own; `done` is given the error, if there is one."""

    def answered(error: bytes) -> None:
        server.end_own()
        done(error)

    segment = Segment.batch(Foregoer(answered, server.on_async))
    server.queue.append(segment)
    for _, step in parts:
        segment.expect(step)
    segment.sync(keep_script=True)
    server.send(b"".join([data for data, _ in parts]) + messages.SYNC)
