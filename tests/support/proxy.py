"""A TCP proxy before a server, which drops, stalls or resets what goes through it."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from typing import TYPE_CHECKING

from router.demo.server import HOST

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_PIECE = 65536
# Closing then sends a RST.
_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """Passes on what comes, until it is told otherwise.

    Attributes:
        accepted: how many connections have come.
    """

    def __init__(
        self, port: int, listen: tuple[str, int] = (HOST, 0), header: bytes = b""
    ) -> None:
        """Make a proxy before the server at a port of this machine.

        Each connection to the server begins with the header.
        """
        self._target = port
        self._header = header
        self._listening = socket.create_server(listen)
        self.port = int(self._listening.getsockname()[1])
        self.accepted = 0
        self._lock = threading.Lock()
        self._peers: dict[socket.socket, socket.socket] = {}
        self._stalled: set[socket.socket] = set()
        self._stalls_new = False
        self._refuses = False
        self._wake, self._woken = socket.socketpair()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def stall(self, *, new: bool = True) -> None:
        """Pass nothing on of the connections that there are; nor of `new` ones."""
        with self._lock:
            self._stalled.update(self._peers)
            self._stalls_new = new
        self._notify()

    def deafen(self) -> None:
        """Accept connections and pass nothing on of new ones; the others go on."""
        with self._lock:
            self._stalled.clear()
            self._stalls_new = True
        self._notify()

    def drop(self) -> None:
        """Close the connections that there are, as somebody who ends in order."""
        with self._lock:
            for sock in list(self._peers):
                self._drop(sock, reset=False)
        self._notify()

    def resume(self) -> None:
        """Pass everything on."""
        with self._lock:
            self._stalled.clear()
            self._stalls_new = self._refuses = False
        self._notify()

    def refuse(self) -> None:
        """Reset every connection, those that come as well."""
        with self._lock:
            self._refuses = True
            for sock in list(self._peers):
                self._drop(sock)
        self._notify()

    def reset(self) -> None:
        """Reset the connections that there are."""
        with self._lock:
            for sock in list(self._peers):
                self._drop(sock)
        self._notify()

    def close(self) -> None:
        """End everything."""
        self._is_closing = True
        self._notify()
        self._thread.join()
        for sock in (*self._peers, self._listening, self._wake, self._woken):
            sock.close()

    def _notify(self) -> None:
        self._wake.send(b"x")

    def _run(self) -> None:
        while not self._is_closing:
            with self._lock:
                watched = [sock for sock in self._peers if sock not in self._stalled]
            ready, _, _ = select.select([*watched, self._listening, self._woken], [], [], 10)
            with self._lock:
                for sock in ready:
                    if sock is self._listening:
                        self._accept()
                    elif sock is self._woken:
                        self._woken.recv(_PIECE)
                    elif sock in self._peers and sock not in self._stalled:
                        self._pass_on(sock)

    def _accept(self) -> None:
        client, _ = self._listening.accept()
        self.accepted += 1
        if self._refuses:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        try:
            server = socket.create_connection((HOST, self._target))
            server.sendall(self._header)
        except OSError:
            client.close()
            return
        self._peers[client], self._peers[server] = server, client
        if self._stalls_new:
            self._stalled.update((client, server))

    def _pass_on(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            data = sock.recv(_PIECE)
            if data:
                self._peers[sock].sendall(data)
            else:
                self._drop(sock, reset=False)
            return
        self._drop(sock)

    def _drop(self, sock: socket.socket, *, reset: bool = True) -> None:
        peer = self._peers.pop(sock, None)
        if peer is not None:
            self._peers.pop(peer, None)
            for each in (sock, peer):
                self._stalled.discard(each)
                if reset:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                each.close()
