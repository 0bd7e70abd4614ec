"""PREPARE and EXECUTE of SQL: the shard is that of the values."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.errors import AmbiguousShard, NoSingleShard, RoutingError
from router.routing.decisions import UNBOUND
from router.routing.router import QueryRouter
from router.routing.sharding import pg_bigint_hash
from router.routing.state import LONGEST, MAX_PREPARED, MAX_TEXTS, RoutingState
from router.routing.types import Role, RouterOptions

SHARDS = 3
OPTIONS = RouterOptions(
    shard_count=SHARDS,
    query_parser_enabled=True,
    automatic_sharding_key="events.id",
    refuses_without_key=True,
    default_shard="shard_2",
)
DEFAULT = 2
FIND = "PREPARE p AS SELECT * FROM events WHERE id = $1"


@pytest.fixture(scope="module")
def router() -> QueryRouter:
    """The router of a pool that refuses."""
    return QueryRouter(OPTIONS)


def sent(router: QueryRouter, *texts: str) -> list[int | None]:
    """The shards of texts that a client sends while it holds one server."""
    state = RoutingState()
    return [router.route(text.encode(), state).shard for text in texts]


@pytest.mark.parametrize(
    ("prepare", "execute", "key"),
    [
        (FIND, "EXECUTE p(3)", 3),
        (FIND, "EXECUTE p('3')", 3),
        (FIND, "execute P ( 1 + 2 )", 3),
        (FIND, "EXECUTE p(NULL)", None),
        (FIND, "EXPLAIN (ANALYZE) EXECUTE p(3)", 3),
        (FIND, "CREATE TABLE x AS EXECUTE p(3)", 3),
        (FIND, "EXPLAIN ANALYZE CREATE TEMP TABLE x AS EXECUTE p(-3) WITH DATA", -3),
        ('PREPARE "P q" AS SELECT * FROM events WHERE id = $1', 'EXECUTE "P q"(3)', 3),
        (
            "PREPARE p (text, int) AS INSERT INTO events (id, kind) VALUES ($2, $1)",
            "EXECUTE p('x', 3)",
            3,
        ),
        ("PREPARE p AS SELECT * FROM events WHERE id IN ($1, $2)", "EXECUTE p(3, NULL)", 3),
        ("PREPARE p AS SELECT * FROM events WHERE id = 4", "EXECUTE p", 4),
        ("PREPARE p AS SELECT 1", "EXECUTE p", None),
    ],
)
def test_the_values_of_execute_choose_the_shard(
    router: QueryRouter, prepare: str, execute: str, key: int | None
) -> None:
    expected = DEFAULT if key is None else pg_bigint_hash(key, SHARDS)
    assert sent(router, prepare, execute, execute)[1:] == [expected] * 2


@pytest.mark.parametrize(
    ("prepare", "execute", "message"),
    [
        (FIND, "EXECUTE p(abs(3))", "key is not known"),
        (FIND, "EXECUTE p(3.5)", "key is not known"),
        (FIND, "EXECUTE p", "key is not known"),
        (FIND, "EXECUTE p((SELECT 3))", "key is not known"),
        (FIND, "EXECUTE p(1, (", "key is not known"),
        ("PREPARE p (float8) AS" + FIND[12:], "EXECUTE p(3)", "key is not known"),
        (
            "PREPARE p AS INSERT INTO events (id) VALUES ($1)",
            "EXECUTE p(NULL)",
            "key is not known",
        ),
        (
            "PREPARE p AS SELECT * FROM events WHERE id IN ($1, $2)",
            "EXECUTE p(1, 3)",
            "several shards: 1, 2",
        ),
        ("PREPARE p AS SELECT count(*) FROM events", "EXECUTE p", "no single shard"),
        (FIND, "EXECUTE q(3)", '"q" does not exist'),
        (FIND, "SELECT 1; EXECUTE p(3)", "must be the only statement"),
        ("SELECT 1; " + FIND, "EXECUTE p(3)", "must be the only statement"),
    ],
)
def test_without_one_shard_it_is_refused(
    router: QueryRouter, prepare: str, execute: str, message: str
) -> None:
    with pytest.raises(RoutingError, match=message):
        sent(router, prepare, execute)


def test_a_name_that_may_stand_for_two_statements_must_suit_both(router: QueryRouter) -> None:
    other = "PREPARE p AS SELECT * FROM things WHERE n = $1"
    fixed = "PREPARE p AS SELECT * FROM events WHERE id = 1"
    assert sent(router, other, FIND, "EXECUTE p(3)")[2] == 1
    assert sent(router, fixed, FIND, "EXECUTE p(1)")[2] == pg_bigint_hash(1, SHARDS)
    with pytest.raises(AmbiguousShard, match="the shards 1, 2"):
        sent(router, fixed, FIND, "EXECUTE p(3)")


def test_what_is_remembered_is_bounded() -> None:
    state = RoutingState()
    for number in range(2 * MAX_PREPARED):
        state.note_prepared(f"p{number}", b"x")
    assert len(state.prepared) == MAX_PREPARED
    state = RoutingState()
    state.note_prepared("p", b"x")
    state.note_prepared("p", b"x" * (LONGEST + 1))
    assert state.prepared == {}
    for number in range(MAX_TEXTS):
        state.note_prepared("p", b"%d" % number)
        state.note_prepared("p", b"%d" % number)
    assert len(state.prepared["p"]) == MAX_TEXTS
    state.note_prepared("p", b"x")
    assert state.prepared == {}


def test_a_chosen_shard_goes_before_the_values(router: QueryRouter) -> None:
    state = RoutingState()
    state.shard, state.is_default = 0, False
    for text in (FIND, "EXECUTE p(3)", "EXECUTE q(3)"):
        assert router.route(text.encode(), state).shard == 0


def test_a_pool_that_does_not_refuse_remembers_nothing() -> None:
    router = QueryRouter(replace(OPTIONS, refuses_without_key=False))
    state = RoutingState()
    for text in (FIND, "EXECUTE p(3)", "EXECUTE q(3)"):
        assert router.route(text.encode(), state).shard == DEFAULT
    assert not state.prepared


def test_explaining_remembers_nothing(router: QueryRouter) -> None:
    state = RoutingState()
    analysis, _ = router.inspect(FIND.encode(), state)
    router.decide(analysis, state, UNBOUND)
    assert not state.prepared


def test_an_execute_is_no_obstacle_by_itself(router: QueryRouter) -> None:
    with pytest.raises(NoSingleShard):
        router.route(b"CREATE TABLE events AS EXECUTE p(3)", RoutingState())


# --- what follows the client


KNOWN = {
    "r": (
        b'PREPARE "r" AS SELECT * FROM data WHERE id = $1',
        b"SELECT * FROM data WHERE id = $1",
    ),
    "w": (b'PREPARE "w" AS DELETE FROM data', b"DELETE FROM data"),
    "f": (b'PREPARE "f" AS SELECT odd()', b"SELECT odd()"),
}


@pytest.mark.parametrize(
    ("text", "role"),
    [
        (b"EXECUTE r(1)", Role.REPLICA),
        (b"execute r (lower('x'))", Role.REPLICA),
        (b"EXPLAIN ANALYZE EXECUTE r(1)", Role.REPLICA),
        (b"EXECUTE r(nextval('s'))", Role.PRIMARY),
        (b"EXECUTE r(odd())", Role.PRIMARY),
        (b"CREATE TABLE made AS EXECUTE r(1)", Role.PRIMARY),
        (b"EXECUTE w", Role.PRIMARY),
        (b"EXECUTE f", Role.PRIMARY),
        (b"EXECUTE unknown", Role.PRIMARY),
        (b"EXECUTE r(1); DELETE FROM data", Role.PRIMARY),
        (b"PREPARE x AS SELECT 1", Role.PRIMARY),
    ],
)
def test_execute_goes_where_what_it_runs_would(text: bytes, role: Role) -> None:
    router = QueryRouter(
        RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)
    )
    knowing, other = RoutingState(), RoutingState()
    knowing.prepared_as = KNOWN.get
    for _ in range(2):  # what is remembered is not this client's alone
        assert router.route(text, knowing).role is role
        assert router.route(text, other).role is Role.PRIMARY
