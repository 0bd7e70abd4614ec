"""The virtual admin database: one administrator's session, from bytes to bytes.

It speaks the simple and the extended protocol. Most is answered at once; an answer that has to
wait is held, and all that comes behind it. Output that the client does not take stops the work
until it does.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Final

from ..errors import ClientError, ClientProtocolError, RouterError, ShuttingDown
from ..printable import printable
from ..protocol import binds, codes, framing, messages
from ..protocol.portals import Answer
from ..snapshots import ClientSnapshot, View
from . import courtesies, encoding
from .commands import find
from .extended import Extended
from .replies import AdminActions, Console, Making, Order, State
from .statements import split

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.link import Output
    from .show import ConfigRow

# No command is longer than a line, so there is no need to collect more of a message. To cut one
# of this length into words takes up to 3 ms.
MESSAGE_LIMIT: Final = 8 * 1024
# So many messages and statements are a turn: one may be a table of all clients.
TURN: Final = 8

# For a portal that has an answer.
_HAS_RUN: Final = Answer(None)

_COPY: Final = frozenset((codes.COPY_DATA, codes.COPY_DONE, codes.COPY_FAIL))
# Messages that somebody may well make longer than that: they are read to their end and refused.
_MAY_BE_LONG: Final = _COPY | {codes.QUERY, codes.PARSE, codes.BIND, codes.FUNCTION_CALL}


def parameters(application_name: str) -> dict[str, str]:
    """The ParameterStatus set of admin connections, as PgCat has it."""
    told = (
        "client_encoding",
        "server_encoding",
        "DateStyle",
        "TimeZone",
        "standard_conforming_strings",
        "server_version",
    )
    return {
        "application_name": application_name,
        **{name: courtesies.PARAMETERS[name] for name in told},
    }


class AdminSession:
    """One administrator. Set `link` before the first data arrives."""

    def __init__(
        self,
        view: View,
        actions: AdminActions,
        *,
        settings: Callable[[], list[ConfigRow]],
        peer: str,
        tls: str,
        user: str,
        database: str,
        application_name: str,
        may_act: bool,
        on_end: Callable[[AdminSession, str], None],
    ) -> None:
        self.link: Output | None = None
        self.peer: Final = peer
        self._tls: Final = tls
        self.user: Final = user
        self.database: Final = database
        self.application_name: Final = application_name
        self._on_end: Final = on_end
        self._state: Final = State()
        self._console: Final = Console(
            f"admin {printable(user)} at {peer}",
            peer,
            user,
            database,
            may_act,
            self._state,
            view,
            actions,
            settings,
        )
        self._extended: Final = Extended(self._console)
        self._input = bytearray()
        self._orders: deque[Order] = deque()  # of the simple query that is being answered
        self._too_long = 0  # the kind of the message that is being skipped
        self._missing = 0  # bytes of it that are still to come
        self._skips_to_sync = False
        self._actions: Final = actions
        # An answer whose rows are being made, and what becomes of it.
        self._making: Making | None = None
        self._made: Callable[[Answer], None] | None = None
        # An answer that waits, and what for.
        self._held = b""
        self._until: Callable[[], bool] | None = None
        self._ended = False
        self._opened_at: Final = time.monotonic()
        self._query_count = 0
        self._error_count = 0

    def __repr__(self) -> str:
        return f"<AdminSession {self.user}@{self.peer}{' ended' if self._ended else ''}>"

    def snapshot(self, client_id: int) -> ClientSnapshot:
        """The row of SHOW CLIENTS."""
        return ClientSnapshot(
            client_id=client_id,
            database=self.database,
            user=self.user,
            application_name=self.application_name,
            state="idle",  # it never holds a server
            addr=self.peer,
            tls=self._tls,
            transaction_count=self._query_count,
            query_count=self._query_count,
            error_count=self._error_count,
            age_seconds=int(time.monotonic() - self._opened_at),
            maxwait_us=0,
            fd=-1 if self.link is None else self.link.fd,
        )

    # --- what the link tells

    def on_data(self, data: bytes) -> None:
        """Bytes arrived."""
        if self._missing:
            skipped = min(self._missing, len(data))
            self._missing -= skipped
            data = data[skipped:]
        self._input += data
        self._work()

    def on_drained(self) -> None:
        """The client takes its output again."""
        if self.link is not None:
            self.link.resume()
        self._work()

    def on_eof(self) -> bool:
        """The client sends no more, and waits for nothing."""
        return False

    def on_closed(self, reason: str) -> None:
        """The client or the network ended the link."""
        self._end(reason)

    def expel(self) -> None:
        """The router is going away."""
        self._fail(ShuttingDown())

    # --- messages

    def _work(self) -> None:
        link = self.link
        for _ in range(TURN):
            if link is None or self._ended:
                return
            if self._until is not None:
                if len(self._input) > MESSAGE_LIMIT:
                    link.pause()
                return
            if link.congested:
                link.pause()
                return
            if self._making is not None:
                self._make()
            elif self._orders:
                self._run_next()
            elif self._too_long:
                if self._missing:
                    return
                self._refuse_long()
            elif not self._take_message():
                return
            if self._making is not None:
                break
        if link is not None:
            link.defer()  # clients want to be served, too

    def _take_message(self) -> bool:
        """Act on the next message, if it is there as a whole."""
        if len(self._input) < framing.HEADER_SIZE:
            return False
        kind, length = framing.HEADER.unpack_from(self._input)
        if kind not in framing.CLIENT_KINDS:
            self._fail(ClientProtocolError(f"invalid frontend message type {kind}"))
            return True
        longest = codes.MAX_MESSAGE_LENGTH if kind in _MAY_BE_LONG else MESSAGE_LIMIT
        if not 4 <= length <= longest:
            self._fail(ClientProtocolError(f"invalid message length {length}"))
            return True
        if length > MESSAGE_LIMIT:
            self._skip(kind, 1 + length)
            return True
        if len(self._input) < 1 + length:
            return False
        message = bytes(self._input[: 1 + length])
        del self._input[: 1 + length]
        self._dispatch(kind, message)
        return True

    def _skip(self, kind: int, size: int) -> None:
        """Begin to throw a message away, of which some is here."""
        here = min(size, len(self._input))
        del self._input[:here]
        self._too_long, self._missing = kind, size - here

    def _refuse_long(self) -> None:
        """A message that was too long has ended: only now the client is sure to listen."""
        kind, self._too_long = self._too_long, 0
        if self._skips_to_sync or kind in _COPY:
            return
        self._query_count += kind == codes.QUERY
        self._refuse(
            ClientError(
                f"message is too long, at most {MESSAGE_LIMIT} bytes are allowed here",
                sqlstate="54000",
                hint="SHOW HELP lists the commands.",
            )
        )
        if kind in (codes.QUERY, codes.FUNCTION_CALL):
            self._write(self._ready)
        else:
            self._skips_to_sync = True

    def _dispatch(self, kind: int, message: bytes) -> None:
        if kind == codes.TERMINATE:
            self._close("client disconnected")
        elif kind == codes.SYNC:
            self._skips_to_sync = False
            self._extended.sync()
            self._write(self._ready)
        elif self._skips_to_sync or kind in _COPY or kind == codes.FLUSH:
            # Nothing is ever held back, so there is nothing to flush; and copy messages outside
            # of a COPY are to be ignored, says the manual.
            return
        elif kind == codes.QUERY:
            self._query(message)
        elif kind == codes.FUNCTION_CALL:
            self._refuse(RouterError("function calls are not supported", sqlstate="0A000"))
            self._write(self._ready)
        elif kind == codes.EXECUTE:
            self._query_count += 1
            self._execute(message)
        else:
            self._reply(lambda: self._extended.answer(kind, message))

    def _query(self, message: bytes) -> None:
        self._query_count += 1
        self._extended.forget_unnamed()
        try:
            text = binds.query_text(message, 0, len(message)).decode("utf-8", "replace")
            # As in PostgreSQL, nothing is done unless all of the text can be understood.
            self._orders.extend([find(each, self.database) for each in split(text)])
        except RouterError as error:
            self._refuse(error)
            self._write(self._ready)
            return
        if not self._orders:
            self._write(messages.EMPTY_QUERY_RESPONSE + self._ready)

    def _run_next(self) -> None:
        """Run one statement of a simple query."""
        order = self._orders.popleft()
        columns = order.columns
        formats = (encoding.TEXT,) * len(columns)

        def made(answer: Answer) -> None:
            rows = answer.rows or ()
            described = messages.row_description(columns, formats) if columns else b""
            whole = (answer.notice, described, *rows, answer.completion(len(rows)))
            end = b"" if self._orders else self._ready
            self._write_in_time(b"".join((*whole, end)))

        try:
            self._making = order.begin(self._console, formats)
        except RouterError as error:
            self._orders.clear()
            self._refuse(error)
            self._write_in_time(self._ready)
            return
        self._made = made
        self._make()

    def _make(self) -> None:
        """Make some more rows of an answer, and give it if that is all."""
        if self._making is None or self._made is None:
            return
        answer = self._making.make_more()
        if answer is not None:
            made, self._making, self._made = self._made, None, None
            made(answer)

    def _execute(self, message: bytes) -> None:
        try:
            self._making, reply = self._extended.execution(message)
        except RouterError as error:
            self._refuse(error)
            self._skips_to_sync = True
            return
        if self._making is None:
            self._reply(lambda: reply(_HAS_RUN))
            return
        self._made = lambda answer: self._reply(lambda: reply(answer))
        self._make()

    def _reply(self, reply: Callable[[], bytes]) -> None:
        """Answer a message of the extended protocol."""
        try:
            self._write_in_time(reply())
        except RouterError as error:
            self._refuse(error)
            self._skips_to_sync = True

    # --- answers

    def _write_in_time(self, data: bytes) -> None:
        """Send an answer, or hold it until what its command waits for has come to pass."""
        until, self._state.until = self._state.until, None
        if until is None or until():
            self._write(data)
            return
        self._held, self._until = data, until
        self._actions.verbs.look_later(self._look)

    def _look(self) -> None:
        """Whether the answer that is held may be given now."""
        if self._ended or self._until is None:
            return
        if not self._until():
            self._actions.verbs.look_later(self._look)
            return
        data, self._held, self._until = self._held, b"", None
        self._write(data)
        if self.link is not None:
            self.link.resume()
        self._work()

    @property
    def _ready(self) -> bytes:
        """ReadyForQuery; an error does not make a transaction fail, for there is none."""
        status = codes.IN_TRANSACTION if self._state.in_block else codes.IDLE
        return messages.ready_for_query(status)

    def _write(self, data: bytes) -> None:
        if self.link is not None:
            self.link.write(data)

    def _refuse(self, error: RouterError) -> None:
        """Tell of an error after which the session goes on."""
        self._error_count += 1
        self._write(messages.error_from(error))

    def _fail(self, error: RouterError) -> None:
        """Tell of an error after which no message boundary can be trusted."""
        self._write(messages.error_from(error, severity="FATAL"))
        self._close(error.message)

    def _close(self, reason: str) -> None:
        if self.link is not None:
            self.link.close()
        self._end(reason)

    def _end(self, reason: str) -> None:
        if not self._ended:
            self._ended = True
            self._input.clear()
            self._orders.clear()
            self._making = self._made = None
            self._on_end(self, reason)
