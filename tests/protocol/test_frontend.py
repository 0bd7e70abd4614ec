"""Cutting what a client sends into messages."""

from __future__ import annotations

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import ClientProtocolError
from router.protocol import codes
from router.protocol.framing import TEXT_LIMIT
from router.protocol.frontend import (
    HOLD_LIMIT,
    LONG_MESSAGE,
    MESSAGE,
    TURN,
    ClientStream,
)
from router.protocol.messages import TERMINATE


def message(kind: str, body: bytes = b"") -> bytes:
    """One message of a client."""
    return kind.encode() + struct.pack("!I", len(body) + 4) + body


class Stream:
    """A stream and its owner, who notes what there is, and declines when it is told to."""

    def __init__(self) -> None:
        self.stream = ClientStream()
        self.whole: list[bytes] = []
        self.long = b""
        self.heads: list[tuple[int, int]] = []
        self.ended = 0
        self.declines = False

    def feed(self, data: bytes) -> None:
        """Act on all that there is."""
        stream = self.stream
        stream.receive(data)
        while found := stream.next():
            if self.declines:
                stream.decline()
                return
            piece = stream.data[stream.start : stream.end]
            if found == MESSAGE:
                assert piece[0] == stream.kind
                self.whole.append(piece)
            else:
                self.long += piece
            if found == LONG_MESSAGE:
                self.heads.append((stream.kind, len(piece) + stream.missing))
            stream.take()
            if found != MESSAGE and not stream.passing:
                self.ended += 1


MESSAGES = [
    message("Q", b"SELECT 1\0"),
    message("P", b"\0SELECT $1\0\0\0"),
    message("B", b"\0\0\0\0\0\0\0\0"),
    message("E", b"\0\0\0\0\0"),
    message("S"),
    message("Q", b"Q\0\0\0\5X" * 20 + b"\0"),
    message("H"),
    message("X"),
]


@given(st.lists(st.integers(0, sum(map(len, MESSAGES))), max_size=30))
def test_any_split_of_the_bytes_gives_the_same_messages(cuts: list[int]) -> None:
    data = b"".join(MESSAGES)
    stream = Stream()
    edges = [0, *sorted(cuts), len(data)]
    for a, b in pairwise(edges):
        stream.feed(data[a:b])
    assert stream.whole == MESSAGES
    assert stream.stream.held == 0


@given(st.lists(st.booleans(), min_size=1, max_size=30))
def test_what_is_declined_comes_again_in_order(answers: list[bool]) -> None:
    stream = Stream()
    for item, accepts in zip(MESSAGES, [*answers, *[True] * len(MESSAGES)], strict=False):
        stream.declines = not accepts
        stream.feed(item)
    stream.declines = False
    stream.feed(b"")
    assert stream.whole == MESSAGES


@given(
    cuts=st.lists(st.integers(0, 2_000), max_size=12),
    answers=st.lists(st.booleans(), max_size=20),
)
def test_whatever_is_declined_nothing_is_lost_or_changes_its_place(
    cuts: list[int], answers: list[bool]
) -> None:
    data = b"".join(
        (MESSAGES[0], message("d", b"x" * 900), message("d", b"y" * 900), *MESSAGES)
    )
    stream = Stream()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    declining = iter(answers)
    for a, b in pairwise(edges):
        stream.declines = next(declining, False)
        stream.feed(data[a:b])
    stream.declines = False
    stream.feed(b"")
    assert stream.stream.held == 0
    assert not stream.stream.passing
    # CopyData counts as long, and comes whole, in pieces or in runs.
    taken = [piece for piece in stream.whole if piece[:1] != b"d"]
    assert taken == [MESSAGES[0], *MESSAGES]
    copied = b"".join(piece for piece in stream.whole if piece[:1] == b"d")
    assert len(copied) + len(stream.long) == 2 * 905


