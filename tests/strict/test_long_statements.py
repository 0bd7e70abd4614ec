"""Statements that are too long to be kept, and so are on one server only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import wire
from tests.support.router import wait_until
from tests.support.wire import WireClient, kinds, rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

SYNC: Final = wire.message("S")
LONG: Final = "SELECT $1::int + 1" + " " * 300_000
SHORT: Final = "SELECT $1::int + 1"


@pytest.fixture(scope="module")
def router(pool_for: PoolFor, module_router: ModuleRouter) -> RouterProcess:
    """A router with two connections to the database."""
    return module_router({"db": pool_for(size=2)})


@pytest.fixture
def client(router: RouterProcess) -> Iterator[WireClient]:
    """A client of it."""
    with WireClient.login(router.port, "db") as client:
        yield client


@pytest.fixture
def others(router: RouterProcess, client: WireClient) -> Iterator[list[WireClient]]:
    """Two more, with unnamed statements of their own."""
    with (
        WireClient.login(router.port, "db") as one,
        WireClient.login(router.port, "db") as other,
    ):
        yield [one, other]


def disturb(others: list[WireClient]) -> None:
    """Have others use whatever connections are free."""
    for other in others:
        other.ask(wire.run("SELECT 'of another' || $1", b"x"), SYNC)
        other.query("SELECT 1")


def bound(value: bytes) -> bytes:
    """Bind the unnamed statement and execute it."""
    return wire.bind(value) + wire.execute() + SYNC


def is_held(router: RouterProcess) -> bool:
    """Whether a client has a server."""
    return router.pool("db")["cl_active"] != "0"


@pytest.mark.parametrize("sql", [LONG, SHORT], ids=["long", "short"])
def test_the_unnamed_statement_lasts_into_later_batches(
    client: WireClient, others: list[WireClient], sql: str
) -> None:
    assert kinds(client.ask(wire.parse(sql), SYNC)) == "1Z"
    disturb(others)
    assert kinds(client.ask(wire.describe("S"), SYNC)) == "tTZ"
    disturb(others)
    for value in (b"1", b"2"):
        assert rows(client.ask(bound(value))) == [[b"%d" % (int(value) + 1)]]
        disturb(others)


@pytest.mark.parametrize(
    "after",
    [
        wire.query("SELECT 1"),
        wire.run("SELECT 1") + SYNC,
        wire.parse(SHORT) + SYNC,
        wire.close("S") + SYNC,
        wire.query("nonsense"),
    ],
    ids=["query", "batch", "parse", "close", "error"],
)
def test_what_replaces_it_gives_the_server_back(
    router: RouterProcess, client: WireClient, after: bytes
) -> None:
    client.ask(wire.parse(LONG), SYNC)
    assert is_held(router)
    client.ask(after)
    wait_until("the server is given back", lambda: not is_held(router))


def test_what_is_parsed_and_bound_in_one_batch_keeps_no_server(
    router: RouterProcess, client: WireClient
) -> None:
    assert rows(client.ask(wire.parse(LONG), bound(b"1"))) == [[b"2"]]
    wait_until("the server is given back", lambda: not is_held(router))


def test_what_cannot_be_parsed_keeps_no_server(
    router: RouterProcess, client: WireClient
) -> None:
    assert kinds(client.ask(wire.parse("nonsense" + LONG), SYNC)) == "EZ"
    wait_until("the server is given back", lambda: not is_held(router))
    assert kinds(client.ask(wire.parse("nonsense"), wire.parse(LONG), SYNC)) == "EZ"
    wait_until("the server is given back", lambda: not is_held(router))


def test_what_its_transaction_has_left_is_found_afterwards(
    database: Database, router: RouterProcess, client: WireClient, others: list[WireClient]
) -> None:
    client.query("BEGIN")
    client.query("SET application_name TO 'long'")
    client.ask(wire.parse(LONG), SYNC)
    client.ask(wire.parse(LONG) + SYNC)
    client.ask(wire.bind() + SYNC)  # fails: too few values
    client.query("ROLLBACK")
    client.query("SET application_name TO 'long'")
    client.ask(wire.parse(LONG), SYNC)
    assert rows(client.ask(bound(b"1"))) == [[b"2"]]
    assert client.value("SHOW application_name") == "long"
    disturb(others)
    assert client.value("SHOW application_name") == "long"
    for other in others:
        assert other.value("SHOW application_name") != "long"
