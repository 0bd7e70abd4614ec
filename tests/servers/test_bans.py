"""Administrators take replicas out of service, and put them back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.support.cluster.server import StopMode
from tests.support.router import PoolText, RouterProcess, servers_of, wait_until
from tests.support.wire import WireClient

from .conftest import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.cluster import Cluster, Shard
    from tests.support.postgres import PostgresRun

SPLITTING = "query_parser_enabled = true\nquery_parser_read_write_splitting = true\n"
PORT = "SELECT current_setting('port')"
HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def cluster(postgres_run: PostgresRun) -> Iterator[Cluster]:
    """A primary and two replicas."""
    cluster = postgres_run.private(replicas=2)
    cluster.wait_for_replication()
    yield cluster
    cluster.close()


@pytest.fixture
def shard(cluster: Cluster) -> Shard:
    """Its shard."""
    [shard] = cluster.shards
    return shard


@pytest.fixture
def router(start_router: Callable[..., RouterProcess], shard: Shard) -> RouterProcess:
    """A router with two users of the shard."""
    more = '[pools.db.users.1]\nusername = "bob"\npool_size = 2\nauth_type = "trust"\n'
    more += 'password = ""\nserver_username = "postgres"'
    pool = PoolText([servers_of(shard)], options=SPLITTING, more_users=more)
    return start_router({"db": pool}, CHECKS)


def ports(client: WireClient, count: int = 20) -> set[str]:
    """The servers that answer so many reads."""
    return {client.value(PORT) for _ in range(count)}


def test_reads_move_away_from_a_banned_replica_and_come_back(
    router: RouterProcess, shard: Shard
) -> None:
    banned, other = shard.replicas
    server = f"{HOST}:{banned.port}"
    with (
        WireClient.login(router.port, "db") as client,
        WireClient.login(router.port, "db", user="bob") as bob,
    ):
        wait_until("both answer", lambda: len(ports(client)) == 2)
        rows = router.admin(f"BAN {server} 600")
        assert [(row["db"], row["user"], row["role"], row["host"]) for row in rows] == [
            ("db", "postgres", "replica", HOST),
            ("db", "bob", "replica", HOST),
        ]
        assert ports(client) == ports(bob) == {str(other.port)}
        disabled = {row["port"]: row["disabled"] for row in router.admin("SHOW DATABASES")}
        assert disabled[str(banned.port)] == "1"
        assert disabled[str(other.port)] == "0"
        shown = router.admin("SHOW BANS")
        assert [(row["kind"], row["reason"], row["port"]) for row in shown] == [
            ("admin", "AdminBan(600)", str(banned.port))
        ] * 2
        assert router.admin(f"BAN {server} 900") == [], "it is not news"
        assert router.admin("SHOW BANS")[0]["ban_duration_seconds"] == "900"

        assert len(router.admin(f"UNBAN {server}")) == 2
        assert router.admin("SHOW BANS") == []
        assert router.admin(f"UNBAN {server}") == []
        wait_until("both answer again", lambda: len(ports(client)) == 2)


def test_a_ban_survives_a_reload_that_replaces_the_pool(
    router: RouterProcess, shard: Shard
) -> None:
    banned, other = shard.replicas
    router.admin(f"BAN {HOST}:{banned.port} FOREVER")
    text = router.config_path.read_text()
    router.reload(text.replace(SPLITTING, f'{SPLITTING}default_role = "replica"\n'))
    with WireClient.login(router.port, "db") as client:
        assert ports(client) == {str(other.port)}
    assert {row["ban_until"] for row in router.admin("SHOW BANS")} == {"infinity"}
    router.reload(text)
    assert len(router.admin("SHOW BANS")) == 2


def test_all_servers_of_a_host_can_be_banned_and_the_primary_stays(
    router: RouterProcess, shard: Shard
) -> None:
    rows = router.admin(f"BAN {HOST} 600")
    assert {row["role"] for row in rows} == {"replica"}
    assert len(rows) == 4
    with WireClient.login(router.port, "db") as client:
        assert ports(client) == {str(shard.primary.port)}


def test_a_primary_is_never_banned(router: RouterProcess, shard: Shard) -> None:
    with pytest.raises(psycopg.Error, match="is a primary, and those are never banned"):
        router.admin(f"BAN {HOST}:{shard.primary.port} 60")
    assert router.admin("SHOW BANS") == []


def test_a_transaction_on_a_banned_replica_ends_there(
    router: RouterProcess, shard: Shard
) -> None:
    with WireClient.login(router.port, "db") as client:
        client.query("BEGIN READ ONLY")
        port = client.value(PORT)
        router.admin(f"BAN {HOST} 600")
        assert client.value(PORT) == port
        client.query("COMMIT")
        assert client.value(PORT) == str(shard.primary.port)


def test_a_ban_for_some_seconds_ends_by_itself(router: RouterProcess) -> None:
    assert len(router.admin(f"BAN {HOST} 1")) == 4
    wait_until("it is over", lambda: router.admin("SHOW BANS") == [])
    with WireClient.login(router.port, "db") as client:
        wait_until("both answer again", lambda: len(ports(client)) == 2)


def test_a_replica_that_is_down_is_among_the_bans(router: RouterProcess, shard: Shard) -> None:
    replica = shard.replicas[0]
    replica.stop(StopMode.KILL)
    try:
        [row, *_] = wait_until("it is known", lambda: router.admin("SHOW BANS"))
        assert (row["kind"], row["port"]) == ("failed", str(replica.port))
        assert str(replica.port) in row["reason"]
    finally:
        replica.start()
    wait_until("it is back", lambda: router.admin("SHOW BANS") == [])
