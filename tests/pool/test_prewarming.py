"""Queries on new server connections, before anybody has them."""

from __future__ import annotations

import logging
import socket
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine.loop import Engine
from router.engine.wire import Wire
from router.errors import ServerProtocolError, ServerUnavailable
from router.pool import query
from router.pool.address import Address
from router.pool.address_pool import AddressPool
from router.pool.connect import open_server
from router.pool.query import LoginQueries
from router.protocol import messages
from router.protocol.passwords import UserSecret
from tests.support.harness import Harness, base_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from router.pool.query import QueryResult
    from router.pool.server import ServerConnection
    from router.protocol.variables import Variables
    from tests.support.postgres import Database

ROW = messages.row_description([("x", messages.TEXT_OID)])
DONE = messages.command_complete("SELECT 1")


# --- with a server that is a script


class Peer:
    """The router's end of a connection, and what a server says at the other."""

    def __init__(self, *answers: bytes) -> None:
        ours, self._theirs = socket.socketpair()
        self.wire = Wire(ours, "peer")
        self._theirs.setblocking(False)
        self.cancelled = 0
        self._answers = list(answers)
        for answer in answers[:1]:
            self._theirs.send(answer)

    async def cancel(self) -> None:
        """Take a cancel request: the server goes on with its next answer."""
        self.cancelled += 1
        for answer in self._answers[1:]:
            self._theirs.send(answer)

    def heard(self) -> bytes:
        """What the router has sent."""
        return self._theirs.recv(65536)

    def close(self) -> None:
        """Close both ends."""
        self.wire.close()
        self._theirs.close()

    async def run(self, sql: str = "SELECT x", time_limit: float = 60.0) -> QueryResult:
        """Run a query."""
        return await LoginQueries(self.wire, time_limit=time_limit, cancel=self.cancel).run(sql)


@contextmanager
def peer(*answers: bytes) -> Iterator[Peer]:
    """A peer with what it answers, the first at once and the others after a cancel request."""
    made = Peer(*answers)
    try:
        yield made
    finally:
        made.close()


async def test_rows_come_as_text_with_the_status_and_what_was_reported() -> None:
    rows = messages.data_row(["a", None]) + messages.data_row(["", "b"])
    with peer(
        ROW
        + messages.parameter_status("TimeZone", "UTC")
        + rows
        + DONE
        + messages.ready_for_query(ord("T"))
    ) as server:
        result = await server.run()
        assert server.heard() == messages.query(b"SELECT x")
    assert result.rows == (("a", None), ("", "b"))
    assert result.is_whole
    assert result.error is None
    assert result.status == ord("T")
    assert result.parameters == {"TimeZone": "UTC"}


async def test_an_error_is_a_result() -> None:
    with peer(messages.error_response("no", "42P01") + messages.READY_IDLE) as server:
        result = await server.run()
    assert result.error is not None
    assert (result.error["C"], result.error["M"]) == ("42P01", "no")


async def test_what_is_too_much_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query, "ROWS_LIMIT", 10)
    monkeypatch.setattr(query, "_BODY_LIMIT", 6000)
    row = messages.data_row(["a" * 20])
    with peer(
        ROW + messages.data_row(["b" * 9000]) + row * 3 + DONE + messages.READY_IDLE
    ) as p:
        result = await p.run()
    assert result.rows == (("a" * 20,),)
    assert not result.is_whole


async def test_a_copy_is_refused() -> None:
    with peer(
        messages.message(ord("G"), b"\0\0\0")
        + messages.error_response("COPY failed", "57014")
        + messages.READY_IDLE
    ) as server:
        await server.run("COPY t FROM STDIN")
        assert b"the router has no data to copy" in server.heard()


@pytest.mark.parametrize("cut", [0, 3, 8, 12])
async def test_a_query_that_takes_too_long_is_cancelled_and_followed_by_an_empty_one(
    cut: int,
) -> None:
    answer = messages.data_row(["abc"]) + messages.error_response("canceled", "57014")
    barrier = messages.EMPTY_QUERY_RESPONSE + messages.READY_IDLE
    with peer(answer[:cut], answer[cut:] + messages.READY_IDLE + barrier) as server:
        result = await server.run(time_limit=0.01)
        assert server.cancelled == 1
        assert server.heard().endswith(messages.query(b""))
        assert server.wire.take_input() == b""
    assert result.rows == (("abc",),)
    assert result.error is not None
    assert result.error["C"] == "57014"


