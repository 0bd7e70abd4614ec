"""Accepting clients."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from typing import TYPE_CHECKING, Final

import trio

from .loop import Driven
from .wire import configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from .gate import Gate
    from .loop import Engine
    from .wire import KeepAlive

log = logging.getLogger("router.listener")

# How long to wait before the next accept when the process is out of descriptors, in seconds.
_OUT_OF_FILES_PAUSE: Final = 0.1
# A machine without IPv6 does not have what its name service tells.
_LACKING: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))
# EPOLLIN
_IN: Final = 0x1
_OUT_OF_FILES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """Open a listening socket for the first address of a host.

    Raises:
        OSError: the address cannot be bound.
    """
    infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = infos[0]
    return _bound(socket.socket(family, kind, proto), address, backlog)


def listen_all(
    host: str, port: int, backlog: int, *, is_shared: bool = False
) -> list[socket.socket]:
    """Open the listening sockets, one for each address of the host; "*" is all there are.

    If `is_shared` other processes of the same user may listen there, too.

    Raises:
        OSError: an address that the machine has cannot be bound, or there is none.
    """
    infos = socket.getaddrinfo(
        None if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    socks: list[socket.socket] = []
    failure: OSError | None = None
    for family, kind, proto, _, address in dict.fromkeys(infos):
        try:
            sock = socket.socket(family, kind, proto)
            socks.append(_bound(sock, address, backlog, is_shared=is_shared))
        except OSError as error:
            failure = error
            if error.errno in _LACKING:
                log.info("not listening on %s: %s", address[0], error.strerror)
                continue
            break
    if failure is not None and (not socks or failure.errno not in _LACKING):
        for sock in socks:
            sock.close()
        raise failure
    return socks


def _bound(
    sock: socket.socket, address: object, backlog: int, *, is_shared: bool = False
) -> socket.socket:
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if sock.family == socket.AF_INET6:
            # As in PostgreSQL "::" is IPv6 alone, so that it goes with "0.0.0.0".
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(address)  # type: ignore[arg-type]
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def is_shared(sock: socket.socket) -> bool:
    """Whether a socket is open whose port other processes may have, too."""
    if sock.fileno() < 0 or sock.family == socket.AF_UNIX:
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))


def peer(address: object) -> str:
    """What to call a client by its address."""
    if not isinstance(address, tuple):
        return "unix"  # as PgBouncer
    host, port, *_ = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class Door(Driven):
    """A listening socket in the engine: accepts clients, as long as there are places for them.

    Attributes:
        closed: nobody is accepted any more.
    """

    def __init__(
        self,
        engine: Engine,
        listening: socket.socket,
        greet: Callable[[socket.socket, str, str, Gate], None],
        keepalive: Callable[[], KeepAlive],
        gate: Gate,
    ) -> None:
        """Accept nobody yet.

        Args:
            engine: watches the socket.
            listening: where to accept.
            greet: gets each connection, which is not blocking, with what to call its peer, the
                peer's address if it has one or "", and the gate to enter by.
            keepalive: the TCP settings of clients.
            gate: how many may be logging in at a time.
        """
        self._engine: Final = engine
        self._listening: Final = listening
        self._fd: Final = listening.fileno()
        self._greet: Final = greet
        self._keepalive: Final = keepalive
        self._gate: Final = gate
        self._over: Final = trio.Event()
        self._error: OSError | None = None
        self.closed = False

    def __repr__(self) -> str:
        return f"<Door fd={self._fd}{' closed' if self.closed else ''}>"

    async def serve(self) -> None:
        """Accept until told to stop.

        Raises:
            OSError: the socket is of no use.
        """
        self._engine.register(self, self._fd, _IN)
        try:
            await self._over.wait()
        finally:
            self.close()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Stop; before the socket is closed, which another process may have as well."""
        if not self.closed:
            self.closed = True
            self._engine.unregister(self._fd)
            self._over.set()

    def leave(self) -> None:
        """Close a socket whose port others have; who has come by it is nobody else's."""
        self.close()
        with contextlib.suppress(OSError):  # there are no more, or no more descriptors
            while True:
                self._accept()
        self._listening.close()

    def abort(self, reason: str) -> None:
        """Called by the engine: stop."""
        self.close()

    def flush(self) -> None:
        """Called by the engine: there is nothing to send."""

    def on_turn(self) -> None:
        """Called by the engine: there are no turns."""

    def on_ready(self, mask: int) -> None:
        """Called by the engine: a client has come."""
        if self._gate.is_full:
            self._engine.modify(self._fd, 0)
            self._gate.wait(self._resume)
            return
        try:
            # One in a round of the engine: where many have come, as many logins would have to
            # be dealt with in each of the next ones, and who runs statements waits for them.
            self._accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # whoever came has gone, or has been taken by another process
        except OSError as error:
            if error.errno in _OUT_OF_FILES:
                self._engine.modify(self._fd, 0)
                self._engine.call_later(_OUT_OF_FILES_PAUSE, self._resume)
                log.error(
                    "cannot accept clients: %s; raise the limit of open files", error.strerror
                )
            else:
                self._error = error
                self.close()

    def _accept(self) -> None:
        sock, address = self._listening.accept()
        try:
            configure(sock, self._keepalive())
            sock.setblocking(False)
        except OSError:
            sock.close()  # it has gone already
            return
        ip = address[0] if isinstance(address, tuple) else ""
        try:
            self._greet(sock, peer(address), ip, self._gate)
        except Exception:
            log.exception("internal error with a new client")  # and on with the next
            sock.close()

    def _resume(self) -> None:
        if not self.closed:
            self._engine.modify(self._fd, _IN)
