"""Spans of statements, from programs by way of the router to a collector, and PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import closing
from typing import TYPE_CHECKING

import asyncpg
import psycopg
import pytest

from router.traces import MOST
from tests.support.collector import Collector, Span, collecting
from tests.support.router import HOST, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def router(
    module_router: ModuleRouter, pool_for: PoolFor, collector: Collector
) -> RouterProcess:
    """One with a pool of a single server, which sends what is traced to the collector."""
    general = f'opentelemetry_endpoint = "{collector.endpoint}"'
    return module_router({"one": pool_for(size=1)}, general)


class Trace:
    """One trace of a program's."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector
        self.trace = secrets.token_hex(16)
        self.span = secrets.token_hex(8)

    def of(self, sql: str, flags: str = "01") -> str:
        """The statement as a part of it."""
        return f"{sql} /*traceparent='00-{self.trace}-{self.span}-{flags}'*/"

    def spans(self) -> list[Span]:
        """Those that have come."""
        return [span for span in self._collector.spans if span.trace == self.trace]

    def statements(self, count: int) -> list[Span]:
        """Those of so many statements, as soon as all of them have come."""
        wait_until(f"{count} statements have come", lambda: len(self.below(self.span)) == count)
        return self.below(self.span)

    def below(self, span: str) -> list[Span]:
        """The spans below one, in the order of their beginnings."""
        found = [each for each in self.spans() if each.parent == span]
        return sorted(found, key=lambda each: (each.began, each.ended))


@pytest.fixture
def trace(collector: Collector) -> Trace:
    return Trace(collector)


def by_query(router: RouterProcess, trace: Trace) -> None:
    with closing(router.connect("one")) as link:
        cursor = psycopg.ClientCursor(link)
        assert cursor.execute(trace.of("SELECT 40 + 2")).fetchone() == (42,)


def by_parse(router: RouterProcess, trace: Trace) -> None:
    with closing(router.connect("one")) as link:
        sql = trace.of("SELECT 40 + %s")
        assert link.execute(sql, (2,), prepare=False).fetchone() == (42,)


def in_transaction(router: RouterProcess, trace: Trace) -> None:
    with closing(router.connect("one", autocommit=False)) as link:
        assert link.execute("SELECT 1").fetchone() == (1,)
        sql = trace.of("SELECT 40 + %s")
        assert link.execute(sql, (2,), prepare=False).fetchone() == (42,)
        link.commit()


def by_name(router: RouterProcess, trace: Trace) -> None:
    with closing(router.connect("one")) as link:
        sql = trace.of("SELECT 40 + %s")
        assert link.execute(sql, (2,), prepare=True).fetchone() == (42,)


@pytest.mark.parametrize("cache_size", [0, 100])
def test_a_statement_of_asyncpg_s_is_one_span(
    router: RouterProcess, trace: Trace, cache_size: int
) -> None:
    async def ask() -> None:
        link = await asyncpg.connect(
            host=HOST,
            port=router.port,
            user="postgres",
            database="one",
            statement_cache_size=cache_size,
        )
        assert await link.fetchval(trace.of("SELECT 40 + $1::int"), 2) == 42
        await link.close()

    asyncio.run(ask())
    [statement] = trace.statements(1)
    assert statement.name == "SELECT"


@pytest.mark.parametrize("ask", [by_query, by_parse, in_transaction, by_name])
def test_a_statement_is_a_part_of_its_program_s_trace(
    router: RouterProcess,
    database: Database,
    trace: Trace,
    ask: Callable[[RouterProcess, Trace], None],
) -> None:
    ask(router, trace)
    [statement] = trace.statements(1)
    assert statement.name == "SELECT"
    assert not statement.is_error
    text = statement.attributes["db.query.text"]
    assert isinstance(text, str)
    assert "40" not in text
    assert "traceparent" not in text
    assert statement.attributes["db.namespace"] == database.name
    assert statement.attributes["server.port"] == database.server.port
    [route, server] = trace.below(statement.own)
    assert (route.name, server.name) == ("route", "server")
    assert route.attributes["pgcat.role"] == "primary"
    assert statement.began == route.began == route.ended <= server.began
    assert server.began <= server.ended == statement.ended
    assert isinstance(server.attributes["pgcat.server_pid"], int)


def test_an_error_is_told_by_its_sqlstate(router: RouterProcess, trace: Trace) -> None:
    with closing(router.connect("one")) as link:
        with pytest.raises(psycopg.errors.DivisionByZero):
            link.execute(trace.of("SELECT 1 / 0"))
    [statement] = trace.statements(1)
    assert statement.is_error
    assert statement.attributes["db.response.status_code"] == "22012"


