"""What is the same on every shard with the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.routing.functions import names
from router.routing.sameness import ALIKE, literals_vary, varies
from router.routing.tokens import fold, statements_of

if TYPE_CHECKING:
    from tests.support.cluster.server import Server

_VOLATILE = """
SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
AND provolatile = 'v'
"""
_IMMUTABLE = """
SELECT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
GROUP BY proname HAVING bool_and(provolatile = 'i')
"""
# They depend on settings, which are the same on all shards.
_STABLE = names(
    """
    array_to_json array_to_string concat concat_ws convert_from convert_to date date_part
    date_trunc extract format generate_series interval json_build_array json_build_object
    json_object jsonb_build_array jsonb_build_object length make_timestamptz max min numeric
    parse_ident plainto_tsquery quote_literal quote_nullable row_to_json text time timestamp
    timestamptz timezone to_char to_date to_json to_jsonb to_number to_timestamp to_tsquery
    to_tsvector websearch_to_tsquery
    """
)


@pytest.mark.postgres
def test_no_function_is_among_them_that_postgresql_calls_volatile(postgres: Server) -> None:
    assert not ALIKE & {row[0] for row in postgres.execute(_VOLATILE)}
    immutable = {row[0] for row in postgres.execute(_IMMUTABLE)}
    assert ALIKE - immutable <= _STABLE


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("UPDATE t SET a = b + 1, c = upper(d) WHERE e = 2", ""),
        ("UPDATE t SET a = pg_catalog.upper(d)", ""),
        ("UPDATE t SET a = mine.upper(d)", "upper"),
        ("UPDATE t SET a = now()", "now"),
        ("UPDATE t SET a = 1 WHERE ctid = b", "ctid"),
        ("DELETE FROM t USING (SELECT DISTINCT ON (a) b FROM u) x", "ON"),
        ("DELETE FROM t USING (SELECT DISTINCT a FROM u) x", ""),
        ("INSERT INTO t SELECT row_number() OVER () FROM u", "row_number"),
        ("INSERT INTO t SELECT max(a) OVER () FROM u", "OVER"),
    ],
)
def test_what_varies_is_named(sql: str, word: str) -> None:
    ((_, tokens),) = statements_of(fold(sql.encode()))
    assert word in varies(tokens)
    assert bool(word) == bool(varies(tokens))


@pytest.mark.parametrize(
    ("literal", "is_it"),
    [
        (b"'now'", True),
        (b"' NOW '", True),
        (b"'today 12:00'", True),
        (b"'now and then'", False),
        (b"'nowhere'", False),
        (b"('a', now()), ('b', 'c')", True),
        (b"('a', 'now()')", False),
        (b"('a', CURRENT_TIMESTAMP)", True),
    ],
)
def test_literals_may_stand_for_the_time(literal: bytes, is_it: bool) -> None:
    assert bool(literals_vary([literal])) == is_it
