"""A batch that comes in one piece is answered as if its messages came one by one."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.harness import Harness
from tests.support.wire import (
    FLUSH,
    SYNC,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    message,
    parse,
    query,
    rows,
)

if TYPE_CHECKING:
    from tests.support.harness import FakeClient

NAMES = ("", "s", "t", "nobody")
TEXTS = ("SELECT 1", "SELECT 2", "FAIL", "COPY t")
# What no driver sends, and a batch may have all the same.
ODD = (
    message("D", b"P"),
    message("D", b""),
    message("E", b""),
    message("E", b"\0"),
    message("E", b"p" * 2000 + b"\0\0\0\0\0"),
    message("B", b"\0"),
    message("B", b"\0\0"),
    message("D", b"x\0"),
)
PARSES = st.builds(parse, st.sampled_from(TEXTS), st.sampled_from(NAMES))
BINDS = st.builds(
    lambda name, portal, values: bind(*values, name=name, portal=portal),
    st.sampled_from(NAMES),
    st.sampled_from(["", "p"]),
    st.sampled_from([(), (b"x",), (None, b"")]),
)
FOLLOWING = st.sampled_from(
    [
        execute(),
        describe() + execute(),
        describe("S", "s") + execute(),
        execute("p", 1) + execute("p"),
        describe(),
        b"",
        *ODD,
    ]
)
ENDS = st.sampled_from([SYNC] * 8 + [message("S", b"more"), FLUSH, b""])
# A batch, most of them whole; perhaps with a Parse before the Bind.
BATCHES = st.builds(
    lambda before, bound, following, end: before + bound + following + end,
    st.one_of(st.just(b""), PARSES),
    BINDS,
    FOLLOWING,
    ENDS,
)
OTHERS = st.one_of(
    PARSES,
    st.sampled_from(
        [
            SYNC,
            describe("S", "s"),
            close("S", "s"),
            copy_data(b"x\n"),
            query("SELECT 3"),
            query("BEGIN"),
            query("COMMIT"),
            query("FAIL"),
            query("SET application_name TO 'me'"),
            query("SHOW application_name"),
            query("SET LOCAL SERVER ROLE TO 'primary'"),
            query("SHOW SERVER ROLE"),
        ]
    ),
)
PIECES = st.one_of(BATCHES, BATCHES, OTHERS)


def world(*, held: bool) -> tuple[Harness, FakeClient]:
    """A client and its neighbour, who may hold the server that has the client's statements."""
    harness = Harness(pool_size=2)
    client, other = harness.connect(), harness.connect()
    texts = zip(NAMES, TEXTS, strict=False)
    harness.ask(other, b"".join(parse(text, f"x{name}") for name, text in texts) + SYNC)
    harness.ask(client, parse("SELECT 1", "s") + parse("SELECT 2") + SYNC)
    if held:
        harness.ask(other, query("BEGIN"))
    return harness, client


def sent(pieces: list[bytes], *, held: bool, cut: bool) -> tuple[bytes, str]:
    """What is answered to all of it, come at once or message by message; and what is left."""
    harness, client = world(held=held)
    data = b"".join(pieces)
    if not cut:
        harness.ask(client, data)
    else:
        while data:
            size = 1 + struct.unpack_from("!I", data, 1)[0]
            client.send(data[:size])
            data = data[size:]
        harness.run()
    for ending in (SYNC + SYNC, copy_fail() + SYNC):
        harness.ask(client, ending)
    harness.ask(client, query("ROLLBACK"))
    assert client.ended or rows(harness.ask(client, query("SELECT 4"))) == [[b"SELECT 4"]]
    client.leave()
    harness.run()
    harness.check()
    return client.got, client.ended


@given(st.lists(PIECES, min_size=1, max_size=6), st.booleans())
@settings(deadline=None, max_examples=600)
def test_what_comes_at_once_is_answered_as_what_comes_bit_by_bit(
    pieces: list[bytes], held: bool
) -> None:
    whole = sent(pieces, held=held, cut=False)
    assert whole == sent(pieces, held=held, cut=True)
