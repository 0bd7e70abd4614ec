"""A BEGIN that gets no server: what was sent behind it is not run without a transaction."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

import pytest

from tests.strict.test_session_state import masked
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    WireClient,
    bind,
    cancel,
    copy_data,
    describe,
    execute,
    kinds,
    parse,
    query,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

pytestmark = pytest.mark.postgres

POOLS: Final = ("plain", "deferring", "sharing")


def batch(*parts: bytes) -> bytes:
    return b"".join(parts) + SYNC


# Each fails with one error, and is answered with one ReadyForQuery.
OPENINGS: Final = {
    "BEGIN": query("BEGIN"),
    "START TRANSACTION": query("start transaction isolation level serializable"),
    "with blanks": query("\n ;begin work ;"),
    "with a tag": query("/*action='pay'*/ BEGIN"),
    "with more": query("BEGIN; INSERT INTO t VALUES (1, 'first')"),
    "and its end": query("BEGIN; INSERT INTO t VALUES (1, 'first'); COMMIT"),
    "extended": batch(run("BEGIN")),
    "extended, in pieces": parse("BEGIN") + FLUSH + bind() + FLUSH + batch(execute()),
    "named": batch(parse("BEGIN", "s"), bind(name="s"), execute()),
    "first of a batch": batch(run("BEGIN"), run("INSERT INTO t VALUES (1, 'first')")),
    "last of a batch": batch(run("INSERT INTO t VALUES (1, 'first')"), run("BEGIN")),
    "long": query(f"BEGIN; INSERT INTO t VALUES (1, '{'x' * 300_000}')"),
}
# What a failed transaction refuses, up to one ReadyForQuery each.
BELONGS: Final = (
    query("INSERT INTO t VALUES (2, 'second')"),
    batch(run("INSERT INTO t VALUES (3, 'third')")),
    batch(parse("INSERT INTO t VALUES ($1, $2)"), bind(b"4", b"fourth"), describe(), execute()),
    query("SELECT 1"),
    query("SAVEPOINT sp"),
    query("COPY t FROM STDIN") + copy_data(b"5\tfifth\n") + COPY_DONE,
    query("SET application_name = 'changed'"),
    query("SELECT nothing FROM nowhere; COMMIT"),
)
ENDS: Final = {
    "COMMIT": query("COMMIT"),
    "ROLLBACK": query("rollback"),
    "END": batch(run("END")),
    "AND CHAIN": query("ROLLBACK AND CHAIN") + query("COMMIT"),
}


FIRSTS: Final = {
    "BEGIN": OPENINGS["BEGIN"],
    "extended": OPENINGS["extended"],
    "known": batch(bind(name="known"), execute()),
    "known, described": batch(bind(name="known"), describe(), execute()),
}


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """With pools of one server each."""
    patience = "query_wait_timeout = 100"
    return module_router(
        {
            "plain": pool_for(options=f"deferred_begin = false\n{patience}"),
            "deferring": pool_for(options=f"deferred_begin = true\n{patience}"),
            "sharing": pool_for(options=f'multiplexing = "reads"\n{patience}'),
            "patient": pool_for(options="deferred_begin = false"),
        }
    )


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest, router: RouterProcess) -> Iterator[str]:
    """The name of a pool whose server somebody else has."""
    with holder(router, request.param):
        yield request.param


def holder(router: RouterProcess, pool: str) -> WireClient:
    """Somebody who keeps the only server of a pool busy."""
    client = WireClient.login(router.port, pool)
    client.ask(query("BEGIN") + query("SELECT txid_current()"), until="ZZ")
    return client


def ready(message: bytes) -> int:
    """How many ReadyForQuery a request asks for."""
    pos = found = 0
    while pos < len(message):
        found += message[pos : pos + 1] in (b"Q", b"S")
        pos += 1 + int.from_bytes(message[pos + 1 : pos + 5], "big")
    return found


def told(messages: list[Message]) -> list[object]:
    """What matters of messages."""
    return [masked(each) for each in messages]


@pytest.fixture(scope="module")
def expected(database: Database) -> dict[str, list[object]]:
    """What PostgreSQL says to all that follows, in a transaction that has failed."""
    found = {}
    for name, end in ENDS.items():
        with WireClient.login(database.server.port, database.name) as direct:
            direct.ask(query("BEGIN; SELECT 1/0"))
            rest = b"".join(BELONGS) + end
            found[name] = told(direct.ask(rest, until="Z" * ready(rest)))
    return found


@pytest.mark.parametrize("opening", OPENINGS)
def test_nothing_of_its_transaction_is_run(
    opening: str,
    pool: str,
    router: RouterProcess,
    database: Database,
    expected: dict[str, list[object]],
) -> None:
    first = OPENINGS[opening]
    for name, end in ENDS.items():
        with WireClient.login(router.port, pool) as client:
            client.send(first + b"".join(BELONGS) + end)
            replies = client.read_until("Z")
            if pool == "deferring" and sqlstates(replies) == []:
                continue  # it is answered without a server, and has not failed
            assert (sqlstates(replies), replies[-1].body) == (["53300"], b"E")
            rest = client.read_until("Z" * ready(b"".join(BELONGS) + end))
            assert told(rest) == expected[name]
            assert rest[-1].body == b"I"
    assert database.execute("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    ("first", "second"), list(itertools.product(FIRSTS, ("COMMIT", "END")))
)
def test_nor_if_it_is_canceled(
    first: str, second: str, router: RouterProcess, database: Database
) -> None:
    with WireClient.login(router.port, "patient") as client, ExitStack() as stack:
        client.ask(batch(parse("BEGIN", "known")))
        other = stack.enter_context(holder(router, "patient"))
        client.send(FIRSTS[first])
        client.wait_consumed()
        cancel(router.port, client.pid, client.secret)
        replies = client.read_until("Z")
        assert (kinds(replies), sqlstates(replies)) == ("EZ", ["57014"])
        assert replies[-1].body == b"E"
        other.ask(query("ROLLBACK"))
        copy = query("COPY t FROM STDIN") + copy_data(b"5\tfifth\n") + COPY_DONE
        assert sqlstates(client.ask(copy)) == ["25P02"]
        end = client.ask(ENDS[second])
        assert [each.body for each in end if each.kind == "C"] == [b"ROLLBACK\0"]
        assert end[-1].body == b"I"
        # And all is as before.
        assert client.query("SELECT count(*) FROM t") == [[b"0"]]


def test_what_begins_no_transaction_fails_alone(router: RouterProcess) -> None:
    with holder(router, "plain"), WireClient.login(router.port, "plain") as client:
        for request in (query("SELECT 1"), batch(run("SELECT 1")), query("COMMIT")):
            replies = client.ask(request)
            assert (sqlstates(replies), replies[-1].body) == (["53300"], b"I")
