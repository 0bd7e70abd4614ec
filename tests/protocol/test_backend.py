"""The queue of expected replies: what a server says, and who gets it."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import ServerProtocolError
from router.protocol import codes
from router.protocol.backend import _READY_COST, TURN, BackendStream
from router.protocol.messages import CLOSE_COMPLETE, PARSE_COMPLETE
from router.protocol.segments import OPEN_COPY, ReplySink, Segment
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
    from collections.abc import Callable, Sequence


def message(kind: str, body: bytes = b"") -> bytes:
    """One message of a server."""
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


READY = message("Z", b"I")
PARSED, BOUND, CLOSED = message("1"), message("2"), message("3")
ROW = message("D", b"\0\1\0\0\0\3abc")
DONE = message("C", b"SELECT 1\0")
ERROR = message("E", b"SERROR\0VERROR\0C42P01\0Mno such table\0\0")
NOTICE = message("N", b"SNOTICE\0C00000\0Mhello\0\0")
TIME_ZONE = message("S", b"TimeZone\0UTC\0")
COPY_IN = message("G", b"\0\0\0")


class Sink(ReplySink):
    """A client that notes what it gets."""

    def __init__(self) -> None:
        self.got = b""
        self.statuses: list[str] = []

    def reply(self, data: bytes) -> None:
        self.got += data

    def segment_done(self, segment: Segment, status: int) -> None:
        self.statuses.append(chr(status))


class Stream(BackendStream):
    """A stream whose hooks note what they are told."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[object, ...]] = []

    def on_segment_done(self, segment: Segment) -> None:
        self.events.append(("done", segment.error))

    def on_parameter(self, name: str, value: str, swallowed: bool) -> None:
        self.events.append(("parameter", name, value, swallowed))

    def on_tag(self, tag: bytes) -> None:
        self.events.append(("tag", tag))

    def on_error(self, sqlstate: bytes, head: bytes) -> None:
        self.events.append(("error", sqlstate))

    def on_async(self, data: bytes) -> None:
        self.events.append(("async", data))

    def on_orphaned_copy(self, segment: Segment) -> None:
        self.events.append(("orphaned copy",))


def batch(sink: Sink, *steps: Step, synced: bool = True) -> Segment:
    """An extended batch with a script."""
    segment = Segment.batch(sink)
    for step in steps:
        segment.expect(step)
    if synced:
        segment.sync(keep_script=True)
    return segment


def expecting(*segments: Segment) -> Stream:
    """A stream that has been sent these."""
    stream = Stream()
    stream.queue.extend(segments)
    return stream


def test_a_plain_segment_is_forwarded_as_it_comes() -> None:
    sink = Sink()
    stream = expecting(Segment(sink))
    stream.feed(ROW + DONE + READY)
    assert sink.got == ROW + DONE + READY
    assert sink.statuses == ["I"]
    assert not stream.queue


def test_each_segment_gives_its_replies_to_its_own_sink() -> None:
    one, two = Sink(), Sink()
    stream = expecting(Segment(one), Segment(None), Segment(two))
    stream.feed(ROW + READY + DONE + READY + ROW + ROW + message("Z", b"T"))
    assert one.got == ROW + READY
    assert two.got == ROW + ROW + message("Z", b"T")
    assert stream.status == codes.IN_TRANSACTION
    assert stream.events == [("done", None)]


def test_a_swallowed_error_is_kept_for_its_segment() -> None:
    stream = expecting(Segment(None))
    stream.feed(ERROR + READY)
    assert stream.events[0] == ("error", b"42P01")
    [(kind, fields)] = stream.events[1:]
    assert kind == "done"
    assert isinstance(fields, dict)
    assert fields["M"] == "no such table"


def test_a_prefix_comes_before_the_first_reply() -> None:
    sink = Sink()
    segment = Segment(sink)
    segment.prefix = PARSE_COMPLETE
    stream = expecting(segment)
    stream.feed(BOUND + DONE + READY)
    assert sink.got == PARSE_COMPLETE + BOUND + DONE + READY


def test_a_script_swallows_and_makes_up_replies_in_their_order() -> None:
    sink = Sink()
    swallow_parse, made_up = Step(SWALLOW, b"1"), Step(EMIT, b"", CLOSE_COMPLETE)
    segment = batch(sink, swallow_parse, FORWARD_BIND, FORWARD_EXECUTE, made_up)
    stream = expecting(segment)
    stream.feed(PARSED + BOUND + ROW + DONE + READY)
    assert sink.got == BOUND + ROW + DONE + CLOSE_COMPLETE + READY


def test_an_error_undoes_the_steps_that_did_not_happen_last_first() -> None:
    sink = Sink()
    undone: list[str] = []

    def step(name: str) -> Step:
        return Step(FORWARD, b"1", undo=lambda: undone.append(name))

    stream = expecting(batch(sink, step("first"), step("second"), step("third")))
    stream.feed(PARSED + ERROR + READY)
    assert sink.got == PARSED + ERROR + READY
    assert undone == ["third", "second"]


