"""Servers that are down: how often they are tried, and how much is logged of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from router.config.values import PoolMode
from router.errors import PoolTimeout, RoutingError, ServerUnavailable
from router.pool.throttle import INTERVAL, Throttle
from tests.support.harness import Harness, read_messages
from tests.support.wire import message, query, sqlstates

from .builders import opened, wait

if TYPE_CHECKING:
    from router.pool.address_pool import AddressPool

DOWN = ServerUnavailable("cannot connect to primary: Connection refused")
BOTH = ((True, False),)


class Lines:
    """What is logged."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self._caplog = caplog
        caplog.set_level(logging.INFO)

    def take(self) -> list[str]:
        """The lines since the last call."""
        found = [f"{each.levelname} {each.getMessage()}" for each in self._caplog.records]
        self._caplog.clear()
        return found


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """What is logged from now on."""
    return Lines(caplog)


def fail(harness: Harness, seconds: float) -> int:
    """Let time pass in which nothing can be connected to; returns how often it was tried."""
    tried = 0
    for _ in range(round(seconds)):
        for part in parts(harness):
            part.maintain(harness.engine.now)
        while harness.opening:
            harness.refuse(DOWN)
            tried += 1
        harness.engine.advance(1)
    return tried


def parts(harness: Harness) -> list[AddressPool]:
    """All address pools."""
    assert harness.pool is not None
    return harness.pool.address_pools()


def test_an_outage_is_two_lines_for_each_server_however_long_it_is(lines: Lines) -> None:
    harness = Harness(servers=BOTH, pool_size=20, min_pool_size=10, ban_time=60.0)
    fail(harness, 3600)
    assert lines.take() == [
        f"WARNING host00:5432 is down: {DOWN.message}",
        f"WARNING host01:5432 is down: {DOWN.message}",
    ]
    harness.engine.advance(10)
    while harness.opening:
        harness.accept()
    told = lines.take()
    assert len(told) == 2
    for line, name in zip(told, ("host00", "host01"), strict=True):
        assert line.startswith(f"INFO {name}:5432 is up again, after 36")
        assert line.endswith(" failed attempts")
    assert [len(part.idle) for part in parts(harness)] == [10, 10]


def test_a_server_that_is_down_is_tried_less_and_less_for_nobody() -> None:
    harness = Harness(pool_size=20, min_pool_size=10)
    assert fail(harness, 1) == 10  # nobody could know
    assert fail(harness, 60) < 20
    assert fail(harness, 600) <= 60


def test_somebody_who_waits_does_not_wait_for_a_pause_that_was_for_nobody() -> None:
    harness = Harness(pool_size=20, min_pool_size=10)
    fail(harness, 60)
    assert not harness.opening
    clients = [wait(harness) for _ in range(3)]
    assert len(harness.opening) == 1
    harness.refuse(DOWN)
    assert not harness.opening
    harness.engine.advance(1)
    assert len(harness.opening) == 1
    harness.accept()
    while harness.opening:
        harness.accept()
    assert all(client.server is not None for client in clients)
    assert harness.part.size == 13 - 3


def test_a_failure_among_connections_that_work_holds_nobody_up_for_long() -> None:
    harness = Harness(pool_size=5)
    opened(harness, 1)
    assert harness.part.take() is not None
    first, second = wait(harness), wait(harness)
    harness.refuse(DOWN)
    assert len(harness.opening) == 1
    harness.accept()
    harness.accept()
    assert first.server is not None
    assert second.server is not None


# --- clients that get no server


def test_clients_without_a_server_are_a_line_a_second(lines: Lines) -> None:
    harness = Harness(pool_size=1, connect_timeout=0.5)
    clients = [harness.connect() for _ in range(100)]
    for client in clients:
        client.send(query("SELECT 1"))
    harness.opening.clear()
    harness.engine.advance(0.5)
    harness.run()
    for client in clients:
        assert sqlstates(read_messages(client.got)) == ["57P03"]
    [line] = lines.take()
    assert "could not get connection from the pool" in line
    harness.engine.advance(INTERVAL)
    clients[0].session._failures.note(PoolTimeout("none"))
    assert lines.take() == ["INFO client client:1: none (and 99 more like this before)"]


@pytest.mark.parametrize("busy", [0, 1])
@pytest.mark.parametrize("is_session_mode", [False, True])
def test_who_waits_for_connections_that_are_only_being_opened_is_told_of_the_server(
    busy: int, is_session_mode: bool
) -> None:
    mode = PoolMode.SESSION if is_session_mode else PoolMode.TRANSACTION
    harness = Harness(pool_size=3, connect_timeout=0.5, pool_mode=mode)
    for _ in range(busy):
        harness.ask(harness.connect(), query("BEGIN"))
    clients = [harness.connect() for _ in range(4)]
    for client in clients:
        client.send(query("SELECT 1"))
    assert len(harness.opening) == 3 - busy
    harness.engine.advance(0.5)
    for client in clients:
        client.receive()
        [error] = [each for each in read_messages(client.got) if each.kind == "E"]
        if busy:
            assert error.sqlstate == "53300"
            assert "1 idle in transaction" in error.fields["D"]
            assert "2 being opened" in error.fields["D"]
        else:
            assert error.sqlstate == "57P03"
            assert "it has not let a connection in yet" in error.fields["M"]
            assert "raising pool_size does not help" in error.fields["H"]


def test_a_clients_own_mistakes_are_all_logged(lines: Lines) -> None:
    harness = Harness()
    client = harness.connect()
    for _ in range(5):
        client.session._failures.note(RoutingError("no such shard"))
    assert len(lines.take()) == 5


def test_a_throttle_counts_what_it_holds_back() -> None:
    throttle = Throttle()
    assert throttle.admit(100.0) == ""
    assert throttle.admit(100.1) is None
    assert throttle.admit(100.0 + INTERVAL) == " (and 1 more like this before)"
    assert throttle.admit(100.0 + 3 * INTERVAL) == ""


def test_a_client_that_idles_in_a_transaction_is_dropped_with_a_line(
    lines: Lines,
) -> None:
    harness = Harness(idle_client_in_transaction_timeout=2.0)
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    harness.engine.advance(2.5)
    assert sqlstates(harness.read(client)) == ["25P03"]
    assert lines.take() == [
        "WARNING client client:1: terminating connection due to idle-in-transaction timeout; "
        "closing the connection"
    ]


@pytest.mark.parametrize(
    ("kind", "severity", "sqlstate", "ends"),
    [
        ("E", "FATAL", "57P01", True),
        ("N", "WARNING", "57P01", True),
        ("N", "WARNING", "57P02", True),
        ("N", "WARNING", "01000", False),
    ],
)
def test_a_connection_that_is_said_to_end_is_nobodys_any_more(
    kind: str, severity: str, sqlstate: str, ends: bool
) -> None:
    harness = Harness()
    [server] = opened(harness)
    health = harness.part.health
    health.begin_check()
    words = f"S{severity}\0V{severity}\0C{sqlstate}\0Mterminating connection\0\0"
    server.connection.on_data(message(kind, words.encode()))
    # Its end of file comes later than the next client.
    assert len(harness.part.idle) == (not ends)
    assert health.wanted.is_set() is ends
