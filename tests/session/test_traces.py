"""What is noted of statements whose clients are traced, and that nothing is of others."""

from __future__ import annotations

import logging
import random

import pytest

from router.traces import MOST, Parent, Traced, Traces, parent_of
from tests.support.harness import FakeClient, Harness
from tests.support.wire import bind, describe, execute, message, parse, query

SYNC = message("S")
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = Parent(TRACE, SPAN)
SAMPLED = f"00-{TRACE}-{SPAN}-01"


def traced_by(trace_parent: str, sql: str = "SELECT 1") -> str:
    """The statement with its comment."""
    return f"{sql} /*action='x',traceparent='{trace_parent}'*/"


def started(**settings: object) -> tuple[Harness, Traces]:
    """A harness in which statements are traced."""
    harness = Harness(**settings)  # type: ignore[arg-type]
    traces = harness.engine.figures.traces = Traces()
    harness.part  # noqa: B018 - it is made now
    assert harness.pool is not None
    harness.pool.heed_after = 0.0
    return harness, traces


def ask(harness: Harness, client: FakeClient, *messages: bytes) -> None:
    client.send(*messages)
    harness.run()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (SAMPLED, PARENT),
        (f"00-{TRACE}-{SPAN}-ff", PARENT),
        (f"cc-{TRACE}-{SPAN}-03", PARENT),
        (f"00-{TRACE}-{SPAN}-00", None),
        (f"00-{TRACE}-{SPAN}-02", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        ("", None),
        ("00", None),
        (f"00-{TRACE}-{SPAN}", None),
    ],
)
def test_only_a_sampled_parent_counts(given: str, expected: Parent | None) -> None:
    assert parent_of(given) == expected


BATCHES = {
    "Query": [query(traced_by(SAMPLED))],
    "unnamed": [parse(traced_by(SAMPLED)), bind(), execute(), SYNC],
    "described": [
        parse(traced_by(SAMPLED)),
        bind(),
        describe(),
        execute(),
        SYNC,
    ],
    "prepared first": [
        parse(traced_by(SAMPLED)),
        describe("S"),
        message("H"),
        bind(),
        execute(),
        SYNC,
    ],
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("is_in_transaction", [False, True])
def test_a_statement_is_noted_in_either_protocol(name: str, is_in_transaction: bool) -> None:
    harness, traces = started()
    client = harness.connect()
    if is_in_transaction:
        ask(harness, client, query("BEGIN"), query("SELECT 2"))
    ask(harness, client, *BATCHES[name])
    found = traces.take(9)
    assert [(one.parent, one.kind, one.form) for one in found] == [
        (PARENT, "SELECT", "SELECT ?")
    ]
    assert (found[0].database, found[0].user, found[0].role) == ("app", "ann", "primary")
    assert (found[0].sqlstate, found[0].server_pid) == ("", harness.servers[0].connection.pid)


BOUND = bind(name="s") + execute() + SYNC
OTHER = Parent(TRACE[::-1], SPAN[::-1])
OTHERS = f"00-{OTHER.trace}-{OTHER.span}-01"


@pytest.mark.parametrize("sql", ["SELECT 1", "INSERT INTO t VALUES (1)"])
@pytest.mark.parametrize("is_in_transaction", [False, True])
@pytest.mark.parametrize(
    "between", [b"", SYNC, describe("S", "s") + message("H"), describe("S", "s") + SYNC]
)
def test_what_has_a_name_belongs_to_the_trace_in_its_text_whenever_it_is_run(
    between: bytes, is_in_transaction: bool, sql: str
) -> None:
    harness, traces = started()
    first, second = harness.connect(), harness.connect()
    ask(harness, second, parse(sql, "s"), SYNC, BOUND)
    if is_in_transaction:
        ask(harness, first, query("BEGIN"), query("SELECT 2"))
    assert not traces.take(9)
    ask(harness, first, parse(traced_by(SAMPLED, sql), "s"), between)
    assert not len(traces), "it has not been run"
    for _ in range(2):
        ask(harness, first, BOUND)
        [found] = traces.take(9)
        assert (found.parent, found.kind) == (PARENT, sql[:6])
        # Others share the statement, and not the trace.
        ask(harness, second, BOUND)
        assert not len(traces)
    # Nor does the first, with what has no comment, however that is prepared.
    for name, rest in (("t", between), ("u", describe("S", "u") + message("H"))):
        ask(harness, first, parse("SELECT 1, 2", name), rest.replace(b"Ss", b"St"))
        ask(harness, first, bind(name=name) + execute() + SYNC)
        assert not len(traces)


def test_of_those_that_have_the_same_text_the_last_counts() -> None:
    harness, traces = started()
    client = harness.connect()
    for trace_parent, expected in ((SAMPLED, [PARENT]), (OTHERS, [OTHER]), ("", [])):
        sql = traced_by(trace_parent) if trace_parent else "SELECT 1"
        ask(harness, client, message("C", b"Ss\0"), parse(sql, "s"), SYNC)
        traces.take(9)
        ask(harness, client, BOUND)
        assert [each.parent for each in traces.take(9)] == expected


def test_of_one_client_only_so_many_are_known() -> None:
    harness, traces = started()
    client = harness.connect()
    for number in range(501):
        sql = traced_by(SAMPLED, f"SELECT {number}")
        ask(harness, client, parse(sql, f"s{number}"), SYNC)
    traces.take(2048)
    for number in (0, 1, 500):
        ask(harness, client, bind(name=f"s{number}"), execute(), SYNC)
        assert len(traces.take(9)) == (0 if number == 0 else 1)


def test_a_trace_is_that_of_its_own_statements_alone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router.slow")
    harness, traces = started()
    client = harness.connect()
    ask(harness, client, *BATCHES["prepared first"])
    assert len(traces.take(9)) == 1
    flush = message("H")
    ask(harness, client, parse("SELECT 1, 2", "s"), flush, bind(name="s"), execute(), SYNC)
    ask(harness, client, parse("SELECT 2", "t"), bind(name="t"), execute(), SYNC)
    ask(harness, client, query("SELECT 2"))
    assert not len(traces)
    # Nothing of this took long.
    assert not caplog.records


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        traced_by(f"00-{TRACE}-{SPAN}-00"),
        f"SELECT '/*traceparent=''{SAMPLED}''*/'",
        f"/*traceparent='{SAMPLED}'*/ SELECT 1",
    ],
)
def test_nothing_is_noted_of_others(sql: str) -> None:
    harness, traces = started()
    ask(harness, harness.connect(), query(sql))
    assert not len(traces)


