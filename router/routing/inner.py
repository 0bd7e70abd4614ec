"""The query inside of a statement that is none itself: where it begins and where it ends.

DECLARE, PREPARE and CREATE TABLE AS have one; those of EXPLAIN and COPY are found beside their
verdicts, which depend on them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..firstwords import QUERY_STARTS
from .tokens import closing, unquoted

if TYPE_CHECKING:
    from collections.abc import Sequence

_BEFORE_TABLE: Final = frozenset(("global", "local", "temp", "temporary", "unlogged"))
_STARTS: Final = QUERY_STARTS | {"execute"}


def inner_of(tokens: list[str]) -> tuple[list[str], tuple[str, ...]]:
    """Find the query that a statement declares, prepares or makes a table of.

    Returns:
        Its tokens, none if there is none, and the table that is made.
    """
    first = tokens[0]
    if first == "declare":
        return _behind(tokens, "for", 2), ()
    if first == "prepare":
        start = closing(tokens, 2) + 1 if tokens[2:3] == ["("] else 2
        return _behind(tokens, "as", start), ()
    if first == "create":
        return _created(tokens)
    return [], ()


def table_at(tokens: Sequence[str], start: int) -> tuple[str, int]:
    """Read the name of a table, perhaps with its schema; returns the index behind it, too."""
    end = start + 1
    while end + 1 < len(tokens) and tokens[end] == ".":
        end += 2
    return ".".join(map(unquoted, tokens[start:end:2])), end


def _created(tokens: list[str]) -> tuple[list[str], tuple[str, ...]]:
    start = 1
    while tokens[start : start + 1] and tokens[start] in _BEFORE_TABLE:
        start += 1
    if tokens[start : start + 1] != ["table"]:
        return [], ()
    start += 1
    if tokens[start : start + 3] == ["if", "not", "exists"]:
        start += 3
    table, end = table_at(tokens, start)
    inner = _behind(tokens, "as", end)
    for ending in (["with", "data"], ["with", "no", "data"]):
        if inner[-len(ending) :] == ending:
            inner = inner[: -len(ending)]
    return (inner, (table,)) if inner else ([], ())


def _behind(tokens: list[str], word: str, start: int) -> list[str]:
    """Return the query behind the first such word that stands in no brackets."""
    level = 0
    for i in range(start, len(tokens) - 1):
        token = tokens[i]
        if token == "(":
            level += 1
        elif token == ")":
            level -= 1
        elif token == word and level == 0:
            return tokens[i + 1 :] if tokens[i + 1] in _STARTS else []
    return []
