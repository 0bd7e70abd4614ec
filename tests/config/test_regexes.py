"""Regular expressions of the file."""

from __future__ import annotations

import pytest

from router.config.regexes import Regex


def test_the_place_of_the_group_is_told_and_not_that_of_the_match() -> None:
    assert Regex("id: ([0-9]+);").find(b"-- id: 12;", 0, 10) == (7, 9)
    assert Regex("id(: [0-9]+)?").find(b"id", 0, 2) == (-1, -1)
    assert Regex("(x)").find(b"id", 0, 2) is None


def test_only_what_is_within_the_bounds_is_matched() -> None:
    regex = Regex("(a+)")
    assert regex.find(b"aaaa", 1, 3) == (1, 3)
    assert regex.find(b"aab", 2, 3) is None
    # The beginning and the end are those of the text all the same.
    assert Regex("^(a)").find(b"aaa", 1, 3) is None
    assert Regex("(a)$").find(b"aaa", 0, 2) is None


def test_places_are_counted_in_bytes() -> None:
    assert Regex("é(.)").find("éü".encode(), 0, 4) == (2, 4)


def test_those_of_the_same_text_are_equal() -> None:
    assert Regex("(a)") == Regex("(a)")
    assert Regex("(a)") != Regex("(b)")
    assert Regex("(a)") != "(a)"
    assert len({Regex("(a)"), Regex("(a)"), Regex("(b)")}) == 2
    assert (str(Regex("(a)")), repr(Regex("(a)"))) == ("(a)", "Regex('(a)')")


def test_one_that_cannot_be_used_writes_nothing_by_itself(
    capfd: pytest.CaptureFixture[str],
) -> None:
    for text in ("(", r"(\pL{1,300}x\pL{1,300})"):
        with pytest.raises(ValueError, match="must be a regular expression of RE2"):
            Regex(text)
    # It would tell of each text that is too much for its quickest way of matching.
    states = Regex(r"((?:\w{1,30}){30}z)")
    states.find(b"a" * 100_000, 0, 100_000)
    assert capfd.readouterr() == ("", "")


def test_the_longest_search_grows_with_the_text_and_the_expression() -> None:
    short, long = Regex("(a)"), Regex("((?:a?b?c?){50})")
    assert short.longest_search(2000) == 2 * short.longest_search(1000)
    assert short.longest_search(1000) < long.longest_search(1000)


@pytest.mark.parametrize("text", [r"(\w)", r"(a)\b", r"(\\\w)", "(\\\n\\W)", r"\B(a)"])
def test_classes_of_ascii_are_seen(text: str) -> None:
    assert Regex(text).is_ascii_only


@pytest.mark.parametrize("text", ["(w)", r"(\\w)", r"(\pL\d\s)", r"(\\\\b)"])
def test_what_only_looks_like_one_is_none(text: str) -> None:
    assert not Regex(text).is_ascii_only
