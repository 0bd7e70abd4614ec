"""PREPARE, EXECUTE and DEALLOCATE across servers, directly and through pools with neighbours.

Programs are drawn at random, in both protocols and with both kinds of prepared statements. What
a client is told must be the same, message by message.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strict.test_session_state import masked
from tests.support.wire import (
    FLUSH,
    SYNC,
    WireClient,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

NAMES: Final = ("a", "b", '"B c"')
BARE: Final = ("a", "b", "B c")
QUERIES: Final = (
    "SELECT 1",
    "SELECT $1::int + 1 AS n",
    "SELECT v FROM t WHERE id = $1 ORDER BY v",
    "INSERT INTO t VALUES ($1, 'in''serted') ON CONFLICT DO NOTHING RETURNING id",
    "SELECT current_schemas(false)::text",
    "SELECT name_of FROM named",
    "SELECT ';' || $1 AS \"a;b\" /* ; */",
)
TYPES: Final = ("", "", "(int)", " (text, numeric(3, 1))")
ARGUMENTS: Final = ("", "(1)", "(2)", "('x')", "(1, 2)", "(nowhere)")


def statements() -> st.SearchStrategy[str]:
    """What concerns prepared statements."""
    name, text = st.sampled_from(NAMES), st.sampled_from(QUERIES)
    return st.one_of(
        st.builds(lambda n, t, q: f"PREPARE {n}{t} AS {q}", name, st.sampled_from(TYPES), text),
        st.builds(lambda n, a: f"EXECUTE {n}{a}", name, st.sampled_from(ARGUMENTS)),
        st.builds(lambda n, a: f"execute {n} {a}", name, st.sampled_from(ARGUMENTS)),
        name.map(lambda n: f"EXPLAIN (COSTS OFF) EXECUTE {n}(1)"),
        name.map(lambda n: f"CREATE TEMP TABLE made ON COMMIT DROP AS EXECUTE {n}(1)"),
        name.map(lambda n: f"DEALLOCATE {n}"),
        name.map(lambda n: f"DEALLOCATE PREPARE {n}"),
        st.sampled_from(
            (
                "DEALLOCATE ALL",
                "DISCARD ALL",
                "PREPARE a AS SELEC 1",
                "PREPARE b AS SELECT nowhere",
                "PREPARE a AS TABLE gone",
                "DEALLOCATE nothing",
            )
        ),
    )


OTHERS: Final = st.sampled_from(
    (
        *("BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT s", "ROLLBACK TO s"),
        *("SELECT 1/0", "SELECT 2", "SET search_path TO one, public", "RESET search_path"),
        *("SET search_path TO two, public", "SET LOCAL search_path TO two, public"),
        "CREATE TABLE brief (a int)",
    )
)
ANY: Final = st.one_of(statements(), statements(), OTHERS)
SIMPLE: Final = ANY.map(query)
SEVERAL: Final = st.lists(ANY, min_size=2, max_size=3).map("; ".join).map(query)
EXTENDED: Final = ANY.map(lambda sql: run(sql) + SYNC)


def protocol_parts() -> st.SearchStrategy[bytes]:
    """Messages about statements, without the Sync."""
    name = st.sampled_from(BARE)
    return st.one_of(
        st.builds(lambda n, q: parse(q, n), name, st.sampled_from(QUERIES)),
        st.builds(lambda n: parse("SELECT $1", n, oids=[23]), name),
        name.map(lambda n: bind(name=n) + describe() + execute()),
        name.map(lambda n: bind(b"1", name=n) + describe() + execute()),
        name.map(lambda n: describe("S", n)),
        name.map(lambda n: close("S", n)),
        statements().map(run),
        st.builds(
            lambda n, sql: parse(sql, "own" + n) + bind(name="own" + n) + execute(),
            name,
            statements(),
        ),
        name.map(lambda n: bind(name="own" + n) + execute()),
        st.just(FLUSH),
    )


BATCH: Final = st.lists(protocol_parts(), min_size=1, max_size=4).map(
    lambda parts: b"".join(parts) + SYNC
)
PROGRAMS: Final = st.lists(
    st.one_of(SIMPLE, SIMPLE, SEVERAL, EXTENDED, BATCH, BATCH, st.none()),
    min_size=2,
    max_size=14,
)
PIPELINES: Final = st.lists(
    st.lists(st.one_of(SIMPLE, SEVERAL, EXTENDED, BATCH), min_size=1, max_size=5),
    min_size=1,
    max_size=4,
)
thorough = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def answers(messages: Sequence[Message]) -> list[tuple[str, object]]:
    """What must be equal: where among the answers a ParameterStatus comes may differ.

    What a Bind has too many values for is known to servers by the router's names.
    """
    told = [masked(message) for message in messages if message.kind != "S"]
    for _, fields in told:
        if isinstance(fields, dict) and fields["C"] == "08P01":
            fields["M"] = re.sub('statement ".*"', "statement", fields["M"])
    return told


class Stage:
    """Where programs are played."""

    def __init__(self, database: Database, router: RouterProcess) -> None:
        self._database = database
        self.router = router

    def login(self, pool: str | None) -> WireClient:
        """A client of a pool, or of PostgreSQL."""
        if pool is None:
            return WireClient.login(self._database.port, self._database.name)
        return WireClient.login(self.router.port, pool)

    def play(
        self, program: Sequence[Sequence[bytes] | None], pool: str | None = None
    ) -> list[object]:
        """What the client is told; None stands for neighbours that use the servers."""
        told: list[object] = []
        with self.login(None) as admin:
            admin.query("DROP TABLE IF EXISTS brief, one.brief, two.brief; TRUNCATE t")
            admin.query("INSERT INTO t VALUES (1, 'first'), (2, 'second')")
        with self.login(pool) as client:
            status = b"I"
            for step in program:
                if step is None:
                    if status == b"I" and pool is not None:
                        self.crowd(pool)
                    continue
                client.send(b"".join(step))
                for _ in step:
                    found = client.read_until("Z")
                    status = found[-1].body
                    told.append(answers(found))
        return told

    def crowd(self, pool: str) -> None:
        """Neighbours have names of their own, which are spelt the same."""
        count = 1 if pool == "one" else 2
        clients = [self.login(pool) for _ in range(count)]
        for number, client in enumerate(clients):
            client.query("BEGIN")
            assert sqlstates(client.ask(query("EXECUTE a"))) == ["26000"]
            client.query("ROLLBACK")
            client.query("BEGIN")
            client.query(f"PREPARE a AS SELECT 'neighbour {number}'")
            client.ask(parse("SELECT 'of a neighbour'", "b") + SYNC)
            assert client.value("EXECUTE b") == "of a neighbour"
        for number, client in enumerate(clients):
            client.query("COMMIT")
            assert client.value("EXECUTE a") == f"neighbour {number}"
        for client in clients:
            client.terminate()


@pytest.fixture(scope="module")
def stage(database: Database, module_router: ModuleRouter, pool_for: PoolFor) -> Stage:
    """A router with a pool of one server, and one of three; none may be kept."""
    for schema in ("public", "one", "two"):
        database.execute(
            f"CREATE SCHEMA IF NOT EXISTS {schema};"
            f"CREATE TABLE {schema}.named AS SELECT '{schema}' AS name_of"
        )
    pools = {
        "one": pool_for(size=1),
        "three": pool_for(size=3, options="max_pinned = 0"),
    }
    return Stage(database, module_router(pools))


@pytest.mark.slow
@pytest.mark.parametrize("pool", ["one", "three"])
@thorough
@given(program=PROGRAMS)
def test_programs_are_answered_as_by_a_connection_of_their_own(
    stage: Stage, pool: str, program: list[bytes | None]
) -> None:
    steps = [None if step is None else [step] for step in program]
    assert stage.play(steps, pool) == stage.play(steps)


@pytest.mark.slow
@thorough
@given(program=PIPELINES)
def test_pipelines_are_answered_as_by_a_connection_of_their_own(
    stage: Stage, program: list[list[bytes]]
) -> None:
    steps: list[list[bytes] | None] = []
    for batch in program:
        steps += [batch, None]
    assert stage.play(steps, "three") == stage.play(steps)


def test_nothing_is_kept_for_it(stage: Stage) -> None:
    with stage.login("one") as client, stage.login("one") as other:
        client.query("PREPARE p(int) AS SELECT $1 + 1")
        assert other.value("SELECT 1") == "1"
        assert client.value("EXECUTE p(41)") == "42"
        assert sqlstates(other.ask(query("EXECUTE p(41)"))) == ["26000"]
        assert client.value("EXECUTE p(42)") == "43"
        assert rows(client.ask(bind(b"1", name="p") + execute() + SYNC)) == [[b"2"]]


@pytest.mark.parametrize("batch", [query, lambda sql: run(sql) + SYNC])
def test_what_cannot_be_made_anew_fails_as_if_it_had_been_there(
    stage: Stage, batch: Callable[[str], bytes]
) -> None:
    told = []
    for pool in (None, "three"):
        with stage.login(pool) as client, stage.login(None) as admin:
            admin.query("CREATE TABLE gone AS SELECT 1 AS a")
            client.query("PREPARE p (int) AS SELECT a FROM gone")
            admin.query("DROP TABLE gone")
            seen = []
            for first in ("SELECT 1", "BEGIN"):
                if pool is not None:
                    stage.crowd(pool)
                client.query(first)
                # It fails a message or two earlier.
                found = client.ask(batch("EXECUTE p(1)"))
                seen.append(answers([m for m in found if m.kind not in "12"]))
                seen.append(answers(client.ask(batch("SELECT 2"))))
                client.ask(query("ROLLBACK"))
            admin.query("CREATE TABLE gone AS SELECT 2 AS a")
            seen.append(answers(client.ask(batch("EXECUTE p(1)"))))
            admin.query("DROP TABLE gone")
            told.append(seen)
    assert told[0] == told[1]


@pytest.mark.parametrize("batch", [query, lambda sql: run(sql) + SYNC])
def test_what_a_statement_leaves_is_seen_when_it_is_run(
    stage: Stage, batch: Callable[[str], bytes]
) -> None:
    with stage.login("one") as client, stage.login("one") as other:
        client.ask(batch("PREPARE p AS SELECT pg_advisory_lock(77)"))
        client.ask(batch("PREPARE s AS SELECT set_config('work_mem', $1, false)"))
        other.query("SELECT 1")
        client.ask(batch("EXECUTE s('3MB')"))
        assert other.value("SHOW work_mem") == "4MB"
        assert client.value("SHOW work_mem") == "3MB"
        assert sqlstates(client.ask(batch("EXECUTE p"))) == []
        assert sqlstates(client.ask(batch("SELECT 1"))) == ["53300"]
        locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
        assert other.value(locks + " AND pid = pg_backend_pid()") == "0"


@pytest.mark.parametrize(
    "sql",
    [
        "DO $$ BEGIN EXECUTE 'PREPARE hidden AS SELECT 1'; END $$",
        f"PREPARE hidden AS SELECT '{'x' * 9000}'",
        'PREPARE U&"h\\0069dden" AS SELECT 1',
        "PREPARE hidden AS SELECT 'a\\'; b'",
    ],
)
def test_what_is_not_understood_keeps_the_server_or_is_gone(stage: Stage, sql: str) -> None:
    with stage.login("one") as client, stage.login("one") as other:
        if "\\'" in sql:
            client.query("SET standard_conforming_strings = off")
        assert sqlstates(client.ask(query(sql))) == []
        [said] = [m for m in client.ask(query("EXECUTE hidden")) if m.kind == "E"]
        assert said.sqlstate == "53300"
        assert "gone: PREPARE" in said.fields["M"]
        assert sqlstates(other.ask(query("EXECUTE hidden"))) == ["26000"]


@pytest.mark.parametrize("sql", ["EXECUTE {}", "DEALLOCATE {}", "PREPARE {} AS SELECT 1"])
@pytest.mark.parametrize("batch", [query, lambda sql: run(sql) + SYNC])
def test_names_of_the_routers_own_do_not_exist(
    stage: Stage, sql: str, batch: Callable[[str], bytes]
) -> None:
    with stage.login("one") as client, stage.login("one") as other:
        client.ask(parse("SELECT 'secret'", "s") + SYNC)
        assert rows(client.ask(bind(name="s") + execute() + SYNC)) == [[b"secret"]]
        own = "SELECT name FROM pg_prepared_statements WHERE statement = 'SELECT ''secret'''"
        name = other.value(own)
        assert sqlstates(other.ask(batch(sql.format(f'"{name}"')))) == ["26000"]
        assert rows(client.ask(bind(name="s") + execute() + SYNC)) == [[b"secret"]]


def test_a_client_that_leaves_in_between_leaves_no_names(stage: Stage) -> None:
    with stage.login("one") as other:
        for text in ("PREPARE leftover AS SELECT 1", "BEGIN; PREPARE leftover AS SELECT 1"):
            with stage.login("one") as client:
                client.send(query(text))
            assert sqlstates(other.ask(query("EXECUTE leftover"))) == ["26000"]
            assert (
                sqlstates(other.ask(query("PREPARE leftover AS SELECT 2; DEALLOCATE leftover")))
                == []
            )


def test_statements_that_nobody_uses_any_more_are_dropped(stage: Stage) -> None:
    with stage.login("one") as client, stage.login("one") as other:
        for number in range(20):
            client.query(f"PREPARE many_{number} AS SELECT {number}")
        count = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'many%'"
        assert client.value(count) == "20"
        assert other.value(count) == "0"
        assert client.value("EXECUTE many_19") == "19"
        assert client.value(count) == "1"


def test_those_who_prepare_the_same_share_it(stage: Stage) -> None:
    with stage.login("one") as client, stage.login("one") as other:
        for each in (client, other):
            each.query("PREPARE same AS SELECT 'the same'")
        made = "SELECT prepare_time FROM pg_prepared_statements WHERE name = 'same'"
        first = client.value(f"SELECT ({made})::text")
        assert other.value("EXECUTE same") == "the same"
        assert other.value(f"SELECT ({made})::text") == first
