"""The connection that listens for all clients, while what it depends on is changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.strict.test_listening import FENCE, LINE, Stage, notification
from tests.support.router import PoolText, config_text, primary_of, wait_until
from tests.support.wire import WireClient, kinds, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

SHARED = 'listen = "shared"'
MISSED = "notifications may have been missed"


@pytest.fixture
def stage(
    database: Database, start_router: Callable[..., RouterProcess], pool_for: PoolFor
) -> Iterator[Stage]:
    """A router of its own, with one pool that stays and one that changes."""
    pools = {"one": pool_for(options=SHARED), "two": pool_for(options=SHARED)}
    made = Stage(database, start_router(pools))
    yield made
    for client in made.clients:
        client.close()


def is_told_of_a_gap(client: WireClient) -> str:
    """The detail of the next message, which must be the warning."""
    message = client.read_message()
    while message.kind == "A" and notification(message)[0] == FENCE:
        message = client.read_message()  # which was for another client
    assert (message.kind, message.fields["M"]) == ("N", MISSED)
    return message.fields["D"]


def test_pause_closes_it_and_resume_opens_it(stage: Stage) -> None:
    client = stage.client("a")
    # Until then it keeps its server, or, with none to spare, is told that it cannot.
    wait_until("its channels are shared", lambda: {"a", FENCE} <= stage.rows().keys())
    stage.router.admin("PAUSE one")
    wait_until("it is closed", lambda: stage.lines() == [])
    assert stage.rows()["a"]["state"] == "paused"
    stage.router.admin("RESUME one")
    assert "paused" in is_told_of_a_gap(client)
    stage.notify(("a", "1"))
    assert stage.heard(client) == [("a", "1")]


def test_reconnect_replaces_it(stage: Stage) -> None:
    client = stage.client("a")
    [before] = stage.lines()
    stage.router.admin("RECONNECT")
    is_told_of_a_gap(client)
    stage.notify(("a", "1"))
    assert stage.heard(client) == [("a", "1")]
    wait_until("it is another one", lambda: before not in stage.lines())
    assert len(stage.lines()) == 1


def test_kill_ends_who_listens(stage: Stage) -> None:
    client = stage.client("a")
    stage.router.admin("KILL one")
    assert client.read_to_end()[-1].kind == "E"
    wait_until("nobody listens", lambda: not stage.rows())


def test_a_pool_that_is_replaced_goes_on_listening(
    stage: Stage, pool_for: PoolFor, database: Database
) -> None:
    client = stage.client("a", pool="two")
    [before] = stage.lines()
    changed = pool_for(options=f"{SHARED}\nprepared_statements_cache_size = 7")
    pools = {"one": pool_for(options=SHARED), "two": changed}
    stage.router.reload(config_text(stage.router.port, pools))
    stage.notify(("a", "1"))
    assert stage.heard(client) == [("a", "1")]
    assert stage.lines() == [before]
    client.query("LISTEN b")
    client.query("UNLISTEN a")
    stage.notify(("a", "2"), ("b", "3"))
    assert stage.heard(client) == [("b", "3")]
    # Another server, or at least another name for it.
    there = [("localhost", port, role) for _, port, role in primary_of(database.server)]
    pools["two"] = PoolText([there], database=database.name, options=SHARED)
    stage.router.reload(config_text(stage.router.port, pools))
    assert "another server" in is_told_of_a_gap(client)
    stage.notify(("b", "4"))
    assert stage.heard(client) == [("b", "4")]


def test_a_pool_that_goes_takes_its_listeners_with_it(stage: Stage, pool_for: PoolFor) -> None:
    client, other = stage.client("a", pool="two"), stage.client("a")
    pools = {"one": pool_for(options=SHARED)}
    stage.router.reload(config_text(stage.router.port, pools))
    [error] = client.read_to_end()
    assert error.fields["C"] == "3D000"
    stage.notify(("a", "1"))
    assert stage.heard(other) == [("a", "1")]


def test_who_listens_keeps_its_server_while_there_is_no_connection_for_all(
    database: Database, start_router: Callable[..., RouterProcess]
) -> None:
    database.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1 PASSWORD 'narrow'")
    pool = PoolText(
        [primary_of(database.server)],
        database=database.name,
        user="narrow",
        pool_size=1,
        user_options='auth_type = "trust"\npassword = "narrow"',
        options=f"{SHARED}\nmax_pinned = 1",
    )
    router = start_router({"narrow": pool})
    stage = Stage(database, router)
    with WireClient.login(router.port, "narrow", "narrow") as client:
        client.query("LISTEN a")
        router.log_with("nobody listens for its clients")
        wait_until(
            "it keeps its server",
            lambda: [row for row in router.admin("SHOW CLIENTS") if row["pinned"] == "LISTEN"],
        )
        stage.notify(("a", "1"))
        assert kinds([client.read_message()]) == "A"
        database.execute("ALTER ROLE narrow CONNECTION LIMIT 2")
        wait_until(
            "it is taken over",
            lambda: stage.rows("narrow").get("a", {}).get("listeners") == "1",
        )
        wait_until(
            "the server is free", lambda: router.pool("narrow", "narrow")["sv_active"] == "0"
        )
        client.query("LISTEN fence")
        stage.notify(("a", "2"))
        assert stage.heard(client) == [("a", "2")]
    database.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'narrow'"
    )
    database.execute("DROP ROLE narrow")


def test_many_lines_lost_lose_no_listener(stage: Stage) -> None:
    clients = [stage.client("a") for _ in range(5)]
    for number in range(5):
        stage.database.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LINE}"
            " AND datname = current_database()"
        )
        for client in clients:
            is_told_of_a_gap(client)
        stage.notify(("a", str(number)))
        assert [stage.heard(client) for client in clients] == [[("a", str(number))]] * 5
        assert clients[number].ask(query(f"NOTIFY a, 'own {number}'"))[-2].kind == "A"
        for client in clients:
            told = stage.heard(client)
            assert told == ([] if client is clients[number] else [("a", f"own {number}")])
