r"""The rows of a COPY, dealt out to shards by their keys: in text format, and in CSV.

Theory of operation
-------------------
What a client sends is cut at the ends of rows, wherever its messages end. Of a row only the
key is looked at; what is wrong with the rest of it is for the server to say that gets it. Where
a row ends is found by what PostgreSQL goes by (CopyReadLine): in text format a backslash takes
the character behind it along, in CSV all counts as data between quotes. Most data has neither a
backslash before the end of a line nor a quote, and is cut by one `split`; the rest is read mark
by mark.

What is wrong with all rows together must be seen here, since each shard sees only its own: one
that ends in another way than the first, and the mark `\.` that ends the data.

A row that is not complete waits for more. It is looked at again when there is a quarter more of
it, so that the time that this takes is in proportion to its length.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError, RowRefused
from .copy_keys import SURELY_FIT
from .copy_lines import Lines
from .refusals import copy_not_split

if TYPE_CHECKING:
    from .copy_keys import CopyKeys
    from .copy_text import CopyText

LONGEST_ROW: Final = 4 * 1024 * 1024
"""A longer row is refused: so much is held of each COPY that is split."""

_NEWLINE: Final = b"\n"
_RETURN_NEWLINE: Final = b"\r\n"
_END: Final = b"\\."
_BACKSLASH: Final = 0x5C
_SHOWN: Final = 100  # characters of a row that PostgreSQL shows
_FIRST_WITHOUT_END: Final = 180000  # in CSV `\.` means nothing from there on

# What is between quotes or behind a backslash is walked over, never matched by a group that is
# repeated: that would take memory for each repetition, of which a client could send millions.
_TEXT_MARKS: Final = re.compile(rb"\\.|\r?\n|\r", re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_CONTROLS: Final = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
}


class CopyRows:
    """Deals rows out; what it has for each shard is taken by `take`.

    Attributes:
        lines: which lines have gone where.
        is_over: the data has said so: nothing more counts.
        count: how many rows there have been.
    """

    __slots__ = (
        "_are_plain",
        "_awaited",
        "_delimiter",
        "_eol",
        "_has_end",
        "_has_header",
        "_home",
        "_index",
        "_is_first",
        "_keys",
        "_last",
        "_null_text",
        "_order",
        "_parts",
        "_rest",
        "_text",
        "count",
        "is_over",
        "lines",
    )

    def __init__(
        self, text: CopyText, keys: CopyKeys, index: int, shards: int, home: int
    ) -> None:
        """Begin.

        Args:
            text: what the COPY says.
            keys: of its key column.
            index: of that among the columns of a row.
            shards: how many there are.
            home: the one that gets what its server will refuse.
        """
        self._text: Final = text
        self._keys: Final = keys
        self._index: Final = index
        self._home: Final = home
        self._is_first = True
        self._delimiter: Final = text.delimiter
        self._null_text: Final = text.null or b""
        # Whether digits are a key, whatever the options are.
        marks = (self._null_text, text.default or b"")
        self._are_plain: Final = keys.are_bigints and not any(map(bytes.isdigit, marks))
        self._parts: Final[list[list[bytes]]] = [[] for _ in range(shards)]
        self._order = bytearray()
        self._rest = bytearray()
        self._awaited = 0
        self._eol = b""
        self._has_header = text.has_header
        # The last row, without an end, and its shard.
        self._last: tuple[int, bytes] | None = None
        # Whether `\.` alone in a row ends the data.
        self._has_end = True
        self.lines: Final = Lines(shards)
        self.is_over = False
        self.count = 0

    # --- in and out

    def feed(self, data: bytes) -> None:
        """Take more of the data.

        Raises:
            RowRefused: a row belongs nowhere; those before it have been dealt out.
        """
        if self.is_over:
            return
        rest = self._rest
        if rest:
            rest += data
            if len(rest) < self._awaited:
                return
            data = bytes(rest)
        before = self.count
        try:
            end = self._deal(data)
        finally:
            self._note_order()
        left = len(data) - end
        if rest or left:
            self._rest = bytearray(data[end:])
        self._awaited = left + (left >> 2) if self.count == before else 0
        if left > LONGEST_ROW:
            raise self._bad(
                RoutingError(
                    f"a row of COPY is longer than {LONGEST_ROW} bytes",
                    sqlstate="54000",
                    hint="Choose the shard with SET SHARD or a comment, and send it there.",
                )
            )

    def end(self) -> None:
        """There is no more data.

        Raises:
            RowRefused: the last row belongs nowhere.
        """
        self._awaited = 0
        if self._rest:
            self.feed(b"")
        row, self._rest = bytes(self._rest), bytearray()
        if row and not self.is_over:
            self._deal_last(row)
            self._note_order()

    def take(self) -> list[bytes]:
        """What there is for each shard; it is not kept."""
        eol, found = self._eol, []
        for part in self._parts:
            found.append(eol.join(part) + eol if part else b"")
            part.clear()
        last, self._last = self._last, None
        if last is not None:
            found[last[0]] += last[1]
        return found

    # --- rows

    def _deal(self, data: bytes) -> int:
        """Deal out all rows that have an end; returns where the last of them ends."""
        eol = self._eol
        if not eol or self._has_header or self._needs_care(data):
            return self._deal_carefully(data)
        if eol is _NEWLINE:
            if b"\r" in data:
                return self._deal_carefully(data)
            end = data.rfind(_NEWLINE) + 1
        else:
            end = data.rfind(_RETURN_NEWLINE) + 2
            count = data.count(_RETURN_NEWLINE)
            if count != data.count(_NEWLINE) or count != data.count(b"\r"):
                return self._deal_carefully(data)
            if not count:
                end = 0
        if end:
            self._split(data[: end - len(eol)].split(eol))
        return end

    def _needs_care(self, data: bytes) -> bool:
        """Whether ends of lines may not be those of rows, or delimiters not those of fields."""
        raise NotImplementedError

    def _deal_carefully(self, data: bytes) -> int:
        """The same as `_deal`, mark by mark."""
        raise NotImplementedError

    def _deal_last(self, row: bytes) -> None:
        """Deal out a row without an end."""
        raise NotImplementedError

    def _shard_in(self, row: bytes) -> int:
        """The shard of a row, from its key."""
        raise NotImplementedError

    def _shard_of(self, field: bytes, row: bytes) -> int:
        """The shard of a row of this key, which has no quotes and no delimiters in it."""
        raise NotImplementedError

    def _more_lines(self, row: bytes) -> int:
        """How many lines a row has behind its first."""
        return 0

    def _split(self, rows: list[bytes]) -> None:
        """Deal out rows of one line each, of which each delimiter ends a field."""
        parts, order, known = self._parts, self._order, self._keys.known
        index, most, delimiter = self._index, self._index + 1, self._delimiter
        are_plain, shard_of = self._are_plain, self._keys.sharder.shard
        for row in rows:
            fields = row.split(delimiter, most)
            if len(fields) > index:
                field = fields[index]
                shard = known.get(field, -1)
                if shard < 0:
                    if are_plain and len(field) <= SURELY_FIT and field.isdigit():
                        shard = shard_of(int(field))
                        self._keys.note(field, shard)
                    else:
                        shard = self._shard_of(field, row)
            else:
                shard = self._home  # which says that a column is missing
            parts[shard].append(row)
            order.append(shard & 255)
            self.count += 1

    def _end_row(self, row: bytes, mark: bytes) -> bool:
        r"""Deal out a row that ends with this mark; returns whether it was `\.`, the end."""
        if mark != self._eol:
            self._note_eol(mark)
        if row == _END and self._has_end:
            self.is_over = True
        elif self._has_header:
            self._give_all(row)
        else:
            self._give(self._shard_in(row), row)
        self._is_first = False
        return self.is_over

    def _end_last(self, row: bytes, shard: int) -> None:
        """Deal out the last row, without an end, to a shard; -1: to that of its key."""
        if row == _END and self._has_end:
            self.is_over = True
        elif self._has_header:
            self._eol = self._eol or _NEWLINE
            self._give_all(row)
        else:
            shard = self._shard_in(row) if shard < 0 else shard
            self._give(shard, row)
            self._parts[shard].pop()
            self._last = (shard, row)

    def _give(self, shard: int, row: bytes) -> None:
        self._parts[shard].append(row)
        self._order += bytes((shard & 255,)) * (1 + self._more_lines(row))
        self.count += 1

    def _give_all(self, row: bytes) -> None:
        """Give the header to every shard."""
        self._has_header = False
        for part in self._parts:
            part.append(row)
        self.lines.add_common(1 + self._more_lines(row))

    def _note_order(self) -> None:
        if self._order:
            self.lines.add(bytes(self._order))
            self._order = bytearray()

    def _note_eol(self, mark: bytes) -> None:
        """A row ends so, and not as others have."""
        if self._eol:
            raise self._misplaced("carriage return" if b"\r" in mark else "newline")
        if mark == b"\r":
            raise self._bad(copy_not_split("its rows end in carriage returns alone"))
        self._eol = _NEWLINE if mark == _NEWLINE else _RETURN_NEWLINE

    def _key_in(self, field: bytes | None, value: bytes | None, row: bytes) -> int:
        """The shard of a key, by its field, if that is not in quotes; a value of None is NULL.

        Raises:
            RowRefused: there is none.
        """
        if value is None:
            raise self._bad(self._keys.missing(self._text.table), row=row)
        default = self._text.default
        if default is not None and field == default:
            name = self._keys.column.name
            raise self._bad(copy_not_split(f'the key "{name}" is left to its default'), row=row)
        try:
            return self._keys.shard(value)
        except RoutingError as error:
            raise self._bad(error, row=row, value=value) from None

    # --- what is wrong

    def _bad(
        self, error: RoutingError, *, row: bytes | None = None, value: bytes | None = None
    ) -> RowRefused:
        """A row is bad, the next one to be counted."""
        line = self.lines.total + len(self._order) + 1
        if row is not None:
            line += self._more_lines(row)
        where = self._where(line, row, value)
        return RowRefused(
            error.message, sqlstate=error.sqlstate, hint=error.hint, number=line, where=where
        )

    def _where(self, line: int, row: bytes | None, value: bytes | None) -> str:
        """Which row it is, in PostgreSQL's words."""
        where = f"COPY {self._text.table}, line {line}"
        if value is not None:
            return f'{where}, column {self._keys.column.name}: "{_shown(value)}"'
        return where if row is None else f'{where}: "{_shown(row)}"'

    def _misread(self, message: str) -> RowRefused:
        return self._bad(RoutingError(message, sqlstate="22P04"))

    def _misplaced(self, what: str) -> RowRefused:
        """A row ends where none may, in this."""
        raise NotImplementedError


