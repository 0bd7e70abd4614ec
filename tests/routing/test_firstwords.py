"""How statements begin."""

from __future__ import annotations

import re

import pytest

from router.routing.commands import worded
from router.routing.explain import explained
from router.routing.firstwords import BEFORE, beginnings, may_begin

WORDS = beginnings(b"set", b"show", b"explain")


@pytest.mark.parametrize(
    "text",
    [
        *(b"set x", b"SET x", b"sEt", b"SHOW", b"showing", b"ExPlain", b" set", b"\nshow"),
        *(b"-- x\nset", b"/* x */ set", b";set", b"\t\r\f\v;SHOW", b" /* x *//**/--\r;;SET"),
    ],
)
def test_a_text_may_begin_with_one_of_the_words(text: bytes) -> None:
    assert may_begin(text, WORDS)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"se", b"select", b"reset", b"(set", b"1", b"\xff", b"\n", b"--set", b"/*set*/"),
        *(b"/* set", b" select", b"/* x */ select", b"-/set", b"/* /* */ */ set", b"; se"),
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


@pytest.mark.parametrize("before", [b"(", b"/* ", b"--", b"x ", b"/* a */ b "])
def test_nothing_else_is(before: bytes) -> None:
    assert re.fullmatch(BEFORE, before) is None or before == b"--"
    assert worded(before + b"SET SHARD TO 1") is None
    assert explained(before + b"EXPLAIN ROUTE SELECT 1") is None
