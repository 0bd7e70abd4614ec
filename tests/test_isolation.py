"""Bugs in what tasks of trio tell pools and clients: each is logged, and ends no task."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from router.app import reload_logged
from router.demo.server import HOST, free_port
from router.engine.loop import Engine
from router.pool import checks, names
from router.pool.address_pool import AddressPool
from router.pool.connector import TaskConnector
from router.pool.discovery import Cluster, Discovery
from router.pool.health import Ban, Healths
from router.pool.registry import PoolRegistry
from router.protocol.passwords import UserSecret
from tests.config.builders import config
from tests.pool.builders import wait
from tests.support.harness import FakeEngine, FakeServer, Harness
from tests.support.patroni import Patroni, member
from tests.support.postgres import PASSWORD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trio.testing import MockClock

    from router.pool.address import Address
    from router.pool.discovery import Key, Site
    from router.pool.server import ServerConnection
    from tests.support.cluster.server import Server

USER = "app_scram"


def fail(*_: object) -> None:
    """Be a bug."""
    raise ZeroDivisionError("a bug")


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something is true."""
    with trio.fail_after(60):
        while not condition():
            await trio.lowlevel.checkpoint()


def part_of(engine: Engine, connector: TaskConnector, host: str, port: int) -> AddressPool:
    """A pool of real connections to one server."""
    part = Harness().part
    address: Address = replace(part.address, host=host, port=port, database="postgres")
    settings = replace(part.settings, server_username=USER, healthcheck_timeout=60.0)
    health = Healths(engine).of(address)
    return AddressPool(engine, address, settings, UserSecret(USER, PASSWORD), connector, health)


@pytest.fixture
def engine() -> Iterator[Engine]:
    """A real one."""
    made = Engine()
    yield made
    made.close()


async def test_a_connection_whose_pool_fails_is_closed_and_others_can_be_opened(
    engine: Engine, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        connector = TaskConnector(engine, nursery)
        part = part_of(engine, connector, postgres.host, postgres.port)
        seen: list[ServerConnection] = []

        def reached(_: AddressPool, server: ServerConnection) -> None:
            seen.append(server)
            fail()

        part.on_reached = reached
        part.open_another()
        await until(lambda: not part.size)
        [server] = seen
        assert server.link is None
        part.on_reached = None
        part.open_another()
        await until(lambda: bool(part.idle))
        assert part.size == 1
    assert "a bug" in caplog.text


async def test_a_failure_to_connect_that_nobody_can_be_told_of_is_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        part = part_of(engine, TaskConnector(engine, nursery), HOST, free_port())
        part.on_unreachable = fail
        part.open_another()
    assert part.size == 0
    assert "a bug" in caplog.text


async def test_a_cancel_request_that_cannot_be_sent_for_a_bug_is_over_and_logged(
    engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    async with trio.open_nursery() as nursery:
        connector = TaskConnector(engine, nursery)
        # No such name can be looked up, for it cannot even be written.
        part = part_of(engine, connector, "x" * 100, 5432)
        server = FakeServer(part, 1, engine.now).connection
        part.cancel(server)
        await connector.settle()
        assert server.cancels == 0
    assert "cannot send a cancel request" in caplog.text


async def test_a_check_that_fails_for_a_bug_is_followed_by_another(
    engine: Engine, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    harness, healths = Harness(), Healths(engine)
    address = replace(harness.part.address, host=postgres.host, port=postgres.port)
    settings = replace(harness.part.settings, server_username=USER, healthcheck_timeout=60.0)
    secret = UserSecret(USER, PASSWORD)
    health = healths.of(address)
    part = AddressPool(engine, address, settings, secret, harness, health)
    part.on_told = fail
    async with trio.open_nursery() as nursery:
        nursery.start_soon(checks.watch, engine, healths)
        for count in range(1, 4):
            health.doubt()
            await until(lambda: health.checks >= count)  # noqa: B023
        nursery.cancel_scope.cancel()
    assert "a bug" in caplog.text


class Shards:
    """Who has the servers, and fails."""

    def change_servers(self, key: Key, sites: Sequence[Site]) -> None:
        """Fail."""
        fail()

    def restore_servers(self, key: Key) -> None:
        """Fail."""
        fail()

    def doubt_servers(self, key: Key) -> None:
        """Fail."""
        fail()


async def test_what_patroni_tells_may_meet_a_bug(
    engine: Engine, postgres: Server, caplog: pytest.LogCaptureFixture
) -> None:
    discovery = Discovery(engine, Shards())
    with Patroni(member(postgres, "leader")) as api:
        await discovery.ask(Cluster(("app", 0), (api.url,)))
    assert "a bug" in caplog.text


def broken(pool: AddressPool, is_old: Callable[[str], bool]) -> int:
    """What is to be told of addresses that are not used any more, and fails."""
    fail()
    raise AssertionError


async def test_names_go_on_being_looked_up_after_a_bug(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    harness = Harness()
    looked_up = 0

    async def look_up(host: str) -> frozenset[str]:
        nonlocal looked_up
        looked_up += 1
        await trio.lowlevel.checkpoint()
        return frozenset((f"10.0.0.{looked_up}",))

    wait(harness)
    harness.accept().connection.ip = "10.9.9.9"
    [health] = harness.healths
    [part] = health.parts
    part.on_let_go = broken
    with trio.move_on_after(30):
        await names.watch(harness.engine, harness.healths, lambda: 1.0, look_up)
    assert looked_up > 20
    assert "a bug" in caplog.text


class Broken:
    """A pool that fails."""

    def __getattr__(self, name: str) -> object:
        fail()
        raise AssertionError


def test_the_upkeep_of_one_pool_that_fails_is_not_that_of_another(
    caplog: pytest.LogCaptureFixture,
) -> None:
    users = {str(n): {"username": f"u{n}", "password": "p", "pool_size": 1} for n in range(3)}
    engine = FakeEngine()
    registry = PoolRegistry(engine, Harness(), lambda *_: None)
    registry.apply(config({"pools/app/users": users}))
    parts = [part for pool in registry for part in pool.address_pools()]
    for part in parts:
        part.refused = Ban("full", engine.now, engine.now, is_firm=False)
        part.on_change = fail
    engine.advance(1)
    registry.maintain()
    assert [part.refused for part in parts] == [None] * 3
    assert caplog.text.count("ZeroDivisionError: a bug") == 3


def test_a_server_whose_health_has_a_bug_is_not_the_only_one_looked_at(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = PoolRegistry(FakeEngine(), Harness(), lambda *_: None)
    servers = [["one", 5432, "primary"], ["two", 5432, "replica"]]
    registry.apply(config({"pools/app/shards/0/servers": servers}))
    for health in registry.healths:
        health.parts.insert(0, Broken())  # type: ignore[arg-type]
    registry.maintain()
    assert caplog.text.count("ZeroDivisionError: a bug") == 2


def test_a_reload_that_meets_a_bug_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    reload_logged(fail)
    assert "a bug" in caplog.text
