"""PostgreSQL and the proxies before it, set up anew for each setup of the suite."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from router.errors import RouterError

from . import pgbench, streams
from .others import OTHERS
from .targets import (
    TRUST,
    BenchmarkError,
    Certificate,
    Login,
    Options,
    Target,
    direct,
    pgbouncer,
    postgres_cluster,
    raise_file_limit,
    router,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.support.cluster.server import Server

ROUTER, MULTIPLEXED, PLAIN = "router", "router mux", "router, no routing"


class Routing(Enum):
    """What the router looks for in the texts."""

    OFF = "nothing"
    REPLICA = "reads, which go to a replica"
    KEY = "the sharding key"


@dataclass(frozen=True, slots=True)
class Setup:
    """What is equal for all proxies of a load.

    Attributes:
        pool: server connections.
        is_fresh: whether the proxies must not have served anything before.
    """

    pool: int = 20
    login: Login = TRUST
    routing: Routing = Routing.OFF
    is_tls: bool = False
    is_fresh: bool = False


USUAL = Setup()


@dataclass(frozen=True, slots=True)
class Proxies:
    """Which proxies take part.

    Attributes:
        router_command: what starts the router, given the path of a pgcat.toml.
        pgbouncer: its program, None to leave it out.
        others: programs by names of OTHERS.
        running: what runs already; it is measured as it is, with the plainest setup alone.
    """

    router_command: tuple[str, ...]
    pgbouncer: str | None
    others: Mapping[str, str]
    running: Sequence[Target]


@dataclass(frozen=True, slots=True)
class Bed:
    """Servers to be measured.

    Attributes:
        max_clients: how many will connect at most.
        replica: None if the bed has none.
    """

    server: Server
    replica: Server | None
    proxies: Proxies
    max_clients: int

    @contextlib.contextmanager
    def targets(self, setup: Setup) -> Iterator[tuple[list[Target], dict[str, str]]]:
        """Start all proxies; yield them, and why others, by name, could not be started."""
        options = self._options(setup)
        starts = self._starts(setup, options)
        found = [direct(self.server, setup.login)]
        missing: dict[str, str] = {}
        with contextlib.ExitStack() as stack:
            for name, start in starts.items():
                try:
                    found.append(stack.enter_context(start()))
                except (BenchmarkError, RouterError, OSError) as error:
                    missing[name] = str(error)
            yield [*found, *self._running(setup)], missing

    def _starts(
        self, setup: Setup, options: Options
    ) -> dict[str, Callable[[], AbstractContextManager[Target]]]:
        shared = replace(options, multiplexing="reads")
        plain = replace(options, is_parser_on=False)
        starts: dict[str, Callable[[], AbstractContextManager[Target]]] = {}
        if options.pgbouncer is not None:
            starts["pgbouncer"] = lambda: pgbouncer(self.server, options)
        starts[ROUTER] = lambda: router(self.server, options, ROUTER)
        starts[MULTIPLEXED] = lambda: router(self.server, shared, MULTIPLEXED)
        if setup.routing is not Routing.OFF:
            starts[PLAIN] = lambda: router(self.server, plain, PLAIN)
        for name, program in self.proxies.others.items():
            other = OTHERS[name]
            if other.can(options):
                starts[name] = lambda: other.start(self.server, program, options)  # noqa: B023
        return starts

    def _running(self, setup: Setup) -> Sequence[Target]:
        return self.proxies.running if setup in (USUAL, Setup(is_fresh=True)) else ()

    def _options(self, setup: Setup) -> Options:
        is_keyed = setup.routing is Routing.KEY
        is_split = setup.routing is Routing.REPLICA
        replica = self.replica.port if is_split and self.replica is not None else None
        return Options(
            pool_size=setup.pool,
            max_clients=self.max_clients,
            is_parser_on=setup.routing is not Routing.OFF,
            router_command=self.proxies.router_command,
            pgbouncer=self.proxies.pgbouncer,
            shards=2 if is_keyed else 1,
            login=setup.login,
            certificate=self._certificate() if setup.is_tls else None,
            replica=replica,
        )

    def _certificate(self) -> Certificate:
        installation = self.server.installation
        made = Certificate(installation.cwd / "bench.crt", installation.cwd / "bench.key")
        if shutil.which("openssl") is None:
            raise BenchmarkError("there is no program openssl to make a certificate with")
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
                *("-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=localhost"),
                *("-keyout", str(made.key), "-out", str(made.certificate)),
            ],
            check=True,
            capture_output=True,
        )
        for path in (made.key, made.certificate):  # PgBouncer's account must be able to read
            installation.write(path, path.read_text().splitlines())
        return made


@contextlib.contextmanager
def make_bed(
    proxies: Proxies,
    bin_dir: Path | None,
    *,
    has_replica: bool,
    max_clients: int,
    scale: int,
    rows: int,
    port: int | None = None,
) -> Iterator[Bed]:
    """Start PostgreSQL, on a given port or any, and fill the tables.

    Args:
        scale: of pgbench's tables.
        rows: of the table that is read as a whole.
    """
    raise_file_limit()
    connections = max_clients + 400  # and the pools of all proxies
    with postgres_cluster(connections, bin_dir, replicas=int(has_replica)) as cluster:
        server = cluster.primary
        if port is not None:
            server.stop()
            server.port = port
            server.start()
        pgbench.initialise(server.installation, server.port, scale)
        if rows:
            streams.prepare(server, rows)
        replicas = cluster.shards[0].replicas
        if replicas:
            cluster.wait_for_replication()
        yield Bed(server, replicas[0] if replicas else None, proxies, max_clients)
