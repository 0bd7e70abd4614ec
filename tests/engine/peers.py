"""What the engine's tests share: an engine that runs, a handler that notes, a peer."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio
import trio.testing

from router.engine.link import Link
from router.engine.loop import Engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

# Whatever is waited for happens long before, in seconds.
PATIENCE = 120.0

# Those that are closed with the engine.
_peers: list[trio.socket.SocketType] = []


class Recorder:
    """A link's handler that notes what it is told.

    Attributes:
        stays: whether it goes on when its peer sends no more.
    """

    def __init__(self, *, stays: bool = False) -> None:
        self.stays = stays
        self.ends = 0
        self.data = b""
        self.drained = 0
        self.reasons: list[str] = []
        self._news = trio.Event()

    def on_data(self, data: bytes) -> None:
        """Bytes arrived."""
        self.data += data
        self._tell()

    def on_drained(self) -> None:
        """Output fell."""
        self.drained += 1
        self._tell()

    def on_eof(self) -> bool:
        """The peer sends no more."""
        self.ends += 1
        self._tell()
        return self.stays

    def on_closed(self, reason: str) -> None:
        """The link has ended."""
        self.reasons.append(reason)
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def wait_until(self, condition: Callable[[Recorder], bool]) -> None:
        """Wait until something is true of what was noted."""
        with trio.fail_after(PATIENCE):
            while not condition(self):
                await self._news.wait()


class Sharing(Recorder):
    """A handler that deals with one byte a turn, and notes whose turn it was."""

    def __init__(self, name: str, log: list[str]) -> None:
        super().__init__()
        self._name = name
        self._log = log
        self._left = b""
        self.link: Link | None = None

    def on_data(self, data: bytes) -> None:
        self._left += data
        assert self.link is not None
        self._log.append(self._name)
        self.data += self._left[:1]
        self._left = self._left[1:]
        self._tell()
        if self._left:
            self.link.defer()


@asynccontextmanager
async def running_engine(engine: Engine | None = None) -> AsyncIterator[Engine]:
    """An engine with its task."""
    engine = Engine() if engine is None else engine
    async with trio.open_nursery() as nursery:
        nursery.start_soon(engine.run)
        await trio.testing.wait_all_tasks_blocked()
        try:
            yield engine
        finally:
            engine.close()
            nursery.cancel_scope.cancel()
            while _peers:
                _peers.pop().close()


def socket_pair(*, buffer: int = 0) -> tuple[socket.socket, trio.socket.SocketType]:
    """Two connected sockets; the second for trio. `buffer` keeps what is on its way small."""
    one, other = socket.socketpair()
    one.setblocking(False)
    if buffer:
        for sock in (one, other):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    return one, trio.socket.from_stdlib_socket(other)


async def receive(peer: trio.socket.SocketType, size: int) -> bytes:
    """Read so many bytes, or up to the end."""
    data = b""
    with trio.fail_after(PATIENCE):
        while len(data) < size:
            piece = await peer.recv(size - len(data))
            if not piece:
                break
            data += piece
    return data


def linked(
    engine: Engine,
    recorder: Recorder | None = None,
    *,
    patient: bool = False,
    buffer: int = 0,
) -> tuple[Link, Recorder, trio.socket.SocketType]:
    """A link, its handler and its peer."""
    sock, peer = socket_pair(buffer=buffer)
    _peers.append(peer)
    recorder = recorder or Recorder()
    return Link(engine, sock, recorder, patient=patient), recorder, peer
