"""What a server is asked, and what becomes of each answer: segments and the steps of a script.

A segment is all that one ReadyForQuery ends. Its life is a table, `_TRANSITIONS`: in which
phase it is, what may happen to it there, and in which phase it is then. What others do to a
segment they do by a verb (`sync`, `end_copy`, `fail`, ...), and every verb goes through that
table. `backend` explains how segments are used.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from ..compiling import mypyc_attr
from ..errors import ServerProtocolError
from . import codes
from .steps import EMIT, FORWARD_EXECUTE, REPLACE_ERROR, SWALLOW, Step, undo_steps

if TYPE_CHECKING:
    from .naming import Change

# So many steps of a script are kept that have been answered.
_DONE_STEPS: Final = 1000

# So many forms of statements are told apart in one segment.
_TOLD_APART: Final = 50

# --- phases of a segment

OPEN: Final = 0
"""An extended batch whose Sync has not been sent; the server acts on it as it comes."""
OPEN_COPY: Final = 1
"""Open, and the server reads CopyData: a Sync means nothing to it until that has ended."""
OPEN_FAILED: Final = 2
"""Open, and the server skips what comes until the Sync."""
SENT: Final = 3
"""What ends it is on its way: a Sync, or it is a Query."""
SENT_COPY: Final = 4
"""The same, and the server reads CopyData."""
SENT_FAILED: Final = 5
"""The same, and an ErrorResponse has arrived: all that can follow is the ReadyForQuery."""
ENDED: Final = 6
"""Its ReadyForQuery has arrived."""
ENDED_FAILED: Final = 7
"""The same, after an ErrorResponse."""

_PHASES: Final = (
    "open",
    "open, in COPY",
    "open, failed",
    "sent",
    "sent, in COPY",
    "sent, failed",
    "ended",
    "ended, failed",
)

# --- what happens to it: sent by us, or said by the server

SYNC: Final = 0  # Sync is sent
QUERY: Final = 1  # a Query is sent into the open batch, and ends it
END_COPY: Final = 2  # CopyDone or CopyFail is sent, perhaps before it is asked for
VOID_SYNC: Final = 3  # the Sync that was sent turns out to have met a server in COPY
COPY_IN: Final = 4  # CopyInResponse: the server reads CopyData
COPY_EARLY: Final = 5  # CopyInResponse, and the end of that copy has been sent already
COMPLETE: Final = 6  # CommandComplete
ERROR: Final = 7  # ErrorResponse
READY: Final = 8  # ReadyForQuery

_EVENTS: Final = (
    "Sync",
    "Query",
    "the end of COPY",
    "a void Sync",
    "CopyInResponse",
    "CopyInResponse",
    "CommandComplete",
    "ErrorResponse",
    "ReadyForQuery",
)
_SAID_BY_SERVER: Final = COPY_IN

_TRANSITIONS: Final = {
    OPEN: {
        SYNC: SENT,
        QUERY: SENT,
        END_COPY: OPEN,
        COPY_IN: OPEN_COPY,
        COPY_EARLY: OPEN,
        COMPLETE: OPEN,
        ERROR: OPEN_FAILED,
    },
    OPEN_COPY: {
        # Of a batch that was sent behind the copy and is joined to it: makes the copy fail.
        SYNC: SENT_COPY,
        END_COPY: OPEN,
        COPY_IN: OPEN_COPY,
        COMPLETE: OPEN,
        ERROR: OPEN_FAILED,
    },
    OPEN_FAILED: {SYNC: SENT_FAILED, END_COPY: OPEN_FAILED, ERROR: OPEN_FAILED},
    SENT: {
        END_COPY: SENT,
        VOID_SYNC: OPEN,
        COPY_IN: SENT_COPY,
        COPY_EARLY: SENT,
        COMPLETE: SENT,
        ERROR: SENT_FAILED,
        READY: ENDED,
    },
    SENT_COPY: {
        END_COPY: SENT,
        VOID_SYNC: OPEN_COPY,
        COPY_IN: SENT_COPY,
        COPY_EARLY: SENT,
        COMPLETE: SENT,
        ERROR: SENT_FAILED,
    },
    SENT_FAILED: {END_COPY: SENT_FAILED, ERROR: SENT_FAILED, READY: ENDED_FAILED},
    ENDED: {},
    ENDED_FAILED: {},
}
_ILLEGAL: Final = 255
# The same by number, because this is looked at for every segment.
_WIDTH: Final = len(_EVENTS)
_NEXT: Final = bytes(
    _TRANSITIONS[phase].get(event, _ILLEGAL)
    for phase in range(len(_PHASES))
    for event in range(_WIDTH)
)


@mypyc_attr(allow_interpreted_subclasses=True)
class ReplySink:
    """Whoever gets the replies of a segment.

    A class and not a Protocol, so that compiled code calls it directly.
    """

    __slots__ = ()

    def reply(self, data: bytes) -> None:
        """Take bytes for the client, in order."""
        raise NotImplementedError

    def segment_done(self, segment: Segment, status: int) -> None:
        """Learn that the segment's ReadyForQuery has been given out."""
        raise NotImplementedError

    def withholds(self, segment: Segment, error: bytes) -> bool:
        """Whether not to be told of an error, the first that there is to hear of a segment."""
        return False

    def segment_withheld(self, segment: Segment, status: int) -> None:
        """Learn that a segment with an error that was withheld is over."""
        raise NotImplementedError


