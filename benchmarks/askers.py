"""Clients that know each byte of what they must be answered, many of them in one process.

A client compares what arrives with what it expects as it comes, which is one comparison of
memory for each piece. Only what differs is looked at message by message: it may be the error
of a server that was killed, or of a statement that this very client has asked to be cancelled.
Anything else is a mismatch.
"""

from __future__ import annotations

import heapq
import select
import socket
import struct
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Final

from tests.support import wire

from .questions import TOKEN, Exchange, program

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

_PIECE: Final = 256 * 1024
_READY: Final = wire.message("Z", b"I")
# A cancel request may come so much too late and stop the next statement of the same client.
_LATE: Final = 20.0
# What a client may be told, for the loss of the server that it was using.
_LOST: Final = ("57P01", "08006")
_CANCELED: Final = "57014"
# So long what is under way may take to come to its end.
_PATIENCE: Final = 60.0
_MOST_TOLD: Final = 3

# How often a client does what it may do, of its questions.
_LEAVES: Final = 0.004
_CANCELS: Final = 0.004
_CANCELS_SLOW: Final = 0.6
# How long it then waits, at most.
_MOMENT: Final = 0.02


@dataclass
class Spec:
    """What one process does.

    Attributes:
        clients: their numbers.
        are_killed: servers are killed meanwhile.
    """

    port: int
    databases: tuple[str, ...]
    clients: list[int]
    seed: int
    seconds: float
    length: int
    are_killed: bool
    templates: dict[str, list[Exchange]] = field(repr=False)


@dataclass
class Tally:
    """What became of it.

    Attributes:
        messages: that were compared and found right, and `answers`, whole exchanges.
        left: clients that have gone in the middle of an answer.
        cancels: requests that were sent, and `canceled`, statements that ended so.
        lost: what clients were told for the loss of their server, by SQLSTATE.
        mismatches: what was wrong.
        unanswered: what clients were still waiting for.
    """

    messages: int = 0
    answers: int = 0
    logins: int = 0
    left: int = 0
    cancels: int = 0
    canceled: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    mismatches: list[str] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Add what another process has found."""
        self.messages += other.messages
        self.answers += other.answers
        self.logins += other.logins
        self.left += other.left
        self.cancels += other.cancels
        self.canceled += other.canceled
        self.lost += other.lost
        self.wrong += other.wrong
        self.mismatches += other.mismatches
        self.unanswered += other.unanswered


def work(spec: Spec, parent: Connection) -> None:
    """Be some clients for a while, and send the parent a Tally."""
    parent.send(_Room(spec).run())


class _Room:
    """The clients of one process, and when they are to do something unasked."""

    def __init__(self, spec: Spec) -> None:
        self.spec: Final = spec
        self.tally: Final = Tally()
        self.epoll: Final = select.epoll()
        self.by_number: Final[dict[int, _Asker]] = {}
        self.is_over = False
        self.busy = 0
        self._due: Final[list[tuple[float, int, Callable[[], None]]]] = []
        self._order: Final = count()

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something after a while."""
        heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), act))

    def run(self) -> Tally:
        """Have all clients ask until the time is over and all have been answered."""
        askers = [_Asker(self, number) for number in self.spec.clients]
        for asker in askers:
            asker.connect()
        over = time.monotonic() + self.spec.seconds
        while True:
            now = time.monotonic()
            self.is_over = now >= over
            if self.is_over and (not self.busy or now > over + _PATIENCE):
                break
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            wait = min(0.1, self._due[0][0] - now) if self._due else 0.1
            for number, _ in self.epoll.poll(max(wait, 0.0)):
                if number in self.by_number:
                    self.by_number[number].on_readable()
        self.tally.unanswered += [str(each) for each in askers if each.is_busy]
        for asker in askers:
            asker.leave()
        return self.tally


