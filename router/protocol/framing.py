"""Message boundaries: the header, what may be passed on in pieces, how long one may be."""

from __future__ import annotations

import struct
from typing import Final

from . import codes

HEADER: Final = struct.Struct("!BI")
HEADER_SIZE: Final = 5

# The headers of messages that are sent with many statements, by their lengths.
_MOST_READY: Final = 512
_BINDS: Final = [HEADER.pack(codes.BIND, length) for length in range(_MOST_READY)]
_PARSES: Final = [HEADER.pack(codes.PARSE, length) for length in range(_MOST_READY)]
_NONE: Final[list[bytes]] = []

# A message that must be read as a whole before it can be acted on may not be longer.
COLLECT_LIMIT: Final = 1 << 20
# A client's Query or Parse beyond this is not read as a whole: it is passed on unparsed.
TEXT_LIMIT: Final = 256 * 1024

# From the server: nothing in the body matters, so a piece can go out as soon as it is here.
SERVER_STREAMED: Final = frozenset(
    (
        codes.DATA_ROW,
        codes.COPY_DATA,
        codes.ROW_DESCRIPTION,
        codes.PARSE_COMPLETE,
        codes.BIND_COMPLETE,
        codes.CLOSE_COMPLETE,
        codes.PARAMETER_DESCRIPTION,
        codes.NO_DATA,
        codes.PORTAL_SUSPENDED,
        codes.EMPTY_QUERY_RESPONSE,
        codes.FUNCTION_CALL_RESPONSE,
        codes.NOTICE_RESPONSE,
        codes.NOTIFICATION_RESPONSE,
        codes.ERROR_RESPONSE,
        ord("c"),  # CopyDone
    )
)
# From the server: read as a whole, because the router acts on the body.
SERVER_COLLECTED: Final = frozenset(
    (
        codes.READY_FOR_QUERY,
        codes.PARAMETER_STATUS,
        codes.COMMAND_COMPLETE,
        codes.COPY_IN_RESPONSE,
        codes.COPY_OUT_RESPONSE,
    )
)
# From a client that is logged in.
CLIENT_KINDS: Final = frozenset(
    (
        codes.QUERY,
        codes.PARSE,
        codes.BIND,
        codes.DESCRIBE,
        codes.EXECUTE,
        codes.CLOSE,
        codes.SYNC,
        codes.FLUSH,
        codes.FUNCTION_CALL,
        codes.COPY_DATA,
        codes.COPY_DONE,
        codes.COPY_FAIL,
        codes.TERMINATE,
    )
)


def message_end(data: bytes, pos: int) -> int:
    """Where the message ends whose header is at data[pos]."""
    length = data[pos + 1] << 24 | data[pos + 2] << 16 | data[pos + 3] << 8 | data[pos + 4]
    return pos + 1 + length


def string_in(data: bytes, start: int, end: int) -> bytes:
    """Return the string that is the body of the message data[start:end], without its zero byte.

    A body may lack even that byte, and compiled a slice must not end before it begins.
    """
    return data[start + HEADER_SIZE : max(end - 1, start + HEADER_SIZE)]


def header(kind: int, length: int) -> bytes:
    """The header of a Parse or Bind of this length, which counts itself but not the type."""
    known = _BINDS if kind == codes.BIND else _PARSES if kind == codes.PARSE else _NONE
    return known[length] if length < len(known) else HEADER.pack(kind, length)