async def test_nonsense_is_an_error() -> None:
    with peer(b"D\0\0\0\0") as server:
        with pytest.raises(ServerProtocolError):
            await server.run()


# --- with a real server


class NoConnector:
    """Nobody opens or cancels here."""

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        raise AssertionError

    def listen(self, *_: object) -> None:
        raise AssertionError

    def cancel(self, server: ServerConnection) -> None:
        raise AssertionError


def pool_of(database: Database, *queries: str, **settings: object) -> AddressPool:
    """An address pool in front of a database."""
    server = database.server
    address = Address("db", 0, 0, 0, True, server.host, server.port, database.name)
    chosen = replace(
        base_settings(),
        server_username="postgres",
        prewarmer=queries,
        **settings,  # type: ignore[arg-type]
    )
    return AddressPool(Engine(), address, chosen, UserSecret("postgres", None), NoConnector())


async def opened(pool: AddressPool) -> ServerConnection:
    """Open a connection, and close it again."""
    engine = Engine()
    try:
        server = await open_server(engine, pool)
        assert server.link is not None
        server.link.close()
    finally:
        engine.close()
    return server


@pytest.fixture
def written(fresh_database: Database) -> Callable[[], list[str]]:
    """Return a function that tells what was written to the table `seen`."""
    fresh_database.execute("CREATE TABLE seen (n serial, what text)")
    return lambda: [
        str(what) for (what,) in fresh_database.execute("SELECT what FROM seen ORDER BY n")
    ]


async def test_queries_run_in_their_order_before_the_first_use(
    fresh_database: Database, written: Callable[[], list[str]]
) -> None:
    pool = pool_of(
        fresh_database,
        "INSERT INTO seen (what) VALUES ('one')",
        "SELECT 1; INSERT INTO seen (what) VALUES ('two')",
    )
    await opened(pool)
    assert written() == ["one", "two"]
    assert not pool.complaints


async def test_an_error_is_logged_once_and_the_rest_still_runs(
    fresh_database: Database,
    written: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = pool_of(
        fresh_database, "SELECT 'secret' FROM nowhere", "INSERT INTO seen (what) VALUES ('x')"
    )
    for _ in range(3):
        await opened(pool)
    assert written() == ["x"] * 3
    [line] = [record.getMessage() for record in caplog.records]
    assert 'prewarmer query 1: relation "nowhere" does not exist (42P01)' in line
    assert "secret" not in line


async def test_a_transaction_left_open_is_rolled_back(
    fresh_database: Database,
    written: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = pool_of(
        fresh_database,
        "BEGIN",
        "INSERT INTO seen (what) VALUES ('kept')",
        "COMMIT",
        "BEGIN; INSERT INTO seen (what) VALUES ('lost')",
        "SELECT 1/0",
    )
    server = await opened(pool)
    assert server.is_clean
    assert written() == ["kept"]
    assert "left a transaction open" in caplog.text


async def test_what_it_sets_is_what_the_connection_begins_with(
    fresh_database: Database,
) -> None:
    pool = pool_of(fresh_database, "SET TimeZone = 'Asia/Tokyo'", "SET work_mem = '8MB'")
    server = await opened(pool)
    assert server.baseline["TimeZone"] == "Asia/Tokyo"


async def test_a_query_that_takes_too_long_does_not_cost_the_connection(
    fresh_database: Database,
    written: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pool = pool_of(
        fresh_database,
        "SELECT pg_sleep(60)",
        "INSERT INTO seen (what) VALUES ('after')",
        connect_timeout=0.2,
    )
    with trio.fail_after(30):
        await opened(pool)
    assert written() == ["after"]
    assert "prewarmer query 1: canceling statement due to user request (57014)" in caplog.text


async def test_queries_that_no_login_has_time_for_are_skipped(
    fresh_database: Database,
    written: Callable[[], list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    pool = pool_of(
        fresh_database,
        "INSERT INTO seen (what) VALUES ('never')",
        connect_timeout=5.0,
        server_login_timeout=9.0,
    )
    await opened(pool)
    assert written() == []
    assert "skipped" in caplog.text


async def test_a_server_that_dies_meanwhile_is_unavailable(fresh_database: Database) -> None:
    pool = pool_of(fresh_database, "SELECT pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(ServerUnavailable):
        await opened(pool)


def test_new_settings_are_complained_of_anew() -> None:
    harness = Harness()
    assert harness.pool is not None
    harness.part.complaints.add("x")
    harness.pool.reconfigure(base_settings())
    assert not harness.part.complaints
