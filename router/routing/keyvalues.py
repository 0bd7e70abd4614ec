"""Sharding keys as they are written: in SQL, in commands and comments, and in parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol
from uuid import UUID

from ..errors import InvalidShardingKey
from .literals import text_of
from .types import KeyType

if TYPE_CHECKING:
    from collections.abc import Callable

    from .types import KeyValue

KEY_MIN: Final = -(1 << 63)
KEY_MAX: Final = (1 << 63) - 1

_INTEGER: Final = re.compile(r"[ \t\n\r\f\v]*([+-]?[0-9]+)[ \t\n\r\f\v]*")
_PLAIN: Final = re.compile(rb"[0-9, \t\n\r\f\v-]++")
_DIGITS: Final = re.compile(rb"[0-9]+")
_NUMBER: Final = re.compile(
    rb"0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+"
    rb"|[0-9](?:_?[0-9])*(?:\.(?:[0-9](?:_?[0-9])*)?)?(?:[eE][+-]?[0-9](?:_?[0-9])*)?"
)
_LONGEST_NUMBER: Final = 100
_SURELY_FIT: Final = 18
# As uuid_in has it: a hyphen may follow every second byte.
_UUID: Final = re.compile(r"(\{)?(?:[0-9a-fA-F]{4}-?){7}[0-9a-fA-F]{4}(?(1)\})")
_SHOWN: Final = 40
_QUOTES: Final = (b"'", b"$")

# Parameter types by their oids in PostgreSQL's catalogue; 0 is one that the server is to find.
_INTEGERS: Final = frozenset((0, 20, 21, 23))
_UUIDS: Final = frozenset((0, 2950))
_TEXTS: Final = frozenset((25, 705, 1043))


def shown(text: str | bytes) -> str:
    """Write a key for an error message, shortened."""
    written = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    written = written.encode("utf-8", "replace").decode()
    return written if len(written) <= _SHOWN else f"{written[:_SHOWN]}..."


# --- as text


def integer(text: str | bytes, *, negative: bool = False) -> int | None:
    """Read a bigint as PostgreSQL writes one; None for all else."""
    if len(text) <= _SURELY_FIT and text.isdigit() and text.isascii():
        return -int(text) if negative else int(text)
    written = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    match = _INTEGER.fullmatch(written)
    # The length first: int() takes long for long numbers, and refuses 4,301 digits.
    if match is None or len(match[1].lstrip("+-0")) > 19:
        return None
    key = -int(match[1]) if negative else int(match[1])
    return key if KEY_MIN <= key <= KEY_MAX else None


def whole_number(written: bytes, *, decimals: bool = True) -> int | None:
    """Read a number of SQL without quotes that is a bigint; None for all else.

    Args:
        written: such as 5, 1_000, 0x1F, 0o17, 0b11, and with decimals also 5.0 and 5e0, which
            PostgreSQL takes for equal to 5.
        decimals: whether these will do.
    """
    if len(written) > _LONGEST_NUMBER or not _NUMBER.fullmatch(written):
        return None
    text = written.decode().replace("_", "").lower()
    if text[1:2] in ("x", "o", "b"):
        value = int(text, 0)
        return value if value <= KEY_MAX + 1 else None
    if text.isdigit():
        return int(text) if len(text.lstrip("0")) <= 19 else None
    if not decimals:
        return None
    mantissa, _, exponent = text.partition("e")
    before, _, after = mantissa.partition(".")
    digits = (before + after).lstrip("0")
    if not digits:
        return 0
    # The digits are followed by so many zeros, or so many of them stand behind the point.
    shift = int(exponent or "0") - len(after) if len(exponent) < 6 else 1 << 20
    if len(digits) + shift > 19:
        return None
    if shift < 0:
        if digits[shift:].strip("0") or -shift > len(digits):
            return None
        return int(digits[: len(digits) + shift] or "0")
    return int(digits + "0" * shift)


def plain_integers(listed: bytes) -> list[int] | None:
    """Read bigints with commas between them, as fast as can be; None for anything else."""
    if _PLAIN.fullmatch(listed) is None:
        return None
    try:
        found = list(map(int, listed.split(b",")))
    except ValueError:
        return None
    return found if min(found) >= KEY_MIN and max(found) <= KEY_MAX else None


def parse_key(text: str | bytes) -> int:
    """Read a sharding key that is a bigint.

    Raises:
        InvalidShardingKey: it is no integer, or does not fit into 64 bits.
    """
    key = integer(text)
    if key is None:
        raise InvalidShardingKey(
            f'sharding key "{shown(text)}" is not a bigint',
            hint=f"Use an integer from {KEY_MIN} to {KEY_MAX}.",
        )
    return key


def _uuid(text: str | bytes) -> UUID | None:
    written = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    return UUID(written) if _UUID.fullmatch(written) else None


def parse_uuid(text: str | bytes) -> UUID:
    """Read a sharding key that is a uuid, in any form that PostgreSQL takes.

    Raises:
        InvalidShardingKey: it is none.
    """
    key = _uuid(text)
    if key is None:
        raise InvalidShardingKey(
            f'sharding key "{shown(text)}" is not a uuid',
            hint="Use 32 hexadecimal digits, as 01234567-89ab-cdef-0123-456789abcdef.",
        )
    return key


def parse_text(text: str | bytes) -> str:
    """Read a sharding key that is text.

    Raises:
        InvalidShardingKey: it is not UTF-8, or has a zero byte.
    """
    try:
        data = text.encode() if isinstance(text, str) else text
        key = data.decode()
    except UnicodeError:
        raise InvalidShardingKey(
            f'sharding key "{shown(text)}" is not valid UTF-8',
            hint="Connect with client_encoding set to UTF8.",
        ) from None
    if "\0" in key:
        raise InvalidShardingKey(
            f'sharding key "{shown(key[: key.index(chr(0))])}" has a zero byte in it',
            hint="Text cannot hold zero bytes in PostgreSQL.",
        )
    return key


# --- as a literal of SQL


def _bigint_literal(written: bytes, negative: bool, escaped: bool) -> int | None:
    if written[:1] in _QUOTES:
        value = text_of(written, escaped=escaped)
        return None if value is None else integer(value, negative=negative)
    number = whole_number(written)
    if number is None:
        return None
    key = -number if negative else number
    return key if KEY_MIN <= key <= KEY_MAX else None


def _uuid_literal(written: bytes, negative: bool, escaped: bool) -> UUID | None:
    value = None if negative else text_of(written, escaped=escaped)
    return None if value is None else _uuid(value)


def _text_literal(written: bytes, negative: bool, escaped: bool) -> str | None:
    if written[:1] in _QUOTES:
        value = None if negative else text_of(written, escaped=escaped)
        return None if value is None else parse_text(value)
    # INSERT turns a number into its text, in which 007 is 7.
    if _DIGITS.fullmatch(written) is None:
        return None
    digits = written.lstrip(b"0").decode() or "0"
    return f"-{digits}" if negative and digits != "0" else digits


# --- as a parameter


def parameter_key(value: bytes | None, *, binary: bool, oid: int = 0) -> int | None:
    """Read the value that Bind carries for a key that is a bigint.

    Raises:
        InvalidShardingKey: it is no integer of 2, 4 or 8 bytes.
    """
    if value is None:
        return None
    if not binary or oid in _TEXTS:
        return parse_key(value)
    if oid not in _INTEGERS:
        return None
    if len(value) in (2, 4, 8):
        return int.from_bytes(value, "big", signed=True)
    raise _odd_length(value, "smallint, integer or bigint")


def _uuid_parameter(value: bytes | None, *, binary: bool, oid: int = 0) -> UUID | None:
    if value is None:
        return None
    if not binary or oid in _TEXTS:
        return parse_uuid(value)
    if oid not in _UUIDS:
        return None
    if len(value) == 16:
        return UUID(bytes=value)
    raise _odd_length(value, "uuid")


def _text_parameter(value: bytes | None, *, binary: bool, oid: int = 0) -> str | None:
    # Both formats of text are its bytes. What has another type is changed on its way to text.
    del binary
    return None if value is None or (oid and oid not in _TEXTS) else parse_text(value)


def _odd_length(value: bytes, types: str) -> InvalidShardingKey:
    return InvalidShardingKey(
        f"sharding key parameter of {len(value)} bytes in binary format",
        hint=f"Send it as {types}, or in text format.",
    )


class ParameterReader(Protocol):
    """Reads a key from a parameter of Bind; None if it is NULL or not known which key it is.

    The oid is that of the parameter's type, 0 if the server is to find it. Raises
    InvalidShardingKey if the value is no key.
    """

    def __call__(
        self, value: bytes | None, *, binary: bool, oid: int = 0
    ) -> KeyValue | None: ...


PARSERS: Final[dict[KeyType, Callable[[str | bytes], KeyValue]]] = {
    KeyType.BIGINT: parse_key,
    KeyType.UUID: parse_uuid,
    KeyType.TEXT: parse_text,
}
"""Read a key from text."""

LITERALS: Final[dict[KeyType, Callable[[bytes, bool, bool], KeyValue | None]]] = {
    KeyType.BIGINT: _bigint_literal,
    KeyType.UUID: _uuid_literal,
    KeyType.TEXT: _text_literal,
}
"""Read a key from a literal: as it is written, behind a minus sign or not, E'..' or not."""

PARAMETERS: Final[dict[KeyType, ParameterReader]] = {
    KeyType.BIGINT: parameter_key,
    KeyType.UUID: _uuid_parameter,
    KeyType.TEXT: _text_parameter,
}
"""Read a key from a parameter."""
