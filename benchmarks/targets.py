"""What is measured: PostgreSQL itself, the router and PgBouncer before it, all on loopback."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from router.demo.server import HOST, SUPERUSER, free_port, wait_until
from tests.support.cluster.cluster import Cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.cluster.server import Server

DATABASE = "bench"
START_SECONDS = 30.0
# For all who log in at once; the kernel caps it.
LISTEN_BACKLOG = 4096
# The first release that keeps prepared statements in transaction mode.
PREPARED_SINCE = (1, 21)


class BenchmarkError(Exception):
    """A target could not be started or measured."""


@dataclass(frozen=True, slots=True)
class Login:
    """Who the clients are.

    Attributes:
        method: how they prove it, in pg_hba.conf's words.
    """

    user: str
    password: str = field(repr=False)
    method: str


TRUST = Login(SUPERUSER, "unused", "trust")
SCRAM = Login("bench_scram", "only for a moment", "scram-sha-256")


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files of a certificate for the loopback address, and its key."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Target:
    """A server to connect to.

    Attributes:
        log_path: where its complaints are, if we have started it.
        pid: of the proxy, None for PostgreSQL itself, whose cost is not told apart.
        protocols: the values of pgbench's `-M` that it can serve.
    """

    name: str
    version: str
    port: int
    log_path: Path | None
    pid: int | None
    protocols: frozenset[str] = frozenset({"simple", "extended", "prepared"})
    host: str = HOST
    login: Login = TRUST

    @property
    def conninfo(self) -> str:
        """What libpq needs to know; without TLS."""
        password = f" password='{self.login.password}'" if self.login is not TRUST else ""
        return (
            f"host={self.host} port={self.port} user={self.login.user} dbname={DATABASE}"
            f" sslmode=disable gssencmode=disable{password}"
        )


@dataclass(frozen=True, slots=True)
class Options:
    """How the proxies are set up.

    Attributes:
        is_parser_on: parse queries, split reads from writes and, with several shards, find the
            shard of each query by its key.
        shards: how many the router believes to have; all of them are the one server.
        multiplexing: of the router.
        login: of the clients, and of the proxies at PostgreSQL.
        certificate: for TLS with clients.
        replica: port of a standby, which then takes all reads if the parser is on.
    """

    pool_size: int
    max_clients: int
    is_parser_on: bool
    router_command: tuple[str, ...]
    pgbouncer: str | None
    shards: int = 1
    multiplexing: str = "off"
    login: Login = TRUST
    certificate: Certificate | None = None
    replica: int | None = None


@contextlib.contextmanager
def postgres(connections: int, bin_dir: Path | None) -> Iterator[Server]:
    """A throw-away PostgreSQL server with an empty database for the benchmark."""
    with postgres_cluster(connections, bin_dir, replicas=0) as cluster:
        yield cluster.primary


@contextlib.contextmanager
def postgres_cluster(
    connections: int, bin_dir: Path | None, *, replicas: int
) -> Iterator[Cluster]:
    """A throw-away PostgreSQL server with an empty database, and standbys of it."""
    settings = {
        "max_connections": str(connections),
        "shared_buffers": "128MB",
        "checkpoint_timeout": "1h",
        "max_wal_size": "2GB",
    }
    hba = [f"host all {SCRAM.user} {HOST}/32 {SCRAM.method}"]
    with Cluster(
        shards=1, replicas=replicas, settings=settings, hba=hba, bin_dir=bin_dir
    ) as cluster:
        cluster.primary.execute(f"CREATE DATABASE {DATABASE}")
        cluster.primary.execute(
            f"CREATE ROLE {SCRAM.user} SUPERUSER LOGIN PASSWORD '{SCRAM.password}'"
        )
        yield cluster


@contextlib.contextmanager
def all_targets(server: Server, options: Options) -> Iterator[list[Target]]:
    """PostgreSQL, the router and, where there is one, PgBouncer, all up."""
    raise_file_limit()
    with contextlib.ExitStack() as stack:
        targets = [direct(server), stack.enter_context(router(server, options))]
        if options.pgbouncer is not None:
            targets.append(stack.enter_context(pgbouncer(server, options)))
        yield targets


@contextlib.contextmanager
def with_and_without_routing(server: Server, options: Options) -> Iterator[list[Target]]:
    """PostgreSQL, the router that asks no query where to go, and the one that asks each."""
    raise_file_limit()
    with (
        router(server, replace(options, is_parser_on=False)) as plain,
        router(server, replace(options, is_parser_on=True), "routing") as routing,
    ):
        yield [direct(server), plain, routing]


def direct(server: Server, login: Login = TRUST) -> Target:
    """PostgreSQL itself."""
    version = server.execute("SHOW server_version")[0][0]
    return Target(
        "direct", f"PostgreSQL {version}", server.port, server.log_path, None, login=login
    )


def raise_file_limit() -> None:
    """Allow as many connections as the system lets us have; the proxies inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def router(server: Server, options: Options, name: str = "router") -> Iterator[Target]:
    """The router in transaction mode, as a process of its own."""
    port = free_port()
    with router_with(
        server, options, port, router_config(port, server.port, options), name
    ) as it:
        yield it


