"""Routing commands as drivers send them: prepared, with parameters, in pipelines."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from typing import TYPE_CHECKING

import asyncpg
import pg8000.native
import psycopg
import psycopg2
import pytest
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio

from tests.support.router import PoolText, config_text, primary_of, start

from .conftest import run_program
from .test_node import node_environment as node_environment

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun
    from tests.support.router import RouterProcess

TRANSACTION = "transaction_shards"
SESSION = "session_shards"
UNCACHED = "uncached_shards"
POOLS = pytest.mark.parametrize("pool", [TRANSACTION, SESSION, UNCACHED])

# Both keys belong to shard 1 of 2.
KEY = 5

NODE = """
const { createRequire } = require("node:module");
const { Client } = require("pg");
const [host, port, database] = process.argv.slice(1);
(async () => {
  const client = new Client({ host, port: Number(port), database, user: "postgres" });
  await client.connect();
  const seen = [];
  const ask = async (query, values) => seen.push((await client.query(query, values)).rows[0]);
  await client.query("SET SHARD TO $1", ["1"]);
  await ask("SHOW SHARD");
  await ask({ name: "shown", text: "SHOW SHARD" });
  await client.query({ name: "chosen", text: "SET SHARDING KEY TO $1", values: [5] });
  await ask({ name: "shown", text: "SHOW SHARD" });
  await ask("SELECT current_database() LIKE '%1' AS second, $1::int AS n", [7]);
  await client.query("SET SHARD TO $1", ["9"]).catch((error) => seen.push(error.code));
  await client.end();
  console.log(JSON.stringify(seen));
})();
"""


@pytest.fixture(scope="module")
def sharded(
    postgres: Server, postgres_run: PostgresRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RouterProcess]:
    """A router before two shards, which are databases whose names end in their numbers."""
    name = postgres_run.unique_name("commands")
    databases = [f"{name}_{shard}" for shard in range(2)]
    for database in databases:
        postgres.execute(f"CREATE DATABASE {database}")

    def pool(options: str) -> PoolText:
        shards = [primary_of(postgres)] * 2
        return PoolText(shards=shards, databases=databases, pool_size=3, options=options)

    pools = {
        TRANSACTION: pool('pool_mode = "transaction"'),
        SESSION: pool('pool_mode = "session"'),
        UNCACHED: pool('pool_mode = "transaction"\nprepared_statements_cache_size = 0'),
    }
    router = start(tmp_path_factory.mktemp("commands"), lambda port: config_text(port, pools))
    yield router
    router.stop()
    for database in databases:
        postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")


def one(
    connection: psycopg.Connection[tuple[object, ...]], sql: str, *values: object
) -> object:
    """The only value of a query."""
    row = connection.execute(sql, values).fetchone()
    assert row is not None
    return row[0]


def place(connection: psycopg.Connection[tuple[object, ...]]) -> str:
    """The shard that answers."""
    return str(one(connection, "SELECT right(current_database(), 1)"))


@POOLS
@pytest.mark.parametrize("threshold", [0, None])
@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_chooses_by_parameters(
    sharded: RouterProcess, pool: str, threshold: int | None, binary: bool
) -> None:
    with sharded.connect(pool) as client:
        client.prepare_threshold = threshold if pool != UNCACHED else None
        mark = "%b" if binary else "%s"
        client.execute(f"SET SHARDING KEY TO {mark}", (KEY,))
        assert one(client, "SHOW SHARD") == "1"
        client.execute(f"SET SHARD TO {mark}", ("0",))
        assert one(client, "SHOW SHARD") == "0"
        client.execute(f"SET SHARD TO {mark}", (1,))
        assert place(client) == "1"
        client.execute(f"SET SERVER ROLE TO {mark}", ("primary",))
        assert one(client, "SHOW SERVER ROLE") == "primary"
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            client.execute(f"SET SHARD TO {mark}", (9,))
        assert place(client) == "1"


def test_psycopg_sends_commands_in_a_pipeline(sharded: RouterProcess) -> None:
    with sharded.connect(TRANSACTION) as client:
        for shard in ("1", "0", "1"):
            with client.pipeline():
                client.execute("SET SHARD TO %s", (shard,))
                shown = client.execute("SHOW SHARD")
                placed = client.execute("SELECT right(current_database(), 1)")
            assert (shown.fetchone(), placed.fetchone()) == ((shard,), (shard,))


def test_psycopg_may_ask_in_a_transaction_and_not_move_it(sharded: RouterProcess) -> None:
    with sharded.connect(TRANSACTION) as client:
        client.execute("SET SHARD TO '1'")
        with client.transaction():
            assert place(client) == "1"
            assert one(client, "SHOW SHARD") == "1"
            client.execute("SET SHARD TO %s", ("1",))
            explained = client.execute("EXPLAIN ROUTE SELECT %s::int", (1,)).fetchone()
            assert explained is not None
            assert explained[3:5] == ("1", "transaction")
            with pytest.raises(psycopg.errors.ActiveSqlTransaction), client.transaction():
                client.execute("SET SHARD TO %s", ("0",))
            assert place(client) == "1"
        assert place(client) == "1"


def test_psycopg_in_session_mode_keeps_its_server(sharded: RouterProcess) -> None:
    with sharded.connect(SESSION) as client:
        client.execute("SET SHARD TO %s", ("1",))
        assert place(client) == "1"
        with pytest.raises(psycopg.errors.ObjectInUse):
            client.execute("SET SHARD TO %s", ("0",))
        client.execute("SET SHARD TO '1'")
        assert (one(client, "SHOW SHARD"), place(client)) == ("1", "1")


def test_a_cursor_on_the_server_stays_in_its_transaction(sharded: RouterProcess) -> None:
    with sharded.connect(TRANSACTION) as client:
        client.execute("SET LOCAL SHARD TO %s", ("1",))
        with client.transaction(), client.cursor("numbers") as cursor:
            cursor.execute(
                "SELECT right(current_database(), 1), n FROM generate_series(1, 9) n"
            )
            assert [row[0] for row in cursor] == ["1"] * 9
        assert one(client, "SHOW SHARD") == "unset"
        assert place(client) == "0"


@POOLS
async def test_asyncpg_chooses_by_parameters(sharded: RouterProcess, pool: str) -> None:
    async def body(client: asyncpg.Connection) -> None:
        await client.execute("SET SHARDING KEY TO $1", str(KEY))
        assert await client.fetchval("SHOW SHARD") == "1"
        await client.execute("SET SHARD TO '1'")
        statement = await client.prepare("SHOW SHARD")
        assert [each.name for each in statement.get_attributes()] == ["shard"]
        for _ in range(3):
            assert await statement.fetchval() == "1"
        assert await client.fetchval("SELECT right(current_database(), 1)") == "1"
        row = await client.fetchrow("EXPLAIN ROUTE SELECT $1::int", "5")
        assert row["shard"] == "1"
        with pytest.raises(asyncpg.InvalidParameterValueError):
            await client.execute("SET SHARD TO $1", "nowhere")
        assert await client.fetchval("SHOW SHARD") == "1"

    await _with_asyncpg(sharded, pool, body)


async def _with_asyncpg(
    sharded: RouterProcess, pool: str, body: Callable[[asyncpg.Connection], Awaitable[None]]
) -> None:
    async def connected() -> None:
        # Without a cache of ours, statements do not follow to other servers.
        size = 0 if pool == UNCACHED else 100
        client = await asyncpg.connect(
            host=sharded.host,
            port=sharded.port,
            user="postgres",
            database=pool,
            statement_cache_size=size,
        )
        try:
            await asyncio.wait_for(body(client), 30)
        finally:
            await client.close()

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await aio_as_trio(connected)()


@POOLS
def test_pg8000_chooses_by_parameters(sharded: RouterProcess, pool: str) -> None:
    client = pg8000.native.Connection(
        "postgres", host=sharded.host, port=sharded.port, database=pool
    )
    with closing(client):
        client.run("SET SHARD TO :shard", shard=1)
        assert client.run("SHOW SHARD") == [["1"]]
        client.run("SET SHARDING KEY TO :key", key=str(KEY))
        prepared = client.prepare("SHOW SHARD")
        assert [prepared.run(), prepared.run()] == [[["1"]], [["1"]]]
        prepared.close()
        assert client.run("SELECT right(current_database(), 1)") == [["1"]]


@POOLS
def test_psycopg2_chooses(sharded: RouterProcess, pool: str) -> None:
    client = psycopg2.connect(sharded.dsn(pool))
    client.autocommit = True
    with closing(client), client.cursor() as cursor:
        cursor.execute("SET SHARD TO %s", ("1",))
        cursor.execute("SHOW SHARD")
        assert cursor.fetchall() == [("1",)]
        cursor.execute("SELECT right(current_database(), 1)")
        assert cursor.fetchall() == [("1",)]


@POOLS
def test_node_postgres_chooses_by_parameters(
    sharded: RouterProcess, node_environment: dict[str, str], pool: str
) -> None:
    words = ["node", "-e", NODE, sharded.host, str(sharded.port), pool]
    done = run_program(words, node_environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        {"shard": "1"},
        {"shard": "1"},
        {"shard": "1"},
        {"second": True, "n": 7},
        "22023",
    ]
