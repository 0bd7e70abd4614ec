"""Statements that belong to another shard than the server that their client holds.

Each shard has one partition of the table and no other, so that PostgreSQL refuses a row that
comes to the wrong shard; what is read there would be nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import asyncpg
import psycopg
import pytest
import trio
import trio_asyncio
from psycopg import errors

from router.routing.hashing import pg_bigint_hash
from tests.support.router import PoolText, primary_of
from tests.support.shards import items_of_shard
from tests.support.wire import (
    FLUSH,
    SYNC,
    WireClient,
    bind,
    describe,
    execute,
    kinds,
    parse,
    query,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

SHARDS = 3
KEYS = range(12)
INSERT = "INSERT INTO items (id, body) VALUES ($1, $2)"
FIND = "SELECT id FROM items WHERE id = $1"


def key_of(shard: int, nth: int = 0) -> int:
    """The nth key of a shard."""
    return [key for key in range(1000) if pg_bigint_hash(key, SHARDS) == shard][nth]


def wire(router: RouterProcess) -> WireClient:
    """A client of the pool in transaction mode that has logged in."""
    return WireClient.login(router.port, "items")


@pytest.fixture
def router(
    postgres: Server,
    make_database: Callable[..., Database],
    start_router: Callable[..., RouterProcess],
) -> RouterProcess:
    """A router with a pool in each mode, of one connection a shard."""
    databases = [make_database(postgres) for _ in range(SHARDS)]
    for number, database in enumerate(databases):
        database.execute(items_of_shard(number, SHARDS) + "CREATE TABLE plain (n int)")

    def pool(mode: str) -> PoolText:
        return PoolText(
            shards=[primary_of(postgres)] * SHARDS,
            databases=[database.name for database in databases],
            pool_size=1,
            options=(
                f'pool_mode = "{mode}"\nquery_parser_enabled = true\n'
                'automatic_sharding_key = "items.id"'
            ),
        )

    return start_router({"items": pool("transaction"), "sessions": pool("session")})


async def test_asyncpg_reaches_the_shard_of_the_key_it_binds_first(
    router: RouterProcess,
) -> None:
    async def body() -> None:
        for key in KEYS:
            # A new connection prepares anew: Parse, Describe, Flush, and then Bind.
            connection = await asyncpg.connect(
                host=router.host, port=router.port, user="postgres", database="items"
            )
            await connection.execute(INSERT, key, "x")
            assert await connection.fetchval(FIND, key) == key
            await connection.close()

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await trio_asyncio.aio_as_trio(body)()


@pytest.mark.parametrize("waits", [True, False])
def test_a_batch_that_has_only_prepared_moves_to_the_shard_of_its_first_bind(
    router: RouterProcess, *, waits: bool
) -> None:
    with wire(router) as client:
        for number, key in enumerate(KEYS):
            name = f"s{number}"
            prepared = parse(INSERT, name) + describe("S", name) + FLUSH
            bound = bind(b"%d" % key, b"x", name=name) + execute() + SYNC
            if waits:
                client.send(prepared)
                client.read_until("n")
                replies = client.ask(bound)
                assert kinds(replies) == "2CZ"
            else:
                replies = client.ask(prepared + bound)
                assert kinds(replies) == "1tn2CZ"
        assert client.query("SELECT 1") == [[b"1"]]


def test_a_batch_with_a_flush_behind_its_bind_goes_to_the_shard_of_the_key(
    router: RouterProcess,
) -> None:
    with wire(router) as client:
        for key in KEYS:
            client.send(parse(INSERT) + bind(b"%d" % key, b"x") + execute() + FLUSH)
            assert kinds(client.read_until("C")) == "12C"
            assert kinds(client.ask(SYNC)) == "Z"


def test_a_second_bind_for_another_shard_fails_its_batch(router: RouterProcess) -> None:
    here, there = b"%d" % key_of(1), b"%d" % key_of(2)
    with wire(router) as client:
        client.send(parse(INSERT) + bind(here, b"x") + execute() + FLUSH)
        client.read_until("C")
        replies = client.ask(bind(there, b"x") + execute() + SYNC)
        assert kinds(replies) == "EZ"
        assert sqlstates(replies) == ["0A000"]
        assert replies[0].fields["M"].startswith("the statement belongs to shard 2")
        # The batch was one transaction.
        client.send(parse(FIND) + bind(here) + execute() + SYNC)
        assert kinds(client.read_until("Z")) == "12CZ"
        assert kinds(client.ask(bind(there, b"x") + SYNC)) == "EZ"  # 08P01 or 26000: its own


@pytest.mark.parametrize("is_extended", [False, True])
def test_in_a_transaction_only_its_own_shard_is_served(
    router: RouterProcess, *, is_extended: bool
) -> None:
    one, other = key_of(1), key_of(2)
    with router.connect("items") as connection:
        cursor = connection.cursor() if is_extended else psycopg.ClientCursor(connection)
        connection.execute(f"SET SHARDING KEY TO {one}".encode())
        connection.execute("BEGIN")
        connection.execute(f"SET SHARDING KEY TO {one}".encode())
        cursor.execute("INSERT INTO items (id) VALUES (%s)", [one])
        connection.execute("COMMIT")
    with router.connect("items") as connection:
        cursor = connection.cursor() if is_extended else psycopg.ClientCursor(connection)
        connection.execute("BEGIN")
        for _ in range(2):
            # The first statement decides about the shard.
            cursor.execute("INSERT INTO items (id) VALUES (%s)", [key_of(0)])
            with pytest.raises(errors.FeatureNotSupported, match="belongs to shard 2"):
                cursor.execute("SELECT * FROM items WHERE id = %s", [other])
            with pytest.raises(errors.InFailedSqlTransaction):
                connection.execute("SELECT 1")
            connection.execute("ROLLBACK")
            connection.execute("BEGIN")
        connection.execute("INSERT INTO plain VALUES (1)")
        connection.execute("ROLLBACK")
        assert (
            cursor.execute("SELECT id FROM items WHERE id = %s", [key_of(0)]).fetchall() == []
        )


def test_a_sharding_key_cannot_be_updated_in_a_transaction_either(
    router: RouterProcess,
) -> None:
    with router.connect("items") as connection:
        connection.execute("BEGIN")
        with pytest.raises(errors.FeatureNotSupported, match="cannot be updated"):
            connection.execute("UPDATE items SET id = 5 WHERE body = 'x'")
        connection.execute("ROLLBACK")


def test_a_session_is_refused_what_is_not_on_its_shard(router: RouterProcess) -> None:
    with router.connect("sessions") as connection:
        connection.execute("INSERT INTO items (id) VALUES (%s)", [key_of(1)])
        with pytest.raises(errors.FeatureNotSupported, match="belongs to shard 0"):
            connection.execute("SELECT count(*) FROM plain")
        for cursor in (connection.cursor(), psycopg.ClientCursor(connection)):
            with pytest.raises(errors.FeatureNotSupported, match="belongs to shard 2"):
                cursor.execute("INSERT INTO items (id) VALUES (%s)", [key_of(2)])
        connection.execute("INSERT INTO items (id) VALUES (%s)", [key_of(1, 1)])


def test_a_query_inside_a_batch_is_looked_at_too(router: RouterProcess) -> None:
    with wire(router) as client:
        client.send(parse(INSERT) + bind(b"%d" % key_of(1), b"x") + execute() + FLUSH)
        client.read_until("C")
        replies = client.ask(query(f"DELETE FROM items WHERE id = {key_of(2)}"))
        assert sqlstates(replies) == ["0A000"]


def test_a_long_value_does_not_hide_the_key_before_it(router: RouterProcess) -> None:
    long = b"x" * (1 << 20)
    with wire(router) as client:
        for key in KEYS:
            for batch in (
                parse(INSERT) + bind(b"%d" % key, long) + execute() + SYNC,
                parse(INSERT, f"s{key}")
                + FLUSH
                + bind(b"%d" % key, long, name=f"s{key}")
                + execute()
                + SYNC,
            ):
                assert kinds(client.ask(batch)) == "12CZ"
        assert (
            client.query(f"SELECT length(body) FROM items WHERE id = {KEYS[5]}")
            == [[b"%d" % len(long)]] * 2
        )


def test_a_key_behind_a_long_value_is_refused(router: RouterProcess) -> None:
    sql = "INSERT INTO items (body, id) VALUES ($1, $2)"
    with wire(router) as client:
        batch = parse(sql) + bind(b"x" * (1 << 20), b"%d" % key_of(2)) + execute() + SYNC
        replies = client.ask(batch)
        assert sqlstates(replies) == ["0A000"]
        assert replies[-1].kind == "Z"
        client.query(f"SET SHARDING KEY TO {key_of(2)}")
        assert kinds(client.ask(batch)) == "12CZ"
