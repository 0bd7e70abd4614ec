"""A raw protocol client over a blocking socket: it sends what it is told, right or wrong.

The builders make one message each; `WireClient` logs in, sends bytes and reads messages, every
wait of it bounded.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .router import HOST, PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

PROTOCOL_3_0 = 196608
SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSSENC_REQUEST = struct.pack("!II", 8, 80877104)
_RECV = 1 << 16


# --- messages from a client


def message(kind: str, body: bytes = b"") -> bytes:
    """Frame a body."""
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


def _cstring(text: str | bytes) -> bytes:
    return (text.encode() if isinstance(text, str) else text) + b"\0"


def startup(parameters: Mapping[str, str], *, protocol: int = PROTOCOL_3_0) -> bytes:
    """A StartupMessage."""
    body = struct.pack("!I", protocol)
    body += b"".join(_cstring(name) + _cstring(value) for name, value in parameters.items())
    return packet(body + b"\0")


def packet(body: bytes) -> bytes:
    """Frame a first packet, which has no type."""
    return struct.pack("!I", len(body) + 4) + body


def cancel_request(pid: int, secret: bytes) -> bytes:
    """A CancelRequest."""
    return packet(struct.pack("!II", 80877102, pid) + secret)


def query(sql: str | bytes) -> bytes:
    """A simple Query."""
    return message("Q", _cstring(sql))


def parse(sql: str | bytes, name: str = "", oids: Sequence[int] = ()) -> bytes:
    """A Parse."""
    types = struct.pack(f"!H{len(oids)}I", len(oids), *oids)
    return message("P", _cstring(name) + _cstring(sql) + types)


def bind(
    *values: bytes | None, name: str = "", portal: str = "", formats: Sequence[int] = ()
) -> bytes:
    """A Bind with parameters in text format, and results in the given formats."""
    parts = [_cstring(portal), _cstring(name), struct.pack("!HH", 0, len(values))]
    for value in values:
        parts.append(struct.pack("!i", -1 if value is None else len(value)))
        parts.append(value or b"")
    parts.append(struct.pack(f"!H{len(formats)}H", len(formats), *formats))
    return message("B", b"".join(parts))


def describe(kind: str = "P", name: str = "") -> bytes:
    """A Describe of a portal (P) or a statement (S)."""
    return message("D", kind.encode() + _cstring(name))


def execute(portal: str = "", limit: int = 0) -> bytes:
    """An Execute."""
    return message("E", _cstring(portal) + struct.pack("!I", limit))


def close(kind: str, name: str = "") -> bytes:
    """A Close of a portal (P) or a statement (S)."""
    return message("C", kind.encode() + _cstring(name))


def copy_data(data: bytes) -> bytes:
    """A CopyData."""
    return message("d", data)


def copy_fail(reason: str = "changed my mind") -> bytes:
    """A CopyFail."""
    return message("f", _cstring(reason))


def function_call(oid: int, *arguments: bytes) -> bytes:
    """A FunctionCall with arguments and result in text format."""
    parts = [struct.pack("!IHH", oid, 0, len(arguments))]
    parts += [struct.pack("!I", len(argument)) + argument for argument in arguments]
    return message("F", b"".join(parts) + struct.pack("!H", 0))


# Objects that are not PostgreSQL's own have numbers from here on.
FIRST_NORMAL_OBJECT_ID = 16384
_COLUMN_SIZE = struct.calcsize("!IhIhih")
SYNC = message("S")
FLUSH = message("H")
COPY_DONE = message("c")
TERMINATE = message("X")


def run(sql: str, *values: bytes | None) -> bytes:
    """Parse, Bind, Describe and Execute of the unnamed statement; no Sync."""
    return parse(sql) + bind(*values) + describe() + execute()


# --- messages from a server


@dataclass(frozen=True, slots=True)
class Message:
    """One message from a server."""

    kind: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The fields of an ErrorResponse or a NoticeResponse, by code."""
        parts = self.body.split(b"\0")
        return {chr(part[0]): part[1:].decode() for part in parts if part}

    @property
    def sqlstate(self) -> str:
        """The SQLSTATE of an ErrorResponse."""
        return self.fields["C"]

    @property
    def row(self) -> list[bytes | None]:
        """The columns of a DataRow."""
        values: list[bytes | None] = []
        pos = 2
        while pos < len(self.body):
            (size,) = struct.unpack_from("!i", self.body, pos)
            values.append(None if size < 0 else self.body[pos + 4 : pos + 4 + size])
            pos += 4 + max(size, 0)
        return values

    @property
    def columns(self) -> list[tuple[bytes, int, int | None, int, int, int]]:
        """The columns of a RowDescription, without what each database numbers itself.

        Returns: name, attribute number, type, size, modifier and format; the type is None if
        it is not one of PostgreSQL's own.
        """
        found = []
        rest = self.body[2:]
        while rest:
            name, rest = rest.split(b"\0", 1)
            _table, number, oid, size, modifier, form = struct.unpack_from("!IhIhih", rest)
            own = oid if oid < FIRST_NORMAL_OBJECT_ID else None
            found.append((name, number, own, size, modifier, form))
            rest = rest[_COLUMN_SIZE:]
        return found


