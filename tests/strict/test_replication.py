"""Replication passes through pools in session mode, with PostgreSQL's own programs."""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.strict.test_tls import show
from tests.support.router import HOST, PATIENCE, PoolText, primary_of, wait_until
from tests.support.wire import (
    COPY_DONE,
    Ended,
    Message,
    WireClient,
    cancel,
    message,
    query,
    sqlstates,
    startup,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.strict.conftest import ModuleRouter
    from tests.support.certificates import Certificates
    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun
    from tests.support.router import RouterProcess

TLS = ("disable", "require")


@pytest.fixture(scope="module")
def server(
    postgres_run: PostgresRun, system_bin_dir: Path, certificates: Certificates
) -> Iterator[Server]:
    """A PostgreSQL that has TLS, and all that is needed for logical replication."""
    cluster = postgres_run.private(bin_dir=system_bin_dir, settings={"wal_level": "logical"})
    made = cluster.primary
    show(made, certificates.certificate, certificates.key)
    made.configure({"ssl": "on", "ssl_cert_file": "tls.crt", "ssl_key_file": "tls.key"})
    made.restart()
    made.execute("CREATE TABLE t (id int); CREATE ROLE weak LOGIN PASSWORD 'w'")
    yield made
    cluster.close()


@pytest.fixture(scope="module")
def router(
    module_router: ModuleRouter, server: Server, certificates: Certificates
) -> RouterProcess:
    """TLS towards clients, and pools with TLS towards the server and without."""

    def pool(options: str = 'pool_mode = "session"', size: int = 4) -> PoolText:
        return PoolText([primary_of(server)], pool_size=size, options=options)

    weak = pool()
    weak.user, weak.user_options = "weak", 'auth_type = "trust"\npassword = "w"'

    pools = {
        "replication": pool('pool_mode = "session"\nserver_tls = true', 8),
        "session": pool(),
        "small": pool('pool_mode = "session"\nconnect_timeout = 300', 1),
        "idle": pool('pool_mode = "session"\nclient_idle_timeout = 200'),
        "weak": weak,
        "transaction": pool(""),
        "shards": PoolText(
            [primary_of(server)] * 2,
            databases=["postgres"] * 2,
            options='pool_mode = "session"',
        ),
    }
    return module_router(
        pools,
        f'tls_certificate = "{certificates.certificate}"\n'
        f'tls_private_key = "{certificates.key}"\n',
    )


def dsn(port: int, tls: str, more: str = "") -> str:
    """How a program of PostgreSQL's is told where to go."""
    return f"host={HOST} port={port} user=postgres sslmode={tls} {more}"


def program(bin_dir: Path, name: str, *arguments: str) -> str:
    """Run one to its end, and return what it says."""
    done = subprocess.run(
        [bin_dir / name, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def running(bin_dir: Path, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run one until it is told to stop, as by ^C."""
    with subprocess.Popen(
        [bin_dir / name, *arguments], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 0, said


@contextmanager
def walsender(port: int, name: str, **parameters: str) -> Iterator[WireClient]:
    """A raw connection for replication."""
    given = {"replication": "database", **parameters}
    with WireClient.login(port, name, parameters=given) as client:
        yield client


def senders(server: Server) -> int:
    """How many connections for replication the server has."""
    [[count]] = server.execute(
        "SELECT count(*)::int FROM pg_stat_activity WHERE backend_type = 'walsender'"
    )
    return int(count)


@pytest.mark.parametrize("tls", TLS)
@pytest.mark.parametrize("kind", ["true", "database", "on", "yes"])
def test_psql_is_told_what_the_system_is(
    router: RouterProcess, server: Server, system_bin_dir: Path, kind: str, tls: str
) -> None:
    def told(port: int, name: str) -> str:
        where = dsn(port, tls, f"dbname={name} replication={kind}")
        return (
            program(system_bin_dir, "psql", where, "-Atc", "SHOW wal_level")
            + program(system_bin_dir, "psql", where, "-Atc", "IDENTIFY_SYSTEM").split("|")[0]
        )

    for name in ("session", "replication"):
        assert told(router.port, name) == told(server.port, "postgres")


@pytest.mark.parametrize("tls", TLS)
def test_a_base_backup_is_taken(
    router: RouterProcess, system_bin_dir: Path, tmp_path: Path, tls: str
) -> None:
    target = str(tmp_path / "backup")
    program(
        system_bin_dir, "pg_basebackup", "-d", dsn(router.port, tls), "-D", target,
        "-X", "stream", "-c", "fast",
    )  # fmt: skip
    program(system_bin_dir, "pg_verifybackup", target)


@pytest.mark.parametrize("tls", TLS)
def test_the_log_is_received(
    router: RouterProcess, server: Server, system_bin_dir: Path, tmp_path: Path, tls: str
) -> None:
    where = dsn(router.port, tls)
    with running(system_bin_dir, "pg_receivewal", "-d", where, "-D", str(tmp_path), "-n"):
        wait_until("it streams", lambda: list(tmp_path.glob("*.partial")))
        server.execute("INSERT INTO t SELECT generate_series(1, 10000)")
        server.execute("SELECT pg_switch_wal()")
        [segment] = wait_until("it is whole", lambda: whole(tmp_path))
        assert segment.read_bytes() == (server.data_dir / "pg_wal" / segment.name).read_bytes()
    wait_until("it has gone", lambda: senders(server) == 0)


def whole(directory: Path) -> list[Path]:
    """The segments of the log that are complete."""
    return [path for path in directory.iterdir() if len(path.name) == 24][:1]


@pytest.mark.parametrize("tls", TLS)
def test_changes_are_decoded(
    router: RouterProcess, server: Server, system_bin_dir: Path, tmp_path: Path, tls: str
) -> None:
    target = tmp_path / "changes"
    common = ("-d", dsn(router.port, tls, "dbname=session"), "--slot", f"slot_{tls}")
    program(system_bin_dir, "pg_recvlogical", *common, "--create-slot", "-P", "test_decoding")
    with running(
        system_bin_dir, "pg_recvlogical", *common, "--start", "-f", str(target), "-F", "1"
    ):
        server.execute("INSERT INTO t SELECT generate_series(1, 5000)")
        server.execute("DELETE FROM t")
        server.execute("INSERT INTO t VALUES (99999)")
        wait_until(
            "all is there",
            lambda: target.exists() and "id[integer]:99999" in target.read_text(),
        )
    assert target.read_text().count("INSERT: id[integer]") == 5001
    wait_until("it has gone", lambda: senders(server) == 0)
    program(system_bin_dir, "pg_recvlogical", *common, "--drop-slot")


def test_psycopg_runs_commands_and_statements(router: RouterProcess) -> None:
    where = dsn(router.port, "require", "dbname=session replication=database")
    with psycopg.connect(where, autocommit=True) as connection:
        [system] = connection.execute("IDENTIFY_SYSTEM").fetchall()
        assert len(system) == 4
        assert connection.execute("SELECT pg_backend_pid()").fetchall() == [
            (connection.info.backend_pid,)
        ]


def test_both_sides_copy_at_once(router: RouterProcess, server: Server) -> None:
    with walsender(router.port, "session", application_name="mine") as client:
        [position] = [row[0] for row in client.query("SELECT pg_current_wal_lsn()")]
        assert position is not None
        client.send(query(b"START_REPLICATION PHYSICAL " + position))
        client.read_until("W")
        server.execute("INSERT INTO t SELECT generate_series(1, 10000)")
        while client.read_message().body[:1] != b"w":
            pass
        client.send(message("d", b"r" + bytes(8 * 4) + b"\1"))  # a status that wants an answer
        while client.read_message().body[:1] != b"k":
            pass
        client.send(COPY_DONE)
        assert client.read_until("cCZ")[-1].body == b"I"
        assert client.value("SHOW application_name") == "mine"
        client.terminate()
    wait_until("it has gone", lambda: senders(server) == 0)


def test_a_cancel_request_arrives(router: RouterProcess) -> None:
    with walsender(router.port, "session") as client:
        assert client.value("SELECT pg_backend_pid()") == str(client.pid)
        client.send(query("SELECT pg_sleep(60)"))
        cancel(router.port, client.pid, b"none")
        assert not client.has_input()
        while not client.has_input():
            cancel(router.port, client.pid, client.secret)
        assert sqlstates(client.read_until("Z")) == ["57014"]
        assert client.value("SELECT 1") == "1"


def test_it_counts_waits_and_is_shown(router: RouterProcess, server: Server) -> None:
    wait_until("nobody is there", lambda: router.pool("small")["cl_active"] == "0")
    with walsender(router.port, "small") as client:
        pairs = [
            (row["type"], row["replication"], row["remote_pid"])
            for row in router.admin("SHOW SOCKETS")
            if row["database"] == "small"
        ]
        assert sorted(pairs) == [("C", "logical", "0"), ("S", "logical", str(client.pid))]
        assert router.pool("small")["sv_active"] == "1"
        # There is no room for others, nor for another one.
        for parameters in ({}, {"replication": "true"}):
            said = told(router.port, "small", parameters)
            assert sqlstates(said) == ["53300"]
        [row] = [
            row for row in router.admin("SHOW CLIENTS") if row["server_pid"] == str(client.pid)
        ]
        router.admin(f"KILL_CLIENT {row['client_id']}")
        assert client.read_to_end() == []
    wait_until("it is closed", lambda: router.pool("small")["sv_active"] == "0")
    wait_until("it has gone", lambda: senders(server) == 0)
    with WireClient.login(router.port, "small") as other:
        assert other.value("SELECT 1") == "1"
        assert other.value("SHOW application_name") == ""


def test_silence_is_no_reason_to_end_it(router: RouterProcess) -> None:
    with (
        walsender(router.port, "idle") as client,
        WireClient.login(router.port, "idle") as other,
    ):
        [error] = other.read_to_end()
        assert error.sqlstate == "57P05"
        assert client.value("SELECT 1") == "1"


def told(
    port: int, name: str, parameters: dict[str, str], user: str = "postgres"
) -> list[Message]:
    """All that a client is told at login."""
    with WireClient(port) as client:
        client.send(startup({"user": user, "database": name, **parameters}))
        try:
            return client.read_until("Z")
        except Ended as ended:
            return ended.messages


@pytest.mark.parametrize("pool", ["transaction", "shards"])
@pytest.mark.parametrize("kind", ["true", "database"])
def test_other_pools_refuse_it(router: RouterProcess, pool: str, kind: str) -> None:
    [error] = told(router.port, pool, {"replication": kind})
    assert (error.fields["S"], error.sqlstate) == ("FATAL", "0A000")
    assert error.fields["M"] == "replication connections are not supported"


@pytest.mark.parametrize("value", ["", "o", "DATABASE", "2", "truely"])
def test_a_bad_value_is_refused_as_by_the_server(
    router: RouterProcess, server: Server, value: str
) -> None:
    [error] = told(router.port, "session", {"replication": value})
    [directly] = told(server.port, "postgres", {"replication": value})
    assert {code: error.fields[code] for code in "SCMH"} == {
        code: directly.fields[code] for code in "SCMH"
    }


@pytest.mark.parametrize("value", ["false", "F", "no", "of", "off", "0"])
def test_who_wants_none_gets_a_session(router: RouterProcess, value: str) -> None:
    with WireClient.login(
        router.port, "transaction", parameters={"replication": value}
    ) as client:
        assert client.value("SELECT 1") == "1"


def test_who_may_not_replicate_is_told_so_and_harms_nobody(
    router: RouterProcess, server: Server
) -> None:
    said = told(router.port, "weak", {"replication": "true"}, "weak")
    assert [each.kind for each in said] == ["R", "E"]
    assert said[1].fields["S"] == "FATAL"
    assert sqlstates(said) in (["28000"], ["42501"])
    with WireClient.login(router.port, "weak", "weak") as client:
        assert client.value("SELECT current_user") == "weak"


def test_a_server_that_goes_ends_it(router: RouterProcess, server: Server) -> None:
    with walsender(router.port, "session") as client:
        server.execute("SELECT pg_terminate_backend(%s)", (client.pid,))
        [error] = client.read_to_end()
        assert error.sqlstate == "57P01"


def test_a_client_that_does_not_read_keeps_nothing_in_memory(
    router: RouterProcess, server: Server
) -> None:
    with walsender(router.port, "session") as client:
        client.query("SELECT 1")
        before = router.rss()
        client.send(query("SELECT repeat('x', 1000000) FROM generate_series(1, 100)"))
        sql = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        looks: list[str] = []

        def has_come_to_rest() -> bool:
            looks.extend(
                row["bytes_received"]
                for row in router.admin("SHOW SERVERS")
                if row["database_name"] == "session" and row["state"] == "active"
            )
            is_waiting = server.execute(sql, (client.pid,)) == [("ClientWrite",)]
            return is_waiting and len(looks) > 5 and len(set(looks[-5:])) == 1

        wait_until("the server has to wait for good", has_come_to_rest)
        assert router.rss() - before < 16 << 20
        said = client.read_until("Z")
        assert sum(len(each.body) for each in said if each.kind == "D") > 100_000_000
        assert router.rss() - before < 16 << 20


def test_the_router_ends_while_somebody_replicates(
    module_router: ModuleRouter, server: Server
) -> None:
    pool = PoolText([primary_of(server)], options='pool_mode = "session"')
    router = module_router({"session": pool})
    with walsender(router.port, "session") as client:
        client.send(query("START_REPLICATION PHYSICAL 0/0"))
        router.signal(signal.SIGTERM)
        client.read_to_end()
        assert router.process.wait(PATIENCE) == 0
