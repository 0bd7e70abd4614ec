"""Pictures of what goes on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.config.regexes import Regex
from router.config.values import PoolMode
from router.errors import NoSingleShard, RoutingError, ServerUnavailable
from router.routing.derived import Relation
from router.routing.limits import MAX_KEYS
from router.routing.refusals import KINDS
from router.routing.tallies import Tallies
from router.routing.types import RouterOptions
from router.session.snapshots import ban_snapshots, routing_snapshots, sharded_snapshots
from router.session.states import BackendState, backend_state
from router.snapshots import RoutingSnapshot
from tests.support.harness import Harness
from tests.support.wire import SYNC, bind, describe, execute, parse, query, sqlstates


def test_the_router_tells_what_it_knows() -> None:
    options = RouterOptions(
        query_parser_enabled=True, shard_count=2, automatic_sharding_key=("events.id",)
    )
    harness = Harness(servers=((True,), (True,)), options=options)
    assert harness.pool is not None
    harness.pool.learn({"events": ("id",), "public.events": ("id",)}, {"f": frozenset()})
    client, automatic = harness.connect(), harness.connect()
    for sql in ("SELECT 1", "SELECT 1", "SELECT 1", "SELECT 2", "SELECT 'x' FROM t"):
        harness.ask(client, query(sql))
    harness.ask(automatic, query("SET SERVER ROLE TO 'auto'"), query("SELECT 3"))
    [found] = routing_snapshots([harness.pool])
    size = found.bytes
    assert size > 0
    decided = found.decisions
    assert found == RoutingSnapshot("app", "ann", 1, 2, size, 1, 3, 2, 1, 1, 0, decided)
    assert {name: n for name, n in decided.items() if n} == {"default_shard": 6}


def counted(options: RouterOptions, *texts: str) -> dict[str, int]:
    """What is counted of the texts of one client."""
    harness = Harness(servers=((True,), (True,)), options=options)
    assert harness.pool is not None
    client = harness.connect()
    for text in texts:
        harness.ask(client, query(text))
    [found] = routing_snapshots([harness.pool])
    assert found.refused == sum(
        n for name, n in found.decisions.items() if name.startswith("refused")
    )
    return {name: n for name, n in found.decisions.items() if n}


KEYED = RouterOptions(
    query_parser_enabled=True,
    shard_count=2,
    automatic_sharding_key=("events.id",),
    omnisharded_tables=("countries",),
    shard_id_regex=Regex(r"/\* shard: (\d+) \*/"),
    refuses_without_key=True,
)


def test_each_decision_is_counted() -> None:
    assert counted(
        KEYED,
        "SELECT 1",
        "SELECT * FROM events WHERE id = 1",
        "SELECT * FROM events WHERE id = 2",
        "SELECT * FROM countries",
        "/* shard: 1 */ SELECT 1",
        "SELECT * FROM events WHERE id IN (1, 2, 3, 4, 5, 6)",
        "SELECT * FROM events",
        "SELECT * FROM events WHERE id = 1.5",
        "LOCK TABLE events",
        "COPY events TO STDOUT",
        "DO 'x'",
        "EXPLAIN ROUTE SELECT * FROM events",
        "UPDATE events SET id = 2",
        "SELECT * FROM events -- " + "x" * 2_000_000,
        "SET SHARD TO 1",
        "SELECT * FROM events",
    ) == {
        "by_comment": 1,
        "by_choice": 1,
        "by_key": 2,
        "any_shard": 1,
        "default_shard": 1,
        "refused_several_shards": 1,
        "refused_no_key": 1,
        "refused_unknown_key": 1,
        "refused_every_shard": 1,
        "refused_copy": 1,
        "refused_not_understood": 1,
        "refused_too_complex": 1,
        "refused_other": 1,
    }


def test_what_goes_to_the_default_shard_without_a_key_is_counted_by_itself() -> None:
    options = replace(KEYED, refuses_without_key=False)
    texts = ("SELECT 1", "SELECT * FROM events", "TRUNCATE events")
    assert counted(options, *texts) == {"default_shard": 1, "without_key": 2}
    assert counted(RouterOptions(), *texts) == {"single_shard": 3}


def test_values_that_are_too_many_are_counted_once() -> None:
    harness = Harness(servers=((True,), (True,)), options=KEYED)
    assert harness.pool is not None
    client = harness.connect()
    harness.ask(client, parse("SELECT * FROM events WHERE id = ANY($1)", "s") + SYNC)
    many = b"{%b}" % b",".join(b"%d" % number for number in range(MAX_KEYS + 1))
    for bound in (bind(many, name="s"), bind(many, name="s") + describe()):
        before = harness.pool.router.too_complex
        assert sqlstates(harness.ask(client, bound + execute() + SYNC)) == ["0A000"]
        assert harness.pool.router.too_complex == before + 1


def test_what_is_refused_in_a_transaction_is_counted() -> None:
    held = ("BEGIN", "SELECT * FROM events")
    assert counted(KEYED, *held) == {"default_shard": 1, "refused_no_key": 1}


def test_each_kind_of_refusal_has_a_counter() -> None:
    for kind in KINDS:
        tallies = Tallies()
        tallies.refuse(NoSingleShard("", kind=kind))
        [(name, count)] = [(name, n) for name, n in tallies.counts.items() if n]
        assert count == 1
        assert name not in ("refused_other", "without_key")


def test_what_fails_for_other_reasons_than_its_place_is_no_refusal() -> None:
    tallies = Tallies()
    for sqlstate in ("0A000", "22023", "25001", "55000", "57P03"):
        tallies.refuse(RoutingError("", sqlstate=sqlstate))
    tallies.refuse(ServerUnavailable(""))
    assert {name: n for name, n in tallies.counts.items() if n} == {"refused_other": 2}


@pytest.mark.parametrize("waits", [True, False])
def test_who_has_a_server_does_not_wait_whatever_for(waits: bool) -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, query("BEGIN"))
    server = harness.servers[0].connection
    found = backend_state(server, client.session.lease.status, waits=waits)
    assert found is BackendState.IN_TRANSACTION


def test_what_is_sharded_is_listed() -> None:
    harness = Harness(servers=((True,), (True,)), options=KEYED)
    assert harness.pool is not None
    events = ("public", "events")
    harness.pool.learn_relations(
        frozenset(
            (
                Relation("public", "part", "table", events),
                Relation("public", "events", "table", events),
                Relation("other", "busy", "view"),
                Relation("public", "events", "function"),
            )
        )
    )
    rows = [
        (row.schema, row.name, row.kind, row.key) for row in sharded_snapshots([harness.pool])
    ]
    assert sorted(rows) == [
        ("", "countries", "omnisharded_tables", ""),
        ("", "events", "automatic_sharding_key", "id"),
        ("other", "busy", "view", ""),
        ("public", "events", "function", ""),
        ("public", "events", "table", "id"),
        ("public", "part", "table", "id"),
    ]


def test_a_transaction_is_as_old_as_its_first_statement() -> None:
    for mode in (PoolMode.SESSION, PoolMode.TRANSACTION):
        harness = Harness(pool_mode=mode)
        client = harness.connect()
        lease = client.session.lease
        harness.ask(client, query("SELECT 1"))
        harness.engine.advance(100)
        assert lease.transaction_age(harness.engine.now) == 0
        harness.ask(client, query("BEGIN"))
        harness.engine.advance(5)
        harness.ask(client, query("SELECT 1"))
        harness.engine.advance(2)
        assert lease.transaction_age(harness.engine.now) == 7
        found = [lease.activity]
        harness.ask(client, query("COMMIT"))
        assert lease.transaction_age(harness.engine.now) == 0
        found.append(lease.activity)
        assert found == [BackendState.IN_TRANSACTION, BackendState.IDLE]
        assert harness.part.counters.xact_time == 7, "and not the time between"


def test_a_primary_that_has_failed_is_not_among_the_bans() -> None:
    harness = Harness(servers=((True, False),), ban_time=60.0)
    assert harness.pool is not None
    for part in harness.pool.address_pools():
        part.health.unreachable(ServerUnavailable("connection refused"))
    now = harness.engine.now
    [ban] = ban_snapshots([harness.pool], now)
    assert (ban.role, ban.kind, ban.reason) == ("replica", "failed", "connection refused")
    assert (ban.duration, ban.remaining) == (60, 60)
    assert ban_snapshots([harness.pool], now + 60) == []
