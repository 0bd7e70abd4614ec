"""Replicas that die, hang or are cut off: reads go on elsewhere."""

from __future__ import annotations

from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING

import pytest

from router.demo.server import HOST
from tests.support.cluster.server import StopMode
from tests.support.router import PoolText, RouterProcess, primary_of, servers_of, wait_until
from tests.support.wire import (
    SYNC,
    Ended,
    Message,
    WireClient,
    query,
    rows,
    run,
    sqlstates,
    startup,
)

from .conftest import CHECKS, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server
    from tests.support.proxy import Proxy

SPLITTING = "query_parser_enabled = true\nquery_parser_read_write_splitting = true\n"
PORT = "SELECT current_setting('port')"


def ports(client: WireClient, count: int = 20) -> set[str]:
    """The servers that answer so many reads."""
    return {client.value(PORT) for _ in range(count)}


def on(client: WireClient, server: Server, begin: str = "BEGIN READ ONLY") -> None:
    """Have a client begin a transaction on a server."""

    def has_begun() -> bool:
        client.query(begin)
        if client.value(PORT) == str(server.port):
            return True
        client.query("COMMIT")
        return False

    wait_until("it is the right server", has_begun)


def answers_of(client: WireClient) -> list[Message]:
    """What a client is answered to a query, whether it may go on or not."""
    try:
        return client.read_until("Z")
    except Ended as ended:
        return ended.messages


def condition(router: RouterProcess, port: int) -> str:
    """How the router thinks that a server is."""
    [row] = [row for row in router.admin("SHOW HEALTH") if row["port"] == str(port)]
    return row["condition"]


