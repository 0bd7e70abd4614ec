"""Clients and servers that go, at whatever point; nobody else may notice."""

from __future__ import annotations

import struct

import pytest

from router.config.values import PoolMode
from tests.support.harness import Harness, read_messages
from tests.support.wire import (
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    copy_data,
    execute,
    kinds,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

MOMENTS = {
    "in a transaction": (query("BEGIN"), query("SELECT x")),
    "in a failed transaction": (query("BEGIN"), query("FAIL")),
    "in an open batch": (run("SELECT x") + FLUSH,),
    "in a batch in a transaction": (query("BEGIN"), run("SELECT x") + FLUSH),
    "in a COPY": (query("COPY t"), copy_data(b"x\n")),
    "in a COPY of a batch": (parse("COPY t") + bind() + execute() + SYNC, copy_data(b"x\n")),
    "in a COPY of an open batch": (parse("COPY t") + bind() + execute() + FLUSH,),
    "in the middle of a message": (query("SELECT x") + query("BEGIN")[:-3],),
    "in a long message": (query("SELECT " + "x" * 400_000)[:300_000],),
    "in a long message of a batch": (bind(b"x" * 200_000)[:150_000],),
    "during a statement": (query("SLEEP"),),
    "during a pipeline": (query("SLEEP") + run("SELECT x") + SYNC + query("BEGIN"),),
    "with settings": (query("SET application_name TO 'left'"),),
    "with settings in a transaction": (query("BEGIN; SET application_name TO 'left'"),),
}


@pytest.mark.parametrize("says_goodbye", [False, True], ids=["broken", "goodbye"])
@pytest.mark.parametrize("pool_mode", [PoolMode.TRANSACTION, PoolMode.SESSION])
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_the_next_client_finds_nothing_of_one_that_left(
    moment: tuple[bytes, ...], pool_mode: PoolMode, says_goodbye: bool
) -> None:
    harness = Harness(pool_size=1, pool_mode=pool_mode)
    client, heir = harness.connect(), harness.connect()
    for message in moment:
        harness.ask(client, message)
    heir.send(query("SHOW application_name"))
    if says_goodbye:
        client.send(TERMINATE)
    client.leave()
    harness.run()
    for server in harness.live_servers():
        server.model.wake()
    harness.run()
    assert rows(read_messages(heir.got)) == [[b"SHOW application_name is "]]
    assert kinds(harness.ask(heir, run("SELECT y") + SYNC)) == "12TDCZ"
    harness.check()
    heir.leave()
    harness.run()
    assert len(harness.part.active) == len(harness.part.tested) == 0


def test_a_connection_whose_settings_are_not_accepted_yet_serves_nobody_else() -> None:
    harness = Harness(pool_size=1)
    client, heir = harness.connect(TimeZone="nobody knows"), harness.connect()
    client.send(query("SELECT x"))
    harness.accept()
    assert client.session.lease.awaits_settings
    client.leave()
    [server] = harness.servers
    assert server.link.closed
    assert rows(harness.ask(heir, query("SELECT y"))) == [[b"SELECT y"]]
    harness.check()


def test_a_cancel_request_that_came_too_early_is_sent_again() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, query("SLEEP"))
    client.leave()
    connection = harness.cancelling.pop()
    assert harness.pool is not None
    harness.pool.maintain(harness.engine.now)
    harness.part.cancel_done(connection)  # the server had not begun, and took no notice
    harness.pool.maintain(harness.engine.now + 0.5)
    assert not harness.cancelling
    for again in (1.5, 2.5):
        harness.pool.maintain(harness.engine.now + again)
        assert harness.cancelling == [connection]
    harness.run()
    assert harness.servers[0].model.sleeping is None
    assert len(harness.part.idle) == 1
    harness.check()


def test_a_client_that_breaks_off_has_its_statement_cancelled() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, query("SLEEP"))
    client.leave()
    [asked] = harness.cancelling
    assert asked is harness.servers[0].connection
    harness.run()
    assert harness.servers[0].model.sleeping is None
    harness.check()
    assert len(harness.part.idle) == 1


@pytest.mark.parametrize("has_left", [False, True])
def test_a_client_that_says_goodbye_lets_its_statement_finish(has_left: bool) -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, query("SLEEP"))
    client.send(TERMINATE)
    if has_left:
        client.leave()
    assert client.ended == ""
    assert not harness.cancelling
    harness.engine.advance(3600)
    harness.part.maintain(harness.engine.now)
    assert len(harness.part.active) == 1
    harness.servers[0].model.wake()
    answer = harness.read(client)
    assert client.ended == "client terminated"
    assert len(harness.part.idle) == 1
    assert rows(answer) == ([] if has_left else [[b"SLEEP"]])


def test_a_server_that_ignores_the_cancel_request_is_given_up_in_time() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, query("SLEEP"))
    client.leave()
    harness.cancelling.clear()
    harness.engine.advance(11)
    harness.part.maintain(harness.engine.now)
    assert harness.servers[0].link.closed


