"""What drivers and applications leave on their session, in transaction mode."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import asyncpg
import psycopg
import psycopg2
import psycopg2.extensions
import pytest
import trio
import trio_asyncio
from trio_asyncio import aio_as_trio

from tests.support.router import wait_until

from .conftest import TRANSACTION

if TYPE_CHECKING:
    from .conftest import Connection, Proxied


def pinned(proxied: Proxied) -> list[str]:
    """What clients keep servers for."""
    found = proxied.router.admin("SHOW CLIENTS")
    return [row["pinned"] for row in found if row["pinned"]]


def value(connection: Connection, sql: str, *values: object) -> object:
    """The value of a query."""
    row = connection.execute(sql, values).fetchone()
    assert row is not None
    return row[0]


def test_a_user_of_row_level_security_sees_its_own_rows_and_nobody_elses(
    proxied: Proxied,
) -> None:
    table = f"rows_{uuid.uuid4().hex}"
    with proxied.direct() as directly:
        directly.execute(f"CREATE TABLE {table} AS SELECT generate_series(1, 9) AS owner")
        directly.execute(
            f"CREATE POLICY own ON {table} USING (owner = current_setting('app.user_id')::int)"
        )
        directly.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        directly.execute(f"GRANT SELECT ON {table} TO pg_monitor")
    clients = [proxied.connect(TRANSACTION) for _ in range(9)]
    for number, client in enumerate(clients, 1):
        client.execute("SELECT set_config('app.user_id', %s, false)", (str(number),))
        client.execute("SET ROLE pg_monitor")
    for _ in range(5):
        for number, client in enumerate(clients, 1):
            client.prepare_threshold = 0 if number % 2 else None
            assert client.execute(f"SELECT owner FROM {table}").fetchall() == [(number,)]
    assert pinned(proxied) == []
    for client in clients:
        client.close()
    with proxied.direct() as directly:
        directly.execute(f"DROP TABLE {table}")


def test_psycopg_listens_and_is_notified(proxied: Proxied) -> None:
    with proxied.connect(TRANSACTION) as client, proxied.connect(TRANSACTION) as other:
        client.execute("LISTEN news")
        for number in range(3):
            other.execute("SELECT pg_notify('news', %s)", (str(number),))
            [notify] = client.notifies(timeout=60, stop_after=1)
            assert notify.payload == str(number)
            assert value(client, "SELECT 1") == 1
            assert pinned(proxied) == []
        client.execute("UNLISTEN *")
        client.execute("LISTEN later")
        other.execute("NOTIFY news, 'not heard'")
        other.execute("NOTIFY later")
        [notify] = client.notifies(timeout=60, stop_after=1)
        assert notify.channel == "later"


def test_psycopg_copies_into_a_temporary_table(proxied: Proxied) -> None:
    with proxied.connect(TRANSACTION) as client, proxied.connect(TRANSACTION) as other:
        client.execute("CREATE TEMP TABLE staged (id int, v text)")
        with client.cursor().copy("COPY staged FROM STDIN") as copy:
            for number in range(1000):
                copy.write_row((number, "x"))
        client.prepare_threshold = 0
        for _ in range(3):
            assert value(client, "SELECT count(*) FROM staged") == 1000
        with pytest.raises(psycopg.errors.UndefinedTable):
            other.execute("SELECT * FROM staged")
        client.execute("DROP TABLE staged")
        wait_until("nobody is pinned", lambda: not pinned(proxied))


def test_a_pinned_client_that_leaves_without_a_word_pins_nothing(proxied: Proxied) -> None:
    client = proxied.connect(TRANSACTION)
    client.execute("SELECT pg_advisory_lock(8151)")
    wait_until("it is pinned", lambda: pinned(proxied) == ["advisory lock"])
    client.close()
    with proxied.direct() as directly:
        wait_until(
            "the lock is free",
            lambda: value(directly, "SELECT pg_try_advisory_lock(8151)") is True,
        )


def test_psycopg_keeps_a_server_side_cursor(proxied: Proxied) -> None:
    with proxied.connect(TRANSACTION) as client:
        cursor = psycopg.ServerCursor(client, "held", withhold=True)
        cursor.execute("SELECT generate_series(1, 9)")
        assert cursor.fetchmany(4) == [(1,), (2,), (3,), (4,)]
        assert value(client, "SELECT 1") == 1
        assert cursor.fetchmany(2) == [(5,), (6,)]
        cursor.close()
        wait_until("nobody is pinned", lambda: not pinned(proxied))


def test_psycopg2_chooses_its_isolation_for_good(proxied: Proxied) -> None:
    client = psycopg2.connect(proxied.router.dsn(TRANSACTION))
    client.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=True)
    with client.cursor() as cursor, proxied.connect(TRANSACTION) as other:
        for _ in range(3):
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("serializable",)
            cursor.execute("SHOW transaction_read_only")
            assert cursor.fetchone() == ("on",)
            assert value(other, "SHOW transaction_isolation") == "read committed"
    client.close()


def test_psycopg2_fetches_from_a_cursor_that_is_held(proxied: Proxied) -> None:
    client = psycopg2.connect(proxied.router.dsn(TRANSACTION))
    with client.cursor(name="held", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 9)")
        client.commit()
        assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
    client.close()


async def test_asyncpg_keeps_what_it_has_made(proxied: Proxied) -> None:
    async def work() -> None:
        heard: list[str] = []
        connection = await asyncpg.connect(
            host=proxied.router.host, port=proxied.port, user="postgres", database=TRANSACTION
        )
        await connection.add_listener("asyncs", lambda *said: heard.append(str(said[-1])))
        await connection.execute("SET app.user_id = '7'")
        await connection.execute("CREATE TEMP TABLE mine (a int)")
        await connection.copy_records_to_table("mine", records=[(1,), (2,)])
        for _ in range(3):
            assert await connection.fetchval("SELECT sum(a) FROM mine") == 3
            assert await connection.fetchval("SELECT current_setting('app.user_id')") == "7"
        await connection.execute("NOTIFY asyncs, 'one'")
        assert await connection.fetchval("SELECT 1") == 1
        assert heard == ["one"]
        await connection.reset()
        assert (
            await connection.fetchval("SELECT current_setting('app.user_id', true)") or ""
        ) == ""
        await connection.close()

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await aio_as_trio(work)()
