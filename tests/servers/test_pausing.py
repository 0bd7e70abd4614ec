"""One server is taken out of service by hand, and taken in again: who notices what."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.cluster.server import StopMode
from tests.support.router import PoolText, config_text, servers_of, wait_until
from tests.support.wire import Ended, WireClient, query, startup

from .conftest import CHECKS, endless_queries
from .test_replicas import PORT, SPLITTING, health_of, on, ports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server
    from tests.support.postgres import PrivateCluster
    from tests.support.router import RouterProcess

    Start = Callable[..., RouterProcess]

WRITE = "SELECT txid_current()"
# Nobody who waits in a pause is told that this is over.
GENERAL = CHECKS.replace("healthcheck_timeout = 2000", "healthcheck_timeout = 10000")

pytestmark = pytest.mark.slow


def where(server: Server) -> str:
    """Its name in commands."""
    return f"{server.host}:{server.port}"


class Pausing:
    """A PAUSE SERVER that may not have returned yet."""

    def __init__(self, router: RouterProcess, server: Server) -> None:
        sql = f"PAUSE SERVER {where(server)}"
        self._thread = threading.Thread(target=router.admin, args=(sql,))
        self._thread.start()
        wait_until("it is paused", lambda: health_of(router, server.port)["paused"] == "1")

    @property
    def has_returned(self) -> bool:
        """Whether the server is nobody's any more."""
        return not self._thread.is_alive()

    def wait(self) -> None:
        """Wait until it has returned."""
        wait_until("PAUSE returns", lambda: self.has_returned)


@contextmanager
def paused(router: RouterProcess, server: Server) -> Iterator[None]:
    """Have a server be out of service."""
    Pausing(router, server).wait()
    yield
    router.admin(f"RESUME SERVER {where(server)}")


def connections(router: RouterProcess, server: Server) -> int:
    """How many there are to a server."""
    return sum(row["port"] == str(server.port) for row in router.admin("SHOW SERVERS"))


def test_transactions_end_where_they_are_and_all_else_goes_to_others(
    replicated: Shard, start_router: Start
) -> None:
    router = start_router({"db": PoolText([servers_of(replicated)], options=SPLITTING)})
    replica = replicated.replicas[0]
    with WireClient.login(router.port, "db") as busy, WireClient.login(router.port, "db") as c:
        on(busy, replica)
        pausing = Pausing(router, replica)
        assert str(replica.port) not in ports(c)
        for _ in range(5):
            assert busy.value(PORT) == str(replica.port)
        assert not pausing.has_returned
        busy.query("COMMIT")
        pausing.wait()
        assert connections(router, replica) == 0
        [row] = [r for r in router.admin("SHOW DATABASES") if r["port"] == str(replica.port)]
        assert row["paused"] == "1"
        assert router.pool("db")["paused"] == "0"
        router.admin(f"RESUME SERVER {where(replica)}")
        wait_until("it reads again", lambda: str(replica.port) in ports(c))


def test_writes_wait_for_the_primary_however_long_and_over_a_reload(
    replicated: Shard, start_router: Start
) -> None:
    pool = PoolText([servers_of(replicated)], options=SPLITTING)
    general = GENERAL + "query_wait_timeout = 200\n"
    router = start_router({"db": pool}, general)
    with (
        WireClient.login(router.port, "db") as writer,
        WireClient.login(router.port, "db") as c,
    ):
        writer.query(WRITE)
        with paused(router, replicated.primary):
            writer.send(query(WRITE))
            wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
            # Its servers stay, and so does the pause, in a pool that replaces it, too.
            pool.pool_size = 6
            router.reload(config_text(router.port, {"db": pool}, general))
            pool.options += "prepared_statements_cache_size = 7\n"
            router.reload(config_text(router.port, {"db": pool}, general))
            wait_until("it waits", lambda: float(router.pool("db")["maxwait_us"]) > 500_000)
            assert str(replicated.primary.port) not in ports(c)
            assert connections(router, replicated.primary) == 0
        writer.read_until("Z")
        writer.query(WRITE)


