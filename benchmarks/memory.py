"""How much memory an idle client costs each proxy."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.demo.server import HOST, SUPERUSER

from .processes import resident_bytes
from .targets import DATABASE, BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .targets import Target

QUERY = b"SELECT 1\0"
# Allocators return memory late, if at all; the last figure is given this long.
SETTLE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes of a proxy."""

    target: str
    clients: int
    before: int
    connected: int
    after: int

    @property
    def per_client(self) -> float:
        """Bytes."""
        return (self.connected - self.before) / self.clients


def measure(target: Target, pid: int, clients: int, progress: Callable[[str], None]) -> Memory:
    """Open clients that each run one query and then stay idle; close them again."""
    with contextlib.closing(connect(target.port)):
        pass  # what the first client alone brings about is not a cost of each
    before = resident_bytes(pid)
    with contextlib.ExitStack() as stack:
        for number in range(clients):
            stack.enter_context(contextlib.closing(connect(target.port)))
            if number % 100 == 0:
                progress(f"{target.name}: {number} of {clients} clients")
        connected = resident_bytes(pid)
    time.sleep(SETTLE_SECONDS)
    return Memory(target.name, clients, before, connected, resident_bytes(pid))


def connect(port: int) -> socket.socket:
    """Log in without a password and run one query."""
    connection = socket.create_connection((HOST, port), timeout=30)
    try:
        parameters = f"user\0{SUPERUSER}\0database\0{DATABASE}\0\0".encode()
        connection.sendall(struct.pack("!ii", len(parameters) + 8, 196608) + parameters)
        _read_until_ready(connection)
        connection.sendall(struct.pack("!ci", b"Q", len(QUERY) + 4) + QUERY)
        _read_until_ready(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _read_until_ready(connection: socket.socket) -> None:
    data = b""
    while not data.endswith(b"Z\0\0\0\x05I"):
        received = connection.recv(8192)
        if not received or data.startswith(b"E"):
            raise BenchmarkError(f"the server closed the connection after {data!r}")
        data += received
