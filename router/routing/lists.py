"""Long lists of literals: how they are taken out of a text, and how their members are read.

Texts that differ in the length of a list only should have one fingerprint, and be found fast.
So that has one literal for all of ``IN (1, 2, 3)``, which is the list as it is written. Rows,
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

    from .limits import KeyBudget

    Numbers = tuple[int, ...] | range

# A string without a backslash, which could mean anything.
_STRING: Final = rb"'[^'\\]*+'"
_WORD: Final = rb"[\w$\x80-\xff]"
_WORDS: Final = rb"(?i:null|default|true|false|current_timestamp|now\(\))"
# What there is between the brackets of one list or row, once _RUN has been through it.
_INNER: Final = rb"(?:[^'()\[\]]++|'[^']*+'|\(\))*"
_BEGINNING: Final = _INNER[:-1] + b"{0,500}"
_CELL: Final = rb"(?:[^',()\[\]]++|'[^']*+'|\(\))*"
_MOST: Final = b"50000"

# Literals with commas and brackets between and around them, up to something else. Strings with
# doubled quotes are two strings to this: nothing stands between them.
_RUN: Final = (
    rb"(?:[0-9,.()\s\]]*+(?:%(string)s|-(?=[0-9.])|\$(?=[0-9])|(?<=[0-9.])[eE][+-]?(?=[0-9])"
    rb"|(?:%(words)s|::\w++)(?!%(word)s))){0,%(most)s}[0-9,.()\s\]]*+"
    # What is left behind a bracket is read on its own, so that it must not be cut in a token.
    rb"(?:(?<=[\s,()\]])|(?![\w$'.\x80-\xff]))"
) % {b"string": _STRING, b"words": _WORDS, b"word": _WORD, b"most": _MOST}
# The rest of a literal whose first character has been matched.
_FIRST: Final = rb"(?:(?<=')[^'\\]*+'|(?<=-)(?=[0-9.])|(?<=\$)(?=[0-9])|(?<=[0-9]))"


def _behind(word: bytes, opening: bytes, blanks: int, skipped: bytes = b"") -> bytes:
    """Write a pattern that looks back from a literal's first character.

    Args:
        word: the keyword.
        opening: the brackets, behind up to three blanks.
        blanks: how many there are between them and the literal.
        skipped: what there is in the brackets, before the blanks.
    """
    letters = b"".join(b"[%c%c]" % (c, c - 32) for c in word)
    rest = opening + skipped + rb"\s" * blanks
    return b"|".join(
        rb"(?<=(?<![\w$\x80-\xff])%b%b%b.)" % (letters, rb"\s" * before, rest)
        for before in range(4)
    )


def _in_brackets(forms: bytes, *patterns: tuple[bytes, bytes]) -> bytes:
    """Write a pattern for a literal behind one of some brackets, each after a keyword."""
    return b"|".join(
        rb"(?<=%b%b.)(?:%b)"
        % (
            forms,
            rb"\s" * blanks,
            b"|".join(_behind(word, opening, blanks) for word, opening in patterns),
        )
        for blanks in range(5)
    )


def _behind_word(word: bytes) -> bytes:
    """Write a pattern for a literal behind a first cell that is a word."""
    letters = b"".join(b"[%c%c]" % (c, c - 32) for c in word)
    return b"|".join(
        rb"(?<=%b,%b.)(?:%b)"
        % (letters, rb"\s" * blanks, _behind(b"values", rb"\(", blanks, letters + b","))
        for blanks in range(2)
    )


MOST_BEFORE: Final[int] = len(b"(default,") + 5
"""Most bytes from a bracket to the first literal that a match begins with."""

BEFORE_FIRST: Final[bytes] = b"|".join(
    rb"(?<=%b%b.)" % (before, rb"\s" * blanks)
    for before, most in ((rb"[(\[]", 5), (rb"[lLtT],", 2))
    for blanks in range(most)
)
"""Looks back from where a list can begin, for those who want to know before all else."""

SCALARS: Final[bytes] = (
    rb"(?:%b)(?=%b(?:[^'(),\[\]]++|'[^']*+'){0,500},)"
    % (_in_brackets(rb"[(\[]", (b"in", rb"\("), (b"array", rb"\[")), _FIRST)
    + _FIRST
    + _RUN
)
"""Matches the members of IN (..) and ARRAY[..] and what is behind them, if there are several.

