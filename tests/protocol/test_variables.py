"""A client's settings as values, and the SQL that applies them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.protocol.variables import (
    EMPTY,
    Variables,
    as_reported,
    quote_identifier,
    quote_literal,
)

if TYPE_CHECKING:
    from tests.support.postgres import Database


def test_equal_settings_are_one_object() -> None:
    one = Variables.of({"DateStyle": "ISO", "search_path": "a"})
    assert Variables.of({"SEARCH_PATH": "a", "datestyle": "ISO"}) is one
    assert one.replaced("search_path", "a") is one
    assert Variables.of({}) is EMPTY


def test_a_change_sets_what_differs_and_resets_what_is_gone() -> None:
    old = Variables.of({"work_mem": "1MB", "search_path": "a", "timezone": "UTC"})
    new = Variables.of({"search_path": "b", "timezone": "UTC"})
    sql = new.change_from(old)
    assert (
        sql == b"""RESET "work_mem";SELECT pg_catalog.set_config('search_path', 'b', false)"""
    )
    assert new.change_from(new) == b""


def test_identifiers_cannot_break_out() -> None:
    assert quote_identifier('a"; DROP TABLE t; --') == '"a""; DROP TABLE t; --"'
    assert quote_identifier("my.setting") == '"my"."setting"'


@given(st.text())
def test_literals_are_plain_ascii_without_a_backslash_that_could_escape(text: str) -> None:
    quoted = quote_literal(text)
    assert quoted.isascii()
    assert "\\" not in quoted


def test_bytes_that_are_no_characters_go_to_the_server_as_they_came() -> None:
    assert "e9" in quote_literal(b"caf\xe9".decode("utf-8", "surrogateescape"))


def test_literals_mean_what_they_say_to_a_real_server(fresh_database: Database) -> None:
    values = [
        "",
        "plain",
        "it's",
        "back\\slash",
        "é 表",
        "'; DROP TABLE t; --",
        "\\'",
    ]
    sql = ", ".join(quote_literal(value) for value in values)
    dsn = f"host={fresh_database.host} port={fresh_database.port} user=postgres"
    with psycopg.connect(f"{dsn} dbname={fresh_database.name}") as connection:
        for setting in ("on", "off"):
            connection.execute(f"SET standard_conforming_strings = {setting}")
            connection.execute("SET escape_string_warning = off")
            row = connection.execute(f"SELECT {sql}").fetchone()
            assert row is not None
            assert list(row) == values


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("client_encoding", "utf-8", "UTF8"),
        ("client_encoding", "UNICODE", "UTF8"),
        ("client_encoding", "latin1", "LATIN1"),
        ("datestyle", "iso", "ISO, DMY"),
        ("datestyle", "SQL, MDY", "SQL, MDY"),
        ("datestyle", "sql", "SQL, DMY"),
        ("datestyle", "postgres", "Postgres, DMY"),
        ("datestyle", "GERMAN", "German, DMY"),
        ("application_name", "x", "x"),
    ],
)
def test_a_start_up_value_is_spelled_as_the_server_reports_it(
    name: str, value: str, shown: str
) -> None:
    assert as_reported(name, value, {"DateStyle": "ISO, DMY"}) == shown


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(max_size=5)))
def test_applying_a_change_to_itself_is_nothing(values: dict[str, str]) -> None:
    variables = Variables.of(values)
    assert variables.change_from(variables) == b""
