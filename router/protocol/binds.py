"""The one reader of Parse and Bind, and of the names in Describe, Execute and Close.

It may be given any bytes. What PostgreSQL would refuse is a ClientProtocolError in PostgreSQL's
words, raised where it is come upon: the names of a Bind can be good, and its values not.

Most of it works on `data[start:end]`, one whole message among others, and tells places in it
rather than parts of it. A place that ends a name is that of its zero byte.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError
from . import codes
from .framing import HEADER_SIZE, header

if TYPE_CHECKING:
    from ..compiling import i64

STATEMENT: Final = 0x53  # "S"
PORTAL: Final = 0x50  # "P"

_TEXT: Final = 0
_BINARY: Final = 1
FORMATS: Final = (_TEXT, _BINARY)

_NEAR: Final = 16


def query_text(data: bytes, start: int, end: int) -> bytes:
    """The text of a Query.

    Raises:
        ClientProtocolError: it is malformed.
    """
    text_end = string_end(data, start + HEADER_SIZE, end)
    if text_end + 1 != end:
        raise _malformed()
    return data[start + HEADER_SIZE : text_end]


def parse_ends(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the name and the text of a Parse end; the body is what follows the name.

    Raises:
        ClientProtocolError: it ends before the number of its parameters' types.
    """
    name_end = string_end(data, start + HEADER_SIZE, end)
    text_end = string_end(data, name_end + 1, end)
    if text_end + 3 > end:
        raise _insufficient()
    return name_end, text_end


def bind_ends(data: bytes, start: int, end: int) -> tuple[int, int]:
    """Where the names of the portal and of the statement end in a Bind.

    Raises:
        ClientProtocolError: they do not.
    """
    portal_end = string_end(data, start + HEADER_SIZE, end)
    return portal_end, string_end(data, portal_end + 1, end)


def bind_head(portal: bytes, statement: bytes, rest: int) -> bytes:
    """A Bind up to the statement's name; `rest` bytes of formats and values must follow."""
    return (
        header(codes.BIND, len(portal) + len(statement) + 6 + rest)
        + portal
        + b"\0"
        + statement
        + b"\0"
    )


def target(data: bytes, start: int, end: int) -> tuple[int, bytes]:
    """What a Describe or a Close is about: STATEMENT, PORTAL or what is neither, and a name.

    Raises:
        ClientProtocolError: it is malformed.
    """
    pos = start + HEADER_SIZE
    if pos >= end:
        raise ClientProtocolError("no data left in message")
    name_end = string_end(data, pos + 1, end)
    if name_end + 1 != end:
        raise _malformed()
    return data[pos], data[pos + 1 : name_end]


def no_target(kind: int, target: int) -> ClientProtocolError:
    """What PostgreSQL says of a Describe or a Close of neither."""
    what = "DESCRIBE" if kind == codes.DESCRIBE else "CLOSE"
    return ClientProtocolError(f"invalid {what} message subtype {target}")


def execution(data: bytes, start: int, end: int) -> tuple[bytes, int]:
    """The portal of an Execute, and how many rows are wanted; 0 or less is all.

    Raises:
        ClientProtocolError: it is malformed.
    """
    name_end = string_end(data, start + HEADER_SIZE, end)
    limit = _int32(data, name_end + 1, end)
    if name_end + 5 != end:
        raise _malformed()
    return data[start + HEADER_SIZE : name_end], limit


def string_end(data: bytes, start: int, end: int) -> int:
    """Where the string that begins at `start` ends.

    Raises:
        ClientProtocolError: it does not, before `end`.
    """
    # Most are names, and short: a call costs more than a look at a few bytes.
    pos: i64 = start
    near: i64 = start + _NEAR
    near = min(near, end)
    near = min(near, len(data))  # of two numbers, not three: that would be a call of Python's
    while pos < near:
        if data[pos] == 0:
            return pos
        pos += 1
    found = data.find(b"\0", pos, end)
    if found < 0:
        raise ClientProtocolError("invalid string in message")
    return found


