"""One connection that logs in: first packet, TLS, authentication; sans tasks, in the engine.

An arrival takes the bytes of a link apart and knows what a login looks like; who may log in,
and what becomes of him, is decided by its host, a `Login`. It keeps no more than the part of
one packet that has come, and what follows it in the same read.
"""

from __future__ import annotations

import logging
import ssl
import struct
from typing import TYPE_CHECKING, Final, Protocol

from ..engine.link import Link
from ..engine.listener import peer
from ..engine.proxy import read_header
from ..engine.tls import ALPN, TlsState
from ..errors import AuthenticationError, ClientProtocolError, RouterError
from ..printable import printable
from ..protocol import codes, messages
from ..protocol.auth import ClientAuthenticator
from ..protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    packet_length,
    parse_first_packet,
)
from ..reasons import reason
from ..records import fields

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ..engine.gate import Gate, Place
    from ..engine.link import Handler
    from ..engine.loop import Engine
    from .credentials import Credential

log = logging.getLogger("router.login")

# SASL messages of real clients are a few hundred bytes; passwords may be longer.
_PASSWORD_LIMIT: Final = 4096
# Who sends more than that while he is to wait is not read from any more, in bytes.
_MOST_AHEAD: Final = 8192
# PostgreSQL cuts names here, in bytes.
_LONGEST_NAME: Final = 63

_UNENCRYPTED: Final = (
    "This could be either a client-software bug or evidence of an attempted "
    "man-in-the-middle attack."
)

# The first byte of a TLS record with a handshake; no packet of PostgreSQL is so long.
_TLS_HANDSHAKE: Final = b"\x16"

_HEADER: Final = struct.Struct("!BI")


class Host(Protocol):
    """Who decides."""

    tls: ssl.SSLContext | None

    def introduced(self, arrival: Arrival, packet: StartupMessage) -> None:
        """The client has said who it is; see `Arrival.ask`."""

    def proven(self, arrival: Arrival) -> None:
        """It is who it says; see `Arrival.hand_over`."""

    def cancels(self, arrival: Arrival, request: CancelRequest) -> None:
        """It asks for somebody's statement to be cancelled; see `Arrival.leave`."""

    def failed(self, arrival: Arrival, error: RouterError) -> None:
        """It is about to be told of an error."""

    def over(self, arrival: Arrival) -> None:
        """It has logged in, or has gone."""


