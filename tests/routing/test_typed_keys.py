"""Text and uuids as sharding keys, in all the places where a key can stand."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import UUID

import pytest

from router.config.regexes import Regex
from router.errors import InvalidShardingKey, RoutingError
from router.routing.commands import ClientCommand, Verb, worded
from router.routing.hashing import pg_text_hash, pg_uuid_hash, sha1
from router.routing.router import QueryRouter
from router.routing.sharding import Sharder
from router.routing.state import RoutingState
from router.routing.types import RouterOptions, ShardKeys

TEXT = RouterOptions(
    shard_count=5,
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    automatic_sharding_key="data.id",
    sharding_function="pg_text_hash",
    sharding_key_regex=Regex(r"/\* key: (.*?) \*/"),
    default_shard="shard_4",
)
UUIDS = replace(TEXT, sharding_function="pg_uuid_hash")
ONE = UUID("01234567-89ab-cdef-0123-456789abcdef")
CHANGES = (("client_encoding", "LATIN1"), ("standard_conforming_strings", "off"))


def shard(
    options: RouterOptions, sql: str | bytes, state: RoutingState | None = None
) -> object:
    """The shard of a simple query."""
    text = sql.encode() if isinstance(sql, str) else sql
    return QueryRouter(options).route(text, state or RoutingState()).shard


def command(options: RouterOptions, sql: str | bytes) -> ClientCommand:
    """What a routing command says."""
    wording = worded(sql.encode() if isinstance(sql, str) else sql)
    assert wording is not None
    return wording.command(sharder=Sharder(options))


def chosen(options: RouterOptions, sql: str, state: RoutingState | None = None) -> int | None:
    """The shard that a client has after a routing command."""
    state = state or RoutingState()
    state.execute(command(options, sql), options, random.Random(1))
    return state.shard


# --- in SQL


@pytest.mark.parametrize(
    ("literal", "key"),
    [
        ("'ann'", "ann"),
        ("''", ""),
        ("'it''s'", "it's"),
        ("$$it's$$", "it's"),
        ("E'it\\'s'", "it's"),
        ("E'\\u00e9'", "é"),
        ("'grün'", "grün"),
        ("'a\\b'", "a\\b"),
        ("'Ann'::text", "Ann"),
        ("5", "5"),
        ("' a '", " a "),
    ],
)
def test_a_text_literal_chooses_the_shard(literal: str, key: str) -> None:
    for sql in (
        f"SELECT * FROM data WHERE id = {literal}",
        f"INSERT INTO data (x, id) VALUES (1, {literal})",
    ):
        assert shard(TEXT, sql) == pg_text_hash(key, 5)


@pytest.mark.parametrize(
    "literal", [f"'{ONE}'", f"'{ONE.hex.upper()}'", f"'{ONE}'::uuid", f"uuid '{ONE}'"]
)
def test_a_uuid_literal_chooses_the_shard(literal: str) -> None:
    assert shard(UUIDS, f"SELECT * FROM data WHERE id = {literal}") == pg_uuid_hash(ONE, 5)


def test_texts_of_one_fingerprint_have_their_own_text_keys() -> None:
    router = QueryRouter(TEXT)
    for key in ("a", "b", "c''d", "é"):
        sql = f"SELECT * FROM data WHERE id = '{key}'".encode()
        for _ in range(2):
            route = router.route(sql, RoutingState())
            assert route.shard == pg_text_hash(key.replace("''", "'"), 5)
    assert router.cache.misses == 1


@pytest.mark.parametrize(
    "condition",
    [
        "id = 1.5",
        "id = N'x'",
        "id = U&'x'",
        "id = 'abcdef'::varchar(3)",
        "id = 'a' || 5",
        "id = 'a' || name",
        "id = 'a'::bpchar",
        "id = 'x'\n'y'",
    ],
)
def test_a_text_key_that_is_not_sure_is_not_known(condition: str) -> None:
    assert shard(TEXT, f"SELECT * FROM data WHERE {condition}") == 4


def test_a_literal_that_is_not_utf_8_is_an_error() -> None:
    router = QueryRouter(TEXT)
    text = b"SELECT * FROM data WHERE id = 'gr\xfcn'"
    for _ in range(2):
        with pytest.raises(InvalidShardingKey, match="UTF-8"):
            router.route(text, RoutingState())
    state = RoutingState()
    state.shard, state.is_default = 3, False
    assert router.route(text, state).shard == 3
    analysis = router.analyse(text)
    with pytest.raises(InvalidShardingKey, match="UTF-8"):
        router.route_analysis(analysis, RoutingState())


def test_sha1_takes_other_types_as_well() -> None:
    options = replace(TEXT, sharding_function="sha1", sharding_key_type="text")
    assert shard(options, "SELECT * FROM data WHERE id = 'ann'") == sha1("ann", 5)


@pytest.mark.parametrize("function", ["list", "range"])
def test_a_key_that_no_shard_has_is_an_error(function: str) -> None:
    keys = (ShardKeys((5, 6), ((5, 7),)), ShardKeys((1,), ((1, 2),)))
    options = replace(TEXT, sharding_function=function, shard_keys=keys, shard_count=2)
    options = replace(options, default_shard="shard_0")
    router = QueryRouter(options)
    assert router.route(b"SELECT * FROM data WHERE id = 6", RoutingState()).shard == 0
    assert router.route(b"SELECT * FROM data WHERE id = 1", RoutingState()).shard == 1
    assert router.route(b"SELECT * FROM data", RoutingState()).shard == 0
    for _ in range(2):
        with pytest.raises(InvalidShardingKey, match='"9" of type bigint') as caught:
            router.route(b"SELECT * FROM data WHERE id = 9", RoutingState())
        assert caught.value.sqlstate == "22023"


# --- in commands


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("'ann'", "ann"),
        ("''", ""),
        ("'it''s'", "it's"),
        ("' a '", " a "),
        ("'5'", "5"),
        ("'a;b'", "a;b"),
        ("'--'", "--"),
        ("'a\nb'", "a\nb"),
        ("'a\\'", "a\\"),
        ("'grün' ; -- that", "grün"),
        ("'\"'", '"'),
        ("'$1'", "$1"),
    ],
)
def test_a_text_key_is_any_quoted_string(value: str, key: str) -> None:
    for start in ("SET SHARDING KEY TO", "set sharding key ="):
        assert command(TEXT, f"{start} {value}") == ClientCommand(
            Verb.SET_SHARDING_KEY, key=key
        )
    assert chosen(TEXT, f"SET SHARDING KEY TO {value}") == pg_text_hash(key, 5)


@pytest.mark.parametrize("value", ["ann", '"ann"', "'ann", "ann'", "5", ""])
def test_a_text_key_that_is_not_in_quotes_is_refused(value: str) -> None:
    with pytest.raises(InvalidShardingKey, match="is not in quotes") as caught:
        command(TEXT, f"SET SHARDING KEY TO {value}")
    assert caught.value.sqlstate == "22023"


@pytest.mark.parametrize("sql", ["SET SHARDING KEY TO 'a' 'b'", "SET SHARDING KEY TO 'a''"])
def test_more_than_a_string_is_refused(sql: str) -> None:
    with pytest.raises(RoutingError):
        command(TEXT, sql)


def test_a_text_key_that_is_not_utf_8_is_refused() -> None:
    with pytest.raises(InvalidShardingKey, match="UTF-8"):
        command(TEXT, b"SET SHARDING KEY TO 'gr\xfcn'")


@pytest.mark.parametrize("value", [f"'{ONE}'", f"{ONE}", f"'{{{ONE}}}'", f"' {ONE.hex} '"])
def test_a_uuid_is_taken_with_and_without_quotes(value: str) -> None:
    assert command(UUIDS, f"SET SHARDING KEY TO {value}").key == ONE
    assert chosen(UUIDS, f"SET SHARDING KEY TO {value}") == pg_uuid_hash(ONE, 5)


def test_what_is_no_uuid_is_refused() -> None:
    with pytest.raises(InvalidShardingKey, match="is not a uuid"):
        command(UUIDS, "SET SHARDING KEY TO '5'")


def test_the_value_of_a_parameter_is_taken_as_it_is() -> None:
    wording = worded(b"SET SHARDING KEY TO $1")
    assert wording is not None
    assert wording.command(" it''s ", sharder=Sharder(TEXT)).key == " it''s "


def test_a_key_that_no_shard_has_leaves_the_choice_alone() -> None:
    keys = (ShardKeys(("a",)), ShardKeys(("b",)))
    options = replace(
        TEXT, sharding_function="list", sharding_key_type="text", shard_keys=keys, shard_count=2
    )
    state = RoutingState()
    assert chosen(options, "SET SHARDING KEY TO 'b'", state) == 1
    with pytest.raises(InvalidShardingKey):
        chosen(options, "SET SHARDING KEY TO 'c'", state)
    assert state.shard == 1


# --- in comments


def test_a_comment_gives_a_text_key() -> None:
    assert shard(TEXT, "/* key: it's ü */ SELECT 1") == pg_text_hash("it's ü", 5)


def test_a_comment_gives_a_uuid() -> None:
    assert shard(UUIDS, f"/* key: {ONE} */ SELECT 1") == pg_uuid_hash(ONE, 5)
    with pytest.raises(InvalidShardingKey, match="is not a uuid"):
        shard(UUIDS, "/* key: 5 */ SELECT 1")


@pytest.mark.parametrize(
    ("pattern", "text", "limit"),
    [
        (r"key: ([\pL\d]+)", b"/* key: abcdef */", 12),
        (r"key: ([\pL\d]+)", "/* key: abé */".encode(), 11),
        (r"key: ([\pL\d]+)", b"/* key: ab\xe9 */", 1000),
        (r"([\pL\d]+) key", b"/* \xe9ab key */", 1000),
        (r"key: (.*?) \*", b"/* key: a\xe9b */", 1000),
        (r"key(: [\pL\d]+)?", b"/* key */", 1000),
    ],
)
def test_a_key_that_may_be_torn_is_an_error(pattern: str, text: bytes, limit: int) -> None:
    options = replace(TEXT, sharding_key_regex=Regex(pattern), regex_search_limit=limit)
    with pytest.raises(RoutingError, match="may not be all") as caught:
        shard(options, text + b" SELECT 1")
    assert caught.value.sqlstate == "22023"
    caught.value.message.encode()


def test_a_shard_that_is_cut_off_is_an_error() -> None:
    options = replace(TEXT, shard_id_regex=Regex(r"shard: (\d+)"), regex_search_limit=11)
    with pytest.raises(RoutingError, match="may not be all"):
        shard(options, "/* shard: 12 */ SELECT 1")


# --- of clients whose text is odd


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_client_with_odd_text_is_refused_keys_that_may_mean_others(
    name: str, value: str
) -> None:
    router = QueryRouter(TEXT)
    plain, odd = RoutingState(), RoutingState()
    odd.note_setting(name, value)
    for key in ("grün", "a\\b"):
        text = f"SELECT * FROM data WHERE id = '{key}'".encode()
        for _ in range(2):
            assert router.route(text, plain).shard == pg_text_hash(key, 5)
            with pytest.raises(InvalidShardingKey, match="not plain ASCII"):
                router.route(text, odd)
        with pytest.raises(InvalidShardingKey, match="not plain ASCII"):
            router.route_analysis(router.analyse(text), odd)
        with pytest.raises(InvalidShardingKey, match="not plain ASCII"):
            router.route(f"/* key: {key} */ SELECT 1".encode(), odd)
        with pytest.raises(InvalidShardingKey, match="not plain ASCII"):
            chosen(TEXT, f"SET SHARDING KEY TO '{key}'", odd)
        analysis = router.analyse(b"SELECT * FROM data WHERE id = $1")
        assert router.route_analysis(analysis, plain, {1: key}).shard == pg_text_hash(key, 5)
        with pytest.raises(InvalidShardingKey, match="not plain ASCII"):
            router.route_analysis(analysis, odd, {1: key})


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_client_with_odd_text_may_use_plain_keys(name: str, value: str) -> None:
    odd = RoutingState()
    odd.note_setting(name, value)
    assert shard(TEXT, "SELECT * FROM data WHERE id = 'ann'", odd) == pg_text_hash("ann", 5)
    assert shard(UUIDS, f"SELECT * FROM data WHERE id = '{ONE}'", odd) == pg_uuid_hash(ONE, 5)
    assert chosen(TEXT, "SET SHARDING KEY TO 'ann'", odd) == pg_text_hash("ann", 5)


def test_text_stays_odd_for_what_was_prepared_before() -> None:
    state = RoutingState()
    state.note_setting("client_encoding", "LATIN1")
    state.note_setting("client_encoding", "UTF8")
    state.reset()
    assert state.has_odd_text


def test_other_settings_make_no_text_odd() -> None:
    state = RoutingState()
    for name, value in (
        ("client_encoding", "UTF8"),
        ("client_encoding", "SQL_ASCII"),
        ("standard_conforming_strings", "on"),
        ("DateStyle", "German"),
    ):
        state.note_setting(name, value)
    assert not state.has_odd_text