def test_times_are_those_of_the_clock_and_an_error_is_told() -> None:
    harness, traces = started(pool_size=1)
    first, second = harness.connect(), harness.connect()
    first.send(query("SLEEP 1"))
    harness.run()
    second.send(query(traced_by(SAMPLED, "SLEEP 2")))
    for seconds in (2.0, 3.0):
        harness.run()
        harness.engine.advance(seconds)
        for server in harness.servers:
            server.model.wake()
    harness.run()
    [found] = traces.take(9)
    assert (found.total, found.waited, found.served, found.stalled) == (5.0, 2.0, 3.0, 0.0)
    ask(harness, second, query(traced_by(SAMPLED, "FAIL")))
    [found] = traces.take(9)
    assert len(found.sqlstate) == 5


def test_only_so_many_wait_and_the_rest_is_counted() -> None:
    harness, traces = started()
    client = harness.connect()
    ask(harness, client, query(traced_by(SAMPLED)))
    [one] = traces.take(9)
    assert isinstance(one, Traced)
    for _ in range(MOST + 3):
        traces.add(one)
    assert (len(traces), traces.dropped) == (MOST, 3)
    assert len(traces.take(MOST)) == MOST
    assert not len(traces)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_of_those_that_say_nothing_a_share_is_traced(ratio: float) -> None:
    harness, traces = started()
    traces.ratio = ratio
    client = harness.connect()
    random.seed(5)
    count = 400
    for number in range(count):
        ask(harness, client, query(f"SELECT {number}"))
        ask(harness, client, query(traced_by(f"00-{TRACE}-{SPAN}-00")))
    found = traces.take(count)
    assert abs(len(found) - ratio * count) <= (0 if ratio in (0.0, 1.0) else 40)
    assert len({each.parent.trace for each in found}) == len(found)
    assert {each.parent.span for each in found} <= {""}
