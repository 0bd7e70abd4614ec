"""The reader of Parse and Bind, beside one that is written as PostgreSQL's is."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.errors import ClientProtocolError
from router.protocol import binds
from router.protocol.binds import Parameters
from tests.support.wire import bind, close, describe, execute, message, parse, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import DrawFn

T = TypeVar("T")

Value = tuple[bytes | None, bool]
# Before and behind the message: what must never be read.
BEFORE, BEHIND = b"\0\1", b"\0\0\0\0\0\0\0\0"


class Cursor:
    """Reads a body as `pqformat.c` does."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._pos = 0

    def take(self, size: int) -> bytes:
        """Of pq_getmsgbytes."""
        if size < 0 or size > len(self._body) - self._pos:
            raise ClientProtocolError("insufficient data left in message")
        self._pos += size
        return self._body[self._pos - size : self._pos]

    def number(self, code: str) -> int:
        """Of pq_getmsgint."""
        (number,) = struct.unpack(f"!{code}", self.take(struct.calcsize(f"!{code}")))
        assert isinstance(number, int)
        return number

    def byte(self) -> int:
        """Of pq_getmsgbyte."""
        if self._pos == len(self._body):
            raise ClientProtocolError("no data left in message")
        return self.take(1)[0]

    def string(self) -> bytes:
        """Of pq_getmsgstring."""
        found = self._body.find(b"\0", self._pos)
        if found < 0:
            raise ClientProtocolError("invalid string in message")
        return self.take(found + 1 - self._pos)[:-1]

    def end(self) -> None:
        """Of pq_getmsgend."""
        if self._pos != len(self._body):
            raise ClientProtocolError("invalid message format")


def theirs_bind(body: bytes) -> tuple[bytes, bytes, list[Value], list[int]]:
    """A Bind, in the order of `exec_bind_message`."""
    cursor = Cursor(body)
    portal, name = cursor.string(), cursor.string()
    formats = [cursor.number("h") for _ in range(cursor.number("H"))]
    count = cursor.number("H")
    if len(formats) > 1 and len(formats) != count:
        raise ClientProtocolError(
            f"bind message has {len(formats)} parameter formats but {count} parameters"
        )
    values: list[Value] = []
    for number in range(count):
        length = cursor.number("i")
        value = None if length == -1 else cursor.take(length)
        fmt = formats[number if len(formats) > 1 else 0] if formats else 0
        if fmt not in (0, 1):
            raise ClientProtocolError(f"unsupported format code: {fmt}", sqlstate="22023")
        values.append((value, fmt == 1))
    results = [cursor.number("h") for _ in range(cursor.number("H"))]
    cursor.end()
    return portal, name, values, results


def ours_bind(data: bytes, start: int, end: int) -> tuple[bytes, bytes, list[Value], list[int]]:
    """The same with the router's reader."""
    portal_end, name_end = binds.bind_ends(data, start, end)
    parameters = Parameters(data[:end], name_end + 1)
    values: list[Value] = []
    while parameters.advance():
        assert parameters.number == len(values) + 1
        value = None if parameters.is_null else parameters.value
        values.append((value, parameters.is_binary))
    results = parameters.result_formats()
    return data[start + 5 : portal_end], data[portal_end + 1 : name_end], values, list(results)


def theirs_parse(body: bytes) -> tuple[bytes, bytes, list[int]]:
    """A Parse, in the order of `exec_parse_message`."""
    cursor = Cursor(body)
    name, text = cursor.string(), cursor.string()
    types = [cursor.number("I") for _ in range(cursor.number("H"))]
    cursor.end()
    return name, text, types


def ours_parse(data: bytes, start: int, end: int) -> tuple[bytes, bytes, list[int]]:
    """The same with the router's reader."""
    name_end, text_end = binds.parse_ends(data, start, end)
    types = binds.declared_types(data[name_end + 1 : end])
    return data[start + 5 : name_end], data[name_end + 1 : text_end], list(types)


def theirs_target(body: bytes) -> tuple[int, bytes]:
    """A Describe or Close."""
    cursor = Cursor(body)
    found = cursor.byte(), cursor.string()
    cursor.end()
    return found


def theirs_execution(body: bytes) -> tuple[bytes, int]:
    """An Execute."""
    cursor = Cursor(body)
    found = cursor.string(), cursor.number("i")
    cursor.end()
    return found


def theirs_query(body: bytes) -> bytes:
    """A Query."""
    cursor = Cursor(body)
    text = cursor.string()
    cursor.end()
    return text


def outcome(read: Callable[[], T]) -> T | tuple[str, str]:
    """What is read, or the error."""
    try:
        return read()
    except ClientProtocolError as error:
        return error.sqlstate, error.message


READERS: dict[str, tuple[Callable[[bytes], object], Callable[[bytes, int, int], object]]] = {
    "B": (theirs_bind, ours_bind),
    "P": (theirs_parse, ours_parse),
    "D": (theirs_target, binds.target),
    "C": (theirs_target, binds.target),
    "E": (theirs_execution, binds.execution),
    "Q": (theirs_query, binds.query_text),
}


