"""Transactions that get their server with their first statement, message by message.

Programs are drawn at random, and what a client is told is what PostgreSQL tells it directly.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import asyncpg
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strict.test_session_state import masked
from tests.support.postgres import Database
from tests.support.router import PoolText, primary_of, servers_of
from tests.support.wire import (
    FLUSH,
    SYNC,
    WireClient,
    bind,
    cancel,
    close,
    describe,
    execute,
    kinds,
    parse,
    query,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.strict.conftest import ModuleRouter
    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

pytestmark = pytest.mark.postgres

SHARDS: Final = 3
FAILED: Final = {
    "S": "ERROR",
    "V": "ERROR",
    "C": "25P02",
    "M": "current transaction is aborted, commands ignored until end of transaction block",
}
KEYS: Final = (1, 2, 3, 4, 5, 6, 7, 8)
SHARDED: Final = (
    'deferred_begin = true\nquery_parser_enabled = true\nautomatic_sharding_key = "t.id"'
)

BEGINS: Final = (
    *("BEGIN", "BEGIN", "begin;", "START TRANSACTION", " BEGIN WORK ;"),
    "BEGIN ISOLATION LEVEL REPEATABLE READ",
    "BEGIN READ ONLY",
    "START TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "BEGIN TRANSACTION READ WRITE NOT DEFERRABLE",
)
ENDS: Final = (
    *("COMMIT", "END", "ROLLBACK", "ABORT", "COMMIT WORK", "ROLLBACK TRANSACTION;"),
    "COMMIT AND NO CHAIN",
)
WITHIN: Final = (
    *("SAVEPOINT sp_1", "SAVEPOINT sp_2", 'SAVEPOINT "sp_1"', "RELEASE sp_1"),
    *("ROLLBACK TO sp_1", "ROLLBACK TO SAVEPOINT SP_1", "RELEASE SAVEPOINT sp_2"),
    *("SET TRANSACTION READ ONLY", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"),
    *("", " ; ", "SELECT id, v FROM t WHERE id = {key}"),
)
STATEMENTS: Final = (
    "SELECT v FROM t WHERE id = {key}",
    "UPDATE t SET v = v || '.' WHERE id = {key}",
    "INSERT INTO t VALUES ({key}, 'again')",
    "DELETE FROM t WHERE id = {key}",
    "SELECT missing FROM t WHERE id = {key}",
    "SELECT 1 / (id - id) FROM t WHERE id = {key}",
    "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only'),"
    " current_setting('transaction_deferrable'), current_setting('exit_on_error'), id"
    " FROM t WHERE id = {key}",
)
# What belongs nowhere gets a server like all else, and so fixes the shard.
ANYWHERE: Final = (
    *("SHOW transaction_isolation", "SHOW transaction_read_only", "SELECT 1/0", "SELCT"),
    *("BEGIN ISOLATION LEVEL SNAPSHOT", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"),
    *("SET LOCAL work_mem = '3MB'", "SHOW work_mem", "SAVEPOINT plain", "ROLLBACK TO plain"),
)


def texts(*more: Sequence[str]) -> st.SearchStrategy[str]:
    """Statements, those of transactions as often as all others."""
    return st.one_of(
        *(st.sampled_from(each) for each in (BEGINS, ENDS, WITHIN, STATEMENTS, *more))
    )


def is_told_late(sql: str) -> bool:
    """Whether PostgreSQL refuses it once something has been prepared in the transaction.

    What is only prepared leaves no trace with the router, which lets modes be set then.
    """
    return any(word in sql for word in ("ISOLATION", "READ", "DEFERRABLE"))


def batches(text: st.SearchStrategy[str]) -> st.SearchStrategy[list[bytes]]:
    """Messages that PostgreSQL answers with one ReadyForQuery for each item."""
    part = st.one_of(
        text.map(run),
        text.map(lambda sql: parse(sql) + bind() + execute()),
        text.map(lambda sql: parse(sql) + bind() + execute() + FLUSH),
        text.map(lambda sql: parse(sql) + FLUSH + bind() + execute()),
        st.builds(
            lambda sql, p: parse(sql) + bind(portal=p) + execute(p) + close("P", p),
            text,
            st.integers(0, 10**9).map(str),
        ),
    )
    return st.one_of(
        text.map(lambda sql: [query(sql)]),
        text.map(lambda sql: [query(sql)]),
        # The whole text has the place of those that have one.
        st.builds(
            lambda many, placed: [query("; ".join((*many, placed)))],
            st.lists(text, min_size=1, max_size=2),
            st.sampled_from(STATEMENTS),
        ),
        st.lists(part, min_size=1, max_size=4).map(lambda parts: [b"".join(parts) + SYNC]),
        # Sent without a wait for what comes before.
        st.lists(text.map(query), min_size=2, max_size=3),
        st.lists(part.map(lambda messages: messages + SYNC), min_size=2, max_size=3),
    )


def programs(*more: Sequence[str]) -> st.SearchStrategy[list[list[bytes]]]:
    """Exchanges, most of which begin with a transaction."""
    begun = st.sampled_from(BEGINS).map(lambda sql: [query(sql)])
    rest = st.lists(batches(texts(*more)), min_size=1, max_size=7)
    text = texts(*more).filter(lambda sql: not is_told_late(sql))
    only_prepared = st.one_of(
        text.map(lambda sql: [parse(sql) + SYNC]),
        text.map(lambda sql: [parse(sql) + describe("S") + SYNC]),
        text.map(lambda sql: [parse(sql) + describe("S") + FLUSH + bind() + execute() + SYNC]),
    )
    preparing = st.lists(st.one_of(batches(text), only_prepared), min_size=1, max_size=7)
    return st.builds(lambda first, others: [first, *others], begun, st.one_of(rest, preparing))


thorough = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
)


class Stage:
    """A router in front of three shards and of one, and a database with the same rows."""

    def __init__(
        self, whole: Database, parts: Sequence[Database], router: RouterProcess
    ) -> None:
        self._whole = whole
        self.parts = parts
        self.router = router

    def play(self, program: Sequence[list[bytes]], key: int, pool: str = "") -> list[object]:
        """What the client is told."""
        self._restore(pool)
        database = self._whole
        port, name = (self.router.port, pool) if pool else (database.port, database.name)
        told: list[tuple[str, object]] = []
        with WireClient.login(port, name) as client:
            for exchange in program:
                data = b"".join(exchange).replace(b"{key}", b"%05d" % key)
                told += answers(client.ask(data, until="Z" * len(exchange)))
            told += answers(client.ask(query("ROLLBACK")))
            told += answers(client.ask(query(f"SELECT * FROM t WHERE id = {key}")))
        return unread(told)

    def _restore(self, pool: str) -> None:
        for database in (
            self.parts[: SHARDS if pool == "three" else 1] if pool else [self._whole]
        ):
            database.execute(
                f"INSERT INTO t SELECT g, 'v' FROM generate_series(1, {len(KEYS)}) g"
                " ON CONFLICT (id) DO UPDATE SET v = 'v' WHERE t.v <> 'v'"
            )

    def login(self, pool: str) -> WireClient:
        """A client of the router."""
        return WireClient.login(self.router.port, pool)


def answers(messages: Sequence[Message]) -> list[tuple[str, object]]:
    """What must be equal."""
    return [masked(message) for message in messages if message.kind != "S"]


def unread(told: Sequence[tuple[str, object]]) -> list[object]:
    """Of a transaction that has failed, PostgreSQL still reads the statements."""
    found, has_failed = list[object](), False
    for kind, body in told:
        if kind == "E" and has_failed and isinstance(body, dict) and body["C"] == "42601":
            body = FAILED
        if kind == "Z":
            has_failed = body == b"E"
        found.append((kind, body))
    return found


@pytest.fixture(scope="module")
def stage(
    postgres: Server, postgres_run: PostgresRun, module_router: ModuleRouter
) -> Iterator[Stage]:
    """Each shard has all rows, so that a statement on the wrong one is only told by name."""
    made = []
    for number in range(SHARDS + 1):
        name = postgres_run.unique_name("deferred")
        postgres.execute(f"CREATE DATABASE {name}")
        made.append(Database(postgres, name))
        made[-1].execute("CREATE TABLE t (id bigint PRIMARY KEY, v text)")
        made[-1].execute(
            f"CREATE FUNCTION place() RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT {number}'"
        )
    *parts, whole = made
    names = [part.name for part in parts]
    shards = [primary_of(postgres)] * SHARDS
    router = module_router(
        {
            "one": PoolText(
                shards[:1], databases=names[:1], pool_size=2, options="deferred_begin = true"
            ),
            "three": PoolText(shards, databases=names, pool_size=2, options=SHARDED),
        }
    )
    yield Stage(whole, parts, router)
    for database in made:
        postgres.execute(f"DROP DATABASE {database.name} WITH (FORCE)")


@thorough
@given(programs(ANYWHERE), st.sampled_from(KEYS))
def test_a_program_is_answered_as_by_one_server(
    stage: Stage, program: list[list[bytes]], key: int
) -> None:
    assert stage.play(program, key, "one") == stage.play(program, key)


@thorough
@given(programs(), st.sampled_from(KEYS))
def test_a_program_whose_statements_have_a_key_is_answered_as_by_one_server(
    stage: Stage, program: list[list[bytes]], key: int
) -> None:
    assert stage.play(program, key, "three") == stage.play(program, key)


def place(client: WireClient) -> str:
    """The shard on which the client's transaction is."""
    return client.value("SELECT place()")


