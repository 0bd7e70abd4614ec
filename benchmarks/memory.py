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
    import ssl
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


def measure(
    target: Target,
    pid: int,
    clients: int,
    progress: Callable[[str], None],
    tls: ssl.SSLContext | None = None,
) -> Memory:
    """Open clients that each run one query and then stay idle; close them again."""
    with contextlib.closing(connect(target.port, target.host, tls)):
        pass  # what the first client alone brings about is not a cost of each
    before = resident_bytes(pid)
    with contextlib.ExitStack() as stack:
        for number in range(clients):
            stack.enter_context(contextlib.closing(connect(target.port, target.host, tls)))
            if number % 100 == 0:
                progress(f"{target.name}: {number} of {clients} clients")
        connected = resident_bytes(pid)
    time.sleep(SETTLE_SECONDS)
    return Memory(target.name, clients, before, connected, resident_bytes(pid))


def connect(port: int, host: str = HOST, tls: ssl.SSLContext | None = None) -> socket.socket:
    """Log in without a password and run one query."""
    connection = socket.create_connection((host, port), timeout=30)
    try:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            connection.sendall(struct.pack("!ii", 8, 80877103))
            if connection.recv(1) != b"S":
                raise BenchmarkError("the server does not speak TLS")
            connection = tls.wrap_socket(connection)
        connection.sendall(startup_message(SUPERUSER))
        _read_until_ready(connection)
        connection.sendall(struct.pack("!ci", b"Q", len(QUERY) + 4) + QUERY)
        _read_until_ready(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def startup_message(user: str) -> bytes:
    """What a client says first."""
    parameters = f"user\0{user}\0database\0{DATABASE}\0\0".encode()
    return struct.pack("!ii", len(parameters) + 8, 196608) + parameters


def _read_until_ready(connection: socket.socket) -> None:
    data = b""
    while not data.endswith(b"Z\0\0\0\x05I"):
        received = connection.recv(8192)
        if not received or data.startswith(b"E"):
            raise BenchmarkError(f"the server closed the connection after {data!r}")
        data += received
