"""Connections of one user to one server: states, queue, opening, cleaning, upkeep."""

from __future__ import annotations

import pytest

from router.errors import PoolTimeout, ServerRefused, ServerUnavailable
from router.pool.contracts import Waiter
from router.pool.states import ServerState
from tests.support.harness import FakeServer, Harness

from .builders import Client, opened, wait

# --- states


LEGAL = {
    ("login", "active"),
    ("login", "closed"),
    ("idle", "active"),
    ("idle", "tested"),
    ("idle", "closed"),
    ("active", "idle"),
    ("active", "tested"),
    ("active", "closed"),
    ("tested", "idle"),
    ("tested", "active"),
    ("tested", "closed"),
}
PATHS = {
    ServerState.LOGIN: (),
    ServerState.CLOSED: (ServerState.ACTIVE, ServerState.CLOSED),
    ServerState.IDLE: (ServerState.ACTIVE, ServerState.IDLE),
    ServerState.ACTIVE: (ServerState.ACTIVE,),
    ServerState.TESTED: (ServerState.ACTIVE, ServerState.TESTED),
}


@pytest.mark.parametrize("to", ServerState)
@pytest.mark.parametrize("was", ServerState)
def test_a_connection_is_in_the_collection_of_its_state_or_the_move_is_illegal(
    was: ServerState, to: ServerState
) -> None:
    harness = Harness()
    part = harness.part
    server = FakeServer(part, 1, 0.0).connection
    for state in PATHS[was]:
        part.move(server, state)
    if (was.value, to.value) not in LEGAL:
        with pytest.raises(AssertionError, match="illegal move"):
            part.move(server, to)
        to = was
    else:
        part.move(server, to)
    assert server.state is to
    sets = {
        ServerState.IDLE: part.idle,
        ServerState.ACTIVE: part.active,
        ServerState.TESTED: part.tested,
    }
    assert [state for state, found in sets.items() if server in found] == [
        state for state in sets if state is to
    ]


def test_a_pool_shows_its_numbers() -> None:
    harness = Harness()
    opened(harness)
    wait(harness)
    assert "[1 idle, 0 active, 0 tested, 1 connecting, 1 waiting]" in repr(harness.part)


# --- the queue


def test_the_first_to_wait_is_the_first_to_be_served() -> None:
    harness = Harness(pool_size=1)
    one, two = wait(harness), wait(harness)
    harness.accept()
    assert (one.server is None, two.server is None) == (False, True)
    assert one.server is not None
    harness.part.release(one.server)
    assert two.server is one.server


def test_nobody_overtakes_those_who_wait() -> None:
    harness = Harness(pool_size=2)
    opened(harness)
    client = wait(harness)
    assert harness.part.take() is None
    harness.accept()
    assert client.server is not None
    assert harness.part.take() is not None


def test_a_connection_that_a_client_refuses_goes_to_the_next() -> None:
    harness = Harness(pool_size=1)
    one, two = wait(harness), wait(harness)
    one.gone = True
    harness.accept()
    assert one.server is None
    assert two.server is not None
    assert len(harness.part.active) == 1


def test_a_connection_that_all_refuse_becomes_idle() -> None:
    harness = Harness(pool_size=1)
    one, two = wait(harness), wait(harness)
    one.gone = two.gone = True
    harness.accept()
    assert len(harness.part.idle) == 1
    assert not harness.part.waiters


def test_who_leaves_the_queue_is_forgotten() -> None:
    harness = Harness(pool_size=1)
    client = Client()
    waiter = Waiter(client, [], harness.engine.now, harness.engine.now + 5)
    harness.part.enqueue(waiter)
    waiter.cancel()
    waiter.cancel()
    harness.engine.advance(10)
    assert client.error is None
    assert not harness.part.waiters


