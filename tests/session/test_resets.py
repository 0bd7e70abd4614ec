"""A client's choices are taken back, and routing is automatic again."""

from __future__ import annotations

from itertools import permutations

import pytest

from router.config.values import PoolMode
from router.routing.types import RouterOptions
from tests.support.harness import FakeClient, Harness
from tests.support.wire import (
    SYNC,
    Message,
    bind,
    execute,
    kinds,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

TWO_SHARDS = ((True, False), (True, False))
PROTOCOLS = pytest.mark.parametrize("is_simple", [True, False], ids=["simple", "extended"])
STATIC = pytest.mark.parametrize("is_static", [True, False], ids=["pipelined", "one by one"])

CHOICES = {
    "SHARD": ("SET SHARD TO 1", "SHOW SHARD"),
    "SERVER ROLE": ("SET SERVER ROLE TO 'replica'", "SHOW SERVER ROLE"),
    "PRIMARY READS": ("SET PRIMARY READS TO 'on'", "SHOW PRIMARY READS"),
}
# What a pool of an application sends between two of its users.
CLEANERS = [
    "RESET ALL",
    "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;",
    "DISCARD ALL",
    "discard  all;",
]


def sharded(**settings: object) -> Harness:
    """A pool of two shards, each a primary and a replica."""
    return Harness(servers=TWO_SHARDS, **settings)  # type: ignore[arg-type]


def ask(harness: Harness, client: FakeClient, sql: str, *, is_simple: bool) -> list[Message]:
    """Send one statement in either protocol."""
    return harness.ask(client, query(sql) if is_simple else run(sql) + SYNC)


def shown(harness: Harness, client: FakeClient) -> list[bytes | None]:
    """What is chosen."""
    return [rows(harness.ask(client, query(show)))[0][0] for _, show in CHOICES.values()]


def choose_all(harness: Harness, client: FakeClient) -> None:
    """Make all choices."""
    for choice, _ in CHOICES.values():
        harness.ask(client, query(choice))


def shards_of(harness: Harness, sql: str) -> list[int]:
    """The shards that have executed a statement, once for each time."""
    return [
        server.connection.pool.address.shard
        for server in harness.servers
        for done in server.model.log
        if done == sql
    ]


@PROTOCOLS
@pytest.mark.parametrize("order", list(permutations(CHOICES))[::2])
@pytest.mark.parametrize(
    "wording", ["RESET {}", "SET {} TO DEFAULT", "set {} = default;", "reset\n{} -- x"]
)
def test_each_choice_can_be_taken_back(
    wording: str, order: tuple[str, ...], is_simple: bool
) -> None:
    harness = sharded()
    client = harness.connect()
    first = shown(harness, client)
    choose_all(harness, client)
    chosen = shown(harness, client)
    assert all(a != b for a, b in zip(first, chosen, strict=True))
    for done, name in enumerate(order, 1):
        said = ask(harness, client, wording.format(name), is_simple=is_simple)
        tag = b"RESET\0" if "reset" in wording.lower() else b"SET " + name.encode() + b"\0"
        assert [each.body for each in said if each.kind == "C"] == [tag]
        expected = [
            before if choice in order[:done] else after
            for choice, before, after in zip(CHOICES, first, chosen, strict=True)
        ]
        assert shown(harness, client) == expected
    assert client.session.routing.state.is_default


@PROTOCOLS
@pytest.mark.parametrize("reset", ["RESET SHARD", "RESET SHARDING KEY", "SET SHARD TO DEFAULT"])
@pytest.mark.parametrize("choice", ["SHARD TO 1", "SHARDING KEY TO 5", "SHARD TO 'ANY'"])
def test_without_a_shard_statements_decide_again(
    reset: str, choice: str, is_simple: bool
) -> None:
    harness = sharded(options=RouterOptions(shard_count=2, default_shard="shard_0"))
    client = harness.connect()
    harness.ask(client, query(f"SET {choice}"), query("SELECT before"))
    ask(harness, client, reset, is_simple=is_simple)
    ask(harness, client, "SELECT after", is_simple=is_simple)
    assert shards_of(harness, "SELECT after") == [0]


def test_a_reset_can_be_prepared_and_used_again() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, parse("RESET SHARD", "r") + SYNC)
    for _ in range(2):
        harness.ask(client, query("SET SHARD TO 1"))
        assert kinds(harness.ask(client, bind(name="r") + execute() + SYNC)) == "2CZ"
        assert client.session.routing.state.is_default


def test_a_default_for_one_transaction() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"), query("SET LOCAL SHARD TO DEFAULT"))
    harness.ask(client, query("SELECT x"), query("SELECT x"))
    assert shards_of(harness, "SELECT x") == [0, 1]


