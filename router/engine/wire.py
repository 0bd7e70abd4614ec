"""A connection to a server while it logs in: trio waits for each packet. Then it is a link."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
from typing import TYPE_CHECKING, Final

import trio

from ..errors import ClientProtocolError
from .dial import dial
from .link import Handler, Link, TlsLink
from .tls import TlsState

if TYPE_CHECKING:
    from .dial import Guide
    from .loop import Engine

_RECV: Final = 4096


class WireClosed(Exception):
    """The peer went away."""


class Wire:
    """Reads packets and writes bytes over a non-blocking socket, in plain text or TLS.

    Attributes:
        peer: the other side's address, for logs.
        ip: the other side's, if it is TCP, else "".
        tls: the TLS state once the handshake is done.
    """

    def __init__(self, sock: socket.socket, peer: str) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._buffer = b""
        self._is_sending = False
        self.peer = peer
        self.ip = ""
        self.tls: TlsState | None = None

    async def _recv_raw(self) -> bytes:
        while True:
            try:
                data = self._sock.recv(_RECV)
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_readable(self._sock)
                continue
            except OSError as error:
                raise WireClosed(error.strerror or str(error)) from None
            if not data:
                raise WireClosed("connection closed by peer")
            return data

    async def _send_raw(self, data: bytes) -> None:
        view = memoryview(data)
        self._is_sending = True
        while view:
            try:
                sent = self._sock.send(view)
            except (BlockingIOError, InterruptedError):
                await trio.lowlevel.wait_writable(self._sock)
                continue
            except OSError as error:
                raise WireClosed(error.strerror or str(error)) from None
            view = view[sent:]
        self._is_sending = False

    async def _fill(self) -> None:
        data = await self._recv_raw()
        if self.tls is None:
            self._buffer += data
            return
        plain, ended = self.tls.decrypt(data)
        if ended and not plain:
            raise WireClosed("connection closed by peer")
        self._buffer += plain

    async def read_exactly(self, size: int) -> bytes:
        """Read that many bytes.

        Raises:
            WireClosed: the peer left before.
        """
        while len(self._buffer) < size:
            await self._fill()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def read_message(self, limit: int) -> tuple[int, bytes]:
        """Read one message: its type byte and its body.

        Raises:
            ClientProtocolError: it says that it is longer than `limit` bytes, or is nonsense.
            WireClosed: the peer left before.
        """
        kind, length = struct.unpack("!BI", await self.read_exactly(5))
        if not 4 <= length <= limit:
            raise ClientProtocolError(f"invalid message length {length}")
        return kind, await self.read_exactly(length - 4)

    async def send(self, data: bytes) -> None:
        """Send bytes.

        Raises:
            WireClosed: the peer is gone.
        """
        if self.tls is not None:
            self.tls.encrypt(data)
            data = self.tls.take_output()
        await self._send_raw(data)

    def send_at_once(self, data: bytes) -> None:
        """Send what can be sent without waiting, if that is not in the middle of a message."""
        if self._is_sending:
            return
        if self.tls is not None:
            self.tls.encrypt(data)
            data = self.tls.take_output()
        with contextlib.suppress(OSError):
            self._sock.send(data)

    async def start_tls(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        """Do the TLS handshake.

        Raises:
            ssl.SSLError: it failed; the alert has been sent.
            WireClosed: the peer left.
        """
        if self._buffer:
            # Plain text behind the request for TLS: somebody between us may have put it there.
            raise ClientProtocolError("received unencrypted data after SSL request")
        state = TlsState(context, server_side=server_side, server_hostname=server_hostname)
        data = b""
        while True:
            try:
                done = state.handshake(data)
            except ssl.SSLError:
                if state.has_output():
                    await self._send_raw(state.take_output())
                raise
            if state.has_output():
                await self._send_raw(state.take_output())
            if done:
                break
            data = await self._recv_raw()
        self.tls = state
        self._buffer, _ = state.decrypt(b"")

    def into_link(self, engine: Engine, handler: Handler, *, patient: bool = False) -> Link:
        """Hand the socket over to the engine; `take_input` has what has been read already.

        The wire has none afterwards. A link reads and writes by the descriptor's number, so
        nobody else may be able to close that: it would soon be another peer's.
        """
        sock = socket.socket(fileno=self._sock.detach())
        if self.tls is None:
            return Link(engine, sock, handler, patient=patient)
        return TlsLink(engine, sock, handler, self.tls, patient=patient)

    def take_input(self) -> bytes:
        """What has been read beyond the last packet."""
        data, self._buffer = self._buffer, b""
        return data

    def close(self) -> None:
        """Close the socket at once, under TLS with a last word if it fits.

        Nothing happens if it has been handed over.
        """
        if self._sock.fileno() < 0:
            return
        if self.tls is not None:
            self.tls.end()
            with contextlib.suppress(OSError):
                self._sock.send(self.tls.take_output())
        self._sock.close()


def configure(sock: socket.socket, keepalive: KeepAlive | None) -> None:
    """Set the options that every TCP socket of the router has."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive.idle)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, keepalive.count)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, keepalive.interval)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, keepalive.user_timeout)


class KeepAlive:
    """TCP keepalive settings.

    Attributes:
        idle, interval: seconds.
        count: probes.
        user_timeout: milliseconds.
    """

    __slots__ = ("count", "idle", "interval", "user_timeout")

    def __init__(self, *, idle: int, count: int, interval: int, user_timeout: int) -> None:
        self.idle = idle
        self.count = count
        self.interval = interval
        self.user_timeout = user_timeout


async def connect(
    host: str, port: int, keepalive: KeepAlive | None, guide: Guide | None = None
) -> Wire:
    """Open a TCP connection, or one to a Unix socket if `host` is a directory.

    Of several addresses of the host the first that answers is taken, tried as `guide` says.

    Raises:
        OSError: no address of the host could be reached.
    """
    if host.startswith("/"):
        unix = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await unix.connect(f"{host}/.s.PGSQL.{port}")
        except BaseException:
            unix.close()
            raise
        return Wire(socket.socket(fileno=unix.detach()), f"{host}:{port}")
    sock, ip = await dial(host, port, guide)
    try:
        configure(sock, keepalive)
        wire = Wire(sock, f"{host}:{port}")
    except OSError:
        sock.close()
        raise
    wire.ip = ip
    return wire
