"""The words that statements begin with, and the blanks and comments that stand before words."""

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

MAX_SLASHES: Final = 10_000
"""Most slashes behind the beginning of the first comment: each may begin or end another."""
MAX_GAPS: Final = 2000
"""Most blanks, comments and semicolons in a row that are skipped."""


def _block_comment(depth: int) -> bytes:
    """Write a pattern for what follows "/" in a comment that holds ``depth`` levels of them.

    At each place only one of its alternatives can match, so that there is nothing to try again
    where it fails. It takes a step for each slash and for each run of other characters.
    """
    most = 2 * MAX_SLASHES + 1
    nested = b"|" + _block_comment(depth - 1) if depth else b""
    return rb"\*(?:/++(?:(?!\*)%b)|[^/]++(?<!\*)){0,%d}[^/]++(?<=\*)/" % (nested, most)


COMMENT_BODY: Final = _block_comment(4)
"""What follows "/" in a comment. PostgreSQL's nest; one with more levels is not read."""

GAP: Final = rb"(?:[ \t\n\r\f\v]++|--[^\n\r]*+|/%b)" % COMMENT_BODY
"""What may stand between two words of a text: blanks, or a comment."""

SHORT_GAP: Final = rb"(?:[ \t\n\r\f\v]++|--[^\n\r]{0,200}+(?![^\n\r])|/\*[^*/]{0,200}+\*/)"
"""The same without long comments, for what is looked for at many places of a text."""

BEFORE: Final[bytes] = rb"(?:%b|;++){0,%d}" % (GAP, MAX_GAPS)
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
