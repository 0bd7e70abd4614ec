"""SASLprep (RFC 4013) of passwords, with PostgreSQL's departures from it."""

from __future__ import annotations

import stringprep
import unicodedata
from typing import Final

_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
    stringprep.in_table_a1,
)


def prepare_password(password: str) -> bytes:
    """Normalise a password by SASLprep, or leave it as it is where SASLprep forbids it.

    The RFC would refuse such a password; PostgreSQL hashes its raw bytes, and so must we.
    """
    if not password.isascii():
        password = _saslprep(password) or password
    return password.encode("utf-8", "surrogateescape")


def _saslprep(text: str) -> str | None:
    """Apply RFC 4013, None if it prohibits the text."""
    # Spaces first: U+200B is in both tables, and PostgreSQL makes it a space.
    spaced = (" " if stringprep.in_table_c12(char) else char for char in text)
    mapped = "".join(char for char in spaced if not stringprep.in_table_b1(char))
    # The RFC looks for prohibited characters after normalisation, PostgreSQL before it.
    if not mapped or any(test(char) for char in mapped for test in _PROHIBITED):
        return None
    return unicodedata.normalize("NFKC", mapped) if _is_bidi_legal(mapped) else None


def _is_bidi_legal(text: str) -> bool:
    """RFC 3454, section 6: right-to-left text stands alone and at both ends."""
    if not any(map(stringprep.in_table_d1, text)):
        return True
    if any(map(stringprep.in_table_d2, text)):
        return False
    return stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])
