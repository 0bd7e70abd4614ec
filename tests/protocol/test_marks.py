"""What statements may leave behind on a server connection."""

from __future__ import annotations

import pytest

from router.protocol import marks


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