def declared_types(body: bytes) -> tuple[int, ...]:
    """The oids of the parameters' types that the body of a Parse declares, 0 being unknown.

    Raises:
        ClientProtocolError: it is malformed.
    """
    end = len(body)
    pos = string_end(body, 0, end) + 1
    count = _int16(body, pos, end)
    pos += 2
    if pos + 4 * count > end:
        raise _insufficient()
    if pos + 4 * count != end:
        raise _malformed()
    return tuple([_int32(body, pos + 4 * i, end) & 0xFFFFFFFF for i in range(count)])


class Parameters:
    """The values that a Bind carries: they are read in turn, as far as somebody asks.

    Attributes:
        count: how many there are to be.
        number: that of the one that was read last, counted from 1.
        is_null, is_binary: what that is.
    """

    __slots__ = (
        "_data",
        "_format_count",
        "_formats",
        "_next",
        "_start",
        "count",
        "is_binary",
        "is_null",
        "number",
    )

    def __init__(self, data: bytes, start: int = 0) -> None:
        """Begin to read at `start`, behind the names; the Bind ends with the data.

        Raises:
            ClientProtocolError: there is no number of values, or another of formats.
        """
        end = len(data)
        self._data: Final = data
        formats = _int16(data, start, end)
        self._format_count: Final = formats
        self._formats: Final = start + 2
        pos = start + 2 + 2 * formats
        count = _int16(data, pos, end)
        if formats > 1 and formats != count:
            raise ClientProtocolError(
                f"bind message has {formats} parameter formats but {count} parameters"
            )
        self.count: Final = count
        self.number = 0
        self.is_null = False
        self.is_binary = False
        self._start = self._next = pos + 2

    def advance(self) -> bool:
        """Read the next one; False if that was all.

        Raises:
            ClientProtocolError: the message ends within it, or its format is none.
        """
        if self.number == self.count:
            return False
        data = self._data
        end = len(data)
        length = _int32(data, self._next, end)
        start = self._next + 4
        size = 0 if length == -1 else length
        if size < 0 or size > end - start:
            raise _insufficient()
        formats = self._format_count
        if formats:
            place = self.number if formats > 1 else 0
            fmt = _format(data, self._formats + 2 * place, end)
            if fmt not in FORMATS:
                raise unsupported(fmt)
            self.is_binary = fmt == _BINARY
        self.is_null = length == -1
        self._start = start
        self._next = start + size
        self.number += 1
        return True

    @property
    def value(self) -> bytes:
        """The bytes of the one that was read last; none of NULL."""
        return self._data[self._start : self._next]

    def result_formats(self) -> tuple[int, ...]:
        """Read on to the end: the formats that are wanted of the results.

        Raises:
            ClientProtocolError: the message ends before, or later.
        """
        while self.advance():
            pass
        data = self._data
        end = len(data)
        pos = self._next
        count = _int16(data, pos, end)
        pos += 2
        if pos + 2 * count > end:
            raise _insufficient()
        if pos + 2 * count != end:
            raise _malformed()
        return tuple([_format(data, pos + 2 * i, end) for i in range(count)])


def unsupported(fmt: int) -> ClientProtocolError:
    """What PostgreSQL says of a format that is neither text nor binary."""
    return ClientProtocolError(f"unsupported format code: {fmt}", sqlstate="22023")


def _int16(data: bytes, pos: int, end: int) -> int:
    if pos + 2 > end:
        raise _insufficient()
    return data[pos] << 8 | data[pos + 1]


def _format(data: bytes, pos: int, end: int) -> int:
    """A format code, which has a sign in PostgreSQL and its messages."""
    number = _int16(data, pos, end)
    return number - (1 << 16) if number >= 1 << 15 else number


def _int32(data: bytes, pos: int, end: int) -> int:
    if pos + 4 > end:
        raise _insufficient()
    number = data[pos] << 24 | data[pos + 1] << 16 | data[pos + 2] << 8 | data[pos + 3]
    return number - (1 << 32) if number >= 1 << 31 else number


def _insufficient() -> ClientProtocolError:
    return ClientProtocolError("insufficient data left in message")


def _malformed() -> ClientProtocolError:
    return ClientProtocolError("invalid message format")
