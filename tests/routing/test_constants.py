"""Constant expressions: what the router makes of them is what PostgreSQL makes of them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.errors import RoutingError
from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import ShardedTables
from router.routing.keyvalues import whole_number
from router.routing.types import KeyType

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import Database

BIGINTS = ClassifierOptions(sharded=ShardedTables.of("t.id"))
# A text key cannot be bound without its sharder; the fingerprint is enough to be looked at.
OPERATORS = ("+", "-", "*", "/", "%")


def key_of(expression: str) -> int | None:
    """The key that the router finds in `id = expression`; None if it is not known."""
    analysis = classify(f"SELECT * FROM t WHERE id = {expression}", BIGINTS)
    if not analysis.keys:
        return None
    [[[term]]] = analysis.keys
    assert term.key is None or isinstance(term.key, int)
    return term.key


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"0", 0),
        (b"007", 7),
        (b"1_000_000", 1000000),
        (b"1__0", None),
        (b"1_", None),
        (b"0x1F", 31),
        (b"0X_1f", 31),
        (b"0o17", 15),
        (b"0b101", 5),
        (b"0xfffffffffffffffff", None),
        (b"1.", 1),
        (b"1.0", 1),
        (b"1.5", None),
        (b"1.50e1", 15),
        (b"1.55e1", None),
        (b"100e-2", 1),
        (b"100e-3", None),
        (b"0e99999", 0),
        (b"0.000", 0),
        (b"1e19", None),
        (b"1e18", 10**18),
        (b"1e99999999999999999", None),
        (b"1e-99999999999999999", None),
        (b"9223372036854775807.0", 2**63 - 1),
        (b"1" + b"0" * 200, None),
        (b"x", None),
        (b"", None),
    ],
)
def test_a_number_is_whole_or_not(written: bytes, value: int | None) -> None:
    assert whole_number(written) == value


def generated(rng: random.Random, depth: int) -> str:
    """A random expression."""
    kind = rng.randrange(6)
    if depth == 0 or kind == 0:
        digits = str(rng.choice((0, 1, 2, 3, 7, 40, 2**31 - 1, 2**31, 2**62, 2**63 - 1)))
        return rng.choice((digits, digits, f"{digits}::bigint", f"({digits})", f"{digits}.0"))
    if kind == 1:
        return f"-({generated(rng, depth - 1)})"
    if kind == 2:
        return f"- {generated(rng, depth - 1)}"
    left, right = generated(rng, depth - 1), generated(rng, depth - 1)
    spaces = rng.choice((" ", "  ", "/**/"))
    operator = rng.choice(OPERATORS)
    return rng.choice((f"{left}{spaces}{operator} {right}", f"({left}) {operator} ({right})"))


@pytest.mark.postgres
@pytest.mark.parametrize("seed", range(3))
def test_postgresql_finds_the_row_of_the_key(
    postgres: Server, make_database: Callable[..., Database], seed: int
) -> None:
    rng = random.Random(seed)
    found = 0
    with postgres.connect(make_database(postgres).name) as connection:
        connection.execute("CREATE TABLE t (id bigint)")
        for _ in range(400):
            expression = generated(rng, rng.randrange(1, 4))
            key = key_of(expression)
            if key is None:
                continue
            try:
                sql = (
                    f"SELECT count(*) FROM (SELECT {key}::bigint) t(id) WHERE id = {expression}"
                )
                cursor = connection.execute(sql.encode())
            except psycopg.Error:
                continue  # whatever shard it is sent to
            assert cursor.fetchone() == (1,), expression
            found += 1
    assert found > 100


@pytest.mark.parametrize(
    "expression",
    [
        "5 + '1'",
        "'5' + 1",
        "5 ^ 2",
        "5 & 4",
        "5 + 1.5",
        "4.0 / 2",
        "abs(-5)",
        "@ -5",
        "5 / 0",
        "5 % 0",
        "9223372036854775807 + 1",
        "9223372036854775808 - 1",
        "5 + NULL",
        "5 + $1",
        "+".join(["1"] * 200),
    ],
)
def test_what_depends_on_more_than_integers_is_not_known(expression: str) -> None:
    assert key_of(expression) is None


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'a' || 'b'", "ab"),
        ("'a' || ('b' || E'\\'') || $$c$$", "ab'c"),
        ("'a' || 'b' || 5", None),
        ("'a' || kind", None),
        ("'a' || NULL", None),
    ],
)
def test_strings_are_put_together(expression: str, value: str | None) -> None:
    from router.routing.router import QueryRouter
    from router.routing.state import RoutingState
    from router.routing.types import RouterOptions

    router = QueryRouter(
        RouterOptions(
            shard_count=50,
            query_parser_enabled=True,
            automatic_sharding_key="t.id",
            sharding_function="sha1",
            sharding_key_type=KeyType.TEXT.value,
            refuses_without_key=True,
        )
    )
    sql = f"SELECT * FROM t WHERE id = {expression}".encode()
    if value is None:
        with pytest.raises(RoutingError):
            router.route(sql, RoutingState())
    else:
        assert router.route(sql, RoutingState()).shard == router.sharder.shard(value)
