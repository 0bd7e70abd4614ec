"""How a client gets a server, waits for one, and gives it back."""

from __future__ import annotations

import pytest

from router.config.values import PoolMode
from router.errors import ServerRefused, ServerUnavailable
from router.routing.types import RouterOptions
from router.session.states import ClientState
from tests.support.harness import Harness, read_messages
from tests.support.wire import (
    SYNC,
    TERMINATE,
    bind,
    execute,
    function_call,
    kinds,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

ONE, TWO, THREE = query("SELECT one"), query("SELECT two"), query("SELECT three")
SLEEP = query("SLEEP")


def wake(harness: Harness) -> None:
    """Let every sleeping statement finish."""
    for server in harness.live_servers():
        server.model.wake()
    harness.run()


# --- transaction pooling


def test_the_longest_wait_of_a_client_is_remembered() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    for waited, longest in ((3.0, 3.0), (1.0, 3.0), (4.0, 4.0)):
        harness.ask(one, query("BEGIN"))
        two.send(TWO)
        harness.run()
        harness.engine.advance(waited)
        assert two.session.lease.longest_wait(harness.engine.now) == longest
        harness.ask(one, query("COMMIT"))
        assert two.session.lease.state is ClientState.IDLE
        assert two.session.lease.longest_wait(harness.engine.now) == longest


def test_a_client_holds_no_server_between_transactions() -> None:
    harness = Harness()
    client = harness.connect()
    assert rows(harness.ask(client, ONE)) == [[b"SELECT one"]]
    assert client.session.lease.server is None
    assert client.session.lease.state is ClientState.IDLE
    assert len(harness.part.idle) == 1


def test_clients_share_a_server_one_after_the_other() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    assert rows(harness.ask(one, ONE)) == [[b"SELECT one"]]
    assert rows(harness.ask(two, TWO)) == [[b"SELECT two"]]
    assert len(harness.servers) == 1


def test_a_client_keeps_its_server_while_a_transaction_is_open() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, query("BEGIN"))
    two.send(TWO)
    assert harness.read(two) == []
    assert two.session.lease.state is ClientState.WAITING
    assert rows(harness.ask(one, ONE)) == [[b"SELECT one"]]
    harness.ask(one, query("COMMIT"))
    assert two.session.lease.server is None
    assert b"SELECT two" in two.got


def test_a_failed_transaction_keeps_its_server_too() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("BEGIN; FAIL"))
    assert client.session.lease.server is not None
    assert sqlstates(harness.ask(client, ONE)) == ["25P02"]
    harness.ask(client, query("ROLLBACK"))
    assert client.session.lease.server is None


def test_session_mode_keeps_the_server_until_the_client_leaves() -> None:
    harness = Harness(pool_mode=PoolMode.SESSION, pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, ONE)
    two.send(TWO)
    harness.run()
    assert two.got == b""
    one.send(TERMINATE)
    assert rows(harness.read(two)) == [[b"SELECT two"]]
    assert "DISCARD ALL" in harness.servers[0].model.log


def test_statement_mode_refuses_transactions() -> None:
    harness = Harness(pool_mode=PoolMode.STATEMENT)
    client = harness.connect()
    replies = harness.ask(client, query("BEGIN"))
    assert sqlstates(replies) == ["0A000"]
    assert client.link.closed
    harness.check()
    assert harness.part.idle


def test_a_batch_that_is_not_ended_asks_for_no_server() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(run("SELECT one"))
    assert not harness.opening
    client.send(SYNC)
    assert harness.opening


# --- waiting


def test_who_waits_longest_is_served_first() -> None:
    harness = Harness(pool_size=1)
    clients = [harness.connect() for _ in range(4)]
    harness.ask(clients[0], query("BEGIN"))
    for client in (clients[2], clients[1], clients[3]):
        client.send(query("BEGIN"))
    for client in (clients[0], clients[2], clients[1], clients[3]):
        assert client.session.lease.state is ClientState.ACTIVE
        harness.ask(client, query("COMMIT"))


def test_a_client_that_leaves_the_queue_is_passed_over() -> None:
    harness = Harness(pool_size=1)
    one, two, three = (harness.connect() for _ in range(3))
    harness.ask(one, query("BEGIN"))
    two.send(TWO)
    three.send(THREE)
    two.leave()
    harness.ask(one, query("COMMIT"))
    assert b"SELECT three" in three.got
    harness.check()


def test_what_is_sent_while_waiting_is_done_in_order() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(ONE, TWO)
    client.send(run("SELECT three") + SYNC)
    said = rows(harness.read(client))
    assert said == [[b"SELECT one"], [b"SELECT two"], [b"SELECT three"]]


def test_a_client_that_waits_too_long_gets_an_error_and_goes_on() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, query("BEGIN"))
    two.send(TWO)
    harness.engine.advance(4.9)
    assert harness.read(two) == []
    harness.engine.advance(0.2)
    replies = harness.read(two)
    assert (kinds(replies), sqlstates(replies)) == ("EZ", ["53300"])
    harness.ask(one, query("COMMIT"))
    assert rows(harness.ask(two, TWO)) == [[b"SELECT two"]]


