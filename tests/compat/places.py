"""Where a suite is run: on PostgreSQL itself, and through the poolers before it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from benchmarks.targets import pgbouncer_version, running
from router.demo.server import HOST, SUPERUSER, free_port
from tests.support.router import PoolText, config_text, primary_of, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.cluster.server import Server

DIRECT: Final = "direct"
SESSION: Final = "session"
TRANSACTION: Final = "transaction"
PGBOUNCER: Final = "pgbouncer"
PLACES: Final = (DIRECT, SESSION, TRANSACTION, PGBOUNCER)
TITLES: Final = {
    DIRECT: "directly",
    SESSION: "session mode",
    TRANSACTION: "transaction mode",
    PGBOUNCER: "PgBouncer, transaction mode",
}
POOL_SIZE: Final = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A port to connect to, and what answers there."""

    name: str
    port: int
    version: str


@contextlib.contextmanager
def opened(
    name: str, server: Server, databases: Sequence[str], pgbouncer: str | None
) -> Iterator[Place]:
    """Start what a place needs before a server."""
    if name == DIRECT:
        version = server.execute("SHOW server_version")[0][0]
        yield Place(name, server.port, f"PostgreSQL {version}")
    elif name == PGBOUNCER:
        assert pgbouncer is not None
        with _pgbouncer(pgbouncer, server) as place:
            yield place
    else:
        with _router(name, server, databases) as place:
            yield place


@contextlib.contextmanager
def _router(mode: str, server: Server, databases: Sequence[str]) -> Iterator[Place]:
    pools = {
        database: PoolText(
            shards=[primary_of(server)],
            database=database,
            pool_size=POOL_SIZE,
            options=f'pool_mode = "{mode}"',
        )
        for database in databases
    }
    router = start(server.installation.cwd, lambda port: config_text(port, pools))
    try:
        yield Place(mode, router.port, "the router")
    finally:
        router.stop()  # which insists that nothing went wrong inside


@contextlib.contextmanager
def _pgbouncer(program: str, server: Server) -> Iterator[Place]:
    installation = server.installation
    directory = installation.cwd
    port = free_port()
    version = pgbouncer_version(program)
    config_path, log_path = directory / "compat.ini", directory / "compat.out"
    lines = [
        "[databases]",
        f"* = host={HOST} port={server.port}",
        "[pgbouncer]",
        f"listen_addr = {HOST}",
        f"listen_port = {port}",
        "unix_socket_dir =",
        "auth_type = trust",
        f"auth_file = {directory / 'compat-users.txt'}",
        "pool_mode = transaction",
        f"default_pool_size = {POOL_SIZE}",
        "max_client_conn = 500",
        # What it does not know it would refuse, and few suites would get any further.
        "ignore_startup_parameters = extra_float_digits,options,search_path,"
        "statement_timeout,lock_timeout,idle_in_transaction_session_timeout",
        "max_prepared_statements = 500" if version >= (1, 21, 0) else "",
    ]
    installation.write(config_path, lines)
    installation.write(directory / "compat-users.txt", [f'"{SUPERUSER}" ""'])
    with log_path.open("wb") as log:
        process = installation.popen(program, "-q", config_path, stdout=log.fileno())
    with running(process, port, log_path):
        yield Place(PGBOUNCER, port, "PgBouncer " + ".".join(map(str, version)))
