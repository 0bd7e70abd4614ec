"""Limits and sockets, with a real server and real clients."""

from __future__ import annotations

import collections
import itertools
import os
import re
import shutil
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from tests.support.router import (
    ADMIN,
    ADMIN_PASSWORD,
    HOST,
    PoolText,
    RouterProcess,
    config_text,
    start,
    wait_until,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.cluster.server import Server
    from tests.support.postgres import Database

SECOND = (
    '[pools.{name}.users.1]\nusername = "second"\nauth_type = "trust"\npool_size = 5\n'
    'server_username = "postgres"\nserver_password = ""'
)


@pytest.fixture(scope="module")
def sockets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("s")


@pytest.fixture(scope="module")
def router(
    module_router: ModuleRouter, pool_for: PoolFor, sockets: Path, database: Database
) -> RouterProcess:
    def pool(name: str, options: str = "", size: int = 5) -> PoolText:
        made = pool_for(size=size, options=options)
        made.more_users = SECOND.format(name=name)
        return made

    pools = {
        "few": pool("few", "max_db_client_connections = 2"),
        "shared": pool("shared", "max_db_connections = 2\nconnect_timeout = 60000"),
        "impatient": pool("impatient", "max_db_connections = 1\nconnect_timeout = 200"),
        "queue": pool("queue", "max_waiting_clients = 1\nconnect_timeout = 60000", size=1),
        "slow": pool("slow", "query_timeout = 200"),
        "long": pool("long", "transaction_timeout = 200"),
        "idle": pool("idle", "client_idle_timeout = 200"),
        "plain": pool("plain"),
    }
    unix = PoolText(
        [[(str(database.server.data_dir.parent), database.server.port, "primary")]],
        database=database.name,
    )
    pools["unix"] = unix
    general = f'max_client_conn = 20\nunix_socket_dir = "{sockets}"\nunix_socket_mode = 0o700'
    return module_router(pools, general)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def connect(
    router: RouterProcess, stack: ExitStack, pool: str, user: str = "postgres"
) -> psycopg.Connection[tuple[object, ...]]:
    return stack.enter_context(router.connect(pool, user))


def answer(client: psycopg.Connection[tuple[object, ...]]) -> psycopg.pq.abc.PGresult:
    """What has come of a statement that was sent by `send_query`."""
    result = client.pgconn.get_result()
    assert result is not None
    assert client.pgconn.get_result() is None
    return result


def limit(router: RouterProcess, key: str, name: str = "") -> dict[str, str]:
    rows = router.admin("SHOW LIMITS")
    return next(row for row in rows if row["limit"] == key and row["name"].startswith(name))


def timeouts(router: RouterProcess) -> dict[str, int]:
    return {row["kind"]: int(row["total"]) for row in router.admin("SHOW TIMEOUTS")}


def test_a_database_takes_no_more_clients_than_it_may(
    router: RouterProcess, stack: ExitStack
) -> None:
    connect(router, stack, "few")
    connect(router, stack, "few", "second")
    with pytest.raises(psycopg.OperationalError) as caught:
        router.connect("few")
    assert 'FATAL:  too many connections for database "few"' in str(caught.value)
    assert "2 of 2 (max_db_client_connections): 1 postgres, 1 second" in str(caught.value)
    assert limit(router, "max_db_client_connections", "few")["used"] == "2"
    stack.close()
    wait_until(
        "both have gone",
        lambda: limit(router, "max_db_client_connections", "few")["used"] == "0",
    )
    connect(router, stack, "few")


def test_administrators_get_in_when_nobody_else_does(
    router: RouterProcess, stack: ExitStack
) -> None:
    before = int(limit(router, "max_client_conn")["used"])
    for _ in range(20 - before):
        connect(router, stack, "plain")
    with pytest.raises(psycopg.OperationalError, match="sorry, too many clients already"):
        router.connect("plain")
    found = limit(router, "max_client_conn")
    assert (found["value"], found["used"]) == ("20", "20")
    assert int(found["refused"]) >= 1

    def is_logged() -> bool:
        with pytest.raises(psycopg.OperationalError, match="sorry"):
            router.connect("plain")  # a line a second is logged
        return re.search(r"sorry, .*there are .* plain/postgres", router.log()) is not None

    wait_until("the log says who has the places", is_logged)


def test_users_of_a_database_share_its_connections(
    router: RouterProcess, stack: ExitStack
) -> None:
    ours = [connect(router, stack, "shared") for _ in range(2)]
    for each in ours:
        each.execute("SELECT 1")
    other = connect(router, stack, "shared", "second")
    for each in ours:
        each.execute("BEGIN")
    # The second user's statement waits until one of the transactions is over.
    other.pgconn.send_query(b"SELECT 'served'")
    wait_until("it waits", lambda: router.pool("shared", "second")["cl_waiting"] == "1")
    assert limit(router, "max_db_connections", "shared")["waiting"] == "1"
    ours[0].execute("COMMIT")
    assert answer(other).get_value(0, 0) == b"served"
    ours[1].execute("COMMIT")
    found = limit(router, "max_db_connections", "shared")
    assert (found["value"], found["used"], found["waiting"]) == ("2", "2", "0")


def test_who_gets_none_is_told_who_has_them(router: RouterProcess, stack: ExitStack) -> None:
    holder = connect(router, stack, "impatient")
    holder.execute("SELECT 1")
    # The login of the first client of a user takes the place of what is idle.
    second = connect(router, stack, "impatient", "second")
    holder.execute("BEGIN")
    with pytest.raises(errors.TooManyConnections) as caught:
        second.execute("SELECT 1")
    assert "max_db_connections = 1" in str(caught.value)
    assert "In use are 1 of 1: 1 impatient/postgres." in str(caught.value)
    with pytest.raises(psycopg.OperationalError, match="max_db_connections = 1"):
        second.execute("SELECT 1")
    holder.execute("COMMIT")
    assert second.execute("SELECT 2").fetchone() == (2,)
    assert holder.execute("SELECT 3").fetchone() == (3,)


def test_too_many_waiting_clients_are_turned_away_at_once(
    router: RouterProcess, stack: ExitStack
) -> None:
    holder, waiting, third = (connect(router, stack, "queue") for _ in range(3))
    holder.execute("BEGIN")
    waiting.pgconn.send_query(b"SELECT 1")
    wait_until("it waits", lambda: router.pool("queue")["cl_waiting"] == "1")
    began = time.monotonic()
    with pytest.raises(errors.TooManyConnections, match="max_waiting_clients = 1"):
        third.execute("SELECT 1")
    assert time.monotonic() - began < 30, "it has waited for connect_timeout"
    holder.execute("COMMIT")
    assert answer(waiting).ntuples == 1
    assert third.execute("SELECT 1").fetchone() == (1,)


def test_a_statement_that_takes_too_long_is_cancelled(
    router: RouterProcess, stack: ExitStack
) -> None:
    client = connect(router, stack, "slow")
    with pytest.raises(errors.QueryCanceled):
        client.execute("SELECT pg_sleep(60)")
    assert client.execute("SELECT 1").fetchone() == (1,)
    with client.cursor() as cursor:
        with pytest.raises(errors.QueryCanceled):
            cursor.execute("SELECT pg_sleep(%s)", (60,), prepare=True)
    assert timeouts(router)["query"] == 2


def test_a_transaction_that_takes_too_long_ends_with_its_session(
    router: RouterProcess, stack: ExitStack
) -> None:
    client = connect(router, stack, "long")
    client.execute("BEGIN")
    statements = itertools.repeat("SELECT pg_sleep(0.01)")
    with pytest.raises(psycopg.errors.TransactionTimeout) as caught:
        collections.deque(map(client.execute, statements), maxlen=0)
    assert "terminating connection due to transaction timeout" in str(caught.value)
    assert client.closed
    assert timeouts(router)["transaction"] == 1


def test_a_client_that_is_idle_is_sent_away(router: RouterProcess, stack: ExitStack) -> None:
    client = connect(router, stack, "idle")
    wait_until("it is sent away", lambda: timeouts(router)["client_idle"] == 1)
    with pytest.raises(psycopg.OperationalError, match="due to idle-session timeout"):
        client.execute("SELECT 1")


def test_psql_connects_by_the_unix_socket(
    router: RouterProcess, sockets: Path, stack: ExitStack
) -> None:
    assert shutil.which("psql") is not None
    done = subprocess.run(
        ["psql", "-XAt", "-c", "SELECT 'by socket'"],
        env={
            **os.environ,
            "PGHOST": str(sockets),
            "PGPORT": str(router.port),
            "PGUSER": "postgres",
            "PGDATABASE": "plain",
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "by socket"
    dsn = f"host={sockets} port={router.port} dbname=plain user=postgres"
    with psycopg.connect(dsn) as client:
        pid = client.info.backend_pid
        [row] = [r for r in router.admin("SHOW CLIENTS") if int(r["client_id"], 16) == pid]
        assert row["addr"] == "unix"


def test_an_administrator_connects_by_the_unix_socket(
    router: RouterProcess, sockets: Path
) -> None:
    dsn = (
        f"host={sockets} port={router.port} dbname=pgcat user={ADMIN} password={ADMIN_PASSWORD}"
    )
    with psycopg.connect(dsn, autocommit=True, cursor_factory=psycopg.ClientCursor) as admin:
        assert admin.execute("SHOW VERSION").fetchone() is not None


def test_a_statement_is_cancelled_through_both_unix_sockets(
    router: RouterProcess, sockets: Path
) -> None:
    dsn = f"host={sockets} port={router.port} dbname=unix user=postgres"
    with psycopg.connect(dsn, autocommit=True) as client:
        client.pgconn.send_query(b"SELECT pg_sleep(60)")
        wait_until("it runs", lambda: router.pool("unix")["sv_active"] == "1")
        client.cancel_safe()
        found = answer(client).get_error_message()
        assert "canceling statement due to user request" in found


def test_ipv6_on_both_sides(private_primary: Callable[..., Server], tmp_path: Path) -> None:
    primary = private_primary(listen_addresses="127.0.0.1,::1")
    primary.set_hba(["host all postgres ::1/128 trust"])
    primary.restart()
    pool = PoolText([[("[::1]", primary.port, "primary")]])
    general = f'unix_socket_dir = "{tmp_path}"'
    router = start(
        tmp_path,
        lambda port: config_text(port, {"six": pool}, general).replace(HOST, "*", 1),
    )
    try:
        path = tmp_path / f".s.PGSQL.{router.port}"
        wait_until("the socket is there", path.is_socket)
        for host in ("::1", HOST):
            dsn = f"host={host} port={router.port} dbname=six user=postgres"
            with psycopg.connect(dsn, autocommit=True) as client:
                [row] = client.execute("SELECT host(inet_server_addr())").fetchall()
                assert row == ("::1",)
                client.pgconn.send_query(b"SELECT pg_sleep(60)")
                wait_until("it runs", lambda: router.pool("six")["sv_active"] == "1")
                [found] = [
                    each for each in router.admin("SHOW CLIENTS") if each["database"] == "six"
                ]
                expected = "[::1]:" if host == "::1" else "127.0.0.1:"
                assert found["addr"].startswith(expected)
                client.cancel_safe()
                assert "due to user request" in answer(client).get_error_message()
        router.stop()
        assert not path.exists()
    finally:
        if router.process.poll() is None:
            router.stop()