@PROTOCOLS
def test_a_transaction_stays_where_it_is(is_simple: bool) -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"), query("SET SERVER ROLE TO 'primary'"))
    harness.ask(client, query("BEGIN"))
    said = ask(harness, client, "RESET SHARD", is_simple=is_simple)
    assert (sqlstates(said), said[-1].body) == ([], b"T")
    said = ask(harness, client, "SELECT x", is_simple=is_simple)
    assert rows(said) == [[b"SELECT x"]]
    assert shards_of(harness, "SELECT x") == [1]
    said = ask(harness, client, "RESET SERVER ROLE", is_simple=is_simple)
    assert sqlstates(said) == ["25001"]
    assert "RESET SERVER ROLE" in next(each.fields["M"] for each in said if each.kind == "E")
    harness.ask(client, query("ROLLBACK"), query("SELECT y"))
    assert shards_of(harness, "SELECT y") == [0]


@PROTOCOLS
@STATIC
@pytest.mark.parametrize("cleaner", CLEANERS)
def test_what_cleans_a_connection_takes_all_choices_back(
    cleaner: str, is_static: bool, is_simple: bool
) -> None:
    if not is_simple and ";" in cleaner.rstrip(";"):
        pytest.skip("a Parse has one statement")
    harness = sharded(options=RouterOptions(shard_count=2, query_parser_enabled=not is_static))
    client = harness.connect()
    first = shown(harness, client)
    choose_all(harness, client)
    harness.ask(client, query("SELECT x"))
    said = ask(harness, client, cleaner, is_simple=is_simple)
    assert not sqlstates(said)
    assert shown(harness, client) == first
    ask(harness, client, "SELECT y", is_simple=is_simple)
    assert shards_of(harness, "SELECT y") == [0]


@PROTOCOLS
@STATIC
@pytest.mark.parametrize("cleaner", ["RESET ALL", "DISCARD ALL"])
def test_what_is_sent_behind_goes_where_it_belongs(
    cleaner: str, is_static: bool, is_simple: bool
) -> None:
    harness = sharded(options=RouterOptions(shard_count=2, query_parser_enabled=not is_static))
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"))
    if is_simple:
        client.send(query(cleaner), query("SELECT x"))
    else:
        client.send(run(cleaner) + SYNC + run("SELECT x") + SYNC)
    assert rows(harness.read(client)) == [[b"SELECT x"]]
    assert shards_of(harness, "SELECT x") == [0]
    assert client.session.routing.may_pipeline is is_static


@pytest.mark.parametrize("cleaner", ["RESET ALL", "DISCARD ALL"])
@pytest.mark.parametrize("capacity", [0, 500])
@pytest.mark.parametrize("pool_mode", [PoolMode.TRANSACTION, PoolMode.SESSION])
def test_what_cleans_a_connection_may_be_prepared(
    cleaner: str, capacity: int, pool_mode: PoolMode
) -> None:
    harness = sharded(prepared_statements_cache_size=capacity, pool_mode=pool_mode)
    client = harness.connect()
    batch = parse(cleaner, "c") + bind(name="c") + execute() + SYNC
    for _ in range(2):
        harness.ask(client, query("SET SHARD TO 0"))
        said = harness.ask(client, batch)
        assert not sqlstates(said)
        assert client.session.routing.state.is_default
        batch = bind(name="c") + execute() + SYNC
        if cleaner == "DISCARD ALL" or (capacity == 0 and pool_mode is PoolMode.TRANSACTION):
            batch = parse(cleaner, "c") + batch  # it is gone


@pytest.mark.parametrize(
    "sql", ["RESET TimeZone", "SELECT 'RESET ALL'", "FAIL; RESET ALL", "RESET ALL; FAIL"]
)
def test_other_statements_leave_choices_alone(sql: str) -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"), query("SELECT x"), query(sql))
    assert client.session.routing.state.shard == 1
    harness.ask(client, query("SELECT y"))
    assert shards_of(harness, "SELECT y") == [1]


def test_a_discard_all_in_a_transaction_is_refused_and_changes_nothing() -> None:
    harness = sharded()
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"), query("BEGIN"))
    assert sqlstates(harness.ask(client, query("DISCARD ALL"))) == ["25001"]
    harness.ask(client, query("ROLLBACK"))
    assert client.session.routing.state.shard == 1


def test_a_session_keeps_its_server_and_forgets_its_choices() -> None:
    harness = sharded(pool_mode=PoolMode.SESSION)
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 1"), query("SELECT x"))
    for cleaner in ("RESET ALL", "DISCARD ALL", "RESET SHARD"):
        harness.ask(client, query("SET SHARD TO 1"))
        assert not sqlstates(harness.ask(client, query(cleaner)))
        assert client.session.routing.state.is_default
    harness.ask(client, query("SELECT y"))
    assert shards_of(harness, "SELECT y") == [1]
