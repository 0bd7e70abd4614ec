"""How long regular expressions can take."""

from __future__ import annotations

import re

import pytest

from router.config.patterns import AFFORDABLE, is_explosive, steps

# The default of regex_search_limit.
LENGTH = 1000

EXPLOSIVE = [
    r"(\d+)+x",
    r"(a*)*b",
    r"(a|aa)+b",
    r"(.*a){12,}",
    r"(\d+\s*)+x",
    r"(?:[^*]+|\*(?!/))*\*/",
    r"(?:a+b?)+c",
    r"((a+)b*)+c",
    r"(?:x(?:a+)*y)+",
    r"(?i)(?:ab|[A-C]B)+c",
    r"/\* (?:\w+ ?)+: (\d+)",
    r"(.|\s)*\*/",
    r"(\w{1,3})*;",
    r"(?:\s|[\t ]x?)*;",
    r"(?=(a+)+b)",
    r"(?>(a+)+b)",
    r"((?:a+)+b)*+",
    r"(?:(x)|y(?(1)a|a))*(?:a+)*;",
]

HARMLESS = [
    r"",
    r"(1)",
    r"/\* shard_id: (\d+) \*/",
    r"/\*.*shard_id=(\d+).*\*/",
    r"/\*\s*sharding_key\s*:\s*(-?\d+)\s*\*/",
    r"shard_id:\s*'?(\d+)'?",
    r"-- shard (\d+)$",
    r"^/\*\+(?:[^/]|/(?!\*))*",
    r"/\*(?:[^*]|\*(?!/))*\*/",
    r"(?:\s+\w+)*",
    r"(?:\w+=\w+;)*id=(\d+)",
    r"(?:foo|far)+",
    r"(?:[a-f]x|[a-c]y)+",
    r"(?:[a-z]+_)*(\d+)",
    r"(?:(?:a|aa);)+",
    r"(\d{1,3}\.){3}\d+",
    r"(?:(\d+)x){3}",
    r"(?>a+)+b",
    r"(?:a++)+b",
    r"(?:[^\d]\d+)*;",
    r'(?:"[^"]*")*',
    r"(?P<x>ab)(?P=x)",
]


@pytest.mark.parametrize("pattern", EXPLOSIVE)
def test_what_can_be_divided_in_many_ways_explodes(pattern: str) -> None:
    re.compile(pattern)
    assert is_explosive(pattern)


@pytest.mark.parametrize("pattern", HARMLESS)
def test_what_is_usual_is_harmless(pattern: str) -> None:
    re.compile(pattern)
    assert not is_explosive(pattern)
    assert steps(pattern, LENGTH) < AFFORDABLE


@pytest.mark.parametrize("pattern", [r".*a.*b", r"\s*\s*\s*x", r"x\d*[0-5]+\d*y"])
def test_parts_that_compete_take_long(pattern: str) -> None:
    assert not is_explosive(pattern)
    assert steps(pattern, LENGTH) > AFFORDABLE


def test_a_short_text_never_takes_long() -> None:
    assert steps(r".*a.*b", 100) < AFFORDABLE


def test_the_beginning_of_the_text_is_one_place_to_start() -> None:
    assert steps(r"^.*a.*b", LENGTH) < AFFORDABLE < steps(r".*a.*b", LENGTH)


def test_each_choice_is_judged() -> None:
    assert steps(r"(?:x|.*a.*)b", LENGTH) > AFFORDABLE


def test_many_choices_are_judged_in_little_time() -> None:
    assert steps("(?:a|b*c)" * 200, LENGTH) > 0
