"""Back-pressure between a client and its server, and messages that are too long to hold."""

from __future__ import annotations

import pytest

from router.protocol import messages
from router.protocol.framing import TEXT_LIMIT
from router.protocol.frontend import HOLD_LIMIT
from router.routing.types import Role, RouterOptions
from router.session.session import _MAX_PIPELINE
from tests.support.harness import Harness, read_messages
from tests.support.model import ModelServer
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    bind,
    copy_data,
    describe,
    execute,
    kinds,
    parse,
    query,
    rows,
    run,
)

LONG = "SELECT " + "x" * TEXT_LIMIT


def test_a_server_is_not_read_while_its_client_takes_nothing() -> None:
    harness = Harness()
    client = harness.connect()
    client.send(query("ROWS 100 x"))
    server = harness.accept()
    server.work()
    client.link.congested = True
    server.answer(50)
    assert server.link.paused
    assert not server.answer(50)
    client.link.congested = False
    client.session.on_drained()
    assert not server.link.paused
    assert len(rows(harness.read(client))) == 100


def test_the_next_client_does_not_suffer_from_a_slow_one() -> None:
    harness = Harness(pool_size=1)
    slow, other = harness.connect(), harness.connect()
    slow.send(query("SELECT x"))
    server = harness.accept()
    server.work()
    slow.link.congested = True
    server.answer()
    slow.leave()
    assert rows(harness.ask(other, query("SELECT y"))) == [[b"SELECT y"]]


def test_a_client_is_not_read_while_what_it_sent_cannot_be_acted_on() -> None:
    harness = Harness(pool_size=1)
    holder, client = harness.connect(), harness.connect()
    harness.ask(holder, query("BEGIN"))
    one = query("SELECT " + "y" * 1000)
    for _ in range(2 * HOLD_LIMIT // len(one)):
        client.send(one)
    assert client.link.paused
    assert client.session.stream.held <= HOLD_LIMIT + len(one)
    harness.ask(holder, query("COMMIT"))
    assert not client.link.paused
    assert client.session.stream.held == 0
    assert client.unread == b""


def test_a_client_waits_while_its_server_takes_nothing() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("COPY t"))
    link = harness.servers[0].link
    link.congested = True
    client.send(copy_data(b"x\n") + COPY_DONE)
    assert client.session.stream.held > 0
    link.congested = False
    harness.servers[0].connection.on_drained()
    assert kinds(harness.read(client)) == "CZ"


@pytest.mark.parametrize(
    ("data", "answer"),
    [
        (query(LONG), "TDCZ"),
        (parse(LONG) + bind() + describe() + execute() + SYNC, "12TDCZ"),
        (parse("SELECT x") + bind(b"y" * 200_000) + describe() + execute() + SYNC, "12TDCZ"),
        (parse("SELECT x", "s") + bind(b"y" * 200_000, name="s") + SYNC, "12Z"),
        (bind(b"y" * 200_000, name="none") + execute() + SYNC, "EZ"),
    ],
    ids=["query", "parse", "bind", "named bind", "bind of nothing"],
)
def test_a_long_message_goes_through_in_pieces(data: bytes, answer: str) -> None:
    harness = Harness()
    client = harness.connect()
    longest = 0
    for start in range(0, len(data), 10_000):
        client.send(data[start : start + 10_000])
        harness.run()
        longest = max(longest, client.session.stream.held)
    assert kinds(read_messages(client.got)) == answer
    assert longest <= 128 * 1024
    assert client.session.lease.server is None
    harness.check()


def test_a_batch_that_no_server_can_have_is_answered_once() -> None:
    options = RouterOptions(shard_count=2, default_role=Role.REPLICA)
    harness = Harness(servers=((True,), (True,)), options=options)
    client = harness.connect()
    for batch in (
        run("SELECT x") + SYNC,
        parse("SELECT x", "s") + SYNC + run("SELECT x") + SYNC,
    ):
        assert kinds(harness.ask(client, batch)) == "EZ" * batch.count(SYNC)
    harness.check()


def test_a_client_has_so_many_segments_on_their_way() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, query("SELECT x"))
    [server] = harness.servers
    client.send(query("SLEEP"))
    server.work()
    client.send(query("SELECT y") * (_MAX_PIPELINE + 500))
    while client.deliver():
        pass
    assert len(server.connection.queue) <= _MAX_PIPELINE + 1
    server.model.wake()
    assert kinds(harness.read(client)).count("Z") == _MAX_PIPELINE + 501
    harness.check()


@pytest.mark.parametrize("end", [SYNC, FLUSH], ids=["Sync", "Flush"])
def test_a_sync_in_a_copy_counts_as_soon_as_the_copy_has_failed(end: bytes) -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, run("COPY t") + end)
    [server] = harness.servers
    client.send(copy_data(b"x\n") + SYNC)
    server.work()
    assert server.link.written == b""
    assert harness.read(client) == []
    server.connection.on_data(messages.error_response("bad row", "22P02"))
    assert server.link.written == SYNC
    server.link.take()
    client.send(run("SELECT y") + SYNC)  # behind the Sync, which has been sent by now
    server.connection.on_data(messages.READY_IDLE)
    assert kinds(read_messages(client.receive())) == "EZ"
    server.model = ModelServer()
    assert kinds(harness.read(client)) == "12TDCZ"
    assert len(harness.part.idle) == 1


def test_statements_that_a_server_is_about_to_drop_are_prepared_anew() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    again = parse("SELECT x", "s") + bind(name="s") + execute() + SYNC
    harness.ask(client, query("BEGIN"), again, bind(name="s") + execute() + SYNC)
    answers = harness.ask(client, query("DEALLOCATE ALL") + again + query("COMMIT"))
    assert kinds(answers) == "CZ12DCZCZ"


def test_what_follows_in_a_batch_that_no_server_can_have_is_skipped() -> None:
    options = RouterOptions(default_role=Role.REPLICA)
    harness = Harness(servers=((True,),), options=options)
    client = harness.connect()
    assert kinds(harness.ask(client, run("SELECT x") + FLUSH)) == "E"
    assert kinds(harness.ask(client, run("SELECT y"))) == ""
    assert kinds(harness.ask(client, SYNC)) == "Z"
    harness.check()


def test_nothing_follows_a_batch_that_may_copy_before_it_is_known_which_sync_ends_it() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, parse("SELECT copy", "c") + bind(name="c") + execute() + SYNC)
    [server] = harness.servers
    batch = bind(name="c") + execute() + SYNC
    client.send(batch * 2)
    assert server.link.written.count(SYNC) == 1
    assert kinds(harness.read(client)) == "2DCZ" * 2


def test_a_text_that_has_failed_to_parse_is_not_taken_for_known() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, run("SELECT x") + SYNC)
    harness.ask(client, parse("SELECT y", "y") + SYNC)
    harness.servers[0].model.is_failing = True
    # Not the first message of its batch, so that it has a step of its own.
    answers = harness.ask(client, bind(name="y") + execute() + parse("SELECT x") + SYNC)
    assert kinds(answers) == "2DCEZ"
    assert kinds(harness.ask(client, parse("SELECT x", "named") + SYNC)) == "EZ"
