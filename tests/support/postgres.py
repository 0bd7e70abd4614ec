"""Real PostgreSQL servers for the tests, shared by all workers of one pytest run.

The first worker that needs a kind of server starts it, the others attach to it, and the servers
end with the last worker's lease on the workspace. Whoever stops, kills or reconfigures a server
makes a private one with `private_primary` or `private_cluster`.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from router.demo.cluster import initialise
from router.demo.installation import Installation, find_installation
from tests.support.cluster.cluster import Cluster, Shard
from tests.support.cluster.server import Server
from tests.support.cluster.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from psycopg.rows import TupleRow

PASSWORD = "secret"
APP_USERS = {"app_scram": "scram-sha-256", "app_md5": "md5", "app_plain": "password"}
HBA = (
    *(f"host all {user} 127.0.0.1/32 {method}" for user, method in APP_USERS.items()),
    "host all all 127.0.0.1/32 scram-sha-256",
)
SETTINGS = {"max_connections": "200"}
SYSTEM_INSTALLATIONS = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class Database:
    """A database that only one test uses."""

    server: Server
    name: str

    @property
    def host(self) -> str:
        """The server's address."""
        return self.server.host

    @property
    def port(self) -> int:
        """The server's port."""
        return self.server.port

    def execute(self, sql: str, params: Sequence[object] | None = None) -> list[TupleRow]:
        """Run SQL as the superuser, on a connection of its own, past the router."""
        return self.server.execute(sql, params, database=self.name)


class PrivateCluster(Protocol):
    """Makes servers that only one test uses, and that end with it."""

    def __call__(
        self,
        *,
        shards: int = 1,
        replicas: int = 0,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = HBA,
        bin_dir: Path | None = None,
    ) -> Cluster: ...


class PostgresRun:
    """The servers of one pytest run, as one of its workers sees them."""

    def __init__(self, workspace: Workspace, directory: Path) -> None:
        self.workspace = workspace
        self._directory = directory
        self._names = itertools.count()

    def unique_name(self, prefix: str) -> str:
        """Return a name that no other worker of this run, and no other test, uses."""
        return f"{prefix}_{_worker()}_{next(self._names)}"

    def template(self, bin_dir: Path | None = None) -> Path:
        """Return the empty data directory of an installation, which all clusters copy."""
        digest = hashlib.sha256(str(bin_dir).encode()).hexdigest()[:8]
        template = self.workspace.root / f"template-{digest}"
        installation = self._installation(bin_dir)
        with _locked(self._directory / "template.lock"):
            if not (finished := template.with_suffix(".finished")).exists():
                initialise(installation, template)
                finished.touch()
        return template

    def shared(self, name: str, *, shards: int, replicas: int) -> tuple[Shard, ...]:
        """Return servers that every worker may use and none may stop."""
        register = self.workspace.root / f"{name}.json"
        with _locked(self._directory / f"{name}.lock"):
            if not register.exists():
                cluster = self.private(name=name, shards=shards, replicas=replicas)
                cluster.wait_for_replication()
                cluster.disown()
                servers = [(str(server.data_dir), server.port) for server in cluster.servers]
                register.write_text(json.dumps(servers))
        return self._attach(json.loads(register.read_text()), replicas)

    def private(
        self,
        *,
        name: str | None = None,
        shards: int = 1,
        replicas: int = 0,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = HBA,
        bin_dir: Path | None = None,
    ) -> Cluster:
        """Start servers of one's own, with the tests' users; the caller closes them."""
        cluster = Cluster(
            shards=shards,
            replicas=replicas,
            settings={**SETTINGS, **(settings or {})},
            hba=hba,
            bin_dir=bin_dir,
            workspace=self.workspace,
            template=self.template(bin_dir),
            name=self.unique_name("private") if name is None else name,
        )
        cluster.start()
        for shard in cluster.shards:
            create_users(shard.primary)
        return cluster

    def _installation(self, bin_dir: Path | None = None) -> Installation:
        """Find PostgreSQL's programs; the first worker may have to copy them."""
        with _locked(self._directory / "installation.lock"):
            return find_installation(self.workspace.root, self.workspace.account, bin_dir)

    def _attach(self, servers: list[tuple[str, int]], replicas: int) -> tuple[Shard, ...]:
        installation = self._installation()
        attached = iter([Server(installation, Path(path), port) for path, port in servers])
        return tuple(
            Shard(primary, tuple(itertools.islice(attached, replicas))) for primary in attached
        )


