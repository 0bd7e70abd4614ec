"""A link: one non-blocking socket with its output queue and back-pressure."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from ..compiling import mypyc_attr
from .loop import Driven

if TYPE_CHECKING:
    import socket

    from .loop import Engine
    from .tls import TlsState

# Above this many bytes of unsent output the link's writer should be stopped, below the lower
# one it may go on.
HIGH_WATER: Final = 256 * 1024
LOW_WATER: Final = 64 * 1024

# How much a read takes. One that is filled makes the next take more; so many in a row that
# would have been served by less make it the least again, which Python has ready-made.
MIN_RECV: Final = 479
MEDIUM_RECV: Final = 8 * 1024
MAX_RECV: Final = 128 * 1024
_SMALL_READS: Final = 16

# How long a link rests, in seconds.
REST: Final = 0.001

# A link that was told to close may take so long to send what is left, in seconds.
LINGER_TIMEOUT: Final = 10.0

# On a socket they are recv and send, with less to be read from their arguments. (Python ignores
# SIGPIPE.) Looked up once.
_read: Final = os.read
_write: Final = os.write

# epoll's events, as numbers, because the compiler then puts them into the code that uses them.
_IN: Final = 0x1
_OUT: Final = 0x4
_HANGUP: Final = 0x8 | 0x10  # EPOLLERR and EPOLLHUP
_PEER_LEFT: Final = 0x2000  # EPOLLRDHUP
_READ: Final = 0x2001


@mypyc_attr(allow_interpreted_subclasses=True)
class Output(Driven):
    """What those above the engine know of a link: where to write, and how to slow down.

    A class and not a Protocol, so that compiled code calls it directly.

    Attributes:
        congested: unsent output is above HIGH_WATER: stop producing until `on_drained`.
        sent, received: bytes over the life of the link.
        fd: its descriptor; -1 if it has none.
    """

    __slots__ = ("closed", "congested", "fd", "received", "sent")

    def __init__(self) -> None:
        self.closed = False
        self.congested = False
        self.sent = 0
        self.received = 0
        self.fd = -1

    def write(self, data: bytes) -> None:
        """Queue bytes."""
        raise NotImplementedError

    def pause(self) -> None:
        """Stop reading."""
        raise NotImplementedError

    def resume(self) -> None:
        """Read again."""
        raise NotImplementedError

    def defer(self) -> None:
        """Give the handler a turn later, with no data, and read nothing before."""
        raise NotImplementedError

    def rest(self) -> None:
        """Read nothing for a moment, so that there is more to read then."""
        raise NotImplementedError

    def close(self) -> None:
        """Send what is queued, then close."""
        raise NotImplementedError


class Handler(Protocol):
    """Who a link reports to."""

    def on_data(self, data: bytes) -> None:
        """Bytes arrived; none if this is the turn that was asked for by `defer`."""

    def on_drained(self) -> None:
        """Output fell below LOW_WATER after `congested` was true."""

    def on_eof(self) -> bool:
        """The peer sends no more; returns whether it is to be written to nevertheless."""

    def on_closed(self, reason: str) -> None:
        """The peer or the network ended the link, which is closed; not called after `close`."""


class Link(Output):
    """One socket in the engine.

    Its handler is told of everything that happens. While a patient link is paused, what the
    peer sent before it left is kept for later; without, a peer that leaves is given up at once.
    """

    __slots__ = (
        "_at_eof",
        "_closing",
        "_deferred",
        "_engine",
        "_events",
        "_fd",
        "_first",
        "_handler",
        "_muted",
        "_on_data",
        "_out",
        "_out_size",
        "_patient",
        "_paused",
        "_recv_size",
        "_rest",
        "_small_reads",
        "_sock",
    )

    def __init__(
        self, engine: Engine, sock: socket.socket, handler: Handler, *, patient: bool = False
    ) -> None:
        super().__init__()
        self._patient: Final = patient
        self._engine: Final = engine
        self._sock: Final = sock
        self._fd: Final = sock.fileno()
        self.fd = self._fd
        self._handler = handler
        self._on_data = handler.on_data
        # What has been written since the last flush: most often it is one piece.
        self._first: bytes | None = None
        self._rest: list[bytes] = []
        # What the kernel has not taken yet, which is watched for then.
        self._out: bytes | memoryview | None = None
        self._out_size = 0
        self._recv_size = MEDIUM_RECV
        self._small_reads = 0
        self._paused = False
        # The handler has a turn to come; and the engine need not tell of input before.
        self._deferred = False
        self._muted = False
        self._at_eof = False
        self._closing = False
        self._events = _READ
        engine.register(self, self._fd, _READ)

    def __repr__(self) -> str:
        return (
            f"<Link fd={self._fd}{' closed' if self.closed else ''} [{self._out_size} unsent]>"
        )

    @property
    def sock(self) -> socket.socket:
        """The socket, to ask the kernel about it."""
        return self._sock

    def serve(self, handler: Handler) -> None:
        """Report to somebody else from here on."""
        self._handler = handler
        self._on_data = handler.on_data
        if self._at_eof and not self.closed:
            self._at_eof = False  # which it is told of as well
            self._watch()

    def under_tls(self, tls: TlsState) -> TlsLink:
        """The link that takes the place of this one when a handshake over it is done."""
        self.flush()
        self.closed = True  # to whoever still knows it
        self._engine.unregister(self._fd)
        link = TlsLink(self._engine, self._sock, self._handler, tls, patient=self._patient)
        self._engine.flush_soon(link)  # the end of the handshake is yet to be sent
        return link

    # --- reading

    def feed(self, data: bytes) -> None:
        """Take what was read from the peer before there was the link."""
        self._engine.run_for(self, lambda: self._on_data(data))

    def pause(self) -> None:
        """Stop reading; the peer's leaving is still noticed."""
        if not self._paused and not self.closed:
            self._paused = True
            self._watch()

    def resume(self) -> None:
        """Read again."""
        if self._paused and not self.closed:
            self._paused = False
            self._watch()

    def defer(self) -> None:
        """Give the handler a turn later, with no data, and read nothing before."""
        if not self._deferred and not self.closed and not self._closing:
            self._deferred = True
            self._engine.give_turn(self)

    def on_turn(self) -> None:
        """Called by the engine: go on with what has been read."""
        self._deferred = False
        if self.closed or self._closing:
            return
        self._on_data(b"")
        if not self._deferred and not self.closed:
            self._caught_up()

    def rest(self) -> None:
        """Read nothing for a moment, so that there is more to read then."""
        if not self._deferred and not self.closed and not self._closing:
            self._deferred = True
            self._engine.call_later(REST, self._rested)

    def _rested(self) -> None:
        self._deferred = False
        if not self.closed and not self._closing:
            self._caught_up()

    def _caught_up(self) -> None:
        """What has been read is dealt with: read on."""
        if self._muted:
            self._muted = False
            self._watch()

    def _watch(self) -> None:
        events = _READ
        if self._muted or self._at_eof:
            events = 0
        elif self._paused:
            events = 0 if self._patient else _PEER_LEFT
        if self._out is not None:
            events |= _OUT
        if events != self._events:
            self._events = events
            self._engine.modify(self._fd, events)

    def on_ready(self, mask: int) -> None:
        """Called by the engine: the socket is ready for what `mask` says."""
        if mask == _IN and not self._deferred:
            self._read()
            return
        if mask & _OUT:
            self.flush()
        if self.closed:
            return
        if self._deferred:
            # Even if the peer has left: what it sent before comes first.
            if not self._muted:
                self._muted = True
                self._watch()
            return
        if mask & _IN:
            self._read()
        elif mask & _HANGUP or (mask & _PEER_LEFT and self._paused):
            # What is unread is not worth waiting for: nobody is there to take the answer.
            self._lost("connection closed by peer")

    def _read(self) -> None:
        try:
            data = _read(self._fd, self._recv_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        size = len(data)
        if size == 0:
            self._ended()
            return
        self.received += size
        if size == self._recv_size:
            self._recv_size = MEDIUM_RECV if size == MIN_RECV else min(size * 4, MAX_RECV)
            self._small_reads = 0
        elif self._recv_size > MIN_RECV:
            self._note_read(size)
        self._take(data)

    def _ended(self) -> None:
        """The peer sends no more."""
        if not self._closing and self._handler.on_eof():
            self._at_eof = True
            self._watch()
        else:
            self._lost("connection closed by peer")

    def _note_read(self, size: int) -> None:
        """Find out whether reads have become smaller than what is prepared for."""
        if size >= MEDIUM_RECV:
            self._small_reads = 0
        elif self._recv_size > MEDIUM_RECV:
            self._recv_size = MEDIUM_RECV
        elif size >= MIN_RECV:
            self._small_reads = 0
        else:
            self._small_reads += 1
            if self._small_reads >= _SMALL_READS:
                self._recv_size = MIN_RECV

    def _take(self, data: bytes) -> None:
        if not self._closing:
            self._on_data(data)

    # --- writing

    def write(self, data: bytes) -> None:
        """Queue bytes; they are sent at the end of the engine's round."""
        if self.closed or self._closing:
            return
        self._out_size += len(data)
        if self._first is not None:
            self._rest.append(data)
        else:
            self._first = data
            if self._out is None:
                self._engine.flush_soon(self)
        if self._out_size > HIGH_WATER and not self.congested:
            self.congested = True

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        data, first = self._out, self._first
        if self.closed:
            return
        if first is not None:
            data = first if data is None and not self._rest else self._joined(first)
            self._first = None
        if data is None:
            return
        self._out = None
        try:
            sent = _write(self._fd, data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            self._lost(error.strerror or str(error))
            return
        self.sent += sent
        self._out_size -= sent
        if sent < len(data):
            # A view, so that a slow reader of a large block does not make us copy it each time.
            self._out = memoryview(data)[sent:] if sent else data
            self._watch()
        elif self._closing:
            self._close_now()
            return
        elif self._events & _OUT:
            self._watch()
        if self.congested and self._out_size < LOW_WATER:
            self.congested = False
            self._handler.on_drained()

    def _joined(self, first: bytes) -> bytes:
        """All that is to be sent: what the kernel has not taken, and what has been written."""
        rest, out = self._rest, self._out
        data = b"".join((first, *rest) if out is None else (out, first, *rest))
        rest.clear()
        return data

    # --- ending

    def close(self) -> None:
        """Send what is queued, then close; the handler hears nothing more."""
        if self.closed or self._closing:
            return
        self._closing = True
        self.flush()
        if not self.closed:
            if self._out is None:
                self._close_now()
            else:
                self._engine.call_later(LINGER_TIMEOUT, self._close_now)

    def abort(self, reason: str) -> None:
        """Close at once, and tell the handler."""
        self._lost(reason)

    def _lost(self, reason: str) -> None:
        if self.closed:
            return
        quiet = self._closing
        self._close_now()
        if not quiet:
            self._handler.on_closed(reason)

    def _close_now(self) -> None:
        if not self.closed:
            self.closed = True
            self._first = self._out = None
            self._rest.clear()
            self._out_size = 0
            self._engine.unregister(self._fd)
            self._sock.close()


class TlsLink(Link):
    """A link whose bytes go through TLS; the handshake has been done before."""

    __slots__ = ("_has_ended", "_tls")

    def __init__(
        self,
        engine: Engine,
        sock: socket.socket,
        handler: Handler,
        tls: TlsState,
        *,
        patient: bool = False,
    ) -> None:
        self._tls: Final = tls
        super().__init__(engine, sock, handler, patient=patient)
        self._has_ended = False

    def _take(self, data: bytes) -> None:
        plain, ended = self._tls.decrypt(data)
        if plain and not self._closing:
            self._on_data(plain)
        if self._tls.has_output():
            # A key update or a ticket: it has to go out even when we have nothing to say.
            self._engine.flush_soon(self)
        if ended and self._deferred:
            self._has_ended = True  # what came before comes first
        elif ended:
            self._ended()

    def _caught_up(self) -> None:
        if self._has_ended:
            self._has_ended = False
            self._ended()
        else:
            super()._caught_up()

    def close(self) -> None:
        """Send what is queued and the end of the stream, then close."""
        if not self.closed and not self._closing:
            self._encrypt()
            self._tls.end()
        super().close()

    def flush(self) -> None:
        """Encrypt what is queued, as one block, and send what can be sent without waiting."""
        if not self.closed:
            self._encrypt()
            super().flush()

    def _encrypt(self) -> None:
        if self._first is not None:
            plain = b"".join((self._first, *self._rest))
            self._first = None
            self._rest.clear()
            self._tls.encrypt(plain)
            self._out_size -= len(plain)
        if self._tls.has_output():
            data = self._tls.take_output()
            self._out_size += len(data)
            self._out = data if self._out is None else b"".join((self._out, data))
