"""What concerns every shard is on all of them or on none, whatever happens meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support.router import HOST, primary_of, wait_until
from tests.support.shards import (
    SHARDS,
    Shards,
    kill_at_each_step,
    make_shards,
    pool_of,
    wired_shards,
)
from tests.support.wire import (
    SYNC,
    Ended,
    WireClient,
    bind,
    cancel,
    describe,
    execute,
    kinds,
    parse,
    query,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

pytestmark = pytest.mark.postgres


def test_a_definition_reaches_all_shards(shards: Shards) -> None:
    with shards.client() as client:
        answer = client.ask(query("CREATE TABLE a (id int); CREATE INDEX a_id ON a (id)"))
        assert kinds(answer) == "CCZ"
        assert shards.has("a_id") == [True] * SHARDS
        answer = client.ask(
            parse("ALTER TABLE items ADD n int"), bind(), describe(), execute(), SYNC
        )
        assert kinds(answer) == "12nCZ"
        for database in shards.databases:
            database.execute("SELECT n FROM items")
        assert kinds(client.ask(query("DROP TABLE IF EXISTS nothing, a"))) == "NCZ"
        assert shards.has("a") == [False] * SHARDS
    assert shards.left() == 0


@pytest.mark.parametrize("shard", range(SHARDS))
def test_what_one_shard_refuses_changes_none(shards: Shards, shard: int) -> None:
    shards.databases[shard].execute("CREATE TABLE a (other text)")
    there = [number == shard for number in range(SHARDS)]
    with shards.client() as client:
        for message in (query("CREATE TABLE a (id int)"),):
            answer = client.ask(message)
            assert kinds(answer) == "EZ"
            assert sqlstates(answer) == ["42P07"]
            detail = answer[0].fields["D"]
            assert detail == (
                f"This was the answer of shard {shard}. Nothing has been changed on any shard."
            )
            assert shards.has("a") == there
        assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


STEPS: Final = (
    *((0, text) for text in (b"BEGIN", b"CREATE TABLE", b"txid_current", b"COMMIT")),
    *((1, text) for text in (b"BEGIN", b"CREATE TABLE", b"txid_current")),
    *((1, text) for text in (b"PREPARE TRANSACTION", b"COMMIT PREPARED")),
    *((2, text) for text in (b"PREPARE TRANSACTION", b"COMMIT PREPARED")),
)


@pytest.fixture
def server(private_primary: Callable[..., Server]) -> Server:
    """A server with prepared transactions."""
    return private_primary(max_prepared_transactions="20")


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_whatever_connection_is_lost_at_any_step_all_shards_have_it_or_none(
    before: bool, server: Server, start_router: Callable[..., RouterProcess]
) -> None:
    with wired_shards(server) as (databases, wires, pool):
        shards = Shards(databases, start_router({"items": pool}))
        with shards.client() as client:
            for number, (shard, text) in enumerate(STEPS):
                wires[shard].set(text, before=before, act=_nothing)
                told = _make(client, number)
                assert wires[shard].has_gone_off, (shard, text)
                wait_until("nothing is left", lambda: not shards.left())
                has = shards.has(f"made_{number}")
                assert len(set(has)) == 1, (shard, text, has)
                if told == "C" or "Nothing has been changed" in told:
                    assert all(has) == (told == "C"), (shard, text)
                else:
                    assert "not known" in told, told
                assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_if_the_router_is_killed_at_any_step_all_shards_have_it_or_none(
    before: bool, server: Server, start_router: Callable[..., RouterProcess]
) -> None:
    kill_at_each_step(STEPS, _make, server, start_router, before=before)


def _make(client: WireClient, number: int) -> str:
    """Make a table; returns "C", an error's detail, or "" if the connection ends."""
    client.send(query(f"CREATE TABLE made_{number} (id int)"))
    try:
        answer = client.read_until("Z")
    except (Ended, OSError):
        return ""
    errors = [message.fields.get("D", "") for message in answer if message.kind == "E"]
    return errors[0] if errors else "C"


def _nothing() -> None:
    """The connection is cut, and that is all."""


