"""How statements begin."""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING

import pytest

from router.admin.statements import split
from router.firstwords import BEFORE, MAX_GAPS, beginnings, may_begin
from router.protocol import marks
from router.protocol.naming import naming_in
from router.routing import transactions
from router.routing.commands import worded
from router.routing.explain import explained
from router.session.answered import deallocation

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = beginnings(b"set", b"show", b"explain")


@pytest.mark.parametrize(
    "text",
    [
        *(b"set x", b"SET x", b"sEt", b"SHOW", b"showing", b"ExPlain", b" set", b"\nshow"),
        *(
            b"-- x\nset",
            b"/* x */ set",
            b";set",
            b"\t\r\f\v;SHOW",
            b" /* x *//**/--\r;;SET",
            b"/* /* */ */ set",
        ),
    ],
)
def test_a_text_may_begin_with_one_of_the_words(text: bytes) -> None:
    assert may_begin(text, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"se", b"select", b"reset", b"(set", b"1", b"\xff", b"\n", b"--set", b"/*set*/"),
        *(
            b"/* set",
            b" select",
            b"/* x */ select",
            b"-/set",
            b"/* /* */ set",
            b"/*" * 6 + b"*/" * 6 + b"set",
            b"; se",
        ),
    ],
)
def test_most_texts_do_not(text: bytes) -> None:
    assert not may_begin(text, WORDS)


@pytest.mark.parametrize(
    "before",
    [b"", b" ", b"\n\t", b";; ", b"-- it's\n", b"/* a */ ", b"/**/-- x\r;", b" /* ** */ "],
)
def test_the_same_is_skipped_before_all_commands(before: bytes) -> None:
    assert re.fullmatch(BEFORE, before)
    for text in (b"SET SHARD TO 1", b"show shard", b"Reset Server Role"):
        assert worded(before + text) is not None
    assert explained(before + b"EXPLAIN ROUTE SELECT 1") == before.strip() + b"SELECT 1"


@pytest.mark.parametrize("piece", [b" /**/", b"--\n", b"; "])
def test_so_many_gaps_are_skipped(piece: bytes) -> None:
    parts = re.findall(rb"\s|;|/\*\*/|--", piece)
    count = MAX_GAPS // len(parts)
    assert may_begin(piece * count + b"set", WORDS)
    assert not may_begin(piece * (count + 1) + b"set", WORDS)


def _gaps() -> Iterator[bytes]:
    """Blanks and comments, one to three of them, in all orders."""
    single = (b" ", b"\n", b"-- it's; /*\n", b"--\r", b"/**/", b"/***/", b"/* a /* ; */ '*/")
    for length in (1, 2, 3):
        for parts in product(single, repeat=length):
            yield b"".join(parts)


def test_all_readers_skip_the_same_between_words() -> None:
    for gap in _gaps():
        assert worded(gap.join((b"", b"SET", b"SHARD", b"TO", b"'1'", b""))) is not None, gap
        assert explained(gap.join((b"", b"EXPLAIN", b"ROUTE", b"SELECT 1"))) is not None, gap
        begun = transactions.read(gap.join((b"", b"BEGIN", b"READ", b"ONLY", b"")))
        assert begun is not None, gap
        assert begun.is_read_only, gap
        for words in ((b"DEALLOCATE", b"ALL"), (b"DISCARD", b"ALL"), (b"DEALLOCATE", b'"a"')):
            text = gap.join((b"", *words, b""))
            assert deallocation(text) is not None, text
            assert naming_in(text) is not None, text
        assert marks.of_text(gap.join((b"", b"RESET", b"ALL", b""))).resets_all, gap
        assert marks.of_text(gap.join((b"", b"SET", b"LOCAL", b"a = 1"))).is_set_local, gap
        assert marks.of_text(gap.join((b"SELECT 1;", b"ALTER", b"TABLE a"))).alters, gap
        [statement] = split(gap.join((b"", b"SHOW", b"POOLS", b"")).decode())
        assert statement.words == ("SHOW", "POOLS"), gap


@pytest.mark.parametrize("before", [b"(", b"/* ", b"--", b"x ", b"/* a */ b "])
def test_nothing_else_is(before: bytes) -> None:
    assert re.fullmatch(BEFORE, before) is None or before == b"--"
    assert worded(before + b"SET SHARD TO 1") is None
    assert explained(before + b"EXPLAIN ROUTE SELECT 1") is None
