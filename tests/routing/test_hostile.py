"""Texts that are made to cost time, or to be taken for something else."""

from __future__ import annotations

import time
from typing import Final

import pytest

from router.errors import AmbiguousShard
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import Role, Route, RouterOptions

OPTIONS: Final = RouterOptions(
    shard_count=3,
    parser_enabled=True,
    read_write_splitting=True,
    automatic_sharding_key=("users.id", "*.tenant"),
    omnisharded_tables=("things",),
)
# What is meant is "not minutes": the machine may be busy.
SECONDS: Final = 10.0
FROM_USERS: Final = b"SELECT * FROM users WHERE "


def numbered(form: bytes, count: int, separator: bytes = b",") -> bytes:
    return separator.join(form.replace(b"#", b"%d" % n) for n in range(count))


def route(text: bytes) -> Route:
    """Route a text, in good time."""
    router = QueryRouter(OPTIONS)
    start = time.perf_counter()
    try:
        return router.route(text, RoutingState())
    finally:
        assert time.perf_counter() - start < SECONDS


UNREADABLE: Final = {
    "a megabyte of brackets": b"SELECT " + b"(" * 500_000 + b"1" + b")" * 500_000,
    "brackets left open": b"SELECT " + b"(" * 1_000_000,
    "a zero byte": FROM_USERS + b"id = 5\0 OR 1 = 1",
    "a word that is not UTF-8": FROM_USERS + b"\xff = 5",
    "a string left open": FROM_USERS + b"id = 5 AND x = 'abc",
    "an E string left open": FROM_USERS + b"id = E'5\\'",
    "a comment left open": FROM_USERS + b"id = 5 /* abc",
    "comments in comments": FROM_USERS + b"id = 5 " + b"/*" * 300_000,
    "a dollar quote left open": FROM_USERS + b"id = 5 AND x = $a$abc",
    "a name left open": FROM_USERS + b'id = 5 AND "x',
    "nothing but semicolons": b";" * 1_000_000,
    "thousands of statements": b"SELECT * FROM users WHERE id = 5;" * 8_000,
    "more than is read": b"SELECT 1 -- " + b"x" * (1 << 20),
}


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE)
def test_what_cannot_be_read_goes_to_the_primary_of_the_default_shard(text: bytes) -> None:
    found = route(text)
    assert (found.role, found.shard) == (Role.PRIMARY, 0)


KEYLESS: Final = {
    "minus": FROM_USERS + b"id = " + b"- " * 200_000 + b"5",
    "NOT": FROM_USERS + b"NOT " * 200_000 + b"id = 5",
    "~": b"SELECT " + b"~ " * 200_000 + b"5",
    "CASE in CASE": b"SELECT " + b"CASE WHEN " * 20_000 + b"true" + b" THEN 1 END" * 20_000,
    "CASE in CASE, parsed": b"SELECT " + b"CASE WHEN " * 200 + b"true" + b" THEN 1 END" * 200,
    "a list of 100,000": FROM_USERS + b"id IN (" + numbered(b"#", 100_000) + b")",
    "an array of 100,000": FROM_USERS + b"id = ANY ('{" + numbered(b"#", 100_000) + b"}')",
    "AND": FROM_USERS + numbered(b"id = #", 3_000, b" AND "),
    "commas": b"SELECT * FROM " + numbered(b"users u#", 8_000),
    "joins": b"SELECT * FROM users u "
    + numbered(b"JOIN users u# ON u#.id = u.id", 1_000, b" ")
    + b" WHERE u.id = 5",
    "UNION": numbered(b"SELECT * FROM users WHERE id = 5", 3_000, b" UNION ALL "),
    "+": FROM_USERS + b"id = " + numbered(b"a", 20_000, b"+"),
    "BETWEEN": b"SELECT 1 WHERE " + b"a BETWEEN 1 AND " * 3_000 + b"2",
    "WITH upon WITH": b"WITH x0 AS (SELECT 1)"
    + b"".join(b", x%d AS (SELECT * FROM x%d)" % (n, n - 1) for n in range(1, 2_000))
    + b" SELECT * FROM x1999, users",
    "subscripts": b"SELECT a" + b"[1]" * 100_000,
    "dots": b"SELECT " + b"a." * 100_000 + b"a",
    "equalities": b"SELECT * FROM users a, users b WHERE "
    + numbered(b"a.c# = b.c# AND a.c# = b.id", 2_000, b" AND "),
    "rows": b"SELECT 1 WHERE ("
    + numbered(b"a#", 3_000)
    + b") = ("
    + numbered(b"#", 3_000)
    + b")",
}


@pytest.mark.parametrize("text", KEYLESS.values(), ids=KEYLESS)
def test_what_is_too_much_names_no_key(text: bytes) -> None:
    assert route(text).shard == 0


AMBIGUOUS: Final = {
    "OR": FROM_USERS + numbered(b"id = #", 3_000, b" OR "),
    "an array of 9,999": FROM_USERS + b"id = ANY ('{" + numbered(b"#", 9_999) + b"}')",
    "rows": FROM_USERS + b"(id, n) IN (" + numbered(b"(#, 1)", 3_000) + b")",
}


@pytest.mark.parametrize("text", AMBIGUOUS.values(), ids=AMBIGUOUS)
def test_long_lists_are_refused_if_their_keys_differ(text: bytes) -> None:
    with pytest.raises(AmbiguousShard):
        route(text)


@pytest.mark.parametrize(
    "text",
    [
        FROM_USERS + b"id = 5" + b"::int" * 20_000,
        numbered(b"SELECT * FROM users WHERE id = 5", 250, b" UNION ALL "),
        b"SELECT * FROM users u "
        + numbered(b"JOIN users u# ON u#.id = u.id", 190, b" ")
        + b" WHERE u.id = 5",
        FROM_USERS + b"id = 5 AND name = '\xff\xfe'",
    ],
    ids=["casts", "UNION", "joins", "a string that is not UTF-8"],
)
def test_long_chains_that_say_one_thing_are_followed(text: bytes) -> None:
    assert route(text).shard == 2