def test_who_waits_has_a_span_of_the_queue(router: RouterProcess, trace: Trace) -> None:
    with closing(router.connect("one")) as holder, closing(router.connect("one")) as link:
        holder.execute("BEGIN")
        holder.execute("SELECT 1")
        link.pgconn.send_query(trace.of("SELECT 2").encode())
        link.pgconn.flush()
        wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
        holder.execute("COMMIT")
        while link.pgconn.get_result() is not None:
            pass
    [statement] = trace.statements(1)
    [queue, route, server] = trace.below(statement.own)
    assert (queue.name, route.name, server.name) == ("queue", "route", "server")
    assert queue.began == statement.began
    assert queue.began < queue.ended == route.began <= server.began


def test_nothing_is_sent_of_those_that_are_not_sampled(
    router: RouterProcess, collector: Collector, trace: Trace
) -> None:
    other = Trace(collector)
    with closing(router.connect("one")) as link:
        link.execute(trace.of("SELECT 1", flags="00"))
        link.execute("SELECT 1")
        link.execute(other.of("SELECT 1"))
    other.statements(1)
    assert not trace.spans()


def test_the_flag_decides_and_a_ratio_where_there_is_none(
    module_router: ModuleRouter, pool_for: PoolFor
) -> None:
    """With 1 all, with 0 none, whatever the flags of others are."""
    with collecting() as collector:
        general = f'opentelemetry_endpoint = "{collector.endpoint}"\n'
        router = module_router({"one": pool_for(size=1)}, general)
        text = router.config_path.read_text()
        for ratio, expected in (("1", 14), ("0", 0), ("1.0", 14), ("0.0", 0)):
            router.reload(text.replace(general, f"{general}{SAMPLING} = {ratio}\n"))
            yes, no = Trace(collector), Trace(collector)
            before = len(roots_of(collector))
            with closing(router.connect("one")) as link:
                cursor = psycopg.ClientCursor(link)
                for number in range(7):
                    is_named = number % 2 == 1
                    cursor.execute(f"SELECT {number}")
                    link.execute("SELECT %s", (number,), prepare=is_named)
                    cursor.execute(no.of("SELECT 1", flags="00"))
                    link.execute(no.of("SELECT %s + 1", flags="00"), (1,), prepare=is_named)
                    cursor.execute(yes.of("SELECT 2"))
            yes.statements(7)  # of which one is the last of all
            assert not no.spans()
            found = roots_of(collector)[before:]
            assert len({span.trace for span in found}) == len(found) == expected
            for span in found:
                below = {each.name for each in collector.spans if each.parent == span.own}
                assert {"route", "server"} <= below <= {"queue", "route", "server"}


SAMPLING = "opentelemetry_sampling_ratio"


def roots_of(collector: Collector) -> list[Span]:
    """The spans without a parent."""
    return [span for span in collector.spans if not span.parent]


def test_what_a_collector_does_not_take_is_lost_and_hurts_nobody(
    module_router: ModuleRouter, pool_for: PoolFor
) -> None:
    with collecting() as collector:
        general = f'opentelemetry_endpoint = "{collector.endpoint}"'
        router = module_router({"one": pool_for(size=1)}, general)
        first, second, third = (Trace(collector) for _ in range(3))
        collector.status = 503
        with closing(router.connect("one")) as link:
            link.execute(first.of("SELECT 1"))
            router.log_with("cannot send traces, which are lost: the collector answers 503")
            collector.status = 200
            link.execute(second.of("SELECT 1"))
            second.statements(1)
            router.log_with("traces are sent again")
            assert not first.spans()
            # One that does not answer keeps them waiting, up to a number.
            collector.may_answer.clear()
            for _ in range(MOST + 70):
                psycopg.ClientCursor(link).execute(third.of("SELECT 1"))
            collector.may_answer.set()
        wait_until("the oldest have come", lambda: len(third.below(third.span)) >= MOST)


def test_what_is_left_at_the_end_is_sent(
    module_router: ModuleRouter, pool_for: PoolFor
) -> None:
    with collecting() as collector:
        general = f'opentelemetry_endpoint = "{collector.endpoint}"'
        router = module_router({"one": pool_for(size=1)}, general)
        trace = Trace(collector)
        with closing(router.connect("one")) as link:
            for _ in range(100):
                psycopg.ClientCursor(link).execute(trace.of("SELECT 1"))
        router.stop()
        assert len(trace.below(trace.span)) == 100
