"""The demo from beginning to end, as the command that people run."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from router.demo.server import HOST, free_port, is_free
from router.demo.tour import ask

COMMAND = [sys.executable, "-m", "router", "demo"]

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


def test_the_tour_finds_every_answer_right() -> None:
    done = subprocess.run([*COMMAND, "--run-tour"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "7 of 7 answers right" in done.stdout
    assert "\x1b" not in done.stdout


def test_ctrl_c_ends_the_demo_and_leaves_nothing_behind() -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        lines: list[str] = []
        for line in demo.stdout:
            lines.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                break
        [config] = [Path(line.split(": ")[1]) for line in lines if line.startswith("conf")]
        [dsn] = [line.split()[1] for line in lines if line.endswith("password app")]
        assert config.exists()
        assert ask(dsn, ["SELECT 7"]).rows == ((7,),)
        demo.send_signal(signal.SIGINT)
        rest = demo.stdout.read()
    assert demo.returncode == 0
    assert "everything stopped and removed" in rest
    assert not config.parent.exists()


def test_a_port_that_is_taken_is_named_and_nothing_is_left() -> None:
    port = _first_of_free_ports(8)
    with socket.create_server((HOST, port)):
        done = subprocess.run(
            [*COMMAND, "--run-tour", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert f"127.0.0.1:{port}" in done.stdout
    assert "Traceback" not in done.stderr
    assert "everything stopped and removed" in done.stdout


def _first_of_free_ports(count: int) -> int:
    """Return a port that is free, as are those after it: the demo's servers take them."""
    while True:
        first = free_port()
        if all(is_free(first + number) for number in range(count)):
            return first
