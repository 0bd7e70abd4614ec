"""Each time limit ends what it is for, with PostgreSQL's SQLSTATE and a counter of its own."""

from __future__ import annotations

import signal
import socket
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.support.router import HOST, PoolText, primary_of, wait_until
from tests.support.wire import SYNC, WireClient, query, run, sqlstates, startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

    Start = Callable[..., RouterProcess]

SLEEP = "SELECT pg_sleep(60)"
LOGIN = startup({"user": "postgres", "database": "db"})


def counted(router: RouterProcess) -> dict[str, str]:
    """The limits that have ended something, with the SQLSTATEs that SHOW TIMEOUTS has."""
    rows = router.admin("SHOW TIMEOUTS")
    return {row["kind"]: row["sqlstate"] for row in rows if row["total"] != "0"}


def ended(router: RouterProcess, *asked: bytes) -> list[Message]:
    """All that a client is told that logs in and asks this, up to its end."""
    with WireClient.login(router.port, "db") as client:
        for message in asked:
            client.send(message)
        return client.read_to_end()


@contextmanager
def full() -> Iterator[socket.socket]:
    """A port where connections are neither taken nor refused: its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind((HOST, 0))
        listening.listen(0)
        for _ in range(4):
            filling = stack.enter_context(socket.socket())
            filling.setblocking(False)
            filling.connect_ex(listening.getsockname())
        yield listening


@contextmanager
def deaf() -> Iterator[socket.socket]:
    """A port where connections are taken and nothing is said."""
    with socket.create_server((HOST, 0)) as listening:
        yield listening


@pytest.mark.parametrize(
    ("kind", "port", "key"),
    [("connect", full, "connect_timeout"), ("server_login", deaf, "server_login_timeout")],
)
def test_a_server_that_is_not_reached_in_time(
    start_router: Start,
    kind: str,
    port: Callable[[], Iterator[socket.socket]],
    key: str,
) -> None:
    with port() as listening:  # type: ignore[attr-defined]
        entry = (HOST, listening.getsockname()[1], "primary")
        is_of_pools = key == "connect_timeout"
        pool = PoolText([[entry]], options=f"{key} = 200\n" if is_of_pools else "")
        router = start_router({"db": pool}, "" if is_of_pools else f"{key} = 200\n")
        with WireClient(router.port) as client:
            client.send(LOGIN)
            answers = client.read_to_end()
        assert sqlstates(answers) == ["57P03"]
        assert "in time" in answers[-1].fields["M"]
        wait_until("it is counted", lambda: counted(router) == {kind: "57P03"})


def test_a_client_that_does_not_log_in(start_router: Start, postgres: Server) -> None:
    general = "client_login_timeout = 200\n"
    router = start_router({"db": PoolText([primary_of(postgres)])}, general)
    with WireClient(router.port) as client:
        answers = client.read_to_end()
    assert [answer.fields["S"] for answer in answers] == ["FATAL"]
    assert sqlstates(answers) == ["57014"]
    assert counted(router) == {"client_login": "57014"}


def test_who_comes_after_a_reload_has_the_new_time_to_log_in(
    start_router: Start, postgres: Server
) -> None:
    router = start_router(
        {"db": PoolText([primary_of(postgres)])}, "client_login_timeout = 900000\n"
    )
    with WireClient(router.port) as early:
        early.send(LOGIN[:4])
        text = router.config_path.read_text()
        router.reload(
            text.replace("client_login_timeout = 900000", "client_login_timeout = 200")
        )
        with WireClient(router.port) as late:
            assert sqlstates(late.read_to_end()) == ["57014"]
        early.send(LOGIN[4:])
        assert early.read_until("Z")


@pytest.mark.parametrize("key", ["connect_timeout", "query_wait_timeout"])
@pytest.mark.parametrize("statement", [query("SELECT 1"), run("SELECT 1") + SYNC])
def test_waiting_for_a_connection(
    start_router: Start, postgres: Server, key: str, statement: bytes
) -> None:
    pool = PoolText([primary_of(postgres)], pool_size=1, options=f"{key} = 200\n")
    router = start_router({"db": pool})
    with WireClient.login(router.port, "db") as holder:
        holder.query("BEGIN")
        holder.query("SELECT 1")
        with WireClient.login(router.port, "db") as client:
            [error] = [each for each in client.ask(statement) if each.kind == "E"]
            assert (error.fields["S"], error.sqlstate) == ("ERROR", "53300")
            assert "1 of 1: 1 idle in transaction" in error.fields["D"]
            holder.query("COMMIT")
            client.query("SELECT 1")
    assert counted(router) == {"query_wait": "53300"}


@pytest.mark.parametrize("statement", [query(SLEEP), run(SLEEP) + SYNC])
def test_a_statement(start_router: Start, postgres: Server, statement: bytes) -> None:
    general = "query_timeout = 200\n"
    router = start_router({"db": PoolText([primary_of(postgres)])}, general)
    with WireClient.login(router.port, "db") as client:
        assert sqlstates(client.ask(statement)) == ["57014"]
        client.query("SELECT 1")
    assert counted(router) == {"query": "57014"}


@pytest.mark.parametrize(
    ("kind", "key", "code", "asked"),
    [
        ("transaction", "transaction_timeout", "25P04", ["BEGIN", SLEEP]),
        ("transaction", "transaction_timeout", "25P04", [SLEEP]),
        ("transaction", "transaction_timeout", "25P04", ["BEGIN", "SELECT 1"]),
        (
            "idle_transaction",
            "idle_client_in_transaction_timeout",
            "25P03",
            ["BEGIN", "SELECT 1"],
        ),
        ("idle_transaction", "idle_client_in_transaction_timeout", "25P03", ["BEGIN"]),
        ("client_idle", "client_idle_timeout", "57P05", ["SELECT 1"]),
        ("client_idle", "client_idle_timeout", "57P05", []),
    ],
)
def test_what_ends_a_session(
    start_router: Start, postgres: Server, kind: str, key: str, code: str, asked: list[str]
) -> None:
    router = start_router({"db": PoolText([primary_of(postgres)])}, f"{key} = 200\n")
    answers = ended(router, *map(query, asked))
    assert sqlstates(answers) == [code]
    assert answers[-1].fields["S"] == "FATAL"
    assert counted(router) == {kind: code}
    # What it has left open is rolled back, and what it ran is cancelled.
    wait_until("nobody is served", lambda: router.pool("db")["sv_idle"] == "1")
    sql = "SELECT count(*)::int FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
    active = f"{sql} AND state = 'active'"
    wait_until("nothing runs", lambda: postgres.execute(active) == [(0,)])


@pytest.mark.parametrize(
    ("kind", "key"), [("server_idle", "idle_timeout"), ("server_lifetime", "server_lifetime")]
)
def test_a_connection_to_a_server(
    start_router: Start, postgres: Server, kind: str, key: str
) -> None:
    pool = PoolText([primary_of(postgres)], options=f"{key} = 200\n")
    router = start_router({"db": pool})
    with WireClient.login(router.port, "db") as client:
        client.query("SELECT 1")
        wait_until("it is closed", lambda: router.pool("db")["sv_idle"] == "0")
        wait_until("it is counted", lambda: counted(router) == {kind: ""})
        client.query("SELECT 1")


def test_a_shutdown(start_router: Start, postgres: Server) -> None:
    general = "shutdown_timeout = 200\n"
    router = start_router({"db": PoolText([primary_of(postgres)])}, general)
    with WireClient.login(router.port, "db") as client:
        client.query("BEGIN")
        client.query("SELECT 1")
        router.signal(signal.SIGTERM)
        answers = client.read_to_end()
        assert sqlstates(answers) == ["57P01"]
        assert answers[-1].fields["S"] == "FATAL"
    router.process.wait(60)
    assert "shutdown_timeout is over, 1 clients are cut off" in router.log()