@pytest.mark.parametrize("shard", range(SHARDS))
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "cancels"])
def test_who_stops_waiting_for_a_lock_changes_nothing(
    shards: Shards, shard: int, leaves: bool
) -> None:
    name = shards.databases[shard].name
    waits = (
        "SELECT count(*) FROM pg_stat_activity "
        f"WHERE wait_event_type = 'Lock' AND datname = '{name}'"
    )
    with shards.databases[shard].server.connect(name) as holder:
        holder.execute("BEGIN; LOCK TABLE items")
        with shards.client() as client:
            client.send(query("ALTER TABLE items ADD n int; CREATE TABLE a (id int)"))
            wait_until("it waits", lambda: holder.execute(waits).fetchone() == (1,))
            if leaves:
                client.reset()
            else:
                cancel(shards.router.port, client.pid, client.secret)
                assert sqlstates(client.read_until("Z")) == ["57014"]
                assert client.value("SELECT 1") == "1"
        wait_until("it does not wait", lambda: holder.execute(waits).fetchone() == (0,))
        holder.execute("ROLLBACK")
    with shards.client() as client:
        # Whoever needs the same lock comes behind what is left of the other.
        assert kinds(client.ask(query("ALTER TABLE items ADD n int"))) == "CZ"
    assert shards.has("a") == [False] * SHARDS
    assert shards.left() == 0


def test_upkeep_goes_from_shard_to_shard_up_to_the_first_that_refuses(shards: Shards) -> None:
    for database in shards.databases[:2]:
        database.execute("CREATE TABLE a (id int)")
    with shards.client() as client:
        for sql in ("VACUUM items", "ANALYZE", "CREATE INDEX CONCURRENTLY ON items (id)"):
            assert kinds(client.ask(query(sql)))[-2:] == "CZ", sql
        for database in shards.databases:
            [indexes] = database.execute(
                "SELECT count(*) FROM pg_index WHERE indrelid = 'items'::regclass"
            )
            assert indexes == (1,)
        answer = client.ask(query("CREATE INDEX CONCURRENTLY a_id ON a (id)"))
        assert sqlstates(answer) == ["42P01"]
        assert answer[-2].fields["D"] == (
            "This was the answer of shard 2. It is done on the shards 0, 1. "
            "It is not done on the shards 2."
        )
        assert shards.has("a_id") == [True, True, False]
        answer = client.ask(query("VACUUM items; ANALYZE items"))
        assert sqlstates(answer) == ["0A000"]


def test_in_a_transaction_and_on_a_chosen_shard_it_is_no_matter_of_all(shards: Shards) -> None:
    with shards.client() as client:
        for begin in ("BEGIN; SELECT 1", "BEGIN; SELECT * FROM items WHERE id = 1"):
            client.ask(query(begin))
            answer = client.ask(query("ALTER TABLE items ADD n int"))
            assert sqlstates(answer) == ["0A000"]
            assert answer[-1].body == b"E"
            client.ask(query("ROLLBACK"))
        client.ask(query("SET SHARD TO 1"))
        assert kinds(client.ask(query("CREATE TABLE a (id int)"))) == "CZ"
        assert shards.has("a") == [False, True, False]
        client.ask(query("SET SHARD TO DEFAULT"))
        # What is the session's own is where the session is.
        for sql in ("CREATE TEMP TABLE b (id int)", "CREATE INDEX ON b (id)", "DROP TABLE b"):
            assert kinds(client.ask(query(sql))) == "CZ", sql


def test_what_becomes_of_it_is_told_beforehand_and_counted(shards: Shards) -> None:
    with shards.client() as client:
        for sql, how in (
            ("DROP TABLE items", "on all shards, in one transaction"),
            ("VACUUM", "on all shards, on one after the other"),
        ):
            told = client.ask(query(f"EXPLAIN ROUTE {sql}"))
            values = [None if value is None else value.decode() for value in told[1].row]
            assert values[2:6] == ["primary", "all", "every shard", how]
        for before in ("BEGIN", "SELECT 1", "CREATE TABLE b (id int)"):
            client.ask(query(before))
            told = client.ask(query("EXPLAIN ROUTE DROP TABLE items"))
            assert told[1].row[3:5] == [b"all", b"every shard"], before
        told = client.ask(query("EXPLAIN ROUTE SELECT * FROM items WHERE id = 1"))
        assert b"0A000" in told[1].row
        client.ask(query("ROLLBACK"))
        client.ask(query("BEGIN; SELECT 1"))
        assert "0A000" in str(client.ask(query("EXPLAIN ROUTE DROP TABLE items"))[1].body)
        client.ask(query("ROLLBACK"))
        client.ask(query("CREATE TABLE a (id int)"))
        client.ask(query("CREATE TABLE a (id int)"))
    [row] = shards.router.admin("SHOW ROUTING")
    assert row["every_shard"] == "3"
    assert shards.router.admin("SHOW TWO_PHASE") == []


