"""libpq logs in to our half of each method, over a real socket."""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.errors import RouterError
from router.protocol.auth import ClientAuthenticator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def served() -> Iterator[Callable[[ClientAuthenticator], int]]:
    """Serve one login on a port of its own."""
    threads: list[threading.Thread] = []

    def serve(authenticator: ClientAuthenticator) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        threads.append(threading.Thread(target=_serve_login, args=(listener, authenticator)))
        threads[-1].start()
        return int(listener.getsockname()[1])

    yield serve
    for thread in threads:
        thread.join(10)


def _serve_login(listener: socket.socket, authenticator: ClientAuthenticator) -> None:
    """The server of one login: everything but the authenticator is canned."""
    with listener:
        connection, _ = listener.accept()
    with connection, connection.makefile("rb") as reader:
        (length,) = struct.unpack("!i", reader.read(4))
        reader.read(length - 4)
        try:
            body = authenticator.first()
            while body is not None:
                connection.sendall(_message(b"R", body))
                _, length = struct.unpack("!ci", reader.read(5))
                body = authenticator.receive(reader.read(length - 4)).send
                if authenticator.is_done and body is not None:
                    connection.sendall(_message(b"R", body))
                    break
        except RouterError as error:
            fields = b"SFATAL\0VFATAL\0C%s\0M%s\0\0"
            what = fields % (error.sqlstate.encode(), error.message.encode())
            connection.sendall(_message(b"E", what))
            return
        connection.sendall(_message(b"R", bytes(4)) + _message(b"Z", b"I"))
        reader.read()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def connect(port: int, password: str) -> None:
    """Log in by libpq, and out again."""
    psycopg.connect(
        host="127.0.0.1",
        port=port,
        user="app",
        password=password,
        sslmode="disable",
        gssencmode="disable",
        connect_timeout=10,
    ).close()


@pytest.mark.parametrize("method", ["trust", "md5", "scram-sha-256"])
@pytest.mark.parametrize("password", ["secret", "pass\u00a0w\u00f6rd\u2168", "\u0627\u0031"])
def test_libpq_logs_in(
    served: Callable[[ClientAuthenticator], int], method: str, password: str
) -> None:
    connect(served(ClientAuthenticator(method, "app", password)), password)


@pytest.mark.parametrize("method", ["md5", "scram-sha-256"])
@pytest.mark.parametrize("stored", ["other", None])
def test_libpq_is_told_of_a_wrong_password(
    served: Callable[[ClientAuthenticator], int], method: str, stored: str | None
) -> None:
    port = served(ClientAuthenticator(method, "app", stored))
    with pytest.raises(psycopg.OperationalError, match='authentication failed for user "app"'):
        connect(port, "secret")
