"""The figures of SHOW POOLS, CLIENTS, SERVERS and STATS under traffic that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.pool.states import ServerState
from router.session.activity import error_snapshots, transaction_snapshots
from router.session.clients import Clients
from router.session.snapshots import address_snapshots, pool_snapshots, server_snapshots
from tests.support.harness import FakeClient, Harness
from tests.support.wire import SYNC, bind, execute, message, parse, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.session.session import Session
    from router.snapshots import AddressSnapshot, PoolSnapshot


def sessions(harness: Harness) -> list[Session]:
    """Of those that are still there."""
    return [each.session for each in harness.clients if not each.session.client.closed]


def pool(harness: Harness) -> PoolSnapshot:
    assert harness.pool is not None
    [row] = pool_snapshots([harness.pool], sessions(harness), harness.engine.now)
    return row


def clients_of(row: PoolSnapshot) -> tuple[int, int, int, int]:
    return row.cl_idle, row.cl_active, row.cl_waiting, row.cl_cancel_req


def servers_of(row: PoolSnapshot) -> tuple[int, int, int, int]:
    return row.sv_active, row.sv_idle, row.sv_tested, row.sv_login


def crowd() -> tuple[Harness, list[FakeClient], list[FakeClient], list[FakeClient]]:
    """20 clients that are idle, 5 that are served, one of these cancelling, 3 that wait."""
    harness = Harness(pool_size=5, query_wait_timeout=1e6)
    idle = [harness.connect() for _ in range(20)]
    for client in idle:
        harness.ask(client, query("SELECT 1"))
    active = [harness.connect() for _ in range(5)]
    for client in active:
        client.send(query("SLEEP"))
    while harness.opening:
        harness.accept()
    for server in harness.live_servers():
        server.work()
    harness.engine.advance(1.0)
    waiting = [harness.connect() for _ in range(3)]
    waiting[0].send(query("SELECT 1"))
    harness.engine.advance(1.5)
    for client in waiting[1:]:
        client.send(query("SELECT 1"))
    harness.engine.advance(0.25)
    active[0].session.cancel()
    return harness, idle, active, waiting


def test_a_pool_shows_exactly_who_does_what() -> None:
    harness, _, _, _ = crowd()
    row = pool(harness)
    assert clients_of(row) == (20, 5, 3, 1)
    assert servers_of(row) == (5, 0, 0, 0)
    assert row.maxwait_us == 1_750_000


def test_when_all_is_done_nobody_is_left_waiting() -> None:
    harness, _, _, _ = crowd()
    harness.deliver_cancel()
    for server in harness.live_servers():
        if server.model.sleeping is not None:
            server.model.wake()
    harness.run()
    row = pool(harness)
    assert clients_of(row) == (28, 0, 0, 0)
    assert servers_of(row) == (0, 5, 0, 0)
    assert row.maxwait_us == 0


WAYS: dict[str, Callable[[FakeClient], None]] = {
    "breaks": FakeClient.leave,
    "says goodbye": lambda client: client.send(message("X")),
    "is expelled": lambda client: client.session.expel(),
    "sends nonsense": lambda client: client.send(message("?")),
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_lingers_of_clients_that_leave_in_any_way(way: str) -> None:
    harness, idle, active, waiting = crowd()
    for client in (*waiting, *active, *idle):
        WAYS[way](client)
    while harness.cancelling:
        harness.deliver_cancel()
    for server in harness.live_servers():
        if server.model.sleeping is not None:
            server.model.wake()
    harness.run()
    row = pool(harness)
    assert clients_of(row) == (0, 0, 0, 0)
    assert row.sv_active == row.sv_tested == row.maxwait_us == 0
    assert sum(servers_of(row)) == row.sv_idle == 5
    assert transaction_snapshots([c.session for c in harness.clients], harness.engine.now) == []
    assert harness.pool is not None
    found = server_snapshots([harness.pool], sessions(harness), harness.engine.now)
    assert {(each.state, each.activity, each.client_id) for each in found} == {
        (ServerState.IDLE.value, "idle", None)
    }


def test_a_client_whose_server_breaks_leaves_nothing_either() -> None:
    harness, _, _, _ = crowd()
    for server in list(harness.live_servers()):
        server.die()
    harness.run()
    row = pool(harness)
    assert row.cl_active == row.cl_cancel_req == row.sv_active == row.sv_login == 0
    assert row.cl_idle == 23


def address(harness: Harness) -> AddressSnapshot:
    assert harness.pool is not None
    [row] = address_snapshots([harness.pool])
    return row


def test_counts_and_times_of_an_address_are_exact() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    got = 0
    for _ in range(3):
        client.send(query("SLEEP"))
        harness.run()
        harness.engine.advance(0.25)
        harness.servers[0].model.wake()
        harness.run()
    got = len(client.got)
    row = address(harness)
    assert (row.query_count, row.xact_count, row.errors) == (3, 3, 0)
    assert (row.query_time, row.xact_time, row.wait_time) == (750_000, 750_000, 0)
    assert row.sent == 3 * len(query("SLEEP"))
    assert row.received == got
    harness.part.counters.close_window(15.0)
    average = address(harness).average
    assert (average.query_time, average.xact_time) == (250_000, 250_000)
    assert (average.sent, average.received) == (row.sent // 15, got // 15)
    harness.part.counters.close_window(15.0)
    assert address(harness).average.query_time == 0


def test_transactions_and_queries_are_counted_as_pgcat_counts_them() -> None:
    harness = Harness()
    client = harness.connect()
    for _ in range(3):
        harness.ask(client, query("SELECT 1"))
    for sql in ("BEGIN", "SELECT 1", "SELECT 1", "COMMIT"):
        harness.ask(client, query(sql))
    [row] = _clients(harness).snapshots(lambda: harness.engine.now)
    assert (row.transaction_count, row.query_count, row.error_count) == (4, 7, 0)
    assert (address(harness).xact_count, address(harness).query_count) == (4, 7)
    harness.ask(client, parse("SELECT 2", "s"), bind(name="s"), execute(), SYNC)
    harness.ask(client, query("FAIL"))
    [row] = _clients(harness).snapshots(lambda: harness.engine.now)
    assert (row.transaction_count, row.query_count, row.error_count) == (6, 9, 1)
    assert [
        each.count for each in error_snapshots(harness.engine.figures.faults, 0.0, 0.0)
    ] == [1]


def _clients(harness: Harness) -> Clients:
    found = Clients()
    for session in sessions(harness):
        found.add(session)
    return found


def test_the_longest_wait_of_a_client_is_that_of_the_clock() -> None:
    harness, _, _, waiting = crowd()
    for server in harness.live_servers():
        server.model.wake()
    harness.run()
    rows = {
        row.client_id: row for row in _clients(harness).snapshots(lambda: harness.engine.now)
    }
    longest = [rows[client.session.client.pid].maxwait_us for client in waiting]
    assert longest == [1_750_000, 250_000, 250_000]
    assert address(harness).wait_time == 2_250_000
