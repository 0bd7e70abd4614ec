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


class _Kept(ReplySink):
    """Keeps an answer until it is complete; more of it than anybody wants is dropped."""

    def __init__(self, hear: Callable[[bytes], None] | None) -> None:
        """Begin with nothing; `hear` is given the notifications that come with it."""
        self._hear: Final = hear
        self._data: list[bytes] = []
        self._size = 0

    def reply(self, data: bytes) -> None:
        """Keep a part of the answer."""
        self._size += len(data)
        if self._size <= _MOST_BYTES:
            self._data.append(data)

    @property
    def _is_whole(self) -> bool:
        return self._size <= _MOST_BYTES

    def _messages(self) -> list[tuple[int, bytes]]:
        """What has been kept: the kinds and the bodies of messages; others are passed on."""
        data, pos = b"".join(self._data), 0
        found: list[tuple[int, bytes]] = []
        while pos + HEADER.size <= len(data):
            kind, length = HEADER.unpack_from(data, pos)
            end = pos + 1 + length
            if kind != codes.NOTIFICATION_RESPONSE:
                found.append((kind, data[pos + HEADER.size : end]))
            elif self._hear is not None:
                self._hear(data[pos:end])
            pos = end
        return found


class Foregoer(_Kept):
    """A batch of the router's own that goes ahead of a client's statement, and prepares it."""

    def __init__(
        self, done: Callable[[bytes], None], hear: Callable[[bytes], None] | None = None
    ) -> None:
        """Begin with nothing; `done` is given the body of the ErrorResponse, if any."""
        super().__init__(hear)
        self._done: Final = done

    def segment_done(self, segment: Segment, status: int) -> None:
        """It is complete."""
        errors = [body for kind, body in self._messages() if kind == codes.ERROR_RESPONSE]
        self._done(errors[-1] if errors else b"")


class CollectedAnswer(_Kept):
    """Gathers rows in text format, and gives them to whoever has asked."""

    def __init__(self, take: Taker, hear: Callable[[bytes], None] | None = None) -> None:
        """Begin with nothing.

        `take` is given the rows, the fields of an ErrorResponse, and whether that is all.
        """
        super().__init__(hear)
        self._take: Final = take

    def segment_done(self, segment: Segment, status: int) -> None:
        """It is complete."""
        if not self._is_whole:
            self._take([], None, False)
            return
        rows: list[Row] = []
        error: dict[str, str] | None = None
        for kind, body in self._messages():
            if kind == codes.DATA_ROW:
                rows.append(messages.parse_data_row(body))
            elif kind == codes.ERROR_RESPONSE:
                error = messages.parse_error_fields(body)
        self._take(rows, error, True)
