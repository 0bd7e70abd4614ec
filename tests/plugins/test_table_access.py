"""Which statements table_access refuses, and how."""

from __future__ import annotations

import pytest

from router.plugins.table_access import TableAccess

from .statements import ALLOWED, DENIED, FALSE_ALARMS, TABLES, UNKNOWN


def message(text: str | bytes, *tables: str, encoding: str = "UTF8") -> str | None:
    """What is said against a text, or None."""
    sql = text.encode() if isinstance(text, str) else text
    error = TableAccess(tables or TABLES).objection(sql, encoding)
    return None if error is None else error.message


@pytest.mark.parametrize("sql", DENIED)
def test_a_guarded_table_is_refused_wherever_it_stands(sql: str) -> None:
    said = message(sql)
    assert said is not None
    assert said.startswith('permission denied for table "')


@pytest.mark.parametrize(
    "frame",
    [
        "SELECT * FROM ({}) x, t",
        "SELECT secret, ({}) FROM t",
        "SELECT f(a, ARRAY({})) FROM t GROUP BY a",
        "SELECT extract(year FROM ({})) FROM t",
        "WITH t AS ({}) SELECT 1",
        "WITH secrets AS (SELECT 1) {}",
        "SELECT 1 EXCEPT ({})",
        "INSERT INTO t {}",
        "UPDATE t SET a = ({})",
        "DELETE FROM t WHERE a = ANY ({})",
        "MERGE INTO t USING ({}) s ON true WHEN MATCHED THEN DELETE",
        "COPY ({}) TO STDOUT",
        "EXPLAIN (COSTS off) {}",
        "PREPARE secret AS {}",
        "DECLARE secret CURSOR FOR {}",
        "CREATE VIEW v (secret) AS {}",
        "CREATE TEMP TABLE x (secret) AS {} WITH NO DATA",
        "BEGIN; {}; END",
        "CREATE RULE r AS ON INSERT TO t DO ALSO (DELETE FROM t; {})",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; {}; END",
        "CREATE SCHEMA s CREATE VIEW v AS {}",
        "CREATE POLICY p ON t USING (EXISTS ({}))",
    ],
)
def test_a_query_is_refused_within_whatever_holds_it(frame: str) -> None:
    queries = [sql for sql in DENIED if sql.startswith(("SELECT", "TABLE", "VALUES", "WITH"))]
    passed = [sql for sql in queries if message(frame.format(sql)) is None]
    assert passed == []


@pytest.mark.parametrize("sql", UNKNOWN)
def test_a_statement_whose_tables_cannot_be_known_is_refused(sql: str) -> None:
    said = message(sql)
    assert said is not None
    assert said.startswith("permission denied: the statement's tables cannot be known (")


@pytest.mark.parametrize("sql", ALLOWED)
def test_a_name_that_is_not_the_tables_is_allowed(sql: str) -> None:
    assert message(sql) is None


@pytest.mark.parametrize("sql", FALSE_ALARMS)
def test_the_name_of_a_guarded_table_is_refused_whatever_it_stands_for(sql: str) -> None:
    assert message(sql) == 'permission denied for table "secret"'


@pytest.mark.parametrize(
    ("entry", "sql", "is_denied"),
    [
        ("app.secret", "SELECT t.secret FROM t", False),
        ("app.secret", "SELECT (x).secret FROM t x", False),
        ("app.secret", "SELECT secret FROM t", True),
        ("app.secret", "SELECT app.secret FROM t", True),
        ("app.secret", "SELECT db.app.secret.id FROM db.app.secret", True),
        ("secret", "SELECT t.secret FROM t", True),
    ],
)
def test_a_schema_in_the_entry_lets_columns_of_other_tables_pass(
    entry: str, sql: str, is_denied: bool
) -> None:
    assert (message(sql, entry) is not None) is is_denied


@pytest.mark.parametrize(
    ("sql", "is_denied"),
    [
        ("SELECT user FROM t ORDER BY 1", False),
        ('SELECT * FROM "user"', True),
        ('SELECT * FROM "order"', True),
        ("SELECT * FROM public.user", True),
        ("SELECT * FROM public . ORDER", True),
        ('SELECT * FROM U&"us\\0065r"', True),
    ],
)
def test_a_reserved_word_is_a_name_where_postgresql_takes_it_for_one(
    sql: str, is_denied: bool
) -> None:
    assert (message(sql, "user", "Order") is not None) is is_denied


def test_the_error_names_the_table_the_code_and_the_plugin() -> None:
    error = TableAccess(TABLES).objection(b"TABLE Public . Secret", "UTF8")
    assert error is not None
    # What is before the dot may be a table, and the name a column's.
    assert error.message == 'permission denied for table "secret"'
    assert error.sqlstate == "42501"
    assert "table_access" in error.hint


def test_an_error_never_shows_the_statement() -> None:
    error = TableAccess(TABLES).objection(b"SELECT 'hunter2' FROM secret", "UTF8")
    assert error is not None
    assert "hunter2" not in error.message + error.hint


