"""The values of string literals, as the PostgreSQL manual's "String Constants" has them."""

from __future__ import annotations

import re
from typing import Final

from .fingerprint import string_value

_ESCAPE: Final = re.compile(
    rb"''|\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.)|)",
    re.DOTALL,
)
_CONTROLS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def text_of(literal: bytes, *, escaped: bool) -> bytes | None:
    r"""Return the bytes that a string literal stands for; None if that is not sure.

    Args:
        literal: '..' or $$..$$, as written.
        escaped: whether an E stands before it, so that \ means something.
    """
    if literal[:1] not in (b"'", b"$"):
        return None
    value = string_value(literal)
    if literal[:1] == b"$":
        return value
    if not escaped or b"\\" not in value:
        return value.replace(b"''", b"'")
    try:
        return _ESCAPE.sub(_unescaped, value)
    except ValueError:
        return None


def _unescaped(match: re.Match[bytes]) -> bytes:
    octal, digits, short, long, other = match.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 0xFF,))
    if digits is not None:
        return bytes((int(digits, 16),))
    if short is not None or long is not None:
        # Half of a surrogate pair cannot be encoded: a ValueError.
        return chr(int(short or long, 16)).encode()
    if other is None:
        return b"'"
    if other in b"uU":
        raise ValueError("not enough digits")
    return _CONTROLS.get(other, other)
