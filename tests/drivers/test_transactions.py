"""Transactions, simple queries and what PostgreSQL sends beside the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import pq
from psycopg.pq import TransactionStatus

from tests.support.router import wait_until

from .conftest import SESSION, SINGLE, STATEMENT, TRANSACTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Connection, Proxied

POOLS = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])


def rows(connection: Connection, query: str) -> list[tuple[object, ...]]:
    return connection.execute(query).fetchall()


def status(connection: Connection) -> TransactionStatus:
    return connection.info.transaction_status


@pytest.fixture
def table(proxied: Proxied) -> Iterator[str]:
    """An empty table."""
    with proxied.direct() as directly:
        directly.execute("CREATE TABLE transacted (id int PRIMARY KEY)")
    yield "transacted"
    with proxied.direct() as directly:
        directly.execute("DROP TABLE transacted")


@POOLS
def test_what_is_committed_stays_and_what_is_rolled_back_does_not(
    proxied: Proxied, pool: str, table: str
) -> None:
    with proxied.connect(pool) as client, proxied.direct() as directly:
        client.execute("BEGIN")
        assert status(client) == TransactionStatus.INTRANS
        client.execute("INSERT INTO transacted VALUES (1)")
        client.execute("COMMIT")
        assert status(client) == TransactionStatus.IDLE
        client.execute("BEGIN")
        client.execute("INSERT INTO transacted VALUES (2)")
        client.execute("ROLLBACK")
        assert rows(directly, "SELECT id FROM transacted") == [(1,)]


def insert_in_savepoint(client: Connection, *numbers: int) -> None:
    with client.transaction():
        for number in numbers:
            client.execute("INSERT INTO transacted VALUES (%s)", (number,))


@POOLS
def test_savepoints_roll_back_to_where_they_were(
    proxied: Proxied, pool: str, table: str
) -> None:
    with proxied.connect(pool) as client:
        with client.transaction():
            client.execute("INSERT INTO transacted VALUES (1)")
            with pytest.raises(psycopg.errors.UniqueViolation):
                insert_in_savepoint(client, 2, 1)
            with client.transaction():
                client.execute("INSERT INTO transacted VALUES (3)")
        assert rows(client, "SELECT id FROM transacted ORDER BY id") == [(1,), (3,)]


@POOLS
def test_a_failed_transaction_is_held_until_it_is_rolled_back(
    proxied: Proxied, pool: str
) -> None:
    with proxied.connect(pool) as client, proxied.connect(pool) as other:
        client.execute("BEGIN")
        with pytest.raises(psycopg.errors.DivisionByZero):
            client.execute("SELECT 1/0")
        assert status(client) == TransactionStatus.INERROR
        for query in ("SELECT 1", "SET TimeZone = 'UTC'", "BEGIN"):
            with pytest.raises(psycopg.errors.InFailedSqlTransaction):
                client.execute(query)
        assert client.execute("COMMIT").statusmessage == "ROLLBACK"
        assert status(client) == TransactionStatus.IDLE
        assert rows(other, "SELECT 1") == [(1,)]


@POOLS
def test_a_chained_commit_stays_in_a_transaction_on_the_same_server(
    proxied: Proxied, pool: str
) -> None:
    with proxied.connect(pool) as client:
        client.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        [first] = rows(client, "SELECT pg_backend_pid()")
        client.execute("COMMIT AND CHAIN")
        assert status(client) == TransactionStatus.INTRANS
        assert rows(client, "SHOW transaction_isolation") == [("repeatable read",)]
        assert rows(client, "SELECT pg_backend_pid()") == [first]
        client.execute("ROLLBACK AND CHAIN")
        assert status(client) == TransactionStatus.INTRANS
        client.execute("COMMIT")
        assert status(client) == TransactionStatus.IDLE


@POOLS
@pytest.mark.parametrize(
    ("query", "after"),
    [
        ("SELECT 1; SELECT 2", TransactionStatus.IDLE),
        ("SELECT 1; BEGIN; SELECT 2", TransactionStatus.INTRANS),
        ("BEGIN; SELECT 1; COMMIT; SELECT 2", TransactionStatus.IDLE),
        ("BEGIN; COMMIT; BEGIN", TransactionStatus.INTRANS),
        ("SELECT '; BEGIN; '; -- BEGIN\n/* ; BEGIN; */ SELECT 2", TransactionStatus.IDLE),
    ],
)
def test_the_server_is_held_when_several_statements_end_in_a_transaction(
    proxied: Proxied, pool: str, query: str, after: TransactionStatus
) -> None:
    with proxied.connect(pool) as client:
        client.execute(query)
        assert status(client) == after
        if after == TransactionStatus.INTRANS:
            [first] = rows(client, "SELECT pg_backend_pid()")
            assert rows(client, "SELECT pg_backend_pid()") == [first]
            client.execute("COMMIT")
        assert status(client) == TransactionStatus.IDLE


@POOLS
def test_an_error_amid_several_statements_undoes_those_before_it(
    proxied: Proxied, pool: str, table: str
) -> None:
    with proxied.libpq(pool) as client:
        client.send_query(b"INSERT INTO transacted VALUES (1); SELECT 1/0; SELECT 2")
        statuses = []
        while (result := client.get_result()) is not None:
            statuses.append(result.status)
        assert statuses == [pq.ExecStatus.COMMAND_OK, pq.ExecStatus.FATAL_ERROR]
        count = client.exec_(b"SELECT count(*) FROM transacted")
        assert count.get_value(0, 0) == b"0"


@pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE, STATEMENT])
@pytest.mark.parametrize(
    "query", [b"", b";", b";;", b"  \n", b"-- only a comment", b"/* c */ ;"]
)
def test_an_empty_query_is_answered_as_one(proxied: Proxied, pool: str, query: bytes) -> None:
    with proxied.libpq(pool) as client:
        assert client.exec_(query).status == pq.ExecStatus.EMPTY_QUERY
        assert client.exec_params(query, None).status == pq.ExecStatus.EMPTY_QUERY
        assert client.exec_(b"SELECT 1").get_value(0, 0) == b"1"


@POOLS
def test_a_storm_of_notices_arrives_whole_and_in_order(proxied: Proxied, pool: str) -> None:
    count, long = 5_000, 200_000
    heard: list[str | None] = []
    with proxied.connect(pool) as client:
        client.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        client.execute(
            f"DO $$ BEGIN FOR i IN 1..{count} LOOP RAISE NOTICE 'number %', i; END LOOP;"
            f" RAISE NOTICE '%', repeat('x', {long}); END $$"
        )
        assert rows(client, "SELECT 1") == [(1,)]
    assert heard == [*(f"number {i + 1}" for i in range(count)), "x" * long]


@POOLS
def test_notices_between_rows_do_not_disturb_them(proxied: Proxied, pool: str) -> None:
    heard: list[str | None] = []
    with proxied.direct() as directly:
        directly.execute(
            "CREATE OR REPLACE FUNCTION speak(i int) RETURNS int LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE NOTICE 'row %', i; RETURN i; END $$"
        )
    with proxied.connect(pool) as client:
        client.add_notice_handler(lambda notice: heard.append(notice.message_primary))
        found = client.execute("SELECT speak(i) FROM generate_series(1, 100) i").fetchall()
    assert found == [(i + 1,) for i in range(100)]
    assert heard == [f"row {i + 1}" for i in range(100)]


def test_a_procedure_may_commit(proxied: Proxied, table: str) -> None:
    with proxied.connect(SINGLE) as client, proxied.connect(SINGLE) as other:
        client.execute(
            "CREATE OR REPLACE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO transacted VALUES (1); COMMIT;"
            " INSERT INTO transacted VALUES (2); ROLLBACK; END $$"
        )
        client.execute("CALL commits()")
        assert status(client) == TransactionStatus.IDLE
        assert rows(other, "SELECT id FROM transacted") == [(1,)]


def test_a_transaction_blocks_the_only_server_until_it_ends(proxied: Proxied) -> None:
    with proxied.connect(SINGLE) as client, proxied.libpq(SINGLE) as waiting:
        client.execute("BEGIN")
        waiting.send_query(b"SELECT 'served'")
        waiting.flush()
        wait_until(
            "the other client waits",
            lambda: proxied.router.pool(SINGLE)["cl_waiting"] == "1",
        )
        client.execute("COMMIT")
        result = waiting.get_result()
        assert result is not None
        assert result.get_value(0, 0) == b"served"
        assert proxied.router.pool(SINGLE)["cl_waiting"] == "0"


def test_statement_mode_ends_a_session_that_begins_a_transaction(proxied: Proxied) -> None:
    with proxied.connect(STATEMENT) as client:
        assert rows(client, "SELECT 1") == [(1,)]
        client.execute("BEGIN")
        with pytest.raises(psycopg.OperationalError):
            client.execute("SELECT 1")
        assert client.closed
    with proxied.connect(STATEMENT) as client:
        assert status(client) == TransactionStatus.IDLE
        assert rows(client, "SELECT 1") == [(1,)]


@POOLS
def test_many_simple_queries_in_one_write_are_each_answered(
    proxied: Proxied, pool: str
) -> None:
    with proxied.libpq(pool) as client:
        client.enter_pipeline_mode()
        for number in range(1_000):
            client.send_query_params(b"SELECT %d" % number, None)
            client.pipeline_sync()
        found: list[bytes | None] = []
        while len(found) < 1_000:
            result = client.get_result()
            if result is not None and result.status == pq.ExecStatus.TUPLES_OK:
                found.append(result.get_value(0, 0))
    assert found == [b"%d" % number for number in range(1_000)]
