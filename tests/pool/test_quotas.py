"""What pools may have of a server together: who gets a connection, and who gives one up."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from router.errors import ServerRefused
from tests.support.harness import FakeClient, Harness, read_messages
from tests.support.wire import kinds, query, rows, sqlstates

if TYPE_CHECKING:
    from router.pool.address_pool import AddressPool
    from router.pool.pool import Pool

BEGIN, COMMIT, ONE = query("BEGIN"), query("COMMIT"), query("SELECT one")
KEYS = ("max_server_connections", "max_db_connections", "max_user_connections")


def pools(  # any fields of PoolSettings
    count: int,
    **settings: Any,  # noqa: ANN401
) -> tuple[Harness, list[Pool]]:
    """Pools on one server: of one database and several users, by default."""
    harness = Harness(**{"user": "u0", **settings})
    assert harness.pool is not None
    more = [harness.new_pool(**{"user": f"u{n}", **settings}) for n in range(1, count)]
    return harness, [harness.pool, *more]


def part_of(pool: Pool) -> AddressPool:
    return pool.address_pools()[0]


def begin(harness: Harness, pool: Pool, count: int) -> list[FakeClient]:
    """Clients that have a transaction open, each a connection."""
    clients = [harness.connect_to(pool) for _ in range(count)]
    for client in clients:
        assert kinds(harness.ask(client, BEGIN)) == "CZ"
    return clients


@pytest.mark.parametrize("key", KEYS)
def test_no_more_are_opened_than_there_may_be(key: str) -> None:
    same = {"user": "ann"} if key == "max_user_connections" else {}
    harness, (one, two) = pools(2, pool_size=5, **{key: 3}, **same)
    begin(harness, one, 3)
    waiting = harness.connect_to(two)
    assert harness.ask(waiting, ONE) == []
    assert (part_of(one).size, part_of(two).size) == (3, 0)
    assert len(part_of(two).waiters) == 1


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("max_db_connections", [{"pool": "app"}, {"pool": "other"}]),
        ("max_user_connections", [{"user": "ann"}, {"user": "bob"}]),
    ],
)
def test_what_has_nothing_in_common_is_not_limited_together(
    key: str, settings: list[dict[str, Any]]
) -> None:
    limit: dict[str, Any] = {"pool_size": 2, key: 2}
    harness = Harness(**limit, **settings[0])
    other = harness.new_pool(**limit, **settings[1])
    assert harness.pool is not None
    begin(harness, harness.pool, 2)
    begin(harness, other, 2)
    assert (harness.part.size, part_of(other).size) == (2, 2)


def test_an_idle_connection_of_another_pool_makes_room() -> None:
    harness, (one, two) = pools(2, max_server_connections=2)
    client = harness.connect_to(one)
    harness.ask(client, BEGIN)
    harness.ask(harness.connect_to(one), ONE)
    assert len(part_of(one).idle) == 1
    assert rows(harness.ask(harness.connect_to(two), ONE)) == [[b"SELECT one"]]
    assert (part_of(one).size, part_of(two).size) == (1, 1)
    [quota] = [quota for quota in harness.quotas if quota.key == "max_server_connections"]
    assert (quota.used, quota.evictions) == (2, 1)


def test_the_one_that_was_idle_for_longest_goes() -> None:
    harness, (one, two, three) = pools(3, max_server_connections=2)
    harness.ask(harness.connect_to(two), ONE)
    harness.engine.advance(1)
    harness.ask(harness.connect_to(one), ONE)
    harness.ask(harness.connect_to(three), ONE)
    assert [part_of(pool).size for pool in (one, two, three)] == [1, 0, 1]


def test_a_pool_is_spared_that_would_fall_below_its_minimum() -> None:
    harness, (one, two, three) = pools(3, max_server_connections=2)
    part_of(two).take_settings(harness.new_pool(user="u1", min_pool_size=1).settings)
    harness.ask(harness.connect_to(two), ONE)
    harness.engine.advance(1)
    harness.ask(harness.connect_to(one), ONE)
    harness.ask(harness.connect_to(three), ONE)
    assert [part_of(pool).size for pool in (one, two, three)] == [0, 1, 1]


def test_min_pool_size_takes_nothing_from_those_who_wait() -> None:
    harness, (one, two) = pools(2, max_server_connections=1, min_pool_size=1)
    [client] = begin(harness, one, 1)
    waiting = harness.connect_to(two)
    harness.ask(waiting, ONE)
    for part in (part_of(one), part_of(two)):
        part.maintain(harness.engine.now)
    assert part_of(one).size + part_of(two).size == 1
    harness.ask(client, COMMIT)
    harness.run()
    assert rows_of(waiting) == 1
    part_of(one).maintain(harness.engine.now)
    assert (part_of(one).size, part_of(two).size) == (0, 1)


def test_a_connection_that_nobody_waits_for_goes_to_the_pool_that_waits() -> None:
    harness, (one, two) = pools(2, pool_size=3, max_server_connections=2)
    clients = begin(harness, one, 2)
    waiting = harness.connect_to(two)
    assert harness.ask(waiting, ONE) == []
    harness.ask(clients[0], COMMIT)
    harness.run()
    assert rows_of(waiting) == 1
    assert (part_of(one).size, part_of(two).size) == (1, 1)


def test_a_pool_with_clients_that_wait_gives_up_what_is_more_than_its_share() -> None:
    harness, (one, two) = pools(2, pool_size=9, max_server_connections=4)
    busy = begin(harness, one, 4)
    queue = [harness.connect_to(one) for _ in range(4)]
    for client in queue:
        client.send(BEGIN)
    waiting = [harness.connect_to(two) for _ in range(4)]
    for client in waiting:
        client.send(BEGIN)
    for client in busy:
        harness.ask(client, COMMIT)
    harness.run()
    assert (part_of(one).size, part_of(two).size) == (2, 2)


def test_who_has_waited_longest_gets_the_only_connection() -> None:
    harness, (one, two, three) = pools(3, max_server_connections=1, connect_timeout=100.0)
    [busy] = begin(harness, one, 1)
    waiting = []
    for pool in (two, one, three):
        client = harness.connect_to(pool)
        client.send(BEGIN)
        waiting.append(client)
        harness.engine.advance(1)
    for previous, client in zip([busy, *waiting], waiting, strict=False):
        harness.ask(previous, COMMIT)
        client.receive()
        assert client.got.endswith(b"T"), "it was not its turn"


def test_a_client_that_never_stops_lets_others_have_their_turn() -> None:
    harness, (one, two) = pools(2, pool_size=1, max_server_connections=1)
    flooding, other = harness.connect_to(one), harness.connect_to(two)
    flooding.send(ONE * 500)
    harness.accept()
    other.send(ONE)
    harness.run()
    served = next(
        n for n, server in enumerate(harness.servers) if server.connection.pool is part_of(two)
    )
    assert served == 1
    assert kinds_of(flooding).count("Z") == 500
    assert rows_of(other) == 1


def kinds_of(client: FakeClient) -> str:
    client.receive()
    return kinds(read_messages(client.got))


def rows_of(client: FakeClient) -> int:
    return kinds_of(client).count("D")


def test_nobody_is_told_of_a_free_place_that_another_limit_denies() -> None:
    """A connection of one pool is no use to another that a third one stands in the way of."""
    harness = Harness(user="ann", pool="a", max_user_connections=1, max_server_connections=3)
    assert harness.pool is not None
    same_user = harness.new_pool(user="ann", pool="b", max_user_connections=1)
    other = harness.new_pool(user="bob", pool="c", max_server_connections=3)
    [holder] = begin(harness, harness.pool, 1)
    waiting = harness.connect_to(same_user)
    assert harness.ask(waiting, ONE) == []
    harness.ask(harness.connect_to(other), ONE)
    assert len(part_of(other).idle) == 1, "it was closed for nothing"
    harness.ask(holder, COMMIT)
    harness.run()
    assert rows_of(waiting) == 1


def test_nobody_gives_up_what_would_not_help_the_one_who_waits() -> None:
    limits: dict[str, Any] = {"max_server_connections": 2, "max_user_connections": 1}
    harness, (one, two) = pools(2, **limits)
    other = harness.new_pool(user="u1", pool="other", **limits)
    [first], [second] = begin(harness, one, 1), begin(harness, two, 1)
    waiting = harness.connect_to(other)
    assert harness.ask(waiting, ONE) == []
    assert kinds(harness.ask(first, COMMIT)) == "CZ"
    assert part_of(one).size == 1, "it is the user who may have no more"
    assert kinds(harness.ask(second, COMMIT)) == "CZ"
    assert (part_of(one).size, part_of(two).size) == (1, 0)
    assert waiting.got


def test_who_waits_in_vain_is_told_which_limit_and_who_has_the_connections() -> None:
    harness, (one, two) = pools(2, pool_size=3, max_server_connections=3, connect_timeout=5.0)
    begin(harness, one, 3)
    waiting = harness.connect_to(two)
    harness.ask(waiting, ONE)
    harness.engine.advance(5)
    [error, _] = harness.read(waiting)
    assert sqlstates([error]) == ["53300"]
    assert error.fields["S"] == "ERROR"
    assert "max_server_connections = 3" in error.fields["M"]
    assert error.fields["D"] == "In use are 3 of 3: 3 app/u0."
    [quota] = [quota for quota in harness.quotas if quota.key == "max_server_connections"]
    assert quota.refused == 1


def test_a_connection_that_cannot_be_opened_takes_no_place() -> None:
    harness, (one, two) = pools(2, max_server_connections=1)
    failing, waiting = harness.connect_to(one), harness.connect_to(two)
    failing.send(ONE)
    waiting.send(ONE)
    harness.refuse(ServerRefused("no", sqlstate="28P01"))
    harness.run()
    assert rows_of(waiting) == 1


def test_a_connection_that_breaks_is_replaced_by_that_of_a_pool_that_waits() -> None:
    harness, (one, two) = pools(2, max_server_connections=1)
    begin(harness, one, 1)
    waiting = harness.connect_to(two)
    waiting.send(ONE)
    harness.servers[0].die()
    harness.run()
    assert rows_of(waiting) == 1


def test_a_limit_that_is_raised_lets_those_go_on_who_wait() -> None:
    harness, (one, two) = pools(2, max_server_connections=1)
    begin(harness, one, 1)
    waiting = harness.connect_to(two)
    waiting.send(ONE)
    for pool, user in ((one, "u0"), (two, "u1")):
        pool.reconfigure(harness.new_pool(user=user, max_server_connections=2).settings)
    harness.run()
    assert rows_of(waiting) == 1


def test_a_pool_that_is_replaced_counts_until_its_last_connection_is_gone() -> None:
    harness, (one, two) = pools(2, max_server_connections=1)
    [client] = begin(harness, one, 1)
    harness.replace_pool(harness.new_pool(user="u0", max_server_connections=1))
    waiting = harness.connect_to(two)
    assert harness.ask(waiting, ONE) == []
    harness.ask(client, COMMIT)
    harness.run()
    assert rows_of(waiting) == 1
    one.leave()
    [quota] = [quota for quota in harness.quotas if quota.key == "max_server_connections"]
    assert part_of(one) not in quota.parts
    assert quota.used == 1


def test_a_client_that_stops_waiting_leaves_no_want_behind() -> None:
    harness, (one, two) = pools(2, max_server_connections=1)
    [client] = begin(harness, one, 1)
    waiting = harness.connect_to(two)
    waiting.send(ONE)
    waiting.leave()
    harness.ask(client, COMMIT)
    assert len(part_of(one).idle) == 1
    assert not part_of(one).is_pressed


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_counts_stay_right_and_all_are_served(seed: int) -> None:
    chance = random.Random(seed)
    harness, some = pools(4, pool_size=4, max_server_connections=5, connect_timeout=1e6)
    clients = [harness.connect_to(pool) for pool in some for _ in range(6)]
    open_ones: set[FakeClient] = set()
    for _ in range(300):
        client = chance.choice(clients)
        if client in open_ones:
            client.send(COMMIT)
            open_ones.discard(client)
        elif client.session.lease.waiter is None and client.session.lease.server is None:
            client.send(BEGIN if chance.random() < 0.5 else ONE)
        harness.engine.advance(0.1)
        harness.run()
        open_ones |= {
            each
            for each in clients
            if each.session.lease.xact_open and each.session.lease.server
        }
        sizes = [part_of(pool).size for pool in some]
        [quota] = [quota for quota in harness.quotas if quota.key == "max_server_connections"]
        assert quota.used == sum(sizes) <= 5
    for _ in range(50):
        for client in clients:
            if client.session.lease.xact_open and client.session.lease.server is not None:
                client.send(COMMIT)
        harness.run()
    assert not any(part_of(pool).waiters for pool in some)
    assert not any(part_of(pool).is_pressed for pool in some)
