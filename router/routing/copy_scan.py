"""Where the key is in a row of COPY, byte by byte: compiled, that is the quickest way.

Not compiled it is slow, and so is any way for long rows: only the beginning of a row is looked
at. What is not found in it, or is not plain, is left to others (-1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .hashing import shard_of_bigint

if TYPE_CHECKING:
    from ..compiling import i64

_NEAR: Final = 256  # bytes that are looked at
_MOST_DIGITS: Final = 18  # are a bigint
_ZERO: Final = 0x30
_NINE: Final = 0x39
NO_QUOTE: Final = -1
"""Nothing is a quote."""


def shard_at(row: bytes, index: i64, delimiter: i64, quote: i64, shards: i64) -> i64:
    """The shard of a row whose key, the field of this number, is found and plain; else -1."""
    start: i64 = field_start(row, index, delimiter, quote)
    key: i64 = number_at(row, start, delimiter, quote) if start >= 0 else -1
    return shard_of_bigint(key, shards) if key >= 0 else -1


def field_start(row: bytes, index: i64, delimiter: i64, quote: i64) -> i64:
    """Where the field of this number begins, from 0; -1 if that is not found."""
    at: i64 = 0
    end: i64 = min(len(row), _NEAR)
    is_quoted = False
    while index > 0:
        if at >= end:
            return -1
        byte: i64 = row[at]
        at += 1
        if byte == quote:
            is_quoted = not is_quoted
        elif byte == delimiter and not is_quoted:
            index -= 1
    return at


def field_end(row: bytes, start: i64, delimiter: i64, quote: i64) -> i64:
    """Where the field ends that begins there; -1 if that is not found."""
    at: i64 = start
    size: i64 = len(row)
    end: i64 = min(size, _NEAR)
    is_quoted = False
    while at < end:
        byte: i64 = row[at]
        if byte == quote:
            is_quoted = not is_quoted
        elif byte == delimiter and not is_quoted:
            return at
        at += 1
    return at if at == size else -1


def number_at(row: bytes, start: i64, delimiter: i64, quote: i64) -> i64:
    """The number that the field is which begins there; -1 if it is not plain digits.

    It may be in quotes as a whole.
    """
    at: i64 = start
    size: i64 = len(row)
    is_quoted = at < size and row[at] == quote
    if is_quoted:
        at += 1
    first: i64 = at
    end: i64 = min(size, at + _MOST_DIGITS)
    number: i64 = 0
    while at < end:
        byte: i64 = row[at]
        if byte < _ZERO or byte > _NINE:
            break
        number = number * 10 + byte - _ZERO
        at += 1
    if at == first:
        return -1
    if is_quoted:
        if at >= size or row[at] != quote:
            return -1
        at += 1
    return number if at == size or row[at] == delimiter else -1