def shard_of(stage: Stage, key: int) -> str:
    with stage.login("three") as client:
        client.query(f"SET SHARDING KEY TO '{key}'")
        return client.query("SHOW SHARD")[0][0].decode()  # type: ignore[union-attr]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "choice",
    [
        "SET SHARDING KEY TO '{key}'",
        "SET LOCAL SHARDING KEY TO '{key}'",
        "SELECT id FROM t WHERE id = {key}",
        "SAVEPOINT sp_1; SELECT id FROM t WHERE id = {key}",
    ],
)
def test_what_comes_first_in_a_transaction_places_it(
    stage: Stage, key: int, choice: str
) -> None:
    with stage.login("three") as client:
        assert client.ask(query("BEGIN"))[-1].body == b"T"
        assert stage.router.admin("SHOW CLIENTS")[0]["activity"] in (
            "idle in transaction",
            "idle",
        )
        client.query(choice.format(key=key))
        assert place(client) == shard_of(stage, key)
        client.query("ROLLBACK")


def test_a_transaction_whose_statements_name_two_shards_has_failed(stage: Stage) -> None:
    one, other = (
        KEYS[0],
        next(k for k in KEYS if shard_of(stage, k) != shard_of(stage, KEYS[0])),
    )
    with stage.login("three") as client:
        client.query("BEGIN")
        client.query(f"UPDATE t SET v = 'lost' WHERE id = {one}")
        found = client.ask(query(f"SELECT v FROM t WHERE id = {other}"))
        assert (sqlstates(found), found[-1].body) == (["0A000"], b"E")
        assert kinds(client.ask(query("COMMIT"))) == "CZ"
        assert client.query(f"SELECT v FROM t WHERE id = {one}") != [[b"lost"]]