@pytest.mark.parametrize(
    ("entry", "sql", "is_denied"),
    [
        ("Secret", "TABLE secret", True),
        ("Secret", 'TABLE "Secret"', True),
        ("Secret", 'TABLE "SECRET"', False),
        ('"Secret"', "TABLE secret", False),
        ('"a.b"', 'TABLE "a.b"', True),
        ('"a.b"', "TABLE a.b", False),
        ('"a""b"', 'TABLE "a""b"', True),
        ("App.Secret", "TABLE app.secret", True),
        ("App.Secret", "TABLE secret", True),
        ("app.secret", "TABLE other.secret", False),
        ("db.app.secret", "TABLE app.secret", True),
        ("größe", "TABLE größe", True),
        ("größe", 'TABLE U&"gr\\00f6\\00dfe"', True),
        ("größe", 'TABLE U&"gr\\+0000f6\\+0000dfe"', True),
        ("a" * 70, f"TABLE {'a' * 63}", True),
        ("a" * 63, f"TABLE {'a' * 70}", True),
        ("a" * 62, f"TABLE {'a' * 63}", False),
        ('"' + "é" * 40 + '"', f'TABLE "{"é" * 35}"', True),
        ("temp", "INSERT INTO temp VALUES (1)", True),
        ("t", "INSERT INTO temp VALUES (1)", False),
    ],
)
def test_names_are_compared_as_postgresql_does(entry: str, sql: str, is_denied: bool) -> None:
    assert (message(sql, entry) is not None) is is_denied


@pytest.mark.parametrize("entry", ["", "a.", ".a", "a b", 'x"y', '""'])
def test_an_entry_that_names_no_table_is_a_mistake(entry: str) -> None:
    with pytest.raises(ValueError, match="not the name of a table"):
        TableAccess([entry])


def test_all_statements_of_a_text_are_looked_at_and_one_verdict_holds_for_all() -> None:
    access = TableAccess(TABLES)
    for _ in range(2):
        assert access.objection(b"SELECT 1; SELECT 2", "UTF8") is None
        assert access.objection(b"SELECT 1; TABLE secret", "UTF8") is not None


def test_a_text_is_judged_once() -> None:
    access = TableAccess(TABLES)
    first = access.objection(b"TABLE secret", "UTF8")
    assert access.objection(b"TABLE secret", "UTF8") is first
    assert access.objection(b"TABLE vault", "UTF8") is not first


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("DO 'x'", "(DO)"),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int AS 'x'", "(CREATE OR REPLACE FUNCTION)"),
        ("DROP OWNED BY bob", "(DROP OWNED)"),
        ("GRANT ALL ON ALL TABLES IN SCHEMA s TO bob", "(ALL TABLES IN)"),
        ("SELECT dblink_exec('x')", "(function dblink_exec, which runs SQL from a string)"),
        ("SELECT 'x", "(it cannot be read: not closed)"),
        ("SELECT U&\"x\" UESCAPE '!'", "(it cannot be read: UESCAPE)"),
        ('SELECT U&"\\x"', '(it cannot be read: U&"..." with a wrong escape)'),
    ],
)
def test_the_reason_is_told_why_tables_are_not_known(sql: str, reason: str) -> None:
    error = TableAccess(TABLES).objection(sql.encode(), "UTF8")
    assert error is not None
    assert error.message.endswith(reason)
    assert (error.sqlstate, "table_access" in error.hint) == ("42501", True)


def test_texts_that_differ_in_their_literals_are_judged_alike() -> None:
    access = TableAccess(TABLES)
    for number in range(3):
        assert access.objection(b"SELECT %d FROM secret" % number, "UTF8") is not None
        assert access.objection(b"SELECT '%d secret' FROM t" % number, "UTF8") is None


@pytest.mark.parametrize(
    "encoding", ["SJIS", "shift_jis", "GBK", "BIG5", "GB18030", "windows-936"]
)
def test_an_encoding_in_which_bytes_are_not_what_they_seem_is_refused(encoding: str) -> None:
    # In these, the second byte is part of the first character, and the quote ends the string.
    sql = b"SELECT E'\x83\\' FROM secret --'"
    assert message(sql, encoding=encoding) is not None
    assert message(b"SELECT 1", encoding=encoding) is None


def test_what_is_not_utf8_is_refused_outside_of_strings_only() -> None:
    assert message(b"SELECT \xe9 FROM t", "\u00e9", encoding="LATIN1") is not None
    assert message(b"SELECT '\xe9' FROM t", encoding="LATIN1") is None


def test_a_long_text_is_judged_in_a_short_time() -> None:
    sql = "SELECT * FROM t WHERE secrets IN (" + ", ".join(["(1)"] * 10_000) + ")"
    assert message(sql) is None
    assert message(f"{sql}; TABLE secret") is not None
    assert message("(" * 4_500 + "secrets") is None
    assert message("SELECT * FROM " + "(" * 4_500 + "secret") is not None
    assert message("GRANT " + "all tables " * 2_000) is None
    assert message("CREATE FUNCTION " + "as " * 4_000) is None


def test_what_is_too_complex_to_be_read_is_refused() -> None:
    for text in ("(" * 100_000 + "secret", "secret, 1 " * 10_000, "SELECT '', 1 " * 10_000):
        assert "too complex" in str(message(text))
