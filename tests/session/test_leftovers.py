"""What a client leaves on its server keeps it there, for as long as it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.config.values import PoolMode
from router.pool.inquiry import ask_leftovers
from router.pool.leftovers import unhurried
from router.protocol import marks, messages
from router.session.states import ClientState
from tests.support.harness import FakeClient, Harness
from tests.support.wire import SYNC, kinds, query, rows, run, sqlstates

if TYPE_CHECKING:
    from router.pool.leftovers import Leftovers
    from tests.support.harness import FakeServer

# The model takes it for any SELECT, the router for what may leave a temporary table.
TEMP = "SELECT temp"


def pooled(**settings: object) -> tuple[Harness, FakeClient, FakeServer]:
    """A pool of two servers, one of which has what a client has left."""
    harness = Harness(**{"pool_size": 2, "most_pinned": 1, **settings})  # type: ignore[arg-type]
    client = harness.connect()
    harness.ask(client, query("SELECT 1"))
    [server] = harness.servers
    server.model.kept = marks.TEMP
    return harness, client, server


def is_pinned(client: FakeClient) -> bool:
    """Whether the client keeps its server."""
    lease = client.session.lease
    return lease.pins.pin is not None and lease.server is not None


def state_of(client: FakeClient) -> ClientState:
    """What SHOW CLIENTS says of it."""
    return client.session.lease.state


def test_a_client_keeps_its_server_while_something_is_there() -> None:
    harness, client, server = pooled()
    harness.ask(client, query(TEMP))
    assert is_pinned(client)
    assert state_of(client) is ClientState.ACTIVE
    assert rows(harness.ask(harness.connect(), query("SELECT other"))) == [[b"SELECT other"]]
    assert "SELECT other" not in server.model.log
    harness.ask(client, query("SELECT 2"))
    assert is_pinned(client)
    server.model.kept = 0
    harness.ask(client, query("SELECT 3"))
    assert not is_pinned(client)
    assert state_of(client) is ClientState.IDLE
    harness.check()


def test_a_client_that_leaves_nothing_is_asked_nothing() -> None:
    harness, client, server = pooled()
    harness.ask(client, query("SELECT 1"), query("BEGIN"), query("COMMIT"), run("x") + SYNC)
    assert server.model.asked == 0
    harness.ask(client, query("SELECT temp"))
    assert server.model.asked == 1


def test_a_false_alarm_needs_no_clean_up() -> None:
    harness, client, server = pooled()
    server.model.kept = 0
    harness.ask(client, query(TEMP))
    assert (server.model.asked, server.model.log[-1]) == (1, TEMP)


@pytest.mark.parametrize("statement", [query("SELECT 2"), run("SELECT 2") + SYNC])
def test_a_client_with_too_much_is_told_and_its_server_cleaned(statement: bytes) -> None:
    harness, client, server = pooled(most_pinned=0)
    harness.ask(client, query(TEMP))
    assert not is_pinned(client)
    assert server.model.log[-1] == "DISCARD TEMP"
    server.model.kept = 0
    told = harness.ask(client, statement)
    assert (kinds(told), sqlstates(told)) == ("EZ", ["53300"])
    fields = told[0].fields
    assert "temporary table" in fields["M"]
    assert "max_pinned" in fields["H"]
    assert rows(harness.ask(client, statement)) == [[b"SELECT 2"]]
    harness.check()


def test_a_second_client_is_refused_where_one_may_keep_a_server() -> None:
    harness, client, _ = pooled()
    other = harness.connect()
    harness.ask(client, query(TEMP))
    harness.ask(other, query("SELECT 1"))
    harness.servers[-1].model.kept = marks.LOCK
    harness.ask(other, query("SELECT pg_advisory_lock(1)"))
    assert (is_pinned(client), is_pinned(other)) == (True, False)
    assert sqlstates(harness.ask(other, query("SELECT 1"))) == ["53300"]
    assert sqlstates(harness.ask(client, query("SELECT 1"))) == []


def test_in_statement_mode_nothing_is_kept() -> None:
    harness, client, _ = pooled(pool_mode=PoolMode.STATEMENT, most_pinned=0)
    harness.ask(client, query(TEMP))
    assert sqlstates(harness.ask(client, query("SELECT 1"))) == ["0A000"]


@pytest.mark.parametrize(
    "settings",
    [
        {"pin_session_state": False},
        {"cleanup_server_connections": False},
        {"pool_mode": PoolMode.SESSION},
    ],
)
def test_nobody_asks_where_nothing_follows(settings: dict[str, object]) -> None:
    harness, client, server = pooled(**settings)
    harness.ask(client, query(TEMP))
    assert server.model.asked == 0
    assert client.session.lease.pins.pin is None
    harness.check()


def test_what_is_sent_behind_waits_for_the_answer_and_is_answered() -> None:
    harness, client, server = pooled()
    client.send(query(TEMP) + query("SELECT 2") + run("SELECT 3") + SYNC)
    assert rows(harness.read(client)) == [[b"SELECT temp"], [b"SELECT 2"], [b"SELECT 3"]]
    assert is_pinned(client)
    server.model.kept = 0
    client.send(query("SELECT 4") + query("SELECT 5"))
    assert rows(harness.read(client)) == [[b"SELECT 4"], [b"SELECT 5"]]
    assert not is_pinned(client)
    harness.check()


@pytest.mark.parametrize(
    ("mark", "text"),
    [
        (marks.TEMP, TEMP),
        (marks.LOCK, "SELECT pg_advisory_lock(1)"),
        (marks.CURSOR, "SELECT cursor WITH HOLD"),
    ],
)
@pytest.mark.parametrize("was", [marks.TEMP, marks.LOCK, marks.CURSOR])
@pytest.mark.parametrize("is_extended", [False, True])
def test_what_is_left_behind_a_question_is_asked_about_once_more(
    mark: int, text: str, was: int, is_extended: bool
) -> None:
    harness, client, server = pooled()
    server.model.kept = was
    harness.ask(client, query(f"{TEMP}, pg_advisory_lock, WITH HOLD"))
    assert is_pinned(client)
    server.model.kept = 0
    client.send(query("SELECT 1"))
    server.work()
    server.answer()  # the next question is on its way
    server.work()  # and its answer: there is nothing any more
    client.send(run(text) + SYNC if is_extended else query(text))
    server.model.kept = mark
    assert rows(harness.read(client)) == [[b"SELECT 1"], [text.encode()]]
    assert is_pinned(client)
    client.leave()
    harness.run()
    assert server.model.log[-1] == "DISCARD ALL"
    harness.check()


@pytest.mark.parametrize("reset", ['RESET "application_name"', "RESET ALL", "DISCARD ALL"])
@pytest.mark.parametrize("is_extended", [False, True])
@pytest.mark.parametrize("steps", range(8))
def test_a_pinned_client_has_what_it_began_with_at_once_after_a_reset(
    reset: str, is_extended: bool, steps: int
) -> None:
    harness = Harness(pool_size=2, most_pinned=1)
    client = harness.connect(application_name="mine")
    harness.ask(client, query("SELECT 1"))
    [server] = harness.servers
    server.model.kept = marks.TEMP
    harness.ask(client, query(f"{TEMP}; SET application_name TO 'other'"))
    assert is_pinned(client)
    client.send(run(reset) + SYNC if is_extended else query(reset))
    server.work()
    server.answer()  # it has been reset, and the question is on its way
    for step in range(steps):
        server.work() if step % 2 == 0 else server.answer()
    client.send(query("SHOW application_name"))
    assert rows(harness.read(client)) == [[b"SHOW application_name is mine"]]
    assert is_pinned(client)
    harness.check()


@pytest.mark.parametrize("is_extended", [False, True])
@pytest.mark.parametrize("kept", [0, marks.TEMP, marks.HIDDEN])
def test_what_a_pinned_client_discards_is_not_taken_for_the_next_clients(
    is_extended: bool, kept: int
) -> None:
    harness = Harness(pool_size=1, most_pinned=1)
    client = harness.connect(application_name="mine")
    harness.ask(client, query("SELECT 1"))
    [server] = harness.servers
    server.model.kept = marks.TEMP
    harness.ask(client, query(TEMP))
    if kept == marks.HIDDEN:
        harness.ask(client, query("SELECT setseed(0)"))
    server.model.kept = kept & marks.TEMP
    harness.ask(client, run("DISCARD ALL") + SYNC if is_extended else query("DISCARD ALL"))
    shown = [[b"SHOW application_name is mine"]]
    assert rows(harness.ask(client, query("SHOW application_name"))) == shown
    client.leave()
    harness.run()
    same = harness.connect(application_name="mine")
    assert rows(harness.ask(same, query("SHOW application_name"))) == shown
    harness.check()


@pytest.mark.parametrize(
    "behind", [query("SHOW application_name"), run("SHOW application_name")]
)
@pytest.mark.parametrize("kept", [0, marks.TEMP])
def test_what_is_sent_together_with_discard_all_finds_it_done(behind: bytes, kept: int) -> None:
    harness, client, server = pooled()
    harness.ask(client, query(f"{TEMP}; SET application_name TO 'other'"))
    assert is_pinned(client)
    server.model.kept = kept
    answers = harness.ask(client, run("DISCARD ALL") + SYNC + behind + SYNC)
    assert rows(answers) == [[b"SHOW application_name is "]]
    harness.check()


@pytest.mark.parametrize("steps", range(6))
@pytest.mark.parametrize("is_kept", [False, True])
def test_a_client_may_leave_at_any_step(steps: int, is_kept: bool) -> None:
    harness, client, server = pooled()
    server.model.kept = marks.TEMP if is_kept else 0
    client.send(query(f"{TEMP}; SET application_name TO 'gone'") + query("SELECT mine"))
    for step in range(steps):
        server.work() if step % 2 == 0 else server.answer()
    client.leave()
    harness.run()
    server.model.kept = 0
    other = harness.connect()
    shown = rows(harness.ask(other, query("SHOW application_name")))
    assert shown == [[b"SHOW application_name is "]]
    harness.check()


def test_a_client_that_is_pinned_leaves_a_clean_server() -> None:
    harness, client, server = pooled()
    harness.ask(client, query(TEMP))
    client.leave()
    harness.run()
    assert server.model.log[-1] == "DISCARD ALL"
    harness.check()


def test_a_draining_router_waits_for_nobody_who_is_pinned() -> None:
    harness, client, _ = pooled()
    harness.ask(client, query(TEMP))
    client.session.drain()
    assert client.link.closed
    harness.run()
    harness.check()


def test_a_server_that_dies_takes_the_pinned_client_with_it() -> None:
    harness, client, server = pooled()
    harness.ask(client, query(TEMP))
    server.die()
    assert sqlstates(harness.read(client)) == ["08006"]
    assert client.link.closed
    harness.check()


def test_a_cancel_request_does_not_hit_the_question() -> None:
    harness, client, server = pooled()
    client.send(query(TEMP))
    server.work()
    server.answer()
    assert server.connection.queue
    client.session.cancel()
    assert not harness.cancelling
    harness.run()
    assert is_pinned(client)


def test_a_cancel_request_waits_until_the_settings_are_in_force() -> None:
    harness = Harness(pool_size=1)
    client, other = harness.connect(application_name="mine"), harness.connect()
    harness.ask(client, query("SELECT 1"))
    harness.ask(other, query("SELECT 2"))
    client.send(query("SLEEP mine"))
    [server] = harness.servers
    assert len(server.connection.queue) == 2
    client.session.cancel()
    assert not harness.cancelling
    server.work()
    server.answer()
    assert len(server.connection.queue) == 1
    assert harness.cancelling == [server.connection]


# --- the question itself


def asked(found: int) -> tuple[FakeServer, list[Leftovers | None]]:
    """A server that has been asked what its client has left, and what comes of that."""
    harness, _, server = pooled()
    got: list[Leftovers | None] = []
    server.connection.marks = found
    ask_leftovers(server.connection, (), got.append, harness.engine.now)
    return server, got


def test_of_a_setting_that_is_there_twice_the_first_is_meant() -> None:
    server, got = asked(marks.SET)
    rows_of = [("s", "work_mem", value.encode().hex()) for value in ("1MB", "2MB")]
    server.connection.on_data(
        b"".join(messages.data_row(row) for row in rows_of)
        + messages.command_complete("SELECT 2")
        + messages.ready_for_query()
    )
    [left] = got
    assert left is not None
    assert left.settings == {"work_mem": "1MB"}


def test_a_question_that_was_cancelled_is_asked_again_with_all_the_time_it_takes() -> None:
    server, got = asked(marks.SET)
    question = server.link.take()
    for _ in range(2):
        server.connection.on_data(
            messages.error_response("cancelled", "57014") + messages.ready_for_query()
        )
        assert server.link.take() == messages.query(unhurried(question[5:-1]))
    assert got == []