class _Asker:
    """One client.

    Attributes:
        is_busy: it waits for an answer.
    """

    def __init__(self, room: _Room, number: int) -> None:
        spec = room.spec
        self._room: Final = room
        self._number: Final = number
        self._rng: Final = Random(f"{spec.seed}/{number}")
        self._database: Final = spec.databases[number % len(spec.databases)]
        self._program: Final = program(
            spec.templates,
            number,
            self._rng,
            spec.length,
            asks_large=number % 16 == 0,
            # Those that set nothing can share servers.
            is_named=number % 3 == 0,
        )
        self._sends_bytes: Final = number % 8 == 3
        self._is_slow: Final = number % 8 == 0  # these ask for what is large, too
        self._place = 0
        self._exchange = self._program[0]
        self._reply = b""
        self._pos = 0
        self._got: bytes | None = None  # all of an answer that is not what was expected
        self._is_logged_in = False
        self._leaves = False
        self._history: deque[str] = deque(maxlen=12)  # for people
        self._turn = (
            0  # counts its questions, so that what is for one of them is not for others
        )
        self._canceled_at = -_LATE
        self._key = b""
        self._socket: socket.socket | None = None
        self.is_busy = False

    def __str__(self) -> str:
        got = "" if self._got is None else f", got {_shown(self._got, 0)}"
        where = f"byte {self._pos} of {len(self._reply)}{got}"
        before = ", ".join(self._history)
        return f"client {self._number} of {self._database}, after {before}: {where}"

    # --- connecting and leaving

    def connect(self) -> None:
        """Log in, and begin with the first question."""
        room = self._room
        sock = socket.socket()
        if self._is_slow:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.connect(("127.0.0.1", room.spec.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        room.by_number[sock.fileno()] = self
        room.epoll.register(sock, select.EPOLLIN)
        self._place = 0
        self._history.clear()
        self._got, self._is_logged_in = b"", False
        self._set_busy(True)
        sock.sendall(wire.startup({"user": "postgres", "database": self._database}))

    def leave(self) -> None:
        """Go without a word, whatever is under way."""
        sock, self._socket = self._socket, None
        self._turn += 1
        self._set_busy(False)
        if sock is not None:
            del self._room.by_number[sock.fileno()]
            self._room.epoll.unregister(sock)
            sock.close()

    def _come_again(self) -> None:
        self.leave()
        if not self._room.is_over:
            self.connect()

    def _set_busy(self, is_busy: bool) -> None:
        self._room.busy += is_busy - self.is_busy
        self.is_busy = is_busy

    # --- asking

    def _ask(self) -> None:
        """Put the next question."""
        if self._room.is_over:
            self._reply, self._pos, self._got = b"", 0, None
            self._set_busy(False)
            return
        sock = self._socket
        assert sock is not None
        exchange = self._exchange = self._program[self._place]
        self._place = (self._place + 1) % len(self._program)
        self._reply, self._pos, self._got = exchange.reply, 0, None
        self._turn += 1
        self._history.append(exchange.question)
        try:
            if self._sends_bytes:
                request = exchange.request
                for pos in range(len(request)):
                    sock.send(request[pos : pos + 1])
            else:
                sock.sendall(exchange.request)
        except OSError:
            return  # why, is to be read
        chance = self._rng.random()
        if chance < _LEAVES:
            self._leave_soon()
        elif chance > 1.0 - (_CANCELS_SLOW if exchange.is_slow else _CANCELS):
            self._cancel_soon()
        elif self._is_slow and chance < 0.1:
            self._stop_reading()

    def _leave_soon(self) -> None:
        """Go as soon as a part of the answer is here, at once, or after a moment."""
        way, turn = self._rng.randrange(3), self._turn

        def leave() -> None:
            if self._turn == turn:
                self._room.tally.left += 1
                self._come_again()

        if way == 0:
            self._leaves = True
        elif way == 1:
            leave()
        else:
            self._room.later(self._rng.random() * _MOMENT, leave)

    def _cancel_soon(self) -> None:
        turn, key = self._turn, self._key

        def cancel() -> None:
            if self._turn != turn:
                return
            self._canceled_at = time.monotonic()
            self._history.append("CANCEL")
            self._room.tally.cancels += 1
            with socket.create_connection(("127.0.0.1", self._room.spec.port)) as sock:
                sock.sendall(struct.pack("!II", 16, 80877102) + key)

        if self._rng.random() < 0.3:
            cancel()
        else:
            self._room.later(self._rng.random() * _MOMENT, cancel)

    def _stop_reading(self) -> None:
        sock, epoll = self._socket, self._room.epoll
        assert sock is not None
        epoll.modify(sock, 0)

        def resume() -> None:
            if self._socket is sock:
                epoll.modify(sock, select.EPOLLIN)

        self._room.later(self._rng.random() * _MOMENT, resume)

    # --- answers

    def on_readable(self) -> None:
        """Compare what has come."""
        assert self._socket is not None
        try:
            data = self._socket.recv(_PIECE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return  # the event was that of an earlier socket of the same number
        except ConnectionResetError:
            data = b""
        if data and self._got is None and self._reply.startswith(data, self._pos):
            self._pos += len(data)
            if self._pos == len(self._reply):
                self._answered()
            if self._leaves:
                self._leaves = False
                self._room.tally.left += 1
                self._come_again()
        elif not self._is_logged_in:
            self._on_login(data)
        elif data or self.is_busy:
            self._got = (self._reply[: self._pos] if self._got is None else self._got) + data
            self._surprised(is_end=not data)
        else:
            self.leave()

    def _answered(self) -> None:
        tally = self._room.tally
        tally.answers += 1
        tally.messages += self._exchange.messages
        self._ask()

    def _on_login(self, data: bytes) -> None:
        got = self._got = (self._got or b"") + data
        if not data:
            self._lost("at login")
        elif got.endswith(_READY):
            pos = got.index(b"K\0\0\0\x0c") + 5
            self._key = got[pos : pos + 8]
            self._is_logged_in = True
            self._room.tally.logins += 1
            self._ask()
        elif got[:1] == b"E" and len(got) > int.from_bytes(got[1:5], "big"):
            self._wrong(f"refused: {_shown(got, 0)}")

    def _surprised(self, *, is_end: bool) -> None:
        """The answer is not what was expected: it has to be an error that may be."""
        got, reply = self._got, self._reply
        assert got is not None
        pos, after = 0, _message_end(got, 0)
        while 0 < after <= len(got) and reply.startswith(got[pos:after], pos):
            pos, after = after, _message_end(got, after)
        if not 0 < after <= len(got):
            if is_end:
                self._lost("without a word")
            return  # more of it has to come
        fields = wire.Message("E", got[pos + 5 : after]).fields if got[pos] == ord("E") else {}
        sqlstate = fields.get("C", "")
        if any(int(client) != self._number for client in TOKEN.findall(got)):
            self._wrong(f"what is another's: {_shown(got, pos)}")
        elif sqlstate == _CANCELED and time.monotonic() < self._canceled_at + _LATE:
            self._go_on(after, sqlstate, is_end=is_end)
        elif sqlstate in _LOST and self._room.spec.are_killed:
            if fields["V"] == "FATAL":
                self._lost(sqlstate)
            else:
                self._go_on(after, sqlstate, is_end=is_end)
        else:
            self._wrong(f"at {pos}: {_shown(got, pos)}, not {_shown(reply, pos)}")

    def _go_on(self, after: int, sqlstate: str, *, is_end: bool) -> None:
        """A statement has failed, with reason: the session goes on if all is as before."""
        got, exchange = self._got, self._exchange
        assert got is not None
        if exchange.may_fail and not is_end:
            rest = got[after:]
            if len(rest) < len(_READY) and _READY.startswith(rest):
                return
            if rest != _READY:
                self._wrong(f"behind an error: {_shown(got, after)}")
                return
        self._count(sqlstate)
        if exchange.may_fail and not is_end:
            self._ask()
        else:
            self._come_again()

    def _count(self, sqlstate: str) -> None:
        self._history.append(sqlstate)
        if sqlstate == _CANCELED:
            self._room.tally.canceled += 1
        else:
            self._room.tally.lost[sqlstate] += 1

    def _lost(self, what: str) -> None:
        if self._room.spec.are_killed:
            self._count(what)
            self._come_again()
        else:
            self._wrong(f"closed: {what}")

    def _wrong(self, what: str) -> None:
        tally = self._room.tally
        tally.wrong += 1
        if len(tally.mismatches) < _MOST_TOLD:
            tally.mismatches.append(f"{self}: {what}")
        self._come_again()


def _message_end(data: bytes, pos: int) -> int:
    """Where the message at a position ends; 0 if its length is not there."""
    if len(data) < pos + 5:
        return 0
    return pos + 1 + int.from_bytes(data[pos + 1 : pos + 5], "big")


def _shown(data: bytes, pos: int) -> str:
    return repr(data[pos : pos + 1000])
