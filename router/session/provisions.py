"""What a server must be sent so that it knows statements by certain names.

Servers know most statements by names of the router's own. SQL has the client's: what EXECUTE,
DEALLOCATE or PREPARE mention must be there by that name as well. So it is made there, once
more, just before the text that mentions it; the next client has it dropped, if it means
something else by the name (see `Lease`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import messages, naming
from ..protocol.steps import SWALLOW, Step
from .answered import AnsweredStatement

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..pool.server import ServerConnection
    from .answered import PreparedStatement

# By this name a PREPARE is itself prepared and run, where a Query has no place.
_OWN: Final = b"PGCAT_PREPARE"
_NOTHING_BOUND: Final = bytes(6)
_NO_TYPES: Final = b"\0\0\0"


def making(
    name: bytes, statement: PreparedStatement, undo: Callable[[], None]
) -> list[tuple[bytes, Step]]:
    """The messages that make a statement by a name, and what becomes of their replies."""
    if not statement.rest:
        step = Step(SWALLOW, b"1", undo=undo, done=statement.prove)
        return [(messages.parse(name, statement.body), step)]
    sql = naming.prepare(name, statement.rest)
    bind = messages.bind_head(_OWN, _OWN, len(_NOTHING_BOUND)) + _NOTHING_BOUND
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