def test_a_clean_up_that_is_slow_is_not_cancelled_but_given_up_in_time() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    client.leave()
    [server] = harness.servers
    assert b"ROLLBACK" in server.link.written
    for closed in (False, False, False, True):
        harness.engine.advance(3)
        harness.part.maintain(harness.engine.now)
        assert server.link.closed is closed
        assert harness.cancelling == []


@pytest.mark.parametrize("is_late", [False, True])
def test_a_late_cancel_request_hits_nobody(is_late: bool) -> None:
    harness = Harness(pool_size=1)
    client, heir = harness.connect(), harness.connect()
    harness.ask(client, query("SLEEP"))
    client.session.cancel()
    server = harness.servers[0]
    server.model.wake()
    server.answer()
    client.receive()
    heir.send(query("SLEEP heir"))
    server.work()
    # The request is still on its way, so that the server is nobody's.
    assert server.model.sleeping is None
    assert len(harness.part.tested) == 1
    harness.deliver_cancel(is_late=is_late)
    harness.run()
    assert server.model.sleeping is not None
    server.model.wake()
    assert rows(harness.read(heir)) == [[b"SLEEP heir"]]


def test_a_cancel_request_that_comes_before_the_end_and_acts_behind_it_hits_nobody() -> None:
    harness = Harness(pool_size=1)
    client, heir = harness.connect(), harness.connect()
    harness.ask(client, query("SLEEP"))
    client.session.cancel()
    harness.deliver_cancel(is_late=True)
    harness.servers[0].model.wake()
    assert rows(harness.read(client)) == [[b"SLEEP"]]
    assert rows(harness.ask(heir, query("SELECT heir"))) == [[b"SELECT heir"]]
    assert len(harness.servers) == 1


def test_a_goodbye_behind_queries_lets_them_be_done() -> None:
    harness = Harness(pool_size=1)
    holder, client = harness.connect(), harness.connect()
    harness.ask(holder, query("BEGIN"))
    client.send(query("SELECT last") + TERMINATE)
    client.leave()
    harness.ask(holder, query("COMMIT"))
    assert "SELECT last" in harness.servers[0].model.log
    assert client.ended == "client terminated"
    harness.check()


def test_a_client_that_breaks_off_while_waiting_asks_for_nothing() -> None:
    harness = Harness(pool_size=1)
    holder, client = harness.connect(), harness.connect()
    harness.ask(holder, query("BEGIN"))
    client.send(query("SELECT last"))
    client.leave()
    harness.ask(holder, query("COMMIT"))
    assert harness.servers[0].model.log == ["BEGIN", "COMMIT"]


# --- servers that go


def test_the_client_of_a_server_that_dies_is_told_so() -> None:
    harness = Harness()
    client, other = harness.connect(), harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.servers[0].die()
    assert sqlstates(harness.read(client)) == ["08006"]
    assert client.link.closed
    assert rows(harness.ask(other, query("SELECT x"))) == [[b"SELECT x"]]
    harness.check()


def test_nothing_is_added_to_a_row_that_was_cut_off() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(query("SELECT " + "x" * 1000))
    server = harness.accept()
    server.work()
    server.answer(100)
    server.die()
    client.receive()
    assert len(client.got) == 100
    assert client.link.closed


def test_an_idle_server_that_dies_is_replaced_when_it_is_needed() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, query("SELECT x"))
    harness.servers[0].die()
    assert harness.part.size == 0
    assert rows(harness.ask(client, query("SELECT y"))) == [[b"SELECT y"]]


def test_a_waiting_client_gets_a_new_server_for_one_that_dies() -> None:
    harness = Harness(pool_size=1)
    holder, client = harness.connect(), harness.connect()
    harness.ask(holder, query("BEGIN"))
    client.send(query("SELECT x"))
    harness.servers[0].die()
    assert rows(harness.read(client)) == [[b"SELECT x"]]
    assert holder.link.closed


def test_a_server_that_is_out_of_step_is_given_up() -> None:
    harness = Harness(pool_size=1)
    client, other = harness.connect(), harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.servers[0].connection.on_data(b"D\0\0\0\x06\0\0")
    assert harness.servers[0].link.closed
    assert sqlstates(harness.read(client)) == ["08P01"]
    assert rows(harness.ask(other, query("SELECT x"))) == [[b"SELECT x"]]


@pytest.mark.parametrize("is_cut", [False, True])
def test_a_client_that_is_sent_away_is_told_between_two_messages_only(is_cut: bool) -> None:
    harness = Harness()
    client = harness.connect()
    client.send(query("SLEEP"))
    server = harness.accept()
    server.work()
    row = b"D" + struct.pack("!I", 2_000_000) + b"x" * 1_000_000
    if is_cut:
        server.connection.on_data(row)
    client.session.expel()
    got = client.receive()
    assert got.startswith(row) is is_cut
    assert (b"57P01" in got) is not is_cut
    assert client.link.closed
