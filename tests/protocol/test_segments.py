"""The life of a segment: its table, scripts that end early, and the Syncs that a COPY voids."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.errors import ServerProtocolError
from router.protocol import segments
from router.protocol.segments import ReplySink, Segment
from router.protocol.steps import (
    EMIT,
    FORWARD,
    FORWARD_BIND,
    FORWARD_EXECUTE,
    REPLACE_ERROR,
    SWALLOW,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Sink(ReplySink):
    """A client that does not listen."""

    def reply(self, data: bytes) -> None: ...

    def segment_done(self, segment: Segment, status: int) -> None: ...


def batch(sink: ReplySink, *steps: Step, synced: bool = True) -> Segment:
    """An extended batch, whose script is kept."""
    segment = Segment.batch(sink)
    for step in steps:
        segment.expect(step)
    if synced:
        segment.sync(keep_script=True)
    return segment


def follower(segment: Segment, *steps: Step, keep_script: bool = True) -> Segment:
    """Another batch of the same client."""
    assert segment.sink is not None
    following = batch(segment.sink, *steps, synced=False)
    following.sync(keep_script=keep_script)
    return following


# --- the table

VERBS: dict[str, tuple[Callable[[Segment], object], bool]] = {
    # What is done, and whether it is the server that says it.
    "sync": (lambda segment: segment.sync(keep_script=False), False),
    "query": (lambda segment: segment.end_with_query(), False),
    "end_copy": (lambda segment: segment.end_copy(), False),
    "cut": (lambda segment: segment.cut(), False),
    "copy_in": (lambda segment: segment.copy_in(), True),
    "complete": (lambda segment: segment.complete(), True),
    "fail": (lambda segment: segment.fail(), True),
    "ready": (lambda segment: segment.ready(), True),
}
OPEN_PHASES = (segments.OPEN, segments.OPEN_COPY, segments.OPEN_FAILED)


@given(st.booleans(), st.lists(st.sampled_from(sorted(VERBS)), max_size=12))
def test_whatever_happens_a_segment_is_in_one_phase_or_says_who_is_wrong(
    is_batch: bool, events: list[str]
) -> None:
    segment = Segment.batch(Sink()) if is_batch else Segment(Sink())
    sync_was_sent = not is_batch
    for event in events:
        verb, is_said_by_server = VERBS[event]
        before, was_failed = segment.phase, segment.failed
        try:
            verb(segment)
        except ServerProtocolError:
            assert is_said_by_server
            assert segment.phase == before
            return
        except AssertionError:
            assert not is_said_by_server
            assert segment.phase == before or event == "cut"
            return
        sync_was_sent |= event in ("sync", "query", "cut")
        # Facts that others count on, whatever the way here was.
        assert segment.is_open == (segment.phase in OPEN_PHASES)
        assert not (segment.failed and segment.copying)
        assert segment.failed or not was_failed
        assert sync_was_sent or segment.is_open or was_failed
        if segment.phase in (segments.ENDED, segments.ENDED_FAILED):
            assert event == "ready"


def test_only_the_end_that_has_been_sent_can_be_answered() -> None:
    with pytest.raises(ServerProtocolError, match="ReadyForQuery"):
        Segment.batch(Sink()).ready()


def test_a_segment_ends_once() -> None:
    segment = Segment(Sink())
    segment.ready()
    for verb, is_said_by_server in VERBS.values():
        error = ServerProtocolError if is_said_by_server else AssertionError
        with pytest.raises(error):
            verb(segment)


def test_no_sync_is_sent_twice() -> None:
    segment = batch(Sink())
    with pytest.raises(AssertionError, match="Sync"):
        segment.sync(keep_script=True)


def test_an_end_of_copy_that_was_sent_early_ends_the_copy_when_it_begins() -> None:
    segment = Segment(Sink())
    segment.end_copy()
    assert not segment.copy_in()
    assert not segment.copying
    segment.copy_in()  # the second COPY of the Query has no end yet
    assert segment.copying
    segment.end_copy()
    assert not segment.copying


@pytest.mark.parametrize("synced", [False, True])
def test_the_end_of_a_copy_that_has_failed_changes_nothing(synced: bool) -> None:
    segment = batch(Sink(), FORWARD_EXECUTE, synced=synced)
    segment.fail()
    phase = segment.phase
    segment.end_copy()
    assert segment.phase == phase


def test_a_sync_alone_is_empty_and_one_behind_something_made_up_is_not() -> None:
    assert batch(Sink()).empty
    assert not batch(Sink(), FORWARD_BIND).empty
    prefixed = Segment.batch(Sink())
    prefixed.prefix = b"1"
    prefixed.sync(keep_script=False)
    assert not prefixed.empty


def test_a_script_of_nothing_but_forwarding_ends_with_the_sync() -> None:
    plain = batch(Sink(), FORWARD_BIND, synced=False)
    plain.sync(keep_script=False)
    assert plain.steps is None


def test_a_batch_that_has_begun_to_be_answered_keeps_its_script() -> None:
    begun = batch(Sink(), FORWARD_BIND, FORWARD_EXECUTE, synced=False)
    begun.step_done(FORWARD_BIND)
    begun.sync(keep_script=False)
    assert begun.steps == [FORWARD_BIND, FORWARD_EXECUTE]


def test_a_flush_makes_the_prefix_the_first_step() -> None:
    segment = batch(Sink(), FORWARD_BIND, synced=False)
    segment.prefix = b"1"
    segment.flush()
    assert segment.prefix == b""
    assert segment.steps is not None
    assert [step.payload for step in segment.steps] == [b"1", b""]


def test_a_batch_cut_short_takes_no_sync_for_void() -> None:
    segment = batch(Sink(), FORWARD_EXECUTE, synced=False)
    segment.cut()
    assert not segment.is_open
    assert not segment.copy_in()


# --- errors


def test_an_error_undoes_what_is_left_last_first_and_once() -> None:
    undone: list[int] = []
    steps = [Step(FORWARD, b"1", undo=partial(undone.append, n)) for n in range(3)]
    segment = batch(Sink(), *steps)
    segment.step_done(steps[0])
    assert segment.fail() == b""
    assert segment.fail() == b""
    assert undone == [2, 1]
    assert segment.is_done


def test_a_step_that_fails_itself_is_told_so_and_not_only_undone() -> None:
    log: list[str] = []

    def step(name: str) -> Step:
        return Step(
            FORWARD,
            b"1",
            undo=partial(log.append, f"undo {name}"),
            done=partial(log.append, f"done {name}"),
            failed=partial(log.append, f"failed {name}"),
        )

    segment = batch(Sink(), step("a"), step("b"), step("c"))
    assert segment.steps is not None
    segment.step_done(segment.steps[0])
    segment.fail()
    assert log == ["done a", "undo c", "failed b"]


def test_only_the_step_that_is_bound_to_fail_has_its_error_replaced() -> None:
    poisoned = Step(REPLACE_ERROR, b"", b"ours")
    assert batch(Sink(), poisoned).fail() == b"ours"
    assert batch(Sink(), FORWARD_BIND, poisoned).fail() == b""


def test_what_is_swallowed_lets_errors_and_notices_through() -> None:
    segment = batch(Sink(), Step(SWALLOW, b"1"))
    assert not segment.forwards(ord("1"))
    assert all(segment.forwards(kind) for kind in b"ENA")
    segment.fail()
    assert segment.forwards(ord("1"))


def test_a_script_is_done_when_all_of_it_has_happened() -> None:
    segment = batch(Sink(), FORWARD_BIND)
    assert not segment.is_done
    with pytest.raises(ServerProtocolError):
        segment.ready()
    segment.step_done(FORWARD_BIND)
    assert segment.is_done
    assert Segment(Sink()).is_done


# --- COPY


def copying(*steps: Step, ended: bool = False) -> Segment:
    """A batch, its Sync sent, whose server has just asked for CopyData."""
    segment = batch(Sink(), *steps)
    if ended:
        segment.end_copy()
    assert segment.copy_in()
    return segment


def test_the_sync_before_the_data_is_void() -> None:
    segment = copying(FORWARD_EXECUTE)
    queue = [segment]
    segment.void_syncs(queue)
    assert segment.phase == segments.OPEN_COPY
    assert list(queue) == [segment]


def test_empty_syncs_behind_it_are_void_too() -> None:
    segment = copying(FORWARD_EXECUTE)
    queue = [segment, follower(segment)]
    segment.void_syncs(queue)
    assert list(queue) == [segment]
    assert segment.phase == segments.OPEN_COPY


def test_an_end_that_was_sent_behind_an_empty_sync_ends_the_copy() -> None:
    segment = copying(FORWARD_EXECUTE)
    empty = follower(segment)
    empty.end_copy()
    segment.void_syncs([segment, empty])
    assert segment.phase == segments.OPEN


def test_a_batch_behind_an_ended_copy_joins_it() -> None:
    segment = copying(FORWARD_EXECUTE, ended=True)
    made_up = Step(EMIT, b"", b"1")
    queue = [segment, follower(segment, FORWARD_BIND, made_up)]
    segment.void_syncs(queue)
    assert segment.phase == segments.SENT
    assert segment.steps == [FORWARD_EXECUTE, FORWARD_BIND, made_up]


def test_a_batch_without_a_script_leaves_none_to_the_copy() -> None:
    segment = copying(FORWARD_EXECUTE, ended=True)
    segment.void_syncs([segment, follower(segment, FORWARD_BIND, keep_script=False)])
    assert segment.steps is None
    assert segment.phase == segments.SENT


def test_a_copy_without_a_script_has_only_its_own_end_to_come() -> None:
    segment = Segment.batch(Sink())
    segment.expect(FORWARD_EXECUTE)
    segment.sync(keep_script=False)
    assert segment.copy_in()
    segment.void_syncs([segment])
    assert segment.steps == [FORWARD_EXECUTE]


def test_a_batch_that_fails_the_copy_is_undone() -> None:
    undone: list[str] = []
    segment = copying(FORWARD_EXECUTE)
    failing = follower(segment, Step(FORWARD, b"1", undo=lambda: undone.append("parse")))
    segment.void_syncs([segment, failing])
    assert undone == ["parse"]
    assert segment.phase == segments.SENT_COPY
    segment.fail()
    segment.ready()


def test_segments_of_others_are_left_alone() -> None:
    segment = copying(FORWARD_EXECUTE)
    other = batch(Sink())
    queue = [segment, other]
    segment.void_syncs(queue)
    assert list(queue) == [segment, other]


def test_what_the_router_sends_is_not_taken_for_that_of_a_client_that_has_left() -> None:
    segment = copying(FORWARD_EXECUTE)
    segment.orphan()
    own = Segment(None)
    queue = [segment, own]
    segment.void_syncs(queue)
    assert list(queue) == [segment, own]


# --- what is counted


def test_of_many_forms_those_that_are_new_are_counted_as_the_first() -> None:
    segment = Segment(Sink())
    forms = [*range(60), 5, 99]
    for form in forms:
        segment.follow(form)
    for _ in forms[1:]:
        segment.completed(1)
    expected: dict[object, list[int]] = {form: [1, 1] for form in range(50)}
    assert segment.done == expected | {0: [11, 11], 5: [2, 2]}
