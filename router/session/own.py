"""Statements that the router answers itself, as they come in the extended protocol.

A client prepares, binds, describes and executes them like any other. While it has no server,
they need none: `Collected` gives out the replies. With a server, each has a stand-in there, an
empty statement, whose replies are replaced by ours. So it is the server that says whether a
portal exists and whether the transaction has failed, and replies come in their order.

To servers the stand-in of all of them is the same statement of the router's own. In session
mode clients' names are the server's; there an empty statement takes the client's name as well,
so that the server knows it to be taken.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RoutingError
from ..protocol import codes, messages
from ..protocol.marks import HARMLESS
from ..protocol.prepared import Statement
from ..routing.types import Analysis

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing.state import Choices
    from .session import Session

PreparedStatement = Statement[Analysis | None]

# What follows the name in the Parse of an empty statement.
EMPTY_BODY: Final = b"\0\0\0"
_STAND_IN: Final[PreparedStatement] = Statement(EMPTY_BODY, None, HARMLESS)

_INT16: Final = struct.Struct("!H")
_INT32: Final = struct.Struct("!i")
_FORMATS: Final = (0, 1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an own statement is answered with.

    Attributes:
        rows: encoded DataRows; None if it returns none by nature.
        tag: of the CommandComplete, if it returns none.
    """

    rows: Sequence[bytes] | None
    tag: str = ""


@dataclass(frozen=True, slots=True)
class BindValues:
    """What a Bind carries.

    Attributes:
        values: for each parameter its value, None being NULL, and whether that is binary.
        formats: of the results, as they were asked for.
    """

    values: tuple[tuple[bytes | None, bool], ...]
    formats: tuple[int, ...]


def bind_values(data: bytes) -> BindValues:
    """Read a Bind from behind its names.

    Raises:
        ClientProtocolError: it is malformed.
    """
    try:
        codes_, pos = _int16s(data, 0)
        (count,) = _INT16.unpack_from(data, pos)
        pos += 2
        values: list[bytes | None] = []
        for _ in range(count):
            (length,) = _INT32.unpack_from(data, pos)
            pos += 4
            values.append(None if length < 0 else data[pos : pos + length])
            pos += max(length, 0)
        results, pos = _int16s(data, pos)
    except struct.error:
        raise ClientProtocolError("invalid message format") from None
    if pos != len(data):
        raise ClientProtocolError("invalid message format")
    if len(codes_) > 1 and len(codes_) != count:
        raise ClientProtocolError(
            f"bind message has {len(codes_)} parameter formats but {count} parameters"
        )
    if any(code not in _FORMATS for code in codes_ + results):
        raise ClientProtocolError("unsupported format code", sqlstate="22023")
    formats = codes_ * count if len(codes_) == 1 else codes_ or (0,) * count
    return BindValues(
        tuple((value, fmt == 1) for value, fmt in zip(values, formats, strict=True)), results
    )


def _int16s(data: bytes, pos: int) -> tuple[tuple[int, ...], int]:
    """Read an Int16 count and as many Int16; returns where they end, too."""
    (count,) = _INT16.unpack_from(data, pos)
    end = pos + 2 + 2 * count
    return struct.unpack_from(f"!{count}H", data, pos + 2), end


class OwnStatement(PreparedStatement):
    """A statement that the router answers itself; subclasses say what it is.

    Attributes:
        columns: name and type oid of each; empty for what returns no rows.
        types: type oids of the parameters.
        client_name: what the client calls it.
        size: bytes of its text and types.
        is_at_server: in session mode, whether a server has been told that name.
    """

    __slots__ = ("client_name", "columns", "is_at_server", "size", "types")

    def __init__(
        self, columns: tuple[tuple[str, int], ...] = (), types: tuple[int, ...] = ()
    ) -> None:
        super().__init__(EMPTY_BODY, None, HARMLESS, name=_STAND_IN.name)
        self.columns: Final = columns
        self.types: Final = types
        self.client_name = b""
        self.size = 0
        self.is_at_server = False

    def run(self, session: Session, portal: OwnPortal) -> Answer:
        """Carry it out.

        Raises:
            RouterError: it cannot be; nothing has changed.
        """
        raise NotImplementedError

    def bound(self, name: bytes, data: bytes) -> OwnPortal:
        """Bind values to it; `data` is what follows the names in the Bind.

        Raises:
            ClientProtocolError: they do not fit.
        """
        bind = bind_values(data)
        if len(bind.values) != len(self.types):
            shown = self.client_name.decode("utf-8", "replace")
            raise ClientProtocolError(
                f"bind message supplies {len(bind.values)} parameters, "
                f'but prepared statement "{shown}" requires {len(self.types)}'
            )
        formats, width = bind.formats, len(self.columns)
        if len(formats) > 1 and len(formats) != width:
            raise ClientProtocolError(
                f"bind message has {len(formats)} result formats but query has {width} columns"
            )
        if len(formats) <= 1:
            formats = (formats or (0,)) * width
        return OwnPortal(name, self, data, bind.values, formats)


