"""Settings follow their client from server to server, and never reach another client."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from .conftest import SESSION, SINGLE, TRANSACTION

if TYPE_CHECKING:
    from .conftest import Connection, Proxied

POOLS = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])
# What a driver may ask for at start-up, and how the server says it.
STARTUP = [
    ("application_name", "an app", "an app"),
    ("application_name", 'it\'s \\ "quoted"; SELECT', 'it\'s \\ "quoted"; SELECT'),
    ("client_encoding", "latin1", "LATIN1"),
    ("client_encoding", "utf-8", "UTF8"),
    ("datestyle", "German", "German, DMY"),
    ("datestyle", "SQL, DMY", "SQL, DMY"),
    ("IntervalStyle", "iso_8601", "iso_8601"),
    ("timezone", "Europe/Vienna", "Europe/Vienna"),
    ("timezone", "<+03>-03", "<+03>-03"),
    ("search_path", "pg_catalog", "pg_catalog"),
    ("statement_timeout", "12345", "12345ms"),
    ("work_mem", "1234kB", "1234kB"),
    ("extra_float_digits", "2", "2"),
    ("standard_conforming_strings", "off", "off"),
    ("my.custom", "x", "x"),
]


def show(connection: Connection, name: str) -> object:
    row = connection.execute(sql.SQL("SHOW {}").format(sql.SQL(name))).fetchone()
    assert row is not None
    return row[0]


def as_options(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace(" ", "\\ ")
    return f"-c {name}={escaped}"


@POOLS
@pytest.mark.parametrize(("name", "value", "shown"), STARTUP)
def test_options_at_start_are_in_force_and_stay_with_their_client(
    proxied: Proxied, pool: str, name: str, value: str, shown: str
) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(proxied.connect(pool, options=as_options(name, value)))
        plain = stack.enter_context(proxied.connect(pool))
        directly = stack.enter_context(proxied.direct(options=as_options(name, value)))
        plainly = stack.enter_context(proxied.direct())
        assert show(directly, name) == shown
        for _ in range(2):
            assert show(client, name) == shown
            if name not in ("my.custom", "application_name"):
                assert show(plain, name) == show(plainly, name)
            reported = client.info.parameter_status(_spelled(name))
            assert reported == directly.info.parameter_status(_spelled(name))


def _spelled(name: str) -> str:
    return {"datestyle": "DateStyle", "timezone": "TimeZone"}.get(name, name)


@POOLS
def test_a_setting_goes_with_its_client_and_with_nobody_else(
    proxied: Proxied, pool: str
) -> None:
    with proxied.connect(pool) as client, proxied.connect(pool) as other:
        client.execute("SET TimeZone = 'Asia/Tokyo'")
        client.execute("SET application_name = 'set by hand'")
        for _ in range(2):
            assert show(other, "TimeZone") != "Asia/Tokyo"
            assert show(other, "application_name") != "set by hand"
            assert show(client, "TimeZone") == "Asia/Tokyo"
            assert show(client, "application_name") == "set by hand"
            assert client.info.parameter_status("TimeZone") == "Asia/Tokyo"
            assert other.info.parameter_status("TimeZone") != "Asia/Tokyo"


@pytest.mark.parametrize(
    "statement",
    [
        "SET work_mem = '3MB'",
        "SELECT set_config('work_mem', '3MB', false)",
        "DO $$ BEGIN SET work_mem = '3MB'; END $$",
        "SET SESSION work_mem = '3MB'; SELECT 1",
        "/* hidden */ sEt work_mem TO '3MB'",
        "BEGIN; SET work_mem = '3MB'; COMMIT",
    ],
)
def test_no_way_of_setting_reaches_the_next_client(proxied: Proxied, statement: str) -> None:
    with proxied.connect(SINGLE) as client, proxied.connect(SINGLE) as other:
        before = show(other, "work_mem")
        client.execute(statement)
        assert show(other, "work_mem") == before


@pytest.mark.parametrize(
    ("statement", "show_user"),
    [
        ("SET ROLE pg_monitor", "current_user"),
        ("SET SESSION AUTHORIZATION app_scram", "session_user"),
    ],
)
def test_no_role_reaches_the_next_client(
    proxied: Proxied, statement: str, show_user: str
) -> None:
    with proxied.connect(SINGLE) as client, proxied.connect(SINGLE) as other:
        client.execute(statement)
        assert other.execute(f"SELECT {show_user}").fetchone() == ("postgres",)


@POOLS
def test_set_local_ends_with_its_transaction(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool) as client:
        before = show(client, "TimeZone")
        with client.transaction():
            client.execute("SET LOCAL TimeZone = 'Asia/Tokyo'")
            assert show(client, "TimeZone") == "Asia/Tokyo"
            assert client.info.parameter_status("TimeZone") == "Asia/Tokyo"
        assert show(client, "TimeZone") == before
        assert client.info.parameter_status("TimeZone") == before


@POOLS
def test_a_setting_that_is_rolled_back_is_gone(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool, autocommit=False) as client:
        before = show(client, "DateStyle")
        client.execute("SET DateStyle = 'German'")
        assert client.info.parameter_status("DateStyle") == "German, DMY"
        client.rollback()
        assert show(client, "DateStyle") == before
        assert client.info.parameter_status("DateStyle") == before


@POOLS
@pytest.mark.parametrize("reset", ["RESET ALL", "RESET application_name", "DISCARD ALL"])
def test_reset_goes_back_to_what_the_client_asked_for_at_start(
    proxied: Proxied, pool: str, reset: str
) -> None:
    with proxied.connect(pool, application_name="started so") as client:
        client.execute("SET application_name = 'changed'")
        assert show(client, "application_name") == "changed"
        client.execute(reset)
        assert show(client, "application_name") == "started so"
        assert client.info.parameter_status("application_name") == "started so"


@POOLS
def test_the_client_is_told_what_the_server_tells(proxied: Proxied, pool: str) -> None:
    names = (
        *("server_version", "server_encoding", "client_encoding", "DateStyle", "TimeZone"),
        *("IntervalStyle", "integer_datetimes", "standard_conforming_strings", "is_superuser"),
        *("session_authorization", "in_hot_standby", "default_transaction_read_only"),
        *("scram_iterations", "search_path"),
    )
    with proxied.connect(pool) as client, proxied.direct() as directly:
        told = {name: client.info.parameter_status(name) for name in names}
        assert told == {name: directly.info.parameter_status(name) for name in names}


@POOLS
def test_a_start_up_setting_that_does_not_exist_is_refused(proxied: Proxied, pool: str) -> None:
    with pytest.raises(psycopg.Error, match="no_such_setting"):
        with proxied.connect(pool, options="-c no_such_setting=1") as client:
            client.execute("SELECT 1")
    with proxied.connect(pool) as client:
        assert client.execute("SELECT 1").fetchone() == (1,)


def test_one_text_means_different_tables_with_different_search_paths(proxied: Proxied) -> None:
    with proxied.direct() as directly:
        for schema in ("path_a", "path_b"):
            directly.execute(f"CREATE SCHEMA {schema}")
            directly.execute(f"CREATE TABLE {schema}.named AS SELECT '{schema}' AS place")
    query = "SELECT place FROM named"
    with (
        proxied.connect(SINGLE, options="-c search_path=path_a") as first,
        proxied.connect(SINGLE, options="-c search_path=path_b") as second,
    ):
        first.prepare_threshold = second.prepare_threshold = 0
        for _ in range(2):
            assert first.execute(query).fetchone() == ("path_a",)
            assert second.execute(query).fetchone() == ("path_b",)
        with first.transaction():
            first.execute("SET LOCAL search_path = path_b")
            assert first.execute(query).fetchone() == ("path_b",)
    with proxied.direct() as directly:
        directly.execute("DROP SCHEMA path_a, path_b CASCADE")
