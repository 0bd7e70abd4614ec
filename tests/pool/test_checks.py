"""Checks of real servers, and of what is none."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from router.demo.server import HOST, free_port
from router.engine.loop import Engine
from router.pool import checks
from router.pool.address_pool import AddressPool
from router.pool.health import Condition, Healths, ServerHealth
from router.protocol.passwords import UserSecret
from tests.support.harness import Harness
from tests.support.postgres import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server

USER = "app_scram"


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A real one."""
    made = Engine()
    yield made
    made.close()


def health_of(
    engine: Engine,
    port: int,
    *passwords: str | None,
    timeout: float = 60.0,
    host: str = HOST,
    healths: Healths | None = None,
) -> ServerHealth:
    """The health of a server that users with such passwords share."""
    harness, healths = Harness(), healths or Healths(engine)
    part = harness.part
    address = replace(part.address, host=host, port=port, database="postgres")
    settings = replace(part.settings, server_username=USER, healthcheck_timeout=timeout)
    for password in passwords:
        secret = UserSecret(USER, password)
        AddressPool(engine, address, settings, secret, harness, healths.of(address))
    return healths.of(address)


async def test_a_primary_and_a_standby_tell_what_they_are(
    engine: Engine, replicated: Shard
) -> None:
    for server, is_standby in ((replicated.primary, False), (replicated.replicas[0], True)):
        health = health_of(engine, server.port, PASSWORD)
        await checks.check(engine, health)
        assert health.condition is Condition.UP
        assert health.facts is not None
        assert health.facts.is_standby is is_standby
        assert health.facts.timeline == (0 if is_standby else 1)
        assert health.facts.position > 0
        assert health.check_time > 0


@pytest.mark.parametrize("password", ["wrong", None])
async def test_a_server_that_refuses_the_user_is_up_and_tells_nothing(
    engine: Engine, postgres: Server, password: str | None
) -> None:
    health = health_of(engine, postgres.port, password)
    await checks.check(engine, health)
    assert health.condition is Condition.UP
    assert health.failed_checks == 0
    assert health.facts is None


async def test_who_is_refused_is_not_asked_again_for_others(
    engine: Engine, postgres: Server
) -> None:
    health = health_of(engine, postgres.port, "wrong", PASSWORD)
    for _ in range(2):
        await checks.check(engine, health)
    assert health.facts is not None


async def test_a_port_that_nobody_listens_on_is_down_at_once(engine: Engine) -> None:
    health = health_of(engine, free_port(), PASSWORD)
    await checks.check(engine, health)
    assert health.condition is Condition.DOWN
    assert health.error is not None
    assert "Connection refused" in health.error.message


async def test_a_server_that_says_nothing_is_suspect_and_then_down(engine: Engine) -> None:
    with socket.create_server((HOST, 0)) as deaf:
        health = health_of(engine, int(deaf.getsockname()[1]), PASSWORD, timeout=0.05)
        found = []
        for _ in range(2):
            await checks.check(engine, health)
            found.append(health.condition)
    assert found == [Condition.SUSPECT, Condition.DOWN]


async def test_however_often_it_is_doubted_a_server_is_not_asked_all_the_time(
    engine: Engine, autojump_clock: MockClock
) -> None:
    healths = Healths(engine)
    health = health_of(engine, free_port(), PASSWORD, healths=healths)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checks.watch, engine, healths)
        for _ in range(20):
            health.doubt()
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert 2 <= health.checks <= 11