def test_who_sends_statement_behind_statement_lets_go(
    replicated: Shard, start_router: Start
) -> None:
    router = start_router({"db": PoolText([servers_of(replicated)])})
    with endless_queries(router) as wait_for_more:
        for server in replicated.servers:
            Pausing(router, server).wait()
        router.admin("RESUME")
        wait_for_more()


@pytest.mark.parametrize("fallback", ["primary", "error"])
def test_when_all_replicas_are_paused_the_primary_reads_or_reads_wait(
    replicated: Shard, start_router: Start, fallback: str
) -> None:
    options = SPLITTING + f'replica_fallback = "{fallback}"\n'
    router = start_router({"db": PoolText([servers_of(replicated)], options=options)}, GENERAL)
    with WireClient.login(router.port, "db") as client:
        for replica in replicated.replicas:
            Pausing(router, replica).wait()
        client.send(query(PORT))
        if fallback == "error":
            wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
            router.admin("RESUME")
        [row] = [each.row for each in client.read_until("Z") if each.kind == "D"]
        is_primary = row == [str(replicated.primary.port).encode()]
        assert is_primary is (fallback == "primary")
        router.admin("RESUME")
        wait_until("replicas read", lambda: str(replicated.primary.port) not in ports(client))


def test_who_logs_in_to_a_pool_whose_only_server_is_paused_waits(
    postgres: Server, start_router: Start
) -> None:
    entry = [(postgres.host, postgres.port, "primary")]
    router = start_router({"db": PoolText([entry])}, "validate_config = false\n")
    with paused(router, postgres):
        found: list[str] = []

        def log_in() -> None:
            with WireClient.login(router.port, "db") as client:
                found.append(client.value("SELECT 1"))

        thread = threading.Thread(target=log_in)
        thread.start()
        with WireClient(router.port) as other:  # behind it
            other.close()
        assert found == []
    thread.join()
    assert found == ["1"]


@pytest.mark.parametrize("is_gone", [False, True], ids=["replaced", "gone"])
def test_who_logs_in_to_a_paused_pool_that_a_reload_replaces_waits_for_the_new_one(
    postgres: Server, start_router: Start, is_gone: bool
) -> None:
    entry, general = [(postgres.host, postgres.port, "primary")], "validate_config = false\n"
    pools = {"db": PoolText([entry]), "other": PoolText([entry])}
    router = start_router(pools, general)
    router.admin("PAUSE db")
    found: list[str] = []

    def log_in() -> None:
        with WireClient(router.port) as client:
            client.send(startup({"user": "postgres", "database": "db"}))
            try:
                client.read_until("Z")
                found.append(client.value("SELECT 1"))
            except Ended as refusal:
                found.append(str(refusal))

    def is_waiting() -> bool:
        rows = router.admin("SHOW LIMITS")
        return any(row["limit"] == "max_client_conn" and row["used"] == "1" for row in rows)

    thread = threading.Thread(target=log_in)
    thread.start()
    wait_until("it logs in", is_waiting)
    pools["db"].options = "prepared_statements_cache_size = 7\n"
    if is_gone:
        del pools["db"]
    router.reload(config_text(router.port, pools, general))
    if not is_gone:
        assert found == []
        router.admin("RESUME db")
    thread.join()
    [outcome] = found
    assert "28P01" in outcome if is_gone else outcome == "1"


def test_who_waits_for_a_paused_primary_goes_to_the_one_that_is_promoted(
    private_cluster: PrivateCluster, start_router: Start
) -> None:
    [shard] = private_cluster(replicas=1).shards
    entries = [(server.host, server.port, "auto") for server in shard.servers]
    router = start_router({"db": PoolText([entries], options=SPLITTING)}, GENERAL)
    [replica] = shard.replicas
    with WireClient.login(router.port, "db") as client:
        client.query(WRITE)
        Pausing(router, shard.primary).wait()
        client.send(query(WRITE))
        wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
        shard.primary.stop(StopMode.FAST)
        replica.promote()
        client.read_until("Z")
        client.query("BEGIN")
        client.query(WRITE)
        assert client.value(PORT) == str(replica.port)
