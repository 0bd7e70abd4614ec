"""Servers that tell what they are: promotions, demotions, and two primaries at once."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from router.demo.server import HOST
from tests.support.cluster.server import StopMode
from tests.support.router import PoolText, RouterProcess, wait_until
from tests.support.wire import WireClient, query, sqlstates

from .conftest import CHECKS, frozen
from .test_replicas import SPLITTING, answers_of, health_of, ports

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import PrivateCluster

AUTO = SPLITTING + "query_wait_timeout = 100000\n"
WRITE = "INSERT INTO t SELECT current_setting('port')::int RETURNING port"


def auto(*servers: Server, options: str = AUTO) -> dict[str, PoolText]:
    """A pool whose servers tell what they are."""
    entries = [(HOST, server.port, "auto") for server in servers]
    return {"db": PoolText([entries], options=options)}


def roles(router: RouterProcess) -> dict[str, str]:
    """The role of each server, by its port."""
    return {row["port"]: row["role"] for row in router.admin("SHOW DATABASES")}


def test_writes_follow_a_promotion_and_nobody_is_told_but_who_was_in_a_transaction(
    start_router: Callable[..., RouterProcess], private_cluster: PrivateCluster
) -> None:
    cluster = private_cluster(replicas=2)
    [shard] = cluster.shards
    old, (new, other) = shard.primary, shard.replicas
    old.execute("CREATE TABLE t (port int)")
    cluster.wait_for_replication()
    router = start_router(auto(new, other, old), CHECKS)
    with ExitStack() as stack:
        busy, reader, *writers = (
            stack.enter_context(WireClient.login(router.port, "db")) for _ in range(6)
        )
        for writer in writers:
            assert writer.value(WRITE) == str(old.port)
        known = {str(new.port): "replica", str(other.port): "replica", str(old.port): "primary"}
        wait_until("all have told", lambda: roles(router) == known)
        assert ports(reader) == {str(new.port), str(other.port)}
        busy.query("BEGIN")
        assert busy.value(WRITE) == str(old.port)
        cluster.wait_for_replication()
        old.stop(StopMode.KILL)
        assert sqlstates(answers_of(busy)) in (["08006"], ["57P01"], ["57P02"])
        wait_until("it is known", lambda: health_of(router, old.port)["condition"] == "down")
        for writer in writers:
            writer.send(query(WRITE))
        wait_until("they wait", lambda: router.pool("db")["cl_waiting"] == "4")
        assert ports(reader) == {str(new.port), str(other.port)}
        new.promote()
        for writer in writers:
            assert writer.read_until("Z")[1].row == [str(new.port).encode()]
        assert roles(router)[str(new.port)] == "primary"

        # The old one comes back as if nothing had happened.
        old.start()
        wait_until("it is seen", lambda: health_of(router, old.port)["condition"] == "up")
        assert health_of(router, old.port)["cause"] == (
            f"it is a primary on timeline 1, but {HOST}:{new.port} on timeline 2 has been "
            "promoted since: it gets no clients"
        )
        assert roles(router)[str(old.port)] == "auto"
        assert {writer.value(WRITE) for writer in writers} == {str(new.port)}
        assert ports(reader) == {str(other.port)}
    assert old.execute("SELECT count(*) FROM t WHERE port <> %s", [old.port]) == [(0,)]


def test_a_primary_that_hangs_and_is_replaced_takes_no_more_writes_when_it_wakes_up(
    start_router: Callable[..., RouterProcess], private_cluster: PrivateCluster
) -> None:
    cluster = private_cluster(replicas=1)
    [shard] = cluster.shards
    old, [new] = shard.primary, shard.replicas
    old.execute("CREATE TABLE t (port int)")
    cluster.wait_for_replication()
    router = start_router(auto(old, new), CHECKS)
    with (
        WireClient.login(router.port, "db") as busy,
        WireClient.login(router.port, "db") as writer,
    ):
        assert writer.value(WRITE) == str(old.port)
        busy.query("BEGIN")
        assert busy.value(WRITE) == str(old.port)
        with frozen(old):
            wait_until("known", lambda: health_of(router, old.port)["condition"] == "down")
            writer.send(query(WRITE))
            wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
            new.promote()
            assert writer.read_until("Z")[1].row == [str(new.port).encode()]
            # Whoever is still in a transaction there must not commit it later.
            answers = busy.read_to_end()
            assert sqlstates(answers) == ["08006"]
            assert f"{HOST}:{new.port} on timeline 2" in answers[-1].fields["M"]
        wait_until("it is awake", lambda: health_of(router, old.port)["condition"] == "up")
        assert roles(router) == {str(old.port): "auto", str(new.port): "primary"}
        assert {writer.value(WRITE) for _ in range(20)} == {str(new.port)}
    assert old.execute("SELECT count(*) FROM t") == [(1,)]


def test_a_primary_that_has_become_a_standby_gets_reads(
    start_router: Callable[..., RouterProcess], private_cluster: PrivateCluster
) -> None:
    cluster = private_cluster(replicas=1)
    [shard] = cluster.shards
    old, [new] = shard.primary, shard.replicas
    old.execute("CREATE TABLE t (port int)")
    cluster.wait_for_replication()
    router = start_router(auto(old, new), CHECKS)
    with WireClient.login(router.port, "db") as client:
        assert client.value(WRITE) == str(old.port)
        old.stop(StopMode.FAST)
        new.promote()
        assert client.value(WRITE) == str(new.port)
        old.follow(new)
        old.start()
        wait_until("it reads", lambda: ports(client) == {str(old.port)})
        assert client.value(WRITE) == str(new.port)


def test_two_primaries_that_cannot_be_told_apart_are_both_refused(
    start_router: Callable[..., RouterProcess], private_cluster: PrivateCluster
) -> None:
    cluster = private_cluster(shards=2)
    one, other = (shard.primary for shard in cluster.shards)
    for server in (one, other):
        server.execute("CREATE TABLE t (port int)")
    options = SPLITTING + "query_wait_timeout = 500"
    router = start_router(auto(one, other, options=options), CHECKS)
    wait_until("both have told", lambda: health_of(router, other.port)["cause"])
    with WireClient.login(router.port, "db") as client:
        for sql in (WRITE, "SELECT 1"):
            [error] = [each for each in client.ask(query(sql)) if each.kind == "E"]
            assert error.sqlstate == "57P03"
            assert f"{HOST}:{one.port}: it is a primary on timeline 1" in error.fields["M"]
        other.stop()
        client.send(query(WRITE))
        wait_until("one is left", lambda: roles(router)[str(one.port)] == "primary")
        client.read_until("Z")
        assert client.value(WRITE) == str(one.port)
        # Whoever comes back as what it was is refused again, and so is the other.
        other.start()
        wait_until("both are refused", lambda: set(roles(router).values()) == {"auto"})


def test_without_a_primary_writes_fail_with_what_servers_say(
    start_router: Callable[..., RouterProcess], private_cluster: PrivateCluster
) -> None:
    cluster = private_cluster(replicas=1)
    [shard] = cluster.shards
    [standby] = shard.replicas
    cluster.wait_for_replication()
    options = SPLITTING + "query_wait_timeout = 500"
    router = start_router(auto(standby, options=options), CHECKS)
    with WireClient.login(router.port, "db") as client:
        wait_until("it is known", lambda: roles(router)[str(standby.port)] == "replica")
        assert client.value("SELECT 1") == "1"
        [error] = [each for each in client.ask(query("CREATE TABLE u ()")) if each.kind == "E"]
        assert error.sqlstate == "57P03"
        assert f"{HOST}:{standby.port} is a standby" in error.fields["M"]
        assert 'from the pool "db" of user "postgres" - waited 0.5 s' in error.fields["M"]
