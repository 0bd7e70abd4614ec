"""Known traffic, and what SHOW QUERIES then tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.values import PoolMode
from router.session.snapshots import query_snapshots
from tests.support.harness import FakeClient, Harness
from tests.support.wire import bind, describe, execute, message, parse, query, run

if TYPE_CHECKING:
    from router.stats import QuerySnapshot

SYNC = message("S")


def rows(harness: Harness) -> dict[str, QuerySnapshot]:
    """The rows by the text of the form."""
    found = query_snapshots(harness.engine.queries)
    assert len({row.query for row in found}) == len(found)
    return {row.query: row for row in found}


def only(harness: Harness) -> QuerySnapshot:
    [row] = rows(harness).values()
    return row


def client(**settings: object) -> tuple[Harness, FakeClient]:
    harness = Harness(**settings)  # type: ignore[arg-type]
    return harness, harness.connect()


def test_calls_rows_and_bytes_are_those_of_the_answers() -> None:
    harness, asking = client()
    got = b""
    for number in range(3):
        seen = len(asking.got)
        harness.ask(asking, query(f"SELECT {number}"))
        got += asking.got[seen:]
    row = only(harness)
    assert (row.query, row.kind, row.calls, row.rows) == ("SELECT ?", "SELECT", 3, 3)
    assert (row.database, row.user, row.shard, row.role) == ("app", "ann", 0, "primary")
    assert row.size == len(got)
    assert row.errors == {}


def test_the_same_text_is_one_row_in_both_protocols_and_by_name() -> None:
    harness, asking = client()
    harness.ask(asking, query("SELECT 1"))
    harness.ask(asking, run("SELECT 2"), SYNC)
    harness.ask(asking, parse("SELECT 3", "s"), SYNC)
    for _ in range(2):
        harness.ask(asking, bind(name="s"), describe(), execute(), SYNC)
    row = only(harness)
    assert (row.calls, row.rows) == (4, 4)


def test_statements_of_one_batch_are_told_apart() -> None:
    harness, asking = client()
    harness.ask(
        asking,
        parse("SELECT 1", "one"),
        parse("ROWS 5", "five"),
        bind(name="one"),
        execute(),
        bind(name="five"),
        execute(),
        bind(name="one"),
        execute(),
        SYNC,
    )
    found = rows(harness)
    assert {text: (row.calls, row.rows) for text, row in found.items()} == {
        "SELECT ?": (2, 2),
        "ROWS ?": (1, 5),
    }


def test_an_error_counts_by_its_code_for_the_statement_that_failed() -> None:
    harness, asking = client()
    harness.ask(asking, query("FAIL 22012"))
    harness.ask(asking, query("FAIL 22012"))
    harness.ask(asking, query("SELECT 1"))
    found = rows(harness)
    assert found["SELECT ?"].errors == {}
    [failed] = [row for text, row in found.items() if text != "SELECT ?"]
    assert failed.calls == 2
    assert list(failed.errors.values()) == [2]


def test_times_are_those_of_the_clock() -> None:
    harness, asking = client(pool_size=1)
    other = harness.connect()
    other.send(query("SLEEP"))
    harness.run()
    asking.send(query("SELECT 1"))
    harness.run()
    harness.engine.advance(2.0)  # the one at work, the other in the queue
    harness.servers[0].model.wake()
    harness.run()
    found = rows(harness)
    assert found["SLEEP"].time == 2_000_000
    assert found["SLEEP"].wait_time == 0
    assert found["SELECT ?"].time == 0
    assert found["SELECT ?"].wait_time == 2_000_000
    assert 1_500_000 <= found["SELECT ?"].waits[0] <= 2_000_000


def test_a_statement_that_follows_another_is_not_charged_for_it() -> None:
    harness, asking = client()
    asking.send(query("SLEEP"), query("SELECT 1"))
    harness.run()
    harness.engine.advance(2.0)
    harness.servers[0].model.wake()
    harness.run()
    found = rows(harness)
    assert (found["SLEEP"].time, found["SELECT ?"].time) == (2_000_000, 0)


def test_a_client_that_does_not_read_is_told_apart_from_a_slow_server() -> None:
    harness, asking = client()
    asking.send(query("SLEEP"))
    harness.run()
    server = harness.servers[0]
    harness.engine.advance(1.0)
    server.model.wake()
    asking.link.congested = True
    server.answer(20)
    assert server.link.paused
    harness.engine.advance(3.0)
    asking.link.congested = False
    asking.session.on_drained()
    harness.run()
    row = only(harness)
    assert (row.time, row.stall_time) == (1_000_000, 3_000_000)


def test_what_only_prepares_is_no_call_unless_it_fails() -> None:
    harness, asking = client()
    harness.ask(asking, parse("SELECT 1", "a"), describe("S", "a"), SYNC)
    assert rows(harness) == {}
    harness.servers[0].model.is_failing = True
    harness.ask(asking, parse("SELECT 2, 3", "b"), SYNC)
    assert sum(only(harness).errors.values()) == 1


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_without_names_of_the_routers_own_forms_are_known_all_the_same(mode: str) -> None:
    harness, asking = client(pool_mode=PoolMode(mode), prepared_statements_cache_size=0)
    harness.ask(asking, parse("SELECT 1", "a"), bind(name="a"), execute(), SYNC)
    harness.ask(asking, bind(name="a"), execute(), SYNC)
    harness.ask(asking, run("SELECT 5"), SYNC)
    assert {text: row.calls for text, row in rows(harness).items()} == {"SELECT ?": 3}


def test_with_statistics_off_nothing_is_counted_or_looked_at() -> None:
    harness, asking = client()
    harness.engine.queries.use(0)
    harness.ask(asking, query("SELECT 'off'"), run("SELECT 'off', 1"))
    assert rows(harness) == {}
    assert len(harness.engine.queries._shapes) == 0
    harness.engine.queries.use(100)
    harness.ask(asking, query("SELECT 'off'"))
    assert only(harness).calls == 1


def test_users_and_shards_and_roles_have_rows_of_their_own() -> None:
    harness = Harness(servers=((True, False), (True,)))
    asking = harness.connect()
    for command in ("SET SHARD TO '0'", "SET SHARD TO '1'"):
        harness.ask(asking, query(command))
        harness.ask(asking, query("SELECT 1"))
    found = query_snapshots(harness.engine.queries)
    assert {(row.shard, row.calls) for row in found} == {(0, 1), (1, 1)}
