"""Many rows at once, there or back, with a client that costs next to nothing itself."""

from __future__ import annotations

import contextlib
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .memory import connect
from .targets import DATABASE, BenchmarkError

if TYPE_CHECKING:
    import socket

    from tests.support.cluster.server import Server

    from .targets import Target

_READY: Final = b"Z\0\0\0\x05I"
_BLOCK_ROWS: Final = 1000
_SECONDS: Final = 120.0
_STATEMENTS: Final = {
    "rows": "SELECT * FROM source LIMIT {rows}",
    "copy out": "COPY (SELECT * FROM source LIMIT {rows}) TO STDOUT",
    "copy in": "COPY sink FROM STDIN",
}


@dataclass(frozen=True, slots=True)
class Moved:
    """How many bytes went over the client's connection, and how long that took."""

    size: int
    seconds: float


def prepare(server: Server, rows: int) -> None:
    """Make the table that is read, of so many rows, and the one that is written."""
    server.execute(
        "CREATE UNLOGGED TABLE source AS SELECT n AS id, md5(n::text) AS value"
        f" FROM generate_series(1, {rows}) n",
        database=DATABASE,
    )
    server.execute("VACUUM source", database=DATABASE)
    server.execute("CREATE UNLOGGED TABLE sink (id integer, value text)", database=DATABASE)


def move(target: Target, kind: str, rows: int) -> Moved:
    """Run one statement that reads or writes rows.

    Raises:
        BenchmarkError: it failed.
    """
    with contextlib.closing(connect(target.port, target.host)) as connection:
        connection.settimeout(_SECONDS)
        if kind == "copy in":
            _ask(connection, "TRUNCATE sink")
            _receive(connection)
        began = time.monotonic()
        _ask(connection, _STATEMENTS[kind].format(rows=rows))
        sent = _send_rows(connection, rows) if kind == "copy in" else 0
        size = sent + _receive(connection)
        return Moved(size, time.monotonic() - began)


def _ask(connection: socket.socket, statement: str) -> None:
    text = statement.encode() + b"\0"
    connection.sendall(struct.pack("!ci", b"Q", len(text) + 4) + text)


def _send_rows(connection: socket.socket, rows: int) -> int:
    if not connection.recv(8192).startswith(b"G"):
        raise BenchmarkError("the server does not take the rows of a COPY")
    whole, rest = _copy_data(_BLOCK_ROWS), _copy_data(rows % _BLOCK_ROWS)
    for _ in range(rows // _BLOCK_ROWS):
        connection.sendall(whole)
    connection.sendall(rest)
    sent = len(whole) * (rows // _BLOCK_ROWS) + len(rest)
    connection.sendall(struct.pack("!ci", b"c", 4))
    return sent


def _copy_data(rows: int) -> bytes:
    """A message of so many rows."""
    lines = b"".join(b"%d\t%032d\n" % (number, number) for number in range(rows))
    return struct.pack("!ci", b"d", len(lines) + 4) + lines


def _receive(connection: socket.socket) -> int:
    """Take what comes until the server is ready for more; return how much that was."""
    buffer = bytearray(1 << 18)
    view = memoryview(buffer)
    size, tail = 0, b""
    while not tail.endswith(_READY):
        received = connection.recv_into(buffer)
        if not received or (not size and buffer.startswith(b"E")):
            raise BenchmarkError(f"the statement failed: {bytes(view[:received])!r}")
        size += received
        tail = (tail + bytes(view[max(0, received - len(_READY)) : received]))[-len(_READY) :]
    return size