def test_a_replica_that_dies_is_found_though_nobody_uses_it(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    pool = PoolText([servers_of(shard)], options=SPLITTING)
    router = start_router({"db": pool}, CHECKS + "validate_config = false")
    replica = shard.replicas[0]
    assert condition(router, replica.port) == "up"
    replica.stop(StopMode.KILL)
    wait_until("it is known", lambda: condition(router, replica.port) == "down")
    router.log_with(f"{HOST}:{replica.port} is down: cannot connect to replica")
    with WireClient.login(router.port, "db") as client:
        assert ports(client) == {str(shard.replicas[1].port)}
        replica.start()
        wait_until("it is back", lambda: len(ports(client)) == 2)
    router.log_with(f"{HOST}:{replica.port} is up again, after ")


def test_a_frozen_replica_costs_only_what_it_was_doing(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    router = start_router({"db": PoolText([servers_of(shard)], options=SPLITTING)}, CHECKS)
    replica, other = shard.replicas
    with ExitStack() as stack:
        busy, idle, free = (
            stack.enter_context(WireClient.login(router.port, "db")) for _ in range(3)
        )
        on(busy, replica)
        on(idle, replica)
        assert ports(free) == {str(replica.port), str(other.port)}
        with frozen(replica):
            busy.send(query("SELECT 1"))
            answers = busy.read_to_end()
            assert sqlstates(answers) == ["08006"]
            message = answers[-1].fields["M"]
            assert f"{HOST}:{replica.port} of shard 0 was given up" in message
            assert "did not answer in time" in message
            assert condition(router, replica.port) == "down"
            assert ports(free) == {str(other.port)}
        wait_until("it is back", lambda: len(ports(free)) == 2)
        assert idle.value("SELECT 2") == "2"


def test_a_read_that_meets_a_frozen_replica_fails_and_those_that_wait_go_on(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    pool = PoolText([servers_of(shard)], options=SPLITTING, pool_size=2)
    router = start_router({"db": pool}, CHECKS)
    replica, other = shard.replicas
    clients = [WireClient.login(router.port, "db") for _ in range(8)]
    for client in clients:
        assert ports(client) <= {str(replica.port), str(other.port)}
    with frozen(replica):
        for client in clients:
            client.send(query(PORT))
        failed = 0
        for client in clients:
            answers = answers_of(client)
            if sqlstates(answers) == ["08006"]:
                failed += 1
            else:
                assert answers[1].row == [str(other.port).encode()]
        # As many as it has connections; whoever was behind them has gone to the other.
        assert failed <= 2
    for client in clients:
        client.close()


def test_when_no_replica_is_left_the_primary_reads_or_nobody(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    strict = SPLITTING + 'replica_fallback = "error"\nconnect_timeout = 500'
    router = start_router(
        {
            "kind": PoolText([servers_of(shard)], options=SPLITTING),
            "strict": PoolText([servers_of(shard)], options=strict),
        },
        CHECKS,
    )
    with (
        WireClient.login(router.port, "kind") as kind,
        WireClient.login(router.port, "strict") as strict_one,
    ):
        replicas = {str(replica.port) for replica in shard.replicas}
        wait_until("all replicas answer", lambda: ports(kind) == replicas)
        for replica in shard.replicas:
            replica.stop(StopMode.KILL)
        for replica in shard.replicas:
            wait_until("known", lambda: condition(router, replica.port) == "down")  # noqa: B023
        assert ports(kind) == {str(shard.primary.port)}
        [error] = [each for each in strict_one.ask(query(PORT)) if each.kind == "E"]
        assert error.sqlstate == "57P03"
        assert "Connection refused" in error.fields["M"]
        # Who insists on a replica gets none.
        kind.query("SET SERVER ROLE TO 'replica'")
        shard.replicas[0].start()
        assert kind.value(PORT) == str(shard.replicas[0].port)
        kind.query("SET SERVER ROLE TO 'default'")
        wait_until("it reads", lambda: ports(kind) == {str(shard.replicas[0].port)})


def test_a_connection_that_leads_nowhere_is_replaced_and_nobody_notices(
    start_router: Callable[..., RouterProcess],
    shard: Shard,
    proxy_for: Callable[[Server], Proxy],
) -> None:
    proxy = proxy_for(shard.primary)
    pool = PoolText([[(HOST, proxy.port, "primary")]])
    router = start_router({"db": pool}, "healthcheck_delay = 50\nhealthcheck_timeout = 1000")
    with WireClient.login(router.port, "db") as client:
        pid = client.value("SELECT pg_backend_pid()")
        proxy.stall(new=False)
        # The connection must have been idle for the delay.
        wait_until("a check", lambda: int(health_of(router, proxy.port)["checks"]) > 3)
        assert client.value("SELECT pg_backend_pid()") != pid
    assert "no answer to a check, closing it" in router.log()


def health_of(router: RouterProcess, port: int) -> dict[str, str]:
    """The row of SHOW HEALTH."""
    [row] = [row for row in router.admin("SHOW HEALTH") if row["port"] == str(port)]
    return row


def test_a_server_that_is_down_is_not_tried_by_each_client(
    start_router: Callable[..., RouterProcess],
    shard: Shard,
    proxy_for: Callable[[Server], Proxy],
) -> None:
    proxy = proxy_for(shard.replicas[0])
    servers = servers_of(shard)
    servers[1] = (HOST, proxy.port, "replica")
    users = 'auth_type = "trust"\npassword = ""\n'
    more = (
        '[pools.db.users.1]\nusername = "other"\nserver_username = "postgres"\npool_size = 5\n'
        'auth_type = "trust"\npassword = ""\nserver_password = ""\n'
    )
    pool = PoolText([servers], options=SPLITTING, user_options=users, more_users=more)
    router = start_router({"db": pool}, "healthcheck_delay = 600000\nhealthcheck_timeout = 500")
    other = str(shard.replicas[1].port)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(WireClient.login(router.port, "db", user=user))
            for user in ("postgres", "other")
            for _ in range(10)
        ]
        for client in clients:
            ports(client, 5)
        proxy.refuse()
        wait_until("it is known", lambda: condition(router, proxy.port) == "down")
        before = proxy.accepted
        for client in clients:
            assert ports(client, 10) == {other}
        # One attempt a second of the check, and those of nobody else.
        after = int(health_of(router, proxy.port)["checks"])
        assert proxy.accepted - before <= after


def test_a_deaf_replica_costs_nobody_an_error(
    start_router: Callable[..., RouterProcess],
    shard: Shard,
    proxy_for: Callable[[Server], Proxy],
) -> None:
    proxy = proxy_for(shard.replicas[0])
    proxy.stall()
    servers = servers_of(shard)
    servers[1] = (HOST, proxy.port, "replica")
    router = start_router(
        {"db": PoolText([servers], options=SPLITTING)},
        CHECKS + "server_login_timeout = 500\nvalidate_config = false",
    )
    other = str(shard.replicas[1].port)
    with WireClient.login(router.port, "db") as client:
        assert ports(client) == {other}
        wait_until("it is known", lambda: condition(router, proxy.port) == "down")
        assert "did not answer in time" in health_of(router, proxy.port)["cause"]
        proxy.resume()
        wait_until("both answer", lambda: len(ports(client)) == 2)


def test_a_replica_that_lags_gets_no_reads_until_it_has_caught_up(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    options = SPLITTING + "max_replica_lag_bytes = 65536"
    router = start_router({"db": PoolText([servers_of(shard)], options=options)}, CHECKS)
    replica, other = shard.replicas
    with WireClient.login(router.port, "db") as client:
        wait_until("both answer", lambda: len(ports(client)) == 2)
        replica.execute("SELECT pg_wal_replay_pause()")
        shard.primary.execute("CREATE TABLE heavy AS SELECT generate_series(1, 20000) AS n")
        shard.primary.execute("DROP TABLE heavy")
        wait_until(
            "it is known", lambda: int(health_of(router, replica.port)["lag_bytes"]) > 65536
        )
        # The other may have been asked before it had replayed all of that.
        wait_until("the other reads", lambda: ports(client, 1) == {str(other.port)})
        assert ports(client) == {str(other.port)}
        assert health_of(router, replica.port)["condition"] == "up"
        wait_until("it tells", lambda: int(health_of(router, replica.port)["lag_us"]) > 0)
        replica.execute("SELECT pg_wal_replay_resume()")
        wait_until("both answer again", lambda: len(ports(client)) == 2)
    # A check that takes too long on a busy machine leaves it unknown until the next.
    wait_until("it is known", lambda: int(health_of(router, other.port)["lag_bytes"]) >= 0)
    router.log_with(f"{HOST}:{replica.port} is not too far any more behind its primary")


def test_reads_that_no_primary_may_have_wait_until_a_replica_has_caught_up(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    options = SPLITTING + "max_replica_lag_bytes = 65536\nquery_wait_timeout = 60000\n"
    options += 'replica_fallback = "error"\n'
    router = start_router({"db": PoolText([servers_of(shard)], options=options)}, CHECKS)
    with ExitStack() as stack:
        clients = [stack.enter_context(WireClient.login(router.port, "db")) for _ in range(8)]
        wait_until("both answer", lambda: len(ports(clients[0])) == 2)
        for replica in shard.replicas:
            replica.execute("SELECT pg_wal_replay_pause()")
        shard.primary.execute("CREATE TABLE heavy AS SELECT generate_series(1, 20000) AS n")
        for replica in shard.replicas:
            server = f"{HOST}:{replica.port}"
            router.log_with(f"{server} is too far behind its primary")
        for client in clients:
            client.send(query("SELECT count(*) FROM heavy"))
        wait_until("all wait", lambda: router.pool("db")["cl_waiting"] == "8")
        for replica in shard.replicas:
            replica.execute("SELECT pg_wal_replay_resume()")
        for client in clients:
            assert rows(client.read_until("Z")) == [[b"20000"]]
        shard.primary.execute("DROP TABLE heavy")


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
@pytest.mark.parametrize("ask", [query, lambda sql: run(sql) + SYNC])
def test_a_frozen_primary_fails_what_it_was_doing_and_is_named_to_who_waits(
    start_router: Callable[..., RouterProcess],
    shard: Shard,
    mode: str,
    ask: Callable[[str], bytes],
) -> None:
    options = f'pool_mode = "{mode}"\nquery_wait_timeout = 4000'
    pool = PoolText([primary_of(shard.primary)], options=options, pool_size=1)
    router = start_router({"db": pool}, CHECKS)
    with WireClient.login(router.port, "db") as busy:
        assert busy.value("SELECT 1") == "1"
        with (
            WireClient.login(router.port, "db") if mode != "session" else nullcontext() as late
        ):
            with frozen(shard.primary):
                busy.send(ask("SELECT 2"))
                if late is not None:
                    late.send(ask("SELECT 3"))
                [lost] = [one for one in answers_of(busy) if one.kind == "E"]
                assert lost.sqlstate in ("08006", "57P03")
                assert f"{HOST}:{shard.primary.port}" in lost.fields["M"]
                assert condition(router, shard.primary.port) == "down"
                if late is None:
                    with WireClient(router.port) as refused:
                        refused.send(startup({"user": "postgres", "database": "db"}))
                        answers = refused.read_to_end()
                else:
                    answers = answers_of(late)
                [error] = [one.fields for one in answers if one.kind == "E"]
                assert error["C"] == "57P03"
                assert f"{HOST}:{shard.primary.port}" in error["M"]
                assert "pool_size" not in error["M"] + error.get("H", "").replace(
                    "raising pool_size does not help", ""
                )
        wait_until("it is back", lambda: condition(router, shard.primary.port) == "up")
    with WireClient.login(router.port, "db") as client:
        assert client.value("SELECT 4") == "4"
