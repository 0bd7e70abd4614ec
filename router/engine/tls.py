"""TLS over memory buffers: the same state serves the handshake and the link after it."""

from __future__ import annotations

import ssl
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

# What PostgreSQL's protocol is called in TLS handshakes.
ALPN: Final = "postgresql"

# How much plain text one read takes out of the TLS state, in bytes.
_CHUNK: Final = 256 * 1024


class TlsState:
    """One TLS connection without a socket."""

    __slots__ = ("_incoming", "_object", "_outgoing")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        self._incoming: Final = ssl.MemoryBIO()
        self._outgoing: Final = ssl.MemoryBIO()
        self._object: Final = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=server_hostname,
        )

    def handshake(self, data: bytes) -> bool:
        """Go on with the handshake given more bytes; returns whether it is done.

        Call `take_output` after each call and send what it returns.

        Raises:
            ssl.SSLError: the handshake failed.
        """
        if data:
            self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def decrypt(self, data: bytes) -> tuple[bytes, bool]:
        """Take bytes off the wire; returns the plain text, and whether the stream ended."""
        if data:
            self._incoming.write(data)
        parts: list[bytes] = []
        try:
            while True:
                part = self._object.read(_CHUNK)
                if not part:
                    return b"".join(parts), True
                parts.append(part)
        except ssl.SSLWantReadError:
            return b"".join(parts), False
        except ssl.SSLError:
            # A broken record ends the stream as an end of file does; what came before counts.
            return b"".join(parts), True

    def encrypt(self, data: bytes) -> None:
        """Encrypt bytes; `take_output` has the result."""
        self._object.write(data)

    def end(self) -> None:
        """Say that nothing more will come (close_notify); `take_output` has it."""
        with suppress(ssl.SSLError):  # it wants the peer's answer, which nobody waits for
            self._object.unwrap()

    def has_output(self) -> bool:
        """Whether there is something to send."""
        return self._outgoing.pending > 0

    def take_output(self) -> bytes:
        """What has to be sent."""
        return self._outgoing.read()

    @property
    def application_protocol(self) -> str | None:
        """What both sides say that they speak; None if one of them does not say."""
        return self._object.selected_alpn_protocol()

    @property
    def version(self) -> str:
        """The protocol version, such as "TLSv1.3"."""
        return self._object.version() or ""


def server_context(certificate: Path, private_key: Path) -> ssl.SSLContext:
    """The context towards clients.

    Raises:
        OSError: a file cannot be read, or is no certificate or key (ssl.SSLError).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The empty password keeps OpenSSL from asking for one on the terminal.
    context.load_cert_chain(certificate, private_key, password="")
    context.set_alpn_protocols([ALPN])
    return context


def client_context(
    *,
    verify: bool,
    ca_file: Path | None,
    certificate: Path | None = None,
    private_key: Path | None = None,
) -> ssl.SSLContext:
    """The context towards servers, by what the files have in them now.

    Args:
        verify: chain and host name are checked.
        ca_file: who vouches for servers; None is the system's.
        certificate, private_key: for servers that want to know who asks.

    Raises:
        OSError: a file cannot be read, or is not what it should be (ssl.SSLError).
    """
    files = (ca_file, certificate, private_key)
    return _client_context(verify, *files, tuple(_stamp(file) for file in files))


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    if file is None:
        return None
    found = file.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


@lru_cache(maxsize=16)  # a CA bundle takes megabytes: not one for each connection
def _client_context(
    verify: bool,
    ca_file: Path | None,
    certificate: Path | None,
    private_key: Path | None,
    stamps: tuple[tuple[int, int, int] | None, ...],
) -> ssl.SSLContext:
    if verify:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None:
        context.load_cert_chain(certificate, private_key, password="")
    return context
