"""Statements that take long, and what the log then says of them."""

from __future__ import annotations

import json
import logging
import random
from typing import TYPE_CHECKING, cast

import pytest

from router.config.values import PoolMode
from router.logs import JsonFormatter, TextFormatter
from tests.support.harness import FakeClient, Harness
from tests.support.wire import bind, describe, execute, message, parse, query, run

if TYPE_CHECKING:
    from collections.abc import Sequence

SYNC = message("S")
SECRET = "s3cr3t"


def started(after: float = 1.0, **settings: object) -> tuple[Harness, FakeClient]:
    harness = Harness(log_min_duration_statement=after, **settings)  # type: ignore[arg-type]
    return harness, harness.connect(application_name="web")


def take_long(harness: Harness, seconds: float) -> None:
    """Let what runs take so long."""
    harness.run()
    harness.engine.advance(seconds)
    for server in harness.servers:
        server.model.wake()
    harness.run()


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The fields of the lines so far."""
    found = [record for record in caplog.records if record.name == "router.slow"]
    return [cast("dict[str, object]", record.__dict__["fields"]) for record in found]


@pytest.fixture(autouse=True)
def _level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router.slow")


@pytest.mark.parametrize(
    ("after", "seconds", "is_told"),
    [
        (1.0, 0.999, False),
        (1.0, 1.0, True),
        (1.0, 5.0, True),
        (0.0, 0.0, True),
        (-0.001, 5.0, False),
    ],
)
def test_as_in_postgresql_the_limit_itself_counts_and_below_zero_is_off(
    caplog: pytest.LogCaptureFixture, after: float, seconds: float, is_told: bool
) -> None:
    harness, client = started(after)
    client.send(query("SLEEP 1"))
    take_long(harness, seconds)
    assert len(told(caplog)) == is_told


def test_a_line_says_who_where_and_for_how_long(caplog: pytest.LogCaptureFixture) -> None:
    harness, client = started(pool_size=1)
    other = harness.connect()
    other.send(query("SLEEP 1"))
    harness.run()
    client.send(query("SLEEP 2"))
    take_long(harness, 2.0)
    take_long(harness, 3.0)
    [first, second] = told(caplog)
    assert (first["duration_ms"], first["wait_ms"], first["server_ms"]) == (2000.0, 0.0, 2000.0)
    assert (second["duration_ms"], second["wait_ms"], second["server_ms"]) == (5000, 2000, 3000)
    server = harness.servers[0].connection
    assert second == {
        "database": "app",
        "user": "ann",
        "client_id": f"0x{client.session.client.pid:08X}",
        "client": client.session.client.peer,
        "application_name": "web",
        "server": server.pool.address.where,
        "server_pid": server.pid,
        "shard": 0,
        "role": "primary",
        "duration_ms": 5000.0,
        "wait_ms": 2000.0,
        "server_ms": 3000.0,
        "stall_ms": 0.0,
        "queryid": second["queryid"],
        "kind": "SLEEP",
        "query": "SLEEP ?",
    }


def test_waiting_alone_is_reason_enough(caplog: pytest.LogCaptureFixture) -> None:
    harness, client = started(1.5, pool_size=1)
    other = harness.connect()
    other.send(query("SLEEP 1"))
    harness.run()
    client.send(query("SELECT 1"))
    take_long(harness, 1.5)
    assert [line["query"] for line in told(caplog)] == ["SLEEP ?", "SELECT ?"]


def test_what_ran_before_on_the_connection_is_not_time_at_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness, client = started()
    client.send(query("SLEEP 1"), query("SELECT 1"))
    take_long(harness, 2.0)
    [first, second] = told(caplog)
    assert (first["query"], first["server_ms"]) == ("SLEEP ?", 2000.0)
    assert (second["query"], second["server_ms"], second["duration_ms"]) == (
        "SELECT ?",
        0.0,
        2000.0,
    )


def test_a_client_that_does_not_read_is_told_apart(caplog: pytest.LogCaptureFixture) -> None:
    harness, client = started()
    client.send(query("SLEEP"))
    harness.run()
    server = harness.servers[0]
    server.model.wake()
    client.link.congested = True
    server.answer(20)
    harness.engine.advance(3.0)
    client.link.congested = False
    client.session.on_drained()
    harness.run()
    [line] = told(caplog)
    assert (line["stall_ms"], line["server_ms"], line["duration_ms"]) == (3000.0, 0.0, 3000.0)


def test_an_error_has_its_code(caplog: pytest.LogCaptureFixture) -> None:
    harness, client = started(0.0)
    harness.ask(client, query("FAIL 22012"))
    [line] = told(caplog)
    assert line["sqlstate"] == "42601"


def _queries(secret: str) -> list[bytes]:
    return [query(f"SELECT '{secret}', 17")]


def _unnamed(secret: str) -> list[bytes]:
    return [run(f"SELECT '{secret}', 17") + SYNC]


def _named(secret: str) -> list[bytes]:
    return [
        parse(f"SELECT '{secret}', 17", "s") + SYNC,
        bind(name="s") + describe() + execute() + SYNC,
    ]


def _in_one(secret: str) -> list[bytes]:
    one = parse(f"SELECT '{secret}', 17", "s") + bind(name="s") + execute()
    return [one + parse("ROWS 5", "t") + bind(name="t") + execute() + SYNC]


@pytest.mark.parametrize("is_counted", [True, False])
@pytest.mark.parametrize("size", [0, 100])
@pytest.mark.parametrize("mode", ["session", "transaction"])
@pytest.mark.parametrize("form", [_queries, _unnamed, _named, _in_one])
def test_values_are_in_no_line_unless_they_are_asked_for(
    caplog: pytest.LogCaptureFixture,
    form: object,
    mode: str,
    size: int,
    is_counted: bool,
) -> None:
    settings = {"pool_mode": PoolMode(mode), "prepared_statements_cache_size": size}
    for is_verbatim in (False, True):
        caplog.clear()
        harness, client = started(0.0, log_statement_text=is_verbatim, **settings)
        if not is_counted:
            harness.engine.figures.queries.use(0)
        for data in form(SECRET):  # type: ignore[operator]
            harness.ask(client, data)
        lines = told(caplog)
        assert lines
        # Without names of the router's own nobody knows a text that has gone its way.
        is_known = form is _queries or (size > 0 and mode == "transaction")
        fingerprint = "SELECT ?, ?" if is_counted or is_known else "(not read)"
        assert any(fingerprint in str(line["query"]) for line in lines)
        shown = caplog.text + json.dumps(lines)
        assert (SECRET in shown) == (is_verbatim and is_known)


def test_no_more_than_a_few_lines_a_second_and_the_rest_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness, client = started(0.0)
    for _ in range(3):
        for _ in range(100):
            harness.ask(client, query("SELECT 1"))
        harness.engine.advance(1.0)
    assert len(told(caplog)) == 30
    counts = [record.getMessage().partition("(and ")[2] for record in caplog.records]
    assert [count for count in counts if count] == ["90 more like this before)"] * 2


@pytest.mark.parametrize("seed", range(5))
def test_a_line_has_no_more_than_some_characters_whatever_is_sent(
    caplog: pytest.LogCaptureFixture, seed: int
) -> None:
    dice = random.Random(seed)
    harness, client = started(0.0, log_statement_text=dice.random() < 0.7)
    for _ in range(30):
        harness.ask(client, *_any_texts(dice))
        harness.engine.advance(1.0)
    assert caplog.records
    for record in caplog.records:
        assert len(record.getMessage()) < 1400
        line = TextFormatter(color=False, places=False).format(record)
        assert line.isprintable()
        entry = json.loads(JsonFormatter().format(record))
        assert entry["database"] == "app"
        assert len(json.dumps(entry, ensure_ascii=False)) < 7000


def _any_texts(dice: random.Random) -> Sequence[bytes]:
    def text() -> str:
        words = [
            dice.choice(("SELECT", "a\nb", "'x", "$1", "é\x1b[31m", '"' * 9)) for _ in "ab"
        ]
        return " ".join(words * dice.choice((1, 5, 500)))

    if dice.random() < 0.5:
        return [query(text())]
    names = [f"s{number}" for number in range(dice.choice((1, 3, 60)))]
    return [*(parse(text(), n) + bind(name=n) + execute() for n in names), SYNC]


def test_a_sync_and_nothing_else_is_no_statement(caplog: pytest.LogCaptureFixture) -> None:
    harness, client = started(0.0)
    harness.ask(client, query("BEGIN"))
    caplog.clear()
    harness.ask(client, SYNC)
    assert told(caplog) == []


def test_a_reload_turns_it_on_and_off_where_clients_are(
    caplog: pytest.LogCaptureFixture,
) -> None:
    harness, client = started(-0.001)
    assert harness.pool is not None
    harness.ask(client, query("SELECT 1"))
    assert told(caplog) == []
    settings = harness.new_pool(log_min_duration_statement=0.0).settings
    harness.pool.reconfigure(settings)
    harness.ask(client, query("SELECT 1"))
    assert len(told(caplog)) == 1
