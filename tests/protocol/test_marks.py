"""What statements may leave behind on a server connection."""

from __future__ import annotations

import itertools
import re
from functools import partial

import pytest
from hypothesis import given

from router.protocol import marks
from tests.support.texts import texts
from tests.support.work import cpu_seconds


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("CREATE TEMP TABLE t (a int)", marks.TEMP),
        ("create\ttemporary table t as select 1", marks.TEMP),
        ("SELECT 1 INTO TEMP t", marks.TEMP),
        ("CREATE TABLE pg_temp.t (a int)", marks.TEMP),
        ("SELECT pg_advisory_lock(1)", marks.LOCK),
        ("SELECT pg_try_advisory_lock_shared(1)", marks.LOCK),
        ("SELECT set_config('a.b', 'c', false)", marks.SET),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", marks.CURSOR),
        ("SELECT setseed(0.5)", marks.UNKNOWN),
        ("SELECT lo_open(1, 2)", marks.UNKNOWN),
        ("SELECT lo_creat(-1), lo_create(0)", marks.UNKNOWN),
        ("SELECT dblink_connect('x')", marks.UNKNOWN),
    ],
)
def test_a_text_that_may_leave_something_behind_is_marked(text: str, mark: int) -> None:
    assert marks.of_text(text.encode()).leaves & mark


def test_a_text_that_may_copy_is_told() -> None:
    glance = marks.of_text(b"COPY t FROM STDIN")
    assert glance.may_copy
    assert not glance.leaves


@pytest.mark.parametrize(
    "text",
    [
        "SELECT temperature FROM weather",
        "SELECT 1",
        "UPDATE holders SET a = 1",
        "SELECT lo_price FROM t",
        "",
    ],
)
def test_a_harmless_text_is_not_marked(text: str) -> None:
    assert marks.of_text(text.encode()) is marks.HARMLESS


@pytest.mark.parametrize(
    ("tag", "mark"),
    [
        (b"SET", marks.SET),
        (b"RESET", marks.SET),
        (b"PREPARE", marks.PREPARE),
        (b"LISTEN", marks.LISTEN),
        (b"DECLARE CURSOR", marks.CURSOR),
        (b"DO", marks.UNKNOWN),
        (b"LOAD", marks.UNKNOWN | marks.HIDDEN),
        (b"SOMETHING NEW", marks.UNKNOWN),
        (b"CREATE TABLE", 0),
        (b"VACUUM", 0),
    ],
)
def test_a_tag_tells_what_its_command_has_left(tag: bytes, mark: int) -> None:
    assert marks.of_tag(tag) == mark


@pytest.mark.parametrize(
    ("tag", "columns", "catalogue"),
    [
        (b"ALTER TABLE", True, True),
        (b"DROP FUNCTION", True, True),
        (b"CREATE VIEW", True, True),
        (b"CREATE TABLE", False, True),
        (b"CREATE FUNCTION", False, True),
        (b"IMPORT FOREIGN SCHEMA", False, True),
        (b"DO", False, True),
        (b"GRANT", False, False),
        (b"SET", False, False),
        (b"SOMETHING NEW", False, False),
    ],
)
def test_a_tag_tells_whether_tables_may_be_other_ones(
    tag: bytes, columns: bool, catalogue: bool
) -> None:
    assert marks.changes_columns(tag) == columns
    assert marks.changes_catalogue(tag) == catalogue


@pytest.mark.parametrize(
    ("found", "sql"),
    [
        (marks.SET, b"RESET SESSION AUTHORIZATION;RESET ROLE;RESET ALL"),
        (marks.LISTEN | marks.TEMP, b"UNLISTEN *;DISCARD TEMP"),
        (marks.UNKNOWN | marks.SET, b"DISCARD ALL"),
    ],
)
def test_a_clean_up_takes_away_what_was_left(found: int, sql: bytes) -> None:
    assert marks.cleanup(found) == sql


@pytest.mark.parametrize(
    "sql",
    [
        b"RESET ALL",
        b"reset\n/* really */ -- all of it\nAll ;",
        b"SELECT 1; RESET ALL; SELECT 2",
        b"RESET TimeZone; reset all",
        b"RESET ALL\0\0\0",
        b"RESET ALL /* that's it */",
    ],
)
def test_a_reset_of_all_is_seen_in_the_text(sql: bytes) -> None:
    assert marks.of_text(sql).resets_all
    assert not marks.of_text(sql).leaves


@pytest.mark.parametrize(
    "sql", [b"RESET TimeZone", b"RESET allow_x", b"SELECT preset all", b"RESET /* ALL */ x"]
)
def test_other_texts_reset_less(sql: bytes) -> None:
    assert not marks.of_text(sql).resets_all