def _shown(data: bytes) -> str:
    text = data.decode("utf-8", "replace")
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class TextRows(CopyRows):
    """Rows in text format."""

    __slots__ = ("_escaped", "_separators")

    def __init__(
        self, text: CopyText, keys: CopyKeys, index: int, shards: int, home: int
    ) -> None:
        super().__init__(text, keys, index, shards, home)
        self._escaped: Final = b"\\" + text.delimiter
        self._separators: Final = re.compile(rb"\\.|%b" % re.escape(text.delimiter), re.DOTALL)

    def _needs_care(self, data: bytes) -> bool:
        return b"\\" in data and (
            b"\\\n" in data or b"\\\r" in data or _END in data or self._escaped in data
        )

    def _deal_carefully(self, data: bytes) -> int:
        start = 0
        for match in _TEXT_MARKS.finditer(data):
            mark = match[0]
            if mark[0] == _BACKSLASH:
                if mark == _END and not self._is_alone(data, start, match.start()):
                    return start  # what is behind it is not here yet
                continue
            if mark == b"\r" and match.end() == len(data):
                return start  # a newline may follow
            if self._end_row(data[start : match.start()], mark):
                return len(data)
            start = match.end()
        return start

    def _is_alone(self, data: bytes, start: int, position: int) -> bool:
        r"""See that a `\.` is alone in its row; False if that is not known yet."""
        behind = data[position + 2 : position + 4]
        if position == start and (behind[:1] == _NEWLINE or behind == _RETURN_NEWLINE):
            return True
        if position == start and behind in (b"", b"\r"):
            return False
        raise self._misread("end-of-copy marker is not alone on its line")

    def _deal_last(self, row: bytes) -> None:
        marks = [match[0] for match in _TEXT_MARKS.finditer(row)]
        if marks[-1:] == [b"\r"]:
            self._note_eol(b"\r")
        self._end_last(row, -1)

    def _shard_in(self, row: bytes) -> int:
        index, start = self._index, 0
        written: bytes | None = None
        for match in self._separators.finditer(row):
            if row[match.start()] == _BACKSLASH:
                continue
            if not index:
                written = row[start : match.start()]
                break
            index -= 1
            start = match.end()
        if written is None:
            if index:
                return self._home  # which says that a column is missing
            written = row[start:]
        return self._shard_of(written, row)

    def _shard_of(self, field: bytes, row: bytes) -> int:
        value: bytes | None = field
        if field == self._null_text:
            value = None
        elif b"\\" in field:
            value = _ESCAPE.sub(_meant, field)
        shard = self._key_in(field, value, row)
        self._keys.note(field, shard)
        return shard

    def _misplaced(self, what: str) -> RowRefused:
        return self._misread(f"literal {what} found in data")


def _meant(match: re.Match[bytes]) -> bytes:
    octal, hexadecimal, other = match.groups()
    if octal is not None:
        return bytes((int(octal, 8) & 255,))
    if hexadecimal is not None:
        return bytes((int(hexadecimal, 16),))
    return _CONTROLS.get(other, other)


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
        return self._quote in data or (self._has_end and _END in data)

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
        is_known = self._eol is _NEWLINE and not self._is_first
        return row.count(_NEWLINE if is_known else b"\r")

    def _give(self, shard: int, row: bytes) -> None:
        more = self._more_lines(row)
        # The same at a shard, whose first row need not be the first of all.
        if more and shard not in self._order and not self.lines.has_given(shard):
            self.lines.note_uncounted(shard, more - row.count(b"\r"))
        super()._give(shard, row)

    def _shard_in(self, row: bytes) -> int:
        index, start, position = self._index, 0, 0
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
        if index:
            return self._home  # which says that a column is missing
        written = row[start:end]
        if self._quote not in written:
            return self._shard_of(written, row)
        value: bytes | None = self._unquoted(written)
        if value == self._null_text and _has(self._text.force_null, self._keys.column.name):
            value = None
        return self._key_in(None, value, row)

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
