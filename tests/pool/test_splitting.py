"""Reads and writes between a real primary and its replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.router import PoolText, servers_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

FUNCTIONS = """
CREATE FUNCTION looks() RETURNS bool LANGUAGE sql STABLE AS 'SELECT pg_is_in_recovery()';
CREATE FUNCTION writes() RETURNS bool LANGUAGE sql VOLATILE
 AS 'SELECT pg_is_in_recovery() FROM pg_notify($$x$$, $$y$$)';
CREATE FUNCTION tells() RETURNS bool LANGUAGE plpgsql
 AS 'BEGIN RETURN pg_is_in_recovery(); END';
CREATE FUNCTION calls() RETURNS bool LANGUAGE sql AS 'SELECT tells()';
CREATE FUNCTION dynamic() RETURNS bool LANGUAGE plpgsql
 AS 'DECLARE x bool; BEGIN EXECUTE $$SELECT pg_is_in_recovery()$$ INTO x; RETURN x; END';
"""
SPLITTING = "\nquery_parser_enabled = true\nquery_parser_read_write_splitting = true"


@pytest.fixture
def start_splitting(
    replicated: Shard,
    make_database: Callable[..., Database],
    start_router: Callable[..., RouterProcess],
) -> Callable[[str, str], RouterProcess]:
    """Return a function that starts a router which sends reads to replicas.

    The database `db` is new, and the replicas have what the given SQL makes in it.
    """

    def start(schema: str, options: str) -> RouterProcess:
        database = make_database(replicated.primary)
        database.execute(schema)
        replicated.wait_for_replication()
        servers = [servers_of(replicated)]
        pool = PoolText(servers, database=database.name, options=options + SPLITTING)
        return start_router({"db": pool})

    return start


def is_replica(client: psycopg.Connection[tuple[object, ...]], sql: str) -> bool:
    """Whether a replica answers a statement, which asks it."""
    [(answer,)] = client.execute(sql.encode()).fetchall()
    assert isinstance(answer, bool)
    return answer


def test_functions_that_servers_declare_stable_are_reads(
    start_splitting: Callable[..., RouterProcess],
) -> None:
    router = start_splitting(FUNCTIONS, "learn_functions = true")
    with router.connect("db") as client:
        assert is_replica(client, "SELECT looks()")
        assert not is_replica(client, "SELECT dynamic()")
        client.execute("ALTER FUNCTION dynamic() STABLE")
        wait_until("it is known", lambda: is_replica(client, "SELECT dynamic()"))
        client.execute("ALTER FUNCTION dynamic() VOLATILE")
        assert not is_replica(client, "SELECT dynamic()")
    wait_until("all is known", lambda: router.admin("SHOW ROUTING")[0]["functions"] == "5")


def test_functions_that_only_read_are_found_out_from_their_bodies(
    start_splitting: Callable[..., RouterProcess],
) -> None:
    router = start_splitting(FUNCTIONS, "learn_functions = true")
    with router.connect("db") as client:
        for name in ("tells", "calls"):
            assert is_replica(client, f"SELECT {name}()")
        for name in ("writes", "dynamic"):
            assert not is_replica(client, f"SELECT {name}()")


WRITING = """
CREATE OR REPLACE FUNCTION tells() RETURNS bool LANGUAGE sql
 AS 'SELECT pg_is_in_recovery() FROM pg_notify($$x$$, $$y$$)'
"""
READING = """
CREATE OR REPLACE FUNCTION tells() RETURNS bool LANGUAGE sql AS 'SELECT pg_is_in_recovery()'
"""


def test_another_body_is_known_before_anybody_can_know_of_it(
    replicated: Shard,
    start_splitting: Callable[..., RouterProcess],
) -> None:
    router = start_splitting(FUNCTIONS, "learn_functions = true")
    with router.connect("db") as client, router.connect("db") as other:
        hidden = f"DO $do$ BEGIN EXECUTE $create${WRITING}$create$; END $do$"
        for change in (WRITING, hidden):
            assert is_replica(other, "SELECT calls()")
            assert is_replica(client, "SELECT tells()")
            client.execute(change.encode())
            for _ in range(5):
                assert not is_replica(other, "SELECT calls()")
                assert not is_replica(client, "SELECT tells()")
            client.execute(READING)
            replicated.wait_for_replication()
            wait_until("it is known", lambda: is_replica(other, "SELECT calls()"))
        with client.transaction():
            client.execute(WRITING)
            assert not is_replica(client, "SELECT calls()")
        for _ in range(5):
            assert not is_replica(other, "SELECT calls()")


def test_what_was_written_is_read_from_the_primary_for_a_time(
    start_splitting: Callable[..., RouterProcess],
) -> None:
    options = """
    db_activity_based_routing = true
    db_activity_init_delay = 1
    table_mutation_cache_ms_ttl = 60000
    """
    tables = "CREATE TABLE t (id int); CREATE TABLE u (id int)"
    router = start_splitting(tables, options)
    with router.connect("db") as writer, router.connect("db") as reader:
        read = "SELECT pg_is_in_recovery() FROM (SELECT count(*) FROM {}) x"
        wait_until("the database is in use", lambda: is_replica(reader, read.format("t")))
        with writer.transaction():
            writer.execute("INSERT INTO t VALUES (%s)", (1,))
        assert not is_replica(reader, read.format("t"))
        assert not is_replica(reader, read.format("public.t"))
        assert is_replica(reader, read.format("u"))