@pytest.mark.parametrize(
    ("sql", "is_set_local"),
    [
        (b"SET LOCAL a.b = '1'", True),
        (b"set local work_mem to '3MB' ;\0", True),
        (b"SET a.b = '1'", False),
        (b"SET LOCAL a = 1; SET b = 2", False),
        (b"SET LOCAL a = 'x' ; SET b = '2'", False),
        (rb"SET LOCAL a = E'\'; SET b = 2; SELECT '", False),
        (b"SET LOCAL a = 'x', 'y'", False),
    ],
)
def test_one_set_local_is_told_from_what_lasts(sql: bytes, is_set_local: bool) -> None:
    assert marks.of_text(sql).is_set_local is is_set_local


@pytest.mark.parametrize(
    ("sql", "lasts"),
    [
        (b"SELECT set_config('a.b', $1, true)", False),
        (
            b"SELECT set_config($1, $2::text, TRUE), pg_catalog.set_config('c', 'x', true)",
            False,
        ),
        (b"SELECT set_config('a.b', $1, false)", True),
        (b"SELECT set_config('a.b', $1, $2)", True),
        (b"SELECT set_config('a', 'b', true), set_config('c', 'd', 'false')", True),
        (rb"SELECT set_config('a', E'\', true)', false)", True),
        (b"SELECT set_config('a', ',''x'', true)', false)", True),
    ],
)
def test_what_set_config_sets_for_the_transaction_leaves_nothing(
    sql: bytes, lasts: bool
) -> None:
    glance = marks.of_text(sql)
    assert glance.alters
    assert bool(glance.leaves & marks.SET) is lasts


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        (b"SET app.user_id = 1", ("app.user_id",)),
        (b'set SESSION App . "User" TO 1', ("app.user",)),
        (b"SET LOCAL a.b.c = 1; SET/**/x.y TO 2", ("a.b.c", "x.y")),
        (b"SELECT set_config('a.b', 'c.d', false)", ("a.b", "c.d")),
        (b"EXECUTE p('a.b', 1)", ("a.b",)),
        (b"DO $$ BEGIN PERFORM set_config('a.b', '', false); END $$", ("a.b",)),
        (b"SELECT set_config($$a.b$$, 'v', false)", ("a.b",)),
        (b"SELECT set_config($x$a.B$x$, $$c.d$$, false)", ("a.b", "c.d")),
        (b"SELECT set_config($x$a.b$c$x$, $$$$, false)", ("a.b$c",)),
        (b"EXECUTE p($$ $$, $$a.b$$, $$x$$)", ("a.b",)),
        (b"SELECT set_config(E'a.b', e'c\\x2ed', false)", ("a.b", "c.d")),
        (b"SELECT set_config(E'\\101\\u002e\\U00000062', '', false)", ("a.b",)),
        (b"SELECT set_config(E'\\141\\056b', '', false)", ("a.b",)),
        (b"SELECT set_config(U&'a\\002Eb', '', false)", ("a.b",)),
        (b"SELECT set_config(u&'a!002eb' uescape '!', '', false)", ("a.b",)),
        (b"SELECT set_config(U&'a!+00002Eb'UESCAPE'!', '', false)", ("a.b",)),
        (b"SELECT set_config(E'\\uD800.b', U&'\\D800.b', false)", ()),
        (b"SELECT set_config(E'a\\u2e', U&'a\\2e', false)", ()),
        (b"SELECT t.a FROM t", ()),
        (b"SET work_mem = 1.5", ()),
    ],
)
def test_names_of_custom_settings_are_read_from_the_text(
    sql: bytes, names: tuple[str, ...]
) -> None:
    assert marks.of_text(sql).custom == names


@pytest.mark.parametrize(
    ("sql", "alters"),
    [
        (b"CREATE TABLE t ()", True),
        (b"-- first\n alter table t add x int", True),
        (b"SELECT 1; DROP TABLE t", True),
        (b"ROLLBACK TO a", True),
        (b"SELECT 1;DO", True),
        (b";;do", True),
        (b"do", True),
        (b"select", False),
        (b"SELECT 1;", False),
        (b"SELECT 1; ;\n", False),
        (b"SELECT 1", False),
        (b"INSERT INTO t VALUES ('create')", False),
        (b"UPDATE t SET a = 1", False),
        (b"BEGIN", False),
    ],
)
def test_what_may_change_the_meaning_of_texts_is_noted(sql: bytes, alters: bool) -> None:
    assert marks.of_text(sql).alters is alters


