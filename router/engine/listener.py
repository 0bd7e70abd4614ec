"""Accepting clients."""

from __future__ import annotations

import errno
import logging
import socket
from typing import TYPE_CHECKING, Final

import trio

from .wire import KeepAlive, Wire, configure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

log = logging.getLogger("router.listener")

# How long to wait before the next accept when the process is out of descriptors, in seconds.
_OUT_OF_FILES_PAUSE: Final = 0.1
_OUT_OF_FILES: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


def listen(host: str, port: int, backlog: int) -> socket.socket:
    """Open the listening socket.

    Raises:
        OSError: the address cannot be bound.
    """
    info = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, proto, _, address = info[0]
    sock = socket.socket(family, kind, proto)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(backlog)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


async def serve(
    listening: socket.socket,
    handler: Callable[[Wire], Awaitable[None]],
    keepalive: Callable[[], KeepAlive],
) -> None:
    """Accept for ever; `handler` gets each connection in a task, and may not raise."""
    async with trio.open_nursery() as nursery:
        while True:
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
            try:
                configure(sock, keepalive())
            except OSError:
                sock.close()  # it has gone already
                continue
            host, port, *_ = address if isinstance(address, tuple) else (address or "local", 0)
            nursery.start_soon(handler, Wire(sock, f"{host}:{port}"))
