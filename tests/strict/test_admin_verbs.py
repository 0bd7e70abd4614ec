"""What administrators do to pools, clients and servers, with PostgreSQL behind the router."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.router import ADMIN, ADMIN_PASSWORD, RouterProcess, wait_until
from tests.support.wire import WireClient, kinds, query, sqlstates, startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from tests.strict.conftest import PoolFor
    from tests.support.postgres import Database

    StartRouter = Callable[..., RouterProcess]

POOLS = ("one", "two")


@pytest.fixture
def router(start_router: StartRouter, pool_for: PoolFor) -> RouterProcess:
    """One with two pools of two connections in transaction mode, and one in session mode."""
    pools = {name: pool_for(size=2) for name in POOLS}
    return start_router({**pools, "session": pool_for(size=2, mode="session")})


@contextmanager
def in_background(router: RouterProcess, sql: str) -> Iterator[Future[list[dict[str, str]]]]:
    """A command of an administrator that may take its time."""
    with ThreadPoolExecutor(1) as executor:
        yield executor.submit(router.admin, sql)


def column(router: RouterProcess, table: str, key: str, row: str, name: str) -> str:
    """One value of a SHOW."""
    [found] = [each for each in router.admin(table) if each[key] == row]
    return found[name]


def notice(router: RouterProcess, sql: str) -> str:
    """What a command says that it has done."""
    said: list[str] = []
    dsn = router.dsn("pgcat", ADMIN, ADMIN_PASSWORD)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.add_notice_handler(
            lambda diagnostic: said.append(diagnostic.message_primary or "")
        )
        connection.execute(sql)
    return "; ".join(said)


def pid_of(client: WireClient) -> str:
    """The backend that serves a client at the moment."""
    return str(client.value("SELECT pg_backend_pid()"))


def backends(database: Database) -> set[str]:
    """The connections that the router has."""
    found = database.execute(
        "SELECT pid::text FROM pg_stat_activity WHERE datname = current_database()"
        " AND application_name <> 'watching' AND pid <> pg_backend_pid()"
    )
    return {str(pid) for (pid,) in found}


def sleeps(database: Database) -> bool:
    """Whether a backend has begun to sleep: a cancel request before that would do nothing."""
    sql = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event = 'PgSleep'"
    )
    return bool(database.execute(sql))


# --- PAUSE, RESUME


def test_pause_closes_the_connections_and_clients_wait_for_resume(
    router: RouterProcess, database: Database
) -> None:
    with WireClient.login(router.port, "one") as client:
        before = pid_of(client)
        assert notice(router, "PAUSE one") == "paused now: one/postgres"
        wait_until("the backend has ended", lambda: before not in backends(database))
        assert column(router, "SHOW DATABASES", "pool", "one", "current_connections") == "0"
        assert column(router, "SHOW POOLS", "database", "one", "paused") == "1"
        assert column(router, "SHOW POOLS", "database", "two", "paused") == "0"
        client.send(query("SELECT 'waited'"))
        wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
        with WireClient.login(router.port, "two") as other:
            assert other.value("SELECT 1") == "1", "the other pool goes on"
        assert notice(router, "RESUME one") == "resumed now: one/postgres"
        assert kinds(client.read_until("Z")) == "TDCZ"
        assert pid_of(client) != before
        assert column(router, "SHOW POOLS", "database", "one", "paused") == "0"


@pytest.mark.parametrize("pool", ["one", "session"])
def test_pause_returns_when_the_last_transaction_is_over(
    router: RouterProcess, pool: str
) -> None:
    with WireClient.login(router.port, pool) as client:
        client.query("BEGIN")
        with in_background(router, f"PAUSE {pool}, postgres") as pausing:
            wait_until("it is paused", lambda: router.pool(pool)["paused"] == "1")
            assert client.value("SELECT 1") == "1", "the transaction goes on"
            assert not pausing.done()
            client.query("COMMIT")
            if pool == "session":
                assert client.value("SELECT 1") == "1", "as long as the session"
                assert not pausing.done()
                client.close()
            pausing.result()
        assert column(router, "SHOW DATABASES", "pool", pool, "current_connections") == "0"
    router.admin("RESUME")


def test_a_pause_that_is_resumed_returns_too(router: RouterProcess) -> None:
    with WireClient.login(router.port, "one") as client:
        client.query("BEGIN")
        with in_background(router, "PAUSE") as pausing:
            wait_until("all are paused", lambda: router.pool("two")["paused"] == "1")
            router.admin("RESUME")
            pausing.result()
        assert client.query("COMMIT") == []
        assert client.value("SELECT 1") == "1"


def test_clients_wait_longer_than_they_would_for_a_server(
    start_router: StartRouter, pool_for: PoolFor
) -> None:
    router = start_router({"one": pool_for(options="connect_timeout = 200")})
    with WireClient.login(router.port, "one") as client:
        assert client.value("SELECT 1") == "1"
        router.admin("PAUSE")
        client.send(query("SELECT 1"))
        wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
        wait_until(
            "its time would be over",
            lambda: (
                int(router.pool("one")["maxwait_us"]) > 400_000
                or int(router.pool("one")["maxwait"]) > 0
            ),
        )
        assert not client.has_input()
        router.admin("RESUME")
        assert kinds(client.read_until("Z")) == "TDCZ"


def test_the_first_login_waits_as_well(start_router: StartRouter, pool_for: PoolFor) -> None:
    router = start_router({"two": pool_for()}, "validate_config = false")
    router.admin("PAUSE")
    with ThreadPoolExecutor(1) as executor:
        login = executor.submit(WireClient.login, router.port, "two")
        for _ in range(10):
            assert router.pool("two")["sv_login"] == "0"
        assert not login.done()
        router.admin("RESUME")
        with login.result() as client:
            assert client.value("SELECT 1") == "1"


def test_a_reload_that_replaces_a_pool_leaves_it_paused(
    router: RouterProcess, pool_for: PoolFor
) -> None:
    with WireClient.login(router.port, "one") as client:
        assert client.value("SELECT 1") == "1"
        router.admin("PAUSE one")
        section = "[pools.one]"
        text = router.config_path.read_text()
        router.reload(text.replace(section, f"{section}\nprepared_statements_cache_size = 7"))
        client.send(query("SELECT 1"))
        wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
        router.admin("RESUME one")
        assert kinds(client.read_until("Z")) == "TDCZ"


def test_all_but_one_stay_paused(router: RouterProcess) -> None:
    assert notice(router, "PAUSE").count("/postgres") == 3
    assert notice(router, "PAUSE") == "paused now: none"
    assert notice(router, "RESUME two") == "resumed now: two/postgres"
    assert [router.pool(name)["paused"] for name in POOLS] == ["1", "0"]
    size = "prepared_statements_cache_size = 7"
    text = router.config_path.read_text()
    for name in POOLS:
        text = text.replace(f"[pools.{name}]", f"[pools.{name}]\n{size}")
    router.reload(text)
    assert [router.pool(name)["paused"] for name in POOLS] == ["1", "0"], "they are new ones"
    assert notice(router, "RESUME") == "resumed now: one/postgres, session/postgres"
    assert notice(router, "RESUME") == "resumed now: none"


# --- RECONNECT, WAIT_CLOSE


def test_reconnect_replaces_connections_as_they_are_released(
    router: RouterProcess, database: Database
) -> None:
    with WireClient.login(router.port, "one") as idle:
        with WireClient.login(router.port, "one") as busy:
            busy.query("BEGIN")
            kept, resting = pid_of(busy), pid_of(idle)
            assert kept != resting
            router.admin("RECONNECT one")
            wait_until("that one is closed", lambda: resting not in backends(database))
            assert pid_of(busy) == kept
            with in_background(router, "WAIT_CLOSE one") as waiting:
                assert pid_of(idle) not in (kept, resting), "there are new ones meanwhile"
                assert not waiting.done()
                busy.query("COMMIT")
                waiting.result()
            wait_until("it is closed", lambda: kept not in backends(database))
            assert pid_of(busy) != kept
    router.admin("WAIT_CLOSE")


# --- KILL


def test_kill_ends_clients_and_connections_and_nobody_goes_on_before_resume(
    router: RouterProcess, database: Database
) -> None:
    with (
        WireClient.login(router.port, "one") as idle,
        WireClient.login(router.port, "one") as busy,
        WireClient.login(router.port, "two") as other,
    ):
        assert other.value("SELECT 1") == "1"
        pid = pid_of(idle)
        busy.send(query("SELECT pg_sleep(3600)"))
        wait_until("it runs", lambda: router.pool("one")["sv_active"] == "1")
        assert notice(router, "KILL one") == "ended: 2 clients, 1 connections to servers"
        for client in (idle, busy):
            assert sqlstates(client.read_to_end())[-1] == "57P01"
        wait_until("the backend has ended", lambda: pid not in backends(database))
        assert other.value("SELECT 1") == "1"
    with WireClient.login(router.port, "one") as late:
        late.send(query("SELECT 1"))
        wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
        router.admin("RESUME one")
        assert kinds(late.read_until("Z")) == "TDCZ"


def test_kill_client_ends_one_and_cancels_what_it_does(
    router: RouterProcess, database: Database
) -> None:
    with (
        WireClient.login(router.port, "one") as wanted,
        WireClient.login(router.port, "one") as other,
    ):
        wanted.query("BEGIN")
        wanted.query("INSERT INTO t VALUES (1, 'x')")
        wanted.send(query("SELECT pg_sleep(3600)"))
        wait_until("it runs", lambda: sleeps(database))
        router.admin(f"KILL_CLIENT 0x{wanted.pid:08X}")
        assert sqlstates(wanted.read_to_end())[-1] == "57P01"
        wait_until("it is clean", lambda: router.pool("one")["sv_idle"] == "1")
        assert other.value("SELECT count(*) FROM t WHERE id = 1") == "0"
        ids = {row["client_id"] for row in router.admin("SHOW CLIENTS")}
        assert f"0x{wanted.pid:08X}" not in ids
        assert f"0x{other.pid:08X}" in ids


# --- who has what


def test_clients_and_servers_name_each_other(router: RouterProcess) -> None:
    with (
        WireClient.login(router.port, "one") as busy,
        WireClient.login(router.port, "one") as idle,
    ):
        identifier = f"0x{busy.pid:08X}"

        def client(name: str) -> str:
            return column(router, "SHOW CLIENTS", "client_id", identifier, name)

        assert client("activity") == "idle"
        assert client("server_pid") == "None"
        busy.query("BEGIN")
        pid = pid_of(busy)
        assert client("activity") == "idle in transaction"
        assert client("server_pid") == pid
        age = int(client("xact_us"))
        assert 0 < age < int(client("xact_us")), "it grows"
        [server] = [row for row in router.admin("SHOW SERVERS") if row["remote_pid"] == pid]
        assert server["client_id"] == identifier
        assert server["server_id"] == client("server_id")
        assert server["activity"] == "idle in transaction"
        assert server["close_needed"] == "0"
        router.admin("RECONNECT one")
        assert column(router, "SHOW SERVERS", "remote_pid", pid, "close_needed") == "1"
        with pytest.raises(AssertionError):
            busy.query("SELECT 1/0")
        assert client("activity") == "idle in transaction (aborted)"
        busy.query("ROLLBACK")
        assert (client("activity"), client("xact_us")) == ("idle", "0")
        busy.send(query("SELECT pg_sleep(3600)"))
        wait_until("it runs", lambda: client("activity") == "active")
        assert int(client("xact_us")) > 0
        identifier = f"0x{idle.pid:08X}"
        assert client("server_id") == "None"


# --- DISABLE, ENABLE, RESET STATS


def test_a_disabled_database_keeps_its_clients_and_takes_no_others(
    router: RouterProcess,
) -> None:
    with WireClient.login(router.port, "one") as client:
        router.admin("DISABLE one")
        assert client.value("SELECT 1") == "1"
        with WireClient(router.port) as refused:
            refused.send(startup({"user": "postgres", "database": "one"}))
            [error] = refused.read_to_end()
        assert (error.fields["S"], error.sqlstate) == ("FATAL", "55000")
        WireClient.login(router.port, "two").close()
        assert notice(router, "DISABLE one") == "database one is disabled already"
        router.admin("ENABLE one")
        WireClient.login(router.port, "one").close()
        assert notice(router, "ENABLE one") == "database one is not disabled"


def test_statistics_begin_anew(router: RouterProcess) -> None:
    with WireClient.login(router.port, "one") as client:
        client.query("SELECT 1")
        name = "one_shard_0_primary"

        def counted() -> str:
            return column(router, "SHOW STATS", "instance", name, "total_query_count")

        assert counted() == "1"
        router.admin("RESET STATS")
        assert counted() == "0"
        client.query("SELECT 1")
        assert counted() == "1"