@given(texts())
def test_what_is_looked_for_before_the_patterns_misses_nothing(sql: bytes) -> None:
    low = sql.decode("latin-1").lower()
    words = re.compile(r"(?:create|alter|drop|set|reset|do|call|discard|rollback|import)\b")
    for start in (0, *(place.end() for place in re.finditer(";", low))):
        if words.match(low, _gap_end(low, start)):
            assert marks.of_text(sql).alters


def _gap_end(text: str, pos: int) -> int:
    """Where the blanks and comments end that begin at a place; comments nest."""
    level = 0
    while pos < len(text):
        if text.startswith("/*", pos):
            level, pos = level + 1, pos + 2
        elif level and text.startswith("*/", pos):
            level, pos = level - 1, pos + 2
        elif not level and text.startswith("--", pos):
            while pos < len(text) and text[pos] not in "\n\r":
                pos += 1
        elif level or text[pos] in " \t\n\r\f\v":
            pos += 1
        else:
            break
    return pos


@pytest.mark.parametrize("piece", [b";", b"; ", b"set ", b"reset a; ", b"BEGIN;\n"])
def test_a_text_with_too_much_in_it_may_leave_anything(piece: bytes) -> None:
    few = marks.of_text(b"SELECT 1" + piece * 1999)
    many = marks.of_text(b"SELECT 1" + piece * 2001)
    assert not few.leaves
    assert many.leaves == marks.UNKNOWN
    assert many.alters
    assert many.resets_all is (b"reset" in piece)


@pytest.mark.parametrize("piece", [b"/**/", b"--\n"])
def test_so_many_comments_are_read_for_what_stands_behind_them(piece: bytes) -> None:
    assert marks.of_text(b"SELECT 1" + piece * 2000) is marks.HARMLESS
    assert marks.of_text(b"SELECT 1" + piece * 2001).leaves == marks.UNKNOWN


def test_so_many_slashes_are_read_in_a_text_with_comments() -> None:
    assert marks.of_text(b"SELECT 1/*" + b"/ " * 9_998 + b"*/") is marks.HARMLESS
    assert marks.of_text(b"SELECT 1/*" + b"/ " * 9_999 + b"*/").leaves == marks.UNKNOWN
    assert marks.of_text(b"SELECT 1" + b"/ 1" * 20_000) is marks.HARMLESS


@pytest.mark.parametrize("head", [b";", b"set ", b"set local", b"set session ", b"reset all"])
@pytest.mark.parametrize("comment", [b"--", b"/*"])
def test_comments_that_are_read_to_the_end_of_a_text_are_few(
    head: bytes, comment: bytes
) -> None:
    piece = head + comment
    assert not marks.of_text(piece * 100).leaves
    assert marks.of_text(piece * 1000).leaves == marks.UNKNOWN


def test_blanks_before_the_first_word_are_no_work() -> None:
    assert marks.of_text(b"\n" * 200_000 + b"DROP TABLE t").alters
    assert marks.of_text(b"\n" * 200_000 + b"SELECT 1") is marks.HARMLESS


HOSTILE = [
    *(b";/*", b";--", b"; --", b"set/*", b"set --", b"reset/*", b"reset --", b"set\n/**/"),
    *(b"/*", b"--", b"*/", b"/**/", b";", b"set ", b"reset ", b"'", b'"', b'set "', b"set a."),
    *(b"set_config(", b"set_config('", b"execute ", b"execute '", b"prepare ", b"temp", b"pg_"),
    *(
        b"with hold",
        b"with ",
        b"$a$",
        b"$",
        b"e'\\",
        b"(",
        b"listen ",
        b"load ",
        b"copy ",
        b"\n",
    ),
    *(b"lo_", b"discard ", b"deallocate ", b"a.b ", b"'a.b' ", b"$a.b$ ", b"reset a . ", b"\0"),
]


SECOND = (b"", b" ", b"\n", b";", b"a", b"x" * 130, *HOSTILE)


@pytest.mark.parametrize("first", HOSTILE)
def test_the_work_for_a_text_grows_no_faster_than_the_text(first: bytes) -> None:
    for start, second in itertools.product((b"", b"execute set_config reset "), SECOND):
        # A square would be 256 times as much; that of the whole would take minutes.
        small, large = (
            start + (first + second) * (size // len(first + second))
            for size in (16 << 10, 256 << 10)
        )
        allowed = 80 * max(cpu_seconds(partial(marks.of_text, small)), 0.001)
        assert cpu_seconds(partial(marks.of_text, large), allowed) <= allowed, (start, second)
