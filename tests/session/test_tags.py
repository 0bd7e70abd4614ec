"""Statements that differ in the comments of sqlcommenter only: they fill no memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.regexes import Regex
from router.routing.types import RouterOptions
from router.session import simple
from router.session.activity import query_snapshots
from tests.support.harness import Harness
from tests.support.wire import bind, describe, execute, message, parse, query, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.harness import FakeClient

SYNC = message("S")
COUNT = 10_000
# Of the forms that take longest to be asked, as many as fill all that could be filled.
FEWER = 5_000
KNOWN = [f"SELECT a{number} FROM known WHERE id = 1" for number in range(20)]


def tagged(number: int, text: str = "SELECT b FROM tagged WHERE id = 1") -> str:
    trace = f"00-5bd66ef5095369c7b0d1f8f4bd{number:06x}-c532cb4098{number:06x}-01"
    return f"{text} /*action='%2Fshow',framework='django',traceparent='{trace}'*/"


def by_query(text: str) -> list[bytes]:
    return [query(text)]


def without_literals(text: str) -> list[bytes]:
    return [query(text.replace("= 1", "= id"))]


def unnamed(text: str) -> list[bytes]:
    return [run(text) + SYNC]


def named(text: str) -> list[bytes]:
    """As asyncpg: a statement is prepared, run, and closed."""
    return [
        parse(text, "s") + describe("S", "s") + SYNC,
        bind(name="s") + execute() + SYNC,
        message("C", b"Ss\0") + SYNC,
    ]


def in_one(text: str) -> list[bytes]:
    return [parse(text, "s") + bind(name="s") + execute() + message("C", b"Ss\0") + SYNC]


def ask_all(harness: Harness, client: FakeClient, texts: list[str]) -> None:
    for text in texts:
        for data in [*by_query(text), *named(text)]:
            harness.ask(client, data)


@pytest.mark.parametrize("parser", [False, True])
@pytest.mark.parametrize("form", [by_query, without_literals, unnamed, named, in_one])
def test_many_of_them_are_one_form_and_displace_nothing(
    form: Callable[[str], list[bytes]], parser: bool
) -> None:
    options = RouterOptions(
        shard_count=1,
        query_parser_enabled=parser,
        query_parser_read_write_splitting=parser,
        cache_entries=200,
    )
    harness = Harness(options=options, prepared_statements_cache_size=50, pool_size=1)
    harness.engine.figures.queries.use(100)
    client = harness.connect()
    for _ in range(2):  # what has literals is remembered when it comes back
        ask_all(harness, client, KNOWN)
    assert harness.pool is not None
    router, [server] = harness.pool.router, harness.servers
    others, harmless = set(simple._others), set(simple._harmless)
    before = len(server.connection.statements)
    known = len(harness.engine.figures.queries._texts)
    new_texts = router.cache.fingerprint_hits + router.cache.misses

    count = FEWER if form is named else COUNT
    for number in range(count):
        for data in form(tagged(number)):
            client.send(data)
            harness.run()
        client.got = b""

    [row] = [
        row for row in query_snapshots(harness.engine.figures.queries) if "tagged" in row.query
    ]
    assert row.calls == count
    assert row.query.startswith("SELECT b FROM tagged WHERE id = ")
    assert not [row for row in query_snapshots(harness.engine.figures.queries) if not row.kind]
    statements = server.connection.statements
    assert statements.evictions == 0
    assert len(statements) - before <= 1
    assert len(harness.pool.statements) <= len(KNOWN) + 1
    assert len(simple._others.keys() - others) <= 1
    assert len(simple._harmless.keys() - harmless) <= 2
    assert len(harness.engine.figures.queries._texts) - known <= 2
    if parser:
        assert router.cache.fingerprint_hits + router.cache.misses - new_texts <= 4
        assert [router.cache.known(text.encode()) for text in KNOWN] == ["hit"] * len(KNOWN)
        assert len(router.cache) <= len(KNOWN) + 2


def test_what_servers_see_is_the_text_unless_the_statement_has_a_name() -> None:
    harness = Harness(pool_size=1)
    client = harness.connect()
    harness.ask(client, *by_query("SELECT 1"))
    [server] = harness.servers
    for form, is_seen in ((by_query, True), (unnamed, True), (named, False), (in_one, False)):
        text = tagged(1, f"SELECT {form.__name__}")
        written = b""
        for data in form(text):
            client.send(data)
            written += server.link.written
            harness.run()
        assert (text.encode() in written) == is_seen
        assert text.partition(" /*")[0].encode() in written


def test_where_comments_are_read_their_texts_are_not_the_same() -> None:
    options = RouterOptions(shard_count=2, shard_id_regex=Regex(r"shard='(\d)'"))
    harness = Harness(servers=((True,), (True,)), options=options)
    client = harness.connect()
    for shard in (0, 1, 1, 0):
        text = f"SELECT 1 /*shard='{shard}'*/"
        for data in [*by_query(text), *unnamed(text), *named(text)]:
            harness.ask(client, data)
    calls = {row.shard: row.calls for row in query_snapshots(harness.engine.figures.queries)}
    assert calls == {0: 6, 1: 6}
