"""Forms of statements: nothing of a value is left in them; and rows that are bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.segments import Segment
from router.queries import (
    TOO_COMPLEX,
    UNREAD,
    UNREADABLE,
    Fingerprint,
    Queries,
    ServerTables,
    StatementFigures,
    Table,
    shown,
)

SECRET = "hunter2"


def queries(limit: int = 1000) -> Queries:
    made = Queries()
    made.use(limit)
    return made


def fingerprint(sql: str) -> Fingerprint:
    return queries().fingerprint(sql.encode())


@pytest.mark.parametrize(
    ("sql", "text"),
    [
        ("SELECT 1", "SELECT ?"),
        (
            "SELECT a1 FROM t2 WHERE id = 12 AND n = 'x'",
            "SELECT a1 FROM t2 WHERE id = ? AND n = ?",
        ),
        ("SELECT  1 /* comment */\n ,\t$1", "SELECT ? , $1"),
        ("SELECT B'101', x'1F', E'\\n', U&'\\0061', N'x', $$x$$", "SELECT ?, ?, ?, ?, ?, ?"),
        ("SELECT -1.5e3, 0x1F, 1_000", "SELECT -?, ?, ?"),
        ('SELECT "a  1" FROM "T""2"', 'SELECT "a  1" FROM "T""2"'),
        ("SELECT é1 FROM t WHERE id IN (1, 2, 3)", "SELECT é1 FROM t WHERE id IN (?)"),
        ("SELECT a FROM t WHERE id IN (1)", "SELECT a FROM t WHERE id IN (?)"),
        ("UPDATE t SET a = b WHERE c = 1", "UPDATE t SET a = b WHERE c = ?"),
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "BEGIN ISOLATION LEVEL SERIALIZABLE"),
        ("", ""),
    ],
)
def test_values_are_replaced_and_space_is_one(sql: str, text: str) -> None:
    assert fingerprint(sql).text == text


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER ROLE ann PASSWORD 'hunter2'",
        "alter user ann with encrypted password $$hunter2$$ valid until 'hunter2'",
        "CREATE ROLE ann LOGIN PASSWORD hunter2",
        'CREATE ROLE ann LOGIN PASSWORD "hunter2"',
        "CREATE ROLE ann /* hunter2 */ PASSWORD E'hunter2\\n'",
        "CREATE USER MAPPING FOR ann SERVER s OPTIONS (user 'ann', password 'hunter2')",
        "CREATE SUBSCRIPTION s CONNECTION 'host=h password=hunter2' PUBLICATION p",
        "DO $body$ BEGIN PERFORM 'hunter2'; END $body$",
        "DO LANGUAGE plpgsql 'BEGIN RAISE $$hunter2$$; END'",
        "CREATE FUNCTION f() RETURNS text AS $$SELECT 'hunter2'$$ LANGUAGE sql",
        "COPY t FROM PROGRAM 'curl -u ann:hunter2 x'",
        "SELECT 1 -- hunter2",
        "SELECT 1 /* a /* hunter2 */ b */",
        "SELECT dblink_connect('password=hunter2')",
        "SELECT U&'hunter2', N'hunter2', E'\\x41hunter2'",
        "SELECT set_config('app.token', 'hunter2', false)",
        "SET app.token = hunter2",
        "SET LOCAL app.token TO hunter2, hunter2",
        "set session app . token=hunter2",
        'SET "app"."to=ken" = hunter2',
        "BEGIN; SET app.token = hunter2; SELECT 1",
        "ALTER ROLE ann SET app.token = hunter2",
        "ALTER ROLE ann IN DATABASE d SET app.token TO hunter2",
        "ALTER DATABASE d SET app.token TO 'hunter2'",
        "ALTER SYSTEM SET app.token = hunter2",
        "CREATE FUNCTION f() RETURNS int SET app.token = hunter2 AS 'x' LANGUAGE sql",
        "PREPARE TRANSACTION 'hunter2'",
        "NOTIFY c, 'hunter2'",
        "COMMENT ON TABLE t IS 'hunter2'",
        "SELECT 'it\\'s hunter2'",
        "SELECT 'hunter2",
        "SELECT $a$hunter2$b$",
        "INSERT INTO t VALUES ('hunter2', 1), ('hunter2', 2), ('x', 3)",
        "SELECT * FROM t WHERE a IN ('hunter2', 'hunter2')",
        "SELECT * FROM t WHERE a = ANY (ARRAY['hunter2', 'b'])",
        "EXECUTE s ('hunter2')",
    ],
)
def test_no_secret_is_in_a_form(sql: str) -> None:
    assert SECRET not in fingerprint(sql).text
    assert SECRET not in repr(fingerprint(sql))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\\"), max_size=60))
def test_no_string_is_in_a_form_whatever_is_in_it(value: str) -> None:
    quoted = "'" + value.replace("'", "''") + "'"
    assert fingerprint(f"SELECT {quoted}, 'b' FROM t").text == "SELECT ?, ? FROM t"
    assert (
        fingerprint(f"SELECT 1 /*{value.replace('*', '').replace('/', '')}*/, 2").text
        == "SELECT ? , ?"
    )


@given(st.integers(0), st.floats(0, allow_infinity=False, allow_nan=False))
def test_no_number_is_in_a_form(whole: int, real: float) -> None:
    assert fingerprint(f"SELECT {whole}, {real!r}").text == "SELECT ?, ?"


def test_what_cannot_be_read_has_a_form_of_its_own() -> None:
    assert fingerprint("SELECT 'open") is UNREADABLE
    assert fingerprint("SELECT " + "1," * 40_000 + "1") is UNREAD
    assert fingerprint("SELECT '', " + "'' ''," * 9_000 + "''") in (TOO_COMPLEX, UNREAD)


def test_a_form_is_short_and_can_be_printed() -> None:
    text = fingerprint(
        "SELECT " + ", ".join(f'column_{n} AS "a\x1b{n}"' for n in range(500))
    ).text
    assert len(text) == 1003
    assert text.isprintable()


def test_the_same_form_has_the_same_identifier_in_every_router() -> None:
    assert fingerprint("SELECT 1").identifier == fingerprint("SELECT  2").identifier
    assert fingerprint("SELECT 1").identifier != fingerprint("SELECT a").identifier
    assert fingerprint("SELECT 1").identifier == "c148796e1220075a"


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select 1", "SELECT"),
        ("  (select 1)", "SELECT"),
        ("/* x */ insert into t values (1)", "INSERT"),
        ("with a as (select 1) select 1", "WITH"),
        ("", ""),
        ("1", ""),
    ],
)
def test_the_kind_is_the_first_word(sql: str, kind: str) -> None:
    assert fingerprint(sql).kind == kind


# --- rows


def answered(form: Fingerprint, *, rows: int = 1, size: int = 10) -> Segment:
    segment = Segment(None)
    segment.fingerprint, segment.rows, segment.size = form, rows, size
    return segment


def table(made: Queries, shard: int = 0) -> Table:
    return made.table("app", "ann", shard, is_primary=True)


def everything(made: Queries) -> StatementFigures:
    total = StatementFigures()
    for each in made.tables():
        total.take_in(each.others)
        for row in each.rows.values():
            total.take_in(row)
    return total


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 2), st.integers(0, 9)), max_size=400)
)
def test_rows_are_bounded_and_sums_stay_true(asked: list[tuple[int, int, int]]) -> None:
    made = queries(20)
    for now, (number, shard, rows) in enumerate(asked):
        segment = answered(Fingerprint(f"form {number}"), rows=rows)
        if rows == 9:
            segment.sqlstate, segment.waited, segment.stalled = b"22012", 0.5, 0.25
        table(made, shard).note(segment, 0.001, float(now))
        assert len(made) <= 20
    total = everything(made)
    failed = sum(rows == 9 for _, _, rows in asked)
    assert total.calls == total.times.count == len(asked)
    assert total.rows == sum(rows for _, _, rows in asked)
    assert total.size == 10 * len(asked)
    assert total.errors == ({"22012": failed} if failed else {})
    assert (0 if total.waits is None else total.waits.count) == failed
    assert (0 if total.stalls is None else total.stalls.count) == failed


def test_what_was_used_longest_ago_goes_first() -> None:
    made = queries(10)
    for number in range(10):
        table(made).note(answered(Fingerprint(f"form {number}")), 0.001, float(number))
    table(made).note(answered(Fingerprint("form 0")), 0.001, 10.0)
    table(made).note(answered(Fingerprint("new")), 0.001, 11.0)
    left = {
        row.fingerprint.text for row in table(made).rows.values() if row.fingerprint is not None
    }
    assert left == {f"form {number}" for number in range(10)} - {"form 1", "form 2"} | {"new"}
    assert table(made).dropped == 2
    assert table(made).others.calls == 2


def test_a_smaller_limit_holds_at_once_and_none_forgets_everything() -> None:
    made = queries(100)
    for number in range(100):
        table(made).note(answered(Fingerprint(f"form {number}")), 0.001, float(number))
    made.use(10)
    assert len(made) <= 10
    assert everything(made).calls == 100
    made.use(0)
    assert everything(made).calls == 0


def test_the_tables_of_pools_that_are_gone_are_forgotten_for_good() -> None:
    made = queries()
    place = ServerTables(made, "app", "ann", 0)
    found = place.table(is_primary=True)
    assert found is not None
    found.note(answered(Fingerprint("a")), 0.001, 0.0)
    made.keep([("app", "ann")])
    assert place.table(is_primary=True) is found
    made.keep([])
    assert len(made) == 0
    assert place.table(is_primary=True) is None


def test_the_codes_of_a_row_are_bounded() -> None:
    figures = StatementFigures()
    for number in range(100):
        figures.add_error(f"P{number:04}")
    assert len(figures.errors) == 21
    assert sum(figures.errors.values()) == 100


def test_roles_have_tables_of_their_own() -> None:
    place = ServerTables(queries(), "app", "ann", 0)
    first, second = place.table(is_primary=True), place.table(is_primary=False)
    assert first is not second
    assert place.table(is_primary=True) is first


@pytest.mark.parametrize("before", ["", " ", "\n\t "])
@pytest.mark.parametrize("behind", ["", " ", "\r\n"])
def test_blanks_around_a_statement_are_not_shown(before: str, behind: str) -> None:
    assert shown(f"{before}SELECT 1{behind}".encode()) == "SELECT ?"
