"""What others have said, made fit for one line of a log."""

from __future__ import annotations

from typing import Final

# Longer than any name that is meant well: PostgreSQL's have 63 bytes.
LIMIT: Final = 256


def printable(text: str, limit: int = LIMIT) -> str:
    """A text without line breaks, escape sequences or changes of direction, and not too long.

    Of a text of any length no more than `limit` characters are looked at or returned.
    """
    shown = text[:limit]
    if not shown.isprintable():
        shown = "".join(map(_escaped, shown))
    is_whole = len(text) <= limit and len(shown) <= limit
    return shown if is_whole else f"{shown[:limit]}..."


def _escaped(character: str) -> str:
    # This knows all that Unicode counts as control, format, surrogate or separator.
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
