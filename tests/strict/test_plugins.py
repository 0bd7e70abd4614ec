"""Plugins in front of real servers, and with real drivers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import asyncpg
import psycopg
import pytest
import trio
import trio_asyncio
from psycopg import ClientCursor
from trio_asyncio import aio_as_trio

from tests.plugins.statements import ALLOWED, DENIED, TABLES
from tests.support.router import PoolText, config_text, primary_of, wait_until
from tests.support.wire import SYNC, WireClient, bind, execute, parse, query, sqlstates

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

    from .conftest import ModuleRouter, PoolFor

Connection = psycopg.Connection[tuple[object, ...]]

PLUGIN = """
[pools.{pool}.plugins.table_access]
enabled = true
tables = [{tables}]
"""
MODES = ["transaction", "session"]
POOLS = [*MODES, "unparsed", "split"]


def plugin(pool: str, *tables: str) -> str:
    """The section that guards tables."""
    names = ", ".join(f"'{table}'" for table in tables)
    return PLUGIN.format(pool=pool, tables=names)


@pytest.fixture(scope="module")
def prepared(database: Database) -> Database:
    """The module's database with guarded tables, and a role that may not read them."""
    database.execute("CREATE TABLE secret (id bigint PRIMARY KEY, a int)")
    database.execute('CREATE TABLE "Mixed" (id bigint)')
    database.execute("CREATE SCHEMA private CREATE TABLE vault (id bigint)")
    database.execute("CREATE TABLE u (id bigint, a int, secret int)")
    database.execute("ALTER TABLE t ADD COLUMN a int, ADD COLUMN secret int")
    database.execute("INSERT INTO secret VALUES (42)")
    return database


@pytest.fixture(scope="module")
def guarded(
    prepared: Database, module_router: ModuleRouter, pool_for: PoolFor
) -> RouterProcess:
    """A router with a pool for each way of routing."""
    options = {
        "transaction": pool_for(size=2),
        "session": pool_for(size=2, mode="session"),
        "unparsed": pool_for(size=2, options="query_parser_enabled = false"),
        "split": pool_for(
            size=2,
            options="query_parser_enabled = true\nquery_parser_read_write_splitting = true\n"
            "query_parser_max_length = 10\nprimary_reads_enabled = true",
        ),
    }
    for name, pool in options.items():
        pool.more_users += plugin(name, *TABLES)
    return module_router(options)


def refused(client: WireClient, *messages: bytes) -> bool:
    """Whether the answer is the plugin's refusal."""
    answer = client.ask(*messages)
    return sqlstates(answer) == ["42501"] and "table_access" in answer[0].fields["H"]


@pytest.mark.parametrize("pool", POOLS)
def test_every_statement_is_refused_by_both_protocols(
    guarded: RouterProcess, pool: str
) -> None:
    with WireClient.login(guarded.port, pool) as client:
        for sql in DENIED:
            assert refused(client, query(sql)), sql
            assert refused(client, parse(sql), bind(), execute(), SYNC), sql
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("role", ["primary", "any", "auto", "default"])
def test_the_role_that_was_asked_for_does_not_matter(guarded: RouterProcess, role: str) -> None:
    with WireClient.login(guarded.port, "split") as client:
        client.query(f"SET SERVER ROLE TO '{role}'")
        assert refused(client, query("SELECT * FROM secret"))
        assert refused(client, parse("SELECT * FROM secret"), bind(), execute(), SYNC)


