"""In transaction mode a client finds what it would find on a connection of its own."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.support.router import wait_until
from tests.support.wire import SYNC, WireClient, cancel, query, rows, run, sqlstates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    "custom settings by other spellings": (
        "SELECT set_config($$app.user_id$$, 'in dollars', false)",
        r"SELECT set_config(E'app\x2etenant', 'escaped', false)",
        r"SELECT set_config(U&'app\002Euser_id', 'by code', false)",
        "SELECT set_config(U&'app!002Etenant' UESCAPE '!', 'by its own', false)",
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
                    seen = look(client)
                    del seen["statements"]  # those of a server are made as they are used
                    told.append([("seen", what) for what in seen.items()])
        return told


def is_pinned(router: RouterProcess) -> bool:
    """Whether some client is, once that is known of all of them."""

    def settled() -> list[dict[str, str]]:
        clients = router.admin("SHOW CLIENTS")
        waits = any(row["state"] == "active" and not row["pinned"] for row in clients)
        return [] if waits else clients or [{"pinned": ""}]

    return any(row["pinned"] for row in wait_until("nobody is asked about", settled))


def look(client: WireClient) -> dict[str, str]:
    """What there is to be seen on a client's connection."""
    return {what: client.value(sql) for what, sql in LOOKS.items()}


def masked(message: Message) -> tuple[str, object]:
    """What must be equal: hints may be the router's own."""
    if message.kind in "EN":
        fields = message.fields
        return message.kind, {code: fields[code] for code in fields if code not in "FHLR"}
    if message.kind == "A":
        return message.kind, message.body[4:]
    if message.kind == "T":
        return message.kind, message.columns
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


def test_a_role_that_is_gone_ends_the_session_before_its_statement(stage: Stage) -> None:
    stage.database.execute("CREATE ROLE fleeting; GRANT fleeting TO postgres")
    with stage.client("one") as client, stage.client("one") as other:
        client.query("SET ROLE fleeting")
        assert client.value("SELECT current_user") == "fleeting"
        other.query("SELECT 1; SET work_mem = '3MB'")
        stage.database.execute("DROP ROLE fleeting")
        client.send(query("INSERT INTO t VALUES (4711, current_user)"))
        [error] = client.read_to_end()
        assert 'role "fleeting" does not exist' in error.fields["M"]
        assert other.value("SELECT count(*) FROM t WHERE id = 4711") == "0"
        assert other.value("SHOW work_mem") == "3MB"


def test_a_cancel_request_hits_the_clients_statement_and_not_its_settings(
    stage: Stage,
) -> None:
    with stage.client("one") as client, stage.client("one") as other:
        client.query("SET app.user_id = 'me'; SET ROLE pg_monitor")
        for _ in range(20):
            other.query("SELECT 1")
            client.send(query("SELECT pg_sleep(60), current_user"))
            cancel(stage.router.port, client.pid, client.secret)
            while not client.has_input():  # that one may have come before the statement began
                cancel(stage.router.port, client.pid, client.secret)
            assert sqlstates(client.read_until("Z")) == ["57014"]
            assert client.value("SELECT current_setting('app.user_id')") == "me"


def test_one_client_too_many_is_told_what_is_gone(stage: Stage) -> None:
    with stage.client("two") as client, stage.client("two") as other:
        client.query("CREATE TEMP TABLE mine (a int)")
        wait_until("it is pinned", lambda: is_pinned(stage.router))
        other.query("SET app.user_id = 'kept'; SELECT pg_advisory_lock(9)")
        said = other.ask(query("SELECT 1"))
        assert sqlstates(said) == ["53300"]
        assert "advisory lock; clients may keep 1 of 2 connections" in said[0].fields["M"]
        assert other.value("SELECT pg_try_advisory_xact_lock(9)") == "t"
        assert other.value("SELECT current_setting('app.user_id')") == "kept"
        assert client.value("SELECT count(*) FROM mine") == "0"


