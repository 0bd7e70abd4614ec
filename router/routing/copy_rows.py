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
from .copy_scan import NO_QUOTE, shard_at
from .refusals import copy_not_split

if TYPE_CHECKING:
    from ..compiling import i64
    from .copy_keys import CopyKeys
    from .copy_text import CopyText

LONGEST_ROW: Final = 4 * 1024 * 1024
"""A longer row is refused: so much is held of each COPY that is split."""

NEWLINE: Final = b"\n"
RETURN_NEWLINE: Final = b"\r\n"
END: Final = b"\\."
_BACKSLASH: Final = 0x5C
_SHOWN: Final = 100  # characters of a row that PostgreSQL shows

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
        "_is_hashed",
        "_keys",
        "_last",
        "_null_text",
        "_order",
        "_parts",
        "_rest",
        "_text",
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
        # Whether such a number's shard is that of its hash.
        self._is_hashed: Final = self._are_plain and keys.sharder.hashes_bigints
        self._parts: Final[list[list[bytes]]] = [[] for _ in range(shards)]
        self._order: list[int] = []
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
        before = self.lines.total
        try:
            end = self._deal(data)
        finally:
            self._note_order()
        left = len(data) - end
        if rest or left:
            self._rest = bytearray(data[end:])
        self._awaited = left + (left >> 2) if self.lines.total == before else 0
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
        if not eol or self._has_header:
            first = data.find(NEWLINE) + 1
            if not first or not self._deal_carefully(data[:first]):
                return self._deal_carefully(data)
            return len(data) if self.is_over else first + self._deal(data[first:])
        if self._needs_care(data):
            return self._deal_carefully(data)
        if eol is NEWLINE:
            if b"\r" in data:
                return self._deal_carefully(data)
            end = data.rfind(NEWLINE) + 1
        else:
            end = data.rfind(RETURN_NEWLINE) + 2
            count = data.count(RETURN_NEWLINE)
            if count != data.count(NEWLINE) or count != data.count(b"\r"):
                return self._deal_carefully(data)
            if not count:
                end = 0
        if end:
            end -= self._split(data, data[: end - len(eol)].split(eol))
        return end

    def _needs_care(self, data: bytes) -> bool:
        """Whether ends of lines may not be those of rows, or a row ends the data."""
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

    def _split(self, data: bytes, lines: list[bytes]) -> int:
        """Deal out the lines of data; returns how many bytes at their end are of no whole row.

        Here a line is a row, and each delimiter in it ends a field.
        """
        parts, order, is_hashed = self._parts, self._order, self._is_hashed
        index: i64 = self._index
        delimiter: i64 = self._delimiter[0]
        shards: i64 = self._keys.sharder.count
        for row in lines:
            shard: i64 = shard_at(row, index, delimiter, NO_QUOTE, shards) if is_hashed else -1
            if shard < 0:
                shard = self._place(row)
            parts[shard].append(row)
            order.append(shard & 255)
        return 0

    def _place(self, row: bytes) -> int:
        """The shard of such a row."""
        index = self._index
        fields = row.split(self._delimiter, index + 1)
        if len(fields) <= index:
            return self._home  # which says that a column is missing
        field = fields[index]
        shard = self._keys.known.get(field, -1)
        if shard >= 0:
            return shard
        if self._are_plain and len(field) <= SURELY_FIT and field.isdigit():
            shard = self._keys.sharder.shard(int(field))
            self._keys.note(field, shard)
            return shard
        return self._shard_of(field, row)

    def _end_row(self, row: bytes, mark: bytes) -> bool:
        r"""Deal out a row that ends with this mark; returns whether it was `\.`, the end."""
        if mark != self._eol:
            self._note_eol(mark)
        if row == END and self._has_end:
            self.is_over = True
        elif self._has_header:
            self._give_all(row)
        else:
            self._give(self._shard_in(row), row)
        self._is_first = False
        return self.is_over

    def _end_last(self, row: bytes, shard: int) -> None:
        """Deal out the last row, without an end, to a shard; -1: to that of its key."""
        if row == END and self._has_end:
            self.is_over = True
        elif self._has_header:
            self._eol = self._eol or NEWLINE
            self._give_all(row)
        else:
            shard = self._shard_in(row) if shard < 0 else shard
            self._give(shard, row)
            self._parts[shard].pop()
            self._last = (shard, row)

    def _give(self, shard: int, row: bytes) -> None:
        self._parts[shard].append(row)
        self._order += [shard & 255] * (1 + self._more_lines(row))

    def _give_all(self, row: bytes) -> None:
        """Give the header to every shard."""
        self._has_header = False
        for part in self._parts:
            part.append(row)
        self.lines.add_common(1 + self._more_lines(row))

    def _note_order(self) -> None:
        if self._order:
            self.lines.add(bytes(self._order))
            self._order.clear()

    def _note_eol(self, mark: bytes) -> None:
        """A row ends so, and not as others have."""
        if self._eol:
            raise self._misplaced("carriage return" if b"\r" in mark else "newline")
        if mark == b"\r":
            raise self._bad(copy_not_split("its rows end in carriage returns alone"))
        self._eol = NEWLINE if mark == NEWLINE else RETURN_NEWLINE

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
            b"\\\n" in data or b"\\\r" in data or END in data or self._escaped in data
        )

    def _deal_carefully(self, data: bytes) -> int:
        start = 0
        for match in _TEXT_MARKS.finditer(data):
            mark = match[0]
            if mark[0] == _BACKSLASH:
                if mark == END and not self._is_alone(data, start, match.start()):
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
        if position == start and (behind[:1] == NEWLINE or behind == RETURN_NEWLINE):
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
