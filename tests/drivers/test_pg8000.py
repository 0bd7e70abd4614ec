"""pg8000, a driver that speaks the protocol in Python of its own, without libpq."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pg8000.dbapi
import pg8000.native
import pytest

from .conftest import SESSION, SINGLE, STATEMENT, TRANSACTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .conftest import Proxied

EVERY_POOL = [SESSION, TRANSACTION, SINGLE, STATEMENT]


def connect(proxied: Proxied, pool: str) -> pg8000.native.Connection:
    return pg8000.native.Connection(
        "postgres", host=proxied.router.host, port=proxied.port, database=pool
    )


@pytest.fixture(params=EVERY_POOL)
def client(proxied: Proxied, request: pytest.FixtureRequest) -> Iterator[object]:
    """A connection through each pool."""
    connection = connect(proxied, request.param)
    yield connection
    connection.close()


def test_values_go_there_and_back(client: pg8000.native.Connection) -> None:
    rows = client.run(
        "SELECT CAST(:number AS int), CAST(:text AS text), CAST(:missing AS text),"
        " CAST(:list AS int[])",
        number=7,
        text="ü'\"",
        missing=None,
        list=[1, 2],
    )
    assert rows == [[7, "ü'\"", None, [1, 2]]]


def test_two_prepared_statements_are_used_in_turn(client: pg8000.native.Connection) -> None:
    add = client.prepare("SELECT CAST(:a AS int) + 1")
    double = client.prepare("SELECT CAST(:a AS int) * 2")
    for number in range(5):
        assert add.run(a=number) == [[number + 1]]
        assert double.run(a=number) == [[number * 2]]
    add.close()
    double.close()


def test_an_error_leaves_the_connection_usable(client: pg8000.native.Connection) -> None:
    for _ in range(3):
        with pytest.raises(pg8000.native.DatabaseError) as caught:
            client.run("SELECT 1 / CAST(:zero AS int)", zero=0)
        assert caught.value.args[0]["C"] == "22012"
        assert client.run("SELECT 1") == [[1]]


def test_copy_in_and_out(client: pg8000.native.Connection) -> None:
    client.run("CREATE TABLE pg8000_rows (id int, word text)")
    lines = "".join(f"{number}\tword {number}\n" for number in range(3_000))
    client.run("COPY pg8000_rows FROM STDIN", stream=io.StringIO(lines))
    assert client.row_count == 3_000
    out = io.StringIO()
    client.run("COPY (SELECT * FROM pg8000_rows ORDER BY id) TO STDOUT", stream=out)
    assert out.getvalue() == lines
    client.run("DROP TABLE pg8000_rows")


def test_parameter_statuses_are_there(client: pg8000.native.Connection) -> None:
    assert client.parameter_statuses["server_encoding"] == "UTF8"
    assert client.parameter_statuses["integer_datetimes"] == "on"
    assert client.run("SHOW server_version") == [[client.parameter_statuses["server_version"]]]


@pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])
def test_the_database_api_commits_and_rolls_back(proxied: Proxied, pool: str) -> None:
    connection = pg8000.dbapi.connect(
        "postgres", host=proxied.router.host, port=proxied.port, database=pool
    )
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE pg8000_saved (id int)")
    cursor.executemany("INSERT INTO pg8000_saved VALUES (%s)", [(1,), (2,), (3,)])
    connection.commit()
    cursor.execute("DELETE FROM pg8000_saved")
    connection.rollback()
    cursor.execute("SELECT sum(id) FROM pg8000_saved")
    assert list(cursor.fetchone()) == [6]
    cursor.execute("DROP TABLE pg8000_saved")
    connection.commit()
    connection.close()