@pytest.mark.parametrize("pool", MODES)
def test_a_transaction_is_left_as_postgresql_would_leave_it(
    guarded: RouterProcess, prepared: Database, pool: str
) -> None:
    with guarded.connect(pool, autocommit=False) as connection:
        connection.execute("INSERT INTO t (id) VALUES (7)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match='table "secret"'):
            connection.execute("SELECT * FROM secret")
        with pytest.raises(psycopg.errors.InFailedSqlTransaction):
            connection.execute("SELECT 1")
        connection.rollback()
        assert connection.execute("SELECT count(*) FROM t WHERE id = 7").fetchone() == (0,)
        cursor = ClientCursor(connection)
        with connection.transaction():
            cursor.execute("SAVEPOINT s")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                cursor.execute("DELETE FROM secret")
            cursor.execute("ROLLBACK TO s")
            cursor.execute("SELECT 1")
        connection.commit()
    assert prepared.execute("SELECT count(*) FROM secret") == [(1,)]


@pytest.mark.parametrize("pool", MODES)
def test_a_pipeline_fails_at_the_refused_statement(guarded: RouterProcess, pool: str) -> None:
    with guarded.connect(pool) as connection, connection.pipeline() as pipeline:
        first = connection.execute("SELECT 1")
        connection.execute("SELECT a FROM secret")
        connection.execute("INSERT INTO t (id) VALUES (8)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            pipeline.sync()
        assert first.fetchone() == (1,)
    with guarded.connect(pool) as connection:
        found = connection.execute("SELECT count(*) FROM t WHERE id = 8").fetchone()
        assert found == (0,)


@pytest.mark.parametrize("pool", MODES)
def test_what_sql_prepares_and_declares_is_refused_as_it_is_prepared(
    guarded: RouterProcess, pool: str
) -> None:
    with WireClient.login(guarded.port, pool) as client:
        client.query("BEGIN")
        assert refused(client, query("PREPARE p AS SELECT * FROM secret"))
        client.query("ROLLBACK")
        assert sqlstates(client.ask(query("EXECUTE p"))) == ["26000"]
        client.query("BEGIN")
        assert refused(client, query("DECLARE c CURSOR FOR SELECT * FROM secret"))
        client.query("ROLLBACK")


@pytest.mark.parametrize("pool", MODES)
def test_a_text_that_is_too_long_is_refused_and_costs_little_memory(
    guarded: RouterProcess, pool: str
) -> None:
    text = "SELECT '" + "x" * 20_000_000 + "'"
    with WireClient.login(guarded.port, pool) as client:
        before = guarded.rss()
        assert refused(client, query(text))
        assert refused(client, parse(text, "s"), bind(name="s"), execute(), SYNC)
        assert guarded.rss() - before < 10_000_000
        assert client.value("SELECT 1") == "1"


def test_what_is_allowed_would_not_be_denied_by_postgresql(
    guarded: RouterProcess, prepared: Database
) -> None:
    """The truth: a role without any right to the guarded tables gets these answered."""
    denied = re.compile(r"for (?:table|view|relation) (?:secret|vault|\"?Mixed)")
    prepared.execute("DROP ROLE IF EXISTS outsider")
    prepared.execute("CREATE ROLE outsider")
    prepared.execute("GRANT ALL ON SCHEMA public, private TO outsider")
    prepared.execute("GRANT ALL ON t, u TO outsider")
    try:
        with WireClient.login(prepared.server.port, prepared.name) as client:
            for sql in ALLOWED:
                client.query("BEGIN; SET LOCAL ROLE outsider")
                answer = client.ask(query(sql))
                for message in answer:
                    assert message.kind != "E" or not denied.search(message.fields["M"]), sql
                client.query("ROLLBACK")
    finally:
        prepared.execute("DROP OWNED BY outsider")
        prepared.execute("DROP ROLE outsider")


def test_most_of_what_is_allowed_runs_through_the_router(guarded: RouterProcess) -> None:
    with WireClient.login(guarded.port, "session") as client:
        for sql in ALLOWED:
            client.query("BEGIN")
            codes = sqlstates(client.ask(query(sql)))
            assert codes != ["42501"], sql
            client.query("ROLLBACK")


@pytest.fixture
def switching(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> tuple[RouterProcess, Callable[[str], None]]:
    """A router, and a function that reloads it with further sections."""
    pools = {
        name: PoolText([primary_of(postgres)], pool_size=2, options=f'pool_mode = "{mode}"')
        for name, mode in (("db", "transaction"), ("pinned", "session"))
    }
    router = start_router(pools)
    return router, lambda more: router.reload(config_text(router.port, pools) + more)


def test_a_reload_switches_plugins_for_running_sessions(
    switching: tuple[RouterProcess, Callable[[str], None]],
) -> None:
    router, reload = switching
    sql = "SELECT count(*) > 0 FROM pg_class"
    use = bind(name="s") + execute() + SYNC
    clients = {pool: WireClient.login(router.port, pool) for pool in ("db", "pinned")}
    for client in clients.values():
        assert client.value(sql) == "t"
    clients["db"].ask(parse(sql, "s") + SYNC)
    everywhere = "\n[plugins.table_access]\nenabled = true\ntables = ['pg_class']\n"
    reload(everywhere)
    for client in clients.values():
        assert refused(client, query(sql))
    assert refused(clients["db"], use)
    # The pool's own table replaces the global one, even where it says nothing.
    reload(everywhere + "[pools.db.plugins.query_logger]\nenabled = true\n")
    assert clients["db"].value(sql) == "t"
    assert refused(clients["pinned"], query(sql))
    reload("")
    for client in clients.values():
        assert client.value(sql) == "t"
        client.close()


def test_the_logger_writes_each_text_once(
    switching: tuple[RouterProcess, Callable[[str], None]],
) -> None:
    router, reload = switching
    reload("\n[plugins.query_logger]\nenabled = true\n")
    with router.connect("db") as connection:
        connection.execute("SELECT 'first',\n1")
        connection.execute("SELECT 'second', %s", (2,), prepare=True)
        connection.execute("SELECT 'second', %s", (3,), prepare=True)
        with pytest.raises(psycopg.Error):
            connection.execute("ALTER ROLE nobody_at_all PASSWORD 'hunter2'")
    wait_until("all is logged", lambda: "PASSWORD '***'" in router.log())
    log = router.log()
    head = r"\[pool: db\]\[user: postgres\] "
    assert len(re.findall(head + r"SELECT 'first',\\n1$", log, re.MULTILINE)) == 1
    assert len(re.findall(head + r"SELECT 'second', \$1$", log, re.MULTILINE)) == 1
    assert "hunter2" not in log


# --- intercept

NOWHERE = "SELECT who, am_i FROM nowhere WHERE id = 7"
INTERCEPT = """
[pools.{pool}.plugins.intercept]
enabled = true
[pools.{pool}.plugins.intercept.queries.0]
query = "select who, am_i from nowhere where id = 7;"
schema = [["who", "text"], ["number", "int8"], ["is_on", "bool"], ["none", "oid"]]
result = [["${{USER}}@${{DATABASE}}", "-5", "t", ""], ["x", "6", "f", "7"]]
"""


@pytest.fixture(scope="module")
def intercepting(
    prepared: Database, module_router: ModuleRouter, pool_for: PoolFor
) -> RouterProcess:
    """A router that knows about a table that there is not."""
    pools = {mode: pool_for(size=1, mode=mode) for mode in MODES}
    for name, pool in pools.items():
        pool.more_users += INTERCEPT.format(pool=name)
    return module_router(pools)


@pytest.mark.parametrize("pool", MODES)
@pytest.mark.parametrize("binary", [False, True])
def test_psycopg_reads_answers_by_the_extended_protocol(
    intercepting: RouterProcess, pool: str, binary: bool
) -> None:
    expected = [(f"postgres@{pool}", -5, True, None), ("x", 6, False, 7)]
    with intercepting.connect(pool) as connection:
        for prepare in (False, True, True):
            cursor = connection.execute(NOWHERE, prepare=prepare, binary=binary)
            assert cursor.fetchall() == expected
            assert cursor.statusmessage == "SELECT 2"
        with connection.transaction():
            connection.execute("CREATE TEMP TABLE x (a int) ON COMMIT DROP")
            assert connection.execute(NOWHERE, binary=binary).fetchall() == expected
            assert connection.execute("SELECT count(*) FROM x").fetchone() == (0,)
        with pytest.raises(psycopg.errors.UndefinedTable):
            connection.execute(NOWHERE.replace("7", "8"))


@pytest.mark.parametrize("pool", MODES)
def test_libpq_reads_answers_by_the_simple_protocol(
    intercepting: RouterProcess, pool: str
) -> None:
    with intercepting.connect(pool) as connection, ClientCursor(connection) as cursor:
        for sql in (NOWHERE, f"/* x */ {NOWHERE.lower()};"):
            assert cursor.execute(sql).fetchone() == (f"postgres@{pool}", -5, True, None)
            assert cursor.statusmessage == "SELECT 2"


@pytest.mark.parametrize("pool", MODES)
async def test_asyncpg_reads_answers_in_binary_format(
    intercepting: RouterProcess, pool: str
) -> None:
    async def ask() -> None:
        connection = await asyncpg.connect(
            host=intercepting.host, port=intercepting.port, user="postgres", database=pool
        )
        rows = [tuple(row) for row in await connection.fetch(NOWHERE)]
        assert rows == [(f"postgres@{pool}", -5, True, None), ("x", 6, False, 7)]
        assert await connection.fetchval("SELECT 1") == 1
        await connection.close()

    with trio.fail_after(60):
        async with trio_asyncio.open_loop():
            await aio_as_trio(ask)()