@contextlib.contextmanager
def router_with(
    server: Server, options: Options, port: int, config: str, name: str
) -> Iterator[Target]:
    """The router with this pgcat.toml, by which it listens on this port."""
    config_path = server.installation.cwd / f"{name}.toml"
    config_path.write_text(config)
    log_path = config_path.with_suffix(".log")
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            [*options.router_command, str(config_path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    with running(process, port, log_path):
        command = " ".join(map(os.path.basename, options.router_command))
        yield Target(name, command, port, log_path, process.pid, login=options.login)


def router_config(port: int, server_port: int, options: Options) -> str:
    """The router's pgcat.toml: PgBouncer's settings below, in other words."""
    parser = str(options.is_parser_on).lower()
    servers = f'["{HOST}", {server_port}, "primary"]'
    if options.replica is not None:
        servers += f', ["{HOST}", {options.replica}, "replica"]'
    shards = "".join(
        f"""
[pools.{DATABASE}.shards.{number}]
database = "{DATABASE}"
servers = [{servers}]
"""
        for number in range(options.shards)
    )
    is_keyed = options.is_parser_on and options.shards > 1
    tls = options.certificate
    return f"""\
[general]
host = "{HOST}"
port = {port}
admin_username = "admin"
admin_password = "admin"
connect_timeout = 10000
listen_backlog = {LISTEN_BACKLOG}
{f'tls_certificate = "{tls.certificate}"' if tls is not None else ""}
{f'tls_private_key = "{tls.key}"' if tls is not None else ""}

[pools.{DATABASE}]
pool_mode = "transaction"
default_role = "{"any" if options.replica is None or options.is_parser_on else "primary"}"
query_parser_enabled = {parser}
multiplexing = "{options.multiplexing}"
query_parser_read_write_splitting = {parser}
primary_reads_enabled = {str(options.replica is None).lower()}
prepared_statements_cache_size = 500
{'automatic_sharding_key = "pgbench_accounts.aid"' if is_keyed else ""}
# With several shards all of them are used, whether or not keys are looked at.
default_shard = "{"shard_0" if options.shards == 1 else "random"}"

[pools.{DATABASE}.users.0]
username = "{options.login.user}"
password = "{options.login.password}"
auth_type = "{options.login.method}"
pool_size = {options.pool_size}
{shards}"""


@contextlib.contextmanager
def pgbouncer(server: Server, options: Options) -> Iterator[Target]:
    """PgBouncer with the same pool, under the account that PostgreSQL runs under."""
    assert options.pgbouncer is not None
    version = pgbouncer_version(options.pgbouncer)
    protocols = {"simple", "extended"} | ({"prepared"} if version >= PREPARED_SINCE else set())
    port = free_port()
    installation = server.installation
    directory = installation.cwd
    config_path = directory / "pgbouncer.ini"
    installation.write(
        config_path, pgbouncer_config(port, server.port, directory, options, version)
    )
    secret = options.login.password
    if (
        options.login is SCRAM
    ):  # not the password: PgBouncer would derive the keys at each login
        query = "SELECT rolpassword FROM pg_authid WHERE rolname = %s"
        secret = server.execute(query, [SCRAM.user])[0][0]
    users = [f'"{options.login.user}" "{secret}"']
    installation.write(directory / "users.txt", users)
    log_path = directory / "pgbouncer.out"
    with log_path.open("wb") as log:
        process = installation.popen(options.pgbouncer, "-q", config_path, stdout=log.fileno())
    with running(process, port, log_path):
        name = "PgBouncer " + ".".join(map(str, version))
        yield Target(
            *("pgbouncer", name, port, log_path, process.pid, frozenset(protocols)),
            login=options.login,
        )


def pgbouncer_config(
    port: int, server_port: int, directory: Path, options: Options, version: tuple[int, ...]
) -> list[str]:
    """The lines of pgbouncer.ini."""
    lines = [
        "[databases]",
        f"{DATABASE} = host={HOST} port={server_port} dbname={DATABASE}",
        "[pgbouncer]",
        f"listen_addr = {HOST}",
        f"listen_port = {port}",
        "unix_socket_dir =",
        f"auth_type = {options.login.method}",
        f"auth_file = {directory / 'users.txt'}",
        "pool_mode = transaction",
        f"default_pool_size = {options.pool_size}",
        f"max_client_conn = {options.max_clients}",
        "ignore_startup_parameters = extra_float_digits",
        f"listen_backlog = {LISTEN_BACKLOG}",
        "log_connections = 0",
        "log_disconnections = 0",
        "log_stats = 0",
    ]
    if options.certificate is not None:
        lines += [
            "client_tls_sslmode = allow",
            f"client_tls_cert_file = {options.certificate.certificate}",
            f"client_tls_key_file = {options.certificate.key}",
        ]
    return lines + ["max_prepared_statements = 500"] * (version >= PREPARED_SINCE)


def find_pgbouncer() -> str | None:
    """PgBouncer on the PATH, or where distributions hide it."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def pgbouncer_version(program: str) -> tuple[int, ...]:
    """The numbers after the name in what `--version` prints."""
    text = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True
    ).stdout
    match = re.search(r"PgBouncer (\d+)\.(\d+)\.(\d+)", text)
    if match is None:
        raise BenchmarkError(f"cannot read the version of {program} from {text!r}")
    return tuple(map(int, match.groups()))


@contextlib.contextmanager
def running(process: subprocess.Popen[bytes], port: int, log_path: Path) -> Iterator[None]:
    """Wait until a process listens on its port; end it on exit."""

    def is_listening() -> bool:
        if process.poll() is not None:
            raise BenchmarkError(_complaint(process.args, "has ended", log_path))
        with socket.socket() as probe:
            return probe.connect_ex((HOST, port)) == 0

    try:
        if not wait_until(is_listening, START_SECONDS):
            raise BenchmarkError(_complaint(process.args, "does not listen", log_path))
        yield
    finally:
        process.send_signal(signal.SIGQUIT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _complaint(command: object, what: str, log_path: Path) -> str:
    words = command if isinstance(command, list) else [command]
    return f"{' '.join(map(str, words))} {what}:\n{log_tail(log_path)}"


def log_tail(log_path: Path | None) -> str:
    """The end of a log."""
    if log_path is None:
        return ""
    return "\n".join(log_path.read_text(errors="replace").splitlines()[-15:])
