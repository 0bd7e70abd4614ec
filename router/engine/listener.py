"""Accepting clients."""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
from typing import TYPE_CHECKING, Final

import trio

from .gate import Gate, attend
from .wire import KeepAlive, Wire, configure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("router.listener")

# How long to wait before the next accept when the process is out of descriptors, in seconds.
_OUT_OF_FILES_PAUSE: Final = 0.1
# A machine without IPv6 does not have what its name service tells.
_LACKING: Final = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL))
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


async def serve(
    listening: socket.socket,
    handler: Callable[[Wire], Awaitable[None]],
    keepalive: Callable[[], KeepAlive],
    gate: Gate | None = None,
    accepting: trio.CancelScope | None = None,
) -> None:
    """Accept until told to stop; `handler` gets each connection in a task, and may not raise.

    Args:
        listening: where to accept.
        handler: what logs a client in.
        keepalive: the TCP settings of clients.
        gate: how many may be at it at a time; without one, any number.
        accepting: ends it for those to come, and not for those who are here.
    """
    gate = Gate(lambda: 0) if gate is None else gate
    async with trio.open_nursery() as nursery:

        def begin(sock: socket.socket, address: object) -> None:
            try:
                configure(sock, keepalive())
            except OSError:
                sock.close()  # it has gone already
                return
            wire = Wire(sock, peer(address))
            wire.ip = address[0] if isinstance(address, tuple) else ""
            nursery.start_soon(attend, wire, gate.enter(wire), handler)

        with trio.CancelScope() if accepting is None else accepting:
            await _accept(listening, gate, begin)
        if is_shared(listening):
            _leave(listening, begin)


def _leave(listening: socket.socket, begin: Callable[[socket.socket, object], None]) -> None:
    """Close a socket whose port others have; who has come by it is nobody else's."""
    with contextlib.suppress(OSError):  # there are no more, or no more descriptors
        while True:
            begin(*listening.accept())
    listening.close()


async def _accept(
    listening: socket.socket, gate: Gate, begin: Callable[[socket.socket, object], None]
) -> None:
    # Whoever ends this closes the socket, perhaps while we are about to go on with a client
    # that has come: it is for the process that takes over.
    while listening.fileno() >= 0:
        if gate.is_full:
            await trio.lowlevel.wait_readable(listening)
            await gate.wait()
            continue
        try:
            sock, address = listening.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            await trio.lowlevel.wait_readable(listening)
            continue
        except OSError as error:
            if error.errno not in _OUT_OF_FILES:
                raise
            log.error(
                "cannot accept clients: %s; raise the limit of open files", error.strerror
            )
            await trio.sleep(_OUT_OF_FILES_PAUSE)
            continue
        begin(sock, address)