def test_the_timeout_of_a_batch_skips_to_its_sync() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, query("BEGIN"))
    two.send(parse("SELECT two", "s") + bind(name="s") + execute() + SYNC)
    harness.engine.advance(5)
    replies = harness.read(two)
    assert (kinds(replies), sqlstates(replies)) == ("EZ", ["53300"])
    harness.ask(one, query("COMMIT"))
    # The Parse was skipped with the rest.
    assert sqlstates(harness.ask(two, bind(name="s") + SYNC)) == ["26000"]


def test_timeouts_of_clients_that_try_again_leave_one_timer() -> None:
    harness = Harness(pool_size=1)
    harness.ask(harness.connect(), query("BEGIN"))
    clients = [harness.connect() for _ in range(3)]
    for client in clients:
        client.send(ONE * 20)
        harness.engine.advance(1)
    for _ in range(12):
        harness.engine.advance(4)
    assert len(harness.part.waiters) == 3
    assert harness.engine.timers == 1


def test_a_cancel_request_takes_a_client_out_of_the_queue() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, query("BEGIN"))
    two.send(TWO)
    two.session.cancel()
    replies = harness.read(two)
    assert (kinds(replies), sqlstates(replies)) == ("EZ", ["57014"])
    harness.ask(one, query("COMMIT"))
    assert harness.part.waiters == type(harness.part.waiters)()
    assert harness.servers[0].model.log == ["BEGIN", "COMMIT"]


def test_clients_that_fail_too_often_are_sent_away() -> None:
    harness = Harness(pool_size=1, checkout_failure_limit=2)
    harness.ask(harness.connect(), query("BEGIN"))
    client = harness.connect()
    for _ in range(2):
        client.send(ONE)
        harness.engine.advance(5)
    assert sqlstates(harness.read(client)) == ["53300", "53300", "53300"]
    assert client.link.closed


def test_who_has_had_a_server_in_between_has_not_failed_too_often() -> None:
    harness = Harness(pool_size=1, checkout_failure_limit=2)
    busy, client = harness.connect(), harness.connect()
    for _ in range(3):
        harness.ask(busy, query("BEGIN"))
        client.send(ONE)
        harness.engine.advance(5)
        assert sqlstates(harness.read(client)) == ["53300"]
        harness.ask(busy, query("COMMIT"))
        assert kinds(harness.ask(client, ONE)) == "TDCZ"
    assert not client.link.closed


# --- servers that cannot be had


def test_a_server_that_refuses_the_login_is_quoted_to_the_client() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(ONE)
    harness.refuse(ServerRefused("no such database", sqlstate="3D000"))
    replies = harness.read(client)
    assert (kinds(replies), sqlstates(replies)) == ("EZ", ["3D000"])


def test_a_server_that_cannot_be_reached_is_tried_again_while_somebody_waits() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(ONE)
    harness.refuse(ServerUnavailable("connection refused"))
    assert harness.read(client) == []
    harness.engine.advance(0.1)
    assert rows(harness.read(client)) == [[b"SELECT one"]]


def test_whoever_comes_no_server_is_tried_again_at_once() -> None:
    harness = Harness()
    harness.connect().send(ONE)
    for pause in (0.05, 0.1, 0.2):  # until the next pause is a long one
        harness.refuse(ServerUnavailable("connection refused"))
        harness.engine.advance(pause)
    harness.refuse(ServerUnavailable("connection refused"))
    harness.engine.advance(0.09)
    harness.connect().send(ONE)
    assert harness.opening == []
    harness.engine.advance(0.01)
    harness.connect().send(ONE)
    assert len(harness.opening) == 1


def test_the_next_replica_is_tried_when_one_cannot_be_reached() -> None:
    harness = Harness(servers=((False, False),))
    client = harness.connect()
    client.send(ONE)
    first = harness.opening[0]
    harness.refuse(ServerUnavailable("connection refused"))
    assert [pool is first for pool in harness.opening] == [False]
    assert rows(harness.read(client)) == [[b"SELECT one"]]
    assert first.is_banned


def test_a_client_that_is_sent_on_has_its_full_time_at_the_next_server() -> None:
    harness = Harness(servers=((False, False),))  # a connect_timeout of 5 s
    client = harness.connect()
    client.send(ONE)
    first = harness.opening[0]
    harness.engine.advance(4)
    harness.refuse(ServerUnavailable("connection refused"))
    assert [pool is first for pool in harness.opening] == [False]
    harness.engine.advance(4.9)
    assert client.receive() == b""
    harness.engine.advance(0.2)
    assert sqlstates(read_messages(client.receive())) == ["57P03"]


# --- reload