def test_each_waits_for_its_own_time() -> None:
    harness = Harness(pool_size=1)
    opened(harness)
    assert harness.part.take() is not None
    one = wait(harness)
    harness.engine.advance(3)
    two = wait(harness)
    harness.engine.advance(2)
    assert isinstance(one.error, PoolTimeout)
    assert "waited 5.0 s for one of 1 connections" in one.error.message
    assert two.error is None
    harness.engine.advance(3)
    assert isinstance(two.error, PoolTimeout)


# --- opening


def test_no_more_is_opened_than_is_waited_for_or_allowed() -> None:
    harness = Harness(pool_size=3)
    wait(harness)
    assert len(harness.opening) == 1
    wait(harness)
    assert len(harness.opening) == 2
    for _ in range(3):
        wait(harness)
    assert len(harness.opening) == harness.part.size == 3


def test_a_connection_that_is_released_serves_while_another_is_being_opened() -> None:
    harness = Harness(pool_size=2)
    one = wait(harness)
    harness.accept()
    two = wait(harness)
    assert one.server is not None
    harness.part.release(one.server)
    assert two.server is one.server
    harness.accept()
    assert len(harness.part.idle) == 1


def test_a_refused_login_is_told_to_those_who_wait() -> None:
    harness = Harness()
    client = wait(harness)
    harness.refuse(ServerRefused("no such role", sqlstate="28000"))
    assert client.error is not None
    assert client.error.sqlstate == "28000"


@pytest.mark.parametrize("sqlstate", ["57P03", "53300"])
def test_a_refusal_that_passes_is_waited_out(sqlstate: str) -> None:
    harness = Harness()
    client = wait(harness)
    harness.refuse(ServerRefused("starting up", sqlstate=sqlstate))
    assert client.error is None
    harness.engine.advance(0.1)
    harness.accept()
    assert client.server is not None


def test_a_server_that_cannot_be_reached_is_tried_less_and_less_often() -> None:
    harness = Harness()
    client = wait(harness, timeout=60.0)
    for pause in (0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        harness.refuse(ServerUnavailable("connection refused"))
        harness.engine.advance(pause * 0.9)
        assert not harness.opening
        harness.engine.advance(pause * 0.11)
        assert harness.opening
    assert client.error is None


@pytest.mark.parametrize(
    "error",
    [ServerUnavailable("connection refused"), ServerRefused("too many", sqlstate="53300")],
)
def test_after_a_failure_one_is_tried_and_then_all_that_are_wanted(
    error: ServerUnavailable | ServerRefused,
) -> None:
    harness = Harness(pool_size=4)
    clients = [wait(harness, timeout=60.0) for _ in range(4)]
    first = harness.accept()
    assert clients[0].server is first.connection
    for _ in range(3):
        harness.refuse(error)
    harness.engine.advance(1)
    assert len(harness.opening) == 1
    harness.accept()
    assert len(harness.opening) == 2
    harness.accept()
    harness.accept()
    assert all(client.server is not None for client in clients)


def test_who_waited_in_vain_for_a_server_that_is_down_is_told_the_cause() -> None:
    harness = Harness()
    client = wait(harness)
    harness.refuse(ServerUnavailable("connection refused"))
    harness.engine.advance(5)
    assert client.error is not None
    assert client.error.sqlstate == "57P03"
    assert client.error.message == (
        'could not get connection from the pool "app" of user "ann" - waited 5.0 s for '
        "primary host00:5432 of shard 0: connection refused"
    )


def test_an_error_with_others_at_work_does_not_concern_those_who_wait() -> None:
    harness = Harness(pool_size=2)
    wait(harness)
    harness.accept()
    client = wait(harness)
    harness.refuse(ServerRefused("too many", sqlstate="28000"))
    assert client.error is None
    assert list(harness.part.waiters)


def test_waiters_go_on_to_the_next_server_when_one_is_down() -> None:
    harness = Harness(servers=((False, False),))
    assert harness.pool is not None
    _, other = harness.pool.address_pools()
    client = wait(harness, other)
    harness.refuse(ServerUnavailable("connection refused"))
    assert harness.opening[-1] is other
    harness.accept()
    assert client.server is not None
    assert client.server.pool is other
