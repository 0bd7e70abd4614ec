"""Statements that the router answers itself: recognising them, and the bytes of the answers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..protocol import messages

if TYPE_CHECKING:
    from ..routing.commands import Command
    from ..routing.types import CommandReply

# DEALLOCATE and DISCARD ALL, as a single statement.
_DEALLOCATE: Final = re.compile(
    rb"\s*(?:deallocate\s+(?:prepare\s+)?(?:(?P<all>all)|\"(?P<quoted>(?:[^\"]|\"\")+)\"|(?P<name>[a-z_\x80-\xff][\w$\x80-\xff]*))"
    rb"|discard\s+(?P<discard>all))\s*;?\s*\Z",
    re.IGNORECASE,
)


# How those and the routing commands begin: with one of these, or with a blank or a comment.
_HEADS: Final = frozenset(
    bytes(letters)
    for word in (b"set", b"sho", b"dea", b"dis")
    for letters in product(*((letter, letter - 32) for letter in word))
)
_LEADS: Final = frozenset(b" \t\n\r\f\v/-;")


def may_concern(sql: bytes) -> bool:
    """Whether a statement may be one of the router's own, by its first letters."""
    return sql[:3] in _HEADS or (len(sql) > 0 and sql[0] in _LEADS)


@dataclass(frozen=True, slots=True)
class Deallocation:
    """A DEALLOCATE or DISCARD ALL.

    Attributes:
        name: the statement, or None for all of them.
        discard: whether it is DISCARD ALL.
        tag: of the CommandComplete.
    """

    name: bytes | None
    discard: bool
    tag: str


def deallocation(sql: bytes) -> Deallocation | None:
    """Recognise a statement that drops prepared statements; None for all other SQL."""
    if sql[:2].lower() not in (b"de", b"di") and not sql[:1].isspace():
        return None
    match = _DEALLOCATE.match(sql)
    if match is None:
        return None
    if match["discard"]:
        return Deallocation(None, True, "DISCARD ALL")
    if match["all"]:
        return Deallocation(None, False, "DEALLOCATE ALL")
    quoted = match["quoted"]
    name = match["name"].lower() if quoted is None else quoted.replace(b'""', b'"')
    return Deallocation(name, False, "DEALLOCATE")


def in_transaction(command: Command) -> RoutingError:
    """Why a routing command cannot be run now."""
    return RoutingError(
        f"{command.verb.value} cannot run inside a transaction block",
        sqlstate="25001",
        hint="A transaction stays on its server: send it before BEGIN.",
    )


def command_reply(answer: CommandReply) -> bytes:
    """What a client gets for a routing command, without the ReadyForQuery."""
    parts = []
    if answer.column is not None:
        parts.append(messages.row_description([(answer.column, messages.TEXT_OID)]))
        parts.append(messages.data_row([answer.value]))
    parts.append(messages.command_complete(answer.tag))
    return b"".join(parts)