def check(whole: bytes) -> object:
    """Read a message, alone and among others, as PostgreSQL does; returns what that says."""
    theirs, ours = READERS[chr(whole[0])]
    expected = outcome(lambda: theirs(whole[5:]))
    assert outcome(lambda: ours(whole, 0, len(whole))) == expected
    among = BEFORE + whole + BEHIND
    start, end = len(BEFORE), len(BEFORE) + len(whole)
    assert outcome(lambda: ours(among, start, end)) == expected
    return expected


names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=4)
oids = st.integers(0, 2**32 - 1)


@st.composite
def bodies(draw: DrawFn) -> bytes:
    """Messages of all types that are good, or nearly."""
    kind = draw(st.sampled_from("BBBBPPDECQ"))
    if kind == "B":
        values = draw(st.lists(st.none() | st.binary(max_size=5), max_size=4))
        codes = st.sampled_from((0, 0, 0, 1, 1, 2, 0xFFFF))
        count = draw(st.sampled_from((0, 1, len(values), len(values), 3)))
        formats = draw(st.lists(codes, min_size=count, max_size=count))
        found = bind(
            *values, portal=draw(names), name=draw(names), formats=draw(st.lists(codes))
        )
        # The builder sends no formats: put them in.
        place = found.index(b"\0", found.index(b"\0", 5) + 1) + 1
        packed = struct.pack(f"!H{count}H", count, *formats)
        return message("B", found[5:place] + packed + found[place + 2 :])
    if kind == "P":
        return parse(draw(names), draw(names), draw(st.lists(oids, max_size=3)))
    if kind == "E":
        return execute(draw(names), draw(oids))
    if kind == "Q":
        return query(draw(names))
    make = describe if kind == "D" else close
    return make(draw(st.sampled_from("SPX")), draw(names))


@settings(derandomize=True, deadline=None, max_examples=500, database=None)
@given(bodies(), st.data())
def test_messages_are_read_as_by_postgresql(whole: bytes, data: st.DataObject) -> None:
    check(whole)
    for end in range(5, len(whole)):
        expected = check(whole[:end])
        assert isinstance(expected, tuple)
        assert expected[0] in ("08P01", "22023"), "no part of a message is one"
    for place in range(5, len(whole)):
        byte = data.draw(st.integers(0, 255))
        check(whole[:place] + bytes([byte]) + whole[place + 1 :])
        check(whole[:place] + whole[place + 1 :])
        check(whole[:place] + bytes([byte]) + whole[place:])


@settings(derandomize=True, deadline=None, max_examples=500, database=None)
@given(st.sampled_from("BPDECQ"), st.binary(max_size=40))
def test_any_bytes_are_read_as_by_postgresql(kind: str, body: bytes) -> None:
    check(message(kind, body))


def test_a_message_is_what_was_built() -> None:
    whole = bind(b"a", None, b"", portal="p", name="s", formats=[1, 0])
    values: list[Value] = [(b"a", False), (None, False), (b"", False)]
    assert check(whole) == (b"p", b"s", values, [1, 0])
    assert check(parse("SELECT 1", "s", [23, 2**32 - 1])) == (
        b"s",
        b"SELECT 1",
        [23, 2**32 - 1],
    )
    assert check(describe("P", "p")) == (ord("P"), b"p")
    assert check(execute("p", 2**32 - 1)) == (b"p", -1)
    assert check(query("SELECT 1")) == b"SELECT 1"


def test_the_names_of_a_parse_have_a_number_behind_them() -> None:
    whole = parse("SELECT 1", "s")
    assert binds.parse_ends(whole, 0, len(whole)) == (6, 15)
    for cut in (1, 2):
        with pytest.raises(ClientProtocolError, match="insufficient"):
            binds.parse_ends(whole, 0, len(whole) - cut)


def test_values_are_read_before_the_rest_is_there() -> None:
    whole = bind(b"first", b"second")[7:]
    head = whole[: whole.index(b"second") + 3]
    parameters = Parameters(head)
    assert parameters.count == 2
    assert parameters.advance()
    assert parameters.value == b"first"
    with pytest.raises(ClientProtocolError, match="insufficient"):
        parameters.advance()
    assert (parameters.number, parameters.value) == (1, b"first"), "it is where it was"


def test_the_results_formats_are_found_without_reading_the_values() -> None:
    assert Parameters(bind(b"a", b"b", formats=[1, 0, 1])[7:]).result_formats() == (1, 0, 1)
    with pytest.raises(ClientProtocolError, match="unsupported format code: 2"):
        Parameters(struct.pack("!HHHiH", 1, 2, 1, 0, 0)).result_formats()


def test_the_largest_counts_that_are_not_there_cost_nothing() -> None:
    for data in (
        b"\xff\xff\0\0",
        b"\0\0\xff\xff",
        b"\0\0\0\0\xff\xff",
        b"\0\0\0\1\x7f\xff\xff\xff",
    ):
        with pytest.raises(ClientProtocolError, match="insufficient data left in message"):
            Parameters(data).result_formats()


@given(st.binary(max_size=40), st.integers(0, 45), st.integers(0, 45))
def test_the_end_of_a_string_is_its_first_zero(data: bytes, start: int, end: int) -> None:
    # None of it, or half of it, with and without zeros.
    for text in (data, data.replace(b"\0", b"x"), b"\0" * (len(data) // 2) + data):
        found = text.find(b"\0", start, end)
        if found >= 0:
            assert binds.string_end(text, start, end) == found
        else:
            with pytest.raises(ClientProtocolError):
                binds.string_end(text, start, end)
