"""Conditions made at random: the router's shard has all the rows that satisfy them.

Which keys do, is found out by trying all of them, and which shards these have is PostgreSQL's
answer for keys from 0 on.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from hypothesis import given, note, settings
from hypothesis import strategies as st

from router.errors import AmbiguousShard
from router.routing.keyplan import KeyPlan
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import RouterOptions
from router.session.bound_keys import key_values

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDS: Final = (2, 2, 0, 1, 0, 2, 0, 1, 0, 2, 1, 2, 2, 1, 1, 0, 0, 2, 0, 0, 0)
"""By key, of three."""
OTHERS: Final = range(3)

ROUTER: Final = QueryRouter(
    RouterOptions(
        shard_count=3,
        query_parser_enabled=True,
        automatic_sharding_key=("users.id", "orders.user_id"),
        default_shard="random",
    )
)

keys = st.integers(0, len(SHARDS) - 1)


@dataclass(frozen=True)
class Condition:
    """A condition for id and n: as SQL with numbers in {}, its numbers, and what it means."""

    sql: str
    numbers: tuple[int, ...]
    holds: Callable[[int, int], bool]


def _comparison(
    form: tuple[str, Callable[[int, int, int, int], bool]],
) -> st.SearchStrategy[Condition]:
    sql, holds = form
    if sql.count("{}") == 1:
        return keys.map(lambda a: Condition(sql, (a,), lambda i, n: holds(i, n, a, a)))
    return st.tuples(keys, keys).map(
        lambda ab: Condition(sql, ab, lambda i, n: holds(i, n, *ab))
    )


COMPARISONS: Final = [
    *[("id = {}", lambda i, n, a, b: i == a)] * 3,
    ("{} = id", lambda i, n, a, b: i == a),
    ("id = ({})", lambda i, n, a, b: i == a),
    ("id::bigint = {}::bigint", lambda i, n, a, b: i == a),
    ("id IN ({}, {})", lambda i, n, a, b: i in (a, b)),
    ("id NOT IN ({}, {})", lambda i, n, a, b: i not in (a, b)),
    ("id = ANY (ARRAY[{}, {}])", lambda i, n, a, b: i in (a, b)),
    ("id = ALL (ARRAY[{}, {}])", lambda i, n, a, b: i == a == b),
    ("(id, n) = ({}, 1)", lambda i, n, a, b: i == a and n == 1),
    ("(n, id) IN ((1, {}), (2, {}))", lambda i, n, a, b: (n, i) in ((1, a), (2, b))),
    ("id IS NOT DISTINCT FROM {}", lambda i, n, a, b: i == a),
    ("id IS DISTINCT FROM {}", lambda i, n, a, b: i != a),
    ("id <> {}", lambda i, n, a, b: i != a),
    ("id > {}", lambda i, n, a, b: i > a),
    ("id BETWEEN {} AND {}", lambda i, n, a, b: a <= i <= b),
    ("id + 1 = {}", lambda i, n, a, b: i + 1 == a),
    ("n = {}", lambda i, n, a, b: n == a),
]


def _both(one: Condition, other: Condition, form: str) -> Condition:
    def holds(i: int, n: int) -> bool:
        if " OR " in form:
            return one.holds(i, n) or other.holds(i, n)
        return one.holds(i, n) and other.holds(i, n)

    return Condition(form % (one.sql, other.sql), one.numbers + other.numbers, holds)


def _not(one: Condition, form: str) -> Condition:
    return Condition(form % one.sql, one.numbers, lambda i, n: not one.holds(i, n))


def _same(one: Condition, form: str) -> Condition:
    return Condition(form % one.sql, one.numbers, one.holds)


conditions = st.recursive(
    st.sampled_from(COMPARISONS).flatmap(_comparison),
    lambda inner: st.one_of(
        st.builds(_both, inner, inner, st.sampled_from(["(%s AND %s)", "((%s) AND (%s))"])),
        st.builds(_both, inner, inner, st.sampled_from(["(%s OR %s)", "((%s) OR (%s))"])),
        st.builds(
            _not, inner, st.sampled_from(["NOT (%s)", "(%s) IS NOT TRUE", "(%s) IS FALSE"])
        ),
        st.builds(_same, inner, st.sampled_from(["(%s)", "(%s) IS TRUE", "(%s) AND true"])),
    ),
    max_leaves=5,
)

TEMPLATES: Final = [
    "SELECT * FROM users WHERE {}",
    "SELECT count(*) FROM public.users AS u WHERE {} GROUP BY n HAVING count(*) > 1",
    "SELECT * FROM (SELECT * FROM users) x WHERE {}",
    "SELECT * FROM (SELECT DISTINCT id, n FROM users WHERE {}) x LIMIT 1",
    "WITH x AS (SELECT id, n FROM users) SELECT * FROM x WHERE {}",
    "WITH x AS MATERIALIZED (SELECT * FROM users WHERE {}) SELECT * FROM x ORDER BY n",
    "SELECT * FROM users JOIN orders ON user_id = id WHERE {}",
    "SELECT * FROM users LEFT JOIN orders o ON o.user_id = users.id WHERE {}",
    "SELECT * FROM users WHERE EXISTS (SELECT FROM orders WHERE user_id = users.id) AND {}",
    "SELECT * FROM things WHERE k IN (SELECT n FROM users WHERE {})",
    "SELECT * FROM (SELECT * FROM users WHERE {} UNION SELECT 1, 2) x",
    "SELECT * FROM (SELECT id, n FROM users UNION ALL SELECT id, n FROM users) x WHERE {}",
    "UPDATE users SET n = n + 1 WHERE {}",
    "DELETE FROM users WHERE {} RETURNING *",
    "DELETE FROM users USING things WHERE {}",
    "INSERT INTO things (k) SELECT n FROM users WHERE {}",
    "INSERT INTO orders (user_id) SELECT id FROM users WHERE {}",
    "MERGE INTO users USING things ON {} WHEN MATCHED THEN DELETE",
    "EXPLAIN SELECT * FROM users WHERE {}",
]

FORMS: Final = ["%d", "'%d'", "%d::bigint", "'%d'::int8", "CAST('%d' AS bigint)", "bigint '%d'"]


def allowed(condition: Condition) -> set[int]:
    """The shards that the rows are on."""
    return {
        shard
        for key, shard in enumerate(SHARDS)
        if any(condition.holds(key, other) for other in OTHERS)
    }


def check(found: int | None, condition: Condition) -> None:
    if found is not None:
        assert allowed(condition) <= {found}


@settings(derandomize=True, deadline=None, max_examples=400, database=None)
@given(conditions, st.sampled_from(TEMPLATES), st.data())
def test_the_rows_of_a_statement_are_on_its_shard(
    condition: Condition, template: str, data: st.DataObject
) -> None:
    written = [data.draw(st.sampled_from(FORMS)) % number for number in condition.numbers]
    sql = template.format(condition.sql.format(*written))
    note(sql)
    with contextlib.suppress(AmbiguousShard):
        check(ROUTER.route(sql.encode(), RoutingState()).shard, condition)


@settings(derandomize=True, deadline=None, max_examples=300, database=None)
@given(
    conditions, st.sampled_from(TEMPLATES), st.lists(st.booleans(), min_size=12, max_size=12)
)
def test_the_rows_of_a_prepared_statement_are_on_its_shard(
    condition: Condition, template: str, is_binary: list[bool]
) -> None:
    numbers = condition.numbers
    names = [f"${n + 1}" for n in range(len(numbers))]
    analysis = ROUTER.analyse(template.format(condition.sql.format(*names)).encode())
    assert analysis is not None
    formats = [is_binary[n % len(is_binary)] for n in range(len(numbers))]
    values = [
        struct.pack("!q", number) if binary else b"%d" % number
        for number, binary in zip(numbers, formats, strict=True)
    ]
    bind = struct.pack(f"!H{len(formats)}H", len(formats), *formats)
    bind += struct.pack("!H", len(values))
    bind += b"".join(struct.pack("!i", len(value)) + value for value in values)
    bound = key_values(bind, KeyPlan(analysis, (), ROUTER.sharder))
    with contextlib.suppress(AmbiguousShard):
        check(ROUTER.route_analysis(analysis, RoutingState(), bound).shard, condition)


def test_most_simple_conditions_are_found() -> None:
    for template in TEMPLATES:
        for form in ("id = {}", "{} = id", "id IN ({0}, {0})", "id = ANY (ARRAY[{}])"):
            for key in (0, 5, 13):
                sql = template.format(form.format(key))
                assert ROUTER.route(sql.encode(), RoutingState()).shard == SHARDS[key], sql
