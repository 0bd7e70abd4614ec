"""The demo from beginning to end, as the command that people run."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router.demo.server import HOST, free_port, is_free, wait_until
from router.demo.tour import ask
from tests.support.router import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = [sys.executable, "-m", "router", "demo"]

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory for temporary files that other accounts may enter, unlike pytest's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        os.chmod(name, 0o755)
        yield Path(name)


def test_the_tour_finds_every_answer_right() -> None:
    done = subprocess.run([*COMMAND, "--run-tour"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "11 of 11 answers right" in done.stdout
    assert "\x1b" not in done.stdout


def test_ctrl_c_ends_the_demo_and_leaves_nothing_behind() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as demo:
        lines = _read_until(demo, "Ctrl-C")
        [config] = [Path(line.split(": ")[1]) for line in lines if line.startswith("conf")]
        [dsn] = [line.split()[1] for line in lines if line.endswith("password app")]
        assert config.exists()
        assert ask(dsn, ["SELECT 7"]).rows == ((7,),)
        demo.send_signal(signal.SIGINT)
        rest = demo.communicate()[0]
    assert demo.returncode == 0
    assert "SIGINT: stopping" in rest
    assert "everything stopped and removed" in rest
    assert not config.parent.exists()


@pytest.mark.parametrize("ready", ["✓ PostgreSQL", "Ctrl-C"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_impatience_does_not_keep_the_demo_from_clearing_up(
    number: signal.Signals, ready: str, room: Path
) -> None:
    # As a shell without job control starts what runs in the background.
    ignoring = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *COMMAND]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "TMPDIR": str(room)}
    with subprocess.Popen(
        ignoring,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=environment,
    ) as demo:
        _read_until(demo, ready)
        assert len(list(room.iterdir())) == 1
        while demo.poll() is None:
            demo.send_signal(number)
            time.sleep(0.01)
        output, complaints = demo.communicate()
    assert demo.returncode == 0
    assert complaints == ""
    assert f"{number.name}: stopping already" in output
    assert "everything stopped and removed" in output
    assert list(room.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_demo_whose_end_is_sudden_leaves_nothing_behind_either(
    number: signal.Signals, room: Path
) -> None:
    port = _first_of_free_ports(8)
    with subprocess.Popen(
        [*COMMAND, "--port", str(port)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(room)},
    ) as demo:
        _read_until(demo, "Ctrl-C")
        assert not any(is_free(port + number) for number in range(8))
        demo.send_signal(number)
    assert demo.returncode == -number
    assert wait_until(lambda: list(room.iterdir()) == [], PATIENCE)
    assert wait_until(lambda: all(is_free(port + number) for number in range(8)), PATIENCE)


def test_a_tour_that_is_interrupted_was_no_success() -> None:
    with subprocess.Popen([*COMMAND, "--run-tour"], stdout=subprocess.PIPE, text=True) as demo:
        _read_until(demo, "✓ PostgreSQL")
        demo.send_signal(signal.SIGINT)
        output = demo.communicate()[0]
    assert demo.returncode == 130
    assert "everything stopped and removed" in output


def test_a_port_that_is_taken_is_named_before_anything_is_started() -> None:
    port = _first_of_free_ports(8)
    with socket.create_server((HOST, port + 7)):
        done = subprocess.run(
            [*COMMAND, "--run-tour", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port + 7}: Address already in use" in done.stdout
    assert f"the ports {port} to {port + 7}" in done.stdout
    assert "PostgreSQL" not in done.stdout
    assert done.stderr == ""


def _read_until(demo: subprocess.Popen[str], beginning: str) -> list[str]:
    """Read lines until one begins so."""
    assert demo.stdout is not None
    lines: list[str] = []
    for line in demo.stdout:
        lines.append(line.rstrip())
        if line.startswith(beginning):
            return lines
    raise AssertionError(f"the demo has ended: {lines}")


def _first_of_free_ports(count: int) -> int:
    """Return a port that is free, as are those after it: the demo's servers take them."""
    while True:
        first = free_port()
        if all(is_free(first + number) for number in range(count)):
            return first
