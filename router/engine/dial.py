"""Connecting to a host with several addresses: one after the other, soon in parallel."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Sequence

    SocketAddress = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
    # What getaddrinfo returns of each.
    Target = tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketAddress]

# How long an address is tried before the next one is, too, in seconds: RFC 8305, section 5.
HEAD_START: Final = 0.25


class Guide(Protocol):
    """Knows which addresses to try first."""

    def found(self, addresses: Sequence[str]) -> None:
        """The resolver has told of these."""

    def known(self) -> Sequence[str]:
        """Those that it has told of last, for want of an answer now."""

    def pick(self, addresses: Sequence[str]) -> str:
        """The one to try now of those that have not been tried."""

    def failed(self, address: str) -> bool:
        """It refuses, or has not answered before the next was tried; whether that is news."""


async def resolve(host: str, port: int) -> dict[str, Target]:
    """What the resolver tells of a host, by address, in its order.

    Raises:
        OSError: the name cannot be looked up.
    """
    found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return {str(entry[4][0]): entry for entry in found}


async def dial(host: str, port: int, guide: Guide | None = None) -> tuple[socket.socket, str]:
    """Open a TCP connection to the first address that answers; returns that, too.

    Args:
        host: a name, or an address.
        port: the same for all addresses.
        guide: how to try them; else it is in the order of the resolver.

    Raises:
        OSError: the name cannot be looked up, or no address can be reached.
    """
    return await _Race(guide).run(await _targets(host, port, guide))


async def _targets(host: str, port: int, guide: Guide | None) -> dict[str, Target]:
    """The addresses of a host; where no name server answers, those that it had."""
    if guide is None:
        return await resolve(host, port)
    try:
        targets = await resolve(host, port)
    except socket.gaierror as error:
        known = guide.known() if error.errno == socket.EAI_AGAIN else ()
        if not known:
            raise
        targets = {}
        for address in known:
            targets.update(await resolve(address, port))
        return targets
    guide.found(list(targets))
    return targets


class _Race:
    """Attempts to connect, of which the first that succeeds wins."""

    def __init__(self, guide: Guide | None) -> None:
        self._guide: Final = guide
        self._winner: tuple[socket.socket, str] | None = None
        self._errors: Final[list[OSError]] = []

    async def run(self, targets: dict[str, Target]) -> tuple[socket.socket, str]:
        """Try all addresses, as the guide says or else in their order."""
        rest = dict(targets)
        try:
            async with trio.open_nursery() as nursery:
                while rest:
                    name = (
                        next(iter(rest)) if self._guide is None else self._guide.pick([*rest])
                    )
                    family, kind, protocol, _, address = rest.pop(name)
                    lost = trio.Event()
                    nursery.start_soon(
                        self._attempt, (family, kind, protocol), address, lost, nursery
                    )
                    with trio.move_on_after(HEAD_START):
                        await lost.wait()
                    if self._guide is not None:
                        self._guide.failed(name)
        except BaseException:
            if self._winner is not None:
                self._winner[0].close()
            raise
        if self._winner is None:
            raise self._errors[0] if self._errors else OSError("the name has no address")
        return self._winner

    async def _attempt(
        self,
        kind: tuple[int, int, int],
        address: SocketAddress,
        lost: trio.Event,
        nursery: trio.Nursery,
    ) -> None:
        try:
            sock = trio.socket.socket(*kind)
        except OSError as error:  # such as IPv6 where there is none
            self._errors.append(error)
            lost.set()
            return
        try:
            await sock.connect(address)
            if self._winner is None:
                self._winner = socket.socket(fileno=sock.detach()), str(address[0])
                nursery.cancel_scope.cancel()
        except OSError as error:
            self._errors.append(error)
            lost.set()
        finally:
            sock.close()
