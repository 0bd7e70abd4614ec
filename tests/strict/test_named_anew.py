"""What is prepared by name after a change of the schema is analysed after it, not before."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.strict.test_schema_changes import masked
from tests.support.wire import SYNC, WireClient, bind, close, describe, execute, parse, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

    Way = Callable[[WireClient, tuple[str, ...]], list[Message]]

TEXT = "SELECT * FROM things"
BEFORE = (
    "DROP SCHEMA IF EXISTS other CASCADE; DROP TABLE IF EXISTS things, kept; "
    "CREATE TABLE things (id int); INSERT INTO things VALUES (1); CREATE SCHEMA other; "
    "CREATE TABLE other.things (w date); INSERT INTO other.things VALUES ('2020-01-01')"
)
USE = bind(name="s") + describe() + execute()
# What is sent in a transaction; between them others use the same text.
CHANGES = {
    "another table": (
        "DROP TABLE things",
        "CREATE TABLE things AS SELECT 'x'::text AS v, 2 AS n",
    ),
    "a column": ("ALTER TABLE things ADD COLUMN extra text DEFAULT 'y'",),
    "a temporary table": ("CREATE TEMP TABLE things ON COMMIT DROP AS SELECT 'mine' AS v",),
    "a search_path": ("SET LOCAL search_path = other",),
    "a search_path of the session": ("SET search_path = other",),
    "a search_path by set_config": ("SELECT set_config('search_path', 'other', true)",),
    "a block": ("DO $$ BEGIN ALTER TABLE things ADD COLUMN extra int DEFAULT 5; END $$",),
    "another type": ("ALTER TABLE things ALTER id TYPE text",),
    "a change that is taken back": (
        "SAVEPOINT a",
        "ALTER TABLE things ADD COLUMN extra int",
        "ROLLBACK TO a",
    ),
}


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One with a pool of two servers."""
    return module_router({"two": pool_for(size=2)})


@contextmanager
def prepared(database: Database, port: int, name: str) -> Iterator[WireClient]:
    """A client, where others have used the text."""
    with WireClient.login(database.port, database.name) as outsider:
        outsider.query(BEFORE)
    with WireClient.login(port, name) as other:
        for _ in range(2):
            other.ask(parse(TEXT, "theirs") + bind(name="theirs") + execute() + SYNC)
            other.ask(close("S", "theirs") + SYNC)
    with WireClient.login(port, name) as client:
        yield client


def one_by_one(client: WireClient, changes: tuple[str, ...]) -> list[Message]:
    """Each is answered before the next is sent."""
    found = client.ask(query("BEGIN"))
    for change in changes:
        found += client.ask(query(change))
    found += client.ask(parse(TEXT, "s") + USE + SYNC)
    found += client.ask(close("S", "s") + parse(TEXT, "s") + USE + SYNC)
    return found + client.ask(query("ROLLBACK")) + client.ask(parse(TEXT, "t") + SYNC)


def extended(client: WireClient, changes: tuple[str, ...]) -> list[Message]:
    """The same by the extended protocol."""
    found: list[Message] = []
    for change in ("BEGIN", *changes):
        found += client.ask(parse(change) + bind() + execute() + SYNC)
    found += client.ask(parse(TEXT, "s") + USE + SYNC)
    return found + client.ask(query("COMMIT"))


def at_once(client: WireClient, changes: tuple[str, ...]) -> list[Message]:
    """All of it in one batch, before anything is answered."""
    texts = ("BEGIN", *changes)
    data = b"".join(parse(text) + bind() + execute() for text in texts)
    return client.ask(data + parse(TEXT, "s") + USE + SYNC) + client.ask(query("ROLLBACK"))


def pipelined(client: WireClient, changes: tuple[str, ...]) -> list[Message]:
    """A Sync after each, before anything is answered."""
    data = b"".join(query(change) for change in ("BEGIN", *changes))
    data += parse(TEXT, "s") + USE + SYNC + query("ROLLBACK")
    return client.ask(data, until="Z" * (len(changes) + 3))


@pytest.mark.parametrize("way", [one_by_one, extended, at_once, pipelined])
@pytest.mark.parametrize("name", CHANGES)
def test_a_statement_means_what_it_would_mean_to_postgresql(
    database: Database, router: RouterProcess, name: str, way: Way
) -> None:
    with prepared(database, database.port, database.name) as client:
        directly = [masked(each) for each in way(client, CHANGES[name])]
    with prepared(database, router.port, "two") as client:
        assert [masked(each) for each in way(client, CHANGES[name])] == directly


def test_a_pinned_client_means_its_own_table(database: Database, router: RouterProcess) -> None:
    with prepared(database, router.port, "two") as client:
        client.query("CREATE TEMP TABLE things AS SELECT 'mine' AS v")
        found = client.ask(parse(TEXT, "s") + USE + SYNC)
        assert [each.row for each in found if each.kind == "D"] == [[b"mine"]]
        with WireClient.login(router.port, "two") as other:
            found = other.ask(parse(TEXT, "s") + USE + SYNC)
            assert [each.row for each in found if each.kind == "D"] == [[b"1"]]
        client.query("DROP TABLE things")
        found = client.ask(parse(TEXT, "again") + bind(name="again") + execute() + SYNC)
        assert [each.row for each in found if each.kind == "D"] == [[b"1"]]


def test_psycopg_prepares_anew_after_a_change(
    database: Database, router: RouterProcess
) -> None:
    with prepared(database, router.port, "two"):
        pass
    for _ in range(3):
        with router.connect("two") as client, client.transaction(force_rollback=True):
            assert client.execute(TEXT, prepare=True).fetchall() == [(1,)]
            client.execute("DROP TABLE things")
            client.execute("CREATE TABLE things AS SELECT 'x' AS v, 2 AS n")
            client.execute("DEALLOCATE ALL")
            assert client.execute(TEXT, prepare=True).fetchall() == [("x", 2)]
            assert client.execute(TEXT, prepare=True).fetchall() == [("x", 2)]
        with router.connect("two") as other:
            assert other.execute(TEXT, prepare=True).fetchall() == [(1,)]
    with router.connect("two") as client:
        client.execute("DROP TABLE things")
        with pytest.raises(psycopg.errors.UndefinedTable):
            client.execute(TEXT, prepare=True)
