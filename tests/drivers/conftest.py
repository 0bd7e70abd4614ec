"""One router for all tests of drivers, with a pool for each way of pooling.

The tests of all modules meet in the same router process and the same server connections, so
that what one driver leaves behind would be found by the next.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import pq

from tests.support.router import (
    PATIENCE,
    PoolText,
    RouterProcess,
    config_text,
    primary_of,
    start,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from psycopg.pq.abc import PGconn

    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun

Connection = psycopg.Connection[tuple[object, ...]]

SESSION = "session_pool"
TRANSACTION = "transaction_pool"
SINGLE = "single_pool"
TINY_CACHE = "tiny_cache_pool"
STATEMENT = "statement_pool"
TRANSACTION_POOL_SIZE = 8
TINY_CACHE_SIZE = 5


@dataclass(frozen=True, slots=True)
class Proxied:
    """The router of the driver tests, and the database behind all of its pools."""

    router: RouterProcess
    server: Server
    database: str
    config: str

    @property
    def port(self) -> int:
        """The router's port."""
        return self.router.port

    def connect(self, pool: str, *, autocommit: bool = True, **settings: str) -> Connection:
        """A psycopg 3 connection through a pool; further keywords are libpq's."""
        dsn = self.router.dsn(pool)
        return psycopg.connect(dsn, autocommit=autocommit, **settings)  # type: ignore[arg-type]

    @contextmanager
    def libpq(self, pool: str) -> Iterator[PGconn]:
        """A bare libpq connection, which sends what it is told and nothing else."""
        connection = pq.PGconn.connect(self.router.dsn(pool).encode())
        assert connection.status == pq.ConnStatus.OK, connection.error_message
        yield connection
        connection.finish()

    def direct(self, *, autocommit: bool = True, **settings: str) -> Connection:
        """A psycopg 3 connection to PostgreSQL itself."""
        return psycopg.connect(
            host=self.server.host,
            port=self.server.port,
            user="postgres",
            dbname=self.database,
            autocommit=autocommit,
            **settings,  # type: ignore[arg-type]
        )

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's client programs, the server's own if it is there."""
        path = self.server.installation.bin_dir / name
        found = str(path) if path.exists() else shutil.which(name)
        if found is None:
            pytest.skip(f"{name} is not installed")
        return found

    def environment(self, pool: str) -> dict[str, str]:
        """The environment in which a program of PostgreSQL's finds a pool."""
        return {
            **os.environ,
            "PGHOST": self.router.host,
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGDATABASE": pool,
        }


def run_program(
    command: Sequence[str], environment: Mapping[str, str], stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a client program to its end, whatever that is."""
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        env=environment,
        input=stdin,
        text=True,
        timeout=PATIENCE * 3,
    )


def _pools(server: Server, database: str) -> dict[str, PoolText]:
    def pool(mode: str, size: int, options: str = "") -> PoolText:
        return PoolText(
            shards=[primary_of(server)],
            database=database,
            pool_size=size,
            options=f'pool_mode = "{mode}"\n{options}',
        )

    return {
        SESSION: pool("session", 8),
        TRANSACTION: pool("transaction", TRANSACTION_POOL_SIZE),
        SINGLE: pool("transaction", 1),
        TINY_CACHE: pool(
            "transaction", 1, f"prepared_statements_cache_size = {TINY_CACHE_SIZE}"
        ),
        STATEMENT: pool("statement", 2),
    }


@pytest.fixture(scope="session")
def proxied(
    postgres: Server, postgres_run: PostgresRun, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Proxied]:
    """The router that all driver tests of this worker share."""
    database = postgres_run.unique_name("drivers")
    postgres.execute(f"CREATE DATABASE {database}")
    pools = _pools(postgres, database)
    router = start(tmp_path_factory.mktemp("drivers"), lambda port: config_text(port, pools))
    yield Proxied(router, postgres, database, config_text(router.port, pools))
    router.stop()
    postgres.execute(f"DROP DATABASE {database} WITH (FORCE)")
