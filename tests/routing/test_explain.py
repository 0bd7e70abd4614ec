"""EXPLAIN ROUTE: its grammar, and that it says what routing does."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import pytest

from router.config.regexes import Regex
from router.errors import RoutingError
from router.routing.explain import COLUMNS, Decision, decide, explained, parameter_count, row
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import Role, RouterOptions

from .commanded import command_in
from .statements import READS, WRITES

SPLITTING = RouterOptions(
    shard_count=3,
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    automatic_sharding_key="events.id",
    shard_id_regex=Regex(r"/\* shard_id: (\d+) \*/"),
    sharding_key_regex=Regex(r"/\* sharding_key: (-?\d+) \*/"),
)


def told(
    sql: str, options: RouterOptions = SPLITTING, *choices: str, **values: int
) -> dict[str, str | None]:
    """The row for a text, by column."""
    router, state = QueryRouter(options), RoutingState()
    for choice in choices:
        command = command_in(f"SET {choice}".encode())
        assert command is not None
        state.execute(command, options, random.Random(1))
    found = {int(name[1:]): value for name, value in values.items()}
    decision = decide(router, sql.encode(), state, (lambda wanted: found) if found else None)
    return dict(zip(COLUMNS, row(router, decision), strict=True))


@pytest.mark.parametrize(
    ("text", "sql"),
    [
        (b"EXPLAIN ROUTE SELECT 1", b"SELECT 1"),
        (b"explain\troute\n SELECT 1;", b"SELECT 1;"),
        (b" EXPLAIN /* x */ ROUTE /* shard_id: 1 */ SELECT 1", b"/* shard_id: 1 */ SELECT 1"),
        (b"/* shard_id: 1 */ EXPLAIN ROUTE SELECT 1", b"/* shard_id: 1 */SELECT 1"),
        (b"EXPLAIN ROUTE(SELECT 1)", b"(SELECT 1)"),
    ],
)
def test_the_statement_is_what_follows_the_words(text: bytes, sql: bytes) -> None:
    assert explained(text) == sql


@pytest.mark.parametrize(
    "text",
    [
        b"EXPLAIN SELECT 1",
        b"EXPLAIN (ROUTE) SELECT 1",
        b"EXPLAIN ROUTES SELECT 1",
        b"EXPLAIN route.x",
        b"SELECT 'EXPLAIN ROUTE SELECT 1'",
        b"",
    ],
)
def test_other_sql_is_left_alone(text: bytes) -> None:
    assert explained(text) is None


@pytest.mark.parametrize("text", [b"EXPLAIN ROUTE", b"explain route ; "])
def test_a_statement_is_needed(text: bytes) -> None:
    with pytest.raises(RoutingError) as caught:
        explained(text)
    assert caught.value.sqlstate == "42601"


@pytest.mark.parametrize(
    ("sql", "count"),
    [
        (b"SELECT 1", 0),
        (b"SELECT $2, $1", 2),
        (b"SELECT '$3', \"a$4\", x$5, $1 -- $6", 1),
        (b"SELECT 'not closed $1", 0),
    ],
)
def test_parameters_are_counted(sql: bytes, count: int) -> None:
    assert parameter_count(sql) == count


def test_more_parameters_than_anybody_needs_are_refused() -> None:
    with pytest.raises(RoutingError) as caught:
        parameter_count(b"SELECT $65535")
    assert caught.value.sqlstate == "54000"


def test_a_read_with_a_key() -> None:
    assert told("SELECT * FROM events WHERE id = 5") == {
        "kind": "SELECT",
        "verdict": "read",
        "role": "replica",
        "shard": "2",
        "rule": "automatic_sharding_key",
        "reason": told("SELECT * FROM events WHERE id = 5")["reason"],
        "sharding_key": "events.id",
        "key_value": "5",
        "multiplexing": "yes",
        "cache": "miss",
        "tables": "events",
        "sqlstate": None,
        "message": None,
    }


@pytest.mark.parametrize(
    ("sql", "choices", "rule", "shard", "role"),
    [
        ("SELECT 1", [], "default_shard", "0", "replica"),
        ("INSERT INTO t VALUES (1)", [], "default_shard", "0", "primary"),
        ("INSERT INTO events (id) VALUES (5)", [], "automatic_sharding_key", "2", "primary"),
        ("/* shard_id: 1 */ SELECT 1", [], "shard_id_regex", "1", "replica"),
        ("/* sharding_key: 5 */ SELECT 1", [], "sharding_key_regex", "2", "replica"),
        ("SELECT 1", ["SHARD TO 1"], "SET SHARD", "1", "replica"),
        ("SELECT 1", ["SERVER ROLE TO primary"], "default_shard", "0", "primary"),
        ("SELECT 1", ["PRIMARY READS TO on"], "default_shard", "0", "any"),
    ],
)
def test_the_rule_that_decided_is_named(
    sql: str, choices: list[str], rule: str, shard: str, role: str
) -> None:
    found = told(sql, SPLITTING, *choices)
    assert (found["rule"], found["shard"], found["role"]) == (rule, shard, role)


def test_values_of_parameters_count() -> None:
    found = told("SELECT * FROM events WHERE id = $1", n1=5)
    assert (found["shard"], found["key_value"]) == ("2", "$1 = 5")
    found = told("SELECT * FROM events WHERE id = $1")
    assert (found["rule"], found["key_value"]) == ("default_shard", "$1")


def test_an_error_is_an_answer() -> None:
    found = told("SELECT * FROM events WHERE id IN (1, 3)")
    assert found["sqlstate"] == "0A000"
    assert "several shards" in (found["message"] or "")
    assert (found["role"], found["shard"], found["rule"]) == (None, None, None)
    assert found["key_value"] == "1, 3"


def test_a_pool_that_does_not_look_says_so() -> None:
    found = told("SELECT 1", RouterOptions(default_role=Role.REPLICA))
    assert found == dict.fromkeys(COLUMNS) | {
        "role": "replica",
        "shard": "0",
        "rule": "single shard",
        "reason": "default_role",
        "cache": "off",
    }


def test_a_shard_that_is_drawn_is_not_named() -> None:
    assert (
        told("SELECT 1", RouterOptions(shard_count=2, default_shard="random"))["shard"]
        == "random"
    )


def test_the_cache_is_told_as_it_was_before() -> None:
    router, state = QueryRouter(SPLITTING), RoutingState()

    def cached(sql: bytes) -> str:
        return decide(router, sql, state).cache

    assert [cached(b"SELECT 1") for _ in range(3)] == ["miss", "fingerprint", "hit"]
    assert cached(b"SELECT 2") == "fingerprint"
    assert cached(b"SELECT 'not closed") == "miss"
    assert decide(router, b"x" * (2 << 20), state).cache == "off"


def test_what_a_transaction_holds_is_where_it_goes() -> None:
    router = QueryRouter(SPLITTING)
    decision = decide(router, b"SELECT * FROM events WHERE id IN (1, 3)", RoutingState())
    held = decision.held(Role.PRIMARY, 1, "transaction")
    found = dict(zip(COLUMNS, row(router, held), strict=True))
    assert (found["role"], found["shard"], found["rule"]) == ("primary", "1", "transaction")
    assert found["sqlstate"] is None
    assert isinstance(held, Decision)


@pytest.mark.parametrize("choice", [None, "SHARD TO 1", "SERVER ROLE TO 'auto'"])
def test_it_agrees_with_the_route(choice: str | None) -> None:
    options = RouterOptions(
        shard_count=3,
        query_parser_enabled=choice != "SERVER ROLE TO 'auto'",
        query_parser_read_write_splitting=True,
        automatic_sharding_key="*.id",
    )
    router, other, state = QueryRouter(options), QueryRouter(options), RoutingState()
    if choice is not None:
        command = command_in(f"SET {choice}".encode())
        assert command is not None
        state.execute(command, options, random.Random(1))
    for each in (READS + WRITES).splitlines():
        text = each.encode()
        decision = decide(router, text, state)
        if decision.error is None:
            assert decision.route == other.route(text, state)
        else:
            with pytest.raises(RoutingError, match=re.escape(decision.error.message)):
                other.route(text, state)


def test_a_shard_of_a_table_on_every_shard_is_drawn() -> None:
    options = replace(SPLITTING, omnisharded_tables=("countries",))
    for default, drawn in (("shard_0", "random"), ("random_healthy", "random_healthy")):
        found = told("SELECT * FROM countries", replace(options, default_shard=default))
        assert (found["shard"], found["rule"]) == (drawn, "omnisharded_tables")


@pytest.mark.parametrize("sql", ["SET SHARD TO 1", "set sharding key to $1", "SHOW SHARD;"])
def test_no_server_hears_of_the_routers_own_commands(sql: str) -> None:
    found = told(sql)
    assert found["rule"] == "router"
    assert found["kind"] == sql.upper().split(" TO ")[0].strip(";")
    assert {found[name] for name in ("role", "shard", "verdict", "sqlstate")} == {None}


def test_the_error_of_a_command_is_told_and_nothing_is_changed() -> None:
    router, state = QueryRouter(SPLITTING), RoutingState()
    for sql, code in (
        (b"SET SHARD TO 3", "22023"),
        (b"SET SHARDING KEY TO x", "22023"),
        (b"SET SHARD TO 1; SELECT 1", "0A000"),
    ):
        decision = decide(router, sql, state)
        assert decision.error is not None
        assert decision.error.sqlstate == code
    decide(router, b"SET SHARD TO 1", state)
    assert state.shard is None
    assert state.is_default
