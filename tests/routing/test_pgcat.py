"""What the unit tests of PgCat's query router assert, said of this one.

Where the two differ on purpose a test says how; docs/differences-from-pgcat.md says why.
"""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from router.config.regexes import Regex
from router.errors import AmbiguousShard, RoutingError
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import CommandReply, Role, RouterOptions

from .commanded import command_in

SPLITTING = RouterOptions(
    shard_count=3, query_parser_enabled=True, query_parser_read_write_splitting=True
)
KEYED = replace(SPLITTING, automatic_sharding_key="data.id")
STICKY = replace(KEYED, sharding_key_policy="sticky")
COMMENTS = replace(
    SPLITTING,
    shard_count=5,
    shard_id_regex=Regex(r"/\* shard_id: (\d+) \*/"),
    sharding_key_regex=Regex(r"/\* sharding_key: (\d+) \*/"),
)
# Keys 5 and 6 of three shards.
SHARD_OF_5, SHARD_OF_6 = 2, 0


def run(state: RoutingState, text: str, options: RouterOptions = SPLITTING) -> CommandReply:
    """Carry out a routing command."""
    command = command_in(text.encode())
    assert command is not None, text
    return state.execute(command, options, random.Random(1))


def shard(sql: str, options: RouterOptions = KEYED, state: RoutingState | None = None) -> int:
    """The shard of a statement."""
    found = QueryRouter(options).route(sql.encode(), state or RoutingState()).shard
    assert found is not None
    return found


def role(sql: str, options: RouterOptions = SPLITTING) -> Role | None:
    """The role that a statement needs."""
    return QueryRouter(options).route(sql.encode(), RoutingState()).role


# --- commands

VALUES = {
    "SET SHARDING KEY TO": ["1", "11235", "'1'"],
    "SET SHARD TO": ["0", "15", "'1'", "ANY", "'any'"],
    "SET SERVER ROLE TO": ["'primary'", "'replica'", "'any'", "'auto'", "'default'"],
    "SET PRIMARY READS TO": ["on", "'on'", "off", "'off'", "default", "'default'"],
    "SHOW SHARD": [""],
    "SHOW SERVER ROLE": [""],
    "SHOW PRIMARY READS": [""],
}


@pytest.mark.parametrize(
    ("words", "value"), [(words, value) for words, values in VALUES.items() for value in values]
)
def test_all_of_pgcats_spellings_are_commands(words: str, value: str) -> None:
    for case in (str.upper, str.lower, str.title):
        for head, tail in itertools.product(("", "  "), ("", "  ", ";", " ; ")):
            text = f"{head}{case(f'{words} {value}'.strip())}{tail}"
            command = command_in(text.encode())
            assert command is not None, text
            assert command.verb.value == words.removesuffix(" TO")


def test_a_quote_may_be_on_one_side_only() -> None:
    for text in (b"SET SHARDING KEY TO '5", b"SET SHARDING KEY TO 5'"):
        assert command_in(text) == command_in(b"SET SHARDING KEY TO 5")
    # Unless a semicolon follows: it could be part of what is meant.
    with pytest.raises(RoutingError, match="not a bigint"):
        command_in(b"SET SHARDING KEY TO '5;")


@pytest.mark.parametrize(
    "text", ["SELECT * FROM t", "SELECT * FROM t WHERE value = 'set sharding key to 5'"]
)
def test_a_query_that_quotes_a_command_is_none(text: str) -> None:
    assert command_in(text.encode()) is None


def test_of_one_shard_every_key_is_on_shard_0() -> None:
    state = RoutingState()
    run(state, "SET SHARDING KEY TO 13", RouterOptions(shard_count=1))
    assert run(state, "SHOW SHARD") == CommandReply("SELECT 1", "shard", "0")


