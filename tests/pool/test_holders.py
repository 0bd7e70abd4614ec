"""A pool that has no connection left says what holds them."""

from __future__ import annotations

import logging

import pytest

from router.pool.contracts import Waiter
from router.session.snapshots import pool_snapshots
from tests.support.harness import Harness, read_messages
from tests.support.wire import query

from .builders import Client


def exhausted(harness: Harness) -> dict[str, str]:
    """What the next client is told."""
    client = harness.connect()
    client.send(query("SELECT 1"))
    harness.engine.advance(harness.part.settings.connect_timeout)
    client.receive()
    [error] = [each for each in read_messages(client.got) if each.kind == "E"]
    return error.fields


def test_clients_that_idle_in_their_transactions_are_told_by_name(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    harness = Harness(pool_size=4, connect_timeout=1.0)
    for name in ("billing", "billing", "web"):
        client = harness.connect(application_name=name)
        harness.ask(client, query("BEGIN"))
    harness.engine.advance(40)
    busy = harness.connect(application_name="report")
    harness.ask(busy, query("SLEEP"))
    told = exhausted(harness)
    assert told["C"] == "53300"
    expected = (
        '4 of 4: 3 idle in transaction (held for up to 41 s; 2 "billing", 1 "web"; '
        "last 3 BEGIN), "
        '1 running (held for up to 1 s; 1 "report"; 1 SLEEP)'
    )
    assert told["D"] == f"In use are {expected}."
    assert "idle_client_in_transaction_timeout" in told["H"]
    assert caplog.messages == [
        "[app/ann] no connection to primary host00:5432 of shard 0 is free, in use are "
        + expected
    ]


def test_a_busy_pool_is_too_small() -> None:
    harness = Harness(pool_size=1, connect_timeout=1.0)
    busy = harness.connect(application_name="psql")
    harness.ask(busy, query("SLEEP"))
    told = exhausted(harness)
    assert told["D"] == 'In use are 1 of 1: 1 running (held for up to 1 s; 1 "psql"; 1 SLEEP).'
    assert told["H"].startswith("Raise pool_size")


@pytest.mark.parametrize(("idle", "blames_clients"), [(1, False), (2, False), (3, True)])
def test_clients_are_to_blame_that_hold_more_than_half_for_nothing(
    idle: int, blames_clients: bool
) -> None:
    harness = Harness(pool_size=4, connect_timeout=1.0)
    for number in range(4):
        statement = "BEGIN" if number < idle else "SLEEP"
        harness.ask(harness.connect(), query(statement))
    assert ("idle_client_in_transaction_timeout" in exhausted(harness)["H"]) is blames_clients


def test_a_server_that_says_nothing_may_be_what_is_the_matter() -> None:
    harness = Harness(pool_size=2, connect_timeout=1.0)
    health = harness.part.health
    busy = harness.connect()
    harness.ask(busy, query("SLEEP"))
    other = harness.connect()
    harness.ask(other, query("BEGIN"))
    health.look(harness.engine.now)
    health.begin_check()
    harness.engine.advance(0.5)
    hint = exhausted(harness)["H"]
    assert "nothing has come from it for 1.5 s" in hint
    assert health.wanted.is_set(), "it is not asked"
    # It has said something since it was looked at: then it is slow at most.
    harness.ask(other, query("SELECT 1"))
    health.begin_check()
    assert "nothing has come" not in exhausted(harness)["H"]
    assert not health.wanted.is_set()


def test_a_server_that_says_nothing_is_asked_though_who_waited_goes_elsewhere() -> None:
    harness = Harness(servers=((False, False),), pool_size=1, connect_timeout=1.0)
    for _ in range(2):
        harness.ask(harness.connect(), query("SLEEP"))
    silent, other = (server.connection.pool for server in harness.servers)
    for part in (silent, other):
        part.health.look(harness.engine.now)
        part.health.begin_check()
    waiter = Waiter(Client(), [other], harness.engine.now, harness.engine.now + 1.0)
    silent.enqueue(waiter)
    harness.engine.advance(1.0)
    assert waiter.pool is other
    assert silent.health.wanted.is_set()
    assert not other.health.wanted.is_set()


def test_many_clients_without_a_connection_are_one_look(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    harness = Harness(pool_size=1, connect_timeout=1.0)
    holder = harness.connect()
    harness.ask(holder, query("BEGIN"))
    clients = [harness.connect() for _ in range(50)]
    for client in clients:
        client.send(query("SELECT 1"))
    harness.engine.advance(1.0)
    found = harness.part.holders
    assert found is not None
    assert not found.is_new
    assert len(caplog.messages) == 1
    assert all(b"In use are 1 of 1: 1 idle in transaction" in c.link.written for c in clients)


def test_more_names_than_can_be_told_are_left_out() -> None:
    harness = Harness(pool_size=5, connect_timeout=1.0)
    for number in range(5):
        client = harness.connect(application_name=f"app{number}" + "x" * 100)
        harness.ask(client, query("BEGIN"))
    told = exhausted(harness)["D"]
    assert told.count("app") == 3
    assert told.endswith(", ...; last 5 BEGIN).")
    assert len(told) < 300


def test_while_clients_wait_show_pools_tells_what_they_wait_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness = Harness(pool_size=2)
    pool = harness.pool
    assert pool is not None

    def held_by() -> str:
        sessions = [client.session for client in harness.clients]
        [row] = pool_snapshots([pool], sessions, harness.engine.now)
        return row.held_by

    for text in ("UPDATE t SET x = 1", "INSERT INTO t VALUES (1)"):
        harness.ask(harness.connect(application_name="web"), query("BEGIN"), query(text))
    assert held_by() == ""
    harness.engine.advance(30)
    harness.connect().send(query("SELECT 1"))
    expected = (
        "primary host00:5432 of shard 0: 2 of 2: 2 idle in transaction "
        '(held for up to 30 s; 2 "web"; last 1 INSERT, 1 UPDATE)'
    )
    assert held_by() == expected
    # To look takes nothing from the line of the log that is to come.
    harness.engine.advance(harness.part.settings.connect_timeout)
    assert "no connection to" in caplog.text
    assert held_by() == ""
