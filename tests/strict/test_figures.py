"""What PgCat's statistics specs expect of SHOW POOLS and SHOW STATS, with a real server."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.support.router import (
    ADMIN,
    ADMIN_PASSWORD,
    PoolText,
    RouterProcess,
    config_text,
    primary_of,
    wait_until,
)
from tests.support.wire import WireClient, cancel, query, sqlstates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.server import Server

OTHERS = ("cl_cancel_req", "sv_used", "sv_tested", "sv_login")


@pytest.fixture
def router(start_router: Callable[..., RouterProcess], postgres: Server) -> RouterProcess:
    pool = PoolText([primary_of(postgres)], pool_size=2, options="connect_timeout = 30000")
    return start_router({"db": pool})


@pytest.fixture
def clients(router: RouterProcess) -> Iterator[list[WireClient]]:
    """Four of them."""
    with ExitStack() as stack:
        yield [stack.enter_context(WireClient.login(router.port, "db")) for _ in range(4)]


def served(router: RouterProcess) -> dict[str, str]:
    """The row of SHOW POOLS, once two clients have a server."""
    row = router.pool("db")
    return row if row["cl_active"] == "2" else {}


@pytest.mark.slow
def test_a_window_tells_the_time_of_each_of_its_queries(
    router: RouterProcess, clients: list[WireClient]
) -> None:
    for _ in range(3):
        clients[0].query("SELECT pg_sleep(0.25)")

    def averaged() -> dict[str, str]:
        [row] = router.admin("SHOW STATS")
        return row if row["avg_query_time"] != "0" else {}

    row = wait_until("the window of 15 seconds is over", averaged)
    assert 750 <= int(row["total_query_time"]) < 1500
    assert 250 <= int(row["avg_query_time"]) < 500
    assert int(row["avg_query_time"]) == int(row["total_query_time"]) // 3
    assert (row["total_query_count"], row["total_xact_count"]) == ("3", "3")


def test_a_pool_that_is_overwhelmed_has_clients_that_wait_and_none_that_are_idle(
    router: RouterProcess, clients: list[WireClient], postgres: Server
) -> None:
    with WireClient.login(postgres.port, "postgres") as holder:
        holder.query("SELECT pg_advisory_lock(815)")
        for client in clients:
            client.send(query("SELECT pg_advisory_xact_lock_shared(815)"))
        wait_until("two wait", lambda: router.pool("db")["cl_waiting"] == "2")
        row = wait_until("two are served", lambda: served(router))
        assert (row["cl_waiting"], row["cl_idle"]) == ("2", "0")
        assert (row["sv_active"], row["sv_idle"]) == ("2", "0")
        assert {row[name] for name in OTHERS} == {"0"}
        assert int(row["maxwait"]) * 10**6 + int(row["maxwait_us"]) > 0
        holder.query("SELECT pg_advisory_unlock(815)")
        for client in clients:
            client.read_until("Z")
    row = router.pool("db")
    assert (row["cl_active"], row["cl_idle"], row["cl_waiting"]) == ("0", "4", "0")
    assert (row["sv_active"], row["sv_idle"]) == ("0", "2")
    assert (row["maxwait"], row["maxwait_us"]) == ("0", "0")


def test_errors_of_clients_count_in_a_pool_that_was_dropped_and_has_come_back(
    router: RouterProcess, clients: list[WireClient], postgres: Server
) -> None:
    entry = primary_of(postgres)
    for pools in ({"other": PoolText([entry])}, {"db": PoolText([entry])}):
        router.reload(config_text(router.port, pools))
    for client in clients:
        assert sqlstates(client.ask(query("SET SHARD TO 'x'"))) == ["22023"]

    def counted() -> int:
        rows = router.admin("SHOW ERRORS")
        return sum(int(row["count"]) for row in rows if row["database"] == "db")

    assert counted() == len(clients)


def counts(router: RouterProcess) -> tuple[int, ...]:
    """Clients that are idle, served and waiting, and connections that are busy and free."""
    row = router.pool("db")
    names = ("cl_idle", "cl_active", "cl_waiting", "sv_active", "sv_idle")
    return tuple(int(row[name]) for name in names)


@pytest.mark.parametrize("manner", ["politely", "closed", "reset"])
def test_a_crowd_is_shown_exactly_and_leaves_nothing(
    start_router: Callable[..., RouterProcess], postgres: Server, manner: str
) -> None:
    options = "connect_timeout = 60000"
    pool = PoolText([primary_of(postgres)], pool_size=5, options=options)
    router = start_router({"db": pool})
    with ExitStack() as stack:
        holder = stack.enter_context(WireClient.login(postgres.port, "postgres"))
        crowd = [stack.enter_context(WireClient.login(router.port, "db")) for _ in range(28)]
        for client in crowd:
            client.query("SELECT 1")
        holder.query("SELECT pg_advisory_lock(1010)")
        for number, client in enumerate(crowd[:8], 1):
            client.send(query("SELECT pg_advisory_xact_lock_shared(1010)"))
            served = min(number, 5)
            expected = (28 - number, served, number - served, served)
            wait_until(f"{number} ask", lambda: counts(router)[:4] == expected)  # noqa: B023
        assert counts(router) == (20, 5, 3, 5, 0)
        [row] = [row for row in bouncer(router, "SHOW POOLS") if row["database"] == "db"]
        assert (row["cl_active"], row["cl_waiting"], row["sv_active"]) == ("25", "3", "5")
        rows = bouncer(router, "SHOW CLIENTS")
        states = Counter(row["state"] for row in rows if row["database"] == "db")
        assert states == {"idle": 20, "active": 5, "waiting": 3}

        # Who cancels is idle, and who has waited for longest is served.
        cancel(router.port, crowd[0].pid, crowd[0].secret)
        assert sqlstates(crowd[0].read_until("Z")) == ["57014"]
        wait_until("the next one is served", lambda: counts(router) == (21, 5, 2, 5, 0))
        for client in crowd:
            leave = {
                "politely": client.terminate,
                "closed": client.close,
                "reset": client.reset,
            }[manner]
            leave()
        holder.query("SELECT pg_advisory_unlock(1010)")
    gone = ("cl_idle", "cl_active", "cl_waiting", "sv_active", *OTHERS, "maxwait", "maxwait_us")
    wait_until("nothing is left", lambda: {router.pool("db")[name] for name in gone} == {"0"})
    assert len(router.admin("SHOW CLIENTS")) == 1
    assert len(router.admin("SHOW SERVERS")) == counts(router)[4] <= 5
    assert not router.admin("SHOW TRANSACTIONS")


def bouncer(router: RouterProcess, sql: str) -> list[dict[str, str]]:
    """The rows of a table of `pgbouncer`."""
    with psycopg.connect(
        router.dsn("pgbouncer", ADMIN, ADMIN_PASSWORD), autocommit=True, row_factory=dict_row
    ) as connection:
        rows = connection.execute(sql).fetchall()
        return [{name: str(value) for name, value in row.items()} for row in rows]
