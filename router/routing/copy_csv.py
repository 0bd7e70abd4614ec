"""The rows of a COPY in CSV, dealt out to shards by their keys."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .copy_rows import END, NEWLINE, CopyRows
from .copy_scan import field_end, field_start, shard_at

if TYPE_CHECKING:
    from ..compiling import i64
    from ..errors import RowRefused
    from .copy_keys import CopyKeys
    from .copy_text import CopyText

_FIRST_WITHOUT_END: Final = 180000  # `\.` means nothing from there on


class CsvRows(CopyRows):
    """Rows in CSV."""

    __slots__ = ("_escape", "_inside", "_marks", "_quote", "_separators")

    def __init__(
        self,
        text: CopyText,
        keys: CopyKeys,
        index: int,
        shards: int,
        home: int,
        version: int,
    ) -> None:
        super().__init__(text, keys, index, shards, home)
        quote, escape = re.escape(text.quote), re.escape(text.escape)
        self._quote: Final = text.quote
        self._has_end = version < _FIRST_WITHOUT_END
        self._marks: Final = re.compile(rb"%b|\r?\n|\r" % quote)
        self._separators: Final = re.compile(rb"%b|%b" % (quote, re.escape(text.delimiter)))
        self._inside: re.Pattern[bytes] | None = None
        self._escape: re.Pattern[bytes] | None = None
        if text.escape != text.quote:
            self._inside = re.compile(rb"%b.|%b" % (escape, quote), re.DOTALL)
            self._escape = re.compile(rb"%b([%b%b])" % (escape, quote, escape))

    def _closing(self, data: bytes, position: int) -> int:
        """Where the quote is that closes what has been opened before; -1 if it is not here."""
        inside = self._inside
        if inside is None:
            return data.find(self._quote, position)
        while True:
            match = inside.search(data, position)
            if match is None:
                return -1
            if match[0] == self._quote:
                return match.start()
            position = match.end()

    def _needs_care(self, data: bytes) -> bool:
        return (self._has_end and END in data) or (
            self._inside is not None and self._quote in data and self._text.escape in data
        )

    def _split(self, data: bytes, lines: list[bytes]) -> int:
        """The same where a row goes on as long as a quote is open."""
        quote, eol = self._quote, self._eol
        if quote not in data:
            return super()._split(data, lines)
        parts, order, is_hashed = self._parts, self._order, self._is_hashed
        index: i64 = self._index
        delimiter: i64 = self._delimiter[0]
        mark: i64 = quote[0]
        shards: i64 = self._keys.sharder.count
        opened: list[bytes] = []
        for line in lines:
            toggles = line.count(quote) & 1
            if opened or toggles:
                opened.append(line)
                if toggles and len(opened) > 1:
                    row, opened = eol.join(opened), []
                    self._give(self._shard_in(row), row)
                continue
            shard: i64 = shard_at(line, index, delimiter, mark, shards) if is_hashed else -1
            if shard < 0:
                shard = self._shard_in(line)
            parts[shard].append(line)
            order.append(shard & 255)
        return sum([len(line) + len(eol) for line in opened])

    def _deal_carefully(self, data: bytes) -> int:
        start = position = 0
        while True:
            match = self._marks.search(data, position)
            if match is None:
                return start
            mark, position = match[0], match.end()
            if mark == self._quote:
                closing = self._closing(data, position)
                if closing < 0:
                    return start
                position = closing + 1
                continue
            if mark == b"\r" and position == len(data):
                return start  # a newline may follow
            if self._end_row(data[start : match.start()], mark):
                return len(data)
            start = position

    def _deal_last(self, row: bytes) -> None:
        position = 0
        while match := self._marks.search(row, position):
            position = match.end()
            if match[0] != self._quote:
                self._note_eol(match[0])
                break
            closing = self._closing(row, position)
            if closing < 0:
                self._end_last(row, self._home)  # which says that a quote is not closed
                return
            position = closing + 1
        self._end_last(row, -1)

    def _more_lines(self, row: bytes) -> int:
        # Until it has seen the end of a row, PostgreSQL counts returns.
        is_known = self._eol is NEWLINE and not self._is_first
        return row.count(NEWLINE if is_known else b"\r")

    def _give(self, shard: int, row: bytes) -> None:
        more = self._more_lines(row)
        # The same at a shard, whose first row need not be the first of all.
        if more and shard not in self._order and not self.lines.has_given(shard):
            self.lines.note_uncounted(shard, more - row.count(b"\r"))
        super()._give(shard, row)

    def _shard_in(self, row: bytes) -> int:
        written = self._key_written_in(row)
        if written is None:
            return self._home  # which says that a column is missing
        shard = self._keys.known.get(written, -1)
        if shard >= 0:
            return shard
        if self._quote not in written:
            return self._shard_of(written, row)
        value: bytes | None = self._unquoted(written)
        if value == self._null_text and _has(self._text.force_null, self._keys.column.name):
            value = None
        shard = self._key_in(None, value, row)
        self._keys.note(written, shard)
        return shard

    def _key_written_in(self, row: bytes) -> bytes | None:
        """The field of the key, with its quotes; None if there is none."""
        index, start, position = self._index, 0, 0
        if self._inside is None or self._text.escape not in row:
            delimiter: i64 = self._delimiter[0]
            mark: i64 = self._quote[0]
            begin: i64 = field_start(row, index, delimiter, mark)
            behind: i64 = field_end(row, begin, delimiter, mark) if begin >= 0 else -1
            if behind >= 0:
                return row[begin:behind]
        end = len(row)
        while match := self._separators.search(row, position):
            position = match.end()
            if match[0] == self._quote:
                position = self._closing(row, position) + 1
            elif not index:
                end = match.start()
                break
            else:
                index -= 1
                start = position
        return None if index else row[start:end]

    def _shard_of(self, field: bytes, row: bytes) -> int:
        value: bytes | None = field
        column = self._keys.column.name
        if field == self._null_text and not _has(self._text.force_not_null, column):
            value = None
        shard = self._key_in(field, value, row)
        self._keys.note(field, shard)
        return shard

    def _unquoted(self, written: bytes) -> bytes:
        """What a field with quotes stands for."""
        quote, escape, found, last = self._quote, self._escape, [], -1
        position = 0
        while (opening := written.find(quote, position)) >= 0:
            closing = self._closing(written, opening + 1)
            if closing < 0:
                break  # in no field of a whole row
            inner = written[opening + 1 : closing]
            if escape is not None:
                inner = escape.sub(rb"\1", inner)
            elif opening == last:
                found.append(quote)  # two of them, in quotes, are one
            found += [written[position:opening], inner]
            position = last = closing + 1
        return b"".join([*found, written[position:]])

    def _misplaced(self, what: str) -> RowRefused:
        return self._misread(f"unquoted {what} found in data")


def _has(columns: frozenset[str], name: str) -> bool:
    return name in columns or "*" in columns