class Segment:
    """All that one ReadyForQuery ends: a Query, or an extended batch up to its Sync.

    Attributes:
        sink: who gets the replies; None swallows them.
        phase: see `_TRANSITIONS`.
        extended: whether the server skips to the Sync after an error.
        prefix: a reply of our own to give out before the server's first, and its `farewell`.
        opening: the token of the unnamed statement whose Parse is its first message; 0 as soon
            as that has succeeded.
        steps: the script, or None when everything is forwarded as it comes.
        step: how many steps are done.
        empty: a Sync alone.
        has_bound: there has been a Bind, so that something may have been executed.
        resets_all: a RESET in it is to be taken for RESET ALL.
        is_set_local: whatever is SET in it holds for the transaction only.
        orphaned: its client has left; what it says does not matter any more.
        started: when it was sent, as time.monotonic().
        owes_sync: the client has sent a Sync that was kept from a server in COPY.
        error: the ErrorResponse of a swallowed segment, by field code.
        request: what its client has sent, as long as that could be sent again.
        lost_with: the server connection that it was sent to before, and that was lost.
        is_heard: a part of the answer has been given to its client.
        held: a part of the answer that is given to the client when all is dealt with that has
            been read.
        withheld: the answer up to its error, which has not been given to the client.
        farewell: the server's warning that it is stopped, if that was all that came.
        fingerprint: that of its statement, of the one that is answered next; None: not counted.
        parsed: that of a statement that it has only prepared.
        behind: those of the statements behind `fingerprint`, in the order of their Binds.
        done: of the statements before it, by fingerprint, how many, and of how many rows.
        rows: of the statement, by its tag.
        size: of the answer so far, in bytes.
        waited: how long its client has waited for the server, in seconds.
        stalled: for how long the client did not take its answer.
        sqlstate: of its first error.
        changes: what it may change about names of statements, each as soon as its tag comes.
    """

    # Defaults are on the class: most segments, of which each query has one, change but few.
    phase = SENT
    extended = False
    prefix = b""
    opening = 0
    steps: list[Step] | None = None
    step = 0
    empty = False
    has_bound = False
    resets_all = False
    is_set_local = False
    orphaned = False
    owes_sync = False
    error: dict[str, str] | None = None
    request: object = None
    lost_with: object = None
    is_heard = False
    held = b""
    withheld = b""
    farewell = b""
    fingerprint: object = None
    parsed: object = None
    behind: deque[object] | None = None
    done: dict[object, list[int]] | None = None
    rows = 0
    size = 0
    waited = 0.0
    stalled = 0.0
    sqlstate = b""
    changes: deque[Change] | None = None
    # CopyInResponses that have arrived; CopyDones and CopyFails that were sent while this was
    # the last segment, and how many of these before the Sync.
    _copies = 0
    _ends = 0
    _ends_at_sync = 0

    def __init__(self, sink: ReplySink | None, started: float = 0.0) -> None:
        """A Query or FunctionCall, which ends by itself."""
        self.sink = sink
        self.started = started

    @staticmethod
    def batch(sink: ReplySink, started: float = 0.0) -> Segment:
        """An extended batch that waits for its Sync."""
        segment = Segment(sink, started)
        segment.phase = OPEN
        segment.extended = True
        segment.steps = []
        return segment

    @staticmethod
    def own_batch() -> Segment:
        """A batch of the router's own that is sent with its Sync, and heard by nobody."""
        segment = Segment(None)
        segment.extended = True
        return segment

    @staticmethod
    def whole_batch(sink: ReplySink, started: float) -> Segment:
        """An extended batch that is sent with its Sync, whose replies are only forwarded."""
        segment = Segment(sink, started)
        segment.extended = True
        segment.has_bound = True
        return segment

    def __repr__(self) -> str:
        return f"<Segment {_PHASES[self.phase]}>"

    def _happens(self, event: int) -> None:
        """Go to the next phase; the only place that does.

        Raises:
            ServerProtocolError: the server says what it cannot say now.
        """
        following = _NEXT[self.phase * _WIDTH + event]
        if following == _ILLEGAL:
            what = f"{_EVENTS[event]} in a segment that is {_PHASES[self.phase]}"
            if event < _SAID_BY_SERVER:
                raise AssertionError(what)
            raise ServerProtocolError(f"unexpected {what}")
        self.phase = following

    # --- facts

    @property
    def is_open(self) -> bool:
        """Whether its Sync is still to be sent."""
        return self.phase <= OPEN_FAILED

    @property
    def failed(self) -> bool:
        """Whether an ErrorResponse has arrived."""
        return self.phase in (OPEN_FAILED, SENT_FAILED, ENDED_FAILED)

    @property
    def copying(self) -> bool:
        """Whether the server reads CopyData, of which the end has not been sent."""
        return self.phase in (OPEN_COPY, SENT_COPY)

    @property
    def is_blank(self) -> bool:
        """Whether nothing has been asked and nothing is to be made up yet."""
        return not self.steps and not self.prefix

    @property
    def is_done(self) -> bool:
        """Whether a ReadyForQuery may come: nothing that the script expects is missing."""
        steps = self.steps
        return steps is None or self.failed or self.orphaned or self.step >= len(steps)

    @property
    def awaits_error(self) -> bool:
        """Whether what is answered next is bound to fail."""
        return bool(self.instead)

    @property
    def instead(self) -> bytes:
        """The ErrorResponse that stands in for the one that is bound to come now, if one is."""
        steps = self.steps
        if steps is None or self.step >= len(steps):
            return b""
        step = steps[self.step]
        return step.payload if step.order == REPLACE_ERROR else b""

    def is_answered(self, queue: list[Segment]) -> bool:
        """Whether there is nothing of this open batch that has not been answered."""
        steps = self.steps
        return (
            steps is not None
            and self.step == len(steps)
            and not self.prefix
            and queue[0] is self
        )

    def forwards(self, kind: int) -> bool:
        """Whether a message goes to the client, given the script."""
        steps = self.steps
        if steps is None or self.failed or self.step >= len(steps):
            return True
        order = steps[self.step].order
        if order == REPLACE_ERROR:
            return kind != codes.ERROR_RESPONSE
        return order != SWALLOW or kind in b"ENA"

    # --- what is counted

    def follow(self, fingerprint: object) -> None:
        """A statement of this fingerprint is sent in it."""
        if self.fingerprint is None:
            self.fingerprint = fingerprint
        elif fingerprint is not None:
            if self.behind is None:
                self.behind = deque()
            self.behind.append(fingerprint)

    def completed(self, rows: int) -> None:
        """A statement has had so many rows; what else is answered is that of the next one."""
        self.rows += rows
        if self.behind:
            self.pass_over()

    def pass_over(self) -> None:
        """Go on to the statement behind the one that has been answered."""
        assert self.behind is not None
        if self.done is None:
            self.done = {}
        fingerprint = self.fingerprint
        if fingerprint not in self.done and len(self.done) >= _TOLD_APART:
            fingerprint = next(iter(self.done))  # its rows are then not known exactly
        counted = self.done.setdefault(fingerprint, [0, 0])
        counted[0] += 1
        counted[1] += self.rows
        self.rows = 0
        self.fingerprint = self.behind.popleft()

    # --- what is sent

    def expect(self, step: Step) -> None:
        """A message is sent: this is what becomes of its reply."""
        if self.steps is not None:
            self.steps.append(step)

    def sync(self, *, keep_script: bool) -> None:
        """The Sync is sent.

        A script is kept if there is something in it that is not simply forwarded; and by a
        batch that has begun to be answered, since it counts from the start.
        """
        if self.is_blank and not self.copying:
            self.empty = True
        if not keep_script and self.step == 0 and not self.failed:
            self.steps = None
        self._ends_at_sync = self._ends
        self._happens(SYNC)

    def end_with_query(self) -> None:
        """A Query is sent into the batch, of which all has been answered, and ends it."""
        self._happens(QUERY)
        self.extended = False
        self.steps = None

    def end_with_answer(self, reply: bytes) -> None:
        """An empty Query is sent into the batch and ends it; its reply is this one."""
        self._happens(QUERY)
        self.extended = False
        self.expect(Step(SWALLOW, b"I"))
        self.expect(Step(EMIT, b"", reply))

    def flush(self) -> None:
        """A Flush is sent: the client waits for what is to be made up before all else.

        So that becomes a step like others.
        """
        if self.prefix and self.steps is not None:
            self.steps.insert(0, Step(EMIT, b"", self.prefix))
            self.prefix = b""

    def end_copy(self) -> None:
        """CopyDone or CopyFail is sent.

        A client need not wait for the CopyInResponse: what comes early is counted, and ends the
        copy as soon as that begins.
        """
        self._ends += 1
        self._happens(END_COPY)

    def hold_sync(self) -> None:
        """The client has sent a Sync while the server reads CopyData, which ignores it.

        It must not be passed on, because nobody knows yet whether that COPY has failed: then
        the server would answer it, and the router would not expect that. So in a batch it is
        sent as soon as the COPY is known to have failed, and means nothing if it never does.
        """
        self.owes_sync = True

    def cut(self) -> None:
        """CopyFail, what is bound to fail, and Sync are sent, for a client that has left.

        The one fails a copy that is under way or to come, the other anything else.
        """
        self._ends += 1
        self._ends_at_sync = self._ends
        if self.copying:
            self._happens(END_COPY)
        self._happens(SYNC)

    def orphan(self) -> None:
        """The client has left: swallow all that is still to come."""
        self.sink = None
        self.orphaned = True

    # --- what the server says

    def copy_in(self) -> bool:
        """CopyInResponse has arrived; returns whether it makes the Sync void.

        From here on the server ignores every Sync. So in the extended protocol, unless the end
        of the copy was sent before it, the Sync that has been sent did not count.
        """
        self._copies += 1
        self._happens(COPY_IN if self._copies > self._ends else COPY_EARLY)
        return self.extended and not self.is_open and self._copies > self._ends_at_sync

    def complete(self) -> None:
        """CommandComplete has arrived."""
        self._happens(COMPLETE)

    def fail(self) -> bytes:
        """ErrorResponse has arrived, which ends the script; returns what stands in for it.

        The server skips to the Sync, so what was assumed about the steps that will not happen
        is taken back, last first.
        """
        is_first = not self.failed
        self._happens(ERROR)
        steps = self.steps
        if steps is None or not is_first:
            return b""
        left = steps[self.step :]
        del steps[self.step :]
        if not left:
            return b""
        undo_steps(left[1:])
        first = left[0]
        undo = first.failed or first.undo
        if undo is not None:
            undo()
        return first.payload if first.order == REPLACE_ERROR else b""

    def step_done(self, step: Step) -> None:
        """The step whose turn it is has been answered."""
        if step.done is not None:
            step.done()
        self.step += 1
        if self.step > _DONE_STEPS and self.steps is not None:
            # A batch without an end must not fill the memory; one is left to tell that it has
            # begun to be answered.
            del self.steps[: self.step - 1]
            self.step = 1

    def ready(self) -> None:
        """ReadyForQuery has arrived.

        Raises:
            ServerProtocolError: something is missing before it.
        """
        if not self.is_done:
            raise ServerProtocolError("the server skipped a reply")
        self._happens(READY)

    def void_syncs(self, queue: list[Segment]) -> None:
        """The server of this segment, the first, reads CopyData: see which Syncs mean nothing.

        The segment is open again, until the Sync that counts. What the same client has sent
        behind it was read by a server in COPY:

        - a Sync alone is ignored, but an end of COPY that was sent with it counts;
        - if the copy was ended before, the next batch is read as always, and the two are one;
        - else the first message of the next batch makes the server fail the copy, and skip to
          that batch's Sync: nothing of that batch happens.
        """
        if self.steps is None:
            self.steps = [FORWARD_EXECUTE]  # the copy's own is all that is left
        is_over = self._ends >= self._copies  # the copy was ended before the next segment
        self._happens(VOID_SYNC)
        while len(queue) > 1:
            follower = queue[1]
            if follower.sink is not self.sink or follower.orphaned is not self.orphaned:
                break
            del queue[1]
            if not is_over and follower.empty:
                is_over = follower._ends > 0
                self._ends += follower._ends
                if is_over and self.copying:
                    self._happens(END_COPY)
                continue
            if not is_over:
                undo_steps(follower.steps)
            elif follower.steps is None:
                self.steps = None
            elif self.steps is not None:
                self.steps.extend(follower.steps)
            self._ends_at_sync = self._ends
            if not follower.is_open:
                self._happens(SYNC)
            break


def is_plain(queue: list[Segment]) -> bool:
    """Whether most messages can be passed over in the segment that is now the first."""
    if not queue:
        return False
    segment = queue[0]
    return (
        segment.steps is None
        and not segment.prefix
        and not segment.opening
        and segment.sink is not None
    )
