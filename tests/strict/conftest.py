"""What the strict tests share: a database and routers that serve all tests of a module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import pytest

from tests.support.postgres import Database
from tests.support.router import PoolText, RouterProcess, config_text, primary_of, start
from tests.support.shards import (
    Shards,
    start_shards,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun


class PoolFor(Protocol):
    """Makes a pool in front of the module's database."""

    def __call__(
        self, *, size: int = 1, mode: str = "transaction", options: str = ""
    ) -> PoolText: ...


class ModuleRouter(Protocol):
    """Starts a router that ends with the module."""

    def __call__(self, pools: dict[str, PoolText], general: str = "") -> RouterProcess: ...


@pytest.fixture(scope="module")
def database(postgres: Server, postgres_run: PostgresRun) -> Iterator[Database]:
    """A database of the module's own; it has a table `t` with a primary key and a text."""
    made = Database(postgres, postgres_run.unique_name("strict"))
    postgres.execute(f"CREATE DATABASE {made.name}")
    made.execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
    yield made
    postgres.execute(f"DROP DATABASE {made.name} WITH (FORCE)")


@pytest.fixture(scope="module")
def pool_for(database: Database) -> PoolFor:
    """Return a function that makes a pool in front of the module's database."""

    def make(*, size: int = 1, mode: str = "transaction", options: str = "") -> PoolText:
        return PoolText(
            [primary_of(database.server)],
            database=database.name,
            pool_size=size,
            options=f'pool_mode = "{mode}"\n{options}',
        )

    return make


@pytest.fixture(scope="module")
def module_router(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ModuleRouter]:
    """Return a function that starts a router; none may have an internal error."""
    started: list[RouterProcess] = []

    def begin(pools: dict[str, PoolText], general: str = "") -> RouterProcess:
        directory = tmp_path_factory.mktemp("router")
        router = start(directory, lambda port: config_text(port, pools, general))
        started.append(router)
        return router

    yield begin
    for router in started:
        if router.process.poll() is None:
            router.stop()


@pytest.fixture(params=["two phases", "one by one"])
def shard_server(
    request: pytest.FixtureRequest, private_primary: Callable[..., Server]
) -> Server:
    """A server for shards, with prepared transactions and without."""
    most = {"two phases": "20", "one by one": "0"}[request.param]
    return private_primary(max_prepared_transactions=most)


@pytest.fixture
def shards(shard_server: Server, start_router: Callable[..., RouterProcess]) -> Shards:
    """Three shards in one server."""
    return start_shards(shard_server, start_router)
