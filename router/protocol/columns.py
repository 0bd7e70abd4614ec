"""What is told of a prepared statement: the types of its parameters, and its columns.

PostgreSQL keeps to what it has told of a statement for as long as a session lasts: if the
columns have changed, it says so to whoever executes it. A statement that is parsed on another
connection is compared with what was told, so that it can be said there as well.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from ..errors import ServerProtocolError
from . import codes

if TYPE_CHECKING:
    from collections.abc import Callable

# Of a column in a RowDescription, from its name's end: the type, its size and its modifier.
_TYPE: Final = 6
_FORMAT: Final = 16
_END: Final = 18


class Description:
    """What a Describe of a statement has told.

    Attributes:
        types: those of its parameters, as a count and oids, which is how Parse has them.
        columns: stands for their names and types; b"" if it returns none.
    """

    __slots__ = ("columns", "types")

    def __init__(self, types: bytes, columns: bytes) -> None:
        self.types: Final = types
        self.columns: Final = columns

    def is_same(self, other: Description) -> bool:
        """Whether who has been told the one has been told the other."""
        return self.columns == other.columns and self.types == other.types


class Describing:
    """Gathers a server's answer to the Describe of a statement.

    `told` is given what it says, before anybody else is.
    """

    __slots__ = ("_told", "_types")

    def __init__(self, told: Callable[[Description], None]) -> None:
        self._told: Final = told
        self._types = b""

    def hear(self, kind: int, body: bytes) -> None:
        """Take ParameterDescription, and RowDescription or NoData.

        Raises:
            ServerProtocolError: it makes no sense.
        """
        if kind == codes.PARAMETER_DESCRIPTION:
            self._types = body
        else:
            columns = digest(body) if kind == codes.ROW_DESCRIPTION else b""
            self._told(Description(self._types, columns))


def digest(body: bytes) -> bytes:
    """16 bytes that stand for names, types and modifiers in the body of a RowDescription.

    Neither for tables, which may have been made anew, nor for formats.

    Raises:
        ServerProtocolError: it is malformed.
    """
    found = blake2b(body[:2], digest_size=16)
    pos = 2
    while pos < len(body):
        end = body.find(b"\0", pos) + 1
        if not end or end + _END > len(body):
            raise ServerProtocolError("malformed RowDescription")
        found.update(body[pos:end] + body[end + _TYPE : end + _FORMAT])
        pos = end + _END
    return found.digest()
