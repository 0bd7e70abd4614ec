"""An INSERT of several rows, taken apart into its rows, and put together of some of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_ROWS: Final = 300
"""Of one statement, to be taken apart: 15 us each, while nobody else is served."""

# What is skipped, and what is told apart: brackets, commas, words, and parameters. The text has
# been read before, so that strings are known to end where they seem to.
_TOKEN: Final = re.compile(
    rb"""(?<![\w$\x80-\xff])[eE]'(?:[^'\\]|\\.|'')*'
    | '(?:[^']|'')*'
    | "(?:[^"]|"")*"
    | (?<![\w$\x80-\xff])\$(?P<tag>(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*)?)\$.*?\$(?P=tag)\$
    | --[^\r\n]*
    | (?P<comment>/\*.*?\*/)
    | (?<![\w$\x80-\xff])\$(?P<parameter>[0-9]+)
    | (?P<word>[A-Za-z_\x80-\xff][\w$\x80-\xff]*)
    | (?P<sign>[][(),;])""",
    re.DOTALL | re.VERBOSE,
)
_OPENING: Final = (b"(", b"[")
_CLOSING: Final = (b")", b"]")


@dataclass(frozen=True, slots=True)
class Rows:
    """An INSERT ... VALUES.

    Attributes:
        sql: its text.
        rows: where each row begins and ends, brackets included.
        parameters: where there are parameters, in their order: from, to, and the number.
    """

    sql: bytes
    rows: tuple[tuple[int, int], ...]
    parameters: tuple[tuple[int, int, int], ...]

    def alone(self, row: int) -> bytes:
        """The text with one of its rows."""
        start, end = self.rows[row]
        head, tail = self.rows[0][0], self.rows[-1][1]
        return self.sql[:head] + self.sql[start:end] + self.sql[tail:]

    def some(self, rows: Iterable[int]) -> tuple[bytes, list[int]]:
        """The text with some of its rows, and which parameters its $1, $2 and so on are."""
        head, tail = self.rows[0][0], self.rows[-1][1]
        parts: list[bytes] = []
        numbers: dict[int, int] = {}
        self._copy(0, head, parts, numbers)
        for position, row in enumerate(rows):
            if position:
                parts.append(b",")
            self._copy(*self.rows[row], parts, numbers)
        self._copy(tail, len(self.sql), parts, numbers)
        return b"".join(parts), list(numbers)

    def _copy(self, start: int, end: int, parts: list[bytes], numbers: dict[int, int]) -> None:
        for begins, ends, number in self._parameters_in(start, end):
            new = numbers.setdefault(number, len(numbers) + 1)
            parts += [self.sql[start:begins], b"$%d" % new]
            start = ends
        parts.append(self.sql[start:end])

    def _parameters_in(self, start: int, end: int) -> Sequence[tuple[int, int, int]]:
        found = self.parameters
        low = _first(found, start)
        return found[low : _first(found, end)]


def _first(parameters: Sequence[tuple[int, int, int]], position: int) -> int:
    """The index of the first that begins there or later."""
    low, high = 0, len(parameters)
    while low < high:
        middle = (low + high) // 2
        if parameters[middle][0] < position:
            low = middle + 1
        else:
            high = middle
    return low


def rows_of(sql: bytes) -> Rows | None:
    """Take an INSERT ... VALUES apart; None if that is not certain."""
    rows: list[tuple[int, int]] = []
    parameters: list[tuple[int, int, int]] = []
    depth = start = 0
    # Whether VALUES has come, and whether a row may begin now.
    is_in_rows = may_begin = is_over = False
    for match in _TOKEN.finditer(sql):
        comment, number, word, sign = match.group("comment", "parameter", "word", "sign")
        if comment is not None and comment.count(b"/*") > 1:
            return None
        if number is not None:
            parameters.append((match.start(), match.end(), int(number)))
        if word is not None and depth == 0:
            if word.lower() == b"values" and not is_in_rows:
                is_in_rows = may_begin = True
            else:
                is_over = is_over or is_in_rows
        if sign is None:
            continue
        if sign in _OPENING:
            if depth == 0 and is_in_rows and may_begin and not is_over:
                start, may_begin = match.start(), False
            depth += 1
        elif sign in _CLOSING:
            depth -= 1
            if depth == 0 and is_in_rows and not is_over:
                rows.append((start, match.end()))
        elif depth == 0 and sign == b"," and is_in_rows and not is_over:
            may_begin = True
    return Rows(sql, tuple(rows), tuple(parameters)) if rows and depth == 0 else None
