"""A restart in which a new process takes the listening sockets over."""

from __future__ import annotations

import os
import re
import signal
import threading
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.demo.server import free_port
from tests.support.attempts import attempting
from tests.support.router import HOST, PATIENCE, PoolText, config_text, primary_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

TAKEN_OVER = re.compile(r"SIGUSR2: process (\d+) has taken over")


class Line:
    """A router and those that have taken over from it, one after the other."""

    def __init__(self, router: RouterProcess) -> None:
        self.router = router
        self.first = router.process.pid

    @property
    def pids(self) -> list[int]:
        """All of them, the newest last."""
        return [self.first, *map(int, TAKEN_OVER.findall(self.router.log()))]

    def succeed(self) -> int:
        """Have the newest one replaced; returns its successor."""
        count = len(self.pids)
        os.kill(self.pids[-1], signal.SIGUSR2)
        wait_until("a process has taken over", lambda: len(self.pids) > count)
        return self.pids[-1]

    def end(self) -> None:
        """Stop those that are left."""
        if self.router.process.poll() is None:
            self.router.stop()
        for pid in self.pids[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGQUIT)
        wait_until("all have ended", lambda: not any(map(is_alive, self.pids[1:])))


def is_alive(pid: int) -> bool:
    """Whether a process of a router is there."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.fixture
def pools(postgres: Server) -> dict[str, PoolText]:
    return {"db": PoolText([primary_of(postgres)], pool_size=3)}


@pytest.fixture
def begin(start_router: Callable[..., RouterProcess]) -> Iterator[Callable[..., Line]]:
    lines: list[Line] = []

    def make(pools: dict[str, PoolText], general: str = "") -> Line:
        lines.append(Line(start_router(pools, general)))
        return lines[-1]

    yield make
    for line in lines:
        line.end()


def test_no_connection_attempt_is_lost_while_processes_follow_each_other(
    begin: Callable[..., Line], pools: dict[str, PoolText]
) -> None:
    line = begin(pools)
    with attempting(line.router, "db", 6) as wait_for_more:
        for _ in range(3):
            line.succeed()
            wait_for_more(2)
    *old, newest = line.pids
    wait_until("the old ones have ended", lambda: not any(map(is_alive, old[1:])))
    assert line.router.process.wait(PATIENCE) == 0
    assert is_alive(newest)


def test_clients_stay_where_they_are_and_are_cancelled_by_the_new_process(
    begin: Callable[..., Line], pools: dict[str, PoolText]
) -> None:
    line = begin(pools)
    with ExitStack() as stack:
        client = stack.enter_context(line.router.connect("db"))
        idle = stack.enter_context(line.router.connect("db"))
        client.execute("BEGIN")
        [before] = client.execute("SELECT pg_backend_pid()").fetchone() or ()
        line.succeed()
        line.succeed()
        assert client.execute("SELECT pg_backend_pid()").fetchone() == (before,)
        stopped: list[psycopg.Error] = []

        def sleep() -> None:
            try:
                client.execute("SELECT pg_sleep(600)")
            except psycopg.Error as error:
                stopped.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        active = f"SELECT 1 FROM pg_stat_activity WHERE pid = {before} AND state = 'active'"
        wait_until("it sleeps", lambda: idle.execute(active).fetchone())
        client.cancel_safe()
        thread.join()
        assert isinstance(stopped[0], psycopg.errors.QueryCanceled)
        client.execute("ROLLBACK")
        assert is_alive(line.first)
    assert line.router.process.wait(PATIENCE) == 0
    wait_until("the second has ended", lambda: not is_alive(line.pids[1]))
    assert "drained, nobody was cut off" in line.router.log()


def test_the_old_process_can_be_told_to_hurry(
    begin: Callable[..., Line], pools: dict[str, PoolText]
) -> None:
    line = begin(pools)
    with line.router.connect("db") as idle:
        newest = line.succeed()
        line.router.log_with("SIGUSR2: stopping, waiting for all clients to leave; 1 clients")
        os.kill(line.first, signal.SIGTERM)
        assert line.router.process.wait(PATIENCE) == 0
        with pytest.raises(psycopg.errors.AdminShutdown):
            idle.execute("SELECT 1")
    assert is_alive(newest)


def test_a_process_that_cannot_start_takes_nothing_over(
    begin: Callable[..., Line], pools: dict[str, PoolText]
) -> None:
    line = begin(pools)
    good = line.router.config_path.read_text()
    line.router.config_path.write_text("nonsense")
    with line.router.connect("db") as client:
        os.kill(line.first, signal.SIGUSR2)
        line.router.log_with("did not come to listen: this one goes on")
        assert client.execute("SELECT 1").fetchone() == (1,)
        line.router.connect("db").close()
        line.router.config_path.write_text(good)
        line.succeed()
        line.router.connect("db").close()


def test_metrics_and_the_unix_socket_go_to_the_new_process(
    begin: Callable[..., Line], pools: dict[str, PoolText], tmp_path: Path
) -> None:
    port = free_port()
    line = begin(
        pools,
        f"enable_prometheus_exporter = true\nprometheus_exporter_port = {port}\n"
        f'unix_socket_dir = "{tmp_path}"',
    )

    def is_ready() -> bool:
        try:
            url = f"http://{HOST}:{port}/ready"
            with urllib.request.urlopen(url, timeout=PATIENCE) as found:
                return bool(found.status == 200)
        except urllib.error.URLError:
            return False

    dsn = f"host={tmp_path} port={line.router.port} dbname=db user=postgres"
    with psycopg.connect(dsn, autocommit=True) as old:
        line.succeed()
        assert all(is_ready() for _ in range(20))
        with psycopg.connect(dsn, autocommit=True) as new:
            assert new.execute("SELECT 1").fetchone() == (1,)
        assert old.execute("SELECT 1").fetchone() == (1,)
    assert line.router.process.wait(PATIENCE) == 0
    psycopg.connect(dsn).close()
    path = tmp_path / f".s.PGSQL.{line.router.port}"
    assert path.exists()
    line.end()
    assert not path.exists()


def test_the_new_process_runs_by_the_file_as_it_is_now(
    begin: Callable[..., Line], pools: dict[str, PoolText]
) -> None:
    line = begin(pools)
    more = {**pools, "other": pools["db"]}
    line.router.config_path.write_text(config_text(line.router.port, more))
    with pytest.raises(psycopg.OperationalError):
        line.router.connect("other")
    line.succeed()
    line.router.connect("other").close()


def test_a_second_request_while_it_hands_over_does_nothing(
    begin: Callable[..., Line], pools: dict[str, PoolText]
) -> None:
    line = begin(pools)
    with line.router.connect("db"):
        line.succeed()
        os.kill(line.first, signal.SIGUSR2)
        line.router.log_with("SIGUSR2: there is a new process already")
        assert len(line.pids) == 2
