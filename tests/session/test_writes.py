"""Reads that must see what was written a moment ago, by whichever client."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.pool.database import Database
from router.pool.pool import Pool
from router.routing.activity import Activity
from router.routing.router import QueryRouter
from router.routing.types import RouterOptions
from tests.support.harness import FakeClient, Harness, base_settings
from tests.support.wire import SYNC, bind, execute, parse, query

TTL = 0.05
SPLITTING = RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)


class Watched(Harness):
    """A primary and a replica, whose router goes by what was written lately."""

    def __init__(self, **settings: object) -> None:
        servers = ((True, False),)
        super().__init__(servers=servers, options=SPLITTING, **settings)
        old = self.pool
        assert old is not None
        self.activity = Activity(
            lambda: self.engine.now, init_delay=0.0, ttl=900.0, table_ttl=TTL
        )
        addresses = [[part.address for part in shard] for shard in old.shards]
        router = QueryRouter(SPLITTING, self.activity)
        self.pool = Pool(self.engine, "app", "ann", addresses, old.settings, router, self)
        self.pool.readiness.parameters = old.parameters

    def reads_from(self, client: FakeClient, sql: str = "SELECT * FROM t") -> str:
        """Run a read; returns the role of the server that it went to."""
        before = {server: len(server.model.log) for server in self.servers}
        self.ask(client, query(sql))
        [found] = [
            server.connection.pool.address.role
            for server in self.servers
            if sql in server.model.log[before.get(server, 0) :]
        ]
        return found


def run(sql: str) -> bytes:
    """Prepare and execute a statement, all but the Sync."""
    return parse(sql) + bind() + execute()


@pytest.mark.parametrize("write", [query("DELETE FROM t"), run("DELETE FROM t") + SYNC])
def test_a_write_of_one_client_keeps_the_reads_of_all_at_the_primary(write: bytes) -> None:
    harness = Watched()
    writer, reader = harness.connect(), harness.connect()
    assert harness.reads_from(reader) == "replica"
    harness.ask(writer, write)
    assert harness.reads_from(reader) == "primary"
    assert harness.reads_from(writer) == "primary"
    assert harness.reads_from(reader, "SELECT * FROM u") == "replica"
    harness.engine.advance(TTL)
    assert harness.reads_from(reader) == "replica"


def test_prepared_reads_are_kept_there_too() -> None:
    harness = Watched()
    client = harness.connect()
    harness.ask(client, parse("SELECT * FROM t", "s") + SYNC)

    def execute_it() -> None:
        harness.ask(client, bind(name="s") + execute() + SYNC)

    execute_it()
    [replica] = [s for s in harness.servers if not s.connection.pool.address.is_primary]
    assert replica.model.log.count("SELECT * FROM t") == 1
    harness.ask(client, query("DELETE FROM t"))
    execute_it()
    assert replica.model.log.count("SELECT * FROM t") == 1
    harness.engine.advance(TTL)
    execute_it()
    assert replica.model.log.count("SELECT * FROM t") == 2


@pytest.mark.parametrize("write", [query("DELETE FROM t"), run("DELETE FROM t") + SYNC])
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_the_time_begins_again_when_the_transaction_ends(write: bytes, end: str) -> None:
    harness = Watched()
    writer, reader = harness.connect(), harness.connect()
    harness.ask(writer, query("BEGIN"))
    assert harness.reads_from(reader) == "replica"
    harness.ask(writer, write)
    assert harness.reads_from(reader) == "primary"
    harness.engine.advance(TTL)
    assert harness.reads_from(reader) == "replica", "nobody can see it yet"
    harness.ask(writer, query(end))
    assert harness.reads_from(reader) == "primary"
    harness.engine.advance(TTL)
    harness.ask(writer, query("BEGIN"))
    harness.ask(writer, query("COMMIT"))
    assert harness.reads_from(reader) == "replica", "that transaction has written nothing"


def test_a_statement_that_takes_long_counts_from_its_end() -> None:
    harness = Watched()
    writer, reader = harness.connect(), harness.connect()
    harness.ask(writer, query("COPY t FROM STDIN"))
    harness.engine.advance(10 * TTL)
    assert harness.reads_from(reader) == "replica"
    harness.ask(writer, b"c\0\0\0\4")
    assert harness.reads_from(reader) == "primary"


@pytest.mark.parametrize(
    "write",
    [
        query("CALL p()"),
        run("CALL p()") + SYNC,
        b"F\0\0\0\x0e\0\0\0\1\0\0\0\0\0\0",
    ],
)
def test_a_write_that_nobody_understands_keeps_all_reads_at_the_primary(write: bytes) -> None:
    harness = Watched()
    writer, reader = harness.connect(), harness.connect()
    harness.ask(writer, write)
    assert harness.reads_from(reader, "SELECT * FROM u") == "primary"
    harness.engine.advance(TTL)
    assert harness.reads_from(reader, "SELECT * FROM u") == "replica"


@pytest.mark.parametrize("kind", ["query", "bind"])
def test_what_is_too_long_to_hold_counts_as_a_write(kind: str) -> None:
    harness = Watched()
    writer, reader = harness.connect(), harness.connect()
    text = "x" * 300_000
    if kind == "query":
        message = query(f"SELECT 1 /*{text}*/")
    else:
        harness.ask(writer, parse("SELECT $1", "s") + SYNC)
        message = bind(text.encode(), name="s") + execute() + SYNC
    harness.ask(writer, message[:1000])
    harness.ask(writer, message[1000:])
    assert harness.reads_from(reader) == "primary"


def test_commands_that_write_nothing_change_nothing() -> None:
    harness = Watched()
    client = harness.connect()
    harness.ask(client, query("SET TimeZone TO 'UTC'"))
    harness.ask(client, parse("DEALLOCATE ALL") + bind() + execute() + SYNC)
    assert harness.reads_from(client) == "replica"


def test_without_the_option_nothing_is_watched() -> None:
    harness = Harness(servers=((True, False),), options=SPLITTING)
    assert harness.connect().session.lease.writes is None


# --- the pools of a database


def test_users_of_a_database_share_its_activity_until_its_times_change() -> None:
    database = Database("app")
    off = base_settings()
    on = replace(off, db_activity_based_routing=True)
    first = database.activity_for(on, lambda: 0.0)
    assert first is not None
    assert database.activity_for(on, lambda: 0.0) is first
    assert database.activity_for(replace(on, db_activity_ttl=1.0), lambda: 0.0) is not first
    assert database.activity_for(off, lambda: 0.0) is None