def test_what_was_set_is_shown() -> None:
    state = RoutingState()
    for number in ("0", "2"):
        run(state, f"SET SHARD TO {number}")
        assert run(state, "SHOW SHARD").value == number
    for word in ("primary", "replica", "any", "auto"):
        run(state, f"SET SERVER ROLE TO '{word}'")
        assert run(state, "SHOW SERVER ROLE").value == word
        assert state.parser is (word == "auto")
    run(state, "SET SERVER ROLE TO 'default'")
    assert run(state, "SHOW SERVER ROLE").value == "auto"
    for options, default in (
        (SPLITTING, "off"),
        (replace(SPLITTING, primary_reads_enabled=True), "on"),
    ):
        for word in ("on", "off", "ON", "OFF"):
            run(state, f"SET PRIMARY READS TO '{word}'", options)
            assert run(state, "SHOW PRIMARY READS", options).value == word.lower()
        run(state, "SET PRIMARY READS TO default", options)
        assert run(state, "SHOW PRIMARY READS", options).value == default


def test_a_client_begins_with_the_pools_settings() -> None:
    state = RoutingState()
    assert run(state, "SHOW SHARD").value == "unset"
    assert state.role is None
    for options, shown in (
        (RouterOptions(), ("any", "off")),
        (RouterOptions(default_role=Role.PRIMARY), ("primary", "off")),
        (replace(SPLITTING, primary_reads_enabled=True), ("auto", "on")),
    ):
        found = tuple(
            run(state, f"SHOW {what}", options).value
            for what in ("SERVER ROLE", "PRIMARY READS")
        )
        assert found == shown


def test_other_settings_of_the_pool_leave_alone_what_the_client_has_chosen() -> None:
    state = RoutingState()
    for text in (
        "SET SHARD TO 1",
        "SET SERVER ROLE TO 'replica'",
        "SET PRIMARY READS TO off",
    ):
        run(state, text, RouterOptions(shard_count=2))
    options = replace(SPLITTING, primary_reads_enabled=True, default_role=Role.PRIMARY)
    route = QueryRouter(options).route(b"INSERT INTO t VALUES (1)", state)
    assert (route.role, route.shard) == (Role.REPLICA, 1)
    assert run(state, "SHOW PRIMARY READS", options).value == "off"


def test_the_parser_can_be_turned_on_and_back() -> None:
    router = QueryRouter(RouterOptions(query_parser_read_write_splitting=True))
    state = RoutingState()
    read = b"SELECT * FROM t"
    assert router.route(read, state).role is None
    run(state, "SET SERVER ROLE TO 'auto'")
    assert router.route(read, state).role is Role.REPLICA
    run(state, "SET SERVER ROLE TO 'default'")
    assert router.route(read, state).role is None


# --- roles


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM items WHERE id = 5",
        "SELECT id, name, value FROM items INNER JOIN prices ON item.id = prices.item_id",
        "WITH t AS (SELECT * FROM items) SELECT name, SUM(price) FROM t GROUP BY name",
        "WITH a AS (SELECT 1), b AS (SELECT 2) SELECT * FROM a, b",
        "SELECT (SELECT 1); SELECT 2",
    ],
)
def test_what_only_reads_goes_to_a_replica(sql: str) -> None:
    assert role(sql) is Role.REPLICA
    assert role(sql, replace(SPLITTING, primary_reads_enabled=True)) is None
    assert role(sql, replace(SPLITTING, default_role=Role.PRIMARY)) is Role.REPLICA


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE items SET name = 'pumpkin' WHERE id = 5",
        "INSERT INTO items (id, name) VALUES (5, 'pumpkin') RETURNING id",
        "DELETE FROM items WHERE id = 5",
        "CREATE TABLE items (id bigint)",
        "ALTER TABLE items ADD COLUMN x int",
        "TRUNCATE items",
        "BEGIN",
        "START TRANSACTION",
        "BEGIN; SELECT 1; COMMIT",
        "COMMIT",
        "ROLLBACK",
        "SET search_path TO x",
        "SELECT * FROM items WHERE id = 5 FOR UPDATE",
        "SELECT * FROM items WHERE id = 5 FOR SHARE",
        "WITH t AS (SELECT 1) UPDATE items SET a = 1",
        "WITH t AS (SELECT 1) INSERT INTO items SELECT * FROM t",
        "SELECT 1; INSERT INTO items VALUES (1)",
        "INSERT INTO items VALUES (1); SELECT 1",
        ";",
        "",
        "-- only a comment",
    ],
)
def test_everything_else_goes_to_the_primary(sql: str) -> None:
    assert role(sql) is Role.PRIMARY
    assert role(sql, replace(SPLITTING, primary_reads_enabled=True)) is Role.PRIMARY
    assert role(sql, replace(SPLITTING, default_role=Role.REPLICA)) is Role.PRIMARY


