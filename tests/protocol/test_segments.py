"""Scripts that end early, and the Syncs that a COPY voids."""

from __future__ import annotations

from collections import deque
from functools import partial

from router.protocol.segments import (
    EMIT,
    FORWARD,
    FORWARD_BIND,
    FORWARD_EXECUTE,
    REPLACE_ERROR,
    SWALLOW,
    ReplySink,
    Segment,
    Step,
    abort_script,
    is_done,
    is_forwarded,
    void_syncs,
)


class Sink(ReplySink):
    """A client that does not listen."""

    def reply(self, data: bytes) -> None: ...

    def segment_done(self, segment: Segment, status: int) -> None: ...


def batch(sink: ReplySink | None, *steps: Step, synced: bool = True) -> Segment:
    """An extended batch."""
    assert sink is not None
    segment = Segment.batch(sink)
    segment.steps = list(steps)
    segment.synced = synced
    return segment


def copying(*steps: Step) -> Segment:
    """A batch whose server has just asked for CopyData."""
    segment = batch(Sink(), *steps)
    segment.copies = 1
    segment.copying = True
    return segment


# --- errors


def test_an_error_undoes_what_is_left_last_first_and_once() -> None:
    undone: list[int] = []
    steps = [Step(FORWARD, b"1", undo=partial(undone.append, n)) for n in range(3)]
    segment = batch(Sink(), *steps)
    segment.step = 1
    assert abort_script(segment) == b""
    assert abort_script(segment) == b""
    assert undone == [2, 1]
    assert is_done(segment)


def test_only_the_step_that_is_bound_to_fail_has_its_error_replaced() -> None:
    poisoned = Step(REPLACE_ERROR, b"", b"ours")
    assert abort_script(batch(Sink(), poisoned)) == b"ours"
    assert abort_script(batch(Sink(), FORWARD_BIND, poisoned)) == b""


def test_what_is_swallowed_lets_errors_and_notices_through() -> None:
    segment = batch(Sink(), Step(SWALLOW, b"1"))
    assert not is_forwarded(segment, ord("1"))
    assert all(is_forwarded(segment, kind) for kind in b"ENA")
    segment.failed = True
    assert is_forwarded(segment, ord("1"))


def test_a_script_is_done_when_all_of_it_has_happened() -> None:
    segment = batch(Sink(), FORWARD_BIND)
    assert not is_done(segment)
    segment.step = 1
    assert is_done(segment)
    assert is_done(Segment(Sink()))


# --- COPY


def test_the_sync_before_the_data_is_void() -> None:
    segment = copying(FORWARD_EXECUTE)
    queue = deque([segment])
    void_syncs(queue)
    assert not segment.synced
    assert list(queue) == [segment]


def test_empty_syncs_behind_it_are_void_too() -> None:
    segment = copying(FORWARD_EXECUTE)
    empty = batch(segment.sink)
    empty.empty = True
    queue = deque([segment, empty])
    void_syncs(queue)
    assert list(queue) == [segment]
    assert not segment.synced


def test_a_batch_behind_an_ended_copy_joins_it() -> None:
    segment = copying(FORWARD_EXECUTE)
    segment.dones = 1
    made_up = Step(EMIT, b"", b"1")
    queue = deque([segment, batch(segment.sink, FORWARD_BIND, made_up)])
    void_syncs(queue)
    assert segment.synced
    assert segment.steps == [FORWARD_EXECUTE, FORWARD_BIND, made_up]


def test_a_batch_without_a_script_leaves_none_to_the_copy() -> None:
    segment = copying(FORWARD_EXECUTE)
    segment.dones = 1
    plain = batch(segment.sink)
    plain.steps = None
    void_syncs(deque([segment, plain]))
    assert segment.steps is None
    assert segment.synced


def test_a_copy_without_a_script_has_only_its_own_end_to_come() -> None:
    segment = copying()
    segment.steps = None
    void_syncs(deque([segment]))
    assert segment.steps == [FORWARD_EXECUTE]


def test_a_batch_that_fails_the_copy_is_undone() -> None:
    undone: list[str] = []
    segment = copying(FORWARD_EXECUTE)
    follower = batch(
        segment.sink,
        Step(FORWARD, b"1", undo=lambda: undone.append("parse")),
    )
    void_syncs(deque([segment, follower]))
    assert undone == ["parse"]
    assert segment.synced


def test_segments_of_others_are_left_alone() -> None:
    segment = copying(FORWARD_EXECUTE)
    other = batch(Sink())
    other.empty = True
    queue = deque([segment, other])
    void_syncs(queue)
    assert list(queue) == [segment, other]
