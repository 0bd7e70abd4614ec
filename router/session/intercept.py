"""Statements that the router answers itself: recognising them and answering them."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..protocol import codes, messages
from ..routing import commands, explain
from . import choices, explaining
from .own import OwnStatement, transaction_failed

if TYPE_CHECKING:
    from ..routing.commands import Wording
    from ..routing.types import CommandReply
    from .session import Session

log = logging.getLogger("router.session")

# DEALLOCATE and DISCARD ALL, as a single statement.
_DEALLOCATE: Final = re.compile(
    rb"\s*+(?:deallocate\s++(?:prepare\s++)?(?:(?P<all>all)|\"(?P<quoted>(?:[^\"]|\"\")+)\"|(?P<name>[a-z_\x80-\xff][\w$\x80-\xff]*))"
    rb"|discard\s++(?P<discard>all))\s*+;?\s*+\Z",
    re.IGNORECASE,
)


# How those and the routing commands begin: with one of these, or with a blank or a comment.
_HEADS: Final = frozenset(
    bytes(letters)
    for word in (b"set", b"sho", b"res", b"exp", b"dea", b"dis")
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


def _command_reply(answer: CommandReply) -> bytes:
    """What a client gets for a routing command, without the ReadyForQuery."""
    parts = []
    if answer.column is not None:
        parts.append(messages.row_description([(answer.column, messages.TEXT_OID)]))
        parts.append(messages.data_row([answer.value]))
    parts.append(messages.command_complete(answer.tag))
    return b"".join(parts)


def answer(session: Session, sql: bytes) -> bool | None:
    """Answer a routing command, DEALLOCATE or DISCARD ALL.

    Returns:
        None: it is for the server. False: not before the replies of what was sent earlier.
    """
    busy = session.server is not None and bool(session.server.queue)
    try:
        wording = commands.worded(sql)
        explained = explain.explained(sql) if wording is None else None
    except RoutingError as error:
        if not busy:
            _refuse(session, error)
        return not busy
    if wording is not None or explained is not None:
        if not busy:
            _run_command(session, wording, explained)
        return not busy
    wanted = deallocation(sql)
    names = session.extended.names
    if wanted is None or not (names.renames or names.statements):
        return None
    if busy:
        return False
    if session.status == codes.IN_FAILED_TRANSACTION:
        return None  # the server refuses it
    return _deallocate(session, wanted)


def _refuse(session: Session, error: RoutingError) -> None:
    """Answer with an error; the session goes on."""
    session.error_count += 1
    log.info("client %s: %s", session.peer, error.line)
    session.reply(messages.error_from(error) + messages.ready_for_query(session.status))


def _run_command(session: Session, wording: Wording | None, explained: bytes | None) -> None:
    try:
        if session.status == codes.IN_FAILED_TRANSACTION:
            raise transaction_failed()
        if wording is None:
            reply = _explanation(session, explained or b"")
        elif wording.has_parameter:
            raise RoutingError("there is no parameter $1", sqlstate="42P02")
        else:
            reply = _command_reply(choices.choose(session, wording))
    except RoutingError as error:
        _refuse(session, error)
        return
    session.reply(reply + messages.ready_for_query(session.status))


def _explanation(session: Session, sql: bytes) -> bytes:
    if session.pool.retired and session.server is None:
        session.change_pool()
    columns = messages.row_description(explaining.COLUMNS)
    row = explaining.explained_row(session, sql)
    return columns + row + messages.command_complete("SELECT 1")


def _deallocate(session: Session, wanted: Deallocation) -> bool | None:
    names = session.extended.names
    if wanted.name is not None:
        statement = names.get(wanted.name)
        names.forget(wanted.name)
        if statement is None or (
            isinstance(statement, OwnStatement) and statement.is_at_server
        ):
            return None  # the server has it, or says that nobody has
    elif wanted.discard and session.status != codes.IDLE:
        return None  # the server refuses it
    else:
        names.forget_all()
        if session.server is not None or not names.renames:
            session.extended.distrust()
            return None
        if wanted.discard:
            session.settings.discard(session.pool)
            session.forget_choices()
    tag = messages.command_complete(wanted.tag)
    session.reply(tag + messages.ready_for_query(session.status))
    return True
