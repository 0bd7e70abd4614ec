"""Which server a client gets: shards, roles and load balancing."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from router.config.values import LoadBalancingMode
from router.errors import InvalidShard, ServerUnavailable
from router.pool import moving
from router.pool.address_pool import AddressPool
from router.pool.balancer import Candidates
from router.pool.contracts import Waiter
from router.pool.server import ServerConnection
from router.protocol.messages import error_response
from router.routing.types import Role
from tests.support.harness import Harness, base_settings

from .builders import Client

if TYPE_CHECKING:
    from router.pool.address import Address

PRIMARY_AND_REPLICAS = ((True, False, False),)


def asked(harness: Harness, shard: int | None, role: Role | None) -> Address:
    """The server that a client is given, or waits for."""
    assert harness.pool is not None
    found = harness.pool.checkout(Client(), shard, role)
    if isinstance(found, ServerConnection):
        return found.pool.address
    assert isinstance(found, Waiter)
    assert found.pool is not None
    return found.pool.address


def fill(harness: Harness) -> None:
    """Give each server an idle connection."""
    assert harness.pool is not None
    for part in harness.pool.address_pools():
        part.open_spare()
    while harness.opening:
        harness.accept()


# --- shards and roles


@pytest.mark.parametrize("shard", [0, 1])
def test_a_client_gets_the_shard_that_it_needs(shard: int) -> None:
    harness = Harness(servers=((True,), (True,)))
    assert asked(harness, shard, None).shard == shard


@pytest.mark.parametrize("shard", [-1, 2])
def test_a_shard_that_is_not_configured_is_an_error(shard: int) -> None:
    harness = Harness(servers=((True,), (True,)))
    with pytest.raises(InvalidShard):
        asked(harness, shard, None)


def test_any_shard_is_each_of_them_in_its_turn() -> None:
    harness = Harness(servers=((True,), (True,), (True,)), pool_size=100)
    assert {asked(harness, None, None).shard for _ in range(60)} == {0, 1, 2}


# --- random_healthy


def healthy() -> Harness:
    """Three shards whose statements go to the healthiest."""
    routing = replace(base_settings().routing, default_shard="random_healthy")
    servers = ((True,), (True,), (True,))
    return Harness(servers=servers, pool_size=100, routing=routing)


def fail(harness: Harness, shard: int) -> None:
    """A server of a shard cannot be connected to."""
    assert harness.pool is not None
    harness.pool.shards[shard][0].open_another()
    harness.refuse(ServerUnavailable("connection refused"))


def shards_asked(harness: Harness, count: int = 40) -> set[int]:
    """The shards that clients get whose statements name none."""
    return {asked(harness, None, None).shard for _ in range(count)}


def test_shards_that_have_failed_least_come_first() -> None:
    harness = healthy()
    assert shards_asked(harness) == {0, 1, 2}
    harness.opening.clear()
    fail(harness, 0)
    assert shards_asked(harness) == {1, 2}
    harness.opening.clear()
    fail(harness, 1)
    assert shards_asked(harness) == {2}
    harness.opening.clear()
    fail(harness, 2)
    fail(harness, 2)
    assert shards_asked(harness) == {0, 1}


def test_a_shard_that_answers_again_counts_like_any_other() -> None:
    harness = healthy()
    fail(harness, 0)
    assert harness.pool is not None
    harness.pool.shards[0][0].open_another()
    harness.accept()
    assert shards_asked(harness) == {0, 1, 2}


def test_a_failure_is_forgotten_after_a_minute() -> None:
    harness = healthy()
    fail(harness, 0)
    harness.engine.advance(59)
    assert shards_asked(harness, 5) <= {1, 2}
    harness.engine.advance(1)
    assert 0 in shards_asked(harness)


def test_whose_shard_fails_meanwhile_gets_another() -> None:
    harness = healthy()
    assert harness.pool is not None
    client = Client()
    waiter = harness.pool.checkout(client, None, None)
    assert isinstance(waiter, Waiter)
    assert waiter.pool is not None
    first = waiter.pool.address.shard
    harness.refuse(ServerUnavailable("connection refused"))
    assert waiter.pool is not None
    assert waiter.pool.address.shard != first
    harness.accept()
    assert client.server is not None


def test_with_random_failures_do_not_matter() -> None:
    routing = replace(base_settings().routing, default_shard="random")
    harness = Harness(servers=((True,), (True,)), pool_size=100, routing=routing)
    fail(harness, 0)
    assert shards_asked(harness) == {0, 1}


@pytest.mark.parametrize(("role", "is_primary"), [(Role.PRIMARY, True), (Role.REPLICA, False)])
def test_a_client_gets_the_role_that_it_needs(role: Role, is_primary: bool) -> None:
    harness = Harness(servers=PRIMARY_AND_REPLICAS, pool_size=100)
    found = {asked(harness, 0, role) for _ in range(30)}
    assert {address.is_primary for address in found} == {is_primary}
    assert len(found) == (1 if is_primary else 2)


def test_any_role_is_each_of_them() -> None:
    harness = Harness(servers=PRIMARY_AND_REPLICAS, pool_size=100)
    assert len({asked(harness, 0, None) for _ in range(60)}) == 3


def test_a_role_that_no_server_has_is_an_error() -> None:
    harness = Harness(servers=((True,),))
    with pytest.raises(ServerUnavailable, match="no replica of shard 0 is configured"):
        asked(harness, 0, Role.REPLICA)


# --- load balancing


def test_the_server_with_the_fewest_at_work_comes_first() -> None:
    mode = LoadBalancingMode.LEAST_OUTSTANDING_CONNECTIONS
    harness = Harness(servers=((False,) * 3,), pool_size=9, load_balancing_mode=mode)
    found = []
    for _ in range(9):
        found.append(asked(harness, 0, None))
        while harness.opening:
            harness.accept()
    assert sorted(map(found.count, set(found))) == [3, 3, 3]


def picks(*parts: AddressPool, least_busy: bool = False) -> set[AddressPool]:
    """Those that are picked of some."""
    candidates = Candidates(parts, least_busy=least_busy)
    return {candidates.pick() for _ in range(60)}


def test_whoever_can_serve_without_a_wait_is_chosen() -> None:
    harness = Harness(servers=((False, False),), pool_size=1)
    assert harness.pool is not None
    one, other = harness.pool.address_pools()
    fill(harness)
    assert one.take() is not None
    assert picks(one, other) == {other}
    assert picks(one, other, least_busy=True) == {other}


def test_when_all_are_busy_the_shortest_queue_is_chosen() -> None:
    harness = Harness(servers=((False, False),), pool_size=1)
    assert harness.pool is not None
    one, other = harness.pool.address_pools()
    fill(harness)
    for part in (one, other):
        assert part.take() is not None
    now = harness.engine.now
    one.enqueue(Waiter(Client(), [], now, now + 5))
    assert picks(one, other) == {other}


def test_each_gets_its_share() -> None:
    harness = Harness(servers=((False, False, False),))
    assert harness.pool is not None
    parts = harness.pool.address_pools()
    candidates = Candidates(parts)
    counts = Counter(candidates.pick() for _ in range(3000))
    assert all(900 < counts[part] < 1100 for part in parts)


def weighted(*weights: int) -> list[AddressPool]:
    """Servers of such weights."""
    harness = Harness(servers=((False,) * len(weights),), pool_size=1000)
    assert harness.pool is not None
    parts = harness.pool.address_pools()
    return [
        AddressPool(
            harness.engine,
            replace(part.address, weight=weight),
            part.settings,
            part.secret,
            harness,
        )
        for part, weight in zip(parts, weights, strict=True)
    ]


def test_who_weighs_more_gets_more() -> None:
    parts = weighted(1, 3, 2)
    candidates = Candidates(parts)
    counts = Counter(candidates.pick() for _ in range(6000))
    for part in parts:
        share = 1000 * part.address.weight
        assert 0.9 * share < counts[part] < 1.1 * share


def test_who_weighs_more_may_be_busier() -> None:
    parts = weighted(1, 3)
    candidates = Candidates(parts, least_busy=True)
    now = parts[0].health.since
    for _ in range(40):
        candidates.pick().enqueue(Waiter(Client(), [], now, now + 5))
    assert [len(part.waiters) for part in parts] == [10, 30]


def test_who_weighs_nothing_stands_in_for_others() -> None:
    reserve, *others = weighted(0, 1, 1)
    candidates = Candidates([reserve, *others])
    assert {candidates.pick() for _ in range(60)} == set(others)
    assert reserve in candidates.all
    assert Candidates([reserve]).pick() is reserve


# --- what servers report


def test_clients_are_told_what_the_primary_reports() -> None:
    harness = Harness(servers=PRIMARY_AND_REPLICAS)
    assert harness.pool is not None
    harness.pool.readiness.parameters = {}
    fill(harness)
    primary = harness.pool.address_pools()[0].idle[0]
    assert harness.pool.parameters is primary.baseline


async def test_who_logs_in_waits_for_the_first_server() -> None:
    harness = Harness()
    assert harness.pool is not None
    harness.pool.readiness.parameters = {}
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(harness.pool.wait_ready)
            await trio.testing.wait_all_tasks_blocked()
            harness.accept()
    assert harness.pool.parameters["TimeZone"] == "UTC"


async def test_who_logs_in_is_told_why_there_is_no_server() -> None:
    harness = Harness()
    pool = harness.pool
    assert pool is not None
    pool.readiness.parameters = {}

    async def log_in() -> None:
        with pytest.raises(ServerUnavailable, match=r"Pool down.*connection refused"):
            await pool.wait_ready()

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_in)
            await trio.testing.wait_all_tasks_blocked()
            harness.refuse(ServerUnavailable("connection refused"))


# --- the schema


def test_statements_are_prepared_anew_when_the_schema_changes() -> None:
    harness = Harness()
    assert harness.pool is not None
    before = harness.pool.statement(b"SELECT x\0\0\0", "")
    assert harness.pool.statement(b"SELECT x\0\0\0", "") is before
    fill(harness)
    server = harness.part.take()
    assert server is not None
    server.on_error(
        b"0A000", error_response("cached plan must not change result type", "0A000")
    )
    harness.part.release(server)
    assert harness.pool.statement(b"SELECT x\0\0\0", "").name != before.name


def test_a_read_that_leaves_the_primary_does_not_come_back_while_a_replica_is_well() -> None:
    harness = Harness(servers=((True, False),), pool_size=1)
    assert harness.pool is not None
    primary, replica = harness.pool.address_pools()
    now = harness.engine.now
    waiter = Waiter(Client(), [replica], now, now + 5)
    waiter.fallback = primary
    primary.enqueue(waiter)
    moving.send_on(primary, waiter, replica, now)
    assert waiter.pool is replica
    assert moving.following(replica, waiter) is None
