"""What a server sends, matched against what it was asked: the queue of expected replies.

Theory of operation
-------------------
Whatever is sent to a server belongs to a *segment*: all that one ReadyForQuery will end. A
simple Query is one, so is an extended batch up to its Sync, and so is what the router sends on
its own account (SET, ROLLBACK, a clean-up). Segments wait in a queue in the order of sending;
replies belong to the segment at its head, and ReadyForQuery takes it off.

Each segment has a *sink*: the client whose replies they are, or None for "swallow". Nothing is
ever given to anyone but the head's sink, which is what keeps clients apart.

In most segments every reply goes to the client as it came. Then boundaries are all that
matters, and runs of bytes are handed on uncopied. A segment in which the router left something
out (a Parse that the server does not need) or put something in (a Parse or Close of its own)
has a *script*: one step a message, saying which replies complete it, and whether they are
forwarded, swallowed or made up. An ErrorResponse ends the script: the server skips to the Sync,
and so the effects of all steps that did not happen are undone.

A reply that the queue does not expect means that router and server are out of step, an error
that is never ignored: the connection must then be given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..compiling import mypyc_attr
from ..errors import ServerProtocolError
from . import codes
from .framing import COLLECT_LIMIT, HEADER, SERVER_COLLECTED, SERVER_STREAMED, string_in
from .hooks import ServerHooks
from .messages import is_farewell, is_last, parse_error_fields
from .prepared import UNCLEAR
from .segments import ReplySink, Segment, is_plain
from .steps import EMIT, SWALLOW

if TYPE_CHECKING:
    from ..compiling import i64

# Tags of commands that leave nothing behind on the connection once the transaction is over, by
# their first three letters; any other tag is reported. (SEL covers CREATE TABLE AS as well.)
_HARMLESS_TAGS: Final = frozenset(
    b"SEL INS UPD DEL MER FET MOV COP BEG COM ROL SAV REL STA TRU SHO EXP CLO".split()
)

# Only one of them has these as its first and its third letter.
_S: Final = ord("S")
_L: Final = ord("L")

# So much work is a turn: a message that has to be looked at counts one, and a ReadyForQuery as
# many as it costs more, since the client's next statement may follow from it.
TURN: Final = 512
_READY_COST: Final = 16

# Of an answer so much is kept at most, to be withheld if the server ends.
_HELD_LIMIT: Final = 16384

# Of a number of rows, in digits.
_LONGEST_COUNT: Final = 18

_STREAMED: Final = 1
_COLLECTED: Final = 2
# By type of message, one of these; 0 for what a server does not send here.
_HANDLING: Final = bytes(
    _STREAMED * (kind in SERVER_STREAMED) + _COLLECTED * (kind in SERVER_COLLECTED)
    for kind in range(256)
)
# By type of message, 1 for what needs no look at all in a segment without a script.
_PLAIN: Final = bytes(
    kind in SERVER_STREAMED
    and kind not in (codes.ERROR_RESPONSE, codes.NOTICE_RESPONSE, codes.NOTIFICATION_RESPONSE)
    for kind in range(256)
)


def _too_long(kind: int, length: int) -> ServerProtocolError:
    return ServerProtocolError(f"message type {chr(kind)!r} of {length} bytes is too long")


def _rows_in(data: bytes, start: int, end: int) -> int:
    """The number of rows at the end of the tag data[start:end]; 0 if there is none."""
    rows: i64 = 0
    unit: i64 = 1
    pos: i64 = end - 1
    first: i64 = max(start, end - _LONGEST_COUNT)
    while pos >= first:
        digit: i64 = data[pos] - 48
        if digit < 0 or digit > 9:
            break
        rows += digit * unit
        unit *= 10
        pos -= 1
    return rows


def _sqlstate_in(error: bytes) -> bytes:
    code = error.find(b"\0C")
    return error[code + 2 : code + 7] if code >= 0 else b"XX000"


@mypyc_attr(allow_interpreted_subclasses=True)
class BackendStream(ServerHooks):
    """The server's half of a connection: feed it bytes, it calls sinks and its own hooks.

    Attributes:
        queue: segments that are on their way, the one being answered first.
        status: transaction status of the last ReadyForQuery.
        parameters: what ParameterStatus has told, by name.
        wants_turn: there is more to be dealt with: call `feed` in a while.
        unnamed: the token of the unnamed statement that the server has when it has come to
            the end of the queue; 0 for none of ours, UNCLEAR if that cannot be told.
    """

    def __init__(self) -> None:
        self.queue: list[Segment] = []
        self.status = codes.IDLE
        self.parameters: dict[str, str] = {}
        self.unnamed = 0
        # What has been read and not dealt with, from _start on.
        self._pending = b""
        self._start = 0
        self.wants_turn = False
        # A message of which the head has been dealt with: bytes still to come, its type, and
        # whether they are forwarded.
        self._passing = 0
        self._passing_kind = 0
        self._passing_on = False

    @property
    def mid_message(self) -> bool:
        """Whether a message to the client has been passed on in part."""
        return self._passing > 0

    # --- input

    def feed(self, data: bytes) -> None:
        """Take what the server sent.

        Raises:
            ServerProtocolError: the router and the server are out of step; give it up.
        """
        start: i64 = 0
        if len(self._pending) > 0:
            if data:
                data = self._pending[self._start :] + data
            else:
                data, start = self._pending, self._start
            self._pending = b""
            self._start = 0
        self.wants_turn = False
        end: i64 = len(data)
        pos: i64 = start  # data[start:pos] is looked at and waits to be forwarded
        if self._passing:
            pos, start = self._pass_on(data, end)
        left: i64 = TURN
        queue = self.queue
        plain = is_plain(queue)
        while end - pos >= 5:
            kind: i64 = data[pos]
            # By hand: compiled, this costs less than a call.
            length: i64 = data[pos + 1]
            length = length << 8 | data[pos + 2]
            length = length << 8 | data[pos + 3]
            length = length << 8 | data[pos + 4]
            after: i64 = pos + 1 + length
            if plain and _PLAIN[kind] and after <= end:
                pos = after
                continue
            if left <= 0:
                self.wants_turn = True
                break
            left -= _READY_COST if kind == codes.READY_FOR_QUERY else 1
            if not queue:
                start = pos = self._idle_message(data, pos, end)
                if self._passing or self._pending:
                    return
                continue
            before: i64 = pos
            start, pos = self._message(queue[0], kind, length, data, start, pos)
            if pos == before:
                break  # more of it has to come first
            plain = is_plain(queue)
        if queue:
            self._let_out(queue[0])
        if start < pos and queue:
            segment = queue[0]
            if segment.sink is not None:
                segment.is_heard = True
                segment.size += pos - start
                segment.sink.reply(data[start:pos] if start or pos < end else data)
        if pos < end:
            if self.wants_turn:
                self._pending, self._start = data, pos
            else:
                self._pending = data[pos:]

    def _message(
        self, segment: Segment, kind: int, length: int, data: bytes, start: int, pos: int
    ) -> tuple[int, int]:
        """Deal with one message of a segment.

        Returns:
            The new start of the run and where to go on: where it was, if more has to come.
        """
        if length < 4:
            raise ServerProtocolError("message length is out of range")
        if (
            (kind == codes.ERROR_RESPONSE or kind == codes.NOTICE_RESPONSE)
            and not segment.is_heard
            and self._withholds(segment, kind, data, start, pos, pos + 1 + length)
        ):
            return pos + 1 + length, pos + 1 + length
        if segment.prefix and segment.sink is not None:
            self._give(segment, segment.prefix)
            segment.prefix = b""
        if segment.opening and kind not in b"NAS":
            self._opened(segment, kind)
        scripted = segment.steps is not None
        if scripted:
            start = self._emit_due(segment, data, start, pos)
            if kind in b"tTn" and not self._describes(
                segment, kind, data, pos, pos + 1 + length
            ):
                return start, pos
        handling = _HANDLING[kind]
        if handling == _STREAMED:
            return self._streamed(segment, kind, length, data, start, pos)
        if handling != _COLLECTED:
            raise ServerProtocolError(f"unexpected message type {chr(kind)!r} from the server")
        after = pos + 1 + length
        if after > len(data):
            if length > COLLECT_LIMIT:
                raise _too_long(kind, length)
            return start, pos
        if kind == codes.READY_FOR_QUERY:
            return self._ready(segment, data, start, after)
        if kind == codes.PARAMETER_STATUS:
            start = self._drop(segment, data, start, pos, after)
            self._parameter(string_in(data, pos, after), segment)
            return start, after
        if kind == codes.COMMAND_COMPLETE:
            # The most frequent one by hand: a slice and a look-up cost more.
            is_select = length > 7 and data[pos + 5] == _S and data[pos + 7] == _L
            if not is_select and data[pos + 5 : pos + 8] not in _HARMLESS_TAGS:
                self.on_tag(string_in(data, pos, after))
            if segment.copying:
                segment.complete()
            if segment.fingerprint is not None and not (scripted and self.swallows(segment)):
                segment.completed(_rows_in(data, pos + 5, after - 1))
        elif kind == codes.COPY_IN_RESPONSE:
            return self._copy_in(segment, data, start, after)
        if segment.sink is None or (scripted and not segment.forwards(kind)):
            start = self._drop(segment, data, start, pos, after)
        if scripted:
            start = self._message_end(segment, kind, data, start, after)
        return start, after

    def _streamed(
        self, segment: Segment, kind: int, length: int, data: bytes, start: int, pos: int
    ) -> tuple[int, int]:
        """Deal with a message that may be passed on in pieces; returns as `_message` does."""
        end = len(data)
        after = pos + 1 + length
        if kind == codes.ERROR_RESPONSE:
            # Its code is among the first fields: wait for those.
            if end - pos < 64 and after > end:
                return start, pos
            self._note_error(segment, data, pos, min(after, end))
        if kind == codes.NOTIFICATION_RESPONSE:
            if after > end:
                if length > COLLECT_LIMIT:
                    raise _too_long(kind, length)
                return start, pos
            # It answers nothing; what comes before it may have to be given out first.
            start = self._drop(segment, data, start, pos, pos)
            self._let_out(segment)
            if segment.sink is None:
                self.on_async(data[pos:after])
            elif self.hears(data[pos:after]):
                self._give(segment, data[pos:after])
            return after, after
        forward = segment.sink is not None and (segment.steps is None or segment.forwards(kind))
        if not forward:
            start = self._drop(segment, data, start, pos, min(after, end))
        if after > end:
            self._passing = after - end
            self._passing_kind = kind
            self._passing_on = forward
            return start, end
        if segment.steps is not None or kind == codes.ERROR_RESPONSE:
            start = self._message_end(segment, kind, data, start, after)
        return start, after

    def _ready(self, segment: Segment, data: bytes, start: int, after: int) -> tuple[int, int]:
        """Deal with the ReadyForQuery that ends a segment; returns as `_message` does."""
        self.status = data[after - 1]
        segment.ready()
        self.queue.pop(0)
        sink = segment.sink
        if segment.held:
            self._let_out(segment)
        if sink is None:
            self.on_segment_done(segment)
        elif segment.withheld:
            sink.segment_withheld(segment, self.status)
        else:
            segment.size += after - start
            sink.reply(data[start:after] if start or after < len(data) else data)
            sink.segment_done(segment, self.status)
        return after, after

    @staticmethod
    def _give(segment: Segment, data: bytes) -> None:
        """Give a part of its answer to a segment's client.

        The first parts are kept until the end of what has been read: a server that ends may
        say so in the same breath, see `_withholds`.
        """
        if segment.sink is None:
            return
        segment.held += data
        if segment.is_heard or len(segment.held) > _HELD_LIMIT:
            BackendStream._let_out(segment)

    @staticmethod
    def _let_out(segment: Segment) -> None:
        """Give what is kept of its answer to a segment's client."""
        held = segment.held
        if held and segment.sink is not None:
            segment.held = b""
            segment.is_heard = True
            segment.size += len(held)
            segment.sink.reply(held)

    def _withholds(
        self, segment: Segment, kind: int, data: bytes, start: int, pos: int, after: int
    ) -> bool:
        """Keep the message data[pos:after], and what there is before it, from the client.

        Returns:
            Whether that is done: it is if what was asked could be sent again after it.
        """
        sink = segment.sink
        if sink is None or after > len(data):
            return False
        body = data[pos + 5 : after]
        if kind == codes.NOTICE_RESPONSE:
            if not is_farewell(body):
                return False
            # It is given before the next message, if there is one.
            segment.farewell = data[pos:after]
            segment.prefix = segment.held + segment.prefix + data[start:after]
            segment.held = b""
            return True
        if not sink.withholds(segment, body):
            return False
        segment.withheld = segment.held + data[start:after]
        segment.held = b""
        self._note_error(segment, data, pos, after)
        if segment.steps is not None:
            if is_last(body):
                # Of a server that is gone nothing has to be taken back, and what the client
                # has asked for holds if that is sent again.
                del segment.steps[segment.step :]
            segment.fail()
        return True

    def _opened(self, segment: Segment, kind: int) -> None:
        """The Parse of an unnamed statement, the first of its segment, has been answered."""
        if kind == codes.PARSE_COMPLETE:
            segment.opening = 0
        elif self.unnamed == segment.opening:
            self.lose_unnamed()

    @staticmethod
    def swallows(segment: Segment) -> bool:
        """Whether what is answered next of a segment is of the router's own."""
        steps = segment.steps
        return (
            steps is not None
            and segment.step < len(steps)
            and steps[segment.step].order == SWALLOW
        )

    def lose_unnamed(self) -> None:
        """Whatever was to become of the unnamed statement may not have happened."""
        self.unnamed = UNCLEAR

    def _pass_on(self, data: bytes, end: int) -> tuple[int, int]:
        """Take more of a message whose head is done; returns where to go on, and the start."""
        taken = min(self._passing, end)
        self._passing -= taken
        if not self.queue:
            if self._passing_on:
                self.on_async(data[:taken])
            return taken, taken
        segment = self.queue[0]
        start = 0 if self._passing_on else taken
        if not self._passing:
            start = self._message_end(segment, self._passing_kind, data, start, taken)
        return taken, start

    # --- scripts

    @staticmethod
    def _describes(segment: Segment, kind: int, data: bytes, pos: int, after: int) -> bool:
        """Tell whoever wants to know what is said of a statement; False: when it is here."""
        steps = segment.steps
        if steps is None or segment.failed or segment.step >= len(steps):
            return True
        describing = steps[segment.step].describing
        if describing is None:
            return True
        if after > len(data):
            if after - pos > COLLECT_LIMIT:
                raise _too_long(kind, after - pos)
            return False
        describing.hear(kind, data[pos + 5 : after])
        return True

    def _emit_due(self, segment: Segment, data: bytes, start: int, pos: int) -> int:
        """Give out the made-up replies whose turn it is; returns the new start of the run."""
        steps = segment.steps
        assert steps is not None
        while (
            segment.step < len(steps)
            and steps[segment.step].order == EMIT
            and not segment.failed
        ):
            if segment.sink is not None:
                if start < pos:
                    self._give(segment, data[start:pos])
                    start = pos
                self._give(segment, steps[segment.step].payload)
            segment.step += 1
        return start

    def put_first(self, data: bytes) -> None:
        """What was read before anything is fed comes before that."""
        self._pending = data

    def orphan(self, sink: ReplySink) -> None:
        """Swallow all that is still to come for a client that has left; others get theirs."""
        for segment in self.queue:
            if segment.sink is sink:
                segment.orphan()

    def emit_due(self, segment: Segment) -> None:
        """Give out made-up replies now: the client asked for a Flush and may wait for them."""
        if (
            self.queue
            and self.queue[0] is segment
            and segment.steps is not None
            and not self._passing
        ):
            self._emit_due(segment, b"", 0, 0)
            self._let_out(segment)

    def _drop(self, segment: Segment, data: bytes, start: int, pos: int, after: int) -> int:
        """Leave data[pos:after] out of the run; returns the new start."""
        if start < pos:
            self._give(segment, data[start:pos])
        return after

    def _message_end(
        self, segment: Segment, kind: int, data: bytes, start: int, pos: int
    ) -> int:
        """Go on in the script after a whole message; returns the new start of the run."""
        if kind == codes.ERROR_RESPONSE:
            instead = segment.fail() if segment.steps is not None else b""
            if instead and segment.sink is not None:
                if start < pos:
                    self._give(segment, data[start:pos])
                    start = pos
                self._give(segment, instead)
            if segment.is_open:
                self._let_out(segment)
                self.on_script_done()
            return start
        steps = segment.steps
        if steps is None or segment.failed or kind in b"NA":
            return start
        if segment.step >= len(steps):
            if kind in b"dDcHt":
                return start
            raise ServerProtocolError(f"unexpected reply {chr(kind)!r} from the server")
        step = steps[segment.step]
        if kind in step.completes:
            segment.step_done(step)
            start = self._emit_due(segment, data, start, pos)
            if segment.is_open and segment.step == len(steps):
                if start < pos:
                    self._give(segment, data[start:pos])
                    start = pos
                self._let_out(segment)
                self.on_script_done()
            return start
        if kind in b"123":
            raise ServerProtocolError(f"unexpected reply {chr(kind)!r} from the server")
        return start

    # --- single messages

    def _note_error(self, segment: Segment, data: bytes, pos: int, stop: int) -> None:
        head = data[pos + 5 : stop]
        code = head.find(b"\0C")
        if not segment.sqlstate:
            segment.sqlstate = _sqlstate_in(segment.instead or head)
        if segment.steps is None:
            segment.fail()  # with a script that is done when all of the message is here
        if segment.sink is None:
            segment.error = parse_error_fields(head[:8192])
        self.on_error(head[code + 2 : code + 7] if code >= 0 else b"", head)

    def _parameter(self, pair: bytes, segment: Segment | None) -> None:
        if segment is not None:
            self._let_out(segment)  # whoever hears of it may tell the client at once
        name, _, value = pair.partition(b"\0")
        key = name.decode("utf-8", "replace")
        text = value.decode("utf-8", "surrogateescape")
        self.parameters[key] = text
        self.on_parameter(key, text, segment is not None and segment.sink is None)

    def _copy_in(
        self, segment: Segment, data: bytes, start: int, after: int
    ) -> tuple[int, int]:
        """The server reads CopyData from here on; returns as `_message` does."""
        if segment.copy_in():
            segment.void_syncs(self.queue)
            self.lose_unnamed()
        if segment.orphaned:
            self.on_orphaned_copy(segment)
        self._give(segment, data[start:after])
        self._let_out(segment)
        self.on_script_done()
        return after, after

    def _idle_message(self, data: bytes, pos: int, end: int) -> int:
        """Deal with a message that answers nothing; returns where the next one begins."""
        kind, length = HEADER.unpack_from(data, pos)
        after: int = pos + 1 + length
        if kind not in b"NAES" or length < 4:
            raise ServerProtocolError(
                f"unexpected message type {chr(kind)!r} from an idle server"
            )
        if after > end and kind in b"AES":
            if length > COLLECT_LIMIT:
                raise _too_long(kind, length)
            self._pending = data[pos:]
            return end
        if kind == codes.PARAMETER_STATUS:
            self._parameter(string_in(data, pos, after), None)
            return after
        if kind == codes.ERROR_RESPONSE:
            head = data[pos + 5 : after]
            code = head.find(b"\0C")
            self.on_error(head[code + 2 : code + 7] if code >= 0 else b"", head)
        self.on_async(data[pos:after])
        if after > end:
            self._passing, self._passing_kind, self._passing_on = after - end, kind, True
            return end
        return after
