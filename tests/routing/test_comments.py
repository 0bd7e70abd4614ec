"""Routing by regular expressions over the text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.regexes import Regex
from router.errors import InvalidShard, InvalidShardingKey, RoutingError
from router.routing.comments import CommentRouter
from router.routing.fingerprint import UnknownLexeme, fingerprint_of
from router.routing.sharding import Sharder
from router.routing.types import Analysis, RouterOptions, Verdict

PLAIN = Analysis((), Verdict.READ, "")
SHARD_ID = r"/\* shard_id: (\d+) \*/"
KEY = r"/\* sharding_key: (-?\d+) \*/"
MARKED = "/* shard_id: 1 */"
BOTH = RouterOptions(shard_id_regex=Regex(SHARD_ID), sharding_key_regex=Regex(KEY))


def note(text: bytes, options: RouterOptions = BOTH) -> Analysis:
    return CommentRouter(options).note(text, PLAIN)


def test_without_a_regex_there_is_nothing_to_do() -> None:
    router = CommentRouter(RouterOptions())
    assert not router.is_needed
    assert router.note(b"/* shard_id: 1 */ SELECT 1", PLAIN) is PLAIN


def test_a_shard_is_found_anywhere() -> None:
    assert note(b"/* shard_id: 1 */ SELECT 1").comment_shard == 1
    assert note(b"SELECT 1 /* shard_id: 0 */").comment_shard == 0
    assert CommentRouter(BOTH).is_needed


def test_a_key_is_found() -> None:
    analysis = note(b"/* sharding_key: -6 */ SELECT 1")
    assert analysis.comment_key == -6
    assert analysis.comment_shard is None


def test_the_shard_wins_over_the_key() -> None:
    analysis = note(b"/* sharding_key: 6 */ /* shard_id: 1 */ SELECT 1")
    assert analysis.comment_shard == 1
    assert analysis.comment_key is None


def test_other_text_changes_nothing() -> None:
    assert note(b"SELECT 1 /* shard: 1 */") is PLAIN
    assert note(b";") is PLAIN
    assert note(b"") is PLAIN


def test_only_the_beginning_is_searched() -> None:
    options = RouterOptions(shard_id_regex=Regex(SHARD_ID), regex_search_limit=20)
    assert note(b"/* shard_id: 1 */ SELECT 1", options).comment_shard == 1
    assert note(b"SELECT 1 /* shard_id: 1 */", options) is PLAIN


def test_text_that_is_not_utf_8_is_searched_too() -> None:
    assert note(b"\xff /* shard_id: 1 */ \xfe").comment_shard == 1


def test_a_shard_out_of_all_bounds_is_an_error() -> None:
    analysis = note(b"/* shard_id: " + b"9" * 500 + b" */")
    assert isinstance(analysis.comment_error, InvalidShard)
    assert len(analysis.comment_error.message) < 100


def test_a_group_without_a_number_is_an_error() -> None:
    options = RouterOptions(shard_id_regex=Regex(r"shard=(\w*)"))
    assert isinstance(note(b"--shard=x", options).comment_error, InvalidShard)
    assert isinstance(note(b"--shard=-1", options).comment_error, InvalidShard)
    options = RouterOptions(shard_id_regex=Regex(r"shard(=\d+)?"))
    assert isinstance(note(b"--shard", options).comment_error, InvalidShard)


def test_a_key_that_is_no_bigint_is_an_error() -> None:
    analysis = note(b"/* sharding_key: 9223372036854775808 */")
    assert isinstance(analysis.comment_error, InvalidShardingKey)


HIDING = [
    "'{}'",
    "E'\\' {}'",
    "e'{}'",
    "'it''s {}'",
    "$${}$$",
    "$a$ $$ {} $a$",
    '"{}"',
    '"a""{}"',
    "U&'{}'",
    "N'{}'",
    "'/*' || '{}' || '*/'",
    "'--' || '{}'",
    "/* only this */ '{}'",
    "$1 || '{}'",
    "a$b || '{}' || a$b",
]


@pytest.mark.parametrize("option", ["shard_id_regex", "sharding_key_regex"])
@pytest.mark.parametrize("hiding", HIDING)
def test_data_has_no_say(hiding: str, option: str) -> None:
    pattern = SHARD_ID if option == "shard_id_regex" else KEY
    options = RouterOptions(**{option: Regex(pattern)})  # type: ignore[arg-type]
    comment = "/* shard_id: 1 */" if option == "shard_id_regex" else "/* sharding_key: 1 */"
    text = f"SELECT {hiding.format(comment)}"
    assert note(text.encode(), options) is PLAIN
    # A comment in front or behind counts all the same.
    for whole in (comment.replace("1", "7") + text, text + "\n" + comment.replace("1", "7")):
        analysis = note(whole.encode(), options)
        assert 7 in (analysis.comment_shard, analysis.comment_key)


@pytest.mark.parametrize(
    "comment",
    [
        "/* shard_id: 7 */",
        "/* 'quoted' /* nested shard_id: 7 */ */",
        "/* it's */ /* shard_id: 7 */",
        "-- shard_id: 7",
        "-- it's\n--shard_id: 7\n",
        "/*\n shard_id: 7\n*/",
        "/* é */ /* shard_id: 7 */",
    ],
)
@pytest.mark.parametrize("before", ["", "SELECT 'é', 1 ", "SELECT $$it's$$ - 1 "])
def test_comments_of_all_kinds_count(before: str, comment: str) -> None:
    options = RouterOptions(shard_id_regex=Regex(r"shard_id: (\d+)\s"))
    text = f"{before}{comment}\n+ 2"
    assert note(text.encode(), options).comment_shard == 7


def test_a_match_does_not_reach_from_one_comment_into_another() -> None:
    options = RouterOptions(shard_id_regex=Regex(r"shard_id.*?(\d+)"))
    assert note(b"/* shard_id */ SELECT 5 /* 6 */", options) is PLAIN
    assert note(b"/* shard_id */ SELECT 5 /* shard_id 6 */", options).comment_shard == 6


def test_an_anchor_is_the_beginning_of_the_text() -> None:
    options = RouterOptions(shard_id_regex=Regex("^" + SHARD_ID))
    assert note(b"/* shard_id: 1 */ SELECT 1", options).comment_shard == 1
    assert note(b"SELECT 1 /* shard_id: 1 */", options) is PLAIN


@pytest.mark.parametrize(
    "before",
    [
        r"SELECT 'C:\' ",
        "SELECT 'open ",
        "SELECT $$open ",
        'SELECT "open ',
        "/* /* /* /* /* /* deep */ */ */ */ */ */ ",
        "SELECT 1\0 ",
    ],
)
def test_what_may_be_part_of_a_string_is_refused(before: str) -> None:
    analysis = note((before + "/* shard_id: 1 */").encode())
    assert analysis.comment_shard is None
    assert isinstance(analysis.comment_error, RoutingError)
    assert analysis.comment_error.sqlstate == "22023"
    assert note(before.encode()) is PLAIN
    assert (
        note(("/* shard_id: 2 */" + before + "/* shard_id: 1 */").encode()).comment_shard == 2
    )


def test_the_end_of_a_line_is_asked_for_by_a_flag() -> None:
    text = b"-- shard 1\nSELECT 1"
    assert note(text, RouterOptions(shard_id_regex=Regex(r"shard (\d+)$"))) is PLAIN
    options = RouterOptions(shard_id_regex=Regex(r"(?m)shard (\d+)$"))
    assert note(text, options).comment_shard == 1


def test_digits_that_the_expression_does_not_know_are_not_left_out() -> None:
    options = RouterOptions(shard_id_regex=Regex(r"shard (\d+)"))
    analysis = note("/* shard 12٣ */".encode(), options)
    assert analysis.comment_shard is None
    assert isinstance(analysis.comment_error, RoutingError)


def test_digits_of_all_scripts_may_be_in_a_key() -> None:
    options = RouterOptions(
        sharding_key_regex=Regex(r"key ([\pL\pN]+)"), sharding_function="pg_text_hash"
    )
    router = CommentRouter(options, Sharder(options))
    assert router.note("/* key é12٣ */".encode(), PLAIN).comment_key == "é12٣"


@pytest.mark.parametrize(
    "text",
    [
        b"/* shard \xe9 1 */",
        b"/* shard \xed\xa0\x80 1 */",
        b"/* shard \xf4\x90\x80\x80 1 */",
        b"/* shard \xc0\x80 1 */",
        b"/* shard " + bytes(range(128, 256)) + b"1 */",
    ],
)
def test_bytes_that_are_no_characters_are_matched_by_nothing_harmful(text: bytes) -> None:
    for pattern in (r"shard .* (\d+)", r"shard [^*]*(\d+)", r"shard \C*(\d) ", r"(?s)(.*)"):
        note(text, RouterOptions(shard_id_regex=Regex(pattern)))


@given(st.binary(max_size=40), st.integers(0, 60))
def test_no_text_is_too_much(text: bytes, limit: int) -> None:
    options = RouterOptions(
        shard_id_regex=Regex(r"(?s)shard(.*)(\d)?"),
        sharding_key_regex=Regex(r"(\C*)"),
        regex_search_limit=limit,
    )
    for whole in (text, b"/*" + text + b"*/", b"-- shard" + text):
        note(whole, options)


def test_a_piece_of_a_character_is_no_key() -> None:
    options = RouterOptions(
        sharding_key_regex=Regex(r"key (\C\C)"), sharding_function="pg_text_hash"
    )
    analysis = CommentRouter(options, Sharder(options)).note("/* key aé */".encode(), PLAIN)
    assert analysis.comment_key is None
    assert isinstance(analysis.comment_error, RoutingError)


@pytest.mark.parametrize(
    "pattern", [r"(\d+\s*)+x", r"(a*)*b", r"(a|aa)+b", r".*a.*a.*a.*a.*(b)"]
)
def test_no_expression_is_slow_in_a_text_that_is_made_for_it(pattern: str) -> None:
    # Trying one way after the other takes longer than the universe has.
    options = RouterOptions(shard_id_regex=Regex(pattern), regex_search_limit=100_000)
    for text in (b"/*" + b"a" * 50_000 + b"*/", b"/*" + b"1 " * 40_000 + b"*/"):
        assert note(text, options) is PLAIN


def test_many_comments_cost_little() -> None:
    options = RouterOptions(shard_id_regex=Regex(SHARD_ID), regex_search_limit=400_000)
    text = "/*é*/" * 50_000 + "SELECT '/* shard_id: 1 */'"
    assert note(text.encode(), options) is PLAIN


def test_a_match_in_a_string_is_data_whatever_comes_behind_it() -> None:
    assert note(rb"SELECT '/* shard_id: 1 */', 'C:\', 'D:\'") is PLAIN


PIECES = (
    "'",
    '"',
    "$$",
    "$a$",
    "/*",
    "*/",
    "--",
    "\n",
    "e'",
    " ",
    "1",
    "a",
    "é",
    MARKED,
    MARKED,
)


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join))
def test_comments_are_those_that_the_fingerprint_has_not(text: str) -> None:
    try:
        fingerprint, literals = fingerprint_of(text.encode())
    except UnknownLexeme:
        return
    inside = sum(part.count(MARKED.encode()) for part in (fingerprint, *literals))
    found = note(text.encode()).comment_shard is not None
    assert found is (text.count(MARKED) > inside)
