"""Words for the time among the rows of a COPY that is to be the same on several shards.

`now` and its like are another time on each server, if the column is one of times. They are
looked for in whole lines, as these come by; where it is not sure which column one is in, it
counts as one that matters.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .copy_text import CSV

if TYPE_CHECKING:
    from collections.abc import Collection

    from .copy_text import CopyText

LONGEST_LINE: Final = 4 * 1024 * 1024
"""So much is held of a line that is not complete."""
TOO_LONG: Final = b"a longer line"

_WORDS: Final = rb"(?:now|today|tomorrow|yesterday)"
_LETTER: Final = rb"[\w\x80-\xff]"
# In text format letters can be behind a backslash, or be written by their numbers.
_ESCAPED: Final = rb"(?<=\\[bfnrtv])"
_NUMBER: Final = rb"(?<!\\)\\+[0-7x]"


def _words(delimiter: bytes, *, is_csv: bool) -> re.Pattern[bytes]:
    """What is looked for; a delimiter may be a letter."""
    mark = re.escape(delimiter)
    before = rb"(?<!%b)|(?<=%b)" % (_LETTER, mark)
    behind = rb"(?:(?!%b)|(?=%b))" % (_LETTER, mark)
    if is_csv:
        words = rb"(?:%b)%b%b" % (before, _WORDS, behind)
    else:
        words = rb"(?:%b|%b)%b%b|%b" % (before, _ESCAPED, _WORDS, behind, _NUMBER)
    return re.compile(words, re.IGNORECASE)


class Times:
    """Looks for them in the rows of one COPY, in text format or in CSV."""

    __slots__ = ("_delimiter", "_exposed", "_is_open", "_is_sure", "_quote", "_rest", "_words")

    def __init__(self, text: CopyText, exposed: Collection[int]) -> None:
        """Begin; `exposed` are the columns, from 0, for which they would matter."""
        is_csv = text.format == CSV
        self._exposed: Final = exposed
        self._delimiter: Final = text.delimiter
        self._quote: Final = text.quote if is_csv else b""
        self._words: Final = _words(text.delimiter, is_csv=is_csv)
        self._is_sure: Final = not is_csv or text.escape == text.quote
        self._is_open = False  # a quote, at the beginning of the next line
        self._rest = bytearray()

    def look(self, data: bytes) -> bytes:
        """Take more of the data; returns the first that has been found, or b""."""
        end = data.rfind(b"\n") + 1
        if not end:
            self._rest += data
            return TOO_LONG if len(self._rest) > LONGEST_LINE else b""
        lines, self._rest = bytes(self._rest) + data[:end], bytearray(data[end:])
        return self._look_at(lines)

    def end(self) -> bytes:
        """There is no more data; the same."""
        return self._look_at(bytes(self._rest))

    def _look_at(self, lines: bytes) -> bytes:
        seen = position = 0
        while match := self._words.search(lines, position):
            position = match.end()
            if match[0][:1] == b"\\" and match[0].count(b"\\") % 2 == 0:
                continue  # these stand for backslashes
            start = lines.rfind(b"\n", seen, match.start()) + 1 or seen
            self._pass(lines, seen, start)
            seen = start
            behind = lines.find(b"\n", match.end())
            line_end = len(lines) if behind < 0 else behind
            line = lines[start:line_end]
            column, field_end = self._column(line, match.end() - start)
            if column < 0 or column in self._exposed:
                return match[0]
            position = start + max(field_end, match.end() - start)
        self._pass(lines, seen, len(lines))
        return b""

    def _pass(self, lines: bytes, start: int, end: int) -> None:
        """Go on to another line."""
        if self._quote:
            self._is_open ^= lines.count(self._quote, start, end) % 2 == 1

    def _column(self, line: bytes, position: int) -> tuple[int, int]:
        """In which column that is, -1 if that is not sure; and where it ends, at least."""
        delimiter, quote = self._delimiter, self._quote
        is_odd = b"\r" in line[:-1] or b"\\" + delimiter in line
        if self._is_open or not self._is_sure or is_odd:
            return -1, position
        end = line.find(delimiter, position)
        if not quote or quote not in line:
            return line.count(delimiter, 0, position), len(line) if end < 0 else end
        if line.count(quote) % 2:
            return -1, position
        outside = line[:position].split(quote)[::2]
        return sum([part.count(delimiter) for part in outside]), position