def test_a_long_message_that_is_complete_before_its_head_is_taken_is_a_message() -> None:
    stream = Stream()
    copied = message("d", b"x" * 100)
    stream.declines = True
    stream.feed(copied[:50])
    stream.declines = False
    stream.feed(copied[50:] + message("c") + message("S"))
    assert stream.whole == [copied, message("c"), message("S")]
    assert not stream.stream.passing


def test_a_long_message_is_passed_on_in_pieces_and_never_held() -> None:
    stream = Stream()
    body = b"x" * (TEXT_LIMIT * 3)
    data = message("Q", body) + message("S")
    for start in range(0, len(data), 50_000):
        stream.feed(data[start : start + 50_000])
        assert stream.stream.held <= 5
    assert stream.heads == [(codes.QUERY, len(body) + 5)]
    assert stream.long == message("Q", body)
    assert stream.whole == [message("S")]
    assert stream.ended == 1


def test_a_long_message_whose_head_is_declined_is_held_until_it_is_taken() -> None:
    stream = Stream()
    data = message("Q", b"y" * (TEXT_LIMIT + 1))
    stream.declines = True
    stream.feed(data[:1000])
    assert stream.stream.held == 1000
    stream.declines = False
    stream.feed(b"")
    stream.feed(data[1000:])
    assert stream.long == data


def test_copy_data_is_passed_on_as_it_comes() -> None:
    stream = Stream()
    data = message("d", b"row\n" * 100)
    stream.feed(data[:20])
    assert stream.long == data[:20]
    stream.feed(data[20:])
    assert stream.long == data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"Q\0\0\0\3", "invalid message length"),
        (b"Q\x7f\xff\xff\xff", "invalid message length"),
        (b"?\0\0\0\4", "invalid frontend message type"),
        (b"p\0\0\0\4", "invalid frontend message type"),
        (b"E\0\0\x27\x11", "invalid message length 10001 for type 'E'"),
        (b"f\0\x7f\xff\xff", "invalid message length 8388607 for type 'f'"),
    ],
)
def test_what_is_not_the_protocol_is_refused_by_its_header(data: bytes, text: str) -> None:
    with pytest.raises(ClientProtocolError, match=text):
        Stream().feed(data)


@pytest.mark.parametrize(
    ("held", "says_goodbye"),
    [
        (message("S") + TERMINATE, True),
        (TERMINATE, True),
        (message("S"), False),
        (TERMINATE + b"S\0", False),
        (message("Q", b"SELECT 1\0" + TERMINATE + b"\0"), False),
        (message("Q", b"SELECT 1" + b" " * 30)[:20] + TERMINATE, False),
    ],
)
def test_a_goodbye_is_the_last_whole_message(held: bytes, says_goodbye: bool) -> None:
    stream = Stream()
    stream.declines = True
    stream.feed(held)
    assert stream.stream.holds_goodbye is says_goodbye


# --- incomplete, declined, or out of turn


def limits_of(kind: int) -> int:
    """The longest message of that type that is held as a whole."""
    return {codes.QUERY: TEXT_LIMIT, codes.PARSE: TEXT_LIMIT}.get(kind, 128 * 1024)


@given(
    kind=st.sampled_from("QPBF"),
    size=st.one_of(
        st.builds(
            int.__add__,
            st.sampled_from([HOLD_LIMIT, 128 * 1024, TEXT_LIMIT]),
            st.integers(-7, 7),
        ),
        st.integers(10, TEXT_LIMIT + 70_000),
    ),
    piece=st.sampled_from([1_000, 8_192, 65_536, 131_072]),
)
@settings(deadline=None, max_examples=40)
def test_an_incomplete_message_never_stops_the_reading(
    kind: str, size: int, piece: int
) -> None:
    stream = Stream()
    data = message(kind, b"\0\0" + b"x" * (size - 7))
    for start in range(0, len(data), piece):
        assert not stream.stream.is_full
        stream.feed(data[start : start + piece])
        assert stream.stream.held <= limits_of(ord(kind)) + 5
    assert b"".join(stream.whole) + stream.long == data
    assert stream.stream.held == 0
    assert not stream.stream.passing


