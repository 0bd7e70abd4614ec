"""Verdicts on statements, compared with what a real hot standby says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.routing.classify import ClassifierOptions, classify
from router.routing.functions import HARMLESS
from router.routing.limits import MAX_LENGTH, MAX_PARSED
from router.routing.operator_functions import OPERATOR_FUNCTIONS
from router.routing.types import Analysis, Verdict
from router.routing.verdicts import FunctionRules

from .standby import READ_ONLY_TRANSACTION, a_standby, refusal_of
from .statements import READS, WRITES, lines

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server
    from tests.support.postgres import Database


@pytest.mark.parametrize("sql", lines(READS))
def test_a_read_is_a_read(sql: str) -> None:
    analysis = classify(sql)
    assert analysis.verdict is Verdict.READ, analysis.reason


@pytest.mark.parametrize("sql", lines(WRITES))
def test_a_write_is_a_write(sql: str) -> None:
    assert classify(sql).verdict is Verdict.WRITE


def test_the_verdict_does_not_depend_on_letters_and_spaces() -> None:
    for table, verdict in ((READS, Verdict.READ), (WRITES, Verdict.WRITE)):
        for sql in lines(table):
            if '"' not in sql:
                assert classify(sql.upper()).verdict is verdict, sql
            assert classify(f" \t\n{sql}\n").verdict is verdict, sql


def test_a_read_stays_one_behind_an_other_and_a_write_poisons_the_text() -> None:
    reads = [sql for sql in lines(READS) if not sql.startswith(("BEGIN", "START"))]
    for sql in reads:
        assert classify(f"SELECT 1; {sql}").is_read, sql
        assert not classify(f"{sql}\n; DELETE FROM t").is_read, sql


@pytest.mark.postgres
@pytest.mark.slow
def test_a_hot_standby_runs_all_reads(
    replicated: Shard, make_database: Callable[..., Database]
) -> None:
    with a_standby(replicated, make_database) as standby:
        for sql in lines(READS):
            refusal = refusal_of(standby, sql)
            assert refusal is None, f"{sql}: {refusal}"


@pytest.mark.postgres
@pytest.mark.slow
def test_what_a_hot_standby_refuses_is_a_write(
    replicated: Shard, make_database: Callable[..., Database]
) -> None:
    refused = 0
    with a_standby(replicated, make_database) as standby:
        for sql in (*lines(READS), *lines(WRITES)):
            refusal = refusal_of(standby, sql)
            if refusal is None:
                continue
            assert not classify(sql).is_read, f"{sql}: {refusal}"
            if refusal.sqlstate == READ_ONLY_TRANSACTION:
                refused += 1
    assert refused > 60, "the standby must be one"


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT 1", "SELECT without side effects"),
        ("SELECT * FROM t FOR NO KEY UPDATE OF t", "FOR NO KEY UPDATE"),
        ("SELECT nextval('s')", "function nextval may write"),
        ("SELECT 1; SELECT nextval('s')", "function nextval may write"),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "DELETE writes"),
        ("SELECT 1 INTO x", "SELECT INTO"),
        ("SELECT (", "cannot be parsed"),
        ("SELECT 'a", "cannot be parsed"),
        ("CREATE TABLE x ()", "CREATE TABLE is not known to be a read"),
        ("BEGIN READ ONLY", "BEGIN READ ONLY"),
        ("EXPLAIN ANALYZE DELETE FROM t", "EXPLAIN ANALYZE: DELETE writes"),
        ("COPY (SELECT nextval('s')) TO STDOUT", "COPY: function nextval may write"),
        ("", "no statement"),
    ],
)
def test_the_reason_names_what_decided(sql: str, reason: str) -> None:
    assert classify(sql).reason == reason


@pytest.mark.parametrize(
    ("sql", "kinds"),
    [
        ("", ()),
        (" ; -- x", ()),
        ("(SELECT 1)", ("SELECT",)),
        ("TABLE t", ("TABLE",)),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT 1", ("INSERT",)),
        ("WITH x AS (SELECT 1) VALUES (1)", ("VALUES",)),
        ("SET x = 1; RESET y; DISCARD ALL", ("SET", "RESET", "DISCARD")),
        ("START TRANSACTION; END", ("START TRANSACTION", "END")),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", ("CREATE VIEW",)),
        ("SET SESSION x = 1", ("SET",)),
        ("DROP TABLE x", ("DROP TABLE",)),
        ("12", ("",)),
    ],
)
def test_the_kinds_are_the_commands(sql: str, kinds: tuple[str, ...]) -> None:
    assert classify(sql).kinds == kinds


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM t WHERE id = $1",
        "SELECT * FROM t FOR UPDATE",
        "INSERT INTO t (id, name) VALUES (1, lower('A')) ON CONFLICT (id) DO NOTHING",
        "INSERT INTO app.t (id) VALUES (nextval('s'))",
        "UPDATE t SET (a, b) = (1, 2)",
        "DELETE FROM t",
        "MERGE INTO t USING u ON t.id = u.id WHEN NOT MATCHED THEN INSERT (id) VALUES (1)",
        "VALUES (1)",
        "TABLE t",
        "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x",
        "SELECT pg_notify('a', 'b');",
    ],
)
def test_a_single_query_is_self_contained(sql: str) -> None:
    assert classify(sql).self_contained


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "SELECT 1; SELECT 2",
        "BEGIN",
        "BEGIN READ ONLY",
        "SET x = 1",
        "SHOW x",
        "EXPLAIN SELECT 1",
        "COPY t TO STDOUT",
        "SELECT 1 INTO TEMP x",
        "SELECT set_config('a', 'b', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_sleep(1)",
        "SELECT unknown_function()",
        "SELECT app.nextval('s')",
        "INSERT INTO t SELECT unknown_function()",
        "CREATE TABLE t ()",
        "SELECT (",
    ],
)
def test_what_may_leave_something_behind_is_not_self_contained(sql: str) -> None:
    assert not classify(sql).self_contained


@pytest.mark.parametrize(
    ("sql", "tables"),
    [
        ("SELECT 1", ()),
        ('SELECT * FROM t, App.V AS x JOIN "Mixed" ON true', ("t", "app.v", "Mixed")),
        ("WITH x AS (SELECT * FROM t) SELECT * FROM x", ("t",)),
        ("SELECT * FROM t WHERE EXISTS (SELECT 1 FROM u)", ("t", "u")),
        ("SELECT * FROM generate_series(1, 2)", ()),
        ("INSERT INTO t (id) SELECT id FROM u", ("t", "u")),
        ("UPDATE t SET x = 1 FROM u", ("t", "u")),
        ("DELETE FROM t USING u", ("t", "u")),
        ("TRUNCATE t, u", ("t", "u")),
        ("DROP TABLE t", ("t",)),
        ("ALTER TABLE t ADD x int", ("t",)),
        ("CREATE TABLE t AS SELECT * FROM u", ("t", "u")),
        ("COPY app.t (id) TO STDOUT", ("app.t",)),
        ("COPY (SELECT * FROM t) TO STDOUT", ("t",)),
        ("EXPLAIN ANALYZE SELECT * FROM t", ("t",)),
        ("SELECT * FROM t; SELECT * FROM u; TABLE t", ("t", "u")),
    ],
)
def test_the_tables_are_named(sql: str, tables: tuple[str, ...]) -> None:
    assert sorted(classify(sql).tables) == sorted(tables)


def test_the_operator_knows_more_about_functions() -> None:
    rules = FunctionRules(
        harmless=frozenset(("plain", "app.lower")), writing=frozenset(("upper",))
    )
    options = ClassifierOptions(rules)
    assert classify("SELECT plain(1), app.lower('x')", options).is_read
    assert classify("SELECT plain(1), app.lower('x')", options).self_contained
    assert not classify("SELECT lower('x'), upper('x')", options).is_read
    assert not classify("SELECT app.other('x')", options).is_read


HOSTILE = {
    "nested brackets": b"SELECT " + b"(" * 500_000,
    "matched brackets": b"SELECT " + b"(" * 400_000 + b"1" + b")" * 400_000,
    "nested queries": b"SELECT * FROM " + b"(SELECT * FROM " * 900 + b"t" + b") x" * 900,
    "nested arrays": b"SELECT " + b"array[" * 300 + b"]" * 300,
    "nested types": b"SELECT " + b"date(" * 30 + b"1" + b")" * 30,
    "nested limits": b"SELECT 1 " + b"LIMIT f( 1 " * 30 + b")" * 30,
    "joins without end": b"SELECT * FROM " + b"a JOIN " * 450 + b"a",
    "joins on nothing": b"SELECT * FROM a " + b"JOIN b AS on " * 150,
    "natural joins": b"SELECT " + b"JOIN NATURAL " * 450,
    "unions": b"SELECT " + b"UNION (" * 30 + b")" * 30,
    "nots": b"SELECT " + b"NOT " * 10_000 + b"true",
    "minus signs": b"SELECT " + b"- " * 7000 + b"1",
    "cases": b"SELECT " + b"CASE WHEN " * 400,
    "subscripts": b"SELECT a" + b"[1]" * 2000,
    "comments": b"/*" * 500_000,
    "dollar quotes": b"".join(b"$a%d$ " % n for n in range(100_000)),
    "open string": b"SELECT '" + b"x" * 900_000,
    "open string with doubled quotes": b"SELECT '" + b"''" * 450_000,
    "zero bytes": b"SELECT 1\0DELETE FROM t",
    "no UTF-8": b"SELECT '\xff' FROM t\xfe",
    "no UTF-8 in a name": b'SELECT "\xff"',
    "too long": b"SELECT 1" + b" " * MAX_LENGTH,
    "backslash at the end of a string": rb"SELECT '\'; DELETE FROM t; --'",
    "comments nested deeply": b"SELECT 1 " + b"/*" * 9 + b"*/" * 9,
    "digits running into a word": b"SELECT 1into made",
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_hostile_text_is_a_write(text: bytes) -> None:
    analysis = classify(text)
    assert analysis.verdict is Verdict.WRITE
    assert not analysis.self_contained


@pytest.mark.timeout(10)
@pytest.mark.parametrize(
    "sql",
    [
        "SELECT " + "a AND " * 2000 + "b",
        "SELECT 1" + " UNION SELECT 1" * 500,
        "SELECT * FROM t WHERE id IN (" + "1, " * 30_000 + "1)",
        "SELECT * FROM a" + " JOIN b ON a.x = b.x" * 100,
        "SELECT * FROM a" + " CROSS JOIN b" * 100,
        "SELECT * FROM a" + " NATURAL LEFT OUTER JOIN b" * 100,
        "SELECT " + "(" * 25 + "1" + ")" * 25,
        "SELECT '" + "x" * 100_000 + "'",
        "SELECT 1 -- " + "x" * 100_000,
    ],
)
def test_a_long_read_is_a_read(sql: str) -> None:
    assert classify(sql).is_read


def test_a_long_statement_is_judged_by_its_tokens_alone() -> None:
    columns = ", ".join(f"c{n}" for n in range(MAX_PARSED))
    assert classify(f"SELECT {columns} FROM t").is_read
    assert classify(f"SELECT {columns} FROM t").tables == ()
    assert not classify(f"SELECT {columns} FROM t FOR UPDATE").is_read
    assert not classify(f"SELECT {columns} FROM t WHERE (").is_read


def test_an_unknown_text_is_a_write_with_its_reason() -> None:
    assert Analysis.unknown("why").verdict is Verdict.WRITE
    assert Analysis.unknown("why").reason == "why"


@pytest.mark.postgres
def test_the_server_has_no_volatile_function_among_those_that_only_read(
    postgres: Server,
) -> None:
    rows = postgres.execute(
        "SELECT DISTINCT proname FROM pg_proc WHERE provolatile = 'v'"
        " AND pronamespace = 'pg_catalog'::regnamespace"
    )
    assert len(rows) > 100
    assert {name for (name,) in rows}.isdisjoint(HARMLESS | OPERATOR_FUNCTIONS)
