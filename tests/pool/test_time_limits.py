"""Statements, transactions, clients and connections whose time is over."""

from __future__ import annotations

import pytest

from router.config.values import PoolMode
from router.errors import ServerRefused
from tests.support.harness import Harness
from tests.support.wire import SYNC, Message, kinds, query, run

BEGIN, COMMIT, ONE = query("BEGIN"), query("COMMIT"), query("SELECT one")
SLEEP = query("SLEEP")


def count(harness: Harness, kind: str) -> int:
    return harness.engine.figures.timeouts.count(kind)


def heard(messages: list[Message]) -> tuple[str, str]:
    """Severity and SQLSTATE of the only error."""
    [error] = [each for each in messages if each.kind == "E"]
    return error.fields["S"], error.fields["C"]


# --- query_timeout


@pytest.mark.parametrize("asked", [SLEEP, run("SLEEP") + SYNC])
def test_a_statement_that_takes_too_long_is_cancelled_and_the_session_goes_on(
    asked: bytes,
) -> None:
    harness = Harness(query_timeout=2.0)
    client = harness.connect()
    assert "E" not in kinds(harness.ask(client, asked))
    harness.engine.advance(1.9)
    assert harness.cancelling == []
    harness.engine.advance(0.1)
    assert heard(harness.read(client)) == ("ERROR", "57014")
    assert kinds(harness.ask(client, ONE)) == "TDCZ"
    assert count(harness, "query") == 1


def test_a_statement_that_goes_on_is_cancelled_again_when_as_much_time_has_passed() -> None:
    harness = Harness(pool_size=2, query_timeout=2.0)
    for client in (harness.connect(), harness.connect()):
        harness.ask(client, SLEEP)
        harness.engine.advance(1)
    counts = []
    for _ in range(4):
        counts.append(len(harness.cancelling))
        harness.engine.advance(1)
    assert counts == [1, 2, 3, 4], "each in its turn, every two seconds"


def test_the_time_of_a_statement_begins_with_itself() -> None:
    harness = Harness(query_timeout=2.0)
    client = harness.connect()
    harness.ask(client, BEGIN)
    harness.engine.advance(1.5)
    harness.ask(client, SLEEP)
    harness.engine.advance(1.9)
    assert harness.cancelling == []
    harness.engine.advance(0.1)
    assert heard(harness.read(client)) == ("ERROR", "57014")


def test_the_time_of_a_statement_in_a_pipeline_begins_when_the_last_one_ends() -> None:
    harness = Harness(query_timeout=2.0)
    client = harness.connect()
    harness.ask(client, BEGIN)
    client.send(SLEEP + SLEEP)
    harness.run()
    harness.engine.advance(1.5)
    harness.servers[0].model.wake()
    harness.run()
    harness.engine.advance(1.9)
    assert harness.cancelling == []
    harness.engine.advance(0.1)
    assert len(harness.cancelling) == 1


def test_a_statement_that_does_not_stop_is_cancelled_again() -> None:
    harness = Harness(query_timeout=2.0)
    harness.ask(harness.connect(), SLEEP)
    harness.engine.advance(2.0)
    assert len(harness.cancelling) == 1
    harness.engine.advance(2.0)
    assert len(harness.cancelling) == 2


def test_waiting_for_a_server_is_no_time_of_a_statement() -> None:
    harness = Harness(query_timeout=2.0, pool_size=1, connect_timeout=60.0)
    busy, waiting = harness.connect(), harness.connect()
    harness.ask(busy, BEGIN)
    waiting.send(SLEEP)
    harness.engine.advance(10)
    harness.ask(busy, COMMIT)
    harness.engine.advance(1.9)
    assert harness.cancelling == []
    harness.engine.advance(0.1)
    assert len(harness.cancelling) == 1


def test_no_timer_runs_while_nobody_has_a_connection() -> None:
    harness = Harness(query_timeout=2.0, transaction_timeout=3.0)
    harness.ask(harness.connect(), ONE)
    harness.engine.advance(6.0)
    assert harness.engine.timers == 0


