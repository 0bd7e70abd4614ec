"""Which texts intercept answers, and with what."""

from __future__ import annotations

import struct
import uuid

import pytest

from router.config.plugins import InterceptedQuery
from router.errors import RoutingError
from router.plugins.intercept import CannedAnswer, Interceptor, normal_form
from router.plugins.types import type_oid
from router.protocol import messages
from tests.support.harness import read_messages
from tests.support.wire import rows

QUERY = "SELECT current_database() AS a, current_schemas(false) AS b"


def answer_to(
    query: str, *columns: tuple[str, str], result: tuple[tuple[str, ...], ...] = ()
) -> InterceptedQuery:
    """A statement of the configuration with its answer."""
    return InterceptedQuery.model_validate(
        {"query": query, "schema": columns, "result": result}
    )


def found(text: str, *queries: str) -> bool:
    """Whether a text is one of these statements."""
    answers = [answer_to(query, ("a", "text")) for query in queries]
    return Interceptor(answers, "app", "ann").answer(text.encode()) is not None


@pytest.mark.parametrize(
    "text",
    [
        QUERY,
        QUERY.lower(),
        QUERY.upper(),
        f"{QUERY};",
        f" \n{QUERY} ; ;\t",
        f"/* a */ {QUERY} -- b",
        "select current_database( )as a,current_schemas\n(\nfalse )as b",
    ],
)
def test_blanks_comments_capitals_and_semicolons_do_not_matter(text: str) -> None:
    assert found(text, QUERY)
    assert found(QUERY, text)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("SELECT 1", "SELECT 2"),
        ("SELECT 'a'", "SELECT 'A'"),
        ("SELECT 'a'", "SELECT 'a '"),
        ('SELECT "a"', 'SELECT "A"'),
        ("SELECT a, b", "SELECT a b"),
        ("SELECT $1", "SELECT $2"),
        ("SELECT 1 AS a", "SELECT 1 a"),
        ("SELECT X'1F'", "SELECT X'2F'"),
        ("SELECT 1; SELECT 1", "SELECT 1"),
        ("SELECT 1; DROP TABLE t", "SELECT 1"),
        ("SELECT 'not closed", "SELECT 'not closed"),
        ("", ""),
        ("SELECT 1 /*" + "x" * 20_000 + "*/", "SELECT 1"),
    ],
)
def test_all_else_matters(text: str, query: str) -> None:
    if query:
        assert not found(text, query)
    assert normal_form(b"") is None


def test_a_text_is_recognised_again() -> None:
    interceptor = Interceptor([answer_to(QUERY, ("a", "text"))], "app", "ann")
    for _ in range(2):
        assert interceptor.answer(QUERY.encode()) is not None
        assert interceptor.answer(b"SELECT 1") is None


def test_the_first_of_two_answers_to_a_statement_counts() -> None:
    answers = [answer_to(QUERY, ("first", "text")), answer_to(f"{QUERY};", ("second", "text"))]
    canned = Interceptor(answers, "app", "ann").answer(QUERY.encode())
    assert canned is not None
    assert canned.columns == (("first", 25),)


@pytest.mark.parametrize("query", ["SELECT 1; SELECT 2", "SELECT 'not closed", ";"])
def test_what_is_not_one_statement_is_told_and_left_out(
    query: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert not found(query, query)
    assert "not one statement" in caplog.text


def test_user_and_database_are_filled_in_and_empty_strings_are_null() -> None:
    result = (("${USER}@${DATABASE}", ""), ("$USER", "${HOME}"))
    answer = answer_to(QUERY, ("a", "text"), ("b", "text"), result=result)
    canned = Interceptor([answer], "app", "ann").answer(QUERY.encode())
    assert canned is not None
    got = rows(read_messages(b"".join(canned.rows((0, 0)))))
    assert got == [[b"ann@app", None], [b"$USER", b"${HOME}"]]


def test_parameters_are_counted() -> None:
    canned = Interceptor([answer_to("SELECT $2, $1", ("a", "int4"))], "app", "ann")
    found = canned.answer(b"select $2,$1")
    assert found is not None
    assert found.parameters == 2


@pytest.mark.parametrize(
    ("name", "oid"),
    [
        ("text", 25),
        ("TEXT", 25),
        ("bool", 16),
        ("boolean", 16),
        ("oid", 26),
        ("int4", 23),
        ("Integer", 23),
        ("int", 23),
        ("smallint", 21),
        ("bigint", 20),
        ("character  varying (10)", 1043),
        ("numeric(10, 2)", 1700),
        ("double precision", 701),
        ("timestamp (3) with time zone", 1184),
        ("timestamptz", 1184),
        ("uuid", 2950),
        ("jsonb", 3802),
        ("anyarray", 2277),
        ("text[]", 1009),
        ("_int4", 1007),
        ("integer []", 1007),
        ("pg_catalog.name", 19),
        ("my_type", 25),
        ("my_type[]", 25),
    ],
)
def test_types_go_by_their_names(name: str, oid: int) -> None:
    assert type_oid(name) == oid


@pytest.mark.parametrize(
    ("name", "value", "binary"),
    [
        ("text", "é", "é".encode()),
        ("varchar", "a", b"a"),
        ("bool", "t", b"\x01"),
        ("bool", "false", b"\x00"),
        ("int2", "-2", b"\xff\xfe"),
        ("int4", "7", struct.pack("!i", 7)),
        ("int8", "-7", struct.pack("!q", -7)),
        ("oid", "4000000000", struct.pack("!I", 4000000000)),
        ("float8", "1.5", struct.pack("!d", 1.5)),
        ("jsonb", "{}", b"\x01{}"),
        ("uuid", "6f1c1ac0-0b57-4f0c-bd0b-1f8f1b0f5f0a", None),
    ],
)
def test_values_have_their_types_binary_format(
    name: str, value: str, binary: bytes | None
) -> None:
    canned = CannedAnswer([("a", name)], [[value]])
    [[got]] = rows(read_messages(canned.rows((1,))[0]))
    assert got == (uuid.UUID(value).bytes if binary is None else binary)
    [[got]] = rows(read_messages(canned.rows((0,))[0]))
    assert got == value.encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [("int4", "x"), ("int2", "70000"), ("timestamptz", "2026-01-01"), ("text[]", "{}")],
)
def test_what_has_no_binary_format_is_an_error_that_says_what_to_do(
    name: str, value: str
) -> None:
    canned = CannedAnswer([("a", name)], [[value]])
    with pytest.raises(RoutingError) as caught:
        canned.rows((1,))
    assert caught.value.sqlstate == "0A000"
    assert "text format" in caught.value.hint
    assert canned.rows((0,)) == [messages.data_row([value])]
