"""What backslashes mean in strings and names: the PostgreSQL manual's "Lexical Structure"."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

_ESCAPE: Final = re.compile(
    rb"''|\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.)|)",
    re.DOTALL,
)
_CONTROLS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def unescaped(value: bytes) -> bytes:
    r"""Return what is meant by what stands between the quotes of E'..'.

    Raises:
        ValueError: there is a wrong escape in it.
    """
    return _ESCAPE.sub(_meant, value)


def _meant(match: re.Match[bytes]) -> bytes:
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


def unescaped_unicode(text: str, quote: str, escape: str = "\\") -> str:
    r"""Return ``data`` for ``d\0061ta``: what is meant by what stands behind U&.

    Args:
        text: with or without its quotes, which stay.
        quote: they are these: of those that are escaped two are written.
        escape: the character in place of the backslash.

    Raises:
        ValueError: there is a wrong escape in it.
    """

    def meant(match: re.Match[str]) -> str:
        itself, four, six, _ = match.groups()
        if itself:
            return itself
        number = int(four or six or "-1", 16)
        if number == 0:
            raise ValueError("no character has the code zero")
        character = chr(number)
        return quote * 2 if character == quote else character

    return _unicode_escape(escape).sub(meant, text)


@lru_cache(maxsize=16)
def _unicode_escape(escape: str) -> re.Pattern[str]:
    itself = re.escape(escape)
    return re.compile(
        rf"{itself}(?:({itself})|([0-9A-Fa-f]{{4}})|\+([0-9A-Fa-f]{{6}})|(.?))", re.DOTALL
    )