def test_a_limit_that_a_reload_brings_counts_at_once() -> None:
    harness = Harness()
    assert harness.pool is not None
    harness.ask(harness.connect(), SLEEP)
    harness.engine.advance(5)
    harness.pool.reconfigure(harness.new_pool(query_timeout=2.0).settings)
    assert len(harness.cancelling) == 1


# --- transaction_timeout


def test_a_transaction_that_takes_too_long_ends_with_its_session() -> None:
    harness = Harness(transaction_timeout=5.0)
    client = harness.connect()
    for _ in range(4):
        harness.ask(client, BEGIN)
        harness.engine.advance(1.2)
    assert not client.ended
    harness.engine.advance(0.2)
    assert heard(harness.read(client)) == ("FATAL", "25P04")
    assert client.ended
    assert count(harness, "transaction") == 1
    assert len(harness.part.idle) == 1, "its connection is clean, for others"
    assert harness.servers[0].model.status == "I"


def test_a_statement_outside_of_a_block_is_a_transaction() -> None:
    harness = Harness(transaction_timeout=5.0)
    client = harness.connect()
    harness.ask(client, SLEEP)
    harness.engine.advance(5.0)
    assert heard(harness.read(client)) == ("FATAL", "25P04")


def test_many_short_transactions_may_take_long() -> None:
    harness = Harness(transaction_timeout=5.0, pool_mode=PoolMode.SESSION)
    client = harness.connect()
    for _ in range(10):
        harness.ask(client, ONE)
        harness.engine.advance(4.0)
    assert not client.ended


def test_the_settings_of_a_client_are_no_transaction_of_its() -> None:
    harness = Harness(transaction_timeout=5.0, pool_size=1)
    client = harness.connect(application_name="other")
    client.send(SLEEP)
    harness.accept()
    harness.engine.advance(4.9)
    assert not client.ended


# --- client_idle_timeout


def test_a_client_that_asks_for_nothing_is_sent_away() -> None:
    harness = Harness(client_idle_timeout=10.0)
    client = harness.connect()
    harness.engine.advance(6)
    harness.ask(client, ONE)
    harness.engine.advance(9.9)
    assert not client.ended
    harness.engine.advance(0.1)
    assert heard(harness.read(client)) == ("FATAL", "57P05")
    assert count(harness, "client_idle") == 1


def test_a_client_is_not_idle_while_it_waits_for_an_answer() -> None:
    harness = Harness(client_idle_timeout=10.0)
    client = harness.connect()
    harness.ask(client, SLEEP)
    harness.engine.advance(25)
    harness.servers[0].model.wake()
    harness.run()
    harness.engine.advance(9.9)
    assert not client.ended
    harness.engine.advance(0.1)
    assert client.ended


def test_a_client_in_a_transaction_is_for_another_limit() -> None:
    harness = Harness(client_idle_timeout=10.0)
    client = harness.connect()
    harness.ask(client, BEGIN)
    harness.engine.advance(100)
    assert not client.ended


def test_a_client_that_has_gone_leaves_no_timer() -> None:
    harness = Harness(client_idle_timeout=10.0)
    harness.connect().leave()
    assert harness.engine.timers == 0


# --- the others


def test_a_wait_that_is_over_is_counted() -> None:
    harness = Harness(pool_size=1, connect_timeout=5.0)
    harness.ask(harness.connect(), BEGIN)
    waiting = harness.connect()
    harness.ask(waiting, ONE)
    harness.engine.advance(5)
    assert heard(harness.read(waiting)) == ("ERROR", "53300")
    assert count(harness, "query_wait") == 1


def test_a_client_that_idles_in_a_transaction_is_counted() -> None:
    harness = Harness(idle_client_in_transaction_timeout=5.0)
    client = harness.connect()
    harness.ask(client, BEGIN)
    harness.engine.advance(5)
    assert heard(harness.read(client)) == ("FATAL", "25P03")
    assert count(harness, "idle_transaction") == 1


def idle(harness: Harness, number: int) -> None:
    """Open connections, which are idle then."""
    clients = [harness.connect() for _ in range(number)]
    for client in clients:
        harness.ask(client, BEGIN)
    for client in clients:
        harness.ask(client, COMMIT)


