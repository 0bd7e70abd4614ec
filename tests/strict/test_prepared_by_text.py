"""What is prepared and described before it is bound goes where its text belongs and runs there.

Drivers ask for the types of parameters with a Flush, and bind values in the same batch.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strict.test_deferred_begin import answers
from tests.support.postgres import Database
from tests.support.router import PoolText, RouterProcess, servers_of
from tests.support.wire import (
    FLUSH,
    SYNC,
    WireClient,
    bind,
    close,
    describe,
    execute,
    kinds,
    parse,
    query,
    rows,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter
    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import PostgresRun

pytestmark = pytest.mark.postgres

READ: Final = "SELECT pg_is_in_recovery(), $1::int"
WRITE: Final = "UPDATE kept SET v = v + $1::int RETURNING pg_is_in_recovery()"
SPLITTING: Final = "query_parser_enabled = true\nquery_parser_read_write_splitting = true"


class Stage:
    """A primary with replicas behind a router that splits reads from writes."""

    def __init__(self, database: Database, router: RouterProcess) -> None:
        self.database = database
        self.router = router

    def login(self) -> WireClient:
        """A client of the router."""
        return WireClient.login(self.router.port, "db")

    def login_directly(self) -> WireClient:
        """A client of the primary."""
        return WireClient.login(self.database.port, self.database.name)


@pytest.fixture(scope="module")
def stage(
    replicated: Shard, postgres_run: PostgresRun, module_router: ModuleRouter
) -> Iterator[Stage]:
    """The replicas have the table, too."""
    database = Database(replicated.primary, postgres_run.unique_name("by_text"))
    replicated.primary.execute(f"CREATE DATABASE {database.name}")
    database.execute("CREATE TABLE kept AS SELECT 0 AS v")
    replicated.wait_for_replication()
    pool = PoolText([servers_of(replicated)], database.name, pool_size=2, options=SPLITTING)
    yield Stage(database, module_router({"db": pool}))
    replicated.primary.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


def prepared(sql: str, name: str = "") -> bytes:
    return parse(sql, name) + describe("S", name) + FLUSH


def anew(sql: str, name: str) -> bytes:
    return (close("S", name) if name else b"") + parse(sql, name)


def ran(name: str = "") -> bytes:
    return bind(b"1", name=name) + execute()


@pytest.mark.parametrize("name", ["", "s"])
@pytest.mark.parametrize(("sql", "is_offloaded"), [(READ, b"t"), (WRITE, b"f")])
def test_it_runs_where_its_text_belongs(
    stage: Stage, name: str, sql: str, is_offloaded: bytes
) -> None:
    with stage.login() as client:
        for _ in range(3):
            client.send(prepared(sql, name))
            assert kinds(client.read_until("1tT")) == "1tT"
            found = client.ask(ran(name) + SYNC)
            assert (rows(found)[0][0], kinds(found)) == (is_offloaded, "2DCZ")
            name += "s" if name else ""


def test_it_runs_there_if_all_comes_at_once(stage: Stage) -> None:
    with stage.login() as client:
        for sql, is_offloaded in ((READ, b"t"), (WRITE, b"f")):
            found = client.ask(prepared(sql) + ran() + SYNC)
            assert (rows(found)[0][0], kinds(found)) == (is_offloaded, "1tT2DCZ")


def test_a_write_may_come_behind_a_read(stage: Stage) -> None:
    with stage.login() as client:
        client.send(prepared(READ, "r"))
        client.read_until("1tT")
        client.send(prepared(WRITE, "w"))
        client.read_until("1tT")
        found = client.ask(ran("r") + ran("w") + SYNC)
        assert [row[0] for row in rows(found)] == [b"f", b"f"]


def test_a_query_may_end_the_batch(stage: Stage) -> None:
    with stage.login() as client:
        found = client.ask(prepared(READ) + query("UPDATE kept SET v = v"))
        assert (sqlstates(found), kinds(found)) == ([], "1tTCZ")


def test_what_cannot_be_prepared_fails_to_its_sync(stage: Stage) -> None:
    with stage.login() as client:
        client.send(prepared("SELECT missing FROM kept"))
        assert sqlstates(client.read_until("E")) == ["42703"]
        assert kinds(client.ask(ran() + SYNC)) == "Z"
        assert client.value("SELECT 5") == "5"


def test_no_server_is_held_between_both(stage: Stage) -> None:
    clients = [stage.login() for _ in range(7)]  # there are two connections to each server
    for client in clients:
        client.send(prepared(READ))
        client.read_until("1tT")
    for client in clients:
        assert rows(client.ask(ran() + SYNC))[0][0] == b"t"
        client.close()


STATEMENTS: Final = (
    "SELECT v * 0, $1::int FROM kept",
    "UPDATE kept SET v = v RETURNING $1::int",
    "SELECT 1 / ($1::int - 1)",
    "SET work_mem = '3MB'",
    "BEGIN",
    "BEGIN READ ONLY",
    "COMMIT",
)
BROKEN: Final = ("SELECT missing FROM kept WHERE v = $1::int", "SELCT")


def batches() -> st.SearchStrategy[bytes]:
    """All of which end in one ReadyForQuery."""
    name = st.sampled_from(("", "", "s", "r"))
    # What becomes of the unnamed statement after an error is told by others.
    pair = st.one_of(
        st.tuples(st.sampled_from(STATEMENTS), name),
        st.tuples(st.sampled_from(STATEMENTS), name),
        st.tuples(st.sampled_from(BROKEN), st.sampled_from(("s", "r"))),
    )
    part = st.one_of(
        pair.map(lambda found: anew(*found) + describe("S", found[1]) + FLUSH),
        pair.map(lambda found: anew(*found) + FLUSH),
        pair.map(lambda found: anew(*found) + describe("S", found[1])),
        pair.map(lambda found: anew(*found) + FLUSH + ran(found[1])),
        name.map(ran),
        name.map(lambda name: ran(name) + FLUSH),
        st.just(FLUSH),
    )
    return st.lists(part, max_size=5).map(lambda parts: b"".join(parts) + SYNC)


def unnamed(answer: tuple[str, object]) -> tuple[str, object]:
    """Without the name that a statement has on a server."""
    kind, body = answer
    if isinstance(body, dict) and body["C"] == "08P01":
        return kind, body["C"]
    return answer


@settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)
@given(st.lists(batches(), min_size=1, max_size=6), st.sampled_from((0, 0, 2)))
def test_programs_are_answered_as_by_one_server(
    stage: Stage, program: list[bytes], pieces: int
) -> None:
    told = []
    for login in (stage.login_directly, stage.login):
        found: list[tuple[str, object]] = []
        with login() as client:
            for batch in program:
                if pieces:
                    size = max(len(batch) // pieces, 1)
                    for start in range(0, len(batch), size):
                        client.send(batch[start : start + size])
                        client.wait_consumed()
                else:
                    client.send(batch)
                found += answers(client.read_until("Z"))
        told.append([unnamed(answer) for answer in found])
    assert told[1] == told[0]


@pytest.mark.parametrize("size", [0, 100])
async def test_reads_of_asyncpg_go_to_replicas(stage: Stage, size: int) -> None:
    def all_of_it() -> None:
        asyncio.run(_asyncpg(stage, size))

    await trio.to_thread.run_sync(all_of_it)


async def _asyncpg(stage: Stage, size: int) -> None:
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=stage.router.port,
        user="postgres",
        database="db",
        statement_cache_size=size,
    )
    for _ in range(3):
        assert await connection.fetchval(READ, 1)
        assert not await connection.fetchval(WRITE, 1)
        async with connection.transaction(readonly=True):
            assert await connection.fetchval(READ, 1)
        async with connection.transaction():
            assert not await connection.fetchval(READ, 1)
            assert not await connection.fetchval(WRITE, 1)
    await connection.close()
