"""Where the router listens."""

from __future__ import annotations

import logging
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from socket import AF_UNIX
from typing import TYPE_CHECKING

import trio

from .engine import listener, unix
from .errors import ConfigError
from .reasons import reason
from .supervisor import handed_over

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .config.general import General

log = logging.getLogger("router.app")


@dataclass(slots=True)
class Sockets:
    """Where a process listens.

    Attributes:
        clients, metrics: listening sockets.
        owns_paths: those that are Unix sockets have to be removed at the end.
        doors: what accepts clients, for each of them.
        exporting: ends the one for metrics.
    """

    clients: list[socket.socket] = field(default_factory=list)
    metrics: list[socket.socket] = field(default_factory=list)
    owns_paths: bool = True
    doors: list[listener.Door] = field(default_factory=list)
    exporting: trio.CancelScope = field(default_factory=trio.CancelScope)

    def open(self) -> list[tuple[int, str, int]]:
        """Descriptor, address and port (0: a Unix socket) of those that clients come in by."""
        found = [sock for sock in self.clients if sock.fileno() >= 0]
        return [(sock.fileno(), *first_of([sock])) for sock in found]

    @property
    def is_shared(self) -> bool:
        """Whether this process listens on a port that others may listen on, too."""
        return any(map(listener.is_shared, self.clients))

    def leave_shared(self) -> None:
        """Stop listening where others do.

        Whoever has come by then is accepted, since the kernel moves nobody.
        """
        for door, sock in zip(self.doors, self.clients, strict=True):
            if listener.is_shared(sock):
                log.info("not listening on %s any more: it is left to others", name_of(sock))
                door.leave()

    def let_go(self) -> None:
        """Accept nobody any more: another process does."""
        for door in self.doors:
            door.close()
        self.exporting.cancel()
        for sock in (*self.clients, *self.metrics):
            sock.close()


def name_of(sock: socket.socket) -> str:
    """Where a socket listens, as a log should call it."""
    address = sock.getsockname()
    return listener.peer(address) if isinstance(address, tuple) else str(address)


def first_of(listening: list[socket.socket]) -> tuple[str, int]:
    """Host and port of the first TCP socket; of a Unix socket its path, and 0."""
    addresses = [sock.getsockname() for sock in listening]
    for address in addresses:
        if isinstance(address, tuple):
            return address[0], address[1]
    return str(addresses[0]), 0


@contextmanager
def opened(general: General, inherited: Sockets | None) -> Iterator[Sockets]:
    """The sockets to listen on: those that were handed over, or our own.

    Args:
        general: where to listen, if none have been.
        inherited: those that the process before this one has had.

    Raises:
        ConfigError: an address cannot be bound.
    """
    with ExitStack() as stack:
        found = inherited
        if found is None:
            given = handed_over()
            if not given:
                yield Sockets(_own_sockets(general, stack))
                return
            found = Sockets(given, owns_paths=False)
        log.info("general.host and general.port: not used, sockets have been handed over")
        if general.unix_socket_dir is not None and not found.owns_paths:
            log.warning("general.unix_socket_dir: not used, sockets have been handed over")
        for sock in (*found.clients, *found.metrics):
            stack.enter_context(sock)
            if found.owns_paths and sock.family == AF_UNIX:
                stack.enter_context(unix.removed(sock))
        yield found


def _own_sockets(general: General, stack: ExitStack) -> list[socket.socket]:
    where, keys = f"{general.host}:{general.port}", "host, general.port"
    try:
        socks = listener.listen_all(
            general.host,
            general.port,
            general.listen_backlog,
            is_shared=general.so_reuseport,
        )
        for sock in socks:
            stack.enter_context(sock)
        if general.unix_socket_dir is not None:
            where, keys = (
                unix.path_of(general.unix_socket_dir, general.port),
                "unix_socket_dir",
            )
            socks.append(
                stack.enter_context(
                    unix.listening(
                        general.unix_socket_dir,
                        general.port,
                        general.listen_backlog,
                        general.unix_socket_mode,
                    )
                )
            )
    except OSError as error:
        raise ConfigError(
            "cannot listen for clients", [f"general.{keys}: {where}: {reason(error)}"]
        ) from None
    return socks
