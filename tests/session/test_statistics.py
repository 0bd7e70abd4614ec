"""Known traffic, and what SHOW QUERIES then tells of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.values import PoolMode
from router.protocol.messages import READY_IDLE, error_response
from router.session.activity import (
    error_snapshots,
    histogram_snapshots,
    query_snapshots,
    transaction_snapshots,
)
from router.session.snapshots import prepared_snapshot
from tests.support.harness import FakeClient, Harness
from tests.support.wire import bind, describe, execute, message, parse, query, run

if TYPE_CHECKING:
    from router.snapshots import QuerySnapshot, TransactionSnapshot

SYNC = message("S")


def rows(harness: Harness) -> dict[str, QuerySnapshot]:
    """The rows by the text of the form."""
    found = list(query_snapshots(harness.engine.figures.queries))
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


def test_what_has_no_tag_does_not_shift_the_others() -> None:
    harness, asking = client()
    harness.ask(
        asking,
        parse("ROWS 5", "five"),
        parse("", "nothing"),
        bind(name="five"),
        execute(),
        bind(name="nothing"),
        execute(),
        bind(name="nothing"),
        execute(),
        SYNC,
    )
    found = rows(harness)
    assert {text: (row.calls, row.rows) for text, row in found.items()} == {
        "ROWS ?": (1, 5),
        "": (2, 0),
    }


@pytest.mark.parametrize("is_lost", [False, True])
def test_uses_of_prepared_statements_count_also_those_of_connections_that_are_gone(
    is_lost: bool,
) -> None:
    harness, asking = client(prepared_statements_cache_size=2)
    for number in range(3):
        harness.ask(asking, parse(f"SELECT {number}", f"s{number}"), SYNC)
    for name in ("s2", "s2", "s1", "s0", "s0"):
        harness.ask(asking, bind(name=name), execute(), SYNC)
    assert harness.pool is not None
    before = prepared_snapshot(harness.pool)
    assert (before.hits, before.misses, before.evictions) == (4, 4, 2)
    assert (before.statements, before.capacity, before.prepared) == (2, 2, 2)
    assert before.hit_rate == "0.500"
    if is_lost:
        harness.servers[0].die()
        harness.run()
        gone = prepared_snapshot(harness.pool)
        assert (gone.hits, gone.misses, gone.evictions) == (4, 4, 2)
        assert gone.prepared == 0
        harness.ask(asking, bind(name="s2"), execute(), SYNC)
        assert prepared_snapshot(harness.pool).misses == 5


def test_a_name_that_is_too_long_to_be_kept_is_not_mistaken_for_another() -> None:
    harness, asking = client(prepared_statements_cache_size=0)
    name = "n" * 200
    harness.ask(asking, parse("SELECT 1", name), bind(name=name), execute(), SYNC)
    assert only(harness).query == "(not read)"


@pytest.mark.parametrize("count", [0, 9, 10, 12, 345])
def test_rows_are_all_the_digits_of_the_tag(count: int) -> None:
    harness, asking = client()
    harness.ask(asking, query(f"ROWS {count}"))
    assert only(harness).rows == count


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


def test_only_the_first_statement_of_a_transaction_has_waited_for_its_server() -> None:
    harness, asking = client(pool_size=1)
    other = harness.connect()
    other.send(query("SLEEP"))
    harness.run()
    asking.send(query("BEGIN"), query("SELECT 1"))
    harness.run()
    harness.engine.advance(2.0)
    harness.servers[0].model.wake()
    harness.run()
    harness.ask(asking, query("SELECT 2"))
    found = rows(harness)
    assert (found["BEGIN"].wait_time, found["SELECT ?"].wait_time) == (2_000_000, 0)


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
    harness.engine.figures.queries.use(0)
    harness.ask(asking, query("SELECT 'off'"), run("SELECT 'off', 1"))
    assert rows(harness) == {}
    assert len(harness.engine.figures.queries._fingerprints) == 0
    harness.engine.figures.queries.use(100)
    harness.ask(asking, query("SELECT 'off'"))
    assert only(harness).calls == 1


def test_users_and_shards_and_roles_have_rows_of_their_own() -> None:
    harness = Harness(servers=((True, False), (True,)))
    asking = harness.connect()
    for command in ("SET SHARD TO '0'", "SET SHARD TO '1'"):
        harness.ask(asking, query(command))
        harness.ask(asking, query("SELECT 1"))
    found = list(query_snapshots(harness.engine.figures.queries))
    assert {(row.shard, row.calls) for row in found} == {(0, 1), (1, 1)}


# --- transactions


def transactions(harness: Harness) -> list[TransactionSnapshot]:
    sessions = [each.session for each in harness.clients if not each.session.client.closed]
    return transaction_snapshots(sessions, harness.engine.now)


def test_a_transaction_is_told_from_its_first_statement_to_its_last() -> None:
    harness, asking = client()
    harness.ask(asking, query("SELECT 1"))
    assert transactions(harness) == []
    harness.ask(asking, query("BEGIN"))
    harness.engine.advance(2)
    harness.ask(asking, query("INSERT 1"))
    harness.engine.advance(3)
    [row] = transactions(harness)
    assert (row.state, row.state_us, row.xact_us) == (
        "idle in transaction",
        3_000_000,
        5_000_000,
    )
    assert (row.kind, row.query, row.statements, row.writes) == ("INSERT", "INSERT ?", 2, True)
    assert row.server_pid == harness.servers[0].connection.pid
    assert row.client_id == asking.session.client.pid
    assert row.snapshot == ""
    asking.send(query("SLEEP"))
    harness.run()
    harness.engine.advance(1)
    [row] = transactions(harness)
    assert (row.state, row.state_us, row.kind) == ("active", 1_000_000, "SLEEP")
    assert (row.snapshot, row.xact_us, row.writes) == ("statement", 6_000_000, True)
    harness.servers[0].model.wake()
    harness.run()
    harness.ask(asking, query("FAIL"))
    assert transactions(harness)[0].state == "idle in transaction (aborted)"
    harness.ask(asking, query("ROLLBACK"))
    assert transactions(harness) == []


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_what_one_transaction_did_is_not_said_of_the_next(mode: str) -> None:
    harness, asking = client(pool_mode=PoolMode(mode))
    harness.ask(asking, query("BEGIN"), query("INSERT 1"), query("COMMIT"))
    harness.ask(asking, query("BEGIN"))
    [row] = transactions(harness)
    assert (row.writes, row.statements, row.kind) == (False, 1, "BEGIN")


def test_a_write_is_told_while_it_runs() -> None:
    harness, asking = client()
    asking.send(query("INSERT 1"))
    harness.accept()
    [row] = transactions(harness)
    assert (row.state, row.writes, row.statements) == ("active", True, 0)


@pytest.mark.parametrize("way", ["leave", "terminate", "expel", "server"])
def test_no_transaction_lingers_when_its_client_has_left(way: str) -> None:
    harness, asking = client()
    harness.ask(asking, query("BEGIN"))
    if way == "leave":
        asking.leave()
    elif way == "terminate":
        asking.send(message("X"))
    elif way == "expel":
        asking.session.expel()
    else:
        harness.servers[0].die()
    assert transactions(harness) == []
    assert transaction_snapshots([asking.session], harness.engine.now) == []


# --- errors


def errors(harness: Harness) -> dict[tuple[str, str], tuple[int, str]]:
    now = harness.engine.now
    return {
        (row.source, row.sqlstate): (row.count, row.message)
        for row in error_snapshots(harness.engine.figures.faults, now, now)
    }


def test_errors_of_servers_are_counted_without_their_words() -> None:
    harness, asking = client()
    harness.ask(asking, query("FAIL secret"))
    harness.engine.advance(5)
    harness.ask(asking, parse("FAIL secret", "s"), SYNC)
    assert errors(harness) == {("server", "42601"): (2, "")}
    [row] = error_snapshots(harness.engine.figures.faults, harness.engine.now + 7, 1000.0)
    assert (row.database, row.user, row.last) == ("app", "ann", 993.0)


@pytest.mark.parametrize("is_held", [False, True])
def test_errors_of_the_router_are_counted_once_and_without_values(is_held: bool) -> None:
    harness, asking = client()
    if is_held:
        harness.ask(asking, query("BEGIN"))
    harness.ask(asking, bind(name="PGCAT_77"), SYNC)
    [(key, (count, text))] = errors(harness).items()
    assert key == ("router", "26000")
    assert count == 1
    assert "77" not in text
    assert text.startswith("prepared statement ?")


def test_the_value_of_a_key_is_not_in_the_message() -> None:
    harness, asking = client(servers=((True,), (True,)))
    harness.ask(asking, query("SET SHARDING KEY TO 'it''s secret'"))
    [(key, (_, text))] = errors(harness).items()
    assert key[0] == "router"
    assert "secret" not in text


def test_who_gets_no_server_and_who_loses_one_is_counted() -> None:
    harness, asking = client(pool_size=1, query_wait_timeout=1.0, retry_reads=False)
    other = harness.connect()
    other.send(query("SLEEP"))
    harness.run()
    asking.send(query("SELECT 1"))
    harness.engine.advance(2)
    harness.run()
    harness.servers[0].die()
    assert {key: count for key, (count, _) in errors(harness).items()} == {
        ("router", "53300"): 1,
        ("router", "08006"): 1,
    }


def test_what_a_client_is_not_told_of_does_not_count() -> None:
    harness, asking = client()
    harness.ask(asking, query("SELECT 1"))
    harness.servers[0].connection.send_query(b"FAIL")
    harness.run()
    assert errors(harness) == {}


# --- histograms


def histograms(harness: Harness) -> dict[str, tuple[int, float]]:
    return {
        row.name: (sum(row.counts), row.total) for row in histogram_snapshots(harness.engine)
    }


def test_histograms_have_what_the_rows_have() -> None:
    harness, asking = client(pool_size=1)
    other = harness.connect()
    other.send(query("BEGIN"), query("SLEEP"))
    harness.run()
    asking.send(query("SELECT 1"))
    harness.run()
    harness.engine.advance(2)
    harness.servers[0].model.wake()
    harness.run()
    harness.engine.advance(1)
    harness.ask(other, query("COMMIT"))
    assert histograms(harness) == {
        "query_seconds": (4, 2.0),
        "query_wait_seconds": (1, 3.0),
        "query_stall_seconds": (0, 0.0),
        "transaction_seconds": (2, 3.0),
        "login_seconds": (0, 0.0),
        "event_loop_delay_seconds": (0, 0.0),
    }


def test_histograms_keep_what_rows_have_lost() -> None:
    harness, asking = client()
    harness.engine.figures.queries.use(10)
    for number in range(50):
        harness.ask(asking, query(f"ROWS 1 c{number}"))
    assert histograms(harness)["query_seconds"][0] == 50
    assert sum(row.calls for row in query_snapshots(harness.engine.figures.queries)) == 50
    assert len(list(query_snapshots(harness.engine.figures.queries))) <= 11


def test_an_error_after_which_the_statement_is_sent_again_does_not_count() -> None:
    harness, asking = client(servers=((True,),), pool_size=1)
    harness.ask(asking, parse("SELECT 1", "s"), SYNC)
    harness.ask(asking, bind(name="s"), execute(), SYNC)
    asking.send(bind(name="s"), describe(), execute(), SYNC)
    [server] = harness.servers
    stale = error_response("cached plan must not change result type", "0A000")
    server.link.take()
    server.connection.on_data(stale + READY_IDLE)
    harness.run()
    assert errors(harness) == {}
    assert only(harness).errors == {}
