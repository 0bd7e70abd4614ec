"""A server is to stop when its clients have gone (`pg_ctl stop -m smart`): who notices what."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest

from tests.support.router import PoolText, primary_of, servers_of, wait_until
from tests.support.wire import WireClient, query

from .conftest import CHECKS, endless_queries
from .test_replicas import PORT, SPLITTING, condition, on, ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

    Start = Callable[..., RouterProcess]

WAITING = SPLITTING + "query_wait_timeout = 60000\n"
WRITE = "SELECT txid_current()"

pytestmark = pytest.mark.slow


def tell(router: RouterProcess, server: Server) -> None:
    """Have a server stop as soon as nobody is connected, and the router know of it."""
    server.signal(signal.SIGTERM)
    wait_until("it is known", lambda: condition(router, server.port) == "down")


def wait_until_gone(server: Server) -> None:
    """Wait until it has stopped, by itself."""
    wait_until("it is gone", lambda: not server.is_running())
    server.stop()  # which has nothing to do but to take note of that


def connections(router: RouterProcess, server: Server) -> list[dict[str, str]]:
    """Those that there are to a server."""
    return [row for row in router.admin("SHOW SERVERS") if row["port"] == str(server.port)]


@pytest.mark.parametrize("role", ["", "auto"], ids=["named", "auto"])
def test_transactions_end_there_and_the_server_gets_nothing_more(
    shard: Shard, start_router: Start, role: str
) -> None:
    entries = [(host, port, role or own) for host, port, own in servers_of(shard)]
    router = start_router({"db": PoolText([entries], options=WAITING)}, CHECKS)
    replica = shard.replicas[0]
    with WireClient.login(router.port, "db") as busy, WireClient.login(router.port, "db") as c:
        wait_until("both read", lambda: len(ports(c)) == 2)
        on(busy, replica)
        tell(router, replica)
        wait_until("the idle ones are closed", lambda: len(connections(router, replica)) == 1)
        assert ports(c) == {str(shard.replicas[1].port)}
        for _ in range(5):
            assert busy.value(PORT) == str(replica.port)
        assert replica.is_running()
        busy.query("COMMIT")
        wait_until_gone(replica)
        assert busy.value(PORT) == str(shard.replicas[1].port)
        replica.start()
        wait_until("it reads again", lambda: str(replica.port) in ports(c))
    router.log_with("takes nobody now: ")


def test_writes_wait_for_a_primary_that_ends_and_begins(
    shard: Shard, start_router: Start
) -> None:
    router = start_router({"db": PoolText([servers_of(shard)], options=WAITING)}, CHECKS)
    primary = shard.primary
    with (
        WireClient.login(router.port, "db") as busy,
        WireClient.login(router.port, "db") as writer,
        WireClient.login(router.port, "db") as reader,
    ):
        writer.query(WRITE)
        on(busy, primary, "BEGIN")
        tell(router, primary)
        writer.send(query(WRITE))
        wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
        assert str(primary.port) not in ports(reader)
        busy.query(WRITE)
        busy.query("COMMIT")
        wait_until_gone(primary)
        primary.start()
        writer.read_until("Z")
        busy.query(WRITE)


def test_who_sends_statement_behind_statement_lets_go(
    shard: Shard, start_router: Start
) -> None:
    pool = PoolText([primary_of(shard.primary)], options=WAITING)
    router = start_router({"db": pool}, CHECKS)
    with endless_queries(router) as wait_for_more:
        tell(router, shard.primary)
        wait_until_gone(shard.primary)
        shard.primary.start()
        wait_for_more()


def test_those_who_share_a_connection_let_go(shard: Shard, start_router: Start) -> None:
    options = 'multiplexing = "reads"\nquery_wait_timeout = 60000\n'
    pool = PoolText([primary_of(shard.primary)], options=options, pool_size=1)
    router = start_router({"db": pool}, CHECKS)
    stop = threading.Event()
    counts = [0] * 4

    def read(number: int) -> None:
        with WireClient.login(router.port, "db") as client:
            while not stop.is_set():
                assert client.value("SELECT 1") == "1"
                counts[number] += 1

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    wait_until("all read", lambda: min(counts) > 100)
    tell(router, shard.primary)
    wait_until_gone(shard.primary)
    shard.primary.start()
    seen = list(counts)
    wait_until(
        "all go on", lambda: all(now > then for now, then in zip(counts, seen, strict=True))
    )
    stop.set()
    for thread in threads:
        thread.join()


def test_who_keeps_a_connection_holds_the_server_up_and_is_shown(
    shard: Shard, start_router: Start
) -> None:
    session = PoolText([primary_of(shard.primary)], options='pool_mode = "session"\n')
    pools = {"db": PoolText([servers_of(shard)], options=WAITING), "session": session}
    router = start_router(pools, CHECKS)
    primary = shard.primary
    with (
        WireClient.login(router.port, "session") as client,
        WireClient.login(router.port, "db") as pinned,
    ):
        client.query(WRITE)
        pinned.query("CREATE TEMPORARY TABLE mine AS SELECT 1 AS n")
        tell(router, primary)
        wait_until("it is theirs alone", lambda: len(connections(router, primary)) == 2)
        assert client.value("SELECT 1") == "1"
        assert pinned.value("SELECT n FROM mine") == "1"
        pinned.query("DROP TABLE mine")
        wait_until("it is one's alone", lambda: len(connections(router, primary)) == 1)
        [row] = connections(router, primary)
        assert row["database_name"] == "session"
        assert row["close_needed"] == "1"
        assert primary.is_running()
        client.terminate()
        wait_until_gone(primary)


def test_the_connection_that_listens_is_closed_and_opened_again(
    shard: Shard, start_router: Start
) -> None:
    options = WAITING + 'listen = "shared"\n'
    router = start_router({"db": PoolText([servers_of(shard)], options=options)}, CHECKS)
    primary = shard.primary
    with WireClient.login(router.port, "db") as client:
        client.query("LISTEN a")
        wait_until(
            "one listens for all",
            lambda: [row["state"] for row in router.admin("SHOW LISTENERS")] == ["listening"],
        )
        tell(router, primary)
        wait_until_gone(primary)
        primary.start()
        notice = client.read_message()
        assert (notice.kind, notice.fields["M"]) == ("N", "notifications may have been missed")
        assert "about to end" in notice.fields["D"]
        primary.execute("NOTIFY a, 'again'")
        assert client.read_message().kind == "A"
