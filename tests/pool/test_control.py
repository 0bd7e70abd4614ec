"""Pausing and renewing the connections of a pool."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.errors import RouterError, ServerRefused, ServerUnavailable
from router.pool.control import reconnect
from tests.support.harness import FakeServer, Harness

from .builders import opened, wait

if TYPE_CHECKING:
    from router.pool.pool import Pool


def pool_of(harness: Harness) -> Pool:
    """The pool, which is there."""
    assert harness.pool is not None
    return harness.pool


def test_a_pool_that_is_paused_opens_and_keeps_nothing() -> None:
    harness = Harness(pool_size=3, min_pool_size=2)
    opened(harness, 2)
    part = harness.part
    pool_of(harness).pause()
    assert part.size == 0
    waiting = wait(harness)
    part.maintain(harness.engine.now)
    part.open_spare()
    assert (part.connecting, waiting.error) == (0, None)
    pool_of(harness).resume()
    assert part.connecting == 2, "for who waits, and up to min_pool_size"


def test_a_connection_that_was_being_opened_is_closed_in_a_pause() -> None:
    harness = Harness()
    waiting = wait(harness)
    pool_of(harness).pause()
    server = harness.accept()
    assert server.connection.link is None
    assert (harness.part.size, waiting.server, waiting.error) == (0, None, None)
    pool_of(harness).resume()
    harness.accept()
    assert waiting.server is not None


@pytest.mark.parametrize(
    "error", [ServerUnavailable("down"), ServerRefused("no", sqlstate="28000")]
)
def test_an_error_in_a_pause_is_none_for_those_who_wait(error: RouterError) -> None:
    harness = Harness()
    waiting = wait(harness)
    pool_of(harness).pause()
    harness.refuse(error)
    harness.engine.advance(100)
    assert (waiting.server, waiting.error) == (None, None)
    assert harness.part.connecting == 0
    pool_of(harness).resume()
    assert harness.part.connecting == 1, "at once"


def test_a_connection_that_was_being_opened_before_reconnect_is_replaced() -> None:
    harness = Harness()
    wait(harness)
    part = harness.part
    generation = part.generation
    reconnect(part)
    server = FakeServer(part, 1, harness.engine.now).connection
    part.opened(server, generation)
    assert server.link is None
    assert part.connecting == 1


def test_what_was_tried_in_vain_before_a_pause_is_tried_at_once_behind_it() -> None:
    harness = Harness()
    wait(harness)
    harness.refuse(ServerRefused("starting up", sqlstate="57P03"))
    assert harness.part.connecting == 0, "it would be tried again a little later"
    pool_of(harness).pause()
    pool_of(harness).resume()
    assert harness.part.connecting == 1


@pytest.mark.parametrize(("query_wait_timeout", "patience"), [(0.0, 5.0), (60.0, 60.0)])
def test_the_time_of_those_who_wait_counts_anew_from_the_resume(
    query_wait_timeout: float, patience: float
) -> None:
    harness = Harness(query_wait_timeout=query_wait_timeout)
    pool_of(harness).pause()
    waiting = wait(harness)
    harness.engine.advance(1000)
    pool_of(harness).resume()
    harness.engine.advance(patience - 0.1)
    assert waiting.error is None
    harness.engine.advance(0.2)
    assert waiting.error is not None


def test_a_pool_and_its_server_are_paused_each_by_itself() -> None:
    harness = Harness(pool_size=3)
    pool, part, health = pool_of(harness), harness.part, harness.part.health
    opened(harness)
    assert health.take_out()
    assert not health.take_out()
    assert (part.size, part.paused, part.is_ready, pool.paused) == (0, True, False, False)
    waiting = wait(harness)
    pool.pause()
    assert health.take_in()
    assert not health.take_in()
    assert part.paused
    assert health.take_out()
    pool.resume()
    assert (part.paused, part.connecting) == (True, 0)
    assert health.take_in()
    assert (part.paused, part.connecting) == (False, 1)
    assert waiting.error is None


def test_a_server_that_is_paused_is_so_for_a_pool_that_comes() -> None:
    harness = Harness()
    health = harness.part.health
    health.take_out()
    harness.replace_pool(harness.new_pool())
    assert harness.part.health is health
    assert harness.part.paused
    health.take_in()
    assert not harness.part.paused
