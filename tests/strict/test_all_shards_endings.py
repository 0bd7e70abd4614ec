"""How a transaction on all shards ends: there, and on no shard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.router import wait_until
from tests.support.shards import PROTOCOLS, SHARDS, Shards, ask_all, ask_simply
from tests.support.wire import (
    SYNC,
    WireClient,
    bind,
    cancel,
    execute,
    kinds,
    parse,
    query,
    rows,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.wire import Message

pytestmark = pytest.mark.postgres

ENDINGS: Final = (
    "COMMIT",
    "END",
    "ROLLBACK",
    "PREPARE TRANSACTION 'mine'",
    "SAVEPOINT s_2",
    "RELEASE s_1",
    "ROLLBACK TO s_1",
)


@PROTOCOLS
@pytest.mark.parametrize("is_deferred", [True, False], ids=["deferred", "begun"])
def test_what_was_bound_before_it_was_on_all_shards_is_not_executed_on_one(
    shards: Shards,
    ask: Callable[[WireClient, str], list[Message]],
    is_deferred: bool,
) -> None:
    definition = "CREATE TABLE a (id int)"
    first = ("BEGIN",) if is_deferred else ("BEGIN", "SELECT 1")
    for sql in ENDINGS:
        for portal in ("p", ""):
            with shards.client() as client:
                ask_all(client, ask, *first, "SAVEPOINT s_1")
                bound = client.ask(parse(sql, "mine") + bind(name="mine", portal=portal) + SYNC)
                assert kinds(bound) == "12Z"
                define = parse(definition) + bind(portal="other") + execute("other") + SYNC
                answer = client.ask(query(definition) if ask is ask_simply else define)
                if not sqlstates(answer):
                    answer = client.ask(execute(portal) + SYNC)
                assert sqlstates(answer) == ["0A000"], sql
                assert answer[-1].body == b"E"
                assert sqlstates(client.ask(query("SELECT 1"))) == ["25P02"]
                ask_all(client, ask, "ROLLBACK")
                assert client.value("SELECT 1") == "1"
            assert not any(shards.has("a"))
            assert shards.left() == 0


@pytest.mark.parametrize("shard", range(SHARDS))
def test_who_stops_waiting_when_it_is_being_committed_is_too_late(
    shards: Shards, shard: int
) -> None:
    for database in shards.databases:
        database.execute("CREATE TABLE log (n int)")
        database.execute(
            "CREATE FUNCTION writes() RETURNS text LANGUAGE sql AS "
            "'INSERT INTO log VALUES (1) RETURNING 1'"
        )
    database = shards.databases[shard]
    database.execute(
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'"
    )
    database.execute(
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON log DEFERRABLE INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION waits()"
    )
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with database.server.connect(database.name) as holder, shards.client() as client:
        holder.execute("SELECT pg_advisory_lock(7)")
        ask_all(client, ask_simply, "BEGIN", "CREATE TABLE a (id int)")
        ask_all(client, ask_simply, "SELECT set_config('my.own', writes(), true)")
        client.send(query("COMMIT"))
        wait_until("it waits", lambda: holder.execute(waits).fetchone() == (1,))
        cancel(shards.router.port, client.pid, client.secret)
        holder.execute("SELECT pg_advisory_unlock(7)")
        assert kinds(client.read_until("Z")) == "CZ"
    assert all(shards.has("a"))
    assert shards.left() == 0


def test_explain_route_minds_what_the_transaction_has_changed_before(shards: Shards) -> None:
    explain = "EXPLAIN ROUTE CREATE TABLE a (id int)"
    with shards.client() as client:
        for first, is_possible in (("SELECT 1", True), ("SET LOCAL search_path TO x", False)):
            ask_all(client, ask_simply, "BEGIN", first)
            (told,) = rows(client.ask(query(explain)))
            answer = client.ask(query("CREATE TABLE a (id int)"))
            assert (told[3] == b"all") == is_possible == (not sqlstates(answer))
            assert told[11] == (None if is_possible else b"0A000")
            ask_all(client, ask_simply, "ROLLBACK")