def test_an_incomplete_message_is_not_looked_at_before_it_is_complete() -> None:
    stream = Stream()
    data = message("Q", b"x" * 200_000)
    stream.feed(data[:4])
    assert stream.stream._awaited == 5
    stream.feed(data[4:100])
    for start in range(100, len(data) - 1, 100):
        assert stream.stream._awaited == len(data)
        stream.feed(data[start : min(start + 100, len(data) - 1)])
    assert stream.whole == []
    stream.feed(data[-1:])
    assert stream.whole == [data]


@pytest.mark.parametrize(("kind", "names"), [("P", 1), ("B", 2)])
@pytest.mark.parametrize("cut", range(5, 12))
def test_the_head_of_a_long_message_has_its_names(kind: str, names: int, cut: int) -> None:
    stream = Stream()
    data = message(kind, b"one\0" * names + b"x" * (TEXT_LIMIT + 1))
    stream.feed(data[:cut])
    whole = cut >= 5 + 4 * names
    assert bool(stream.heads) is whole
    assert stream.stream.held == (0 if whole else cut)
    stream.feed(data[cut:-1])
    assert stream.stream.held == 0
    stream.feed(data[-1:])
    assert stream.long == data


@pytest.mark.parametrize("kind", ["P", "B"])
def test_names_without_end_are_not_waited_for(kind: str) -> None:
    stream = Stream()
    data = message(kind, b"n" * (TEXT_LIMIT + 1))
    stream.feed(data[: 128 * 1024])
    assert stream.stream.held == 128 * 1024
    with pytest.raises(ClientProtocolError, match="too long"):
        stream.feed(b"n")


def test_what_is_declined_stops_the_reading_when_it_is_too_much() -> None:
    stream = Stream()
    stream.declines = True
    stream.feed(message("Q", b"x" * HOLD_LIMIT))
    assert stream.stream.is_full
    stream.declines = False
    stream.feed(b"")
    assert not stream.stream.is_full


@given(st.lists(st.integers(1, 3 * TURN), min_size=1, max_size=20))
def test_a_turn_is_a_bounded_number_of_messages(numbers: list[int]) -> None:
    stream = Stream()
    for number in numbers:
        before = len(stream.whole)
        stream.feed(message("S") * number)
        while stream.stream.wants_turn:
            assert len(stream.whole) - before == TURN
            assert not stream.stream.is_full
            assert stream.stream.held
            before = len(stream.whole)
            stream.feed(b"")
        assert len(stream.whole) - before <= TURN
    assert len(stream.whole) == sum(numbers)
    assert stream.stream.held == 0


def test_copy_data_that_is_there_comes_in_one_run() -> None:
    stream = Stream()
    copied = b"".join(message("d", b"%d\n" % n) for n in range(1000))
    stream.feed(message("S") + copied + message("c") + message("d", b"behind") + b"d\0")
    assert stream.whole == [message("S"), copied, message("c"), message("d", b"behind")]
    assert stream.stream.held == 2


def test_what_is_taken_together_counts_as_many_messages_of_the_turn() -> None:
    stream = ClientStream()
    stream.receive(message("S") * (2 * TURN))
    taken = 0
    while stream.next():
        stream.extend(stream.start + 3 * 5, 2)
        stream.take()
        taken += 3
    assert stream.wants_turn
    assert TURN <= taken < TURN + 3


def test_nothing_is_left_of_what_is_dropped() -> None:
    stream = ClientStream()
    stream.receive(message("d", b"x" * 100)[:50])
    assert stream.next() == LONG_MESSAGE
    stream.take()
    assert stream.passing
    stream.drop()
    assert not stream.passing
    assert stream.next() == 0
