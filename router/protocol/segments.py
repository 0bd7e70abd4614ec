"""What a server is asked, and what becomes of each answer: segments, and the steps of a script.

`backend` explains how they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..compiling import mypyc_attr
from . import codes

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

# --- steps of a script

FORWARD: Final = 0
SWALLOW: Final = 1
EMIT: Final = 2
REPLACE_ERROR: Final = 3


class Step:
    """What one message to the server will be answered with, and what becomes of the answer.

    Attributes:
        order: FORWARD, SWALLOW, EMIT (no message was sent: `payload` is the reply), or
            REPLACE_ERROR (the message is bound to fail: `payload` stands in for the error).
        completes: the types of reply that complete it.
        undo: takes back what was assumed about it, if it turns out not to happen.
        done: told when it has happened.
        failed: called instead of `undo` if it is this message that fails.
    """

    __slots__ = ("completes", "done", "failed", "order", "payload", "undo")

    def __init__(
        self,
        order: int,
        completes: bytes,
        payload: bytes = b"",
        undo: Callable[[], None] | None = None,
        done: Callable[[], None] | None = None,
        failed: Callable[[], None] | None = None,
    ) -> None:
        self.order: Final = order
        self.completes: Final = completes
        self.payload: Final = payload
        self.undo: Final = undo
        self.done: Final = done
        self.failed: Final = failed


# The messages that need no undo share their steps.
FORWARD_PARSE: Final = Step(FORWARD, b"1")
FORWARD_BIND: Final = Step(FORWARD, b"2")
FORWARD_CLOSE: Final = Step(FORWARD, b"3")
FORWARD_DESCRIBE: Final = Step(FORWARD, b"Tn")
FORWARD_EXECUTE: Final = Step(FORWARD, b"CIs")


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


class Segment:
    """All that one ReadyForQuery ends.

    Attributes:
        sink: who gets the replies; None swallows them.
        extended: whether the server skips to the Sync after an error.
        prefix: a reply of our own to give out before the server's first.
        opening: the token of the unnamed statement whose Parse is its first message; 0 as soon
            as that has succeeded.
        steps: the script, or None when everything is forwarded as it comes.
        step: how many steps are done.
        failed: an ErrorResponse has arrived.
        copying: CopyInResponse has arrived, and the client has not ended the copy.
        copies: CopyInResponses that have arrived.
        dones: CopyDones and CopyFails that were sent while this was the last segment;
            `dones_at_sync` of them before the Sync.
        synced: the Sync has been sent; False for a batch that is still open.
        empty: a Sync alone.
        has_bound: there has been a Bind, so that something may have been executed.
        resets_all: a RESET in it is to be taken for RESET ALL.
        orphaned: its client has left; what it says does not matter any more.
        started: when it was sent, as time.monotonic().
        error: the ErrorResponse of a swallowed segment, by field code.
    """

    # Defaults are on the class: most segments change two or three of these, and one is made for
    # every query.
    prefix = b""
    opening = 0
    steps: list[Step] | None = None
    step = 0
    failed = False
    copying = False
    copies = 0
    dones = 0
    dones_at_sync = 0
    empty = False
    has_bound = False
    resets_all = False
    orphaned = False
    started = 0.0
    error: dict[str, str] | None = None
    extended = False
    synced = True

    def __init__(self, sink: ReplySink | None) -> None:
        self.sink = sink

    @classmethod
    def batch(cls, sink: ReplySink) -> Segment:
        """An extended batch that waits for its Sync."""
        segment = cls(sink)
        segment.extended = True
        segment.synced = False
        segment.steps = []
        return segment


def undo_steps(steps: list[Step] | None) -> None:
    """Take back, last first, what was assumed about steps that will not happen."""
    for step in reversed(steps or ()):
        if step.undo is not None:
            step.undo()


def is_plain(queue: deque[Segment]) -> bool:
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


def is_forwarded(segment: Segment, kind: int) -> bool:
    """Whether a message goes to the client, given the script."""
    steps = segment.steps
    if steps is None or segment.failed or segment.step >= len(steps):
        return True
    order = steps[segment.step].order
    if order == REPLACE_ERROR:
        return kind != codes.ERROR_RESPONSE
    return order != SWALLOW or kind in b"ENA"


def awaits_error(segment: Segment) -> bool:
    """Whether what is answered next is bound to fail."""
    steps = segment.steps
    return (
        steps is not None
        and segment.step < len(steps)
        and steps[segment.step].order == REPLACE_ERROR
    )


def abort_script(segment: Segment) -> bytes:
    """An ErrorResponse ends the script; returns what stands in for it, or b""."""
    steps = segment.steps
    is_first, segment.failed = not segment.failed, True
    if steps is None or not is_first:
        return b""
    left = steps[segment.step :]
    del steps[segment.step :]
    if not left:
        return b""
    undo_steps(left[1:])
    first = left[0]
    undo = first.failed or first.undo
    if undo is not None:
        undo()
    return first.payload if first.order == REPLACE_ERROR else b""


def is_done(segment: Segment) -> bool:
    """Whether a ReadyForQuery may come: nothing that the script expects is missing."""
    steps = segment.steps
    return steps is None or segment.failed or segment.orphaned or segment.step >= len(steps)


def is_answered(segment: Segment, queue: deque[Segment]) -> bool:
    """Whether there is nothing of an open batch that has not been answered."""
    steps = segment.steps
    return (
        steps is not None
        and segment.step == len(steps)
        and not segment.prefix
        and queue[0] is segment
    )


def void_syncs(queue: deque[Segment]) -> None:
    """The first segment's server reads CopyData: see which of the next Syncs mean nothing.

    The first segment is open again, until the Sync that counts. A batch behind it that is not
    empty makes the server fail the copy, and skip to the Sync of that batch.
    """
    segment = queue[0]
    segment.synced = False
    if segment.steps is None:
        segment.steps = [FORWARD_EXECUTE]  # the copy's own is all that is left
    done = segment.dones >= segment.copies  # the copy was ended before the next segment
    while len(queue) > 1 and queue[1].sink is segment.sink:
        follower = queue[1]
        del queue[1]
        if not done and follower.empty:
            done = follower.dones > 0
            segment.dones += follower.dones
            continue
        segment.synced = follower.synced
        segment.dones_at_sync = segment.dones
        if not done:
            undo_steps(follower.steps)
        elif follower.steps is None:
            segment.steps = None
        else:
            segment.steps.extend(follower.steps)
        break
