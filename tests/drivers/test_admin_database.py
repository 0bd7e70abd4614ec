"""The admin database as drivers see it, transactions of their own accord and all."""

from __future__ import annotations

import asyncio
import subprocess
from decimal import Decimal
from typing import TYPE_CHECKING

import asyncpg
import pg8000.dbapi
import psycopg
import psycopg2
import pytest
import trio
import trio_asyncio
from psycopg import rows
from psycopg.pq import TransactionStatus
from trio_asyncio import aio_as_trio

from tests.support.router import ADMIN, ADMIN_PASSWORD, PATIENCE, WATCHER, WATCHER_PASSWORD

if TYPE_CHECKING:
    from .conftest import Proxied

DATABASES = pytest.mark.parametrize("database", ["pgcat", "pgbouncer"])


def dsn(proxied: Proxied, database: str = "pgcat") -> str:
    """For libpq."""
    return proxied.router.dsn(database, ADMIN, ADMIN_PASSWORD)


@DATABASES
def test_psycopg_works_without_autocommit(proxied: Proxied, database: str) -> None:
    with psycopg.connect(dsn(proxied, database), row_factory=rows.dict_row) as connection:
        for binary in (False, True):
            cursor = connection.cursor(binary=binary)
            [row] = cursor.execute("SHOW LISTS").fetchall()[:1]
            assert row == {"list": "databases", "items": row["items"]}
            assert isinstance(row["items"], int)
            [stats, *_] = cursor.execute("SHOW STATS").fetchall()
            assert isinstance(stats["total_query_count"], Decimal)
        states = [connection.info.transaction_status]
        connection.commit()
        states.append(connection.info.transaction_status)
        assert states == [TransactionStatus.INTRANS, TransactionStatus.IDLE]
        with pytest.raises(psycopg.Error, match="invalid command"):
            connection.execute("SELECT * FROM pg_class")
        connection.rollback()
        with connection.transaction():
            assert connection.execute("SELECT 1 AS one").fetchone() == {"one": 1}


def test_psycopg_fetches_prepared_statements_in_portions(proxied: Proxied) -> None:
    with psycopg.connect(dsn(proxied), autocommit=True) as connection:
        for _ in range(10):  # prepared from the sixth time on
            assert connection.execute("SHOW VERSION", prepare=True).fetchone()
        whole = connection.execute("SHOW LISTS").fetchall()
        assert list(connection.cursor().stream("SHOW LISTS", size=1)) == whole


def test_psycopg2_works_without_autocommit(proxied: Proxied) -> None:
    connection = psycopg2.connect(dsn(proxied))
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW USERS")
        assert cursor.fetchall()
    with pytest.raises(psycopg2.Error), connection.cursor() as cursor:
        cursor.execute("SHOW ME")
    connection.rollback()
    connection.close()


def test_pg8000_works_without_autocommit(proxied: Proxied) -> None:
    connection = pg8000.dbapi.connect(
        ADMIN,
        host=proxied.router.host,
        port=proxied.port,
        database="pgcat",
        password=ADMIN_PASSWORD,
        timeout=PATIENCE,
    )
    cursor = connection.cursor()
    cursor.execute("SHOW LISTS")
    assert isinstance(cursor.fetchall()[0][1], int)
    connection.commit()
    connection.close()


async def test_a_pool_of_asyncpg_resets_its_connections(proxied: Proxied) -> None:
    async def body() -> None:
        pool = await asyncpg.create_pool(
            host=proxied.router.host,
            port=proxied.port,
            user=ADMIN,
            password=ADMIN_PASSWORD,
            database="pgcat",
            min_size=1,
            max_size=1,
        )
        for _ in range(3):
            async with pool.acquire() as connection:
                row = await connection.fetchrow("SHOW LISTS")
                assert row["list"] == "databases"
                assert isinstance(row["items"], int)
                async with connection.transaction():
                    portions = [
                        row async for row in connection.cursor("SHOW LISTS", prefetch=2)
                    ]
                    assert len(portions) > 2
                    assert await connection.fetchval("SELECT 1") == 1
        await asyncio.wait_for(pool.close(), PATIENCE)

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await aio_as_trio(body)()


def test_psql_is_not_broken_by_what_it_asks_for(proxied: Proxied) -> None:
    done = subprocess.run(
        ["psql", "-X", "-A", "-t", dsn(proxied)],
        input="\\d\n\\l\n\\conninfo\nBEGIN;\nSHOW VERSION;\nCOMMIT;\nSELECT 1;\n",
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    assert "invalid command" in done.stderr
    assert done.stdout.splitlines()[-4:-2] == ["BEGIN", "PgCat 0.1.0"]
    assert done.stdout.splitlines()[-2:] == ["COMMIT", "1"]


def test_who_may_only_look_logs_in_with_a_password_of_its_own(proxied: Proxied) -> None:
    whole = proxied.router.dsn("pgcat", WATCHER, WATCHER_PASSWORD)
    with psycopg.connect(whole) as connection:
        assert connection.execute("SHOW POOLS").fetchall()
        with pytest.raises(psycopg.Error, match="admin access needed"):
            connection.execute("RELOAD")
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(proxied.router.dsn("pgcat", WATCHER, ADMIN_PASSWORD))
