"""Messages to the admin database that are longer than it wants to read."""

from __future__ import annotations

import itertools
import socket
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.admin.console import MESSAGE_LIMIT
from router.protocol import messages
from tests.support.router import ADMIN, HOST, PoolText

from .builders import AdminClient, decode

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.router import RouterProcess

VERSION = messages.query(b"SHOW VERSION")
PARSE = messages.message(ord("P"), b"\0SHOW VERSION\0\0\0")

# What each kind is answered with, and what a Parse behind it is, before the next Sync.
ANSWERS = {"Q": ("EZ", "1"), "F": ("EZ", "1"), "P": ("E", ""), "B": ("E", ""), "d": ("", "1")}
SIZES = st.sampled_from([1, 2, 4, 5, 6, 100, 86_000, 500_000])


def long(kind: str, excess: int) -> bytes:
    """A message whose length is so many bytes above the limit."""
    return messages.message(ord(kind), b"x" * (MESSAGE_LIMIT - 4 + excess))


def test_the_limit_is_where_it_is_said_to_be() -> None:
    sql = b"SHOW VERSION" + b" " * (MESSAGE_LIMIT - 17)
    assert AdminClient().send(messages.query(sql)).kinds == "TDCZ"
    assert AdminClient().send(messages.query(sql + b" ")).kinds == "EZ"


@pytest.mark.parametrize("kind", list(ANSWERS))
def test_a_message_that_is_too_long_is_an_error_and_the_session_goes_on(kind: str) -> None:
    client = AdminClient()
    answer, behind = ANSWERS[kind]
    got = client.send(long(kind, 1), PARSE, messages.SYNC, VERSION)
    assert got.kinds == f"{answer}{behind}ZTDCZ"
    if answer:
        assert (got.error["S"], got.error["C"]) == ("ERROR", "54000")
        assert str(MESSAGE_LIMIT) in got.error["M"]
    assert not client.link.closed


def test_nothing_is_said_before_the_message_has_ended() -> None:
    client = AdminClient()
    data = long("Q", 500_000)
    for start in range(0, len(data) - 1, 100_000):
        piece = data[start : min(start + 100_000, len(data) - 1)]
        assert client.send(piece).kinds == ""
        assert len(client.session._input) < MESSAGE_LIMIT  # bounded, however long it is
    assert client.send(data[-1:]).kinds == "EZ"


def test_what_is_to_be_skipped_up_to_sync_is_skipped_when_it_is_long() -> None:
    client = AdminClient()
    bad = messages.message(ord("P"), b"\0NONSENSE\0\0\0")
    got = client.send(bad, long("P", 1), long("B", 9), long("Q", 70), messages.SYNC, VERSION)
    assert got.kinds == "EZTDCZ"


@given(
    pieces=st.lists(
        st.one_of(
            st.builds(long, st.sampled_from(sorted(ANSWERS)), SIZES),
            st.sampled_from([VERSION, PARSE, messages.SYNC, messages.FLUSH]),
        ),
        max_size=5,
    ),
    cuts=st.lists(st.integers(min_value=0, max_value=2_000_000), max_size=6),
)
def test_the_answer_does_not_depend_on_where_a_long_message_is_cut(
    pieces: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(pieces)
    whole, parts = AdminClient(), AdminClient()
    whole.feed(data)
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        parts.feed(data[start:end])
    expected = whole.link.take()
    assert parts.link.take() == expected
    assert decode(expected).kinds.count("Z") == data.count(messages.SYNC) + sum(
        piece[:1] in b"QF" for piece in _answered(pieces)
    )


def _answered(pieces: list[bytes]) -> list[bytes]:
    """Those that are not skipped."""
    found: list[bytes] = []
    skips = False
    for piece in pieces:
        if piece == messages.SYNC:
            skips = False
        elif not skips:
            found.append(piece)
            skips = piece[:1] in b"PB" and len(piece) > MESSAGE_LIMIT
    return found


@pytest.mark.slow
@pytest.mark.parametrize("size", [150_000, 1_000_000, 17_000_000])
def test_a_client_that_sends_a_long_text_reads_the_error_and_goes_on(
    start_router: Callable[..., RouterProcess], size: int
) -> None:
    pools = {"db": PoolText([[(HOST, 1, "primary")]])}
    router = start_router(pools, 'validate_config = false\nadmin_auth_type = "trust"')
    before = router.rss()
    with socket.create_connection((HOST, router.port), 30) as sock:
        fields = b"user\0" + ADMIN.encode() + b"\0database\0pgcat\0\0"
        sock.sendall(struct.pack("!II", len(fields) + 8, 196608) + fields)
        _read(sock, 1)
        # All of it is sent before anything is read, and more behind it.
        sock.sendall(messages.query(b"x" * size) + VERSION)
        got = _read(sock, 2)
        assert decode(got).kinds == "EZTDCZ"
        assert decode(got).error["C"] == "54000"
        sock.sendall(VERSION)
        assert decode(_read(sock, 1)).kinds == "TDCZ"
    assert router.rss() - before < 4_000_000


def _read(sock: socket.socket, ready: int) -> bytes:
    """Everything up to so many ReadyForQuery."""
    data = b""
    while data.count(messages.READY_IDLE) < ready:
        received = sock.recv(65536)
        assert received, "the router has closed the connection"
        data += received
    return data