def create_users(primary: Server) -> None:
    """Create the tests' users, who may create what they like in every new database."""
    for user, method in APP_USERS.items():
        encryption = "md5" if method == "md5" else "scram-sha-256"
        primary.execute(
            "SET client_min_messages = error;"
            f" SET password_encryption = '{encryption}';"
            f" CREATE ROLE {user} LOGIN PASSWORD '{PASSWORD}'"
        )
    for database in ("template1", "postgres"):
        primary.execute("GRANT ALL ON SCHEMA public TO PUBLIC", database=database)


@pytest.fixture(scope="session")
def postgres_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresRun]:
    """Lease the workspace that this run's servers live in."""
    base = tmp_path_factory.getbasetemp()
    is_shared = "PYTEST_XDIST_WORKER" in os.environ
    directory = base.parent if is_shared else base
    workspace = _shared_workspace(directory)
    yield PostgresRun(workspace, directory)
    if is_shared:
        workspace.release()
    else:
        workspace.close()


@pytest.fixture(scope="session")
def postgres(postgres_run: PostgresRun) -> Server:
    """One primary, shared by all tests: see `fresh_database`."""
    [shard] = postgres_run.shared("postgres", shards=1, replicas=0)
    return shard.primary


@pytest.fixture(scope="session")
def replicated(postgres_run: PostgresRun) -> Shard:
    """One primary with two streaming replicas, shared by all tests: see `make_database`."""
    [shard] = postgres_run.shared("replicated", shards=1, replicas=2)
    return shard


@pytest.fixture(scope="session")
def sharded(postgres_run: PostgresRun) -> tuple[Shard, ...]:
    """Three shards of a primary and a streaming replica, shared: see `make_database`."""
    return postgres_run.shared("sharded", shards=3, replicas=1)


@pytest.fixture
def make_database(postgres_run: PostgresRun) -> Iterator[Callable[..., Database]]:
    """Return a function that creates a database on a server; it is dropped after the test.

    Give it a name to have the same one on several shards.
    """
    made: list[Database] = []

    def make(server: Server, name: str | None = None) -> Database:
        database = Database(server, name or postgres_run.unique_name("test"))
        server.execute(f"CREATE DATABASE {database.name}")
        made.append(database)
        return database

    yield make
    for database in made:
        database.server.execute(f"DROP DATABASE IF EXISTS {database.name} WITH (FORCE)")


@pytest.fixture
def fresh_database(postgres: Server, make_database: Callable[..., Database]) -> Database:
    """An empty database on the shared primary."""
    return make_database(postgres)


@pytest.fixture
def private_cluster(postgres_run: PostgresRun) -> Iterator[PrivateCluster]:
    """Return a function that starts a cluster for this test alone."""
    clusters: list[Cluster] = []

    def start(
        *,
        shards: int = 1,
        replicas: int = 0,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = HBA,
        bin_dir: Path | None = None,
    ) -> Cluster:
        cluster = postgres_run.private(
            shards=shards, replicas=replicas, settings=settings, hba=hba, bin_dir=bin_dir
        )
        clusters.append(cluster)
        return cluster

    yield start
    for cluster in clusters:
        cluster.close()


@pytest.fixture
def private_primary(private_cluster: PrivateCluster) -> Callable[..., Server]:
    """Return a function that starts a server for this test alone; settings by keyword."""

    def start(**settings: str) -> Server:
        return private_cluster(settings=settings).primary

    return start


@pytest.fixture(scope="session")
def system_bin_dir() -> Path:
    """The programs of the system's newest PostgreSQL, whose server has OpenSSL."""
    found = sorted(
        SYSTEM_INSTALLATIONS.glob("*/bin/postgres"), key=lambda path: int(path.parts[-3])
    )
    if not found:
        pytest.skip(f"no PostgreSQL server of the system in {SYSTEM_INSTALLATIONS}")
    return found[-1].parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that starts real servers, so that `-m "not postgres"` leaves them out."""
    for item in items:
        if "postgres_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.postgres)


def _shared_workspace(directory: Path) -> Workspace:
    pointer = directory / "postgres-workspace"
    with _locked(directory / "postgres-workspace.lock"):
        if pointer.exists():
            joined = Workspace.join(Path(pointer.read_text()))
            if joined is not None:
                return joined
        workspace = Workspace.create()
        pointer.write_text(str(workspace.root))
        return workspace


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep the other workers of this run out."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _worker() -> str:
    return os.environ.get("PYTEST_XDIST_WORKER", "main")
