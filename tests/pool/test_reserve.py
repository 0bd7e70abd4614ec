"""The reserve: connections above pool_size, for clients that have waited for long."""

from __future__ import annotations

from typing import Any

from router.pool.contracts import Waiter
from tests.support.harness import FakeClient, Harness
from tests.support.wire import kinds, query

from .builders import Client

BEGIN, COMMIT, ONE = query("BEGIN"), query("COMMIT"), query("SELECT one")


def reserve(**settings: Any) -> Harness:  # noqa: ANN401 - fields of PoolSettings
    return Harness(
        **{
            "pool_size": 1,
            "reserve_pool_size": 2,
            "reserve_pool_timeout": 3.0,
            "connect_timeout": 100.0,
            **settings,
        }
    )


def ask(harness: Harness, count: int, gap: float = 0.0) -> list[FakeClient]:
    """Clients that begin a transaction, one after the other."""
    clients = []
    for _ in range(count):
        client = harness.connect()
        client.send(BEGIN)
        harness.run()
        clients.append(client)
        harness.engine.advance(gap)
    return clients


def test_the_reserve_is_for_those_who_have_waited() -> None:
    harness = reserve()
    ask(harness, 2)
    harness.engine.advance(2.9)
    harness.run()
    assert harness.part.size == 1
    harness.engine.advance(0.1)
    harness.run()
    assert harness.part.size == 2
    assert not harness.part.waiters


def test_each_gets_one_when_it_has_waited_long_enough() -> None:
    harness = reserve()
    ask(harness, 4, gap=1.0)
    harness.run()
    sizes = [harness.part.size]
    for _ in range(5):
        harness.engine.advance(1.0)
        harness.run()
        sizes.append(harness.part.size)
    assert sizes == [2, 3, 3, 3, 3, 3]
    assert len(harness.part.waiters) == 1


def test_who_has_waited_elsewhere_before_gets_it_by_all_the_time_that_he_has_waited() -> None:
    harness = reserve()
    ask(harness, 1)
    began = harness.engine.now
    harness.engine.advance(2)
    late = Client()
    harness.part.enqueue(Waiter(late, [], harness.engine.now, began + 100))
    early = Client()
    harness.part.enqueue(Waiter(early, [], began, began + 50))
    harness.engine.advance(0.9)
    harness.run()
    assert harness.part.size == 1
    harness.engine.advance(0.1)
    harness.run()
    assert early.server is not None
    assert late.server is None


def test_the_reserve_goes_when_nobody_waits_for_it() -> None:
    harness = reserve()
    clients = ask(harness, 3)
    harness.engine.advance(3)
    harness.run()
    assert harness.part.size == 3
    for client in clients:
        assert kinds(harness.ask(client, COMMIT)) == "CZ"
    assert (harness.part.size, len(harness.part.idle)) == (1, 1)
    harness.ask(clients[0], ONE)
    assert len(harness.part.idle) == 1, "what is within pool_size stays"


def test_who_waits_gets_what_comes_back_of_the_reserve() -> None:
    harness = reserve(reserve_pool_size=1)
    clients = ask(harness, 3)
    harness.engine.advance(3)
    harness.run()
    assert len(harness.part.waiters) == 1
    harness.ask(clients[1], COMMIT)
    assert (harness.part.size, len(harness.part.waiters)) == (2, 0)
    assert len(harness.servers) == 2, "it was not opened anew"


def test_without_a_reserve_pool_size_is_all() -> None:
    harness = reserve(reserve_pool_size=0)
    ask(harness, 2)
    harness.engine.advance(50)
    harness.run()
    assert harness.part.size == 1


def test_the_reserve_keeps_to_what_pools_may_have_together() -> None:
    harness = reserve(max_server_connections=2)
    ask(harness, 4)
    harness.engine.advance(10)
    harness.run()
    assert harness.part.size == 2
