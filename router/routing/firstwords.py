"""The words that statements begin with, and what may stand before them."""

from __future__ import annotations

import re
from itertools import product
from typing import Final

QUERIES: Final = frozenset(("select", "values", "table", "with", "("))
"""How a query begins, by its first token."""

CHANGES: Final = frozenset(("insert", "update", "delete", "merge"))
"""How a change of data begins."""

QUERY_STARTS: Final = QUERIES | CHANGES
"""How what has columns begins, and so what stands in brackets behind WITH."""

GAP: Final = rb"(?:[ \t\n\r\f\v]++|--[^\n\r]*+|/\*[^*]*+\*++(?:[^*/][^*]*+\*++)*/)"
"""What may stand between two words of a text: blanks, or a comment."""

BEFORE: Final[bytes] = rb"(?:%b|;++)*" % GAP
"""What may stand before the first word of a text, or behind the last."""

LEADS: Final = frozenset(bytes((lead,)) for lead in b" \t\n\r\f\v/-;")
"""A text that begins with one of these may have BEFORE before its first word."""

_LETTERS: Final = 3
_BEFORE: Final = re.compile(BEFORE)


def beginnings(*words: bytes) -> frozenset[bytes]:
    """Return the first three letters of some words, in any case.

    They rule out most texts: one whose first three letters and whose first letter are neither
    here nor among LEADS begins with none of the words.
    """
    return frozenset(
        bytes(letters)
        for word in words
        for letters in product(*((letter, letter - 32) for letter in word[:_LETTERS]))
    )


def may_begin(text: bytes, with_one_of: frozenset[bytes]) -> bool:
    """Say whether the first word of a text has one of these beginnings."""
    if text[:1] not in LEADS:
        return text[:_LETTERS] in with_one_of
    match = _BEFORE.match(text)
    start = 0 if match is None else match.end()
    return text[start : start + _LETTERS] in with_one_of
