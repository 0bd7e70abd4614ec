"""In transaction mode a client finds what it would find on a connection of its own."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.router import wait_until
from tests.support.wire import WireClient, query

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

# What to find out about a connection; each is asked by neighbours, too.
LOOKS = {
    "work_mem": "SHOW work_mem",
    "path": "SHOW search_path",
    "custom": "SELECT coalesce(nullif(current_setting('app.user_id', true), ''), '-')",
    "other": "SELECT coalesce(nullif(current_setting('app.tenant', true), ''), '-')",
    "role": "SELECT current_user",
    "table": "SELECT to_regclass('pg_temp.mine') IS NOT NULL",
    "locks": "SELECT count(*) FROM pg_locks"
    " WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    "cursors": "SELECT count(*) FROM pg_cursors WHERE is_holdable",
    "channels": "SELECT count(*) FROM pg_listening_channels()",
    "statements": "SELECT count(*) FROM pg_prepared_statements WHERE from_sql",
}
# Programs of statements, each a transaction or a part of one.
PROGRAMS = {
    "SET": ("SET work_mem = '3MB'", "SELECT 1", "SET work_mem = '4321kB'", "RESET work_mem"),
    "search_path": (
        "SET search_path = 'a b', public, \"$user\"",
        "SELECT 1",
        "SET search_path TO DEFAULT",
    ),
    "set_config": (
        "SELECT set_config('work_mem', '3MB', false), set_config('app.tenant', 'ä''\\', false)",
        "SELECT set_config('app.tenant', '', false)",
    ),
    "a custom setting": (
        "SET app.user_id = '42'",
        "SELECT 1",
        "set SESSION App.\"user_id\" to 'x y'",
        "SET app . tenant = 7",
        "RESET ALL",
    ),
    "a setting in a block": (
        "DO $$ BEGIN PERFORM set_config('app.user_id', 'by block', false); END $$",
        "RESET app.user_id",
    ),
    "rolled back": (
        "SET work_mem = '3MB'",
        "BEGIN",
        "SET work_mem = '9MB'; SET app.user_id = 'lost'; SET ROLE pg_monitor",
        "ROLLBACK",
        "BEGIN; SET app.user_id = 'lost'; SELECT 1/0",
        "ROLLBACK",
        "SET app.user_id = 'lost'; SELECT 1/0",
    ),
    "SET LOCAL": (
        "BEGIN",
        "SET LOCAL work_mem = '9MB'; SET LOCAL app.user_id = 'x'; SET LOCAL ROLE pg_monitor",
        "COMMIT",
        "BEGIN; SET work_mem = '3MB'; SET LOCAL work_mem = '9MB'; COMMIT",
    ),
    "a savepoint": (
        "BEGIN; SET work_mem = '3MB'; SAVEPOINT a; SET work_mem = '5MB'; SET app.tenant = '1'",
        "ROLLBACK TO a",
        "COMMIT",
    ),
    "SET ROLE": (
        "SET ROLE pg_monitor",
        "SELECT 1",
        "SET work_mem = '3MB'",
        "SET ROLE pg_read_all_data",
        "RESET ROLE",
    ),
    "session characteristics": (
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SHOW transaction_isolation",
        "BEGIN; SHOW transaction_isolation",
        "COMMIT",
        "SET transaction_isolation = 'read committed'",
        "SHOW default_transaction_isolation",
    ),
    "PREPARE": (
        "PREPARE mine(int) AS SELECT $1 + 1",
        "EXECUTE mine(41)",
        "SELECT 1",
        "EXECUTE mine(42)",
        "DEALLOCATE mine",
        "EXECUTE mine(43)",
    ),
    "a temporary table": (
        "CREATE TEMP TABLE mine AS SELECT 7 AS a",
        "SELECT a FROM mine",
        "INSERT INTO mine VALUES (8)",
        "SELECT sum(a) FROM mine",
        "DROP TABLE mine",
    ),
    "a temporary table by search_path": (
        "SET search_path = pg_temp, public",
        "CREATE TABLE mine (a int)",
        "SELECT count(*) FROM mine",
        "RESET search_path",
        "DROP TABLE pg_temp.mine",
    ),
    "a temporary table that drops itself": (
        "BEGIN; CREATE TEMP TABLE mine (a int) ON COMMIT DROP",
        "SELECT count(*) FROM mine",
        "COMMIT",
    ),
    "an advisory lock": (
        "SELECT pg_advisory_lock(1), pg_advisory_lock(2)",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT pg_advisory_unlock(1), pg_advisory_unlock(1)",
        "SELECT pg_advisory_unlock_all()",
    ),
    "a cursor": (
        "DECLARE mine CURSOR WITH HOLD FOR SELECT generate_series(1, 9)",
        "FETCH 2 FROM mine",
        "FETCH 2 FROM mine",
        "CLOSE mine",
        "FETCH mine",
    ),
    "a channel": (
        "LISTEN mine",
        "NOTIFY mine, 'first'",
        "NOTIFY mine, 'second'; NOTIFY other",
        "UNLISTEN mine",
        "NOTIFY mine, 'third'",
    ),
    "DISCARD ALL": (
        "SET work_mem = '3MB'; SET ROLE pg_monitor; RESET ROLE",
        "CREATE TEMP TABLE mine (a int)",
        "SELECT pg_advisory_lock(3)",
        "DISCARD ALL",
    ),
    "a time limit": (
        "SET statement_timeout = '1ms'; SET app.user_id = 'quick'",
        "SHOW statement_timeout",
        "RESET statement_timeout",
    ),
}


@dataclass
class Stage:
    """Where programs are played."""

    database: Database
    router: RouterProcess

    @contextmanager
    def client(self, pool: str | None) -> Iterator[WireClient]:
        """A client of a pool, or of PostgreSQL."""
        port = self.database.port if pool is None else self.router.port
        with WireClient.login(port, pool or self.database.name) as client:
            yield client

    def play(
        self, program: Sequence[str], pool: str | None, neighbour: WireClient | None = None
    ) -> list[list[tuple[str, object]]]:
        """What a client is told; a neighbour looks around between its transactions."""
        told = []
        with self.client(pool) as client:
            for statement in program:
                said = client.ask(query(statement))
                is_idle = said[-1].body == b"I"
                if neighbour is not None and is_idle and not is_pinned(self.router):
                    look(neighbour)
                told.append([masked(message) for message in said])
                if is_idle and not statement.startswith("SET statement_timeout"):
                    told.append([("seen", seen) for seen in look(client).items()])
        return told


def is_pinned(router: RouterProcess) -> bool:
    """Whether some client is."""
    return any(row["pinned"] for row in router.admin("SHOW CLIENTS"))


def look(client: WireClient) -> dict[str, str]:
    """What there is to be seen on a client's connection."""
    return {what: client.value(sql) for what, sql in LOOKS.items()}


def masked(message: Message) -> tuple[str, object]:
    """What must be equal."""
    if message.kind in "EN":
        fields = message.fields
        return message.kind, {code: fields[code] for code in fields if code not in "FLR"}
    if message.kind == "A":
        return message.kind, message.body[4:]
    if message.kind == "T":
        return message.kind, message.body.count(b"\0")
    return message.kind, message.body


@pytest.fixture(scope="module")
def stage(database: Database, module_router: ModuleRouter, pool_for: PoolFor) -> Stage:
    """A router with pools of one and of two servers."""
    pools = {
        "one": pool_for(size=1, options="max_pinned = 1"),
        "two": pool_for(size=2),
    }
    return Stage(database, module_router(pools))


@pytest.mark.parametrize("pool", ["one", "two"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_is_answered_as_by_a_connection_of_its_own(
    stage: Stage, name: str, pool: str
) -> None:
    with stage.client(pool) as neighbour, stage.client(None) as fresh:
        clean = look(fresh)
        assert look(neighbour) == clean
        directly = stage.play(PROGRAMS[name], None)
        assert stage.play(PROGRAMS[name], pool, neighbour) == directly
        assert look(neighbour) == clean
        wait_until("nobody is pinned", lambda: not is_pinned(stage.router))
