"""What query_logger writes."""

from __future__ import annotations

import pytest

from router.plugins.query_logger import QueryLogger, readable

MASKED = "'***'"


def test_a_line_names_the_pool_and_the_user(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "router.query"):
        QueryLogger("app", "ann").note(b"SELECT 1; SELECT 'a'")
    [record] = caplog.records
    assert record.levelname == "INFO"
    assert record.getMessage() == "[pool: app][user: ann] SELECT 1; SELECT 'a'"


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        (b"  SELECT 1\n", "SELECT 1"),
        (b"SELECT 1,\n\t2", "SELECT 1,\\n\\t2"),
        (b"SELECT '\r\x1b[31m\x00\x7f'", "SELECT '\\r\\x1b[31m\\x00\\x7f'"),
        ("SELECT 'Größe\u2028'".encode(), "SELECT 'Größe\\u2028'"),
        (b"SELECT '\xff'", "SELECT '\\xff'"),
    ],
)
def test_a_text_is_one_line_that_cannot_pretend_to_be_another(sql: bytes, shown: str) -> None:
    assert readable(sql) == shown


def test_a_long_text_is_cut_and_its_length_told() -> None:
    shown = readable(b"SELECT " + b"x" * 100_000)
    assert shown.startswith("SELECT xxx")
    assert shown.endswith("xxx... (100007 bytes)")
    assert len(shown) < 5000


@pytest.mark.parametrize(
    "literal",
    [
        "'hunter2'",
        "'it''s hunter2'",
        "E'\\'hunter2'",
        "N'hunter2'",
        "U&'hunter2'",
        "$$hunter2$$",
        "$x$it's $$ hunter2$x$",
        "'hunter2",
        "$$hunter2",
        '"hunter2"',
    ],
)
@pytest.mark.parametrize(
    "before",
    [
        "CREATE ROLE bob LOGIN PASSWORD ",
        "ALTER USER bob\n WITH ENCRYPTED password\t",
        "alter role bob PaSsWoRd /* it's */ ",
        "ALTER ROLE bob PASSWORD -- it's\n",
        "UPDATE users SET password = ",
        'UPDATE users SET "password" = ',
        "SELECT f(password => ",
        "SELECT f(password := ",
        "SET password = /* it's */ ",
        "SET password /* it's */ -- = \n = ",
        "SELECT 1 /* PASSWORD ",
        "SELECT password, 'x'; SET password=",
        "ALTER USER password PASSWORD ",
        "CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'bob', password ",
    ],
)
def test_passwords_are_masked(before: str, literal: str) -> None:
    shown = readable(f"{before}{literal}".encode())
    assert "hunter2" not in shown
    assert MASKED in shown


def test_a_password_in_a_connection_string_is_masked() -> None:
    shown = readable(b"CREATE SUBSCRIPTION s CONNECTION 'host=x password=hunter2 user=y'")
    assert shown == "CREATE SUBSCRIPTION s CONNECTION 'host=x password='***' user=y'"


@pytest.mark.parametrize("bare", ["hunter2", "''hunter2''", "''hun ter2''"])
@pytest.mark.parametrize("equals", ["=", " = ", "  =\t", "= "])
def test_blanks_and_quotes_in_a_connection_string_hide_no_password(
    equals: str, bare: str
) -> None:
    shown = readable(f"SELECT dblink_connect('user=x password{equals}{bare} host=y')".encode())
    assert "ter2" not in shown
    assert "user=x" in shown
    assert "host=y" in shown


@pytest.mark.parametrize(
    "comment", ["/* password {} */", "-- password = {}\n", "/* password /* password '{}' */"]
)
def test_a_comment_behind_the_word_hides_no_password(comment: str) -> None:
    for tail in ("", " x", " 'x'", " = x"):
        shown = readable(f"SELECT password {comment.format('hunter2')}{tail}".encode())
        assert "hunter2" not in shown


@pytest.mark.parametrize("depth", [1, 2, 4, 5, 6, 100])
def test_no_depth_of_comments_behind_the_word_hides_a_password(depth: int) -> None:
    shown = readable(f"ALTER USER a PASSWORD {'/* ' * depth}{'*/ ' * depth}'hunter2'".encode())
    assert "hunter2" not in shown
    assert MASKED in shown


def test_what_follows_a_password_is_shown() -> None:
    shown = readable(b"CREATE ROLE bob PASSWORD 'hunter2' VALID UNTIL 'infinity'")
    assert shown == "CREATE ROLE bob PASSWORD '***' VALID UNTIL 'infinity'"


def test_other_literals_are_shown() -> None:
    sql = "SELECT password, 'x' FROM users WHERE name = 'ann'"
    assert readable(sql.encode()) == sql


def test_masking_takes_linear_time() -> None:
    assert MASKED not in readable(b"password " * 20_000)
    assert readable(b"password" + b" /* " * 50_000)
    assert readable(b"password '" + b"\\" * 200_001)


@pytest.mark.parametrize("place", [16_370, 16_380, 16_384 - len("PASSWORD 'secr"), 20_000])
def test_no_more_is_read_than_is_shown_and_no_password_is_half_shown(place: int) -> None:
    for spelling in ("PASSWORD 'secret'", "PASSWORD $x$secret$x$", "password=secret"):
        text = "\n" * (place - 4090) + "x" * 4090 + " " + spelling + " " + "y" * 100_000
        shown = readable(text.encode())
        assert "secr" not in shown
        assert shown.endswith(f"({len(text)} bytes)")
