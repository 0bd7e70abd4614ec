"""Pictures of what goes on."""

from __future__ import annotations

from router.routing.types import RouterOptions
from router.session.snapshots import routing_snapshots
from router.stats import RoutingSnapshot
from tests.support.harness import Harness
from tests.support.wire import query


def test_the_router_tells_what_it_knows() -> None:
    options = RouterOptions(
        parser_enabled=True, shard_count=2, automatic_sharding_key=("events.id",)
    )
    harness = Harness(servers=((True,), (True,)), options=options)
    assert harness.pool is not None
    harness.pool.learn({"events": ("id",), "public.events": ("id",)}, frozenset("f"))
    client, automatic = harness.connect(), harness.connect()
    for sql in ("SELECT 1", "SELECT 1", "SELECT 1", "SELECT 2", "SELECT 'x' FROM t"):
        harness.ask(client, query(sql))
    harness.ask(automatic, query("SET SERVER ROLE TO 'auto'"), query("SELECT 3"))
    [found] = routing_snapshots([harness.pool])
    size = found.bytes
    assert size > 0
    assert found == RoutingSnapshot("app", "ann", 1, 2, size, 1, 3, 2, 1, 1, 0)
