"""Literals taken out of texts."""

from __future__ import annotations

from itertools import product

import pytest

from router.firstwords import MAX_SLASHES
from router.routing.fingerprint import (
    UnknownLexeme,
    comments_of,
    fingerprint_of,
    short_fingerprint_of,
    string_value,
)
from router.routing.limits import TooComplex


@pytest.mark.parametrize(
    ("text", "fingerprint", "literals"),
    [
        (b"", b"", []),
        (b"SELECT a FROM t WHERE id = 7;", b"SELECT a FROM t WHERE id = 0;", [b"7"]),
        (b"id=7 AND n='x'", b"id=0 AND n='1'", [b"7", b"'x'"]),
        (b"'it''s'", b"'0'", [b"'it''s'"]),
        (b"''", b"'0'", [b"''"]),
        (b"'a;b--c/*d'", b"'0'", [b"'a;b--c/*d'"]),
        (b" E'a\\'b' 1", b" E'0' 1", [b"'a\\'b'", b"1"]),
        (b" e'\\\\' 1", b" e'0' 1", [b"'\\\\'", b"1"]),
        (b"name'a\\b'", b"name'0'", [b"'a\\b'"]),
        (b"U&'d\\0061'", b"U&'0'", [b"'d\\0061'"]),
        (b"B'101' X'1F' x'2'", b"B'101' X'1F' x'2'", []),
        (b"$$a$$ $t$b $$ $t$", b"'0' '1'", [b"$$a$$", b"$t$b $$ $t$"]),
        (b"a$b$c$b$", b"a$b$c$b$", []),
        (b"$1 = $23", b"$1 = $23", []),
        (b"a1 b_2 c3d", b"a1 b_2 c3d", []),
        ("é1".encode(), "é1".encode(), []),
        (b"-5 +5 .5 5. 1.5 1e5 1.5e-5", b"-0 +1 .2 3 4 5 6",
         [b"5", b"5", b"5", b"5.", b"1.5", b"1e5", b"1.5e-5"]),
        (b"0x1F 0o17 0b11 1_000", b"0 1 2 3", [b"0x1F", b"0o17", b"0b11", b"1_000"]),
        (b"a[1:2]", b"a[0:1]", [b"1", b"2"]),
        (b"1,2,3", b"0,1,2", [b"1", b"2", b"3"]),
        (b'"a 1 \'" 1', b'"a 1 \'" 0', [b"1"]),
        (b'"a""1"', b'"a""1"', []),
        (b"1 -- 2 '\n3", b"0  \n1", [b"1", b"3"]),
        (b"1 -- 2\r3", b"0  \r1", [b"1", b"3"]),
        (b"1 /* 2 ' */ 3", b"0   1", [b"1", b"3"]),
        (b"1 /* /* 2 */ ' */ 3", b"0   1", [b"1", b"3"]),
        (b"/**/1/***/2", b" 0 1", [b"1", b"2"]),
        (b"5-3 5/3 5*3", b"0-1 2/3 4*5", [b"5", b"3", b"5", b"3", b"5", b"3"]),
    ],
)  # fmt: skip
def test_literals_are_numbered_and_comments_dropped(
    text: bytes, fingerprint: bytes, literals: list[bytes]
) -> None:
    assert fingerprint_of(text) == (fingerprint, literals)


@pytest.mark.parametrize(
    "text",
    [
        b"'open",
        b"'a''",
        b" E'a\\'",
        b'"open',
        b"$$open",
        b"$a$open$b$",
        b"/* open",
        b"/* /* */",
        b"1abc",
        b"0x",
        b"1e5x",
        b"$1abc",
        b"a\0b",
        b"'a\0b",
        b"/*" * 9 + b"*/" * 9,
    ],
)
def test_text_that_cannot_be_cut_is_refused(text: bytes) -> None:
    with pytest.raises(UnknownLexeme):
        fingerprint_of(text)


@pytest.mark.parametrize("text", [rb"'\'", rb"'\' OR 1=1 --'", rb"'a\''b'", rb"E'\\' 'x\' "])
def test_a_string_that_standard_conforming_strings_decides_on_is_refused(text: bytes) -> None:
    with pytest.raises(UnknownLexeme):
        fingerprint_of(text)


def comment_end(text: bytes) -> int:
    """Where the comment ends that begins a text, as in PostgreSQL; 0: it is not closed."""
    depth = at = 0
    while at < len(text):
        pair = text[at : at + 2]
        depth += (pair == b"/*") - (pair == b"*/")
        at += 2 if pair in (b"/*", b"*/") else 1
        if depth == 0:
            return at
    return 0