def test_a_refused_first_statement_leaves_the_transaction_failed(stage: Stage) -> None:
    with stage.login("three") as client:
        client.query("BEGIN")
        found = client.ask(query("SELECT count(*) FROM t"))
        assert (sqlstates(found), found[-1].body) == (["0A000"], b"E")
        found = client.ask(run(f"SELECT v FROM t WHERE id = {KEYS[0]}") + SYNC)
        assert (sqlstates(found), found[-1].body) == (["25P02"], b"E")
        found = client.ask(query("COMMIT"))
        assert (found[0].body, found[-1].body) == (b"ROLLBACK\0", b"I")


def test_a_transaction_that_has_begun_needs_no_server(stage: Stage) -> None:
    clients = [stage.login("three") for _ in range(9)]
    for client in clients:
        client.query("BEGIN")
    for client in clients:  # there are two servers for each shard
        assert client.ask(run("COMMIT") + SYNC)[-1].body == b"I"
        client.close()


def test_an_exhausted_pool_leaves_the_transaction_failed(stage: Stage) -> None:
    holders = [stage.login("one") for _ in range(2)]
    for holder in holders:
        holder.query("BEGIN")
        holder.query("SELECT 1")
    with stage.login("one") as client:
        client.query("BEGIN")
        client.send(query("SELECT 1"))
        client.wait_consumed()
        cancel(stage.router.port, client.pid, client.secret)
        found = client.read_until("Z")
        assert (sqlstates(found), found[-1].body) == (["57014"], b"E")
        assert client.ask(query("ROLLBACK"))[-1].body == b"I"
    for holder in holders:
        holder.close()


