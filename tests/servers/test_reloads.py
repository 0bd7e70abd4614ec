"""The configuration is replaced under load: who keeps a pool notices nothing, nothing is left.

There are 30 clients and 20 reloads, which add, change and remove pools, users and shards.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.postgres import Database
from tests.support.router import PoolText, RouterProcess, config_text, primary_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun

    Connection = psycopg.Connection[tuple[object, ...]]

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

RELOADS = 20
# How many clients which pool and user has. The last two pairs come and go.
CLIENTS = {
    ("kept", "postgres"): 6,
    ("changed", "postgres"): 6,
    ("session", "postgres"): 4,
    ("sharded", "postgres"): 6,
    ("users", "postgres"): 2,
    ("users", "two"): 3,
    ("comes", "postgres"): 3,
}
COMES_AND_GOES = {("users", "two"), ("comes", "postgres")}
# There is no such pool any more, or no such user.
GONE = {"3D000", "28P01"}
SECOND = """\
[pools.users.users.1]
username = "two"
server_username = "postgres"
pool_size = 2
auth_type = "trust"
password = ""
"""


@pytest.fixture
def databases(postgres: Server, postgres_run: PostgresRun) -> Iterator[list[Database]]:
    """Three, whose table tells which of them it is in."""
    made = [Database(postgres, postgres_run.unique_name("reloads")) for _ in range(3)]
    for number, database in enumerate(made):
        postgres.execute(f"CREATE DATABASE {database.name}")
        database.execute(f"CREATE TABLE here AS SELECT {number} AS n")
    yield made
    for database in made:
        postgres.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


@dataclass
class Client:
    """One that asks the same again and again, and comes back when it is sent away."""

    router: RouterProcess
    database: str
    user: str
    is_over: threading.Event
    asked: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    wrong: list[object] = field(default_factory=list)

    def run(self) -> None:
        """Until it is over."""
        while not self.is_over.is_set():
            try:
                with self.router.connect(self.database, self.user, "any") as link:
                    while not self.is_over.is_set():
                        self.ask(link)
            except psycopg.Error as error:
                self.failures[self._sqlstate(error)] += 1
                self.asked += 1

    def ask(self, link: Connection) -> None:
        """A transaction, statements by themselves, and one that is prepared."""
        if self.database == "sharded":
            link.execute("SET SHARD TO 0")
        with link.transaction():
            link.execute("CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT 1 AS n")
            found = [link.execute("SELECT n FROM mine").fetchone()]
        found.append(link.execute("SELECT n + 1 FROM here").fetchone())
        found.append(link.execute("SELECT %s + n FROM here", (1,), prepare=True).fetchone())
        if found != [(1,)] * 3:
            self.wrong.append(found)
        self.asked += 1

    def _sqlstate(self, error: psycopg.Error) -> str:
        if error.sqlstate is not None:
            return error.sqlstate
        # A login that is refused has its reason in the text alone.
        text = str(error)
        if "password authentication failed" in text:
            return "28P01"
        return "3D000" if f'database "{self.database}" does not exist' in text else text


def pools(databases: list[Database], number: int) -> dict[str, PoolText]:
    """The pools after so many reloads: each kind of change comes in its own rhythm."""
    entry = primary_of(databases[0].server)

    def pool(shards: int = 1, size: int = 3, options: str = "", more: str = "") -> PoolText:
        return PoolText(
            [entry] * shards,
            databases=[database.name for database in databases[:shards]],
            pool_size=size,
            options=options,
            more_users=more,
        )

    found = {
        "kept": pool(),
        "changed": pool(size=2 + number % 3, options=f"idle_timeout = {60000 + number % 2}"),
        "session": pool(
            size=6, options=f'pool_mode = "session"\nserver_lifetime = {90000 + number}'
        ),
        "sharded": pool(shards=1 + number % 3),
        "users": pool(more=SECOND if number % 4 < 2 else ""),
    }
    # A server that has another database is another pool.
    if number % 2 == 0:
        found["comes"] = pool(options="" if number % 4 else "query_parser_enabled = true")
    return found


def of_router(databases: list[Database]) -> int:
    """Connections to the databases, in PostgreSQL."""
    names = ", ".join(f"'{database.name}'" for database in databases)
    sql = f"SELECT count(*) FROM pg_stat_activity WHERE datname IN ({names})"
    [(count,)] = databases[0].server.execute(sql)
    assert isinstance(count, int)
    return count


def descriptors(router: RouterProcess) -> int:
    """How many the process has open."""
    return len(os.listdir(f"/proc/{router.process.pid}/fd"))


def test_reloads_under_load_hurt_nobody_whose_pool_stays_and_leave_nothing(
    start_router: Callable[..., RouterProcess], databases: list[Database]
) -> None:
    router = start_router(pools(databases, 0))
    router.admin("SHOW POOLS")
    before = descriptors(router)
    is_over = threading.Event()
    clients = [
        Client(router, database, user, is_over)
        for (database, user), count in CLIENTS.items()
        for _ in range(count)
    ]
    assert len(clients) == 30
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    sizes = list[int]()
    try:
        for number in range(1, RELOADS + 1):
            goals = [client.asked + 2 for client in clients]
            wait_until(
                "everybody has been answered",
                lambda: all(
                    client.asked >= goal
                    for client, goal in zip(clients, goals, strict=True)  # noqa: B023
                ),
            )
            router.reload(config_text(router.port, pools(databases, number)))
            sizes.append(router.rss())
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    for client in clients:
        assert not client.wrong, client
        assert client.asked > RELOADS, client
        allowed = GONE if (client.database, client.user) in COMES_AND_GOES else set[str]()
        assert client.failures.keys() <= allowed, client
    comers = [client for client in clients if (client.database, client.user) in COMES_AND_GOES]
    assert all(client.failures for client in comers)

    wait_until("all have left", lambda: len(router.admin("SHOW CLIENTS")) == 1)
    wait_until(
        "no connection is without a pool",
        lambda: of_router(databases) == len(router.admin("SHOW SERVERS")),
    )
    limit = sum(
        pool.pool_size * len(pool.shards) + (2 if pool.more_users else 0)
        for pool in pools(databases, RELOADS).values()
    )
    assert of_router(databases) <= limit
    assert sizes[-1] - sizes[3] < 16 * 2**20, sizes
    router.reload(
        config_text(router.port, {"other": PoolText([primary_of(databases[0].server)])})
    )
    wait_until("all connections are closed", lambda: of_router(databases) == 0)
    wait_until("all descriptors are", lambda: descriptors(router) <= before)
