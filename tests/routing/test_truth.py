"""What PostgreSQL says about the shards of statements.

The rows of three shards are once in one schema, all together, and once in a schema for each
shard. A statement that the router sends to a shard must do there what it does to all of them.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from router.errors import AmbiguousShard
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import RouterOptions

from .generated import KEYS, LARGEST_KEY, Generator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg.rows import TupleRow

    from tests.support.postgres import Database

SHARDS: Final = 3
OPTIONS: Final = RouterOptions(
    shard_count=SHARDS,
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    automatic_sharding_key=KEYS,
    default_shard="random",
)
TABLES: Final = {
    # NULL has no shard of its own.
    "users": ("id bigint NOT NULL, n int", "id"),
    "orders": ("oid int, user_id bigint NOT NULL, n int", "user_id"),
}
Rows = Counter["TupleRow"]
Outcome = tuple[Rows, dict[str, Rows]]


def schema() -> str:
    """Write the SQL that makes all schemas with their rows."""
    parts = ["CREATE SCHEMA whole"]
    for table, (columns, key) in TABLES.items():
        parts.append(f"CREATE TABLE whole.{table} ({columns}) PARTITION BY HASH ({key})")
        parts += [
            f"CREATE TABLE whole.{table}_{n} PARTITION OF whole.{table}"
            f" FOR VALUES WITH (MODULUS {SHARDS}, REMAINDER {n})"
            for n in range(SHARDS)
        ]
    parts += [
        f"INSERT INTO whole.users SELECT g, g % 4 FROM generate_series(1, {LARGEST_KEY}) g",
        "INSERT INTO whole.orders SELECT g, 1 + g % 11, g % 3 FROM generate_series(1, 30) g",
        "CREATE TABLE whole.things (k bigint, n int)",
        "INSERT INTO whole.things SELECT g, g % 3 FROM generate_series(1, 9) g",
    ]
    for n in range(SHARDS):
        parts.append(f"CREATE SCHEMA shard_{n}")
        for table, (columns, key) in TABLES.items():
            guard = f"satisfies_hash_partition('whole.{table}'::regclass, {SHARDS}, {n}, {key})"
            parts.append(f"CREATE TABLE shard_{n}.{table} ({columns}, CHECK ({guard}))")
            parts.append(f"INSERT INTO shard_{n}.{table} SELECT * FROM whole.{table}_{n}")
        parts.append(f"CREATE TABLE shard_{n}.things AS SELECT * FROM whole.things")
    return ";\n".join(parts)


class Oracle:
    """Runs statements on all rows and on those of one shard, and undoes them."""

    def __init__(self, connection: psycopg.Connection[TupleRow]) -> None:
        self._connection = connection
        self._before = [self.run("SELECT 1", f"shard_{n}")[1] for n in range(SHARDS)]

    def run(self, sql: str, where: str) -> Outcome:
        """Return the rows that a statement returns, and those that it leaves."""
        connection = self._connection
        try:
            connection.execute(f"SET LOCAL search_path = {where}".encode())
            cursor = connection.execute(sql.encode())
            rows = Counter(cursor.fetchall() if cursor.description else [])
            left = {
                table: Counter(connection.execute(f"TABLE {table}".encode()).fetchall())
                for table in TABLES
            }
        finally:
            connection.rollback()
        return rows, left

    def agrees(self, sql: str, shard: int) -> bool:
        """Say whether a statement does on one shard what it does on all."""
        rows, left = self.run(sql, "whole")
        try:
            found, remaining = self.run(sql, f"shard_{shard}")
        except psycopg.errors.CheckViolation:
            return False
        for n, before in enumerate(self._before):
            for table in TABLES:
                remaining[table] = remaining[table] + (
                    Counter() if n == shard else before[table]
                )
        return rows == found and left == remaining


@pytest.fixture
def oracle(fresh_database: Database) -> Iterator[Oracle]:
    """The rows of all shards."""
    fresh_database.execute(schema())
    connection = fresh_database.server.connect(fresh_database.name)
    connection.autocommit = False
    yield Oracle(connection)
    connection.close()


def check(oracle: Oracle, statements: list[str]) -> Counter[str]:
    """Compare the router with PostgreSQL; return how often it found what."""
    router = QueryRouter(OPTIONS)
    router.learn_columns({"users": ("id", "n"), "orders": ("oid", "user_id", "n")})
    counts: Counter[str] = Counter()
    for sql in statements:
        try:
            shard = router.route(sql.encode(), RoutingState()).shard
        except AmbiguousShard:
            counts["refused"] += 1
            continue
        if shard is None:
            counts["unknown"] += 1
            continue
        try:
            assert oracle.agrees(sql, shard), f"not shard {shard}: {sql}"
        except psycopg.errors.Error as error:
            counts[f"invalid {type(error).__name__}"] += 1
            continue
        counts["found"] += 1
    return counts


@pytest.mark.postgres
@pytest.mark.parametrize("seed", range(4))
def test_a_statement_does_on_its_shard_what_it_does_on_all(oracle: Oracle, seed: int) -> None:
    generator = Generator(random.Random(seed))
    counts = check(oracle, [generator.statement() for _ in range(250)])
    assert counts["found"] > 40
