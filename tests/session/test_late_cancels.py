"""A cancel request stops what it was meant for, and not what its client sends next."""

from __future__ import annotations

import pytest

from router.config.values import PoolMode
from tests.support.harness import FakeClient, FakeServer, Harness
from tests.support.wire import SYNC, bind, describe, execute, parse, query, rows, run, sqlstates

NEXT = {
    "a query": query("SELECT next"),
    "a batch": run("SELECT next") + SYNC,
    "a bound statement": bind(name="s") + describe() + execute() + SYNC,
    "a long query": query("SELECT next" + " " * 300_000),
}
# How a client comes to keep its server.
KEPT = ("session", "transaction")


def begun(kept: str) -> tuple[Harness, FakeClient, FakeServer]:
    """A client that has kept its server, and runs what is to be cancelled."""
    mode = PoolMode.SESSION if kept == "session" else PoolMode.TRANSACTION
    harness = Harness(pool_mode=mode)
    client = harness.connect()
    if kept == "transaction":
        harness.ask(client, query("BEGIN"))
        harness.ask(client, query("SELECT first"))
    harness.ask(client, parse("SELECT next", "s") + SYNC)
    harness.ask(client, query("SLEEP"))
    [server] = harness.servers
    client.session.cancel()
    return harness, client, server


def finished(server: FakeServer) -> None:
    """The statement comes to its end by itself."""
    server.model.wake()
    server.answer()


@pytest.mark.parametrize("name", NEXT)
@pytest.mark.parametrize("kept", KEPT)
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("order", ["sent, delivered", "delivered, sent", "delivered, ended"])
def test_what_comes_next_is_not_hit(name: str, kept: str, order: str, *, is_late: bool) -> None:
    harness, client, server = begun(kept)
    if order == "delivered, ended":
        harness.deliver_cancel(is_late=True)  # the statement is not over, and does not notice
        finished(server)
        client.send(NEXT[name])
    else:
        finished(server)
        if order == "delivered, sent":
            harness.deliver_cancel(is_late=is_late)
            client.send(NEXT[name])
        else:
            client.send(NEXT[name])
            assert not server.work(), "it waits until the request has been delivered"
            harness.deliver_cancel(is_late=is_late)
    answer = harness.read(client)
    assert not sqlstates(answer)
    assert (rows(answer)[-1][0] or b"").rstrip() == b"SELECT next"
    assert len(harness.servers) == 1
    # It waits but once.
    assert rows(harness.ask(client, query("SELECT last"))) == [[b"SELECT last"]]


@pytest.mark.parametrize("kept", KEPT)
def test_what_is_meant_is_hit(kept: str) -> None:
    harness, client, _ = begun(kept)
    harness.deliver_cancel()
    assert sqlstates(harness.read(client)) == ["57014"]
    if kept == "transaction":
        harness.ask(client, query("ROLLBACK"))
    assert rows(harness.ask(client, query("SELECT last"))) == [[b"SELECT last"]]


@pytest.mark.parametrize("kept", KEPT)
def test_the_end_of_the_batch_that_is_meant_does_not_wait(kept: str) -> None:
    mode = PoolMode.SESSION if kept == "session" else PoolMode.TRANSACTION
    harness = Harness(pool_mode=mode)
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.ask(client, parse("SLEEP") + bind() + execute() + b"H\0\0\0\4")
    client.session.cancel()
    client.send(SYNC)
    [server] = harness.servers
    server.work()
    harness.deliver_cancel()
    assert sqlstates(harness.read(client)) == ["57014"]


def test_who_leaves_does_not_take_the_wait_along() -> None:
    harness, client, server = begun("session")
    finished(server)
    client.send(NEXT["a query"])
    client.leave()
    harness.deliver_cancel(is_late=True)
    other = harness.connect()
    assert rows(harness.ask(other, query("SELECT other"))) == [[b"SELECT other"]]


@pytest.mark.parametrize("is_late", [False, True])
def test_what_a_client_that_has_left_was_cancelled_for_concerns_no_other(
    *, is_late: bool
) -> None:
    harness = Harness(pool_size=1)
    client, other = harness.connect(), harness.connect()
    harness.ask(client, query("SLEEP"))
    [server] = harness.servers
    client.leave()
    harness.deliver_cancel(is_late=is_late)
    if is_late:
        finished(server)
    harness.run()
    assert not server.connection.is_cancelled, "the clean-up has taken the blow"
    assert rows(harness.ask(other, query("SELECT 1"))) == [[b"SELECT 1"]]
    harness.check()
