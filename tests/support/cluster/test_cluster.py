"""Clusters of real PostgreSQL servers: they work, are private and leave nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.demo.account import ClusterError
from router.demo.server import PortInUse, wait_until
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.reaper import is_alive, postmaster_pid, reap
from tests.support.cluster.server import Server, StopMode
from tests.support.cluster.workspace import Workspace
from tests.support.postgres import APP_USERS, PASSWORD, Database, PostgresRun
from tests.support.router import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import PrivateCluster

HOLDER = """
import sys
from pathlib import Path
from tests.support.cluster.cluster import Cluster
with Cluster(shards=1, replicas=0) as cluster:
    print(cluster.root, cluster.primary.pid, flush=True)
    sys.stdin.read()
"""


def test_a_shard_holds_its_own_rows_and_its_replica_follows(sharded: tuple[Shard, ...]) -> None:
    ports = {server.port for shard in sharded for server in shard.servers}
    assert len(sharded) == 3
    assert len(ports) == 6
    shard, other = sharded[0], sharded[1]
    shard.primary.execute("CREATE TABLE IF NOT EXISTS rows_of_shard AS SELECT 1 AS id")
    shard.wait_for_replication()
    [replica] = shard.replicas
    assert replica.execute("SELECT id, pg_is_in_recovery() FROM rows_of_shard") == [(1, True)]
    with pytest.raises(psycopg.errors.UndefinedTable):
        other.primary.execute("SELECT FROM rows_of_shard")


def test_a_replica_refuses_to_write(replicated: Shard) -> None:
    assert len(replicated.replicas) == 2
    for replica in replicated.replicas:
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            replica.execute("CREATE TABLE refused (id int)")


@pytest.mark.parametrize("user", APP_USERS)
def test_a_user_needs_the_password_and_may_create_tables(
    fresh_database: Database, user: str
) -> None:
    server, name = fresh_database.server, fresh_database.name
    with server.connect(name, user, PASSWORD) as connection:
        connection.execute("CREATE TABLE mine (id int)")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        server.connect(name, user, "wrong")


@pytest.mark.parametrize(
    ("user", "prefix"), [("app_scram", "SCRAM-SHA-256$"), ("app_md5", "md5")]
)
def test_a_users_password_is_kept_as_its_method_needs_it(
    postgres: Server, user: str, prefix: str
) -> None:
    [(kept,)] = postgres.execute("SELECT rolpassword FROM pg_authid WHERE rolname = %s", [user])
    assert str(kept).startswith(prefix)


def test_every_test_gets_a_database_of_its_own(
    postgres: Server, make_database: Callable[..., Database]
) -> None:
    first, second = make_database(postgres), make_database(postgres)
    first.execute("CREATE TABLE only_here (id int)")
    with pytest.raises(psycopg.errors.UndefinedTable):
        second.execute("SELECT FROM only_here")


def test_servers_are_shared_by_whoever_joins_the_run(
    postgres: Server, postgres_run: PostgresRun
) -> None:
    [again] = postgres_run.shared("postgres", shards=1, replicas=0)
    assert again.primary is not postgres
    assert again.primary.pid == postgres.pid


def test_a_restart_keeps_the_port_the_rows_and_the_new_settings(
    private_primary: Callable[..., Server],
) -> None:
    server = private_primary(work_mem="5MB")
    server.execute("CREATE TABLE kept AS SELECT 7 AS id")
    pid, port = server.pid, server.port
    server.configure({"work_mem": "6MB"})
    server.restart()
    assert server.pid != pid
    assert server.port == port
    assert server.execute("SELECT id, current_setting('work_mem') FROM kept") == [(7, "6MB")]


@pytest.mark.parametrize("mode", [StopMode.FAST, StopMode.IMMEDIATE, StopMode.KILL])
def test_a_server_comes_back_after_every_kind_of_stop(
    private_primary: Callable[..., Server], mode: StopMode
) -> None:
    server = private_primary()
    server.execute("CREATE TABLE kept AS SELECT 7 AS id")
    server.stop(mode)
    assert not server.is_running()
    with pytest.raises(psycopg.OperationalError):
        server.connect()
    server.start()
    assert server.execute("SELECT id FROM kept") == [(7,)]


def test_a_silenced_server_can_still_be_stopped(private_primary: Callable[..., Server]) -> None:
    server = private_primary()
    server.signal(signal.SIGSTOP)
    server.stop(StopMode.IMMEDIATE)
    assert not server.is_running()


def test_a_promoted_replica_takes_writes(private_cluster: PrivateCluster) -> None:
    [shard] = private_cluster(replicas=1).shards
    [replica] = shard.replicas
    shard.primary.execute("CREATE TABLE kept AS SELECT 7 AS id")
    shard.wait_for_replication()
    shard.primary.stop(StopMode.IMMEDIATE)
    replica.promote()
    replica.execute("INSERT INTO kept VALUES (8)")
    assert replica.execute("SELECT id FROM kept ORDER BY id") == [(7,), (8,)]


def test_waiting_for_a_replica_that_is_held_back_says_so(
    private_cluster: PrivateCluster,
) -> None:
    [shard] = private_cluster(replicas=1).shards
    shard.replicas[0].execute("SELECT pg_wal_replay_pause()")
    shard.primary.execute("CREATE TABLE late (id int)")
    with pytest.raises(ClusterError, match="has not replayed"):
        shard.wait_for_replication(0.05)


def test_the_systems_own_postgresql_speaks_tls(
    private_cluster: PrivateCluster, system_bin_dir: Path
) -> None:
    server = private_cluster(bin_dir=system_bin_dir).primary
    assert server.execute("SHOW ssl_library") == [("OpenSSL",)]


def test_a_server_that_cannot_start_shows_its_log(
    private_primary: Callable[..., Server],
) -> None:
    server = private_primary()
    server.stop()
    server.configure({"shared_buffers": "a lot"})
    with pytest.raises(ClusterError, match="invalid value for parameter"):
        server.start()


def test_a_port_that_is_taken_is_told_apart(
    private_primary: Callable[..., Server], postgres: Server
) -> None:
    server = private_primary()
    server.stop()
    server.port = postgres.port
    with pytest.raises(PortInUse):
        server.start()


def test_a_cluster_leaves_neither_processes_nor_files() -> None:
    cluster = Cluster(shards=1, replicas=1)
    pids: list[int | None] = []
    roots: list[Path] = []

    def fail() -> None:
        with cluster:
            pids.extend(server.pid for server in cluster.servers)
            roots.append(cluster.root)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len(pids) == 2
    assert None not in pids
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    assert not roots[0].exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_maker_leaves_neither_processes_nor_files(
    number: signal.Signals,
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        root, pid = holder.stdout.readline().split()
        assert is_alive(int(pid))
        holder.send_signal(number)
    assert wait_until(lambda: not os.path.exists(root), PATIENCE)
    assert not is_alive(int(pid))


def test_a_workspace_lives_until_its_last_lease_ends() -> None:
    maker = Workspace.create()
    guest = Workspace.join(maker.root)
    assert guest is not None
    maker.release()
    another = Workspace.join(maker.root)
    assert another is not None
    guest.release()
    assert maker.root.exists()
    another.release()
    assert wait_until(lambda: not maker.root.exists(), PATIENCE)


def test_a_workspace_that_is_gone_cannot_be_joined() -> None:
    with Workspace.create() as workspace:
        root = workspace.root
    assert Workspace.join(root) is None


def test_a_pid_file_left_by_another_process_is_not_believed(tmp_path: Path) -> None:
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n")
    assert postmaster_pid(tmp_path) is None


STUBBORN = """
import signal, sys
signal.signal(signal.SIGQUIT, signal.SIG_IGN)
print(flush=True)
sys.stdin.read()
"""


def test_what_does_not_stop_is_killed_and_its_files_are_removed_all_the_same(
    tmp_path: Path,
) -> None:
    data_dir = tmp_path / "root" / "data"
    data_dir.mkdir(parents=True)
    with subprocess.Popen(
        [sys.executable, "-c", STUBBORN, data_dir],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (data_dir / "postmaster.pid").write_text(f"{process.pid}\n")
        reap(data_dir.parent, patience=0)
    assert process.returncode == -signal.SIGKILL
    assert not data_dir.parent.exists()


def test_a_killed_server_leaves_no_shared_memory(postgres_run: PostgresRun) -> None:
    cluster = postgres_run.private()
    server = cluster.primary
    line = (server.data_dir / "postmaster.pid").read_text().splitlines()[6]
    key, segment = line.split()
    assert _segments(int(segment)) == [str(int(key))]
    server.stop(StopMode.KILL)
    cluster.close()
    assert wait_until(lambda: _segments(int(segment)) == [], PATIENCE)


def _segments(number: int) -> list[str]:
    """Return the keys of System V's shared memory segments with that number."""
    with open("/proc/sysvipc/shm") as table:
        rows = [line.split() for line in table.readlines()[1:]]
    return [row[0] for row in rows if row[1] == str(number)]