@pytest.mark.parametrize("length", range(9))
def test_comments_end_where_those_of_postgres_do(length: int) -> None:
    for characters in product(b"/*\n", repeat=length):
        text = b"/*" + bytes(characters)
        end = comment_end(text)
        if end:
            # What is behind it is not read here, but may be another comment.
            assert fingerprint_of(text[:end] + b"x") == (b" x", []), text
            assert comments_of(text, 1)[0] == [(0, end)]
        else:
            with pytest.raises(UnknownLexeme):
                fingerprint_of(text)
            assert comments_of(text, 1) == ([], 0)


@pytest.mark.parametrize("depth", [1, 4, 5, 6])
def test_comments_are_followed_five_deep(depth: int) -> None:
    text = b"a " + b"/* " * depth + b"*/ " * depth + b"1"
    if depth <= 5:
        assert fingerprint_of(text)[1] == [b"1"]
    else:
        with pytest.raises(UnknownLexeme):
            fingerprint_of(text)


@pytest.mark.parametrize("unit", [b"/", b"/a", b"/**/"])
@pytest.mark.parametrize("before", [b"", b"/" * MAX_SLASHES, b"f(" + b"1, " * 5])
def test_so_many_slashes_may_be_behind_the_beginning_of_a_comment(
    unit: bytes, before: bytes
) -> None:
    most = (MAX_SLASHES - 3) // unit.count(b"/")
    head = before + b" -- / /*\n"
    text = head + b"/* " + unit * most + b" */"
    for reduce in (fingerprint_of, short_fingerprint_of):
        assert b"*/" not in reduce(text)[0]
        more = head + b"/* " + unit * (most + 2) + b" */"
        with pytest.raises(TooComplex, match="slashes"):
            reduce(more)


@pytest.mark.parametrize("slashes", [MAX_SLASHES, MAX_SLASHES + 1])
def test_a_comment_that_begins_where_they_are_looked_for_may_have_so_many_slashes(
    slashes: int,
) -> None:
    head = b"/* a */ b "
    text = head + b"/* c" + b" /" * (slashes - 1) + b" */ d"
    found, certain = comments_of(text, 14)
    is_read = slashes <= MAX_SLASHES
    assert found == [(0, 7), (10, len(text) - 2)][: 1 + is_read]
    assert certain == (len(text) if is_read else 10)
    assert comments_of(text, 10)[0] == [(0, 7)]
    assert len(comments_of(text, len(text))[0]) == 2


KINDS_OF_CHARACTERS = b"'\"$/*-0aEx\\.;_( \n\0\xe9"


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_a_text_begins_and_ends_with_any_character_as_after_and_before_a_blank(
    length: int,
) -> None:
    for characters in product(KINDS_OF_CHARACTERS, repeat=length):
        text = bytes(characters)
        try:
            fingerprint, literals = fingerprint_of(text)
        except UnknownLexeme:
            with pytest.raises(UnknownLexeme):
                fingerprint_of(b" " + text + b"\n")
        else:
            assert fingerprint_of(b" " + text + b"\n") == (
                b" " + fingerprint + b"\n",
                literals,
            ), text


def test_texts_that_differ_in_values_and_comments_share_a_fingerprint() -> None:
    one, _ = fingerprint_of(b"SELECT * FROM t WHERE a = 1 AND b = 'x' -- 1")
    other, _ = fingerprint_of(b"SELECT * FROM t WHERE a = 22 AND b = $$y's$$ -- 2, by 'me'")
    assert one == other


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"a = 1", b"a = '1'"),
        (b"a = 1", b"a = -1"),
        (b"a = 1", b"a = $1"),
        (b"a IN (1)", b"a IN (1, 2)"),
        (b'"a"', b"'a'"),
        (b"SELECT 1 a", b"SELECT 1 b"),
    ],
)
def test_texts_that_differ_in_more_do_not_share_a_fingerprint(one: bytes, other: bytes) -> None:
    assert fingerprint_of(one)[0] != fingerprint_of(other)[0]


@pytest.mark.parametrize(
    ("literal", "value"),
    [
        (b"'a'", b"a"),
        (b"''", b""),
        (b"$$a$$", b"a"),
        (b"$t$a$$b$t$", b"a$$b"),
        (b"'a''b'", b"a''b"),
    ],
)
def test_a_string_has_a_value(literal: bytes, value: bytes) -> None:
    assert string_value(literal) == value


def test_what_is_remembered_of_the_last_text_is_not_told_of_another() -> None:
    texts = [b"SELECT a, 1", b"SELECT a, 22", b"SELECT a FROM t WHERE id IN (1, 2)", b""]
    for first, second in product(texts, texts):
        found = [short_fingerprint_of(text) for text in (first, second, first, first)]
        assert found[0] == found[2] == found[3]
        assert found[1][1] != found[0][1] or first == second
    with pytest.raises(UnknownLexeme):
        short_fingerprint_of(b"SELECT 'open")
    assert short_fingerprint_of(b"SELECT 1") == (b"SELECT 0", [b"1"])