class OwnPortal:
    """An own statement with values bound to it.

    Attributes:
        data: the Bind from behind its names.
        values: for each parameter its value and whether that is binary.
        formats: one for each column.
        rest: rows that have not been fetched; None before the first Execute.
    """

    __slots__ = ("data", "formats", "name", "rest", "statement", "values")

    def __init__(
        self,
        name: bytes,
        statement: OwnStatement,
        data: bytes,
        values: tuple[tuple[bytes | None, bool], ...],
        formats: tuple[int, ...],
    ) -> None:
        self.name: Final = name
        self.statement: Final = statement
        self.data: Final = data
        self.values: Final = values
        self.formats: Final = formats
        self.rest: list[bytes] | None = None

    def execute(self, session: Session, limit: int) -> bytes:
        """Run it the first time; returns up to `limit` rows, all if it is 0, and the end.

        Raises:
            RouterError: it cannot be; nothing has changed.
        """
        rest = self.rest
        if rest is None:
            answer = self.statement.run(session, self)
            self.rest = rest = list(answer.rows or ())
            if answer.rows is None:
                return messages.command_complete(answer.tag)
        elif not self.statement.columns:
            shown = self.name.decode("utf-8", "replace")
            raise ClientProtocolError(f'portal "{shown}" cannot be run', sqlstate="55000")
        taken = rest[:limit] if limit > 0 else rest
        self.rest = rest[len(taken) :]
        # As PostgreSQL does: who asks for as many rows as there are is not told that it is all.
        is_end = limit <= 0 or len(taken) < limit
        end = (
            messages.command_complete(f"SELECT {len(taken)}")
            if is_end
            else messages.PORTAL_SUSPENDED
        )
        return b"".join(taken) + end


def described(columns: Sequence[tuple[str, int]], formats: Sequence[int]) -> bytes:
    """The RowDescription or NoData for columns."""
    return messages.row_description(columns, formats) if columns else messages.NO_DATA


class Own:
    """What one message of a batch has to do with an own statement.

    Attributes:
        statement: which one.
        portal: the one that is bound, described, executed or closed; None if it is about the
            statement itself.
        dropped: statements of the client that executing it drops.
        reply: the answer, once it is known.
    """

    __slots__ = ("_before", "_rest", "_session", "dropped", "portal", "reply", "statement")

    def __init__(self, statement: OwnStatement, portal: OwnPortal | None = None) -> None:
        self.statement: Final = statement
        self.portal: Final = portal
        self.dropped: dict[bytes, PreparedStatement] | None = None
        self.reply: bytes | None = None
        self._session: Session | None = None
        self._before: Choices | None = None
        self._rest: list[bytes] | None = None

    def perform(self, session: Session, kind: int, data: bytes) -> bytes:
        """Do what the message asks for, unless it has been done; returns the reply.

        Raises:
            RouterError: it cannot be done; nothing has changed.
        """
        if self.reply is None:
            self.reply = self._perform(session, kind, data)
        return self.reply

    def _perform(self, session: Session, kind: int, data: bytes) -> bytes:
        statement, portal = self.statement, self.portal
        if kind == codes.PARSE:
            return messages.PARSE_COMPLETE
        if kind == codes.BIND:
            return messages.BIND_COMPLETE
        if kind == codes.CLOSE:
            return messages.CLOSE_COMPLETE
        if kind == codes.DESCRIBE:
            if portal is not None:
                return described(statement.columns, portal.formats)
            formats = (0,) * len(statement.columns)
            return messages.parameter_description(statement.types) + described(
                statement.columns, formats
            )
        assert portal is not None
        self._session, self._before = session, session.routing.choices
        self._rest = portal.rest
        (limit,) = _INT32.unpack(data[-4:])
        return portal.execute(session, limit)

    def undo(self) -> None:
        """Take back what was done: it turns out that the server skips it."""
        if self._session is not None and self._before is not None:
            self._session.routing.restore(self._before)
            self._session.set_pipelining()
            if self.portal is not None:
                self.portal.rest = self._rest
        self.reply = self._before = None


def transaction_failed() -> RoutingError:
    """What PostgreSQL says to anything but the end of a transaction that has failed."""
    return RoutingError(
        "current transaction is aborted, commands ignored until end of transaction block",
        sqlstate="25P02",
    )