def test_a_client_that_waits_goes_on_in_the_new_pool() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, query("BEGIN"))
    two.send(TWO)
    harness.replace_pool(harness.new_pool())
    assert rows(harness.read(two)) == [[b"SELECT two"]]
    assert rows(harness.ask(one, ONE)) == [[b"SELECT one"]]
    harness.ask(one, query("COMMIT"))
    assert harness.servers[0].link.closed
    assert rows(harness.ask(one, THREE)) == [[b"SELECT three"]]
    assert one.session.lease.pool is harness.pool


def test_a_client_whose_pool_is_gone_is_sent_away_at_its_next_query() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.replace_pool(None)
    assert rows(harness.ask(client, ONE)) == [[b"SELECT one"]]
    harness.ask(client, query("COMMIT"))
    assert sqlstates(harness.ask(client, TWO)) == ["3D000"]
    assert client.link.closed


SHARDS = ((True,), (True,), (True,))
WAITING = {
    "query": ONE,
    "batch": run("SELECT one") + SYNC,
    "function call": function_call(1),
    "long query": query("SELECT " + "x" * 300_000),
    "long parse": parse("SELECT " + "x" * 300_000),
}


@pytest.mark.parametrize("message", WAITING.values(), ids=WAITING)
def test_a_client_whose_shard_is_gone_gets_an_error(message: bytes) -> None:
    harness = Harness(servers=SHARDS, pool_size=1)
    client = harness.connect()
    harness.ask(client, query("SET SHARD TO 2"))
    harness.replace_pool(harness.new_pool(servers=SHARDS[:1] * 2, pool_size=1))
    replies = harness.ask(client, message + SYNC)
    assert sqlstates(replies) == ["22023"]
    assert not client.link.closed
    harness.check()


@pytest.mark.parametrize("message", WAITING.values(), ids=WAITING)
def test_a_client_whose_shard_goes_while_it_waits_gets_an_error(message: bytes) -> None:
    harness = Harness(servers=SHARDS, pool_size=1)
    holder, client, last = (harness.connect() for _ in range(3))
    for each in (holder, client, last):
        harness.ask(each, query("SET SHARD TO 2"))
    harness.ask(holder, query("BEGIN"))
    client.send(message + SYNC)
    last.send(ONE)
    harness.replace_pool(harness.new_pool(servers=SHARDS[:1] * 2, pool_size=1))
    assert sqlstates(harness.read(client)) == ["22023"]
    assert b"22023" in last.got
    assert not client.link.closed


@pytest.mark.parametrize("message", WAITING.values(), ids=WAITING)
def test_whatever_waits_is_served_by_the_new_pool(message: bytes) -> None:
    harness = Harness(pool_size=1, options=RouterOptions(query_parser_enabled=True))
    holder, client = harness.connect(), harness.connect()
    harness.ask(holder, query("BEGIN"))
    client.send(message + SYNC)
    harness.replace_pool(harness.new_pool(pool_size=1))
    replies = harness.read(client)
    assert "Z" in kinds(replies)
    assert not client.link.closed
    harness.ask(holder, query("COMMIT"))
    harness.check()


# --- draining


def test_draining_lets_a_transaction_finish() -> None:
    harness = Harness()
    idle, busy = harness.connect(), harness.connect()
    harness.ask(busy, query("BEGIN"))
    for client in (idle, busy):
        client.session.drain()
    assert sqlstates(harness.read(idle)) == ["57P01"]
    assert idle.link.closed
    assert rows(harness.ask(busy, ONE)) == [[b"SELECT one"]]
    assert sqlstates(harness.ask(busy, query("COMMIT"))) == ["57P01"]
    assert busy.link.closed
    harness.check()


def test_draining_serves_those_who_wait() -> None:
    harness = Harness(pool_size=1)
    one, two = harness.connect(), harness.connect()
    harness.ask(one, query("BEGIN"))
    two.send(TWO)
    two.session.drain()
    harness.ask(one, query("COMMIT"))
    assert b"SELECT two" in two.got
    assert two.link.closed


# --- idleness


def test_an_idle_transaction_is_ended_in_time() -> None:
    harness = Harness(idle_client_in_transaction_timeout=60.0)
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.engine.advance(50)
    harness.ask(client, ONE)
    harness.engine.advance(50)
    assert not client.link.closed
    harness.engine.advance(11)
    assert sqlstates(harness.read(client)) == ["25P03"]
    assert client.link.closed
    harness.check()


def test_who_waits_for_a_server_in_a_transaction_does_not_idle() -> None:
    harness = Harness(
        idle_client_in_transaction_timeout=5.0, connect_timeout=60.0, deferred_begin=True
    )
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.engine.advance(4)
    client.send(ONE)
    assert harness.opening
    harness.engine.advance(50)
    assert not client.link.closed


def test_a_busy_transaction_leaves_no_heap_of_timers() -> None:
    harness = Harness(idle_client_in_transaction_timeout=60.0)
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    for _ in range(50):
        harness.ask(client, ONE)
    assert harness.engine.timers <= 2
