"""What a client leaves on a server connection is gone before the next client gets it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.support.router import wait_until

from .conftest import SESSION, SINGLE

if TYPE_CHECKING:
    from .conftest import Connection, Proxied

# What a client leaves, how the next one would see it, and what it sees on a clean connection.
LEFT = {
    "a temporary table": (
        "CREATE TEMP TABLE left_behind (a int)",
        "SELECT to_regclass('pg_temp.left_behind')",
        None,
    ),
    "a temporary table by pg_temp": (
        "CREATE TABLE pg_temp.left_behind (a int)",
        "SELECT to_regclass('pg_temp.left_behind')",
        None,
    ),
    "a temporary table by SELECT INTO": (
        "SELECT 1 AS a INTO TEMPORARY left_behind",
        "SELECT to_regclass('pg_temp.left_behind')",
        None,
    ),
    "an advisory lock": (
        "SELECT pg_advisory_lock(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        0,
    ),
    "a shared advisory lock": (
        "SELECT pg_try_advisory_lock_shared(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
        0,
    ),
    "a LISTEN": ("LISTEN left_behind", "SELECT count(*) FROM pg_listening_channels()", 0),
    "a cursor WITH HOLD": (
        "DECLARE left_behind CURSOR WITH HOLD FOR SELECT 1",
        "SELECT count(*) FROM pg_cursors WHERE name = 'left_behind'",
        0,
    ),
    "a prepared statement of SQL": (
        "PREPARE left_behind AS SELECT 1",
        "SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_behind'",
        0,
    ),
    "a setting": ("SET work_mem = '3MB'", "SHOW work_mem", "4MB"),
    "a role": ("SET ROLE pg_monitor", "SELECT current_user", "postgres"),
    "a sequence's last value": (
        "CREATE TEMP SEQUENCE left_behind; SELECT nextval('left_behind')",
        "SELECT to_regclass('pg_temp.left_behind')",
        None,
    ),
    "what an anonymous block did": (
        "DO $$ BEGIN EXECUTE 'CREATE TEMP' || 'ORARY TABLE left_behind (a int)'; END $$",
        "SELECT to_regclass('pg_temp.left_behind')",
        None,
    ),
}

# What no command takes away.
FOR_GOOD = {
    "the random seed": "SELECT setseed(0.25)",
    "a library": "LOAD 'plpgsql'",
}


def seen(connection: Connection, probe: str) -> object:
    row = connection.execute(probe).fetchone()
    assert row is not None
    return row[0]


@pytest.mark.parametrize("prepared", [False, True], ids=["simple", "prepared"])
@pytest.mark.parametrize(("leave", "probe", "clean"), LEFT.values(), ids=LEFT)
def test_nothing_is_left_for_the_next_client_of_a_transaction_pool(
    proxied: Proxied, leave: str, probe: str, clean: object, prepared: bool
) -> None:
    if prepared and ";" in leave and not leave.startswith("DO"):
        pytest.skip("a prepared statement is a single one")
    with proxied.connect(SINGLE) as client, proxied.connect(SINGLE) as other:
        backend = seen(other, "SELECT pg_backend_pid()")
        client.execute(leave, prepare=True if prepared else None)
        assert seen(other, probe) == clean
        # It was cleaned, not thrown away.
        assert seen(other, "SELECT pg_backend_pid()") == backend


def test_a_table_that_is_temporary_by_the_search_path_is_gone_as_well(proxied: Proxied) -> None:
    path = "-c search_path=pg_temp,public"
    with proxied.connect(SINGLE, options=path) as client, proxied.connect(SINGLE) as other:
        backend = seen(other, "SELECT pg_backend_pid()")
        client.execute("CREATE TABLE left_behind (a int)")
        assert seen(other, "SELECT to_regclass('pg_temp.left_behind')") is None
        assert seen(other, "SELECT pg_backend_pid()") == backend


@pytest.mark.parametrize("leave", FOR_GOOD.values(), ids=FOR_GOOD)
def test_a_connection_that_cannot_be_cleaned_is_closed(proxied: Proxied, leave: str) -> None:
    with proxied.connect(SINGLE) as client, proxied.connect(SINGLE) as other:
        backend = seen(other, "SELECT pg_backend_pid()")
        client.execute(leave)
        assert seen(other, "SELECT pg_backend_pid()") != backend


@pytest.mark.parametrize(("leave", "probe", "clean"), LEFT.values(), ids=LEFT)
def test_nothing_is_left_within_an_open_transaction_of_a_client_that_leaves(
    proxied: Proxied, leave: str, probe: str, clean: object
) -> None:
    client = proxied.connect(SINGLE)
    client.execute("BEGIN")
    client.execute(leave)
    client.close()
    with proxied.connect(SINGLE) as other:
        assert seen(other, probe) == clean
        assert other.info.transaction_status == TransactionStatus.IDLE


@pytest.mark.parametrize(("leave", "probe", "clean"), LEFT.values(), ids=LEFT)
def test_nothing_is_left_for_the_next_client_of_a_session_pool(
    proxied: Proxied, leave: str, probe: str, clean: object
) -> None:
    client = proxied.connect(SESSION)
    client.execute(leave)
    backend = seen(client, "SELECT pg_backend_pid()")
    client.close()
    wait_until(
        "the server is given back",
        lambda: (
            proxied.router.pool(SESSION)["sv_active"] == "0"
            and proxied.router.pool(SESSION)["sv_tested"] == "0"
        ),
    )
    clients = [proxied.connect(SESSION) for _ in range(8)]
    backends = {seen(client, "SELECT pg_backend_pid()"): client for client in clients}
    assert seen(backends[backend], probe) == clean
    for client in clients:
        client.close()


@pytest.mark.parametrize(
    ("keep", "probe", "kept"),
    [
        ("CREATE TEMP TABLE mine AS SELECT 7 AS a", "SELECT a FROM mine", 7),
        ("DECLARE mine CURSOR WITH HOLD FOR SELECT 7", "FETCH mine", 7),
        ("PREPARE mine AS SELECT 7", "EXECUTE mine", 7),
        ("SET work_mem = '7MB'", "SHOW work_mem", "7MB"),
        ("SELECT set_config('my.own', '7', false)", "SHOW my.own", "7"),
    ],
)
def test_a_session_pool_keeps_what_its_client_made(
    proxied: Proxied, keep: str, probe: str, kept: object
) -> None:
    with proxied.connect(SESSION) as client, proxied.connect(SESSION) as other:
        client.execute(keep)
        assert seen(other, "SELECT 1") == 1
        assert seen(client, probe) == kept


def test_a_cursor_without_hold_ends_with_its_transaction(proxied: Proxied) -> None:
    with proxied.connect(SINGLE) as client:
        with client.transaction():
            client.execute("DECLARE brief CURSOR FOR SELECT 1")
            assert seen(client, "FETCH brief") == 1
        with pytest.raises(psycopg.errors.InvalidCursorName):
            client.execute("FETCH brief")


def test_a_lock_of_a_client_that_left_is_free_for_others(proxied: Proxied) -> None:
    client = proxied.connect(SINGLE)
    client.execute("SELECT pg_advisory_lock(815)")
    client.close()
    with proxied.connect(SINGLE) as other, proxied.direct() as directly:
        assert seen(other, "SELECT 1") == 1
        assert seen(directly, "SELECT pg_try_advisory_lock(815)") is True
