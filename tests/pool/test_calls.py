"""Clients that fail at whatever a pool tells them, and those behind them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.pool import calls
from router.pool.contracts import Waiter
from tests.support.harness import Harness

from .builders import Client, wait

if TYPE_CHECKING:
    from router.errors import RouterError
    from router.pool.contracts import Loss
    from router.pool.server import ServerConnection


class Broken(Client):
    """A client that fails at everything, at its end as well if it is `hopeless`."""

    def __init__(self, *, hopeless: bool = False) -> None:
        super().__init__()
        self._hopeless = hopeless
        self.has_ended = False

    def take_server(self, server: ServerConnection) -> bool:
        raise ZeroDivisionError("a bug")

    def checkout_failed(self, error: RouterError) -> None:
        raise ZeroDivisionError("a bug")

    def ask_anew(self) -> None:
        raise ZeroDivisionError("a bug")

    def server_lost(self, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
        raise ZeroDivisionError("a bug")

    def expel(self, error: RouterError | None = None) -> None:
        raise ZeroDivisionError("a bug")

    def transaction(self, now: float) -> tuple[float, str]:
        return 3600.0, ""

    def give_up(self) -> None:
        self.has_ended = True
        if self._hopeless:
            raise ZeroDivisionError("another bug")


hopeless = pytest.mark.parametrize("hopeless", [False, True])


def queue(harness: Harness, *clients: Client) -> None:
    """Make clients wait in that order."""
    now = harness.engine.now
    for number, client in enumerate(clients):
        harness.part.enqueue(Waiter(client, [], now, now + 5 + number))


@hopeless
def test_one_that_fails_to_take_its_connection_keeps_nobody_from_another(
    hopeless: bool,
) -> None:
    harness, broken, heir = Harness(pool_size=1), Broken(hopeless=hopeless), Client()
    queue(harness, broken, heir)
    first = harness.accept()
    assert first.link.closed
    assert (broken.has_ended, heir.server) == (True, None)
    second = harness.accept()
    assert heir.server is second.connection
    assert harness.part.active == {second.connection}


@hopeless
def test_those_whose_time_is_over_behind_one_that_fails_are_told(hopeless: bool) -> None:
    harness, broken, other = Harness(pool_size=1), Broken(hopeless=hopeless), Client()
    wait(harness)
    harness.accept()
    queue(harness, broken, other)
    harness.engine.advance(10)
    assert broken.has_ended
    assert other.error is not None
    assert not harness.part.waiters


@hopeless
def test_those_who_wait_behind_one_that_fails_leave_a_pool_that_is_replaced(
    hopeless: bool,
) -> None:
    harness, broken, other = Harness(pool_size=1), Broken(hopeless=hopeless), Client()
    queue(harness, broken, other)
    harness.part.retire()
    assert broken.has_ended
    assert other.was_retired


@hopeless
def test_a_server_that_is_lost_is_gone_whatever_its_client_does(hopeless: bool) -> None:
    harness, broken = Harness(pool_size=1), Broken(hopeless=hopeless)
    wait(harness)
    server = harness.accept()
    server.connection.attach(broken)
    server.die()
    assert broken.has_ended
    assert harness.part.size == 0


def test_a_client_that_cannot_be_sent_away_stops_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    calls.expel(Broken())
    assert "does not leave" in caplog.text


def test_the_time_of_other_transactions_is_looked_at_behind_one_that_fails() -> None:
    harness = Harness(pool_size=2, transaction_timeout=1.0)
    for _ in range(2):
        wait(harness)
        harness.accept().connection.attach(Broken())
    harness.engine.advance(1.5)
    assert harness.engine.figures.timeouts.count("transaction") == 2
