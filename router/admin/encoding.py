"""Rows of the admin database as messages, in both formats of the protocol.

Drivers that know a type in binary ask for it (asyncpg does for all), so text does not do.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ..protocol import codes, messages

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .show import Heading, Row

TEXT: Final = 0
BINARY: Final = 1

_INT16: Final = struct.Struct("!H")
_INT32: Final = struct.Struct("!i")
# Of numeric_send: number of digits, weight of the first, sign, digits after the point.
_NUMERIC: Final = struct.Struct("!HhHH")

_NUMERIC_BASE: Final = 10_000
_NUMERIC_NEGATIVE: Final = 0x4000
_INT4_MAX: Final = 2**31 - 1


def data_row(row: Row, headings: Sequence[Heading], formats: Sequence[int]) -> bytes:
    """One row, with a format code for each value."""
    parts = [_INT16.pack(len(row))]
    for value, heading, fmt in zip(row, headings, formats, strict=True):
        if value is None:
            parts.append(_INT32.pack(-1))
            continue
        data = _encode(value, heading.oid, fmt)
        parts.append(_INT32.pack(len(data)) + data)
    return messages.message(codes.DATA_ROW, b"".join(parts))


def _encode(value: str | int, oid: int, fmt: int) -> bytes:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace")
    if oid == messages.BOOL_OID:
        return (b"t" if value else b"f") if fmt == TEXT else bytes((bool(value),))
    # A bool, which formats as a word, is the number it stands for; and what the file may set
    # to more than an int4 holds must not break the driver that reads it.
    number = min(int(value), _INT4_MAX) if oid == messages.INT4_OID else int(value)
    if fmt == TEXT:
        return b"%d" % number
    return _INT32.pack(number) if oid == messages.INT4_OID else _binary_numeric(number)


def _binary_numeric(number: int) -> bytes:
    sign = _NUMERIC_NEGATIVE if number < 0 else 0
    digits: list[int] = []
    rest = abs(number)
    while rest:
        rest, digit = divmod(rest, _NUMERIC_BASE)
        digits.append(digit)
    head = _NUMERIC.pack(len(digits), max(len(digits) - 1, 0), sign, 0)
    return head + b"".join(map(_INT16.pack, reversed(digits)))