def test_an_error_that_was_provoked_is_replaced_by_the_routers_own() -> None:
    sink = Sink()
    ours = message("E", b"SERROR\0C42P05\0Mduplicate\0\0")
    stream = expecting(batch(sink, FORWARD_BIND, Step(REPLACE_ERROR, b"", ours)))
    stream.feed(BOUND + ERROR + READY)
    assert sink.got == BOUND + ours + READY


def test_a_parameter_is_told_and_not_forwarded() -> None:
    sink = Sink()
    stream = expecting(Segment(sink), Segment(None))
    stream.feed(TIME_ZONE + DONE + READY + TIME_ZONE + READY)
    assert sink.got == DONE + READY
    assert stream.parameters == {"TimeZone": "UTC"}
    assert ("parameter", "TimeZone", "UTC", False) in stream.events
    assert ("parameter", "TimeZone", "UTC", True) in stream.events


@pytest.mark.parametrize("tag", [b"SET", b"LISTEN", b"DISCARD ALL", b"CREATE TABLE"])
def test_a_tag_that_may_leave_something_behind_is_told(tag: bytes) -> None:
    stream = expecting(Segment(Sink()))
    stream.feed(message("C", tag + b"\0") + READY)
    assert stream.events == [("tag", tag)]


@pytest.mark.parametrize("tag", [b"SELECT 5", b"INSERT 0 1", b"COMMIT", b"COPY 3"])
def test_a_tag_that_leaves_nothing_behind_is_not_told(tag: bytes) -> None:
    stream = expecting(Segment(Sink()))
    stream.feed(message("C", tag + b"\0") + READY)
    assert stream.events == []


@pytest.mark.parametrize("body", [b"", b"x", b"\0"])
def test_a_tag_or_a_parameter_without_its_end_is_taken_for_an_empty_one(body: bytes) -> None:
    stream = expecting(Segment(Sink()))
    stream.feed(message("C", body) + message("S", body) + READY + message("S", body))
    assert [event[:2] for event in stream.events] == [
        ("tag", b""),
        ("parameter", ""),
        ("parameter", ""),
    ]


@pytest.mark.parametrize("size", range(len(TIME_ZONE) + 1))
def test_what_was_read_before_comes_first(size: int) -> None:
    stream = Stream()
    stream.put_first(TIME_ZONE[:size])
    stream.feed(TIME_ZONE[size:] + NOTICE)
    assert stream.events[0] == ("parameter", "TimeZone", "UTC", False)
    assert len(stream.events) == 2


def test_messages_to_nobody_go_to_the_hook() -> None:
    stream = expecting()
    stream.feed(NOTICE + TIME_ZONE + message("A", b"\0\0\0\1channel\0\0"))
    assert [event[0] for event in stream.events] == ["async", "parameter", "async"]


