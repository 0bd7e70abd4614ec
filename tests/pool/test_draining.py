"""A server that says that it takes nobody now loses the connections that there are, gently."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from router.errors import RouterError, ServerRefused, ServerTimeout, ServerUnavailable
from router.pool.health import Condition
from tests.support.harness import Harness
from tests.support.wire import query, rows

from .builders import Client, opened, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.pool.address_pool import AddressPool
    from router.pool.server import ServerConnection

# Servers say so in their own language.
LEAVING = ServerRefused("das Datenbanksystem fährt herunter", sqlstate="57P03")
OTHERS = (
    ServerUnavailable("connection refused"),  # 57P03, too, but the server has said nothing
    ServerTimeout("did not answer in time"),
    ServerRefused("terminating connection", sqlstate="57P01"),
    ServerRefused("sorry, too many clients already", sqlstate="53300"),
)


class Stage:
    """A server with a connection that is idle, and one that a client has."""

    def __init__(self) -> None:
        self.harness = Harness(connect_timeout=5.0)
        self.part = self.harness.part
        self.health = self.part.health
        self.idle, _ = opened(self.harness, 2)
        server = self.part.take()
        assert server is not None
        self.busy = server
        [rest] = self.part.idle
        self.rest = rest

    def check(self, error: RouterError | None = None, took: float = 0.0) -> None:
        """A check is over."""
        heard = self.health.begin_check()
        if error is None:
            self.health.answered(None, took)
        else:
            self.health.unanswered(error, heard, took)

    def fail_to_open(self, error: RouterError) -> None:
        """A connection could not be had."""
        self.part.connecting += 1
        self.part.shares.count(1)
        self.part.open_failed(error)


def state(server: ServerConnection) -> str:
    """Where a connection is."""
    return str(server.state.value)


@pytest.fixture
def stage() -> Stage:
    return Stage()


@pytest.mark.parametrize("is_check", [True, False], ids=["check", "login"])
def test_idle_connections_are_closed_and_others_when_they_come_back(
    stage: Stage, is_check: bool
) -> None:
    (stage.check if is_check else stage.fail_to_open)(LEAVING)
    assert stage.health.condition is Condition.DOWN
    assert stage.health.is_draining
    assert state(stage.rest) == "closed"
    assert state(stage.busy) == "active"
    assert stage.busy.is_wanted
    waiting = wait(stage.harness)
    stage.part.release(stage.busy)
    assert state(stage.busy) == "closed"
    assert waiting.server is None
    assert waiting.error is None


@pytest.mark.parametrize("error", OTHERS, ids=["no port", "silent", "ended", "full"])
def test_any_other_failure_leaves_connections_where_they_are(
    stage: Stage, error: RouterError
) -> None:
    stage.check(error)
    assert not stage.health.is_draining
    assert state(stage.rest) in ("idle", "tested")
    assert not stage.busy.is_wanted
    stage.part.release(stage.busy)
    assert state(stage.busy) == "idle"


def test_who_waits_does_so_for_the_time_there_is_and_is_told_why(stage: Stage) -> None:
    stage.check(LEAVING)
    waiting: Client = wait(stage.harness, timeout=5.0)
    stage.harness.engine.advance(4.9)
    assert waiting.error is None
    stage.harness.engine.advance(0.2)
    assert waiting.error is not None
    assert waiting.error.sqlstate == "57P03"
    assert LEAVING.message in waiting.error.message


def test_whoever_waits_goes_on_with_the_first_connection(stage: Stage) -> None:
    stage.check(LEAVING)
    waiting = wait(stage.harness)
    stage.harness.engine.advance(1.0)
    server = stage.harness.accept()
    assert waiting.server is server.connection
    assert stage.health.condition is Condition.UP
    assert not stage.health.is_draining
    assert not server.connection.is_wanted


@pytest.mark.parametrize("is_login", [True, False], ids=["login", "check"])
def test_an_outdated_answer_has_the_server_asked_again(stage: Stage, is_login: bool) -> None:
    stage.harness.engine.advance(1.0)
    stage.check(LEAVING)
    stage.health.begin_check()
    if is_login:
        stage.health.reached(stage.harness.engine.now - 0.5)
    else:
        stage.health.answered(None, 0.5)
    assert stage.health.is_draining
    assert not stage.health.is_up
    assert stage.health.wanted.is_set()


def test_what_has_come_in_between_goes_with_the_next_refusal(stage: Stage) -> None:
    stage.check(LEAVING)
    client = wait(stage.harness)
    stage.harness.engine.advance(0.2)
    server = stage.harness.accept().connection
    assert client.server is server
    stage.check(LEAVING)
    stage.part.release(server)
    assert state(server) == "closed"


def test_one_address_of_several_is_left_alone(stage: Stage) -> None:
    stage.busy.ip, stage.rest.ip = "10.0.0.1", "10.0.0.2"
    stage.health.addresses.note(["10.0.0.1", "10.0.0.2"])
    told: list[list[str]] = []

    def let_go(part: AddressPool, is_old: Callable[[str], bool]) -> int:
        assert part is stage.part
        told.append([ip for ip in ("10.0.0.1", "10.0.0.2") if is_old(ip)])
        return 1

    stage.part.on_let_go = let_go
    stage.health.unanswered_at("10.0.0.2", OTHERS[2], {})
    assert state(stage.rest) == "idle"
    assert told == []
    stage.health.unanswered_at("10.0.0.2", LEAVING, {})
    assert told == [["10.0.0.2"]]
    assert state(stage.rest) == "closed"
    assert stage.busy.expires_at > -math.inf
    stage.health.unanswered_at("10.0.0.1", LEAVING, {})
    assert stage.busy.is_wanted
    assert not stage.health.is_draining


def test_pools_are_told_though_the_server_was_down_before(stage: Stage) -> None:
    told: list[bool] = []
    stage.part.on_change = lambda part: told.append(part.health.is_draining)
    stage.check(OTHERS[0])
    stage.check(LEAVING)
    stage.check(LEAVING)
    stage.check()
    assert told == [False, True, False]


def test_what_a_client_sends_behind_its_last_statement_there_goes_elsewhere() -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("SELECT 1"))
    [server] = harness.servers
    client.send(query("SELECT 2"))
    harness.part.health.unanswered(LEAVING, harness.part.health.begin_check(), 0.0)
    client.send(query("SELECT 3"))
    assert b"SELECT 2" in server.link.written
    assert b"SELECT 3" not in server.link.written
    assert rows(harness.read(client)) == [[b"SELECT 2"], [b"SELECT 3"]]
    assert server.link.closed
    harness.check()


def test_it_is_said_once_how_many_connections_end(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="router.pool")
    for _ in range(2):
        stage.check(LEAVING)
    told = [record.getMessage() for record in caplog.records if record.levelname == "INFO"]
    assert [text for text in told if "takes nobody now" in text] == [
        f"{stage.health.name} takes nobody now: 2 connections to it end as they come free"
    ]
