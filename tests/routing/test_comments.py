"""Routing by regular expressions over the text."""

from __future__ import annotations

import pytest

from router.errors import ConfigError, InvalidShard, InvalidShardingKey
from router.routing.comments import CommentRouter
from router.routing.types import Analysis, RouterOptions, Verdict

PLAIN = Analysis((), Verdict.READ, "")
SHARD_ID = r"/\* shard_id: (\d+) \*/"
KEY = r"/\* sharding_key: (-?\d+) \*/"
BOTH = RouterOptions(shard_id_regex=SHARD_ID, sharding_key_regex=KEY)


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
    options = RouterOptions(shard_id_regex=SHARD_ID, regex_search_limit=20)
    assert note(b"/* shard_id: 1 */ SELECT 1", options).comment_shard == 1
    assert note(b"SELECT 1 /* shard_id: 1 */", options) is PLAIN


def test_text_that_is_not_utf_8_is_searched_too() -> None:
    assert note(b"\xff /* shard_id: 1 */ \xfe").comment_shard == 1


def test_a_shard_out_of_all_bounds_is_an_error() -> None:
    analysis = note(b"/* shard_id: " + b"9" * 500 + b" */")
    assert isinstance(analysis.comment_error, InvalidShard)
    assert len(analysis.comment_error.message) < 100


def test_a_group_without_a_number_is_an_error() -> None:
    options = RouterOptions(shard_id_regex=r"shard=(\w*)")
    assert isinstance(note(b"shard=x", options).comment_error, InvalidShard)
    assert isinstance(note(b"shard=-1", options).comment_error, InvalidShard)
    options = RouterOptions(shard_id_regex=r"shard(=\d+)?")
    assert isinstance(note(b"shard", options).comment_error, InvalidShard)


def test_a_key_that_is_no_bigint_is_an_error() -> None:
    analysis = note(b"/* sharding_key: 9223372036854775808 */")
    assert isinstance(analysis.comment_error, InvalidShardingKey)


@pytest.mark.parametrize(("pattern", "problem"), [("(", "shard_id_regex"), (r"\d+", "group")])
def test_a_useless_regex_is_the_operators_error(pattern: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        CommentRouter(RouterOptions(shard_id_regex=pattern))
