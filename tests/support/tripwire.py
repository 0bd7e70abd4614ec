"""A proxy before a server that cuts the connection where a text goes by, or tells of it."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Self

from router.demo.server import HOST

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_RECV = 1 << 16


class Tripwire:
    """Passes everything on, until a client sends a text.

    Before the server has it, or as soon as the server has answered and before the client knows,
    `act` is called, and that connection is cut. It happens once.
    """

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._listening = socket.create_server((HOST, 0))
        self.port: int = self._listening.getsockname()[1]
        self._text = b""
        self._is_before = False
        self._act: Callable[[], None] | None = None
        self._lock = threading.Lock()
        self._socks: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def set(self, text: bytes, *, before: bool, act: Callable[[], None]) -> None:
        """Wait for a text."""
        with self._lock:
            self._text, self._is_before, self._act = text, before, act

    @property
    def has_gone_off(self) -> bool:
        """Whether the text has come by."""
        return not self._text

    def close(self) -> None:
        """Cut all connections, and accept no more."""
        for sock in (self._listening, *self._socks):
            _end(sock)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:  # it is not there now
                client.close()
                continue
            self._socks += [client, server]
            seen = threading.Event()  # the text has gone to the server: its answer is kept
            for work in (self._up, self._down):
                threading.Thread(target=work, args=(client, server, seen), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket, seen: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_RECV):
                with self._lock:
                    is_it = bool(self._text) and self._text in data
                    if is_it:
                        self._text = b""
                if is_it and self._is_before:
                    self._go_off(client, server)
                    return
                if is_it:
                    seen.set()
                server.sendall(data)
        _end(server)

    def _down(
        self, client: socket.socket, server: socket.socket, seen: threading.Event
    ) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(_RECV):
                if seen.is_set():
                    self._go_off(client, server)
                    return
                client.sendall(data)
        _end(client)

    def _go_off(self, client: socket.socket, server: socket.socket) -> None:
        act = self._act
        assert act is not None
        act()
        _end(client)
        _end(server)


def _end(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