The first character has been matched already. So all that this costs is for literals, which
are counted, and not for each bracket.
"""

ROWS: Final[bytes] = (
    rb"(?:%b|%b|%b)(?=%b%b\)\s*+,)"
    % (
        _in_brackets(rb"\(", (b"values", rb"\("), (b"in", rb"\(\(")),
        _behind_word(b"null"),
        _behind_word(b"default"),
        _FIRST,
        _BEGINNING,
    )
    + _FIRST
    + _RUN
)
"""The same for the rows of VALUES and IN ((..), ..), from the first literal on."""

_ONE: Final = re.compile(rb"[(\[]" + _INNER + rb"[)\]]")
_MORE: Final = re.compile(rb"(?:\s*+,\s*+\(" + _INNER + rb"\)){1,%d}" % MAX_KEYS)
_CELLS: Final = re.compile(rb"\s*+(" + _CELL + rb")\s*+[,)]")
_CAST: Final = re.compile(rb"(::\w++)\s*+\Z")
_CASTS: Final = re.compile(rb"'[^']*+'|(::\w++)")
_MEMBER: Final = re.compile(
    rb"::\w++|('[^']*+(?:''[^']*+)*'|\$[0-9]++|[^\s,:()\[\]'$][^\s,:)\]]*+)"
)
_PARAMETER: Final = re.compile(rb"\$([0-9]++)")
_CONTINUED: Final = re.compile(rb"'\s*[\r\n]\s*'")
_CAST_WORDS: Final = re.compile(rb"::\w++")
_SIMPLE: Final = re.compile(rb"(?:(?:-?[0-9]++|'[^']*+')(?:,|\Z))*")
_PARAMETERS: Final = re.compile(rb"[$0-9,()\[\]\s]++")
_AROUND: Final = b"()[] \t\n\r\f\v"
"""What may stand around a cell without strings."""
_FEW: Final = 8
_DIGITS: Final = 5
_MOST_PARAMETERS: Final = 65_535
_AMONG_STRINGS: Final = re.compile(rb"'[^']*+'|\$([0-9]++)")
_REFERENCE: Final = re.compile(rb"\)([0-9]+),([0-9]+)(.*)", re.DOTALL)


def one(run: bytes, start: int = 0) -> int:
    """Return where the list or row that begins a run, or a part of it, ends; 0: it does not."""
    match = _ONE.match(run, start)
    return 0 if match is None else match.end()


def rows_end(run: bytes, first: int) -> int:
    """Return where the rows end of which the first ends at ``first``."""
    match = _MORE.match(run, first)
    return first if match is None else match.end()


def is_continued(listed: bytes) -> bool:
    r"""Say whether there may be a string in pieces in it, which lie on lines of their own."""
    return _CONTINUED.search(listed) is not None


def common_cast(listed: bytes) -> bytes | None:
    """Return the cast of all members of a list, b"" if there is none; None: they differ."""
    if b"::" not in listed:
        return b""
    if b"'" not in listed:
        casts = _CAST_WORDS.findall(listed)
        is_common = len(casts) == listed.count(b",") + 1 and len(set(casts)) == 1
        return casts[0] if is_common else None
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


def written_at(
    literals: Sequence[bytes], index: int, budget: KeyBudget
) -> tuple[Sequence[bytes], Numbers]:
    """Return the members of a list as they are written, and the numbers of its parameters.

    What is there more than once is returned once. NULL is b"null", other words are b"".

    Raises:
        TooComplex: there are more than the budget allows.
    """
    written = literals[index]
    if written[:1] == b")":
        return _column_at(written, literals, budget)
    budget.read(written.count(b",") + 1)
    plain = plain_parameters(written) if b"$" in written else None
    return _apart(members(written)) if plain is None else ((), _compact(plain[0]))


def _column_at(
    reference: bytes, literals: Sequence[bytes], budget: KeyBudget
) -> tuple[Sequence[bytes], Numbers]:
    """Return what `written_at` does for a column of rows."""
    column, rows, cast = _read_reference(reference, literals)
    count = rows.count(b"(") - rows.count(b"()")
    budget.read(count)
    plain = plain_parameters(rows) if b"$" in rows else None
    if plain is not None and len(plain[0]) % count == 0:
        numbers, casts = plain
        width = len(numbers) // count
        if all(each == cast for each in set(casts[column::width])):
            return (), _compact(numbers[column::width])
    cells = dict.fromkeys(_cells(rows, column, count))
    joined = b"" if cast else b",".join(cells)
    if joined and _SIMPLE.fullmatch(joined) is not None:
        return list(cells), ()
    plain = plain_parameters(joined) if b"$" in joined else None
    if plain is not None and not any(plain[1]):
        return (), _compact(plain[0])
    return _apart([_uncast(cell.rstrip(), cast) for cell in cells])


def _cells(rows: bytes, column: int, count: int) -> list[bytes]:
    """Return the cells of a column of so many rows, without the blanks before them."""
    width, rest = divmod(rows.count(b","), count)
    if rest or column >= width or b"'" in rows:
        return _column(column).findall(rows)
    # No comma is in a cell, and rows of different lengths are an error to PostgreSQL.
    return rows.translate(None, _AROUND).split(b",")[column + 1 :: width]


def _read_reference(reference: bytes, literals: Sequence[bytes]) -> tuple[int, bytes, bytes]:
    """Return what `reference` was told: the column, the rows themselves, and the cast."""
    match = _REFERENCE.fullmatch(reference)
    assert match is not None, "as reference() makes them"
    return int(match[1]), literals[int(match[2])], match[3]


def members(listed: bytes) -> list[bytes]:
    """Return the members of a list as they are written, without their casts."""
    found = [member for member in _MEMBER.findall(listed) if member]
    return [member if member[:1] in _LITERAL_STARTS else _word(member) for member in found]


def _apart(found: Sequence[bytes]) -> tuple[Sequence[bytes], Numbers]:
    """Take parameters out of the members of a list."""
    distinct = dict.fromkeys(found)
    numbers = [parameter_number(member[1:]) for member in distinct if member[:1] == b"$"]
    return [member for member in distinct if member[:1] != b"$"], tuple(numbers)


def _compact(numbers: tuple[int, ...]) -> Numbers:
    """Keep numbers as a range if they follow each other, as those of most drivers do."""
    if len(numbers) > 2 and numbers[0] < numbers[1]:
        step = numbers[1] - numbers[0]
        same = range(numbers[0], numbers[0] + step * len(numbers), step)
        if tuple(same) == numbers:
            return same
    return numbers


@lru_cache(maxsize=2)
def plain_parameters(listed: bytes) -> tuple[tuple[int, ...], list[bytes]] | None:
    """Read a list or rows of nothing but parameters, as fast as can be.

    Returns:
        Their numbers, and the casts behind them, b"" where there is none.
    """
    count = listed.count(b"$")
    casts = [b""] * count
    if b":" in listed:
        casts = _CAST_WORDS.findall(listed)
        listed = _without_casts(listed, casts)
    if _PARAMETERS.fullmatch(listed) is None:
        return None
    written = listed.translate(None, b"$" + _AROUND).lstrip(b",").split(b",")
    is_plain = len(written) == count == len(casts) and all(written)
    if not is_plain or len(max(written, key=len)) > _DIGITS:
        return None
    numbers = tuple(map(int, written))
    return (numbers, casts) if max(numbers) <= _MOST_PARAMETERS else None


def _without_casts(listed: bytes, casts: list[bytes]) -> bytes:
    """Take all casts out of a list or rows, fast if there are few that differ."""
    found = set(casts)
    if len(found) > _FEW:
        return _CAST_WORDS.sub(b"", listed)
    # The longest first: one may be the beginning of another.
    for cast in sorted(found, key=len, reverse=True):
        listed = listed.replace(cast, b"")
    return listed


def parameter_number(digits: bytes) -> int:
    """Read the number of a parameter; one that no statement can have is 0."""
    number = int(digits) if digits.isdigit() and len(digits) <= _DIGITS else 0
    return number if number <= _MOST_PARAMETERS else 0


def parameters_in(literals: Sequence[bytes]) -> list[int]:
    """Return the numbers of the parameters in all lists and rows, each as often as it is."""
    found: list[int] = []
    for literal in literals:
        if literal[:1] in _LISTS and b"$" in literal:
            plain = plain_parameters(literal)
            if plain is not None:
                found += plain[0]
                continue
            pattern = _AMONG_STRINGS if b"'" in literal else _PARAMETER
            numbers = pattern.findall(literal)
            if b"'" in literal:
                numbers = list(filter(None, numbers))
            found += _numbers(numbers)
    return found


def _numbers(written: list[bytes]) -> list[int]:
    """Read the numbers of many parameters, fast if there are such."""
    if max(map(len, written), default=0) <= _DIGITS:
        found = list(map(int, written))
        if max(found, default=0) <= _MOST_PARAMETERS:
            return found
    return list(map(parameter_number, written))


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
