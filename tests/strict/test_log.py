"""The log of a running router: what peers say in it, and a reader that has stopped."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.demo.server import free_port
from tests.support.router import PATIENCE, PoolText, RouterProcess, config_text, wait_until
from tests.support.wire import Ended, WireClient, message, packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from .conftest import PoolFor

RECORD = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00 +[A-Z]+ router\.\w+: ")
NOWHERE = {"db": PoolText([[("127.0.0.1", 1, "primary")]], user_options='password = "x"')}


def names() -> Iterator[bytes]:
    """Names of users and databases that nobody should have."""
    for byte in range(1, 256):
        yield b"a" + bytes((byte,)) + b"b"
    dice = random.Random(7)
    for size in (1, 100, 9000):
        yield b"x" * size
        yield bytes(dice.randrange(1, 256) for _ in range(size))
    yield b"ann\n2026-01-01T00:00:00.000+00:00    INFO router.app: forged"
    yield "\u202eann\u2028\x1b[31m".encode()


def log_in(port: int, user: bytes, database: bytes) -> None:
    """Try to log in, with a password that is wrong."""
    body = b"\0\3\0\0user\0" + user + b"\0database\0" + database + b"\0\0"
    with WireClient(port) as client:
        client.send(packet(body))
        try:
            while client.read_message().kind == "R":
                client.send(message("p", b"md5" + b"0" * 32 + b"\0"))
        except Ended:
            pass


@pytest.mark.slow
@pytest.mark.parametrize("style", ["text", "structured"])
def test_whatever_a_name_is_its_login_is_one_line(
    start_router: Callable[..., RouterProcess], style: str
) -> None:
    router = start_router(NOWHERE, "validate_config = false", "-F", style)
    tried = 0
    for name in names():
        log_in(router.port, name, b"db")
        log_in(router.port, b"postgres", name)
        tried += 2

    wait_until("all are logged", lambda: router.log().count("login failed: ") >= tried)
    lines = router.log_path.read_bytes().decode().split("\n")
    for line in lines[:-1]:
        assert line.isprintable()
        assert len(line) < 1000
        assert json.loads(line) if style == "structured" else RECORD.match(line)
    assert sum("login failed: " in line for line in lines) == tried
    assert len(lines) < tried + 10


@pytest.fixture
def unread_router(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A router that logs into a pipe which nobody reads, and its port."""
    port = free_port()
    path = tmp_path / "pgcat.toml"
    path.write_text(config_text(port, NOWHERE, "validate_config = false"))
    with subprocess.Popen(
        [sys.executable, "-m", "router", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        yield process, port
        process.kill()


@pytest.mark.slow
def test_a_stopped_reader_of_the_log_stops_nobody(
    unread_router: tuple[subprocess.Popen[bytes], int], tmp_path: Path
) -> None:
    process, port = unread_router
    assert process.stdout is not None
    assert b"listening on" in process.stdout.readline()
    router = RouterProcess(process, port, tmp_path / "pgcat.toml", tmp_path / "none")
    for _ in range(600):  # lines of 200 bytes: twice what a pipe holds
        log_in(port, b"x" * 100, b"db")
    assert router.admin("SHOW VERSION")
    process.terminate()
    assert process.wait(PATIENCE) == 0


@pytest.mark.slow
@pytest.mark.parametrize("style", ["text", "structured"])
@pytest.mark.parametrize("is_verbatim", [False, True])
def test_a_statement_that_is_to_be_logged_is_one_line(
    start_router: Callable[..., RouterProcess],
    pool_for: PoolFor,
    style: str,
    is_verbatim: bool,
) -> None:
    options = f"log_min_duration_statement = 0\nlog_statement_text = {str(is_verbatim).lower()}"
    router = start_router(
        {"db": pool_for(options=options), "quiet": pool_for()}, "", "-F", style
    )
    with router.connect("quiet") as connection:
        connection.execute("SELECT 'hush'")
    with psycopg.connect("application_name=tool " + router.dsn("db")) as connection:
        connection.autocommit = True
        connection.execute("SELECT 'hush'")
    [line] = [
        one for one in router.log_with("router.slow").splitlines() if "router.slow" in one
    ]
    assert router.log().count("router.slow") == 1
    assert line.isprintable()
    assert ("hush" in line) == is_verbatim
    assert "hush" not in router.log().replace(line, "")
    if style == "structured":
        entry = json.loads(line)
        assert entry["query"] == "SELECT ?"
        assert entry.get("text") == ("SELECT 'hush'" if is_verbatim else None)
        assert (entry["database"], entry["user"]) == ("db", "postgres")
        assert entry["application_name"] == "tool"
        assert 0 <= entry["server_ms"] <= entry["duration_ms"]
