"""Arrays of one dimension in PostgreSQL's text and binary formats, taken into their members."""

from __future__ import annotations

import re
import struct
from typing import Final

from .limits import MAX_KEYS, too_many

BLANKS: Final = b" \t\n\r\f\v"
"""What may stand around an array and its members."""

_MEMBER: Final = re.compile(
    rb"""[ \t\n\r\f\v]*(?:
        "((?:[^"\\]++|\\.)*)"
        | ([^"\\{},\s](?:[^"\\{},]*[^"\\{},\s])?)
    )[ \t\n\r\f\v]*([,}])""",
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)
_HEAD: Final = struct.Struct("!iiI")
_DIMENSION: Final = struct.Struct("!ii")
_LENGTH: Final = struct.Struct("!i")

Members = list[bytes | None]
"""The members as they are in the format of the array; None is NULL."""


def is_array(text: bytes) -> bool:
    """Say whether it begins and ends as the text of an array does."""
    text = text.strip(BLANKS)
    return text[:1] == b"{" and text[-1:] == b"}"


def members_of_text(text: bytes) -> Members | None:
    """Read ``{1,2,"three",NULL}``; None for what is not an array of one dimension.

    Raises:
        TooComplex: it has more members than are read.
    """
    text = text.strip(BLANKS)
    if text[:1] != b"{" or text[-1:] != b"}":
        return None
    if text[1:].strip(b" \t\n\r\f\v") == b"}":
        return []
    members: Members = []
    position, end = 1, b","
    while end == b",":
        match = _MEMBER.match(text, position)
        if match is None:
            return None
        if len(members) >= MAX_KEYS:
            raise too_many(MAX_KEYS, "members of an array")
        quoted, plain, end = match.groups()
        if quoted is not None:
            members.append(_ESCAPED.sub(rb"\1", quoted))
        else:
            members.append(None if plain.lower() == b"null" else plain)
        position = match.end()
    return members if position == len(text) else None


def members_of_binary(data: bytes) -> tuple[int, Members] | None:
    """Read an array's type of members, by its oid, and them; None for what is no such array.

    Raises:
        TooComplex: it has more members than are read.
    """
    try:
        dimensions, _, oid = _HEAD.unpack_from(data)
        if dimensions == 0:
            return oid, []
        (count, _) = _DIMENSION.unpack_from(data, _HEAD.size)
        if dimensions != 1 or count < 0:
            return None
        if count > MAX_KEYS:
            raise too_many(MAX_KEYS, "members of an array")
        members: Members = []
        position = _HEAD.size + _DIMENSION.size
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(data, position)
            position += _LENGTH.size
            if length < 0:
                members.append(None)
                continue
            members.append(data[position : position + length])
            position += length
    except struct.error:
        return None
    return (oid, members) if position == len(data) else None
