"""asyncpg, in an asyncio loop that trio runs; it prepares everything that it is given."""

from __future__ import annotations

import asyncio
import io
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import asyncpg
import pytest
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio

from .conftest import SESSION, SINGLE, STATEMENT, TINY_CACHE, TRANSACTION

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from .conftest import Proxied

POOLS = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])
EVERY_POOL = pytest.mark.parametrize(
    "pool", [SESSION, TRANSACTION, SINGLE, TINY_CACHE, STATEMENT]
)


async def run(
    proxied: Proxied, pool: str, body: Callable[[asyncpg.Connection], Awaitable[None]]
) -> None:
    """Run a coroutine of asyncio's, with a connection, under trio."""

    async def connected() -> None:
        connection = await asyncpg.connect(
            host=proxied.router.host, port=proxied.port, user="postgres", database=pool
        )
        try:
            await body(connection)
        finally:
            await connection.close()

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await aio_as_trio(connected)()


@EVERY_POOL
async def test_statements_are_prepared_and_found_again(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        statement = await connection.prepare("SELECT $1::int + 1 AS next, $2::text AS word")
        assert [attribute.name for attribute in statement.get_attributes()] == ["next", "word"]
        for number in range(20):
            assert await connection.fetchval("SELECT $1::int * 2", number) == number * 2
            assert tuple(await statement.fetchrow(number, "w")) == (number + 1, "w")

    await run(proxied, pool, body)


@EVERY_POOL
async def test_more_texts_than_the_servers_keep(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        for number in (*range(150), *range(150)):
            assert await connection.fetchval(f"SELECT {number} + $1::int", 1) == number + 1

    await run(proxied, pool, body)


@POOLS
async def test_transactions_nest_and_roll_back(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        await connection.execute("CREATE TABLE asyncpg_rows (id int PRIMARY KEY)")
        insert = "INSERT INTO asyncpg_rows VALUES ($1)"
        async with connection.transaction():
            await connection.execute(insert, 1)
            await connection.execute("SAVEPOINT mine")
            await connection.execute(insert, 2)
            with pytest.raises(asyncpg.UniqueViolationError):
                await connection.execute(insert, 1)
            await connection.execute("ROLLBACK TO mine")
            async with connection.transaction():
                await connection.execute(insert, 3)
        assert await connection.fetch("SELECT id FROM asyncpg_rows") == [(1,), (3,)]
        await connection.execute("DROP TABLE asyncpg_rows")

    await run(proxied, pool, body)


@POOLS
async def test_cursors_fetch_by_portal_with_row_limits(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        query = "SELECT i FROM generate_series(1, $1::int) i"
        async with connection.transaction():
            found = [row["i"] async for row in connection.cursor(query, 100, prefetch=7)]
            assert found == list(range(1, 101))
            first = await connection.cursor(query, 50)
            second = await connection.cursor(query, 60)
            assert [row["i"] for row in await first.fetch(3)] == [1, 2, 3]
            await second.forward(10)
            assert (await second.fetchrow())["i"] == 11
            assert (await first.fetchrow())["i"] == 4

    await run(proxied, pool, body)


@EVERY_POOL
async def test_records_are_copied_in_and_queries_out(proxied: Proxied, pool: str) -> None:
    records = [(number, f"wörd {number}", None) for number in range(3_000)]

    async def body(connection: asyncpg.Connection) -> None:
        table = f"asyncpg_copied_{pool}"
        await connection.execute(f"CREATE TABLE {table} (id int, word text, nothing text)")
        told = await connection.copy_records_to_table(table, records=records)
        assert told == "COPY 3000"
        out = io.BytesIO()
        told = await connection.copy_from_query(
            f"SELECT word FROM {table} WHERE id < $1 ORDER BY id", 2, output=out
        )
        assert told == "COPY 2"
        assert out.getvalue().decode() == "wörd 0\nwörd 1\n"
        await connection.execute(f"DROP TABLE {table}")

    await run(proxied, pool, body)


@EVERY_POOL
async def test_executemany_is_one_pipeline(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        table = f"asyncpg_many_{pool}"
        await connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, word text)")
        insert = f"INSERT INTO {table} VALUES ($1, $2)"
        await connection.executemany(insert, [(number, "w" * 100) for number in range(2_000)])
        with pytest.raises(asyncpg.UniqueViolationError):
            await connection.executemany(insert, [(2_001, "a"), (1, "b"), (2_002, "c")])
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 2_000
        await connection.execute(f"DROP TABLE {table}")

    await run(proxied, pool, body)


@POOLS
async def test_a_time_out_cancels_the_query_and_the_session_goes_on(
    proxied: Proxied, pool: str
) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await connection.fetch("SELECT pg_sleep(60)", timeout=0.05)
            assert await connection.fetchval("SELECT 1") == 1

    await run(proxied, pool, body)


@POOLS
async def test_a_listener_is_called(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await connection.add_listener("asyncpg_news", lambda *news: heard.set_result(news[3]))
        await connection.execute("SELECT pg_notify('asyncpg_news', 'hello')")
        assert await asyncio.wait_for(heard, 30) == "hello"

    await run(proxied, pool, body)


@asynccontextmanager
async def pool_of_asyncpg(proxied: Proxied, pool: str) -> AsyncIterator[asyncpg.Pool]:
    async with asyncpg.create_pool(
        host=proxied.router.host,
        port=proxied.port,
        user="postgres",
        database=pool,
        min_size=0,
        max_size=6,
        server_settings={"application_name": "asyncpg pool"},
    ) as created:
        yield created


@pytest.mark.parametrize("pool", [TRANSACTION, SINGLE, TINY_CACHE])
async def test_a_pool_of_clients_on_few_servers_mixes_nothing_up(
    proxied: Proxied, pool: str
) -> None:
    async def work(clients: asyncpg.Pool, number: int) -> list[object]:
        found = []
        for step in range(10):
            async with clients.acquire() as connection:
                text = f"SELECT $1::int + {number % 4}"
                found.append(await connection.fetchval(text, step) - number % 4)
                async with connection.transaction():
                    found.append(await connection.fetchval("SELECT $1::text", str(number)))
        return found

    async def body() -> None:
        async with pool_of_asyncpg(proxied, pool) as clients:
            answers = await asyncio.gather(*(work(clients, number) for number in range(12)))
        for number, found in enumerate(answers):
            assert found == [value for step in range(10) for value in (step, str(number))]

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await aio_as_trio(body)()


@POOLS
async def test_types_of_the_users_are_looked_up(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        await connection.execute("CREATE TYPE mood AS ENUM ('fine', 'bad')")
        await connection.execute("CREATE TYPE pair AS (a int, m mood)")
        try:
            query = "SELECT $1::mood, ROW(1, $1)::pair, ARRAY[$1]::mood[]"
            row = await connection.fetchrow(query, "fine")
            assert tuple(row) == ("fine", (1, "fine"), ["fine"])
        finally:
            await connection.execute("DROP TYPE pair; DROP TYPE mood")

    await run(proxied, pool, body)


@POOLS
async def test_reset_and_reload_leave_statements_usable(proxied: Proxied, pool: str) -> None:
    async def body(connection: asyncpg.Connection) -> None:
        statement = await connection.prepare("SELECT $1::int")
        assert await statement.fetchval(1) == 1
        await connection.reset()
        assert await statement.fetchval(2) == 2
        await connection.reload_schema_state()
        assert await connection.fetchval("SELECT $1::int", 3) == 3

    await run(proxied, pool, body)


@pytest.mark.parametrize("pool", [SESSION, SINGLE])  # others may have to parse it anew
async def test_a_column_of_another_type_is_not_read_as_of_the_old_one(
    proxied: Proxied, pool: str
) -> None:
    table = f"changing_{pool}"

    async def body(connection: asyncpg.Connection) -> None:
        await connection.execute(f"CREATE TABLE {table} (a int, b int)")
        await connection.execute(f"INSERT INTO {table} VALUES (1, 2)")
        kept = await connection.prepare(f"SELECT * FROM {table}")
        assert tuple(await connection.fetchrow(f"SELECT * FROM {table}")) == (1, 2)
        await connection.execute(f"ALTER TABLE {table} ALTER b TYPE text")
        # It binds without a Describe; it is told, and prepares its own ones anew.
        assert tuple(await connection.fetchrow(f"SELECT * FROM {table}")) == (1, "2")
        with pytest.raises(asyncpg.InvalidCachedStatementError):
            await kept.fetchrow()
        await connection.execute(f"DROP TABLE {table}")

    await run(proxied, pool, body)


@pytest.mark.parametrize("pool", [SESSION, TRANSACTION])
async def test_a_column_that_changes_its_type_is_read_as_what_it_is(
    proxied: Proxied, pool: str
) -> None:
    """asyncpg decodes by what it was told once, and prepares anew when it is told to."""
    text = "SELECT v FROM asyncpg_changing ORDER BY v"

    async def body(connection: asyncpg.Connection) -> None:
        with proxied.direct() as directly:
            directly.execute("DROP TABLE IF EXISTS asyncpg_changing")
            directly.execute("CREATE TABLE asyncpg_changing (v int)")
            directly.execute("INSERT INTO asyncpg_changing VALUES (1), (2)")
            assert [row[0] for row in await connection.fetch(text)] == [1, 2]
            for kind, values in (("int8", [1, 2]), ("text", ["1", "2"]), ("int", [1, 2])):
                directly.execute(
                    f"ALTER TABLE asyncpg_changing ALTER v TYPE {kind} USING v::{kind}"
                )
                others = [proxied.connect(pool, autocommit=False) for _ in range(3)]
                for other in others:  # so that it comes to other servers, where it can
                    other.execute("SELECT 1")
                    assert [row[0] for row in await connection.fetch(text)] == values
                for other in others:
                    other.close()

    await run(proxied, pool, body)
