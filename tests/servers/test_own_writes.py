"""Reads that see what their client has written, with a replica that is behind."""

from __future__ import annotations

import itertools
import os
import random
import signal
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.pool.replay import REPLAYED, WHO
from tests.support.router import PoolText, servers_of, wait_until
from tests.support.wire import SYNC, WireClient, query, rows, run, sqlstates

from .own_writes import OPTIONS, TABLE, configure, pools_for, write_and_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import PostgresRun
    from tests.support.router import RouterProcess

CLIENTS = 15
PAIRS = 300


@pytest.fixture(scope="module")
def shard(postgres_run: PostgresRun) -> Iterator[Shard]:
    """A primary, and a replica that is 200 ms behind."""
    cluster = postgres_run.private(replicas=1)
    cluster.wait_for_replication()
    [shard] = cluster.shards
    configure(shard)
    yield shard
    cluster.close()


def test_without_it_reads_are_stale(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    router = start_router(pools_for(shard, ["off"]))
    seen = write_and_read(router, "off", CLIENTS, PAIRS)
    assert seen.pairs == PAIRS
    assert seen.stale > 0
    assert seen.ports[shard.primary.port] == 0


@pytest.mark.parametrize("pool", ["patient", "hasty"])
def test_with_it_none_is(
    start_router: Callable[..., RouterProcess], shard: Shard, pool: str
) -> None:
    router = start_router(pools_for(shard, [pool]))
    seen = write_and_read(router, pool, CLIENTS, PAIRS)
    assert seen.pairs == PAIRS
    assert seen.stale == 0
    [replica] = shard.replicas
    [counted] = router.admin("SHOW ROUTING")
    if pool == "patient":
        assert seen.ports.keys() == {replica.port}
        assert int(counted["reads_waited"]) >= PAIRS
        assert int(counted["reads_to_primary"]) == 0
    else:
        assert int(counted["reads_to_primary"]) >= seen.ports[shard.primary.port] > 0
    # Those that need not wait go to the replica.
    assert seen.rested[replica.port] > 0


PROGRAMS = 12
STEPS = 25


@pytest.mark.parametrize("seed", range(PROGRAMS))
def test_no_program_reads_less_than_its_clients_have_committed(
    start_router: Callable[..., RouterProcess], shard: Shard, seed: int
) -> None:
    chosen = random.Random(seed)
    options = OPTIONS["hasty" if seed % 2 else "patient"]
    router = start_router({"db": PoolText([servers_of(shard)], options=options)})
    table = f"program_{seed}"
    shard.primary.execute(f"CREATE TABLE {table} AS SELECT 0::bigint AS n")
    with WireClient.login(router.port, "db") as one, WireClient.login(router.port, "db") as two:
        clients = [one, two]
        seen = dict.fromkeys(clients, 0)
        is_open = dict.fromkeys(clients, False)
        numbers = itertools.count(1)
        # So that the table is on the replica, whatever the program begins with.
        one.query("INSERT INTO " + table + " VALUES (0)")
        token = one.value("SHOW READ POSITION")
        two.query(f"SET READ POSITION TO '{token}'")
        for _ in range(STEPS):
            client = chosen.choice(clients)
            other = two if client is one else one
            step = chosen.choice(
                ["write", "write", "read", "read", "begin", "end", "fail", "token", "role"]
            )
            if step == "write":
                number = next(numbers)
                sql = f"INSERT INTO {table} VALUES ({number})"
                data = run(sql) + SYNC if number % 2 else query(sql)
                if not sqlstates(client.ask(data)) and not is_open[client]:
                    seen[client] = number
            elif step == "read":
                sql = f"SELECT max(n) FROM {table}"
                answer = client.ask(run(sql) + SYNC if chosen.random() < 0.5 else query(sql))
                if sqlstates(answer):
                    assert set(sqlstates(answer)) <= {"25P02", "57P03", "40001"}
                    continue
                [[found]] = rows(answer)
                assert int(found or 0) >= seen[client]
            elif step == "begin" and not is_open[client]:
                # It has failed, and is open, if no server was to be had for it.
                is_open[client] = client.ask(query("BEGIN"))[-1].body != b"I"
            elif step == "end" and is_open[client]:
                number = next(numbers)
                client.ask(query(f"INSERT INTO {table} VALUES ({number})"))
                is_commit = chosen.random() < 0.5
                tags = client.ask(query("COMMIT" if is_commit else "ROLLBACK"))
                is_open[client] = False
                if tags[0].body.startswith(b"COMMIT"):
                    seen[client] = number
            elif step == "fail":
                client.ask(query(f"INSERT INTO {table} VALUES (1 / 0)"))
            elif step == "token" and not (is_open[client] or is_open[other]):
                other.query(f"SET READ POSITION TO '{client.value('SHOW READ POSITION')}'")
                seen[other] = max(seen.values())
            elif step == "role" and not is_open[client]:
                role = chosen.choice(["auto", "default", "any", "primary", "replica"])
                client.query(f"SET SERVER ROLE TO '{role}'")
        for client in clients:
            client.ask(query("ROLLBACK"))  # for which there may be no server either
    shard.primary.execute(f"DROP TABLE {table}")


def test_a_replica_that_has_crashed_is_another_one(postgres_run: PostgresRun) -> None:
    cluster = postgres_run.private(replicas=1)
    try:
        cluster.wait_for_replication()
        [replica] = cluster.shards[0].replicas
        cluster.primary.execute("CREATE ROLE nobody_special")

        def who() -> tuple[object, ...]:
            with replica.connect() as connection:
                connection.execute("SET ROLE nobody_special")
                [row] = connection.execute((REPLAYED + WHO).decode()).fetchall()
                is_standby, offset, timeline, *name, may_see = row
                assert (is_standby, timeline, may_see) == (True, 1, False)
                assert int(offset) > 0
                return tuple(name)

        def who_is_back() -> tuple[object, ...] | None:
            try:
                return who()
            except psycopg.OperationalError:
                return None

        cluster.wait_for_replication()
        before = who()
        assert who() == before
        assert all(before)
        with replica.connect() as connection:
            [(pid,)] = connection.execute("SELECT pg_backend_pid()").fetchall()
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT pg_sleep(60)")
        after = wait_until("it is back", who_is_back)
        assert after is not None
        assert after[0] == before[0], "its postmaster is the same"
        assert after != before
    finally:
        cluster.close()


def test_a_promotion_leaves_no_read_behind(
    start_router: Callable[..., RouterProcess], postgres_run: PostgresRun
) -> None:
    cluster = postgres_run.private(replicas=2)
    cluster.wait_for_replication()
    [shard] = cluster.shards
    try:
        shard.primary.execute(TABLE)
        shard.wait_for_replication()
        servers = [(host, port, "auto") for host, port, _ in servers_of(shard)]
        pool = PoolText([servers], options=OPTIONS["patient"] + "query_wait_timeout = 60000\n")
        router = start_router({"db": pool}, "healthcheck_delay = 300\n")
        new, other = shard.replicas
        write = "UPDATE own SET n = n + 1 WHERE id = 1 RETURNING n"
        with WireClient.login(router.port, "db") as client:
            before = int(client.value(write))
            assert int(client.value("SELECT n FROM own WHERE id = 1")) == before
            assert client.value("SHOW READ POSITION").startswith("0:1:")
            shard.wait_for_replication()
            shard.primary.stop()
            other.follow(new)
            other.reload()
            new.promote()
            for _ in range(5):
                now = int(client.value(write))
                assert client.value("SHOW READ POSITION").startswith("0:2:")
                assert int(client.value("SELECT n FROM own WHERE id = 1")) == now > before
                before = now
            read = "SELECT current_setting('port')"
            wait_until("a replica has it", lambda: client.value(read) == str(other.port))
    finally:
        cluster.close()
