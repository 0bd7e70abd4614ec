"""The sharding key of a row of COPY: its shard, read exactly as PostgreSQL reads the column."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import InvalidShardingKey, RoutingError
from .keyvalues import KEY_MAX, KEY_MIN, shown
from .refusals import copy_not_split
from .types import KeyType

if TYPE_CHECKING:
    from .sharding import Sharder

_BLANKS: Final = rb"[ \t\n\r\f\v]*"
_DECIMAL: Final = re.compile(_BLANKS + rb"([+-]?)([0-9]+)" + _BLANKS)
# PostgreSQL 16 and later.
_NUMBER: Final = re.compile(
    _BLANKS
    + rb"([+-]?)(0[xX](?:_?[0-9a-fA-F])+|0[oO](?:_?[0-7])+|0[bB](?:_?[01])+|[0-9](?:_?[0-9])*)"
    + _BLANKS
)
SURELY_FIT: Final = 18
"""So many digits are a bigint."""
_LONGEST: Final = 80  # digits that may matter, in binary with a sign
_FIRST_WITH_PREFIXES: Final = 160000
# So many keys of one COPY are remembered with their shards.
_MOST_KNOWN: Final = 8192

_TYPES: Final = {
    KeyType.BIGINT: {20: "bigint", 21: "smallint", 23: "integer"},
    KeyType.UUID: {2950: "uuid"},
    KeyType.TEXT: {25: "text", 1043: "character varying"},
}
_SIZES: Final = {20: 8, 21: 2, 23: 4}
_VARCHAR: Final = 1043
_HEADER: Final = 4  # of a varlena, which is counted in the modifier of a type


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the servers' catalogue has it.

    Attributes:
        name: its name.
        type: the oid of its type.
        modifier: of the type; -1 if there is none.
        is_required: it is NOT NULL.
    """

    name: str
    type: int
    modifier: int
    is_required: bool


class CopyKeys:
    """Finds the shards of the values of one column.

    Attributes:
        column: that.
        known: the shards of values as they have been written, as far as remembered.
        sharder: that of the pool.
    """

    __slots__ = (
        "_most_characters",
        "_pattern",
        "_type_name",
        "column",
        "known",
        "sharder",
    )

    def __init__(self, sharder: Sharder, column: Column, version: int) -> None:
        """Take in the column, of servers of this version (`server_version_num`).

        Raises:
            NoSingleShard: it is not of a type that keys have.
        """
        names = _TYPES[sharder.type]
        if column.type not in names:
            raise copy_not_split(f'the key "{column.name}" is not of a type that keys have')
        self.column: Final = column
        self.sharder: Final = sharder
        self._type_name: Final = names[column.type]
        self._pattern: Final = _NUMBER if version >= _FIRST_WITH_PREFIXES else _DECIMAL
        is_limited = column.type == _VARCHAR and column.modifier >= _HEADER
        self._most_characters: Final = column.modifier - _HEADER if is_limited else -1
        self.known: Final[dict[bytes, int]] = {}

    def note(self, written: bytes, shard: int) -> None:
        """Remember the shard of a value by how it was written, if it is one of the first."""
        if len(self.known) < _MOST_KNOWN:
            self.known[written] = shard

    @property
    def size(self) -> int:
        """How many bytes a value has in binary format; -1 if that depends on it."""
        if self.sharder.type is KeyType.TEXT:
            return -1
        return 16 if self.sharder.type is KeyType.UUID else _SIZES[self.column.type]

    @property
    def are_bigints(self) -> bool:
        """Whether the keys are."""
        return self.sharder.type is KeyType.BIGINT

    def shard(self, value: bytes) -> int:
        """Find the shard of a value in text.

        Raises:
            RoutingError: it is none of the column's type, in PostgreSQL's words, or no shard
                has it.
        """
        kind = self.sharder.type
        if kind is KeyType.BIGINT:
            if len(value) <= SURELY_FIT and value.isdigit():
                return self.sharder.shard(int(value))
            return self.sharder.shard(self._integer(value))
        if kind is KeyType.TEXT:
            return self.sharder.shard(self._text(value))
        try:
            key = self.sharder.parse(value)
        except InvalidShardingKey:
            raise self._invalid(value) from None
        return self.sharder.shard(key)

    def binary(self, value: bytes) -> int:
        """The same for a value in binary format."""
        kind = self.sharder.type
        if kind is KeyType.TEXT:
            return self.sharder.shard(self._text(value))
        size = self.size
        if len(value) != size:
            text = "incorrect binary data format"
            if len(value) < size:
                raise RoutingError("insufficient data left in message", sqlstate="08P01")
            raise RoutingError(text, sqlstate="22P03")
        key = self.sharder.parameter(value, binary=True)
        assert key is not None
        return self.sharder.shard(key)

    def missing(self, table: str) -> RoutingError:
        """Why a row has no shard whose key is NULL."""
        name = self.column.name
        if self.column.is_required:
            return RoutingError(
                f'null value in column "{name}" of relation "{table}" violates not-null '
                "constraint",
                sqlstate="23502",
            )
        return copy_not_split(f'the key "{name}" is NULL')

    def _integer(self, value: bytes) -> int:
        match = self._pattern.fullmatch(value)
        if match is None:
            raise self._invalid(value)
        digits = match[2].replace(b"_", b"").lower()
        significant = digits.lstrip(b"0xob") if digits[1:2] in b"xob" else digits.lstrip(b"0")
        number = KEY_MAX + 2
        if len(significant) <= _LONGEST:
            is_decimal = digits.isdigit()
            number = int(significant or b"0") if is_decimal else int(digits, 0)
        if match[1] == b"-":
            number = -number
        if not KEY_MIN <= number <= KEY_MAX:
            raise RoutingError(
                f'value "{shown(value)}" is out of range for type {self._type_name}',
                sqlstate="22003",
            )
        return number

    def _text(self, value: bytes) -> str:
        try:
            key = value.decode()
        except UnicodeDecodeError as error:
            wrong = " ".join(f"0x{byte:02x}" for byte in value[error.start : error.end])
            raise RoutingError(
                f'invalid byte sequence for encoding "UTF8": {wrong}', sqlstate="22021"
            ) from None
        if "\0" in key:
            raise RoutingError(
                'invalid byte sequence for encoding "UTF8": 0x00', sqlstate="22021"
            )
        most = self._most_characters
        if 0 <= most < len(key) and not key[most:].strip(" "):
            return key[:most]  # as varchar(n) does with blanks at the end
        return key

    def _invalid(self, value: bytes) -> RoutingError:
        return RoutingError(
            f'invalid input syntax for type {self._type_name}: "{shown(value)}"',
            sqlstate="22P02",
        )
