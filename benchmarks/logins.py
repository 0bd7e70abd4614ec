"""Many clients that log in at the same moment."""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import struct
import time
from typing import TYPE_CHECKING, Final

from router.protocol.scram import ScramClient, ScramKeys

from .memory import startup_message
from .targets import BenchmarkError

if TYPE_CHECKING:
    from .targets import Login, Target

_SECONDS: Final = 60.0
_OK, _SASL, _CONTINUE, _FINAL = 0, 10, 11, 12
_MECHANISM: Final = b"SCRAM-SHA-256\0"

# What a password makes of a salt, by both and the number of iterations: a client that keeps it,
# as drivers may, does not keep the processor from those it logs in to.
_Keys = dict[tuple[bytes, int], ScramKeys]


def storm(target: Target, count: int) -> list[float]:
    """Connect all at once, wait until all have logged in, and leave; return what each waited.

    Raises:
        BenchmarkError: one of them was not let in, or not in a minute.
    """
    keys: _Keys = {}
    with contextlib.ExitStack() as stack, selectors.DefaultSelector() as selector:
        began = time.monotonic()
        for _ in range(count):
            newcomer = _Newcomer(target, keys)
            stack.callback(newcomer.socket.close)
            selector.register(newcomer.socket, selectors.EVENT_WRITE, newcomer)
        waits: list[float] = []
        while len(waits) < count:
            events = selector.select(1.0)
            if time.monotonic() - began > _SECONDS:
                raise BenchmarkError(f"{target.name}: {len(waits)} of {count} have logged in")
            for key, mask in events:
                newcomer = key.data
                if mask & selectors.EVENT_WRITE:
                    newcomer.start()
                    selector.modify(key.fileobj, selectors.EVENT_READ, newcomer)
                elif newcomer.go_on():
                    selector.unregister(key.fileobj)
                    waits.append(time.monotonic() - began)
        return waits


class _Newcomer:
    """A client on its way in."""

    def __init__(self, target: Target, keys: _Keys) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self._login: Login = target.login
        self._keys = keys
        self._scram = ScramClient()
        self._data = b""
        reason = self.socket.connect_ex((target.host, target.port))
        if reason not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise BenchmarkError(f"cannot connect: {errno.errorcode.get(reason, reason)}")

    def start(self) -> None:
        """Introduce oneself, on a connection that has come about."""
        reason = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if reason:
            raise BenchmarkError(f"cannot connect: {errno.errorcode.get(reason, reason)}")
        self.socket.sendall(startup_message(self._login.user))

    def go_on(self) -> bool:
        """Answer what has come; tell whether the server is ready for a query."""
        received = self.socket.recv(8192)
        if not received:
            raise BenchmarkError(f"a login was cut off after {self._data!r}")
        self._data += received
        while len(self._data) >= 5:
            end = 1 + int.from_bytes(self._data[1:5], "big")
            if len(self._data) < end:
                break
            kind, body, self._data = self._data[:1], self._data[5:end], self._data[end:]
            if kind == b"Z":
                return True
            if kind == b"E":
                raise BenchmarkError(f"a login was refused: {body!r}")
            if kind == b"R":
                self._authenticate(int.from_bytes(body[:4], "big"), body[4:])
        return False

    def _authenticate(self, request: int, body: bytes) -> None:
        if request == _SASL:
            first = self._scram.first()
            self._send(_MECHANISM + struct.pack("!i", len(first)) + first)
        elif request == _CONTINUE:
            salt, iterations = self._scram.challenge(body)
            wanted = (salt, iterations)
            if wanted not in self._keys:
                password = self._login.password
                self._keys[wanted] = ScramKeys.from_password(password, salt, iterations)
            self._send(self._scram.final(self._keys[wanted]))
        elif request == _FINAL:
            self._scram.verify(body)
        elif request != _OK:
            raise BenchmarkError(f"the server asks for authentication of kind {request}")

    def _send(self, body: bytes) -> None:
        self.socket.sendall(struct.pack("!ci", b"p", len(body) + 4) + body)
