"""The extended query protocol of the admin database: prepared statements and portals.

No command takes parameters. There are no transactions either, so a Sync ends all portals.
"""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import ClientError, ClientProtocolError, RouterError
from ..protocol import codes, messages
from . import encoding
from .commands import Console, Order, find
from .statements import split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .show import Heading

# Prepared statements that a session may have, and portals.
NAMES_LIMIT: Final = 500

_STATEMENT: Final = ord("S")
_PORTAL: Final = ord("P")


class Body:
    """Reads the fields of a message body from left to right."""

    __slots__ = ("_data", "_position")

    def __init__(self, data: bytes) -> None:
        self._data: Final = data
        self._position = 0

    def take(self, size: int) -> bytes:
        """So many bytes."""
        start, self._position = self._position, self._position + size
        if size < 0 or self._position > len(self._data):
            raise ClientProtocolError("insufficient data left in message")
        return self._data[start : self._position]

    def byte(self) -> int:
        """A Byte1."""
        return self.take(1)[0]

    def int16(self) -> int:
        """An Int16 that is a count or a code."""
        return int.from_bytes(self.take(2), "big")

    def int32(self) -> int:
        """An Int32."""
        [number] = struct.unpack("!i", self.take(4))
        return int(number)

    def string(self) -> str:
        """A String."""
        end = self._data.find(b"\0", self._position)
        if end < 0:
            raise ClientProtocolError("invalid string in message")
        return self.take(end + 1 - self._position)[:-1].decode("utf-8", "replace")

    def end(self) -> None:
        """Insist that nothing is left."""
        if self._position != len(self._data):
            raise ClientProtocolError("invalid message format")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared statement; `order` is None for the empty query."""

    order: Order | None

    @property
    def headings(self) -> tuple[Heading, ...] | None:
        """The columns of its rows; None if it never has any."""
        return None if self.order is None else self.order.command.headings


class Portal:
    """A bound statement.

    Attributes:
        formats: a format code for each column.
        rest: encoded rows that were not fetched yet; None before the first Execute.
    """

    __slots__ = ("_rest", "formats", "statement")

    def __init__(self, statement: Prepared, formats: tuple[int, ...]) -> None:
        self.statement: Final = statement
        self.formats: Final = formats
        self._rest: deque[bytes] | None = None

    def execute(self, console: Console, limit: int) -> bytes:
        """Run the command the first time, and return up to `limit` rows, or all if it is 0."""
        order = self.statement.order
        if order is None:
            return messages.EMPTY_QUERY_RESPONSE
        parts: list[bytes] = []
        if self._rest is None:
            reply = order.run(console)
            parts.append(reply.notice)
            headings = self.statement.headings or ()
            self._rest = deque(
                encoding.data_row(row, headings, self.formats) for row in reply.rows
            )
        elif self.statement.headings is None:
            raise ClientError("portal cannot be run any more", sqlstate="55000")
        count = min(limit, len(self._rest)) if limit > 0 else len(self._rest)
        parts += [self._rest.popleft() for _ in range(count)]
        parts.append(
            encoding.PORTAL_SUSPENDED
            if self._rest
            else messages.command_complete(order.command.tag)
        )
        return b"".join(parts)


class Extended:
    """Answers Parse, Bind, Describe, Execute and Close."""

    def __init__(self, console: Console) -> None:
        self._console: Final = console
        self._statements: dict[str, Prepared] = {}
        self._portals: dict[str, Portal] = {}
        self._answers: Final = {
            codes.PARSE: self._parse,
            codes.BIND: self._bind,
            codes.DESCRIBE: self._describe,
            codes.EXECUTE: self._execute,
            codes.CLOSE: self._close,
        }

    def answer(self, kind: int, data: bytes) -> bytes:
        """The reply to one of these messages.

        Raises:
            RouterError: to be told to the client, who then is ignored until its next Sync.
        """
        return self._answers[kind](Body(data))

    def sync(self) -> None:
        """End the portals."""
        self._portals.clear()

    def forget_unnamed(self) -> None:
        """A simple query ends the unnamed statement and all portals."""
        self._statements.pop("", None)
        self._portals.clear()

    def _parse(self, body: Body) -> bytes:
        name, text = body.string(), body.string()
        # Types for parameters that the statement does not have: of no consequence.
        body.take(4 * body.int16())
        body.end()
        if name and name in self._statements:
            raise ClientError(f'prepared statement "{name}" already exists', sqlstate="42P05")
        found = split(text)
        if len(found) > 1:
            raise ClientError(
                "cannot insert multiple commands into a prepared statement", sqlstate="42601"
            )
        prepared = Prepared(find(found[0]) if found else None)
        _make_room(self._statements, name, "prepared statements")
        self._statements[name] = prepared
        return messages.PARSE_COMPLETE

    def _bind(self, body: Body) -> bytes:
        portal, name = body.string(), body.string()
        statement = self._statement(name)
        body.take(2 * body.int16())
        parameters = body.int16()
        if parameters:
            raise ClientProtocolError(
                f"bind message supplies {parameters} parameters, "
                f'but prepared statement "{name}" requires 0'
            )
        formats = [body.int16() for _ in range(body.int16())]
        body.end()
        if portal and portal in self._portals:
            raise ClientError(f'portal "{portal}" already exists', sqlstate="42P03")
        _make_room(self._portals, portal, "portals")
        self._portals[portal] = Portal(statement, _formats(statement, formats))
        return messages.BIND_COMPLETE

    def _describe(self, body: Body) -> bytes:
        kind, name = body.byte(), body.string()
        body.end()
        if kind == _STATEMENT:
            statement = self._statement(name)
            return encoding.PARAMETER_DESCRIPTION + _describe(
                statement, _formats(statement, ())
            )
        if kind == _PORTAL:
            portal = self._portal(name)
            return _describe(portal.statement, portal.formats)
        raise ClientProtocolError(f"invalid DESCRIBE message subtype {kind}")

    def _execute(self, body: Body) -> bytes:
        name, limit = body.string(), body.int32()
        body.end()
        return self._portal(name).execute(self._console, limit)

    def _close(self, body: Body) -> bytes:
        kind, name = body.byte(), body.string()
        body.end()
        if kind == _STATEMENT:
            self._statements.pop(name, None)
        elif kind == _PORTAL:
            self._portals.pop(name, None)
        else:
            raise ClientProtocolError(f"invalid CLOSE message subtype {kind}")
        return messages.CLOSE_COMPLETE

    def _statement(self, name: str) -> Prepared:
        try:
            return self._statements[name]
        except KeyError:
            raise ClientError(
                f'prepared statement "{name}" does not exist', sqlstate="26000"
            ) from None

    def _portal(self, name: str) -> Portal:
        try:
            return self._portals[name]
        except KeyError:
            raise ClientError(f'portal "{name}" does not exist', sqlstate="34000") from None


def _make_room(named: Mapping[str, object], name: str, what: str) -> None:
    """Insist that there is room for one more, so that a session's memory is bounded."""
    if len(named) >= NAMES_LIMIT and name not in named:
        raise RouterError(f"too many {what}, at most {NAMES_LIMIT}", sqlstate="53400")


def _describe(statement: Prepared, formats: Sequence[int]) -> bytes:
    if statement.headings is None:
        return messages.NO_DATA
    return encoding.row_description(statement.headings, formats)


def _formats(statement: Prepared, wanted: Sequence[int]) -> tuple[int, ...]:
    """A format for each column: none wanted is text, one goes for all."""
    count = len(statement.headings or ())
    if any(fmt not in (encoding.TEXT, encoding.BINARY) for fmt in wanted):
        raise ClientError("unsupported format code", sqlstate="22023")
    if len(wanted) <= 1:
        return (wanted[0] if wanted else encoding.TEXT,) * count
    if len(wanted) != count:
        raise ClientProtocolError(
            f"bind message has {len(wanted)} result formats but query has {count} columns"
        )
    return tuple(wanted)
