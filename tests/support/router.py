"""The router under test, as a process of its own, and configurations for it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psycopg
import pytest

from router.demo.server import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server

HOST = "127.0.0.1"
ADMIN = "admin"
ADMIN_PASSWORD = "admin_secret"
WATCHER = "watcher"
WATCHER_PASSWORD = "watcher_secret"
# How long anything that is bound to happen may take on a machine that is busy, in seconds.
PATIENCE = 120.0

T = TypeVar("T")


def wait_until(what: str, probe: Callable[[], T]) -> T:
    """Call `probe` until it is true; returns what it returned.

    For things that another process does in its own time: a bounded wait, not a delay.
    """
    deadline = time.monotonic() + PATIENCE
    while True:
        outcome = probe()
        if outcome:
            return outcome
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.01)


@dataclass
class PoolText:
    """A `[pools.NAME]` section to be.

    `databases` and `shard_options` are for each shard its own, if they are there, and `weights`
    for each server of every shard.
    """

    shards: Sequence[Sequence[tuple[str, int, str]]]
    database: str = "postgres"
    user: str = "postgres"
    pool_size: int = 5
    options: str = ""
    user_options: str = 'auth_type = "trust"\npassword = ""'
    more_users: str = ""
    databases: Sequence[str] = ()
    shard_options: Sequence[str] = ()
    weights: Sequence[int] = ()

    def render(self, name: str) -> str:
        """The section as TOML."""
        lines = [f"[pools.{name}]", self.options]
        lines += [
            f"[pools.{name}.users.0]",
            f'username = "{self.user}"',
            f"pool_size = {self.pool_size}",
            self.user_options,
            self.more_users,
        ]
        for number, servers in enumerate(self.shards):
            weights = [f", {weight}" for weight in self.weights] or [""] * len(servers)
            rendered = ", ".join(
                f'["{host}", {port}, "{role}"{weight}]'
                for (host, port, role), weight in zip(servers, weights, strict=True)
            )
            lines += [
                f"[pools.{name}.shards.{number}]",
                f'database = "{self.databases[number] if self.databases else self.database}"',
                self.shard_options[number] if self.shard_options else "",
                f"servers = [{rendered}]",
            ]
        return "\n".join(lines)


def servers_of(shard: Shard) -> list[tuple[str, int, str]]:
    """The servers of a real shard as pool entries."""
    primary = (shard.primary.host, shard.primary.port, "primary")
    return [primary, *((replica.host, replica.port, "replica") for replica in shard.replicas)]


def primary_of(server: Server) -> list[tuple[str, int, str]]:
    """A lone server as pool entries."""
    return [(server.host, server.port, "primary")]


def config_text(port: int, pools: dict[str, PoolText], general: str = "") -> str:
    """A whole pgcat.toml."""
    if "healthcheck_timeout" not in general:
        general += "\nhealthcheck_timeout = 10000"  # a login may take its time here
    head = f"""
[general]
host = "{HOST}"
port = {port}
admin_username = "{ADMIN}"
admin_password = "{ADMIN_PASSWORD}"
stats_username = "{WATCHER}"
stats_password = "{WATCHER_PASSWORD}"
connect_timeout = 10000
{general}
"""
    return head + "\n".join(pool.render(name) for name, pool in pools.items())


@dataclass
class RouterProcess:
    """A running router."""

    process: subprocess.Popen[bytes]
    port: int
    config_path: Path
    log_path: Path
    host: str = HOST
    connections: list[socket.socket] = field(default_factory=list)

    def dsn(self, database: str, user: str = "postgres", password: str = "") -> str:
        """A libpq connection string."""
        return f"host={HOST} port={self.port} dbname={database} user={user} password={password}"

    def connect(
        self,
        database: str,
        user: str = "postgres",
        password: str = "",
        *,
        autocommit: bool = True,
    ) -> psycopg.Connection[tuple[object, ...]]:
        """A psycopg 3 connection; close it."""
        return psycopg.connect(self.dsn(database, user, password), autocommit=autocommit)

    def admin(self, sql: str) -> list[dict[str, str]]:
        """Run a command of the admin database; the rows as text by column name."""
        with psycopg.connect(
            self.dsn("pgcat", ADMIN, ADMIN_PASSWORD),
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        ) as connection:
            cursor = connection.execute(sql)
            if cursor.description is None:
                return []
            names = [column.name for column in cursor.description]
            return [
                {name: str(value) for name, value in zip(names, row, strict=True)}
                for row in cursor.fetchall()
            ]

    def pool(self, database: str, user: str = "postgres") -> dict[str, str]:
        """The row of SHOW POOLS for a pool."""
        for row in self.admin("SHOW POOLS"):
            if (row["database"], row["user"]) == (database, user):
                return row
        raise AssertionError(f"no pool {database}/{user}")

    def log(self) -> str:
        """All that it has logged."""
        return self.log_path.read_text()

    def log_with(self, line: str, *, since: int = 0) -> str:
        """What it has logged from a position on, once that has the line: it is written late."""

        def found() -> str:
            log = self.log()[since:]
            return log if line in log else ""

        return wait_until(f"the log has {line!r}", found)

    def reload(self, text: str) -> None:
        """Replace the configuration and have it read."""
        self.config_path.write_text(text)
        self.admin("RELOAD")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def rss(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def is_serving(self) -> bool:
        """Whether the port accepts connections."""
        assert self.process.poll() is None, f"the router has ended:\n{self.log()}"
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def stop(self) -> None:
        """End it, and insist that it had no internal error."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(PATIENCE)
        assert "internal error" not in self.log(), self.log()
        assert "Traceback" not in self.log(), self.log()


def start(
    directory: Path,
    text: Callable[[int], str],
    *arguments: str,
    program: Sequence[str] = ("router",),
    port: int = 0,
) -> RouterProcess:
    """Start a router whose configuration is made for the port that it gets.

    Its `program` is a module with the arguments that come before the router's. A `port` that
    is given may be that of another router, too.
    """
    is_shared = bool(port)
    port = port or free_port()
    config_path = directory / f"pgcat-{port}.toml"
    log_path = directory / f"pgcat-{port}.log"
    config_path.write_text(text(port))
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *program, str(config_path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    router = RouterProcess(process, port, config_path, log_path)
    try:
        if is_shared:  # the other one serves
            router.log_with(" listening on ")
        wait_until("the router serves", router.is_serving)
    except BaseException:
        process.kill()
        process.wait()
        raise
    return router


@pytest.fixture
def start_router(tmp_path: Path) -> Iterator[Callable[..., RouterProcess]]:
    """Return a function that starts a router for this test: `({"db": PoolText(..)})`."""
    started: list[RouterProcess] = []

    def begin(pools: dict[str, PoolText], general: str = "", *arguments: str) -> RouterProcess:
        router = start(tmp_path, lambda port: config_text(port, pools, general), *arguments)
        started.append(router)
        return router

    yield begin
    for router in started:
        if router.process.poll() is None:
            router.stop()
