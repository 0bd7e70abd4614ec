"""EXPLAIN ROUTE in a session."""

from __future__ import annotations

import struct
from dataclasses import replace

import pytest

from router.config.plugins import InterceptedQuery
from router.config.values import PoolMode
from router.plugins.inspector import PluginInspector
from router.plugins.intercept import Interceptor
from router.plugins.table_access import TableAccess
from router.protocol import messages
from router.routing.explain import COLUMNS
from router.routing.types import RouterOptions
from tests.support.harness import FakeClient, Harness
from tests.support.wire import (
    SYNC,
    Message,
    bind,
    describe,
    execute,
    kinds,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

OPTIONS = RouterOptions(
    shard_count=2,
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    automatic_sharding_key="t.id",
)
WITH_KEY = "EXPLAIN ROUTE SELECT * FROM t WHERE id = "
HEADING = messages.row_description([(name, messages.TEXT_OID) for name in COLUMNS])


def sharded(**settings: object) -> Harness:
    """Two shards, each a primary and a replica."""
    shards = ((True, False), (True, False))
    return Harness(servers=shards, options=OPTIONS, **settings)


def answer(said: list[Message]) -> dict[str, str | None]:
    """The only row, by column."""
    [values] = rows(said)
    texts = [None if value is None else value.decode() for value in values]
    return dict(zip(COLUMNS, texts, strict=True))


def explain(harness: Harness, client: FakeClient, sql: str) -> dict[str, str | None]:
    """What EXPLAIN ROUTE says of a statement, which must not depend on the protocol."""
    simple = answer(harness.ask(client, query(f"EXPLAIN ROUTE {sql}")))
    extended = answer(harness.ask(client, run(f"EXPLAIN ROUTE {sql}") + SYNC))
    assert {**simple, "cache": ""} == {**extended, "cache": ""}
    return simple


def test_it_is_a_query_with_one_row_that_needs_no_server() -> None:
    harness = sharded()
    client = harness.connect()
    said = harness.ask(client, query(WITH_KEY + "5"))
    assert kinds(said) == "TDCZ"
    assert said[0].body == HEADING[5:]
    assert said[2].body == b"SELECT 1\0"
    assert kinds(harness.ask(client, run(WITH_KEY + "5") + SYNC)) == "12TDCZ"
    assert not harness.servers


def test_it_says_where_the_statement_goes() -> None:
    harness = sharded()
    client = harness.connect()
    found = explain(harness, client, "SELECT * FROM t WHERE id = 5")
    assert (found["role"], found["shard"], found["key_value"]) == ("replica", "1", "5")
    harness.ask(client, query("SELECT * FROM t WHERE id = 5"))
    [server] = harness.servers
    address = server.connection.pool.address
    assert (address.shard, address.is_primary) == (1, False)


def test_what_the_client_has_chosen_counts() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 0"), query("SET SERVER ROLE TO 'primary'"))
    found = explain(harness, client, "SELECT * FROM t WHERE id = 5")
    assert (found["role"], found["shard"], found["rule"]) == ("primary", "0", "SET SHARD")


def test_a_parameter_gets_its_value_from_the_bind() -> None:
    harness = sharded()
    client = harness.connect()
    prepare = parse(WITH_KEY + "$1 AND name = $2", "s", oids=[20]) + describe("S", "s")
    said = harness.ask(client, prepare + bind(b"5", b"x", name="s") + execute() + SYNC)
    assert kinds(said) == "1tT2DCZ"
    assert said[1].body == struct.pack("!HII", 2, 20, 25)
    assert answer(said)["key_value"] == "$1 = 5"
    assert answer(said)["shard"] == "1"


def test_that_there_is_no_place_is_in_the_row() -> None:
    harness = sharded()
    client = harness.connect()
    found = explain(harness, client, "SELECT * FROM t WHERE id IN (1, 5)")
    assert found["sqlstate"] == "0A000"
    assert found["shard"] is None
    said = harness.ask(client, run(WITH_KEY + "$1", b"x") + SYNC)
    assert answer(said)["sqlstate"] == "22023"


@pytest.mark.parametrize("text", ["EXPLAIN ROUTE", "EXPLAIN ROUTE ;"])
def test_without_a_statement_it_is_a_syntax_error(text: str) -> None:
    harness = sharded()
    client = harness.connect()
    for sent in (query(text), parse(text) + SYNC):
        said = harness.ask(client, sent)
        assert (kinds(said), sqlstates(said)) == ("EZ", ["42601"])


def test_a_transaction_keeps_its_server_and_knows_nothing_of_it() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"), query("BEGIN"))
    harness.ask(client, query("SET SHARD TO 1"))
    found = explain(harness, client, "SELECT * FROM t WHERE id = 1")
    assert (found["role"], found["shard"], found["rule"]) == ("primary", "1", "transaction")
    assert harness.servers[0].model.log == ["BEGIN"]
    harness.ask(client, query("FAIL"))
    said = harness.ask(client, query("EXPLAIN ROUTE SELECT 1"))
    assert (kinds(said), sqlstates(said)) == ("EZ", ["25P02"])


def test_a_session_keeps_its_server() -> None:
    harness = sharded(pool_mode=PoolMode.SESSION)
    client = harness.connect()
    harness.ask(client, query("SELECT 1"))
    found = explain(harness, client, "SELECT * FROM t WHERE id = 1")
    assert (found["shard"], found["rule"]) == ("0", "session")


@pytest.mark.parametrize("pool_mode", [PoolMode.TRANSACTION, PoolMode.SESSION])
def test_a_statement_that_strays_from_the_server_is_refused_as_it_would_be(
    pool_mode: PoolMode,
) -> None:
    harness = sharded(pool_mode=pool_mode)
    client = harness.connect()
    begin = "BEGIN" if pool_mode is PoolMode.TRANSACTION else "SELECT 1"
    harness.ask(client, query(begin))
    for sql in ("SELECT * FROM t WHERE id = 5", "SELECT * FROM t WHERE id IN (1, 5)"):
        found = explain(harness, client, sql)
        assert (found["shard"], found["sqlstate"]) == (None, "0A000")
    bound = parse("EXPLAIN ROUTE SELECT * FROM t WHERE id = $1") + bind(b"5") + execute() + SYNC
    assert answer(harness.ask(client, bound))["sqlstate"] == "0A000"
    [refused] = sqlstates(harness.ask(client, query("SELECT * FROM t WHERE id = 5")))
    assert refused == "0A000"


def test_it_does_not_use_a_local_choice_up() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET LOCAL SHARD TO 1"))
    assert explain(harness, client, "SELECT 1")["shard"] == "1"
    assert explain(harness, client, "SELECT 1")["shard"] == "1"


def test_it_is_about_the_configuration_after_a_reload() -> None:
    harness = sharded()
    client = harness.connect()
    options = replace(OPTIONS, default_shard="shard_1")
    harness.replace_pool(harness.new_pool(servers=((True,), (True,)), options=options))
    assert explain(harness, client, "SELECT 1")["shard"] == "1"


def test_other_explains_go_to_the_server() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("EXPLAIN SELECT 1"))
    assert len(harness.servers) == 1


def test_no_server_hears_of_what_the_router_answers() -> None:
    harness = sharded()
    assert harness.pool is not None
    canned = InterceptedQuery.model_validate(
        {"query": "SELECT a FROM b", "schema": [["a", "text"]], "result": [["1"]]}
    )
    harness.pool.inspector = PluginInspector(
        interceptor=Interceptor([canned], "app", "ann"), access=TableAccess(("secret",))
    )
    client = harness.connect()
    for in_transaction in (False, True):
        for sql, reason in (
            ("select a from b;", "the plugin intercept answers it"),
            ("SHOW SHARD", "the router answers it itself"),
        ):
            found = explain(harness, client, sql)
            assert (found["rule"], found["reason"]) == ("router", reason)
            assert found["role"] is found["shard"] is None
        assert explain(harness, client, "SELECT * FROM secret")["sqlstate"] == "42501"
        if not in_transaction:
            harness.ask(client, query("BEGIN"))
