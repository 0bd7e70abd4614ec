"""The answer to a query of the router's own between two clients.

In a module of its own because only compiled classes can inherit from compiled ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import codes, messages
from ..protocol.framing import HEADER
from ..protocol.segments import ReplySink, Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    Row = tuple[str | None, ...]
    Taker = Callable[[list[Row], dict[str, str] | None, bool], None]

# More of an answer is not kept.
_MOST_BYTES: Final = 8 << 20


class Foregoer(ReplySink):
    """A batch of the router's own that goes ahead of a client's statement, and prepares it."""

    def __init__(
        self, done: Callable[[bytes], None], hear: Callable[[bytes], None] | None = None
    ) -> None:
        """Begin with nothing.

        Args:
            done: is given the body of the ErrorResponse, if there was one.
            hear: is given the notifications that come with the answer.
        """
        self._done: Final = done
        self._hear: Final = hear
        self._data: list[bytes] = []
        self._size = 0

    def reply(self, data: bytes) -> None:
        """Keep a part of the answer."""
        self._size += len(data)
        if self._size <= _MOST_BYTES:
            self._data.append(data)

    def segment_done(self, segment: Segment, status: int) -> None:
        """It is complete."""
        data = b"".join(self._data)
        error = b""
        pos = 0
        while pos + HEADER.size <= len(data):
            kind, length = HEADER.unpack_from(data, pos)
            if kind == codes.ERROR_RESPONSE:
                error = data[pos + 5 : pos + 1 + length]
            elif kind == codes.NOTIFICATION_RESPONSE and self._hear is not None:
                self._hear(data[pos : pos + 1 + length])
            pos += 1 + length
        self._done(error)


class CollectedAnswer(ReplySink):
    """Gathers rows in text format, and gives them to whoever has asked."""

    def __init__(self, take: Taker, hear: Callable[[bytes], None] | None = None) -> None:
        """Begin with nothing.

        Args:
            take: is given the rows, the fields of an ErrorResponse, and whether that is all.
            hear: is given the notifications that come with them.
        """
        self._take: Final = take
        self._hear: Final = hear
        self._data: list[bytes] = []
        self._size = 0

    def reply(self, data: bytes) -> None:
        """Keep a part of the answer."""
        self._size += len(data)
        if self._size <= _MOST_BYTES:
            self._data.append(data)

    def segment_done(self, segment: Segment, status: int) -> None:
        """It is complete."""
        if self._size > _MOST_BYTES:
            self._take([], None, False)
            return
        data = b"".join(self._data)
        rows: list[Row] = []
        error: dict[str, str] | None = None
        pos = 0
        while pos < len(data):
            kind, length = HEADER.unpack_from(data, pos)
            body = data[pos + 5 : pos + 1 + length]
            if kind == codes.DATA_ROW:
                rows.append(messages.parse_data_row(body))
            elif kind == codes.ERROR_RESPONSE:
                error = messages.parse_error_fields(body)
            elif kind == codes.NOTIFICATION_RESPONSE and self._hear is not None:
                self._hear(data[pos : pos + 1 + length])
            pos += 1 + length
        self._take(rows, error, True)
