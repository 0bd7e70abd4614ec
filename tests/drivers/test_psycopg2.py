"""psycopg2, which speaks the simple protocol, and FunctionCall for large objects."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import psycopg2
import psycopg2.errors
import psycopg2.extras
import pytest

from .conftest import SESSION, SINGLE, TRANSACTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg2.extensions import connection as Connection

    from .conftest import Proxied

POOLS = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])


@pytest.fixture
def client(proxied: Proxied, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A connection through the pool that the test names."""
    connection = psycopg2.connect(proxied.router.dsn(request.param))
    yield connection
    connection.close()


EACH = pytest.mark.parametrize("client", [SESSION, TRANSACTION, SINGLE], indirect=True)


@EACH
def test_a_transaction_block_commits_and_rolls_back(client: Connection) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TABLE psycopg2_rows (id int)")
        cursor.execute("INSERT INTO psycopg2_rows VALUES (%s)", (1,))
        client.commit()
        cursor.execute("INSERT INTO psycopg2_rows VALUES (%s)", (2,))
        client.rollback()
        cursor.execute("SELECT id FROM psycopg2_rows")
        assert cursor.fetchall() == [(1,)]
        cursor.execute("DROP TABLE psycopg2_rows")
        client.commit()


@EACH
def test_a_large_object_is_written_read_sought_and_truncated(client: Connection) -> None:
    content = bytes(range(256)) * 1_000
    large = client.lobject(0, "wb")
    assert large.write(content) == len(content)
    large.close()
    client.commit()
    again = client.lobject(large.oid, "rwb")
    assert again.read() == content
    again.seek(1000)
    assert again.read(10) == content[1000:1010]
    assert again.tell() == 1010
    again.truncate(100)
    again.seek(0)
    assert again.read() == content[:100]
    again.unlink()
    client.commit()


@EACH
def test_a_large_object_that_does_not_exist_fails_the_transaction_only(
    client: Connection,
) -> None:
    with pytest.raises(psycopg2.OperationalError, match="does not exist"):
        client.lobject(1, "r")
    with client.cursor() as cursor:
        with pytest.raises(psycopg2.errors.InFailedSqlTransaction):
            cursor.execute("SELECT 1")
        client.rollback()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@EACH
def test_files_are_copied_in_and_out(client: Connection) -> None:
    lines = "".join(f"{number}\tline {number}\n" for number in range(5_000))
    with client.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE copied (id int, line text) ON COMMIT DROP")
        cursor.copy_expert("COPY copied FROM STDIN", io.StringIO(lines))
        out = io.StringIO()
        cursor.copy_expert("COPY (SELECT * FROM copied ORDER BY id) TO STDOUT", out)
        assert out.getvalue() == lines
    client.rollback()


@EACH
def test_a_bad_line_in_a_copy_is_an_error_and_the_connection_goes_on(
    client: Connection,
) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE numbers (id int) ON COMMIT DROP")
        with pytest.raises(psycopg2.errors.InvalidTextRepresentation):
            cursor.copy_expert("COPY numbers FROM STDIN", io.StringIO("1\nx\n" * 20_000))
        client.rollback()
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    client.rollback()


@EACH
def test_a_named_cursor_walks_a_long_result(client: Connection) -> None:
    with client.cursor(name="walker") as cursor:
        cursor.itersize = 100
        cursor.execute("SELECT i FROM generate_series(1, 1000) i")
        assert [row[0] for row in cursor] == list(range(1, 1001))
    client.commit()


@EACH
def test_many_rows_are_inserted_by_multi_row_and_batched_statements(
    client: Connection,
) -> None:
    with client.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE many (id int) ON COMMIT DROP")
        rows = [(number,) for number in range(1_000)]
        psycopg2.extras.execute_values(cursor, "INSERT INTO many VALUES %s", rows)
        psycopg2.extras.execute_batch(cursor, "INSERT INTO many VALUES (%s)", rows)
        cursor.execute("SELECT count(*), sum(id) FROM many")
        assert cursor.fetchone() == (2_000, 999_000)
    client.rollback()


@POOLS
def test_session_settings_of_the_driver_hold_for_its_transactions(
    proxied: Proxied, pool: str
) -> None:
    connection = psycopg2.connect(proxied.router.dsn(pool))
    connection.set_session(isolation_level="SERIALIZABLE", readonly=True)
    with connection, connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        assert cursor.fetchone() == ("serializable",)
        with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
            cursor.execute("CREATE TABLE never (a int)")
    connection.set_client_encoding("LATIN1")
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT 'grün'")
        assert cursor.fetchone() == ("grün",)
    connection.close()


def test_a_reset_leaves_a_session_as_it_began(proxied: Proxied) -> None:
    connection = psycopg2.connect(proxied.router.dsn(SESSION))
    with connection.cursor() as cursor:
        cursor.execute("SET work_mem = '7MB'")
        connection.commit()
        connection.reset()
        cursor.execute("SHOW work_mem")
        assert cursor.fetchone() == ("4MB",)
    connection.close()