@pytest.mark.parametrize(
    "data",
    [
        ROW,
        READY,
        message("?"),
        b"D\0\0\0\0",
    ],
)
def test_what_an_idle_server_may_not_say_is_out_of_step(data: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        expecting().feed(data)


def test_a_reply_that_the_script_does_not_expect_is_out_of_step() -> None:
    with pytest.raises(ServerProtocolError):
        expecting(batch(Sink(), FORWARD_BIND)).feed(PARSED)


def test_a_reply_that_is_missing_is_out_of_step() -> None:
    with pytest.raises(ServerProtocolError):
        expecting(batch(Sink(), FORWARD_BIND)).feed(READY)


def test_a_collected_message_is_bounded() -> None:
    stream = expecting(Segment(Sink()))
    with pytest.raises(ServerProtocolError):
        stream.feed(b"S" + struct.pack("!I", 1 << 24))


def test_a_copy_voids_the_sync_that_was_sent_before_its_end() -> None:
    sink = Sink()
    first, second = batch(sink, FORWARD_EXECUTE), Segment.batch(sink)
    second.sync(keep_script=False)
    stream = expecting(first, second)
    stream.feed(COPY_IN)
    assert list(stream.queue) == [first]
    assert first.phase == OPEN_COPY


def test_an_orphaned_copy_is_told() -> None:
    sink = Sink()
    stream = expecting(Segment(sink))
    stream.orphan(sink)
    stream.feed(COPY_IN)
    assert stream.events == [("orphaned copy",)]


def test_of_an_error_its_own_text_is_told_and_not_what_follows() -> None:
    heads: list[bytes] = []

    class Reading(Stream):
        def on_error(self, sqlstate: bytes, head: bytes) -> None:
            heads.append(head)

    stream = Reading()
    stream.queue.append(Segment(Sink()))
    stream.feed(ERROR + READY)
    assert heads == [ERROR[5:]]


def test_the_error_that_an_orphan_was_to_get_instead_is_nobodys() -> None:
    sink = Sink()
    stream = expecting(batch(sink, Step(REPLACE_ERROR, b"", message("E", b"Mours\0\0"))))
    stream.orphan(sink)
    stream.feed(ERROR + READY)
    assert sink.got == b""
    assert not stream.queue


def test_an_orphaned_segment_says_nothing_to_anyone() -> None:
    sink = Sink()
    stream = expecting(Segment(sink))
    stream.feed(ROW[:7])
    stream.orphan(sink)
    stream.feed(ROW[7:] + DONE + READY)
    assert sink.got == ROW[:7]
    assert not stream.queue


def test_who_leaves_takes_along_the_own_replies_only() -> None:
    leaving, staying = Sink(), Sink()
    stream = expecting(Segment(leaving), Segment(staying), Segment(leaving))
    stream.feed(ROW[:7])
    stream.orphan(leaving)
    stream.feed(ROW[7:] + DONE + READY + ROW + DONE + READY + ROW + DONE + READY)
    assert leaving.got == ROW[:7]
    assert leaving.statuses == []
    assert staying.got == ROW + DONE + READY
    assert staying.statuses == ["I"]


def test_no_ready_for_query_comes_before_the_sync() -> None:
    stream = expecting(batch(Sink(), FORWARD_EXECUTE, synced=False))
    stream.feed(COPY_IN + ERROR)
    with pytest.raises(ServerProtocolError, match="ReadyForQuery"):
        stream.feed(READY)


# --- any split of the bytes


def scenario() -> tuple[Callable[[], tuple[Stream, list[Sink]]], bytes]:
    """Several segments of every kind, and what a server answers to them."""

    def make() -> tuple[Stream, list[Sink]]:
        sinks = [Sink(), Sink(), Sink()]
        prefixed = Segment(sinks[1])
        prefixed.prefix = PARSE_COMPLETE
        scripted = batch(
            sinks[2],
            Step(SWALLOW, b"3"),
            Step(FORWARD, b"1"),
            Step(EMIT, b"", CLOSE_COMPLETE),
            FORWARD_BIND,
            FORWARD_EXECUTE,
        )
        failing = batch(sinks[0], Step(EMIT, b"", PARSE_COMPLETE), FORWARD_BIND)
        return expecting(Segment(sinks[0]), Segment(None), prefixed, scripted, failing), sinks

    long_row = message("D", b"\0\1" + struct.pack("!I", 300) + b"Z\0\0\0\5I" * 50)
    data = b"".join(
        (
            *(NOTICE, message("T", b"\0\0"), ROW, long_row, DONE, TIME_ZONE, READY),
            *(message("C", b"SET\0"), READY),
            *(BOUND, long_row, DONE, READY),
            *(CLOSED, PARSED, BOUND, ROW, NOTICE, message("s"), READY),
            *(ERROR, message("Z", b"E")),
            NOTICE,
        )
    )
    return make, data


def outcome(pieces: Sequence[bytes]) -> tuple[list[tuple[bytes, list[str]]], list[object]]:
    """What becomes of the scenario when its bytes come in these pieces."""
    make, _ = scenario()
    stream, sinks = make()
    for piece in pieces:
        stream.feed(piece)
    assert not stream.queue
    # Asynchronous messages may come in pieces; what counts is the bytes.
    events = [event for event in stream.events if event[0] != "async"]
    stray = b"".join(event[1] for event in stream.events if event[0] == "async")  # type: ignore[misc]
    return [(sink.got, sink.statuses) for sink in sinks], [*events, stray]


@given(st.lists(st.integers(0, len(scenario()[1])), max_size=40))
def test_any_split_of_the_bytes_gives_the_same_result(cuts: list[int]) -> None:
    data = scenario()[1]
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(edges) if b > a]
    assert outcome(pieces) == outcome([data])


def test_one_byte_at_a_time_gives_the_same_result() -> None:
    data = scenario()[1]
    assert outcome([data[i : i + 1] for i in range(len(data))]) == outcome([data])


# --- turns


@given(st.lists(st.booleans(), max_size=150), st.integers(1, 5000))
@settings(deadline=None, max_examples=50)
def test_turns_change_nothing_but_the_time(scripted: list[bool], piece: int) -> None:
    sink = Sink()
    stream = Stream()
    replies = b""
    for has_script in scripted:
        stream.queue.append(batch(sink, FORWARD_EXECUTE) if has_script else Segment(sink))
        replies += ROW * 5 + DONE + READY
    turns = 0
    for start in range(0, len(replies), piece):
        stream.feed(replies[start : start + piece])
        while stream.wants_turn:
            turns += 1
            stream.feed(b"")
    assert sink.got == replies
    assert len(sink.statuses) == len(scripted)
    if piece >= len(replies):
        assert turns >= len(scripted) * _READY_COST // TURN - 1


def test_a_turn_ends_so_many_segments_at_most() -> None:
    sink = Sink()
    stream = expecting(*(Segment(sink) for _ in range(1000)))
    stream.feed(READY * 1000)
    assert stream.wants_turn
    assert len(sink.statuses) == TURN // _READY_COST
    # What arrives meanwhile does not come before it.
    stream.feed(b"")
    assert len(sink.statuses) == 2 * TURN // _READY_COST


def test_rows_that_need_no_look_count_nothing() -> None:
    sink = Sink()
    stream = expecting(Segment(sink))
    stream.feed(ROW * 10_000 + DONE + READY)
    assert not stream.wants_turn
    assert sink.statuses == ["I"]