@pytest.mark.parametrize("autocommit", [False])
def test_psycopg_without_autocommit_and_its_nested_transactions(
    stage: Stage, autocommit: bool
) -> None:
    for key in KEYS:
        with stage.router.connect("three", autocommit=autocommit) as client:
            for _ in range(7):  # after the fifth it prepares them
                client.execute("SELECT v FROM t WHERE id = %s", [key])
                [(number,)] = client.execute("SELECT place()").fetchall()
                assert str(number) == shard_of(stage, key)
                client.rollback()
                with client.transaction(), client.transaction():
                    client.execute("UPDATE t SET v = 'v' WHERE id = %s", [key])


async def test_transactions_of_asyncpg(stage: Stage) -> None:
    for size in (0, 100):
        await asyncio_run(stage, size)


async def asyncio_run(stage: Stage, size: int) -> None:
    def all_of_it() -> None:
        asyncio.run(_asyncpg(stage, size))

    await trio.to_thread.run_sync(all_of_it)


async def _asyncpg(stage: Stage, size: int) -> None:
    shards = {key: shard_of(stage, key) for key in KEYS}
    connection = await asyncpg.connect(
        host="127.0.0.1",
        port=stage.router.port,
        user="postgres",
        database="three",
        statement_cache_size=size,
    )
    for key in KEYS * 2:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetch("SELECT v FROM t WHERE id = $1", key)
            assert str(await connection.fetchval("SELECT place()")) == shards[key]
            async with connection.transaction():
                await connection.execute("UPDATE t SET v = 'v' WHERE id = $1", key)
    await connection.close()


def test_a_begin_that_fails_keeps_the_statement_behind_it_from_running(
    replicated: Shard, start_router: Callable[..., RouterProcess]
) -> None:
    replica = [(replicated.replicas[0].host, replicated.replicas[0].port, "primary")]
    router = start_router({"db": PoolText([replica], options="deferred_begin = true")})
    with (
        WireClient.login(router.port, "db") as client,
        WireClient.login(replica[0][1], "postgres") as victim,
    ):
        pid = victim.value("SELECT pg_backend_pid()")
        client.query("BEGIN READ WRITE")  # which a standby refuses
        client.send(query(f"SELECT pg_terminate_backend({pid}, 5000)"))
        found = client.read_to_end()
        assert kinds(found) == "E"
        assert found[0].fields["S"] == "FATAL"
        assert sqlstates(found) in (["0A000"], ["25006"])
        assert victim.value("SELECT 'alive'") == "alive"


@pytest.mark.parametrize("key", KEYS)
def test_what_is_only_prepared_places_no_transaction(stage: Stage, key: int) -> None:
    with stage.login("three") as client:
        client.query("BEGIN")
        sql = f"SELECT v, {key} FROM t WHERE id = $1"
        assert client.ask(parse(sql, "s") + describe("S", "s") + SYNC)[-1].body == b"T"
        found = client.ask(bind(b"%d" % key, name="s") + execute() + SYNC)
        assert (sqlstates(found), found[-1].body) == ([], b"T")
        assert place(client) == shard_of(stage, key)


@pytest.mark.parametrize(
    ("begin", "is_offloaded"),
    [
        ("BEGIN READ ONLY", True),
        ("BEGIN; SET TRANSACTION READ ONLY", True),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY", False),
        ("BEGIN", False),
    ],
)
def test_a_read_only_transaction_goes_to_a_replica_as_a_whole(
    replicated: Shard,
    start_router: Callable[..., RouterProcess],
    begin: str,
    is_offloaded: bool,
) -> None:
    options = (
        "deferred_begin = true\nquery_parser_enabled = true\n"
        "query_parser_read_write_splitting = true"
    )
    router = start_router({"db": PoolText([servers_of(replicated)], options=options)})
    with WireClient.login(router.port, "db") as client:
        for sql in begin.split("; "):
            client.query(sql)
        client.query("DO 'BEGIN END'")  # which is no read by itself
        assert client.value("SELECT pg_is_in_recovery()") == ("t" if is_offloaded else "f")
        client.query("COMMIT")
