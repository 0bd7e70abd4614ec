"""Which server is picked, whatever the servers are doing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.pool.address_pool import AddressPool
from router.pool.balancer import Candidates, Routes
from router.pool.contracts import Waiter
from tests.support.harness import Harness

from .builders import Client

_POOL_SIZE = 3


@dataclass(frozen=True)
class Load:
    """What a server has to do: clients at work and waiting, idle connections, its weight."""

    active: int
    idle: int
    waiting: int
    weight: int


LOADS = st.builds(
    Load,
    active=st.integers(0, _POOL_SIZE),
    idle=st.integers(0, 2),
    waiting=st.integers(0, 3),
    weight=st.integers(0, 4),
)


def _part(harness: Harness, number: int, load: Load) -> AddressPool:
    base = harness.part
    part = AddressPool(
        harness.engine,
        replace(base.address, host=f"h{number}", weight=load.weight),
        replace(base.settings, pool_size=_POOL_SIZE),
        base.secret,
        harness,
    )
    idle = min(load.idle, _POOL_SIZE - load.active)
    for _ in range(load.active + idle):
        part.open_another()
        harness.accept()
    for _ in range(load.active):
        assert part.take() is not None
    now = harness.engine.now
    # Nobody waits where a connection is idle, or may be opened.
    if load.active == _POOL_SIZE:
        for _ in range(load.waiting):
            part.enqueue(Waiter(Client(), [], now, now + 5))
    assert (len(part.active), len(part.idle)) == (load.active, idle)
    return part


def _parts(loads: list[Load]) -> list[AddressPool]:
    harness = Harness(pool_size=_POOL_SIZE)
    return [_part(harness, number, load) for number, load in enumerate(loads)]


@given(loads=st.lists(LOADS, min_size=1, max_size=5))
def test_at_random_nobody_waits_while_another_server_is_free(loads: list[Load]) -> None:
    parts = _parts(loads)
    eligible = [part for part in parts if part.address.weight] or parts
    free = [part for part in eligible if part.serves_at_once]
    shortest = min(len(part.waiters) for part in eligible)
    candidates = Candidates(parts)
    picked = {candidates.pick() for _ in range(300)}
    if free:
        # Each that could serve is picked sometimes.
        assert picked == set(free)
    else:
        assert all(part in eligible and len(part.waiters) == shortest for part in picked)


@given(loads=st.lists(LOADS, min_size=1, max_size=5))
def test_least_outstanding_is_the_one_with_the_least_for_its_weight(loads: list[Load]) -> None:
    parts = _parts(loads)
    eligible = [part for part in parts if part.address.weight] or parts
    free = [part for part in eligible if part.serves_at_once]
    candidates = Candidates(parts, least_busy=True)

    def load(part: AddressPool) -> float:
        return (part.load + 1) / max(part.address.weight, 1)

    for _ in range(20):
        chosen = candidates.pick()
        assert chosen in eligible
        if free:
            assert load(chosen) == min(map(load, free))
        else:
            assert len(chosen.waiters) == min(len(part.waiters) for part in eligible)


@given(weights=st.lists(st.integers(0, 20), min_size=1, max_size=6))
def test_shares_are_those_of_the_weights(weights: list[int]) -> None:
    parts = _parts([Load(0, 0, 0, weight) for weight in weights])
    count = 4000
    candidates = Candidates(parts)
    picked = Counter(candidates.pick() for _ in range(count))
    total = sum(weights)
    for part, weight in zip(parts, weights, strict=True):
        share = weight / total if total else 1 / len(parts)
        # Six standard deviations: by chance it happens to one in a hundred million.
        slack = 6 * (count * share * (1 - share)) ** 0.5
        assert abs(picked[part] - count * share) <= slack


@pytest.mark.parametrize("is_read", [False, True])
def test_what_was_found_out_about_routes_is_forgotten_as_a_whole(is_read: bool) -> None:
    routes, found = Routes(), Candidates([])
    routes.put(1, None, is_read, found)
    assert routes.get(1, None, is_read) is found
    assert routes.get(1, None, not is_read) is None
    assert (routes.last, routes.shard, routes.is_read) == (found, 1, is_read)
    routes.forget()
    assert routes.last is None
    assert routes.get(1, None, is_read) is None