@pytest.mark.parametrize("text", ["SELECT FROM WHERE id =", "SELECT 'x", "nonsense"])
def test_what_cannot_be_parsed_does_not_depend_on_the_statement_before(text: str) -> None:
    router = QueryRouter(SPLITTING)
    state = RoutingState()
    for before in (b"SELECT 1", b"DELETE FROM t"):
        router.route(before, state)
        assert router.route(text.encode(), state).role is Role.PRIMARY


def test_a_parsed_statement_has_its_role_whatever_was_parsed_after_it() -> None:
    router = QueryRouter(SPLITTING)
    write = router.analyse(b"INSERT INTO items (id) VALUES ($1)")
    read = router.analyse(b"SELECT * FROM items WHERE id = $1")
    state = RoutingState()
    assert router.route_analysis(read, state).role is Role.REPLICA
    assert router.route_analysis(write, state).role is Role.PRIMARY


# --- comments


def test_comments_choose_of_five_shards() -> None:
    router = QueryRouter(COMMENTS)
    state = RoutingState()
    for comment, number in (("shard_id: 1", 1), ("shard_id: 0", 0), ("sharding_key: 6", 2)):
        text = f"/* {comment} */ SELECT * FROM data WHERE id = 5".encode()
        assert router.route(text, state).shard == number
        analysis = router.analyse(text)
        assert router.route_analysis(analysis, state).shard == number
    assert router.route(b";", state).shard == 0


def test_comments_are_inert_without_a_regex() -> None:
    text = "/* shard_id: 1 */ /* sharding_key: 5 */ SELECT 1"
    assert shard(text, replace(SPLITTING, shard_count=5)) == 0


# --- sharding keys in the text


@pytest.mark.parametrize(
    ("sql", "number"),
    [
        ("SELECT * FROM data WHERE id = 5", SHARD_OF_5),
        ("SELECT one, two, three FROM public.data WHERE id = 6", SHARD_OF_6),
        ("SELECT * FROM data WHERE data.id = 5 AND name = 'x'", SHARD_OF_5),
        (
            "SELECT * FROM data INNER JOIN t2 ON data.id = 5 AND t2.data_id = data.id"
            " WHERE data.id = 5",
            SHARD_OF_5,
        ),
        ("SELECT * FROM t2 JOIN data ON t2.data_id = data.id WHERE data.id = 5", SHARD_OF_5),
        ("INSERT INTO data (id, name) VALUES (5, 'x')", SHARD_OF_5),
        ("INSERT INTO data (name, id) VALUES ('x', 5), ('y', 5)", SHARD_OF_5),
        ("INSERT INTO t2 (data_id) SELECT id FROM data WHERE data.id = 5", SHARD_OF_5),
        ("UPDATE data SET name = 'x' WHERE id = 5", SHARD_OF_5),
        ("UPDATE t2 SET name = 'x' FROM data WHERE data.id = 5", SHARD_OF_5),
        ("DELETE FROM t2 USING data WHERE data.id = 5", SHARD_OF_5),
        ("DELETE FROM data WHERE id = 5", SHARD_OF_5),
    ],
)
def test_a_key_in_the_text_gives_its_shard(sql: str, number: int) -> None:
    assert shard(sql) == number
    assert shard(sql, replace(KEYED, default_shard="shard_1")) == number


WITHOUT_KEY = [
    "SELECT * FROM t2 WHERE id = 5",
    "SELECT * FROM data WHERE other = 5",
    "SELECT * FROM data",
    "SELECT * FROM data WHERE id = 5 AND id = 6",
    "DELETE a FROM b",
]


