"""Servers that answer a login with what is no answer."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.protocol import messages
from tests.support.router import HOST, PoolText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.router import RouterProcess


def authentication(body: bytes) -> bytes:
    """An Authentication message."""
    return messages.message(ord("R"), body)


OK = authentication(bytes(4))
ANSWERS = {
    "no_code": authentication(b""),
    "half_a_code": authentication(b"\0\0"),
    "md5_without_salt": authentication(b"\0\0\0\5"),
    "sasl_without_end": authentication(b"\0\0\0\nSCRAM-SHA-256"),
    "sasl_of_nothing": authentication(b"\0\0\0\n\0"),
    "unknown_method": authentication(b"\0\0\0\x63"),
    "no_utf8": OK + messages.message(ord("S"), b"\xff\xfe\0x\0"),
    "no_name": OK + messages.message(ord("S"), b""),
    "short_key": OK + messages.message(ord("K"), b"\0\0"),
    "bad_kind": OK + messages.message(ord("!"), b""),
    "bad_length": b"R" + struct.pack("!I", 3),
    "long_message": b"R" + struct.pack("!I", 1 << 30),
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "nothing": b"",
}


@pytest.fixture
def servers() -> Iterator[dict[str, int]]:
    """The port of a server for each of the answers."""
    with ExitStack() as stack:
        ports: dict[str, int] = {}
        for name, answer in ANSWERS.items():
            sock = stack.enter_context(socket.create_server((HOST, 0)))
            ports[name] = sock.getsockname()[1]
            threading.Thread(target=_serve, args=(sock, answer), daemon=True).start()
        yield ports
        for port in ports.values():
            with suppress(OSError), socket.create_connection((HOST, port)) as waker:
                waker.sendall(b"end!")


def _serve(sock: socket.socket, answer: bytes) -> None:
    while True:
        peer, _ = sock.accept()
        with peer, suppress(OSError):
            if peer.recv(4, socket.MSG_WAITALL) == b"end!":
                return
            peer.recv(4096)
            peer.sendall(answer)
            peer.shutdown(socket.SHUT_WR)
            while peer.recv(4096):
                pass


def test_a_login_that_cannot_be_read_is_an_error_in_words(
    servers: dict[str, int], start_router: Callable[..., RouterProcess]
) -> None:
    pools = {
        name: PoolText([[(HOST, port, "primary")]], options="connect_timeout = 200")
        for name, port in servers.items()
    }
    router = start_router(pools, "validate_config = false")
    for name in servers:
        with pytest.raises(psycopg.OperationalError) as caught:
            router.connect(name).execute("SELECT 1")
        text = str(caught.value)
        assert "Pool down" in text
        assert "server" in text.partition("Pool down")[2] or "primary" in text, text
        for word in ("internal", "struct", "codec", "Error ", "b'", "('"):
            assert word not in text.replace("OperationalError", ""), (name, text)
    assert "internal error" not in router.log()
