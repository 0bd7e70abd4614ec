"""How many clients may be logged in, and who is told what when there are too many."""

from __future__ import annotations

import pytest

from router.errors import PoolError
from router.session.admission import Admission
from tests.support.harness import Harness
from tests.support.wire import kinds, query

BEGIN, ONE = query("BEGIN"), query("SELECT one")


def test_the_router_takes_no_more_than_max_client_conn() -> None:
    harness, admission = Harness(), Admission()
    assert harness.pool is not None
    for _ in range(3):
        admission.admit(harness.pool, 3)
    with pytest.raises(PoolError, match="sorry, too many clients already") as caught:
        admission.check(3)
    assert caught.value.sqlstate == "53300"
    assert "max_client_conn" in caught.value.detail
    assert "ann" not in caught.value.detail, "nobody has proven anything yet"
    assert admission.holders == "3 app/ann"
    with pytest.raises(PoolError):
        admission.admit(harness.pool, 3)
    assert admission.refused["max_client_conn", ""] == 2
    admission.leave("app", "ann")
    admission.admit(harness.pool, 3)
    admission.admit(harness.pool, 0)
    assert admission.count == 4


def test_a_database_and_a_user_have_limits_of_their_own() -> None:
    harness, admission = Harness(max_db_client_connections=2), Admission()
    bob = harness.new_pool(user="bob", max_db_client_connections=2)
    other = harness.new_pool(user="bob", pool="other", max_user_client_connections=2)
    assert harness.pool is not None
    # Neither its database nor its user is that of the others.
    admission.admit(harness.new_pool(user="eve", pool="third"), 0)
    admission.admit(harness.pool, 0)
    admission.admit(bob, 0)
    with pytest.raises(PoolError, match='too many connections for database "app"') as caught:
        admission.admit(bob, 0)
    assert caught.value.detail == (
        "There are 2 of 2 (max_db_client_connections): 1 ann, 1 bob."
    )
    admission.admit(other, 0)
    with pytest.raises(PoolError, match='too many connections for role "bob"') as caught:
        admission.admit(other, 0)
    assert caught.value.detail == (
        "There are 2 of 2 (max_user_client_connections): 1 app, 1 other."
    )
    assert admission.refused == {
        ("max_db_client_connections", "app"): 1,
        ("max_user_client_connections", "bob"): 1,
    }
    admission.leave("app", "bob")
    admission.admit(other, 0)
    for pool in ("third", "eve"), ("app", "ann"), ("other", "bob"), ("other", "bob"):
        admission.leave(*pool)
    assert admission.count == 0
    left = [admission.pools, admission.users, admission.databases]
    assert not any(left)


def test_no_more_than_max_waiting_clients_wait() -> None:
    harness = Harness(pool_size=1, max_waiting_clients=2)
    assert harness.pool is not None
    holder = harness.connect()
    harness.ask(holder, BEGIN)
    for _ in range(2):
        assert harness.ask(harness.connect(), ONE) == []
    refused = harness.connect()
    [error, _] = harness.ask(refused, ONE)
    assert (error.fields["S"], error.sqlstate) == ("ERROR", "53300")
    assert "max_waiting_clients = 2" in error.fields["M"]
    assert "1 idle in transaction" in error.fields["D"]
    assert harness.pool.turned_away == 1
    harness.ask(holder, query("COMMIT"))
    assert kinds(harness.ask(refused, ONE)) == "TDCZ", "the session has gone on"


def test_who_is_served_at_once_does_not_wait() -> None:
    harness = Harness(pool_size=2, max_waiting_clients=1)
    client = harness.connect()
    assert kinds(harness.ask(client, ONE)) == "TDCZ"
    assert kinds(harness.ask(client, ONE)) == "TDCZ"
