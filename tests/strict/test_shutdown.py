"""The end of the router: everybody is told, whatever they are doing."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.router import ADMIN, PoolText, RouterProcess, primary_of, wait_until
from tests.support.wire import (
    FLUSH,
    Message,
    WireClient,
    kinds,
    query,
    run,
    startup,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server

SIZE = 100_000_000
SLEEP = "SELECT pg_sleep(600), 'of the shutdown'"
# What is sent, and the messages to wait for.
MOMENTS: dict[str, tuple[bytes, str]] = {
    "idle": (query("SELECT 1"), "Z"),
    "in a transaction": (query("BEGIN"), "Z"),
    "in a failed transaction": (query("BEGIN; SELECT 1/0"), "Z"),
    "in an open batch": (run("SELECT 1") + FLUSH, "C"),
    "in a COPY": (
        query("CREATE TEMP TABLE gone (v text)") + query("COPY gone FROM STDIN"),
        "ZG",
    ),
    "in a statement": (query(SLEEP), ""),
    "in the middle of a message": (query("SELECT 1") + query("SELECT 2")[:-3], "Z"),
}


def told(messages: list[Message]) -> bool:
    """Whether the last message is that of the shutdown."""
    last = messages[-1]
    return last.kind == "E" and (last.fields["S"], last.sqlstate) == ("FATAL", "57P01")


def running(server: Server) -> bool:
    """Whether the statement that takes ten minutes is at work."""
    sql = f"SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND query = $${SLEEP}$$"
    return bool(server.execute(sql))


@pytest.mark.slow
def test_the_end_at_once_is_told_to_everybody(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    pools = {
        "db": PoolText([primary_of(postgres)], pool_size=20),
        "small": PoolText([primary_of(postgres)], pool_size=1),
        "dead": PoolText([[("127.0.0.1", 1, "primary")]]),
        "locked": PoolText(
            [primary_of(postgres)], user_options='password = "x"\nauth_type = "md5"'
        ),
    }
    router = start_router(pools, "validate_config = false")
    with ExitStack() as stack:

        def log_in(database: str) -> WireClient:
            return stack.enter_context(WireClient.login(router.port, database))

        def begin_login(database: str, user: str) -> WireClient:
            client = stack.enter_context(WireClient(router.port))
            client.send(startup({"user": user, "database": database}))
            return client

        clients: dict[str, WireClient] = {}
        for name, (data, awaited) in MOMENTS.items():
            clients[name] = log_in("db")
            clients[name].send(data)
            clients[name].read_until(awaited)
        holder = clients["holding the only server"] = log_in("small")
        holder.ask(query("BEGIN"))
        waiting = clients["waiting for a server"] = log_in("small")
        waiting.send(query("SELECT 1"))
        wait_until("it waits", lambda: router.pool("small")["cl_waiting"] == "1")
        for name, database, user in (
            ("proving who it is", "locked", "postgres"),
            ("an administrator who does", "pgcat", ADMIN),
        ):
            clients[name] = begin_login(database, user)
            assert kinds(clients[name].read_until("R")) == "R"
        wait_until("the statement runs", lambda: running(postgres))
        router.signal(signal.SIGQUIT)
        answers = {name: client.read_to_end() for name, client in clients.items()}
    assert {name for name, answer in answers.items() if not told(answer)} == set()
    assert router.process.wait(30) == 0
    wait_until("the statement is cancelled", lambda: not running(postgres))


@pytest.mark.slow
def test_a_transaction_that_outlasts_a_graceful_shutdown_is_told(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    router = start_router({"db": PoolText([primary_of(postgres)])}, "shutdown_timeout = 500")
    with (
        WireClient.login(router.port, "db") as idle,
        WireClient.login(router.port, "db") as busy,
    ):
        idle.query("SELECT 1")
        busy.query("BEGIN")
        router.signal(signal.SIGINT)
        assert told(idle.read_to_end())
        assert busy.value("SELECT 1") == "1"
        assert told(busy.read_to_end())
    assert router.process.wait(30) == 0


@pytest.mark.slow
def test_nothing_is_said_in_the_middle_of_a_message(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    router = start_router({"db": PoolText([primary_of(postgres)])})
    with WireClient.login(router.port, "db", receive_buffer=4096) as client:
        client.send(query(f"SELECT repeat('x', {SIZE})"))
        got = client.sock.recv(1)
        router.signal(signal.SIGQUIT)
        while data := client.sock.recv(1 << 20):
            got += data
    description = 1 + int.from_bytes(got[1:5], "big")
    row = got[description:]
    assert row[:1] == b"D"
    assert set(row[11:]) == {ord("x")}
    assert len(row) < SIZE
