"""How far replicas are behind, and which of them get no reads for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.values import ReplicaFallback
from router.errors import ServerUnavailable
from router.pool.contracts import Waiter
from router.pool.facts import Facts
from router.pool.lag import Lag, Positions
from router.pool.server import ServerConnection
from router.routing.types import Role
from tests.support.harness import Harness

from .builders import Client
from .test_health import REFUSED, SILENT, Shard


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


# --- reads that no primary may have


def strict(replicas: int = 2, **settings: object) -> Shard:
    """Replicas that may lag by 40 bytes, and a primary that gets no reads."""
    servers = ((True, *[False] * replicas),)
    limits = {"max_replica_lag_bytes": 40, "replica_fallback": ReplicaFallback.ERROR}
    return Shard(Harness(servers=servers, options=None, **limits, **settings))


def lag(servers: Shard, *positions: int) -> None:
    """The primary has told that it is at 100, and the replicas where they are."""
    tell(servers, 0, Facts(is_standby=False, timeline=1, position=100, age=None))
    for index, position in enumerate(positions, 1):
        tell(servers, index, standby(position))


def ask(servers: Shard) -> Client:
    """A client that wants to read, and may have to wait for that."""
    client = Client()
    outcome = servers.pool.checkout(client, 0, Role.REPLICA, is_read=True)
    if isinstance(outcome, ServerConnection):
        client.take_server(outcome)
    return client


def accept(servers: Shard) -> None:
    """All connections that are wanted are there."""
    while servers.harness.opening:
        servers.harness.accept()


def place(client: Client) -> int | None:
    """Of which server a client has a connection."""
    return client.server.pool.address.index if client.server is not None else None


@pytest.mark.parametrize("caught_up", [1, 2])
def test_when_all_lag_reads_wait_for_one_that_has_caught_up(caught_up: int) -> None:
    servers = strict()
    lag(servers, 10, 10)
    clients = [ask(servers) for _ in range(2)]
    assert [place(client) for client in clients] == [None] * 2
    assert servers.pool.waiting == 2
    servers.harness.engine.advance(0.5)
    tell(servers, caught_up, standby(70))
    assert servers.pool.waiting == 2, "it is no further than at the limit"
    for health in map(servers.health, range(3)):
        health.begin_check()
    servers.pool.maintain(servers.harness.engine.now)
    assert all(servers.health(index).wanted.is_set() for index in range(3))
    tell(servers, caught_up, standby(90))
    accept(servers)
    assert [place(client) for client in clients] == [caught_up] * 2


def test_they_fail_when_they_have_waited_for_long_enough_and_are_told_why() -> None:
    servers = strict(connect_timeout=2.0)
    lag(servers, 10, 20)
    client = ask(servers)
    servers.harness.engine.advance(1.9)
    assert client.error is None
    servers.harness.engine.advance(0.2)
    assert isinstance(client.error, ServerUnavailable)
    assert client.error.sqlstate == "57P03"
    assert "each replica of shard 0 is too far behind its primary: " in client.error.message
    assert "90 bytes" in client.error.message
    assert "80 bytes" in client.error.message
    assert "max_replica_lag" in client.error.hint


def test_who_waits_for_a_replica_that_begins_to_lag_does_not_get_it() -> None:
    servers = strict(1, pool_size=1)
    lag(servers, 100)
    first, second = ask(servers), ask(servers)
    assert place(first) == 1
    lag(servers, 10)
    assert first.server is not None
    servers.parts[1].release(first.server)
    assert place(second) is None
    lag(servers, 100)
    assert place(second) == 1


def test_who_waits_for_one_that_is_down_does_not_get_one_that_lags() -> None:
    servers = strict()
    servers.check(1, REFUSED)
    lag(servers, 100)
    servers.check(1, REFUSED)
    for server in list(servers.parts[1].idle):
        server.close()
    tell(servers, 2, standby(10))
    client = ask(servers)
    assert place(client) is None
    servers.harness.engine.advance(0.5)
    assert place(client) is None
    tell(servers, 2, standby(100))
    assert place(client) == 2


@pytest.mark.parametrize("error", [REFUSED, SILENT])
def test_without_a_primary_there_is_nothing_to_catch_up_with(error: ServerUnavailable) -> None:
    servers = strict()
    lag(servers, 10, 10)
    client = ask(servers)
    servers.check(0, error)
    second = ask(servers)
    accept(servers)
    assert {place(client), place(second)} <= {1, 2}


def test_who_insists_on_a_replica_gets_what_there_is_and_waits_for_that() -> None:
    servers = strict(1, pool_size=1)
    lag(servers, 10)
    clients = []
    for _ in range(2):
        clients.append(Client())
        outcome = servers.pool.checkout(clients[-1], 0, Role.REPLICA)
        if isinstance(outcome, Waiter):
            assert outcome.pool is servers.parts[1]
        else:
            clients[-1].take_server(outcome)
    lag(servers, 5)
    assert clients[0].server is not None
    servers.parts[1].release(clients[0].server)
    assert place(clients[1]) == 1


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


# Where the primary is, and what a lag is measured by: at the limit nobody is left out.
LIMITS: dict[str, object] = {"max_replica_lag": 8.0, "max_replica_lag_bytes": 40}


def primary_at(position: int) -> Facts:
    """What a primary tells."""
    return Facts(is_standby=False, timeline=1, position=position, age=None)


@pytest.mark.parametrize("servers", [(True, False, False), (False, True, False)])
@given(
    told=st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 90), st.floats(0, 12), st.booleans()),
        max_size=12,
    )
)
def test_whatever_they_tell_who_is_left_out_is_who_is_too_far_behind(
    servers: tuple[bool, bool, bool], told: list[tuple[int, int, float, bool]]
) -> None:
    """One replica stays where the primary is; the primary may come after it in the file."""
    shard = Shard(Harness(servers=(servers,), options=None, **LIMITS))
    first = servers.index(True)
    last, second = (index for index, is_primary in enumerate(servers) if not is_primary)
    reached: int | None = None
    is_out = False
    for who, position, age, is_standby in told:
        if who == 0:
            reached = position if reached is None else max(reached, position)
            tell(shard, first, primary_at(reached))
        elif not is_standby:
            is_out = False  # it was promoted, and is behind nobody
            tell(shard, last, primary_at(position))
            assert shard.health(last).lag is None
        else:
            tell(shard, last, standby(position, age))
            size = 0 if reached is None else max(reached - position, 0)
            lag = shard.health(last).lag
            assert (lag is None) is (reached is None)
            seconds = 0.0 if lag is None or not size else lag.seconds
            factor = 0.5 if is_out else 1.0
            is_out = seconds > 8.0 * factor or size > 40 * factor
        assert shard.parts[last].lags is is_out
        assert shard.asked(Role.REPLICA) == ({second} if is_out else {last, second})


def test_a_primary_that_is_a_standby_is_not_behind_itself() -> None:
    servers = Shard(Harness(servers=((True, False),), options=None, **LIMITS))
    tell(servers, 0, primary_at(100))
    tell(servers, 0, standby(10, 100.0))
    assert servers.health(0).lag is None
    assert not servers.parts[0].lags


@pytest.mark.parametrize(
    ("position", "age", "is_out"),
    [(60, 8.0, False), (59, 8.0, True), (60, 8.1, True)],
)
def test_at_the_limit_it_is_not_too_far(position: int, age: float, is_out: bool) -> None:
    servers = Shard(Harness(servers=((True, False, False),), options=None, **LIMITS))
    tell(servers, 0, primary_at(10))
    servers.harness.engine.advance(60)
    tell(servers, 0, primary_at(100))
    tell(servers, 1, standby(position, age))
    assert servers.parts[1].lags is is_out
    for part in (60 + 20, 20):  # half of it brings it back, and the half itself is enough
        servers.parts[1].lags = True
        tell(servers, 1, standby(part, 4.0))
        assert servers.parts[1].lags is (part < 80)