@pytest.mark.parametrize("sql", WITHOUT_KEY)
def test_without_a_key_it_is_the_default_shard_and_not_that_of_before(sql: str) -> None:
    router = QueryRouter(replace(KEYED, default_shard="shard_1"))
    state = RoutingState()
    assert router.route(b"SELECT * FROM data WHERE id = 5", state).shard == SHARD_OF_5
    assert router.route(sql.encode(), state).shard == 1


@pytest.mark.parametrize("sql", [*WITHOUT_KEY, "SELECT * FROM data WHERE id IN (5, 6)"])
def test_the_shard_of_before_is_a_matter_of_policy(sql: str) -> None:
    router = QueryRouter(replace(STICKY, default_shard="shard_1"))
    state = RoutingState()
    assert router.route(b"SELECT * FROM data WHERE id = 5", state).shard == SHARD_OF_5
    assert run(state, "SHOW SHARD").value == str(SHARD_OF_5)
    assert router.route(sql.encode(), state).shard == SHARD_OF_5


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM data WHERE id = 5 OR id = 6",
        "INSERT INTO data (id) VALUES (5), (6)",
        "SELECT * FROM data WHERE id = 5; SELECT * FROM data WHERE id = 6",
    ],
)
def test_keys_of_several_shards_are_refused(sql: str) -> None:
    with pytest.raises(AmbiguousShard) as caught:
        shard(sql)
    assert caught.value.sqlstate == "0A000"


@pytest.mark.parametrize("key", ["data.id", "*.id"])
def test_a_new_value_for_the_key_is_refused(key: str) -> None:
    options = replace(KEYED, automatic_sharding_key=key)
    with pytest.raises(RoutingError, match='"id" cannot be updated') as caught:
        shard("UPDATE data SET id = 6 WHERE id = 5", options)
    assert caught.value.sqlstate == "0A000"
    assert shard("UPDATE data SET other = 6 WHERE id = 5", options) == SHARD_OF_5


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM warehouse WHERE w_id = 5",
        "SELECT d_tax FROM district WHERE w_id = 5 AND d_id = 3",
        "SELECT c.a, w.b FROM customer c, warehouse w WHERE w.w_id = 5 AND c.w_id = w.w_id",
        "SELECT * FROM stock JOIN lines ON stock.w_id = lines.w_id WHERE stock.w_id = 5",
        "INSERT INTO history (c_id, w_id, amount) VALUES (7, 5, 1.5)",
        "UPDATE warehouse SET ytd = ytd + 6 WHERE w_id = 5",
        "DELETE FROM new_order WHERE o_id = 6 AND w_id = 5",
    ],
)
def test_a_column_of_all_tables_serves_tpc_c(sql: str) -> None:
    options = replace(KEYED, automatic_sharding_key="*.w_id", default_shard="shard_1")
    assert shard(sql, options) == SHARD_OF_5


@pytest.mark.parametrize(
    ("sql", "parameters", "number"),
    [
        ("SELECT * FROM data WHERE id = $1", {1: 5}, SHARD_OF_5),
        ("SELECT * FROM data WHERE id = $1", {1: 6}, SHARD_OF_6),
        ("SELECT * FROM data WHERE id = $1 AND id = $2", {1: 5, 2: 5}, SHARD_OF_5),
        ("SELECT * FROM data WHERE name = $1 AND id = $2", {1: 6, 2: 5}, SHARD_OF_5),
        ("INSERT INTO data (name, id) VALUES ($1, $2)", {1: 6, 2: 5}, SHARD_OF_5),
    ],
)
def test_a_bound_key_gives_its_shard(sql: str, parameters: dict[int, int], number: int) -> None:
    router = QueryRouter(replace(KEYED, default_shard="shard_1"))
    analysis = router.analyse(sql.encode())
    state = RoutingState()
    assert router.route_analysis(analysis, state, parameters).shard == number
    # Another execution has its own values, and a NULL is no key.
    assert router.route_analysis(analysis, state, dict.fromkeys(parameters)).shard == 1
