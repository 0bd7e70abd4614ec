"""The rows of a COPY in binary format, dealt out to shards by their keys.

A header, rows, and a trailer that may be missing. A row is the number of its fields and then,
for each of them, its length and its bytes. Every shard gets a header, and the trailer if there
is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from .copy_rows import CopyRows
from .hashing import shard_of_bigint

if TYPE_CHECKING:
    from ..compiling import i64
    from ..errors import RowRefused
    from .copy_keys import CopyKeys
    from .copy_text import CopyText

_SIGNATURE: Final = b"PGCOPY\n\xff\r\n\0"
_FLAGS_END: Final = 15
_HEADER_END: Final = 19  # without what extends it
_CRITICAL: Final = 0xFFFF0000
_WITH_OIDS: Final = 1 << 16
_TRAILER: Final = b"\xff\xff"
_TRAILER_COUNT: Final = -1
_NULL: Final = -1


class BinaryRows(CopyRows):
    """Rows in binary format."""

    __slots__ = ("_columns", "_has_begun", "_has_ended", "_hashed_size", "_shards")

    def __init__(
        self,
        text: CopyText,
        keys: CopyKeys,
        index: int,
        shards: int,
        home: int,
        columns: int,
    ) -> None:
        """Begin; `columns` is how many a row has."""
        super().__init__(text, keys, index, shards, home)
        self._columns: Final = columns
        self._shards: Final = keys.sharder.count
        # Of a key whose shard is that of its hash; -1 if none is so.
        self._hashed_size: Final = keys.size if keys.sharder.hashes_bigints else -1
        self._has_begun = self._has_ended = False

    def feed(self, data: bytes) -> None:
        """Take more of the data.

        Raises:
            RowRefused: a row belongs nowhere; those before it have been dealt out.
        """
        if self._has_ended and data:
            raise self._misread("received copy data after EOF marker")
        super().feed(data)

    def end(self) -> None:
        """There is no more data.

        Raises:
            RowRefused: it breaks off.
        """
        super().end()
        if not self._has_begun:
            raise self._misread("COPY file signature not recognized")

    def _deal(self, data: bytes) -> int:
        position = 0
        if not self._has_begun:
            position = self._begin(data)
            if not position:
                return 0
        at: i64 = position
        row: i64 = at
        size: i64 = len(data)
        columns: i64 = self._columns
        index: i64 = self._index
        while size - row >= 2:
            count: i64 = _number(data, row, 2)
            if count == _TRAILER_COUNT:
                self._end_all()
                if row + 2 < size:
                    raise self._misread("received copy data after EOF marker")
                return row + 2
            if count != columns:
                raise self._misread(f"row field count is {count}, expected {columns}")
            at = row + 2
            key: i64 = -1
            key_size: i64 = 0
            field: i64 = 0
            while field < columns:
                if size - at < 4:
                    return row
                length: i64 = _number(data, at, 4)
                at += 4
                if length >= 0:
                    if field == index:
                        key, key_size = at, length
                    at += length
                    if at > size:
                        return row
                elif length != _NULL:
                    raise self._misread("invalid field size")
                field += 1
            if key >= 0 and key_size == self._hashed_size:
                shard: i64 = shard_of_bigint(_number(data, key, key_size), self._shards)
            else:
                shard = self._place(data[key : key + key_size] if key >= 0 else None)
            self._parts[shard].append(data[row:at])
            self._order.append(shard & 255)
            row = at
        return row

    def _begin(self, data: bytes) -> int:
        """Read the header; returns where it ends, or 0 if it is not all here."""
        if data[: len(_SIGNATURE)] != _SIGNATURE[: len(data)]:
            raise self._misread("COPY file signature not recognized")
        if len(data) < _HEADER_END:
            return 0
        flags = int.from_bytes(data[len(_SIGNATURE) : _FLAGS_END], "big")
        if flags & _WITH_OIDS:
            raise self._misread("invalid COPY file header (WITH OIDS)")
        if flags & _CRITICAL:
            raise self._misread("unrecognized critical flags in COPY file header")
        more = int.from_bytes(data[_FLAGS_END:_HEADER_END], "big", signed=True)
        if more < 0:
            raise self._misread("invalid COPY file header (missing length)")
        if len(data) < _HEADER_END + more:
            return 0
        self._has_begun = True
        for part in self._parts:
            part.append(data[:_FLAGS_END] + bytes(_HEADER_END - _FLAGS_END))
        return _HEADER_END + more

    def _end_all(self) -> None:
        self._has_ended = True
        for part in self._parts:
            part.append(_TRAILER)

    def _place(self, value: bytes | None) -> int:
        """The shard of a key."""
        shard = -1 if value is None else self._keys.known.get(value, -1)
        if shard < 0:
            try:
                if value is None:
                    raise self._keys.missing(self._text.table)
                shard = self._keys.binary(value)
            except RoutingError as error:
                raise self._bad(error, value=b"") from None
            self._keys.note(value, shard)
        return shard

    def _deal_last(self, row: bytes) -> None:
        if not self._has_begun and len(row) >= len(_SIGNATURE):
            parts = ((_FLAGS_END, "missing flags"), (_HEADER_END, "missing length"))
            missing = next((what for end, what in parts if len(row) < end), "wrong length")
            raise self._misread(f"invalid COPY file header ({missing})")
        if self._has_begun and len(row) > 1:  # PostgreSQL takes one byte for none
            raise self._misread("unexpected EOF in COPY data")

    def _where(self, line: int, row: bytes | None, value: bytes | None) -> str:
        where = f"COPY {self._text.table}, line {line}"
        return where if value is None else f"{where}, column {self._keys.column.name}"

    def _misread(self, message: str) -> RowRefused:
        if not self._has_begun:
            line = RoutingError(message, sqlstate="22P04")
            error = self._bad(line)
            error.where = ""  # PostgreSQL has no line of it
            return error
        return super()._misread(message)


def _number(data: bytes, at: i64, size: i64) -> i64:
    """Read an integer of so many bytes, with its sign."""
    number: i64 = data[at]
    if number >= 0x80:
        number -= 0x100
    end: i64 = at + size
    at += 1
    while at < end:
        number = number << 8 | data[at]
        at += 1
    return number
