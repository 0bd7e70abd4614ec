"""Long lists of literals: how they are taken out of a text, and how their members are read.

Texts that differ in the length of a list only should have one shape, and be found fast. So a
shape has one literal for all of ``IN (1, 2, 3)``, which is the list as it is written. Rows,
as in ``VALUES (1, 'a'), (2, 'b')``, leave the first of them and one more row, whose literals
stand for the columns of all others.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from .limits import MAX_KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence

# A string without a backslash, which could mean anything.
_STRING: Final = rb"'[^'\\]*+'"
_WORD: Final = rb"[\w$\x80-\xff]"
_WORDS: Final = rb"(?i:null|default|true|false|current_timestamp|now\(\))"
# What there is between the brackets of one list or row, once RUN has been through it.
_INNER: Final = rb"(?:[^'()\[\]]++|'[^']*+'|\(\))*"
_CELL: Final = rb"(?:[^',()\[\]]++|'[^']*+'|\(\))*"
_MOST: Final = b"50000"

# Strings with doubled quotes are two strings to this: nothing stands between them.
RUN: Final = (
    rb"(?:[0-9,.()\s\]]*+(?:%(string)s|-(?=[0-9.])|\$(?=[0-9])|(?<=[0-9.])[eE][+-]?(?=[0-9])"
    rb"|(?:%(words)s|::\w++)(?!%(word)s))){0,%(most)s}[0-9,.()\s\]]*+"
    # What is left behind a bracket is read on its own, so that it must not be cut in a token.
    rb"(?:(?<=[\s,()\]])|(?![\w$'.\x80-\xff]))"
) % {b"string": _STRING, b"words": _WORDS, b"word": _WORD, b"most": _MOST}
"""Matches literals with commas and brackets between and around them, up to something else."""


def _behind(word: bytes, opening: bytes) -> bytes:
    """Write a pattern that looks back at a word, up to three blanks and a bracket."""
    letters = b"".join(b"[%c%c]" % (c, c - 32) for c in word)
    return b"|".join(
        rb"(?<=(?<![\w$\x80-\xff])%b%b\%b)" % (letters, rb"\s" * blanks, opening)
        for blanks in range(4)
    )


SCALARS: Final = (
    rb"(?:%b|%b)(?=(?:[^'(),\[\]]++|'[^']*+')*,)"
    % (_behind(b"in", b"("), _behind(b"array", b"["))
) + RUN
"""Matches behind IN ( and ARRAY[, if there is more than one member."""

ROWS: Final = (
    rb"(?:(?:%b)(?=%b\)\s*+,)|(?:%b)(?=\s*+\(%b\)\s*+,))"
    % (_behind(b"values", b"("), _INNER, _behind(b"in", b"("), _INNER)
) + RUN
"""Matches behind VALUES ( and the first bracket of IN ((, if there is more than one row."""

_ONE: Final = re.compile(rb"[(\[]" + _INNER + rb"[)\]]")
_MORE: Final = re.compile(rb"(?:\s*+,\s*+\(" + _INNER + rb"\)){1,%d}" % MAX_KEYS)
_CELLS: Final = re.compile(rb"\s*+(" + _CELL + rb")\s*+[,)]")
_CAST: Final = re.compile(rb"(::\w++)\s*+\Z")
_CASTS: Final = re.compile(rb"'[^']*+'|(::\w++)")
_MEMBER: Final = re.compile(
    rb"::\w++|('[^']*+(?:''[^']*+)*'|\$[0-9]++|[^\s,:()\[\]'$][^\s,:)\]]*+)"
)
_PARAMETER: Final = re.compile(rb"'[^']*+'|\$([0-9]++)")
_REFERENCE: Final = re.compile(rb"\)([0-9]+),([0-9]+)(.*)", re.DOTALL)


def one(run: bytes, start: int = 0) -> int:
    """Return where the list or row that begins a run, or a part of it, ends; 0: it does not."""
    match = _ONE.match(run, start)
    return 0 if match is None else match.end()


def rows_end(run: bytes, first: int) -> int:
    """Return where the rows end of which the first ends at ``first``."""
    match = _MORE.match(run, first)
    return first if match is None else match.end()


def common_cast(listed: bytes) -> bytes | None:
    """Return the cast of all members of a list, b"" if there is none; None: they differ."""
    if b"::" not in listed:
        return b""
    casts = [cast for cast in _CASTS.findall(listed) if cast]
    if not casts:
        return b""
    is_common = len(set(casts)) == 1 and len(casts) == len(members(listed))
    return casts[0] if is_common else None


def casts_of(row: bytes) -> list[bytes]:
    """Return the cast of each cell of a row, b"" if it has none."""
    found = []
    for cell in _CELLS.findall(row, 1):
        match = _CAST.search(cell)
        found.append(b"" if match is None else match[1])
    return found


def is_list(literal: bytes) -> bool:
    """Say whether what stands for a literal is a list, or a column of rows."""
    return literal[:1] in (b"(", b"[", b")")


def reference(column: int, rows: int, cast: bytes) -> bytes:
    """Make what stands for a column of rows.

    Args:
        column: its number.
        rows: index of the literal that has the rows.
        cast: what each value is cast to, to be known.
    """
    return b")%d,%d%b" % (column, rows, cast)


def members_at(literals: Sequence[bytes], index: int) -> list[bytes]:
    """Return the members of a list as they are written; NULL is b"null", other words b""."""
    written = literals[index]
    if written[:1] != b")":
        return members(written)
    match = _REFERENCE.fullmatch(written)
    assert match is not None, "as reference() makes them"
    cast = match[3]
    cells = _column(int(match[1])).findall(literals[int(match[2])])
    return [_uncast(cell.rstrip(), cast) for cell in cells]


def members(listed: bytes) -> list[bytes]:
    """Return the members of a list as they are written, without their casts."""
    found = [member for member in _MEMBER.findall(listed) if member]
    return [member if member[:1] in _LITERAL_STARTS else _word(member) for member in found]


def size(literals: Sequence[bytes], index: int) -> int:
    """Return how many members a list has at most."""
    written = literals[index]
    if written[:1] != b")":
        return written.count(b",") + 1
    match = _REFERENCE.fullmatch(written)
    assert match is not None, "as reference() makes them"
    return literals[int(match[2])].count(b"(")


def parameters_of(literals: Sequence[bytes], index: int) -> list[int]:
    """Return the numbers of the parameters among the members of a list."""
    if not is_list(literals[index]) or (
        b"$" not in literals[index] and literals[index][:1] != b")"
    ):
        return []
    return [
        int(m[1:]) for m in members_at(literals, index) if m[:1] == b"$" and m[1:].isdigit()
    ]


def parameters_in(literals: Sequence[bytes]) -> list[int]:
    """Return the numbers of the parameters in all lists and rows, each as often as it is."""
    return [
        int(number)
        for literal in literals
        if literal[:1] in _LISTS and b"$" in literal
        for number in _PARAMETER.findall(literal)
        if number
    ]


def is_literal(member: bytes) -> bool:
    """Say whether a member is a string or a number without a sign."""
    return member[:1] in _LITERAL_STARTS


def _word(member: bytes) -> bytes:
    return b"null" if member.lower() == b"null" else b""


def _uncast(cell: bytes, cast: bytes) -> bytes:
    if cell[:1] not in _LITERAL_STARTS:
        return _word(cell)
    if cast:
        return cell[: -len(cast)].rstrip() if cell.endswith(cast) else b""
    match = _MEMBER.fullmatch(cell)
    return b"" if match is None else cell


_LISTS: Final = frozenset((b"(", b"[", b","))
_LITERAL_STARTS: Final = frozenset(b"%c" % c for c in b"'$-.0123456789")


@lru_cache(maxsize=64)
def _column(index: int) -> re.Pattern[bytes]:
    """Compile what finds a cell in each row."""
    before = rb"(?:%b,){%d}" % (_CELL, index) if index else b""
    return re.compile(rb"\(" + before + rb"\s*+(" + _CELL + rb")" + _INNER + rb"\)")