def kinds(messages: Iterable[Message]) -> str:
    """The types of messages as one string."""
    return "".join(message.kind for message in messages)


def sqlstates(messages: Iterable[Message]) -> list[str]:
    """The codes of the ErrorResponses among messages."""
    return [message.sqlstate for message in messages if message.kind == "E"]


def rows(messages: Iterable[Message]) -> list[list[bytes | None]]:
    """The DataRows among messages."""
    return [message.row for message in messages if message.kind == "D"]


class Ended(Exception):
    """The server closed the connection; `messages` came before."""

    def __init__(self, messages: list[Message]) -> None:
        super().__init__(f"closed after {messages}")
        self.messages = messages


class WireClient:
    """A connection; a context manager that closes it.

    Attributes:
        pid, secret: of BackendKeyData, once logged in.
    """

    def __init__(self, port: int, *, host: str = HOST, receive_buffer: int = 0) -> None:
        """Connect; a `host` from / on is the directory of a Unix socket."""
        is_unix = host.startswith("/")
        self.sock = socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        if is_unix:
            self.sock.connect(f"{host}/.s.PGSQL.{port}")
        else:
            self.sock.connect((host, port))
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._pos = 0
        self.pid = 0
        self.secret = b""

    @classmethod
    def login(
        cls,
        port: int,
        database: str,
        user: str = "postgres",
        *,
        parameters: Mapping[str, str] | None = None,
        receive_buffer: int = 0,
        host: str = HOST,
        protocol: int = PROTOCOL_3_0,
    ) -> Self:
        """Connect and log in without a password."""
        client = cls(port, host=host, receive_buffer=receive_buffer)
        login = {"user": user, "database": database, **(parameters or {})}
        client.send(startup(login, protocol=protocol))
        for answer in client.read_until("Z"):
            if answer.kind == "K":
                client.pid = int.from_bytes(answer.body[:4], "big")
                client.secret = answer.body[4:]
        return client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send bytes, however long it takes."""
        self.sock.sendall(data)

    def wait_consumed(self) -> None:
        """Wait until the peer's program, on this machine, has read all that was sent."""
        ours = _hex_address(self.sock.getsockname())
        theirs = _hex_address(self.sock.getpeername())

        def nothing_is_unread() -> bool:
            for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
                _, local, remote, _, queues, *_ = line.split()
                if (local, remote) == (theirs, ours):
                    return queues.endswith(":00000000")
            return True  # the peer has closed its end

        deadline = time.monotonic() + PATIENCE
        while not nothing_is_unread():
            assert time.monotonic() < deadline, "the peer does not read what was sent"
            time.sleep(0.0002)

    # --- reading

    def read_message(self) -> Message:
        """Read one message.

        Raises:
            Ended: there is none, the peer has closed the connection.
        """
        self._need(5)
        kind = chr(self._buffer[self._pos])
        length = int.from_bytes(self._buffer[self._pos + 1 : self._pos + 5], "big")
        self._need(1 + length)
        body = bytes(self._buffer[self._pos + 5 : self._pos + 1 + length])
        self._pos += 1 + length
        return Message(kind, body)

    def read_until(self, wanted: str) -> list[Message]:
        """Read until each type of message in `wanted` has come, in that order.

        Raises:
            Ended: the peer has closed the connection before.
        """
        found: list[Message] = []
        for kind in wanted:
            while True:
                try:
                    found.append(self.read_message())
                except Ended:
                    raise Ended(found) from None
                if found[-1].kind == kind:
                    break
        return found

    def read_to_end(self) -> list[Message]:
        """Read until the peer closes the connection."""
        found: list[Message] = []
        while True:
            try:
                found.append(self.read_message())
            except Ended:
                return found

    def read_byte(self) -> bytes:
        """Read the answer to a request for encryption."""
        self._need(1)
        self._pos += 1
        return bytes(self._buffer[self._pos - 1 : self._pos])

    def has_input(self) -> bool:
        """Whether something has arrived that was not read; does not wait."""
        if self._pos < len(self._buffer):
            return True
        self.sock.setblocking(False)
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except BlockingIOError:
            return False
        finally:
            self.sock.settimeout(PATIENCE)

    def _need(self, size: int) -> None:
        while len(self._buffer) - self._pos < size:
            if self._pos:
                del self._buffer[: self._pos]
                self._pos = 0
            try:
                data = self.sock.recv(_RECV)
            except ConnectionResetError:
                data = b""
            if not data:
                raise Ended([])
            self._buffer += data

    # --- whole exchanges

    def ask(self, *data: bytes, until: str = "Z") -> list[Message]:
        """Send and read until the types of message in `until` have come."""
        self.send(b"".join(data))
        return self.read_until(until)

    def query(self, sql: str) -> list[list[bytes | None]]:
        """Run a simple Query that must not fail; returns its rows."""
        answers = self.ask(query(sql))
        assert not sqlstates(answers), [
            answer.fields for answer in answers if answer.kind == "E"
        ]
        return rows(answers)

    def value(self, sql: str) -> str:
        """Run a simple Query for a single value."""
        [[value]] = self.query(sql)
        assert value is not None
        return value.decode()

    def begin_copy(self, sql: str) -> list[Message]:
        """Ask for a COPY, and read until it may be sent, or until that is refused."""
        self.send(query(sql))
        answer = [self.read_message()]
        while answer[-1].kind not in "GZ":
            answer.append(self.read_message())
        return answer

    def copy(self, sql: str, *messages: bytes) -> list[Message]:
        """Do a COPY, if it may be done, with these messages; returns the whole answer."""
        answer = self.begin_copy(sql)
        return answer if answer[-1].kind == "Z" else answer + self.ask(*messages)

    # --- leaving

    def close(self) -> None:
        """Close the socket; what has been sent still arrives."""
        self.sock.close()

    def terminate(self) -> None:
        """Say goodbye, and close."""
        self.send(TERMINATE)
        self.close()

    def reset(self) -> None:
        """Close with a TCP reset, as a machine that crashed and came back."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def cancel(port: int, pid: int, secret: bytes, host: str = HOST) -> bytes:
    """Send a cancel request and wait until the peer closes; returns its answer: nothing."""
    with WireClient(port, host=host) as client:
        client.send(cancel_request(pid, secret))
        answer = b""
        while data := client.sock.recv(_RECV):
            answer += data
        return answer


def _hex_address(address: tuple[str, int]) -> str:
    """An address as /proc/net/tcp writes it."""
    host, port = address
    return f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"
