"""Connections between two clients: cleaning, ageing, resizing, retirement."""

from __future__ import annotations

import math

import pytest

from router.protocol import marks
from tests.support.harness import FakeServer, Harness

from .builders import opened, wait

# --- cleaning


def release_with(harness: Harness, found: int, **changes: object) -> FakeServer:
    """Give a connection back on which a client has left something."""
    client = wait(harness)
    server = harness.accept()
    assert client.server is not None
    server.connection.marks |= found
    for name, value in changes.items():
        setattr(server.connection, name, value)
    harness.part.release(client.server)
    return server


def test_a_connection_with_something_left_on_it_is_cleaned_before_the_next_client() -> None:
    harness = Harness(pool_size=1)
    server = release_with(harness, marks.SET | marks.PREPARE)
    server.connection.statements.add(b"PGCAT_1")
    client = wait(harness)
    assert len(harness.part.tested) == 1
    assert client.server is None
    server.work()
    server.answer()
    assert "RESET ALL" in server.model.log
    assert "DEALLOCATE ALL" in server.model.log
    assert len(server.connection.statements) == 0
    assert client.server is server.connection


def test_cleaning_can_be_turned_off() -> None:
    harness = Harness(cleanup_server_connections=False)
    server = release_with(harness, marks.SET)
    assert not server.work()
    assert len(harness.part.idle) == 1


def test_a_connection_that_cannot_be_cleaned_is_closed() -> None:
    harness = Harness()
    server = release_with(harness, marks.SET)
    server.link.take()
    server.connection.on_data(b"E\0\0\0\x11SERROR\0C25001\0\0Z\0\0\0\5I")
    assert server.link.closed
    assert harness.part.size == 0


def test_a_doomed_connection_is_closed() -> None:
    harness = Harness()
    assert release_with(harness, 0, doomed=True).link.closed


def test_an_open_transaction_is_rolled_back() -> None:
    harness = Harness()
    server = release_with(harness, 0, status=ord("T"))
    server.work()
    server.answer()
    assert server.model.log == ["ROLLBACK"]
    assert len(harness.part.idle) == 1


# --- upkeep


def test_what_is_idle_for_too_long_is_closed_down_to_the_minimum() -> None:
    harness = Harness(pool_size=3, min_pool_size=1, idle_timeout=60.0)
    opened(harness, 3)
    harness.engine.advance(61)
    harness.part.maintain(harness.engine.now)
    assert len(harness.part.idle) == 1


def test_the_minimum_is_opened_without_anybody_asking() -> None:
    harness = Harness(pool_size=3, min_pool_size=2)
    harness.part.maintain(harness.engine.now)
    assert len(harness.opening) == 2
    harness.accept()
    harness.part.maintain(harness.engine.now)
    assert len(harness.opening) == 1


@pytest.mark.parametrize("minimum", range(4))
def test_of_connections_that_are_too_old_as_many_are_replaced_as_are_kept_open(
    minimum: int,
) -> None:
    harness = Harness(pool_size=9, min_pool_size=minimum, server_lifetime=100.0)
    clients = [wait(harness) for _ in range(3)]
    for _ in clients:
        harness.accept()
    harness.engine.advance(101)
    harness.opening.clear()
    harness.part.maintain(harness.engine.now)
    assert len(harness.opening) == minimum


def test_a_connection_that_has_lived_long_enough_is_closed_when_it_is_free() -> None:
    harness = Harness(server_lifetime=100.0)
    client = wait(harness)
    server = harness.accept()
    assert 90 <= server.connection.expires_at - harness.engine.now <= 100
    harness.engine.advance(101)
    harness.part.maintain(harness.engine.now)
    assert not server.link.closed
    assert client.server is not None
    harness.part.release(client.server)
    assert server.link.closed


@pytest.mark.parametrize("minimum", [0, 1, 2])
@pytest.mark.parametrize("quota", [0, 2, 3])
@pytest.mark.parametrize("pool_size", [2, 3])
def test_one_that_is_too_old_waits_for_its_successor_where_there_is_room_for_one(
    pool_size: int, quota: int, minimum: int
) -> None:
    harness = Harness(
        pool_size=pool_size,
        min_pool_size=minimum,
        max_server_connections=quota,
        server_lifetime=100.0,
    )
    old = opened(harness, 2)
    harness.opening.clear()
    harness.engine.advance(101)
    harness.part.maintain(harness.engine.now)
    # As many stay as have to, unless one has to go before another can be opened.
    most = min(pool_size, quota or pool_size)
    expected = 2 - minimum
    if minimum == pool_size:
        expected = 2
    elif minimum == most:
        expected = 1
    assert sum(server.link.closed for server in old) == expected


@pytest.mark.parametrize("how", ["age", "command"])
def test_what_ends_by_age_is_counted_and_what_ends_by_command_is_not(how: str) -> None:
    harness = Harness(pool_size=3, server_lifetime=100.0)
    [busy, idle] = opened(harness, 2)
    if how == "age":
        harness.engine.advance(101)
    else:
        busy.connection.expires_at = idle.connection.expires_at = -math.inf
    harness.part.maintain(harness.engine.now)
    assert busy.link.closed
    assert idle.link.closed
    counted = harness.engine.figures.timeouts.count("server_lifetime")
    assert counted == (2 if how == "age" else 0)


@pytest.mark.parametrize("age", [0, 101])
def test_for_connections_that_end_by_command_no_successors_are_opened_ahead(age: int) -> None:
    """Those that are too old by themselves are replaced as far as min_pool_size asks for it."""
    harness = Harness(pool_size=9, min_pool_size=3, server_lifetime=100.0)
    clients = [wait(harness) for _ in range(3)]
    servers = [harness.accept() for _ in clients]
    harness.engine.advance(age)
    harness.opening.clear()
    for server in servers[:2]:
        server.connection.expires_at = -math.inf
    harness.part.maintain(harness.engine.now)
    assert len(harness.opening) == (1 if age else 0)


def test_the_most_recently_used_connection_is_taken_first() -> None:
    harness = Harness(server_round_robin=False)
    first, second = opened(harness, 2)
    assert harness.part.take() is second.connection
    assert harness.part.take() is first.connection


def test_with_round_robin_the_longest_unused_is_taken_first() -> None:
    harness = Harness(server_round_robin=True)
    first, second = opened(harness, 2)
    assert harness.part.take() is first.connection
    assert harness.part.take() is second.connection


def test_a_smaller_pool_closes_what_is_too_much() -> None:
    harness = Harness(pool_size=2)
    clients = [wait(harness) for _ in range(2)]
    servers = [harness.accept() for _ in range(2)]
    assert harness.pool is not None
    smaller = harness.new_pool(pool_size=1).settings
    harness.pool.reconfigure(smaller)
    for client in clients:
        assert client.server is not None
        harness.part.release(client.server)
    assert [server.link.closed for server in servers] == [True, False]


# --- retirement


def test_a_retired_pool_closes_what_is_idle_and_sends_away_who_waits() -> None:
    harness = Harness(pool_size=2)
    [busy] = opened(harness)
    assert harness.part.take() is busy.connection
    client = wait(harness)
    harness.part.retire()
    assert client.was_retired
    assert not busy.link.closed
    harness.part.release(busy.connection)
    assert busy.link.closed
    late = harness.accept()
    assert late.link.closed
    assert harness.part.size == 0


def test_a_connection_that_nobody_holds_is_closed_at_retirement() -> None:
    harness = Harness()
    [idle] = opened(harness)
    harness.part.retire()
    assert idle.link.closed
