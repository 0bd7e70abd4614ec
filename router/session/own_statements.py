"""The statements that the router answers itself, by what they say."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError
from ..protocol import codes, messages
from ..protocol.binds import declared_types
from ..protocol.messages import TEXT_OID
from ..protocol.portals import Answer
from ..routing import commands, explain
from . import choices, intercept
from .explaining import ExplainStatement
from .own import OwnStatement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.contracts import LocalAnswer
    from ..routing.commands import Wording
    from .own import OwnPortal, PreparedStatement
    from .session import Session

# Type oids by what a value in binary format is: int8, int2, int4; text and its like; uuid.
_INTEGERS: Final = {20: 8, 21: 2, 23: 4}
_TEXTS: Final = frozenset((0, 18, 19, TEXT_OID, 705, 1042, 1043))
_UUID: Final = 2950


class CommandStatement(OwnStatement):
    """A routing command, perhaps with its value to come as the parameter $1."""

    __slots__ = ("_wording",)

    def __init__(self, wording: Wording, types: tuple[int, ...]) -> None:
        column = wording.column
        super().__init__(() if column is None else ((column, TEXT_OID),), types)
        self._wording: Final = wording

    def run(self, session: Session, portal: OwnPortal) -> Answer:
        value = None
        if self._wording.has_parameter:
            data, is_binary = portal.values[0]
            value = parameter_text(data, self.types[0], is_binary=is_binary)
        reply = choices.choose(session, self._wording, value)
        if reply.column is None:
            return Answer(None, reply.tag)
        return Answer((messages.data_row((reply.value,)),))


class DroppingStatement(OwnStatement):
    """What drops prepared statements, whose names mean nothing to a server.

    The names are gone as soon as its Execute has been read: see `Names`.
    """

    __slots__ = ("wanted",)

    def __init__(self, wanted: intercept.Deallocation) -> None:
        super().__init__()
        self.wanted: Final = wanted

    def run(self, session: Session, portal: OwnPortal) -> Answer:
        wanted = self.wanted
        if wanted.discard:
            if session.status != codes.IDLE:
                raise choices.in_transaction(wanted.tag)
            session.settings.discard(session.pool)
            session.forget_choices()
        return Answer(None, wanted.tag)


class CannedStatement(OwnStatement):
    """What a plugin has an answer to."""

    __slots__ = ("_answer",)

    def __init__(self, answer: LocalAnswer, body: bytes) -> None:
        super().__init__(answer.columns, _types(body, answer.parameters))
        self._answer: Final = answer

    def run(self, session: Session, portal: OwnPortal) -> Answer:
        return Answer(self._answer.rows(portal.formats))


def parameter_text(data: bytes | None, oid: int, *, is_binary: bool) -> str | None:
    """Read a parameter as the text that PostgreSQL would write for it; None for NULL.

    Raises:
        ClientProtocolError: it is none of the types that a command takes, or broken.
    """
    if data is None:
        return None
    if not is_binary or oid in _TEXTS:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise ClientProtocolError(
                "invalid byte sequence in a parameter", sqlstate="22021"
            ) from None
    if len(data) == _INTEGERS.get(oid):
        return str(int.from_bytes(data, "big", signed=True))
    if oid == _UUID and len(data) == 16:
        return str(uuid.UUID(bytes=data))
    if oid in _INTEGERS or oid == _UUID:
        raise ClientProtocolError(
            "incorrect binary data format in a parameter", sqlstate="22P03"
        )
    raise ClientProtocolError(
        f"a routing command takes no parameter of type oid {oid} in binary format",
        sqlstate="0A000",
        hint="Send it as text.",
    )


def own_statement(
    body: bytes, names: Mapping[bytes, PreparedStatement], *, renames: bool
) -> OwnStatement | None:
    """The statement for the body of a Parse, if it is one of the router's own.

    Args:
        body: what follows the name.
        names: what the client has prepared.
        renames: whether the client's names are unknown to servers.

    Raises:
        RouterError: it is one, and wrong.
    """
    if not intercept.may_concern(body):
        return None
    sql = body[: body.index(b"\0")]
    wording = commands.worded(sql)
    if wording is not None:
        return CommandStatement(wording, _types(body, int(wording.has_parameter)))
    explained = explain.explained(sql)
    if explained is not None:
        types = _types(body, explain.parameter_count(explained))
        return ExplainStatement(explained, types, body)
    wanted = intercept.deallocation(sql)
    if wanted is None:
        return None
    if wanted.name is None:
        return DroppingStatement(wanted) if renames else None
    statement = names.get(wanted.name)
    if statement is None or (isinstance(statement, OwnStatement) and statement.is_at_server):
        return None  # the server knows it
    return DroppingStatement(wanted)


def drops_all(body: bytes) -> bool:
    """Whether the body of a Parse is DEALLOCATE ALL or DISCARD ALL."""
    if not intercept.may_concern(body):
        return False
    wanted = intercept.deallocation(body[: body.index(b"\0")])
    return wanted is not None and wanted.name is None


def _types(body: bytes, needed: int) -> tuple[int, ...]:
    """The parameters' types: what the Parse declares, else text."""
    declared = declared_types(body)
    declared += (0,) * max(needed - len(declared), 0)
    return tuple(oid or TEXT_OID for oid in declared)
