"""How the router ends, what it tells its supervisor, and what it is handed over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.demo.server import free_port
from tests.support.router import (
    HOST,
    PATIENCE,
    PoolText,
    RouterProcess,
    config_text,
    primary_of,
    wait_until,
)
from tests.support.wire import WireClient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.cluster.server import Server

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def pools(postgres: Server) -> dict[str, PoolText]:
    """One pool with a real server."""
    return {"db": PoolText([primary_of(postgres)])}


@pytest.fixture
def router(
    start_router: Callable[..., RouterProcess], pools: dict[str, PoolText]
) -> RouterProcess:
    """A router with it."""
    return start_router(pools)


def last_line(router: RouterProcess) -> str:
    """That of the log, when the router has ended as it should."""
    assert router.process.wait(PATIENCE) == 0
    return router.log().splitlines()[-1]


def is_stopping(router: RouterProcess, times: int = 1) -> None:
    """Wait until the router has understood."""
    wait_until("it stops", lambda: router.log().count("topping, waiting for") >= times)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_transactions_may_end_and_nobody_is_cut_off(
    router: RouterProcess, number: signal.Signals
) -> None:
    idle, busy = WireClient.login(router.port, "db"), WireClient.login(router.port, "db")
    with idle, busy:
        busy.query("BEGIN")
        router.signal(number)
        assert idle.read_to_end()[-1].sqlstate == "57P01"
        assert busy.value("SELECT 1") == "1"
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            router.connect("db")
        assert router.admin("SHOW VERSION"), "administrators are let in"
        busy.query("COMMIT")
        assert busy.read_to_end()[-1].sqlstate == "57P01"
    assert last_line(router).endswith("s: drained, nobody was cut off")
    assert (
        f"{number.name}: stopping, waiting for transactions to end; 2 clients" in router.log()
    )


def test_the_same_signal_again_stops_at_once_and_another_one_does_not(
    router: RouterProcess,
) -> None:
    with WireClient.login(router.port, "db") as busy:
        busy.query("BEGIN")
        router.signal(signal.SIGINT)
        is_stopping(router)
        router.signal(signal.SIGTERM)
        is_stopping(router, 2)
        assert "SIGTERM: already stopping, waiting for transactions to end" in router.log()
        assert busy.value("SELECT 1") == "1"
        router.signal(signal.SIGTERM)
        assert busy.read_to_end()[-1].sqlstate == "57P01"
    assert last_line(router).endswith(": 1 clients were cut off")
    assert "shutdown_timeout is over" not in router.log()


def test_sigquit_stops_at_once(router: RouterProcess) -> None:
    with WireClient.login(router.port, "db") as busy:
        busy.query("BEGIN")
        router.signal(signal.SIGQUIT)
        assert busy.read_to_end()[-1].sqlstate == "57P01"
    assert last_line(router).endswith(": 1 clients were cut off")
    assert "shutdown_timeout is over" not in router.log()


def test_after_shutdown_timeout_clients_are_cut_off_and_counted(
    start_router: Callable[..., RouterProcess], pools: dict[str, PoolText]
) -> None:
    router = start_router(pools, "shutdown_timeout = 100")
    with WireClient.login(router.port, "db") as busy:
        busy.query("BEGIN")
        router.signal(signal.SIGTERM)
        assert busy.read_to_end()[-1].sqlstate == "57P01"
    assert last_line(router).endswith(": 1 clients were cut off")
    assert "shutdown_timeout is over, 1 clients are cut off" in router.log()


@pytest.mark.parametrize("command", ["SHUTDOWN", "SHUTDOWN WAIT_FOR_SERVERS"])
def test_shutdown_lets_transactions_end(router: RouterProcess, command: str) -> None:
    with WireClient.login(router.port, "db") as busy:
        busy.query("BEGIN")
        assert router.admin(command) == [{"success": "t"}]
        assert busy.value("SELECT 1") == "1"
        busy.query("COMMIT")
        assert busy.read_to_end()[-1].sqlstate == "57P01"
    assert last_line(router).endswith("nobody was cut off")


def test_a_shutdown_can_wait_for_clients_and_be_made_quicker_but_not_slower(
    router: RouterProcess,
) -> None:
    idle, other = WireClient.login(router.port, "db"), WireClient.login(router.port, "db")
    with idle, other:
        router.admin("SHUTDOWN WAIT_FOR_CLIENTS")
        assert idle.value("SELECT 1") == "1"
        assert other.value("SELECT 1") == "1"
        with pytest.raises(psycopg.OperationalError, match="administrator command"):
            router.connect("db")
        other.query("BEGIN")
        router.admin("SHUTDOWN WAIT_FOR_SERVERS")
        assert idle.read_to_end()[-1].sqlstate == "57P01"
        router.admin("SHUTDOWN WAIT_FOR_CLIENTS")
        assert other.value("SELECT 1") == "1"
        router.admin("SHUTDOWN IMMEDIATE")
        assert other.read_to_end()[-1].sqlstate == "57P01"
    assert last_line(router).endswith(": 1 clients were cut off")
    assert "shutdown_timeout is over" not in router.log()


def test_when_all_clients_have_left_it_ends(router: RouterProcess) -> None:
    with WireClient.login(router.port, "db") as client:
        router.admin("SHUTDOWN WAIT_FOR_CLIENTS")
        assert client.value("SELECT 1") == "1"
    assert last_line(router).endswith("nobody was cut off")


def fetch(port: int, path: str) -> tuple[int, bytes]:
    """What the HTTP endpoint answers."""
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=PATIENCE) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with closing(error):
            return error.code, error.read()


def test_it_is_not_ready_first_and_healthy_to_the_end(
    start_router: Callable[..., RouterProcess], pools: dict[str, PoolText]
) -> None:
    port = free_port()
    general = f"enable_prometheus_exporter = true\nprometheus_exporter_port = {port}"
    router = start_router(pools, general)
    router.log_with("listening on")
    assert fetch(port, "/ready") == (200, b"ready\n")
    assert fetch(port, "/health") == (200, b"ok\n")
    with WireClient.login(router.port, "db") as busy:
        busy.query("BEGIN")
        router.signal(signal.SIGTERM)
        is_stopping(router)
        assert fetch(port, "/ready") == (503, b"stopping\n")
        assert fetch(port, "/health") == (200, b"ok\n")
        busy.query("COMMIT")
    assert last_line(router).endswith("nobody was cut off")


# --- sd_notify


@pytest.fixture
def supervisor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What NOTIFY_SOCKET names."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.settimeout(PATIENCE)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield sock


def told(supervisor: socket.socket) -> dict[str, str]:
    """The next message."""
    lines = supervisor.recv(4096).decode().splitlines()
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_a_supervisor_is_told(
    supervisor: socket.socket, start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    router = start_router({"db": PoolText([primary_of(postgres)])}, "shutdown_timeout = 7000")
    message = told(supervisor)
    assert message == {"READY": "1", "STATUS": f"listening on {HOST}:{router.port}"}
    router.signal(signal.SIGHUP)
    message = told(supervisor)
    assert message["RELOADING"] == "1"
    assert int(message["MONOTONIC_USEC"]) > 0
    assert told(supervisor)["READY"] == "1"
    router.config_path.write_text("[general")
    router.signal(signal.SIGHUP)
    assert told(supervisor)["RELOADING"] == "1"
    assert told(supervisor)["READY"] == "1", "it serves on, with the old one"
    router.signal(signal.SIGTERM)
    message = told(supervisor)
    assert (message["STOPPING"], message["EXTEND_TIMEOUT_USEC"]) == ("1", "17000000")
    assert "waiting for transactions to end" in message["STATUS"]
    assert last_line(router).endswith("nobody was cut off")


def test_a_watchdog_gets_signs_of_life(
    supervisor: socket.socket,
    monkeypatch: pytest.MonkeyPatch,
    start_router: Callable[..., RouterProcess],
    pools: dict[str, PoolText],
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "5000000")
    start_router(pools)
    while "WATCHDOG" not in told(supervisor):
        pass


def test_a_supervisor_who_does_not_listen_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
    start_router: Callable[..., RouterProcess],
    pools: dict[str, PoolText],
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody-is-here")
    router = start_router(pools)
    router.log_with("listening on")
    router.signal(signal.SIGTERM)
    assert last_line(router).endswith("nobody was cut off")
    assert router.log().count("cannot tell NOTIFY_SOCKET: Connection refused") == 1


# --- LISTEN_FDS

HAND_OVER = """
import os, sys
number = int(sys.argv[1])
os.dup2(number, 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "router", sys.argv[2]])
"""


def hand_over(sock: socket.socket, config: Path) -> subprocess.Popen[bytes]:
    """Start a router that gets a socket as systemd would give it."""
    return subprocess.Popen(
        [sys.executable, "-c", HAND_OVER, str(sock.fileno()), str(config)],
        pass_fds=[sock.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "LISTEN_FDNAMES": "pgcat.socket"},
    )


def test_a_socket_that_is_handed_over_is_listened_on(
    tmp_path: Path, pools: dict[str, PoolText]
) -> None:
    config = tmp_path / "pgcat.toml"
    config.write_text(config_text(1, pools))
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen()
        port = sock.getsockname()[1]
        process = hand_over(sock, config)
    router = RouterProcess(process, port, config, tmp_path / "none")
    with router.connect("db") as connection:  # the kernel has kept it until it was accepted
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert b"general.host and general.port: not used" in output
    assert f"listening on {HOST}:{port}".encode() in output


def test_a_unix_socket_may_be_handed_over(tmp_path: Path, pools: dict[str, PoolText]) -> None:
    config = tmp_path / "pgcat.toml"
    config.write_text(config_text(1, pools))
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / ".s.PGSQL.5432"))
        sock.listen()
        process = hand_over(sock, config)
    dsn = f"host={tmp_path} port=5432 dbname=db user=postgres"
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert connection.execute("SELECT 1").fetchall() == [(1,)]
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert f"listening on {tmp_path}".encode() in output


def test_what_is_no_listening_socket_is_refused(tmp_path: Path) -> None:
    config = tmp_path / "pgcat.toml"
    config.write_text(config_text(1, {"db": PoolText([[(HOST, 1, "primary")]])}))
    with socket.socket() as sock:
        process = hand_over(sock, config)
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 78
    assert b"LISTEN_FDS: descriptor 3 is no listening stream socket" in output