def maintain(harness: Harness) -> None:
    harness.part.maintain(harness.engine.now)


def test_connections_that_are_idle_or_old_are_counted() -> None:
    harness = Harness(pool_size=3, idle_timeout=10.0, server_lifetime=100.0)
    idle(harness, 3)
    harness.engine.advance(11)
    maintain(harness)
    assert count(harness, "server_idle") == 3
    idle(harness, 1)
    harness.part.idle[0].expires_at = harness.engine.now
    maintain(harness)
    assert count(harness, "server_lifetime") == 1


def test_a_connection_that_is_too_old_waits_for_its_successor() -> None:
    harness = Harness(pool_size=3, min_pool_size=2, server_lifetime=100.0)
    idle(harness, 2)
    old = list(harness.part.idle)
    harness.engine.advance(101)
    maintain(harness)
    assert len(harness.opening) == 1, "there is room for one more, and no more"
    assert list(harness.part.idle) == old
    harness.accept()
    maintain(harness)
    assert len(harness.part.idle) == 2
    harness.run()
    maintain(harness)
    harness.run()
    maintain(harness)
    assert not set(old) & set(harness.part.idle)
    assert len(harness.part.idle) == 2
    assert count(harness, "server_lifetime") == 2


def test_a_connection_that_comes_back_too_old_waits_for_its_successor_as_well() -> None:
    harness = Harness(pool_size=2, min_pool_size=1, server_lifetime=100.0)
    client = harness.connect()
    harness.ask(client, BEGIN)
    harness.engine.advance(101)
    harness.ask(client, COMMIT)
    assert len(harness.part.idle) == 1
    maintain(harness)
    harness.run()
    maintain(harness)
    assert len(harness.part.idle) == 1
    assert harness.part.idle[0] is not harness.servers[0].connection


def test_without_room_the_old_one_goes_first() -> None:
    harness = Harness(pool_size=1, min_pool_size=1, server_lifetime=100.0)
    idle(harness, 1)
    harness.engine.advance(101)
    maintain(harness)
    assert harness.part.size == 1
    assert len(harness.opening) == 1


def test_a_server_that_takes_no_more_keeps_those_that_it_has() -> None:
    harness = Harness(pool_size=3, min_pool_size=1, server_lifetime=100.0)
    idle(harness, 1)
    harness.engine.advance(101)
    maintain(harness)
    harness.refuse(ServerRefused("too many", sqlstate="53300"))
    maintain(harness)
    assert len(harness.part.idle) == 1


def test_a_client_that_waits_for_an_answer_does_not_idle_in_its_transaction() -> None:
    harness = Harness(idle_client_in_transaction_timeout=5.0)
    client = harness.connect()
    harness.ask(client, BEGIN)
    harness.engine.advance(4)
    client.send(ONE)
    [server] = harness.servers
    server.work()
    harness.engine.advance(20)
    assert not client.link.closed
    assert "Z" in kinds(harness.read(client))
    harness.engine.advance(4.9)
    assert not client.link.closed
    harness.engine.advance(0.1)
    assert heard(harness.read(client)) == ("FATAL", "25P03")


def test_a_transaction_without_a_server_has_all_of_its_time() -> None:
    harness = Harness(deferred_begin=True, transaction_timeout=10.0)
    client = harness.connect()
    harness.ask(client, BEGIN)
    harness.engine.advance(5)
    harness.ask(client, COMMIT)
    harness.engine.advance(1)
    harness.ask(client, BEGIN)
    assert harness.servers == []
    harness.engine.advance(9.9)
    assert not client.link.closed
    harness.engine.advance(0.1)
    assert heard(harness.read(client)) == ("FATAL", "25P04")


def test_the_settings_of_a_client_are_no_statement_of_its() -> None:
    harness = Harness(query_timeout=2.0, pool_size=1)
    client = harness.connect(application_name="other")
    client.send(ONE)
    harness.accept()
    harness.engine.advance(10)
    assert harness.cancelling == []
    assert count(harness, "query") == 0
    assert "Z" in kinds(harness.read(client))