def test_settings_go_along_and_the_next_client_has_none_of_it(shards: Shards) -> None:
    with shards.client() as client:
        client.ask(query("SET search_path TO mine"))
        client.ask(query("CREATE SCHEMA mine; CREATE TABLE a (id int)"))
        assert shards.has("mine.a") == [True] * SHARDS
    with shards.client() as other:
        client_sees = [other.value("SHOW search_path")]
        assert client_sees == ['"$user", public']


def test_who_cannot_get_a_connection_of_each_shard_is_told_so(
    server: Server, start_router: Callable[..., RouterProcess]
) -> None:
    databases = make_shards(server)
    places = [primary_of(server)] * (SHARDS - 1) + [[(HOST, 1, "primary")]]
    shards = Shards(databases, start_router({"items": pool_of(places, databases)}))
    with shards.client() as client:
        answer = client.ask(query("CREATE TABLE a (id int)"))
        assert kinds(answer) == "EZ"
        assert "Nothing has been changed on any shard." in answer[0].fields["D"]
        assert shards.has("a") == [False] * SHARDS


def test_what_another_has_left_prepared_is_ended_as_its_first_shard_says(
    server: Server, start_router: Callable[..., RouterProcess]
) -> None:
    """Two are decided, one is under way, one is none of this pool, and one nobody knows."""
    databases = make_shards(server)
    identity = (
        "SELECT (SELECT system_identifier FROM pg_control_system()), "
        "(SELECT oid FROM pg_database WHERE datname = current_database()), "
        "substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), txid_current()"
    )
    names = []
    for end in ("COMMIT", "ROLLBACK"):
        with server.connect(databases[0].name) as first:
            first.execute("BEGIN")
            parts = first.execute(identity).fetchone()
            assert parts is not None
            first.execute(end)
        names.append("_".join(("pgcat", *map(str, parts), "0", "1")))
    under_way = server.connect(databases[0].name)
    under_way.execute("BEGIN")
    parts = under_way.execute(identity).fetchone()
    assert parts is not None
    names.append("_".join(("pgcat", *map(str, parts), "0", "1")))
    names.append("pgcat_1_1_00000001_1_0_1")
    names.append("somebody_elses")
    for number, name in enumerate(names):
        databases[1].execute(
            f"BEGIN; CREATE TABLE left_{number} (id int); PREPARE TRANSACTION '{name}'"
        )
    router = start_router({"items": pool_of([primary_of(server)] * SHARDS, databases)})
    shards = Shards(databases, router)
    with shards.client():
        wait_until("two are ended", lambda: shards.left() == 3)
        assert [shards.has(f"left_{number}")[1] for number in range(5)] == [True, *[False] * 4]
        rows = wait_until("they are shown", lambda: router.admin("SHOW TWO_PHASE"))
        assert {(row["shard"], row["gid"], row["state"]) for row in rows} == {
            ("1", names[2], "in progress"),
            (
                "1",
                names[3],
                "the deciding shard cannot be reached, or is none of this pool",
            ),
        }
        under_way.execute("COMMIT")
        under_way.close()
        wait_until("it is ended, too", lambda: shards.left() == 2)
        assert shards.has("left_2")[1]


def test_if_one_cannot_be_prepared_nothing_is_left_of_the_others(
    private_primary: Callable[..., Server], start_router: Callable[..., RouterProcess]
) -> None:
    server = private_primary(max_prepared_transactions=str(SHARDS - 2))
    databases = make_shards(server)
    pool = pool_of([primary_of(server)] * SHARDS, databases)
    shards = Shards(databases, start_router({"items": pool}))
    with shards.client() as client:
        answer = client.ask(query("CREATE TABLE a (id int)"))
        assert "maximum number of prepared transactions" in answer[0].fields["M"]
        assert "Nothing has been changed on any shard." in answer[0].fields["D"]
        assert shards.left() == 0
        assert shards.has("a") == [False] * SHARDS


def test_many_at_once_wait_for_each_other_and_not_in_a_circle(shards: Shards) -> None:
    clients = [shards.client() for _ in range(4)]
    for number in range(10):
        for client in clients:
            client.send(query(f"ALTER TABLE items ALTER body SET DEFAULT '{number}'"))
        for client in clients:
            assert kinds(client.read_until("Z")) == "CZ"
    for client in clients:
        client.close()
    defaults = {
        database.execute("SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef")[0][0]
        for database in shards.databases
    }
    assert len(defaults) == 1
