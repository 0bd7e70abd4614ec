"""How far replicas are behind, and which of them get no reads for it."""

from __future__ import annotations

import pytest

from router.pool.facts import Facts
from router.pool.lag import Lag, Positions
from router.routing.types import Role
from tests.support.harness import Harness

from .test_health import Shard


def standby(position: int, age: float | None = None) -> Facts:
    """What a standby tells."""
    return Facts(is_standby=True, timeline=0, position=position, age=age)


def positions(*reached: tuple[float, int]) -> Positions:
    """Where a primary was when."""
    found = Positions()
    for when, position in reached:
        found.note(when, position)
    return found


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (standby(300), Lag(0, 0.0)),
        (standby(301, 1000.0), Lag(0, 0.0)),
        (standby(299), Lag(1, 10.0)),
        (standby(200), Lag(100, 10.0)),
        (standby(199), Lag(101, 20.0)),
        (standby(199, 15.0), Lag(101, 15.0)),
        (standby(199, 25.0), Lag(101, 20.0)),
        (standby(50), Lag(250, 20.0)),
        (standby(50, 500.0), Lag(250, 500.0)),
    ],
)
def test_a_replica_is_behind_since_the_primary_was_where_it_is(
    facts: Facts, expected: Lag
) -> None:
    reached = positions((100.0, 100), (110.0, 200), (115.0, 300))
    assert reached.behind(120.0, facts) == expected


def test_of_a_primary_that_has_told_nothing_nobody_knows() -> None:
    assert positions().behind(120.0, standby(1)) is None


def test_a_primary_that_has_begun_anew_is_not_compared_with_what_it_was() -> None:
    assert positions((100.0, 900), (110.0, 200)).behind(120.0, standby(200)) == Lag(0, 0.0)


def tell(servers: Shard, index: int, facts: Facts) -> None:
    """A server has been asked."""
    servers.health(index).begin_check()
    servers.health(index).answered(facts, 0.001)


@pytest.mark.parametrize(
    "limits", [{"max_replica_lag": 8.0}, {"max_replica_lag_bytes": 40}], ids=["time", "bytes"]
)
def test_a_replica_that_is_too_far_behind_gets_no_reads_until_it_has_caught_up(
    limits: dict[str, object],
) -> None:
    servers = Shard(Harness(servers=((True, False, False),), options=None, **limits))
    primary = Facts(is_standby=False, timeline=1, position=100, age=None)
    tell(servers, 0, primary)
    servers.harness.engine.advance(6)
    tell(servers, 0, Facts(is_standby=False, timeline=1, position=150, age=None))
    servers.harness.engine.advance(6)
    tell(servers, 1, standby(120, 7.0))
    assert servers.asked(Role.REPLICA) == {1, 2}
    tell(servers, 1, standby(105, 9.0))
    assert servers.health(1).lag == Lag(45, 9.0)
    assert servers.asked(Role.REPLICA) == {2}
    tell(servers, 1, standby(120, 7.0))
    assert servers.asked(Role.REPLICA) == {2}, "it is no further than at the limit"
    tell(servers, 1, standby(140, 3.0))
    assert servers.asked(Role.REPLICA) == {1, 2}


def test_when_all_lag_reads_go_to_the_primary() -> None:
    servers = Shard(Harness(servers=((True, False),), max_replica_lag_bytes=40))
    tell(servers, 0, Facts(is_standby=False, timeline=1, position=100, age=None))
    tell(servers, 1, standby(10))
    assert servers.asked(Role.REPLICA, is_read=True) == {0}
    assert servers.asked(Role.REPLICA) == {1}, "who insists gets what there is"


def test_without_a_limit_lag_is_only_told() -> None:
    servers = Shard(Harness(servers=((True, False, False),)))
    tell(servers, 0, Facts(is_standby=False, timeline=1, position=10**9, age=None))
    tell(servers, 1, standby(10, 1e6))
    assert servers.health(1).lag is not None
    assert servers.asked(Role.REPLICA) == {1, 2}


def test_checks_are_so_often_that_a_lag_is_found_in_time() -> None:
    servers = Shard(Harness(healthcheck_delay=30.0, max_replica_lag=4.0))
    servers.check(0)
    assert servers.health(0).pause() == 2.0


def test_a_primary_that_is_behind_where_it_was_has_another_history() -> None:
    positions = Positions()
    positions.note(1.0, 100)
    positions.note(2.0, 50)
    standby = Facts(is_standby=True, timeline=0, position=40, age=None)
    assert positions.behind(3.0, standby) == Lag(10, 1.0)
