"""One shard's part in what is done on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from ..errors import RouterError, RoutingError
from ..protocol import codes, marks, messages
from ..protocol.framing import HEADER
from ..protocol.prepared import new_token
from ..protocol.segments import Segment
from ..routing.types import Role
from .contracts import PoolClient
from .server import ServerConnection
from .states import ServerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..protocol.naming import Change
    from ..protocol.prepared import Statement
    from ..protocol.variables import Variables
    from ..routing.types import Analysis, TableChange
    from .contracts import Loss, Waiter
    from .leftovers import Leftovers

# More of what servers say before the end (notices) is not kept.
_MOST_BYTES: Final = 256 * 1024
_MOST_ROWS: Final = 1000
# Longer answers are not held, to be given to a client at the end.
_LONGEST_ANSWER: Final = 4 * 1024 * 1024
_DESCRIPTIONS: Final = b"tTn"
# No command begins with a longer word.
_LONGEST_VERB: Final = 10


class Request:
    """What a shard is asked.

    Attributes:
        sql: the text.
        data: the messages.
        fingerprint: what it is counted by, if it is a client's.
        is_batch: whether these are of the extended protocol, the last a Sync.
        keeps_answer: whether all of the answer is wanted, as messages.
        change: what it changes of a table that every shard has, if it does.
    """

    __slots__ = ("change", "data", "fingerprint", "is_batch", "keeps_answer", "sql")

    def __init__(self, sql: bytes, fingerprint: object = None) -> None:
        """A Query."""
        self.sql: Final = sql
        self.fingerprint: Final = fingerprint
        self.data = messages.query(sql)
        self.is_batch = self.keeps_answer = False
        self.change: TableChange | None = None


class CopyListener:
    """Whoever sends the rows of a COPY to participants."""

    __slots__ = ()

    def ended(self, participant: Participant) -> None:
        """Its server does not read rows any more, whatever the reason."""
        raise NotImplementedError

    def drained(self) -> None:
        """A server takes input again."""
        raise NotImplementedError


class Source(Protocol):
    """Where connections come from; a `Pool`."""

    def checkout(
        self, client: PoolClient, shard: int | None, role: Role | None, is_read: bool = False
    ) -> ServerConnection | Waiter:
        """Get a connection, or a place in the queue for one."""


class Participant(PoolClient):
    """A connection to the primary of a shard, and what it has answered.

    One thing is done at a time: `get`, then `run` as often as is needed, then `give_back`. The
    end of each is told to whoever has begun it, by `done`. Instead of `get`, a client can lend
    it the connection that it has.

    Attributes:
        shard: its number.
        server: the connection, while there is one.
        error: what has gone wrong last: an ErrorResponse's fields, or an error of the router.
        is_lost: the connection is gone, and nobody knows what has become of the last statement.
        notices: what the server has said besides, as messages.
        tag: of the last command that was completed, as a message.
        rows: those of the last statement, in text.
        answer: of the last request, its descriptions and rows as messages, if that is wanted.
        affected: how many rows the last request has changed or returned, by its tags.
        digest: of the rows in the answer, in whatever order.
        copier: sends the rows of a COPY, from when its server reads them.
        is_reading: it does.
    """

    def __init__(
        self,
        pool: Source,
        shard: int,
        variables: Variables,
        label: str,
        done: Callable[[], None],
    ) -> None:
        self.shard: Final = shard
        self._pool: Final = pool
        self._variables: Final = variables
        self._label: Final = label
        self._done: Final = done
        self._waiter: Waiter | None = None
        self._since = 0.0
        self._is_busy = False
        self._verb = ""
        self._unread = b""
        self._lender: PoolClient | None = None
        self.server: ServerConnection | None = None
        self.error: dict[str, str] | RouterError | None = None
        self.is_lost = False
        self.notices = b""
        self.tag = b""
        self.rows: list[tuple[str | None, ...]] = []
        self._keeps_answer = self._is_too_long = False
        self.answer = bytearray()
        self.affected = self.digest = 0
        self.copier: CopyListener | None = None
        self.is_reading = False

    def __repr__(self) -> str:
        return f"<Participant shard={self.shard} {self.server!r}>"

    @property
    def is_busy(self) -> bool:
        """Whether the end of what it does is still to be told."""
        return self._is_busy

    # --- what it is told to do

    def get(self) -> None:
        """Get a connection to the shard's primary, with the client's settings."""
        self._is_busy, self.error = True, None
        try:
            outcome = self._pool.checkout(self, self.shard, Role.PRIMARY)
        except RouterError as error:
            self._fail(error)
            return
        if isinstance(outcome, ServerConnection):
            self._attach(outcome)
        else:
            self._waiter = outcome

    def run(self, sql: bytes) -> None:
        """Run a text."""
        self.ask(Request(sql))

    def ask(self, request: Request) -> None:
        """Run what is asked."""
        server = self.server
        if server is None:
            return  # it is lost, and `error` says why
        self._is_busy, self.error = True, None
        self.tag, self.rows = b"", []
        self.answer, self.affected, self.digest = bytearray(), 0, 0
        self._keeps_answer, self._is_too_long = request.keeps_answer, False
        verb = request.sql.lstrip()[:_LONGEST_VERB].partition(b" ")[0]
        self._verb = verb.decode("ascii", "replace").upper()
        self._since = server.pool.engine.now
        server.queue.append(segment := self._segment(request))
        segment.fingerprint = request.fingerprint
        server.unnamed = new_token() if request.is_batch else 0
        if request.fingerprint is not None:
            server.marks |= marks.of_text(request.sql).leaves
        server.send(request.data)

    def _segment(self, request: Request) -> Segment:
        if request.is_batch:
            return Segment.whole_batch(self, self._since)
        return Segment(self, self._since)

    # --- COPY FROM STDIN

    def copy_in(self, request: Request, copier: CopyListener) -> None:
        """Run a COPY: that is done when its server reads rows, or refuses."""
        self.copier = copier
        self.ask(request)

    def read_on(self) -> None:
        """Go on reading: that is done when the server has answered to the end of the rows."""
        self._is_busy |= self.is_reading

    def send_rows(self, data: bytes) -> None:
        """Send rows, in the format of the COPY."""
        if self.server is not None and self.is_reading:
            self.server.send(HEADER.pack(codes.COPY_DATA, len(data) + 4) + data)

    def end_rows(self, why_not: str | None = None) -> None:
        """There are no more; or, if a reason is given, there shall be none of them."""
        server = self.server
        if server is None or not self.is_reading:
            return
        self.is_reading = False
        self._is_busy = True
        server.queue[-1].end_copy()
        message = messages.COPY_DONE if why_not is None else messages.copy_fail(why_not)
        server.send(message)

    @property
    def is_congested(self) -> bool:
        """Whether its server is slow to take what it is sent."""
        return self.server is not None and self.server.congested

    def borrow(self, server: ServerConnection, lender: PoolClient) -> None:
        """Take over a connection, of a client that is to hear of its settings all the same."""
        self.server, self._lender, self.error = server, lender, None
        server.attach(self)

    def hand_over(self) -> ServerConnection | None:
        """Let somebody else have the connection, if there still is one."""
        server, self.server, self._lender = self.server, None, None
        return server

    def give_back(self) -> None:
        """Have done with it; a transaction that is open there is rolled back."""
        server, self.server = self.server, None
        if server is not None and server.state is not ServerState.CLOSED:
            server.pool.release(server)

    def cancel(self) -> None:
        """Have the server stop what it does, or do not wait for it; the end is told as ever."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.cancel()
            text = "canceling statement due to user request"
            self._fail(RoutingError(text, sqlstate="57014"))
        elif self.server is not None and self._is_busy and self.server.queue:
            self.server.cancel()

    def settle(self) -> None:
        """Wait until no cancel request is on its way any more."""
        server = self.server
        if server is not None and server.cancels:
            self._is_busy = True
            server.told_of_cancels.append(self._end)

    # --- what it hears of the pool

    def _attach(self, server: ServerConnection) -> None:
        self.server = server
        server.attach(self)
        self._since = server.pool.engine.now
        if server.named:
            server.forget_named(list(server.named))
        if not server.apply(self._variables):
            self._end()

    def take_server(self, server: ServerConnection) -> bool:
        """The connection that it waited for."""
        if self._waiter is None:
            return False
        self._waiter = None
        self._attach(server)
        return True

    def checkout_failed(self, error: RouterError) -> None:
        """There will be none."""
        self._waiter = None
        self._fail(error)

    def ask_anew(self) -> None:
        """The pool is another one now."""
        self._waiter = None
        text = "the configuration of the pool has changed meanwhile"
        self._fail(RoutingError(text, sqlstate="57P05", hint="Try again."))

    def settings_accepted(self) -> None:
        """The server has the client's settings."""
        self._end()

    def settings_refused(self, fields: dict[str, str]) -> None:
        """It does not take them."""
        server, self.server = self.server, None
        if server is not None:
            server.close()
        self.error = fields
        self._end()

    # --- what it hears of the server

    def reply(self, data: bytes) -> None:
        """Read a part of the answer."""
        data, pos, begins = self._unread + data, 0, False
        while pos + HEADER.size <= len(data):
            kind, length = HEADER.unpack_from(data, pos)
            end = pos + 1 + length
            if end > len(data):
                break
            if kind == codes.ERROR_RESPONSE:
                self.error = messages.parse_error_fields(data[pos + 5 : end])
            elif kind == codes.NOTICE_RESPONSE and len(self.notices) <= _MOST_BYTES:
                self.notices += data[pos:end]
            elif kind == codes.COMMAND_COMPLETE:
                self.tag += data[pos:end]
                self.affected += _rows_of(data[pos:end])
            elif kind == codes.COPY_IN_RESPONSE:
                begins = self.is_reading = self.copier is not None
                self._is_busy = not begins
                self.answer = bytearray(data[pos:end])
            elif self._keeps_answer:
                self._keep(kind, data[pos:end])
            elif kind == codes.DATA_ROW and len(self.rows) < _MOST_ROWS:
                self.rows.append(messages.parse_data_row(data[pos + 5 : end]))
            pos = end
        self._unread = data[pos:]
        if begins:
            self._done()
        if len(self._unread) > _MOST_BYTES:
            text = "the server says more than is expected of it"
            self.expel(RouterError(text, sqlstate="54000"))

    def _keep(self, kind: int, message: bytes) -> None:
        if kind == codes.DATA_ROW:
            self.digest += hash(message)
        elif kind not in _DESCRIPTIONS:
            return
        self._is_too_long |= len(self.answer) + len(message) > _LONGEST_ANSWER
        if not self._is_too_long:
            self.answer += message

    def segment_done(self, segment: Segment, status: int) -> None:
        """The answer is complete."""
        server = self.server
        if self._is_too_long and self.error is None:
            text = f"more than {_LONGEST_ANSWER} bytes are returned"
            self.error = RoutingError(text, sqlstate="54000")
        if server is not None and segment.fingerprint is not None:
            counters = server.count(segment, server.pool.engine.now)
            if status == codes.IDLE:
                counters.xact_count += 1
        self._end()

    def server_lost(self, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
        """The connection is gone."""
        self.server = None
        self.is_lost = True
        self._fail(error)

    def expel(self, error: RouterError | None = None) -> None:
        """Somebody wants it gone: an administrator, or a time limit."""
        server, self.server = self.server, None
        if server is not None:
            server.close()
        self.is_lost = True
        self._fail(error or RouterError("the router is shutting down", sqlstate="57P01"))

    def give_up(self) -> None:
        """What it was told was too much for it."""
        self.expel(RouterError("internal error", hint="The log of the router has more."))

    def _fail(self, error: RouterError) -> None:
        self.error = error
        self._end()

    def _end(self) -> None:
        copier, self.copier = self.copier, None
        was_busy, self._is_busy = self._is_busy, False
        self.is_reading = False
        if copier is not None:
            copier.ended(self)
        if was_busy:
            self._done()

    # --- what it has no use for

    @property
    def congested(self) -> bool:
        """What it is told stays here."""
        return False

    @property
    def label(self) -> str:
        """The client's application_name."""
        return self._label

    def transaction(self, now: float) -> tuple[float, str]:
        """For how long its connection has been busy with this, and with what."""
        return now - self._since, self._verb

    def segment_withheld(self, segment: Segment, status: int) -> None:
        """It hears of every error."""

    def server_ready(self) -> None:
        """But for the rows of a COPY, it sends little."""
        if self.copier is not None:
            self.copier.drained()

    def batch_answered(self) -> None:
        """It sends no batches."""

    def server_parameter(self, name: str, value: str, swallowed: bool) -> None:
        """The client has been told of its settings already, unless it has lent the server."""
        if self._lender is not None:
            self._lender.server_parameter(name, value, swallowed)

    def settings_reset(self, *, everything: bool) -> None:
        """The client hears of it from the server that is its own."""

    def statement_named(self, change: Change) -> Statement[Analysis | None] | None:
        """Nor does one prepare statements."""
        return None

    def leftovers_told(self, server: ServerConnection, found: Leftovers | None) -> None:
        """It asks for none."""


def _rows_of(complete: bytes) -> int:
    """How many rows the tag of a CommandComplete tells of."""
    count = complete.rpartition(b" ")[2].rstrip(b"\0")
    return int(count) if count.isdigit() else 0


class Play:
    """What participants, one of each shard, do together: a story that goes on if none is busy.

    Attributes:
        participants: in the order of the shards.
    """

    def __init__(self, pool: Source, shards: int, variables: Variables, label: str) -> None:
        self.participants: Final = [
            Participant(pool, shard, variables, label, self._go_on) for shard in range(shards)
        ]
        self._over: Callable[[], None] | None = None
        self._story: Iterator[None] | None = None
        self._is_going = False

    @property
    def is_under_way(self) -> bool:
        """Whether a story has not come to its end."""
        return self._story is not None

    def begin(self, story: Iterator[None], over: Callable[[], None]) -> None:
        """Begin a story, which yields where it waits for what it has told them to do.

        `over` is told at its end, when they may be told another one, or to `end`.
        """
        self._story, self._over = story, over
        self._go_on()

    def end(self) -> None:
        """All give their connections back."""
        for participant in self.participants:
            participant.give_back()

    def _go_on(self) -> None:
        story = self._story
        if self._is_going or story is None:
            return
        self._is_going = True
        is_over = False
        while not is_over and not any(each.is_busy for each in self.participants):
            is_over = next(story, self) is self
        self._is_going = False
        if is_over:
            over, self._story, self._over = self._over, None, None
            if over is not None:
                over()
