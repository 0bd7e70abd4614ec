"""Simple queries of the router's own on a connection that is still logging in.

The answer is text and of limited size; what is too much is read and dropped. A query that takes
too long is cancelled, so that it costs its time and not the connection.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from ..errors import ServerProtocolError
from ..protocol import codes, messages

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..engine.wire import Wire

Row = tuple[str | None, ...]

# So many bytes of rows are kept.
ROWS_LIMIT: Final = 4 << 20
# Messages that are longer are dropped unread.
_BODY_LIMIT: Final = 1 << 20
_PIECE: Final = 4096
_NO_DATA_TO_COPY: Final = "the router has no data to copy"


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a server answered.

    Attributes:
        rows: those of all statements, in text format.
        is_whole: whether there were no more rows than those.
        error: the fields of the ErrorResponse, or None.
        status: the transaction status afterwards.
        parameters: settings that were reported on the way.
    """

    rows: tuple[Row, ...]
    is_whole: bool
    error: dict[str, str] | None
    status: int
    parameters: dict[str, str]


class LoginQueries:
    """Runs queries on one connection, one after the other."""

    def __init__(
        self, wire: Wire, *, time_limit: float, cancel: Callable[[], Awaitable[None]]
    ) -> None:
        """Make a runner.

        Args:
            wire: a connection to a server, which has sent its ReadyForQuery.
            time_limit: for each query, in seconds.
            cancel: delivers a cancel request; it returns when that has been done.
        """
        self._wire: Final = wire
        self.time_limit: Final = time_limit
        self._cancel: Final = cancel

    async def run(self, sql: str) -> QueryResult:
        """Run a text of any number of statements.

        An error of the server's, which includes that the query took too long (57014), is in
        the result.

        Raises:
            ServerProtocolError: the answer is none.
            WireClosed: the server has gone.
        """
        await self._wire.send(messages.query(messages.cstring(sql)[:-1]))
        answer = _Answer(self._wire)
        with trio.move_on_after(self.time_limit) as scope:
            return await answer.read()
        assert scope.cancelled_caught
        await self._cancel()
        result = await answer.read()
        await self._barrier()
        return result

    async def _barrier(self) -> None:
        """Give a cancel request that comes too late something to hit."""
        await self._wire.send(messages.query(b""))
        await _Answer(self._wire).read()


class _Answer:
    """The answer to one query; `read` may be cancelled, and called again to go on."""

    def __init__(self, wire: Wire) -> None:
        self._wire: Final = wire
        self._rows: list[Row] = []
        self._size = 0
        self._is_whole = True
        self._error: dict[str, str] | None = None
        self._parameters: dict[str, str] = {}
        # The message that is being read: its type, or 0, and what is missing of its body.
        self._kind = 0
        self._missing = 0

    async def read(self) -> QueryResult:
        """Read up to the ReadyForQuery."""
        while True:
            if not self._kind:
                kind, length = struct.unpack("!BI", await self._wire.read_exactly(5))
                if length < 4:
                    raise ServerProtocolError("message length is out of range")
                self._kind, self._missing = kind, length - 4
            body = await self._read_body()
            kind, self._kind = self._kind, 0
            if kind == codes.READY_FOR_QUERY and len(body) == 1:
                return QueryResult(
                    tuple(self._rows), self._is_whole, self._error, body[0], self._parameters
                )
            await self._take(kind, body)

    async def _read_body(self) -> bytes:
        """Read a message's body, or drop it and return nothing."""
        is_row = self._kind == codes.DATA_ROW
        if self._missing <= _BODY_LIMIT and not (is_row and self._size > ROWS_LIMIT):
            return await self._wire.read_exactly(self._missing)
        self._is_whole = False
        while self._missing:
            taken = min(self._missing, _PIECE)
            await self._wire.read_exactly(taken)
            self._missing -= taken
        return b""

    async def _take(self, kind: int, body: bytes) -> None:
        if kind == codes.DATA_ROW and body:
            self._size += len(body)
            self._rows.append(messages.parse_data_row(body))
        elif kind == codes.ERROR_RESPONSE:
            self._error = messages.parse_error_fields(body)
        elif kind == codes.PARAMETER_STATUS:
            name, _, value = body[:-1].partition(b"\0")
            self._parameters[name.decode()] = value.decode("utf-8", "surrogateescape")
        elif kind == codes.COPY_IN_RESPONSE:
            await self._wire.send(messages.copy_fail(_NO_DATA_TO_COPY))