@pytest.mark.parametrize("batch", [query, lambda sql: run(sql) + SYNC])
@pytest.mark.parametrize("drop", ["DISCARD ALL", "DEALLOCATE ALL"])
def test_what_is_dropped_at_once_pins_nobody(
    stage: Stage, drop: str, batch: Callable[[str], bytes]
) -> None:
    with stage.client("one") as client, stage.client("one") as other:
        # What it cannot see, the router cannot take along.
        made = "DO $$ BEGIN EXECUTE 'PREPARE mine AS SELECT 1'; END $$"
        if drop == "DISCARD ALL":
            made += "; SELECT pg_advisory_lock(5); CREATE TEMP TABLE mine (a int)"
        client.query(made)
        wait_until("it is pinned", lambda: is_pinned(stage.router))
        assert sqlstates(client.ask(batch(drop))) == []
        assert sqlstates(client.ask(query("EXECUTE mine"))) == ["26000"]
        assert look(other)["locks"] == "0"
        assert sqlstates(client.ask(batch("PREPARE mine AS SELECT 1"))) == []


def test_who_is_pinned_is_shown_and_logged(stage: Stage) -> None:
    with stage.client("two") as client:
        client.query("LISTEN mine; CREATE TEMP TABLE mine (a int)")
        wait_until("it is pinned", lambda: is_pinned(stage.router))
        [row] = [row for row in stage.router.admin("SHOW CLIENTS") if row["pinned"]]
        assert row["pinned"] == "temporary table, LISTEN"
        assert int(row["pinned_us"]) > 0
        stage.router.log_with("kept by its client: temporary table, LISTEN")
        client.query("UNLISTEN mine")
        client.query("SELECT 1")
        [row] = [row for row in stage.router.admin("SHOW CLIENTS") if row["pinned"]]
        assert row["pinned"] == "temporary table"


def test_a_startup_setting_comes_back_by_reset(stage: Stage) -> None:
    options = {"options": "-c search_path=pg_catalog -c work_mem=2MB"}
    for port, name in (
        (stage.database.port, stage.database.name),
        (stage.router.port, "one"),
    ):
        with WireClient.login(port, name, parameters=options) as client:
            client.query("SET search_path = public; SET work_mem = '3MB'")
            client.query("BEGIN; SET app.user_id = 'x'")
            client.query("RESET work_mem")
            assert client.value("SHOW work_mem") == "2MB"
            assert client.value("SHOW search_path") == "public"
            client.query("COMMIT")
            assert client.value("SHOW work_mem") == "2MB"
            assert client.value("SHOW search_path") == "public"
            client.query("RESET ALL")
            assert client.value("SHOW search_path") == "pg_catalog"


def test_settings_in_another_encoding_are_followed(stage: Stage) -> None:
    with (
        WireClient.login(
            stage.router.port, "one", parameters={"client_encoding": "LATIN1"}
        ) as client,
        stage.client("one") as other,
    ):
        client.ask(query("SET app.user_id = 'é'".encode("latin-1")))
        for _ in range(2):
            assert rows(client.ask(query("SHOW app.user_id"))) == [["é".encode("latin-1")]]
            assert other.value(LOOKS["custom"]) == "-"


def test_a_search_path_of_ones_own_operators_changes_nothing(stage: Stage) -> None:
    stage.database.execute(
        "CREATE SCHEMA evil; CREATE FUNCTION evil.no(text, text) RETURNS bool LANGUAGE sql AS"
        " 'SELECT false'; CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text,"
        " FUNCTION = evil.no); CREATE FUNCTION evil.set_config(text, text, bool) RETURNS text"
        " LANGUAGE sql AS 'SELECT NULL::text'"
    )
    with stage.client("one") as client, stage.client("one") as other:
        client.query("SET search_path = evil, pg_catalog; SET app.user_id = 'mine'")
        for _ in range(2):
            assert client.value("SHOW search_path") == "evil, pg_catalog"
            assert client.value("SHOW app.user_id") == "mine"
            assert other.value("SHOW search_path") == '"$user", public'


@pytest.mark.parametrize("pool", ["one", "two"])
def test_who_gives_no_application_name_has_that_of_the_server(stage: Stage, pool: str) -> None:
    with stage.client(pool) as client, stage.client(None) as direct:
        shown = [each.value("SHOW application_name") for each in (client, direct)]
        assert shown == ["", ""]
        sql = "SELECT application_name FROM pg_stat_activity WHERE pid = pg_backend_pid()"
        assert client.value(sql) == direct.value(sql) == ""
