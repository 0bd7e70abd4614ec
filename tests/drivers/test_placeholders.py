"""Rows that drivers insert with `VALUES ($1,$2)`, which most of what writes SQL puts so."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import asyncpg
import pytest
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio

from tests.support.router import PoolText, config_text, primary_of, start

from .conftest import run_program
from .test_node import node_environment as node_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun
    from tests.support.router import RouterProcess

POOL = "placeholders"
ROWS = 30
INSERTS = [
    "INSERT INTO t(id,v) VALUES ($1,$2)",
    'INSERT INTO "public"."t" ("v","id") VALUES ($2::text||$3,$1::int8)RETURNING "id"',
]
# A row that comes to a shard that is not its own is refused there.
SCHEMA = """
CREATE TABLE whole (id bigint) PARTITION BY HASH (id);
CREATE TABLE t (
  id bigint CHECK (satisfies_hash_partition('whole'::regclass, 2, {shard}, id)), v text)
"""
NODE = """
const { Client } = require("pg");
const [host, port, database, text, rows] = process.argv.slice(1);
(async () => {
  const client = new Client({ host, port: Number(port), database, user: "postgres" });
  await client.connect();
  for (let id = 0; id < Number(rows); id++)
    await client.query(text, text.includes("$3") ? [id, "a", "b"] : [id, "a"]);
  await client.end();
  console.log(JSON.stringify("done"));
})();
"""


@pytest.fixture
def databases(postgres: Server, postgres_run: PostgresRun) -> Iterator[list[str]]:
    """Two shards with a table that knows which rows are its own."""
    name = postgres_run.unique_name("placeholders")
    names = [f"{name}_{shard}" for shard in range(2)]
    for shard, database in enumerate(names):
        postgres.execute(f"CREATE DATABASE {database}")
        postgres.execute(SCHEMA.format(shard=shard), database=database)
    yield names
    for database in names:
        postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")


@pytest.fixture
def sharded(
    postgres: Server, databases: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterProcess]:
    """A router before them."""
    pool = PoolText(
        shards=[primary_of(postgres)] * 2,
        databases=databases,
        pool_size=3,
        options='query_parser_enabled = true\nautomatic_sharding_key = "t.id"',
    )
    directory = tmp_path_factory.mktemp("placeholders")
    router = start(directory, lambda port: config_text(port, {POOL: pool}))
    yield router
    router.stop()


def stored(postgres: Server, databases: list[str]) -> list[int]:
    """How many rows each shard has."""
    return [
        int(str(postgres.execute("SELECT count(*) FROM t", database=database)[0][0]))
        for database in databases
    ]


@pytest.mark.parametrize("insert", INSERTS)
def test_rows_of_node_postgres_come_to_their_shards(
    postgres: Server,
    databases: list[str],
    sharded: RouterProcess,
    node_environment: dict[str, str],
    insert: str,
) -> None:
    command = ["node", "-e", NODE, sharded.host, str(sharded.port), POOL, insert, str(ROWS)]
    done = run_program(command, node_environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == "done"
    counts = stored(postgres, databases)
    assert sum(counts) == ROWS
    assert min(counts) > 5


@pytest.mark.parametrize("insert", INSERTS)
async def test_rows_of_asyncpg_come_to_their_shards(
    postgres: Server, databases: list[str], sharded: RouterProcess, insert: str
) -> None:
    values = ("a", "b") if "$3" in insert else ("a",)

    async def body() -> None:
        connection = await asyncpg.connect(
            host=sharded.host, port=sharded.port, user="postgres", database=POOL
        )
        for number in range(ROWS):
            await connection.execute(insert, number, *values)
        await connection.close()

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await aio_as_trio(body)()
    counts = stored(postgres, databases)
    assert sum(counts) == ROWS
    assert min(counts) > 5