class Arrival:
    """One login. It is the handler of the connection's link, until that has another.

    Attributes:
        link: the connection.
        peer: the other side's address, for logs.
        began: when it was accepted.
        deadline: when it has to be over.
        names: what it says that it is, as fields of the log; nothing as long as it has not.
        tls: what of TLS it speaks, or "".
        packet: its start-up packet, once that is there.
        admitted: the database and user that it has taken a client's place of, if it has.
        is_over: it has logged in, or has gone.
    """

    __slots__ = (
        "_asked",
        "_authenticator",
        "_buffer",
        "_credential",
        "_host",
        "_next",
        "_place",
        "_state",
        "admitted",
        "began",
        "deadline",
        "is_over",
        "link",
        "names",
        "packet",
        "peer",
        "tls",
    )

    def __init__(
        self,
        host: Host,
        engine: Engine,
        sock: socket.socket,
        peer: str,
        gate: Gate,
        *,
        deadline: float,
        by_load_balancer: bool,
    ) -> None:
        """Take a connection.

        Args:
            host: who decides.
            engine: drives the link.
            sock: the connection, not blocking.
            peer: what to call the client.
            gate: where it takes a place.
            deadline: when it has to be over.
            by_load_balancer: it begins with a header of the PROXY protocol.
        """
        self._host: Final = host
        self.peer = peer
        self.began: Final = engine.now
        self.deadline = deadline
        self.names: dict[str, str] = {}
        self.tls = ""
        self.packet: StartupMessage | None = None
        self.admitted: tuple[str, str] | None = None
        self.is_over = False
        self._buffer = b""
        self._asked: set[type] = set()
        self._state: TlsState | None = None
        self._credential: Credential | None = None
        self._authenticator: ClientAuthenticator | None = None
        # What is done with what comes next, if anything; it returns whether there was enough.
        self._next: Callable[[], bool] | None = (
            self._read_source if by_load_balancer else self._begin
        )
        self.link: Link = Link(engine, sock, self)
        self._place: Final[Place] = gate.enter(self.fail)

    def __repr__(self) -> str:
        return f"<Arrival {self.peer}>"

    def fields(self, **more: object) -> dict[str, object]:
        """Who it is, and `more`, for the `extra` of a log call."""
        return fields(client=self.peer, **self.names, **more)

    # --- from the link

    def on_data(self, data: bytes) -> None:
        """Bytes arrived."""
        self._buffer = self._buffer + data if self._buffer else data
        if self._next is not None:
            self.go_on()
        elif len(self._buffer) > _MOST_AHEAD:
            self.link.pause()

    def on_drained(self) -> None:
        """Output is never so much that it matters."""

    def on_eof(self) -> bool:
        """The client says no more: what waits for something else may go on nevertheless."""
        return self._next is None

    def on_closed(self, reason: str) -> None:
        """The client has gone."""
        text = "client %s: left during login: %s"
        log.debug(text, self.peer, reason, extra=self.fields())
        self._end()

    # --- from the host

    def go_on(self, work: Callable[[], None] | None = None) -> None:
        """Do some work of the host's that may fail, and then what can be done next."""
        try:
            if work is not None:
                work()
            while self._next is not None and self._next():
                pass
        except ssl.SSLError as error:
            text = "client %s: TLS failed: %s"
            log.warning(text, self.peer, reason(error), extra=self.fields())
            self.leave()
        except RouterError as error:
            self.fail(error)
        except Exception:
            text = "client %s: internal error during login"
            log.exception(text, self.peer, extra=self.fields())
            self.leave()

    def wait(self) -> None:
        """Act on nothing that the client says until something else is done."""
        self._next = None

    def ask(self, credential: Credential) -> None:
        """Have the client prove who it is.

        Raises:
            RouterError: it may not go on, whoever it is.
        """
        packet = self.packet
        assert packet is not None
        self._credential = credential
        authenticator = ClientAuthenticator(
            credential.method.value, packet.user, credential.secret
        )
        challenge = authenticator.first()
        if challenge is None:
            self._prove()
            return
        self._authenticator = authenticator
        self.link.write(messages.authentication(challenge))
        self._next = self._read_password

    def hand_over(self, handler: Handler) -> bytes:
        """The connection is somebody else's from here on; returns what has been read of it."""
        self._end()
        data, self._buffer = self._buffer, b""
        self.link.serve(handler)
        self.link.resume()
        return data

    def fail(self, error: RouterError) -> None:
        """Tell the client of an error, with which its login ends."""
        if not self.is_over:
            self._host.failed(self, error)
            self.leave(error)

    def leave(self, error: RouterError | None = None) -> None:
        """Close the connection, with an error or without a word."""
        if not self.is_over:
            # In the middle of a handshake nothing can be said.
            if error is not None and (self._state is None or self.tls):
                self.link.write(messages.error_from(error, severity="FATAL"))
            self.link.close()
            self._end()

    def _end(self) -> None:
        if not self.is_over:
            self.is_over = True
            self._next = None
            self._place.leave()
            self._host.over(self)

    # --- first packets

    def _read_source(self) -> bool:
        header = read_header(self._buffer)
        if header is None:
            return False
        self._buffer = self._buffer[header.size :]
        if header.source is not None:
            source = peer(header.source)
            more = fields(client=source)
            log.debug("client %s: comes by %s", source, self.peer, extra=more)
            self.peer = source
        self._next = self._begin
        return True

    def _begin(self) -> bool:
        if not self._buffer:
            return False
        self._next = self._read_packet
        if self._buffer.startswith(_TLS_HANDSHAKE):
            self._asked.add(SSLRequest)
            if self._host.tls is None:
                self.on_closed("it began with TLS, which is off")  # it could not read an answer
                self.link.close()
                return False
            self._start_tls(self._host.tls, self._begin_told)
        return True

    def _read_packet(self) -> bool:
        buffer = self._buffer
        if len(buffer) < 4:
            return False
        length = packet_length(buffer[:4])
        if len(buffer) < length:
            return False
        packet = parse_first_packet(buffer[4:length])
        self._buffer = buffer[length:]
        if isinstance(packet, StartupMessage):
            self.packet = packet
            self.names = {
                "database": printable(packet.database, _LONGEST_NAME),
                "user": printable(packet.user, _LONGEST_NAME),
            }
            self._next = None
            if packet.needs_negotiation:
                self.link.write(
                    messages.negotiate_protocol_version(packet.version, packet.options)
                )
            self._host.introduced(self, packet)
        elif isinstance(packet, CancelRequest):
            text = "client %s: cancel request for %d"
            log.debug(text, self.peer, packet.pid, extra=self.fields())
            self._next = None
            self._place.leave()  # a server that hangs may keep all who cancel there for long
            self._host.cancels(self, packet)
        else:
            self._answer_encryption(packet)
        return True

    def _answer_encryption(self, packet: SSLRequest | GSSENCRequest) -> None:
        if type(packet) in self._asked:
            raise ClientProtocolError("encryption was asked for twice")
        self._asked.add(type(packet))
        is_gss, context = isinstance(packet, GSSENCRequest), self._host.tls
        if is_gss or self.tls:
            context = None
        if context is None:
            self.link.write(b"N")
        if self._buffer:
            # Somebody between us may have put it there, to be taken for the client's own words.
            what = "GSSAPI encryption" if is_gss else "SSL"
            raise ClientProtocolError(
                f"received unencrypted data after {what} request", detail=_UNENCRYPTED
            )
        if context is not None:
            self.link.write(b"S")
            self._start_tls(context, self._read_packet)

    # --- TLS

    def _start_tls(self, context: ssl.SSLContext, then: Callable[[], bool]) -> None:
        self._state = TlsState(context, server_side=True)
        self._next = lambda: self._shake_hands(then)

    def _shake_hands(self, then: Callable[[], bool]) -> bool:
        state = self._state
        if not self._buffer or state is None:
            return False
        data, self._buffer = self._buffer, b""
        try:
            is_done = state.handshake(data)
        except ssl.SSLError:
            self.link.write(state.take_output())  # why
            raise
        if not is_done:
            self.link.write(state.take_output())
            return False
        self.tls = state.version
        self.link = self.link.under_tls(state)
        self._buffer, _ = state.decrypt(b"")
        self._next = then
        return True

    def _begin_told(self) -> bool:
        """TLS without asking for it, as PostgreSQL 17 takes it.

        Since nobody has said that PostgreSQL is spoken here, the handshake must, or the client
        may have been brought here from elsewhere.
        """
        if self._state is None or self._state.application_protocol != ALPN:
            raise ClientProtocolError(
                "received direct SSL connection request without ALPN protocol negotiation "
                "extension"
            )
        self._next = self._read_packet
        return True

    # --- authentication

    def _read_password(self) -> bool:
        buffer, authenticator = self._buffer, self._authenticator
        if len(buffer) < _HEADER.size or authenticator is None:
            return False
        kind, length = _HEADER.unpack_from(buffer)
        if not 4 <= length <= _PASSWORD_LIMIT:
            raise ClientProtocolError(f"invalid message length {length}")
        if len(buffer) <= length:
            return False
        self._buffer = buffer[length + 1 :]
        if kind != codes.PASSWORD:
            raise ClientProtocolError(f"expected password response, got message type {kind}")
        try:
            step = authenticator.receive(buffer[_HEADER.size : length + 1])
        except AuthenticationError as error:
            if self._credential is not None:
                error.flaw = self._credential.flaw
            raise
        if step.send is not None:
            self.link.write(messages.authentication(step.send))
        if step.done:
            self._prove()
        return True

    def _prove(self) -> None:
        self._next = self._authenticator = None
        self._place.leave()
        credential = self._credential
        if credential is not None and credential.refusal is not None:
            raise credential.refusal
        self._host.proven(self)
