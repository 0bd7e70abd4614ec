"""What is learned from servers, and when it is not believed any more."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from psycopg import errors

from router.pool.address import Address
from router.pool.catalogue import Catalogue, Wanted
from router.pool.database import Database
from router.pool.pool import Pool
from router.protocol import marks, messages
from router.protocol.segments import ReplySink, Segment
from router.routing.bodies import Body
from router.routing.columns import KeyColumn
from router.routing.derived import PLAIN, Relation
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import Role, RouterOptions
from tests.support.harness import FakeServer, Harness, base_settings
from tests.support.router import PoolText, servers_of, wait_until

from .builders import wait

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from router.routing.learned import Bodies
    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import Database as RealDatabase
    from tests.support.router import RouterProcess

EVENTS = Wanted((KeyColumn("events", "id"),))
KEYED = RouterOptions(
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    shard_count=2,
    automatic_sharding_key="events.id",
)


def reads(names: str) -> dict[str, Bodies]:
    """Functions that are declared to only read."""
    return dict.fromkeys(names.split(), frozenset())


class Member:
    """A pool, as the catalogue sees it."""

    def __init__(self) -> None:
        self.retired = False
        self.changing = False
        self.columns: Mapping[str, tuple[str, ...]] | None = None
        self.functions: Mapping[str, Bodies] | None = None
        self.relations: frozenset[Relation] = frozenset()

    def learn_relations(self, relations: frozenset[Relation]) -> None:
        self.relations = relations

    def learn(
        self, columns: Mapping[str, tuple[str, ...]], functions: Mapping[str, Bodies]
    ) -> None:
        self.columns, self.functions = columns, functions

    def is_changing(self, shard: int) -> bool:
        return self.changing


def server(shard: int, *, is_primary: bool = True) -> Address:
    """A server of a shard."""
    return Address("app", shard, 0, 0, is_primary, "host", 5432, "app")


SHARDS = [[server(number), server(number, is_primary=False)] for number in range(2)]


def joined() -> tuple[Catalogue, Member]:
    """A catalogue of two shards with one member."""
    catalogue, member = Catalogue("app", SHARDS, EVENTS), Member()
    catalogue.join(member)
    return catalogue, member


def tell(
    catalogue: Catalogue,
    shard: int = 0,
    columns: str = "",
    functions: str = "",
    *,
    is_whole: bool = True,
    is_primary: bool = True,
) -> None:
    """Let a server answer with `schema.table.column ..` and names of functions."""
    rows: list[tuple[str | None, ...]] = [("c", *name.split(".")) for name in columns.split()]
    rows += [("f", name) for name in functions.split()]
    catalogue.take(server(shard, is_primary=is_primary), rows, is_whole=is_whole)


ORDER = "public.events.id public.events.kind"
OTHER_ORDER = "public.events.kind public.events.id"


def test_columns_are_known_in_their_order_with_and_without_the_schema() -> None:
    catalogue, member = joined()
    assert member.columns == {}
    tell(catalogue, 0, ORDER)
    assert member.columns == {"events": ("id", "kind"), "public.events": ("id", "kind")}


def test_whoever_joins_late_is_told() -> None:
    catalogue, _ = joined()
    tell(catalogue, 0, ORDER, "f")
    member = Member()
    catalogue.join(member)
    assert "events" in (member.columns or {})
    assert member.functions == reads("f")


def test_who_is_retired_is_not_told() -> None:
    catalogue, member = joined()
    member.retired = True
    tell(catalogue, 0, ORDER)
    assert member.columns == {}


def test_tables_of_one_name_that_differ_are_known_with_their_schema_only() -> None:
    catalogue, member = joined()
    tell(catalogue, 0, f"{ORDER} app.events.kind app.events.id old.events.id old.events.kind")
    assert set(member.columns or {}) == {"public.events", "app.events", "old.events"}


def test_tables_of_one_name_that_are_alike_are_known_by_it() -> None:
    catalogue, member = joined()
    tell(catalogue, 0, f"{ORDER} app.events.id app.events.kind")
    assert (member.columns or {})["events"] == ("id", "kind")


def test_what_shards_contradict_each_other_about_is_unknown() -> None:
    catalogue, member = joined()
    tell(catalogue, 0, ORDER, "f g")
    tell(catalogue, 1, OTHER_ORDER, "g h")
    assert member.columns == {}
    assert member.functions == reads("g")
    tell(catalogue, 0, OTHER_ORDER, "g")
    assert (member.columns or {})["events"] == ("kind", "id")


def test_a_new_function_leaves_tables_known() -> None:
    catalogue, member = joined()
    for shard in (0, 1):
        tell(catalogue, shard, ORDER, "f")
    catalogue.forget_functions(0)
    assert member.functions == {}
    assert "events" in (member.columns or {})
    assert catalogue.is_due(server(0))
    assert not catalogue.is_due(server(1))
    tell(catalogue, 0, ORDER, "f")
    assert member.functions == reads("f")


def test_a_function_must_read_on_all_shards() -> None:
    catalogue, member = joined()
    rows: list[tuple[str | None, ...]] = [("b", "f", "sql", "SELECT 1"), ("f", "g")]
    rows += [("b", "f", "plpgsql", "BEGIN END")]
    catalogue.take(server(0), rows, is_whole=True)
    tell(catalogue, 1, "", "f")
    bodies = frozenset((Body("sql", "SELECT 1"), Body("plpgsql", "BEGIN END")))
    assert member.functions == {"f": bodies}
    catalogue.take(server(1), [("b", "f", "sql", "x"), ("b", "h", "sql", "x")], is_whole=True)
    assert member.functions is not None
    assert set(member.functions) == {"f"}
    assert len(member.functions["f"]) == 3


def test_a_table_that_one_shard_lacks_is_known_by_the_others() -> None:
    catalogue, member = joined()
    tell(catalogue, 0, ORDER)
    tell(catalogue, 1, "")
    assert "events" in (member.columns or {})


def test_each_shard_is_asked_once_and_again_after_a_reload() -> None:
    catalogue, _ = joined()
    assert catalogue.is_due(server(0))
    assert catalogue.is_due(server(1))
    tell(catalogue, 0, ORDER)
    assert not catalogue.is_due(server(0))
    assert catalogue.is_due(server(1))
    catalogue.refresh()
    assert catalogue.is_due(server(0))


def test_the_first_connection_of_all_asks_again() -> None:
    catalogue, _ = joined()
    tell(catalogue, 0, ORDER)
    assert catalogue.is_due(server(0), is_first=True)
    assert not catalogue.is_due(server(0, is_primary=False), is_first=True)


def test_a_replica_is_believed_until_the_primary_has_told() -> None:
    catalogue, member = joined()
    assert catalogue.is_due(server(0, is_primary=False))
    tell(catalogue, 0, ORDER, is_primary=False)
    assert "events" in (member.columns or {})
    assert catalogue.is_due(server(0))
    tell(catalogue, 0, OTHER_ORDER)
    tell(catalogue, 0, ORDER, is_primary=False)
    catalogue.fail(server(0, is_primary=False), "in recovery")
    assert (member.columns or {})["events"] == ("kind", "id")
    catalogue.forget(0)
    tell(catalogue, 0, ORDER, is_primary=False)
    assert member.columns == {}


def test_replicas_without_a_primary_are_believed() -> None:
    replica = server(0, is_primary=False)
    catalogue, member = Catalogue("app", [[replica]], EVENTS), Member()
    catalogue.join(member)
    for order in (ORDER, OTHER_ORDER):
        tell(catalogue, 0, order, is_primary=False)
    assert (member.columns or {})["events"] == ("kind", "id")
    catalogue.refresh()
    assert catalogue.is_due(replica)


def test_nothing_is_known_while_a_schema_changes() -> None:
    catalogue, member = joined()
    tell(catalogue, 0, ORDER, "f")
    tell(catalogue, 1, ORDER, "f")
    catalogue.forget(1)
    assert catalogue.is_due(server(1))
    assert (member.columns, member.functions) == ({}, {})
    tell(catalogue, 0, ORDER, "f")
    assert member.columns == {}, "the other shard is still to tell"
    member.changing = True
    tell(catalogue, 1, ORDER, "f")
    assert member.columns == {}, "that may have been read before the change"
    assert catalogue.is_due(server(1))
    member.changing = False
    tell(catalogue, 1, ORDER, "f")
    assert "events" in (member.columns or {})


def test_what_cannot_be_read_is_unknown_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    catalogue, member = joined()
    tell(catalogue, 0, ORDER)
    for _ in range(3):
        catalogue.fail(server(0), "permission denied")
    assert member.columns == {}
    assert not catalogue.is_due(server(0))
    tell(catalogue, 1, ORDER, is_whole=False)
    assert member.columns == {}
    assert [record.getMessage() for record in caplog.records] == [
        "[app] cannot read the catalogue of shard 0: permission denied",
        "[app] cannot read the catalogue of shard 1: there are too many columns or functions",
    ]


# --- the pools of a database


def addresses(port: int = 5432) -> Sequence[Sequence[Address]]:
    """Two shards."""
    return [[Address("app", n, 0, 0, True, "host", port, "app")] for n in range(2)]


def test_users_of_a_database_share_what_is_known() -> None:
    database, settings = Database("app"), base_settings()
    router = QueryRouter(KEYED)
    first = database.catalogue_for(addresses(), router, settings)
    assert first is not None
    assert database.catalogue_for(addresses(), router, settings) is first


def test_a_pool_that_wants_something_else_begins_with_what_is_known() -> None:
    database, settings = Database("app"), base_settings()
    first = database.catalogue_for(addresses(), QueryRouter(KEYED), settings)
    assert first is not None
    tell(first, 0, ORDER)
    options = RouterOptions(
        query_parser_enabled=True, shard_count=2, automatic_sharding_key=("events.id", "u.id")
    )
    second = database.catalogue_for(addresses(), QueryRouter(options), settings)
    assert second is not None
    member = Member()
    second.join(member)
    assert "events" in (member.columns or {})
    assert second.is_due(server(0))


def test_other_servers_begin_with_nothing() -> None:
    database, settings = Database("app"), base_settings()
    first = database.catalogue_for(addresses(), QueryRouter(KEYED), settings)
    assert first is not None
    tell(first, 0, ORDER)
    second = database.catalogue_for(addresses(5433), QueryRouter(KEYED), settings)
    assert second is not None
    member = Member()
    second.join(member)
    assert member.columns == {}


def test_a_pool_that_wants_nothing_has_no_catalogue() -> None:
    database, settings = Database("app"), base_settings()
    assert database.catalogue_for(addresses(), QueryRouter(RouterOptions()), settings) is None


# --- connections between two clients


class Knowing(Harness):
    """A pool with a catalogue of which all has been read."""

    def __init__(self) -> None:
        super().__init__(servers=((True,), (True,)), options=KEYED, pool_size=1)
        self.catalogue = Catalogue("app", SHARDS, EVENTS)
        old = self.pool
        assert old is not None
        self.pool = Pool(
            self.engine,
            "app",
            "ann",
            [[part.address for part in shard] for shard in old.shards],
            old.settings,
            QueryRouter(KEYED),
            self,
            self.catalogue,
        )
        for shard in range(2):
            tell(self.catalogue, shard, ORDER)

    def shard_of(self, sql: str) -> int | None:
        """Where a statement goes."""
        assert self.pool is not None
        return self.pool.router.route(sql.encode(), RoutingState()).shard

    def release(self, *tags: bytes, found: int = 0) -> FakeServer:
        """Let a client run commands on the first shard and give the connection back."""
        client = wait(self)
        server = self.accept()
        assert client.server is not None
        client.server.marks |= found
        for tag in tags:
            server.connection.queue.append(_segment())
            server.connection.on_data(
                messages.command_complete(tag.decode()) + messages.READY_IDLE
            )
        self.part.release(client.server)
        return server


class Sink(ReplySink):
    """A client that does not listen."""

    def reply(self, data: bytes) -> None: ...

    def segment_done(self, segment: object, status: int) -> None: ...


def _segment() -> Segment:
    return Segment(Sink())


# Shard 1 of 2.
INSERT = "INSERT INTO events VALUES (3, 'x')"


def answer(server: FakeServer, columns: str) -> None:
    """Let a server tell its columns."""
    rows = b"".join(messages.data_row(["c", *name.split(".")]) for name in columns.split())
    server.link.take()
    server.connection.on_data(
        rows + messages.command_complete("SELECT 2") + messages.READY_IDLE
    )


def test_a_connection_that_has_changed_the_schema_is_asked_before_its_next_client() -> None:
    harness = Knowing()
    assert harness.shard_of(INSERT) == 1
    server = harness.release(b"ALTER TABLE")
    assert harness.shard_of(INSERT) == 0, "unknown, so the default"
    client = wait(harness)
    assert client.server is None
    assert EVENTS.sql in server.link.written
    answer(server, ORDER)
    assert client.server is server.connection
    assert harness.shard_of(INSERT) == 1


def test_nothing_is_believed_before_the_one_who_changes_the_schema_is_done() -> None:
    harness = Knowing()
    client = wait(harness)
    server = harness.accept()
    assert client.server is not None
    server.connection.status = ord("T")
    server.connection.queue.append(_segment())
    server.connection.on_data(
        messages.command_complete("DROP TABLE") + messages.ready_for_query(ord("T"))
    )
    assert harness.shard_of(INSERT) == 0
    tell(harness.catalogue, 0, ORDER)
    assert harness.shard_of(INSERT) == 0, "another connection still sees the old schema"


def test_what_a_client_left_is_cleaned_before_the_server_is_asked() -> None:
    harness = Knowing()
    server = harness.release(b"CREATE TABLE", found=marks.SET)
    server.work()
    assert "RESET ALL" in server.model.log
    assert EVENTS.sql not in server.link.written
    server.answer()
    assert EVENTS.sql in server.link.written


def test_a_new_table_leaves_known_what_is_known() -> None:
    harness = Knowing()
    harness.release(b"CREATE TABLE")
    assert harness.shard_of(INSERT) == 1


def test_an_error_means_unknown_and_the_connection_goes_on() -> None:
    harness = Knowing()
    server = harness.release(b"DO")
    server.link.take()
    server.connection.on_data(b"".join((messages.READY_IDLE,)))  # of DISCARD ALL
    server.link.take()
    server.connection.on_data(
        messages.error_response("permission denied", "42501") + messages.READY_IDLE
    )
    assert harness.shard_of(INSERT) == 0
    assert len(harness.part.idle) == 1


def test_a_pool_without_a_catalogue_asks_nothing() -> None:
    harness = Harness()
    client = wait(harness)
    server = harness.accept()
    assert client.server is not None
    client.server.catalogue_changed = True
    harness.part.release(client.server)
    assert not server.link.written
    assert harness.part.idle[0].is_clean


def test_idle_connections_are_asked_after_a_reload() -> None:
    harness = Knowing()
    assert harness.pool is not None
    server = harness.release()
    harness.pool.ask_servers()
    assert not server.link.written, "nothing is due"
    harness.catalogue.refresh()
    harness.pool.ask_servers()
    assert EVENTS.sql in server.link.written
    answer(server, OTHER_ORDER)
    assert len(harness.part.idle) == 1


def test_an_answer_that_comes_late_is_not_believed_over_a_newer_one() -> None:
    harness = Knowing()
    address = harness.part.address
    older, newer = (harness.catalogue._next_number() for _ in range(2))
    for number, columns in ((newer, ORDER), (older, OTHER_ORDER)):
        rows = [("c", *name.split(".")) for name in columns.split()]
        harness.catalogue.take(address, rows, is_whole=True, number=number)
        assert harness.shard_of(INSERT) == 1


def test_a_shard_that_has_yet_to_tell_is_asked_though_nobody_uses_it() -> None:
    harness = Knowing()
    assert harness.pool is not None
    server = harness.release()
    harness.pool.maintain(harness.engine.now)
    assert not server.link.written, "nothing is due"
    harness.catalogue.forget(0)
    harness.pool.maintain(harness.engine.now)
    assert EVENTS.sql in server.link.written
    answer(server, OTHER_ORDER)
    assert len(harness.part.idle) == 1


def test_a_client_looks_its_statements_up_anew_when_something_was_learned() -> None:
    harness = Knowing()
    client = harness.connect()
    assert harness.pool is not None
    names = client.session.batch.names
    client.session.batch.reader.operation(
        ord("P"), b"P\0\0\0\x30s\0%s\0\0\0" % INSERT.encode(), 0, 45
    )
    before = names.statements[b"s"]
    tell(harness.catalogue, 0, OTHER_ORDER)
    tell(harness.catalogue, 1, OTHER_ORDER)
    assert client.session.routing.epoch != harness.pool.router.epoch
    client.session.batch.rebind()
    after = names.statements[b"s"]
    assert before.analysis is not None
    assert after.analysis is not None
    assert before.analysis.keys != after.analysis.keys


# --- functions


def test_learned_functions_are_reads_unless_the_operator_says_otherwise() -> None:
    options = RouterOptions(
        query_parser_enabled=True,
        query_parser_read_write_splitting=True,
        write_functions=("second",),
        read_functions=("third",),
    )
    router = QueryRouter(options)

    def role(name: str) -> Role | None:
        return router.route(b"SELECT %s(1)" % name.encode(), RoutingState()).role

    assert role("reads") is Role.PRIMARY
    router.learn_functions(reads("reads second"))
    assert role("reads") is Role.REPLICA
    assert role("app.reads") is Role.REPLICA
    assert role("pg_catalog.reads") is Role.PRIMARY
    assert role("second") is Role.PRIMARY
    assert role("third") is Role.REPLICA
    analysis = router.analyse(b"SELECT reads(1)")
    assert analysis is not None
    assert not analysis.self_contained
    router.learn_functions({})
    assert role("reads") is Role.PRIMARY


# --- with real servers

FUNCTIONS = """
CREATE FUNCTION looks(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT $1';
CREATE FUNCTION counts(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION counts(text) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 1';
CREATE FUNCTION mixed(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE SCHEMA other;
CREATE FUNCTION other.mixed(text) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';
CREATE FUNCTION tells(int) RETURNS int LANGUAGE sql VOLATILE AS 'SELECT $1';
CREATE FUNCTION unknown(int) RETURNS int LANGUAGE internal VOLATILE AS 'int4abs';
CREATE FUNCTION nextval(text) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 1::bigint';
"""


def told_by(database: RealDatabase, wanted: Wanted) -> Member:
    """What a server tells."""
    member = Member()
    catalogue = Catalogue("app", SHARDS[:1], wanted)
    catalogue.join(member)
    rows: list[tuple[str | None, ...]] = []
    with database.server.connect(database.name) as connection:
        cursor = connection.execute(wanted.sql, prepare=False)
        while True:
            rows += cursor.fetchall()
            if not cursor.nextset():
                break
    catalogue.take(server(0), rows, is_whole=True)
    return member


MADE = """
CREATE TABLE events (id bigint, kind text) PARTITION BY HASH (id);
CREATE TABLE events_0 PARTITION OF events FOR VALUES WITH (MODULUS 2, REMAINDER 0)
 PARTITION BY LIST (kind);
CREATE TABLE events_0_x PARTITION OF events_0 FOR VALUES IN ('x');
CREATE TABLE things (n bigint, parent bigint);
CREATE TABLE log (n bigint);
CREATE SCHEMA other;
CREATE VIEW other.all_events AS SELECT * FROM events;
CREATE VIEW deeper AS SELECT count(*) FROM other.all_events;
CREATE VIEW of_a_part AS SELECT * FROM events_0_x;
CREATE MATERIALIZED VIEW counted AS SELECT count(*) FROM deeper;
CREATE VIEW thinged AS SELECT * FROM things;
CREATE FUNCTION atomic() RETURNS bigint LANGUAGE sql
 BEGIN ATOMIC SELECT count(*) FROM other.all_events; END;
CREATE FUNCTION of_atomic() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT atomic(); END;
CREATE FUNCTION texted() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM Events';
CREATE FUNCTION worded() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM n FROM things; END';
CREATE FUNCTION lower() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM events';
CREATE FUNCTION unlike() RETURNS int LANGUAGE sql AS 'SELECT 1 AS events_of_others';
CREATE PROCEDURE purge() LANGUAGE sql AS 'DELETE FROM "events"';
CREATE VIEW called AS SELECT texted();
CREATE RULE copied AS ON INSERT TO log DO ALSO INSERT INTO events VALUES (NEW.n);
"""


def test_the_queries_find_what_is_made_of_sharded_tables(fresh_database: RealDatabase) -> None:
    fresh_database.execute(MADE)
    events = ("public", "events")
    assert told_by(fresh_database, EVENTS).relations == {
        Relation("public", "events", "table", events),
        Relation("public", "events_0", "table", events),
        Relation("public", "events_0_x", "table", events),
        Relation("other", "all_events", "view"),
        Relation("public", "deeper", "view"),
        Relation("public", "of_a_part", "view"),
        Relation("public", "counted", "materialized view"),
        Relation("public", "called", "view"),
        Relation("public", "log", "table"),
        *(
            Relation("public", name, "function")
            for name in ("atomic", "of_atomic", "texted", "purge")
        ),
    }
    by_column = told_by(fresh_database, Wanted((KeyColumn("", "parent"),))).relations
    assert by_column == {
        Relation("public", "things", "table", ("public", "things")),
        Relation("public", "thinged", "view"),
        Relation("public", "worded", "function"),
    }
    assert told_by(fresh_database, Wanted((KeyColumn("missing", "id"),))).relations == set()


def test_the_queries_find_the_tables_that_no_setting_names(
    fresh_database: RealDatabase,
) -> None:
    fresh_database.execute(MADE)
    fresh_database.execute(
        """
        CREATE TEMP TABLE fleeting (n int);
        CREATE SCHEMA elsewhere
        CREATE TABLE alike (n int) CREATE TABLE plain (n int) CREATE VIEW likened AS TABLE alike
        CREATE VIEW plainer AS TABLE plain CREATE VIEW plainest AS TABLE plainer;
        CREATE TABLE alike (n int)
        """
    )
    keys = (KeyColumn("events", "id"), KeyColumn("", "parent"), KeyColumn("", "n"))
    found = told_by(
        fresh_database, Wanted(keys[:2], everywhere=(("elsewhere", "alike"),))
    ).relations
    plain = {(one.schema, one.name) for one in found if one.kind == PLAIN}
    assert {("elsewhere", name) for name in ("plain", "plainer", "plainest")} < plain
    assert ("public", "alike") in plain
    assert not {"fleeting", "likened", "events", "events_0_x"} & {name for _, name in plain}
    assert ("elsewhere", "alike") not in plain
    for wanted in (Wanted(keys[:2]), Wanted(keys, everywhere=())):
        relations = told_by(fresh_database, wanted).relations
        assert "plain" not in {one.name for one in relations if one.kind == PLAIN}


def test_what_is_made_of_sharded_tables_is_known_until_a_server_says_otherwise() -> None:
    catalogue, member = joined()

    def say(shard: int, *names: str) -> None:
        rows = [("s", "public", name, "v", None, None) for name in names]
        catalogue.take(server(shard), rows, is_whole=True)

    def names() -> set[str]:
        return {relation.name for relation in member.relations}

    say(0, "one")
    assert names() == {"one"}
    say(1, "other")
    assert names() == {"one", "other"}
    catalogue.forget(1)
    catalogue.fail(server(0), "no reason")
    assert names() == {"one", "other"}
    say(1)
    assert names() == {"one"}


def test_the_queries_find_what_they_are_to_find(fresh_database: RealDatabase) -> None:
    fresh_database.execute(
        FUNCTIONS
        + """
        CREATE TABLE events (gone int, id bigint, "Kind" text);
        ALTER TABLE events DROP COLUMN gone;
        CREATE TABLE "o'dd\\ Größe" (id bigint);
        CREATE TABLE tenants (name text, tenant bigint) PARTITION BY HASH (tenant);
        CREATE TABLE unwanted (a int);
        CREATE TEMP TABLE events (kind text, id bigint);
        """
    )
    wanted = Wanted(
        (
            KeyColumn("events", "id"),
            KeyColumn("o'dd\\ Größe", "id"),
            KeyColumn("", "tenant"),
        ),
        functions=True,
    )
    member = told_by(fresh_database, wanted)
    assert member.columns == {
        name: columns
        for table, columns in (
            ("events", ("id", "Kind")),
            ("o'dd\\ Größe", ("id",)),
            ("tenants", ("name", "tenant")),
        )
        for name in (table, f"public.{table}")
    }
    assert member.functions == {
        **reads("looks counts"),
        "mixed": {Body("sql", "SELECT 1")},
        "tells": {Body("sql", "SELECT $1")},
    }


@pytest.fixture
def keyed(
    sharded: tuple[Shard, ...],
    make_database: Callable[..., RealDatabase],
    start_router: Callable[..., RouterProcess],
) -> RouterProcess:
    """A router in front of three shards that have the table `events`."""
    name = make_database(sharded[0].primary).name
    for shard in sharded[1:]:
        make_database(shard.primary, name)
    for shard in sharded:
        shard.primary.execute("CREATE TABLE events (id bigint, kind text)", database=name)
        shard.wait_for_replication()
    pool = PoolText(
        [servers_of(shard) for shard in sharded],
        database=name,
        pool_size=2,
        options='query_parser_enabled = true\nautomatic_sharding_key = "events.id"\n'
        'default_role = "primary"',
    )
    router = start_router({"db": pool})

    def is_known() -> bool:
        """Whether all shards have told their columns: until then it is refused."""
        with router.connect("db") as client:
            try:
                client.execute("INSERT INTO events VALUES (0, 'x')")
            except errors.FeatureNotSupported:
                return False
            client.execute("DELETE FROM events WHERE id = 0")
            return True

    wait_until("the columns are known", is_known)
    return router


def shards_of_rows(router: RouterProcess) -> list[list[object]]:
    """The ids on each shard."""
    found = []
    with router.connect("db") as client:
        for shard in range(3):
            client.execute(f"SET SHARD TO '{shard}'".encode())
            rows = client.execute("SELECT id FROM events ORDER BY id").fetchall()
            found.append([value for (value,) in rows])
    return found


def test_an_insert_without_a_list_of_columns_finds_its_shard(keyed: RouterProcess) -> None:
    with keyed.connect("db") as client:
        for key in (0, 42, 1234):  # shards 2, 0 and 0 of 3, see docs/sharding.md
            client.execute("INSERT INTO events VALUES (%s, 'x')", (key,), prepare=True)
    assert shards_of_rows(keyed) == [[42, 1234], [], [0]]


def test_a_change_of_the_schema_is_noticed(keyed: RouterProcess) -> None:
    with keyed.connect("db") as client, keyed.connect("db") as other:
        other.execute("INSERT INTO events VALUES (0, 'x')")
        insert = b"INSERT INTO events VALUES (%s, %s)"
        other.execute(insert, (0, "x"), prepare=True)
        for shard in range(3):
            client.execute(f"SET SHARD TO '{shard}'".encode())
            client.execute("ALTER TABLE events DROP COLUMN id")
            client.execute("ALTER TABLE events ADD COLUMN id bigint")

        def is_known() -> bool:
            try:
                other.execute("INSERT INTO events VALUES ('y', 0)")
            except errors.FeatureNotSupported:
                return False
            return shards_of_rows(keyed)[2].count(0) > 0

        wait_until("the new order of the columns is known", is_known)
        before = shards_of_rows(keyed)[2].count(0)
        other.execute(b"INSERT INTO events VALUES (%s, %s)", ("y", 0), prepare=True)
        assert shards_of_rows(keyed)[2].count(0) == before + 1
