"""What has no single shard, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.config.regexes import Regex
from router.errors import ForEveryShard, NoSingleShard, RoutingError
from router.routing import derived, refusals
from router.routing.decisions import UNBOUND
from router.routing.derived import Relation
from router.routing.limits import MAX_LENGTH
from router.routing.router import QueryRouter
from router.routing.sharding import pg_bigint_hash
from router.routing.state import RoutingState
from router.routing.types import RouterOptions, Verdict

SHARDS = 3
OPTIONS = RouterOptions(
    shard_count=SHARDS,
    query_parser_enabled=True,
    automatic_sharding_key=("events.id", "shop.carts.owner"),
    omnisharded_tables=("countries",),
    refuses_without_key=True,
    default_shard="shard_2",
    shard_id_regex=Regex(r"/\* shard: (\d+) \*/"),
)
DEFAULT = 2

KEYED = [
    ("SELECT * FROM events WHERE id = 1.0", 1),
    ("SELECT * FROM events WHERE id = 1e0", 1),
    ("SELECT * FROM events WHERE id = 10e-1", 1),
    ("SELECT * FROM events WHERE id = 0x1F", 31),
    ("SELECT * FROM events WHERE id = 0o17", 15),
    ("SELECT * FROM events WHERE id = 0b101", 5),
    ("SELECT * FROM events WHERE id = 1_000", 1000),
    ("SELECT * FROM events WHERE id = 5 + 1", 6),
    ("SELECT * FROM events WHERE id = -(-3)", 3),
    ("SELECT * FROM events WHERE id = '3'::bigint", 3),
    ("SELECT * FROM events WHERE id = (2 * 3 - 1)::bigint % 4", 1),
    ("SELECT * FROM events WHERE id = -7 / 2", -3),
    ("SELECT * FROM events WHERE id = ANY (ARRAY[3, NULL])", 3),
    ("SELECT * FROM events WHERE id IN (3, NULL)", 3),
    ("SELECT * FROM events WHERE id = 3 OR id = NULL", 3),
    ("INSERT INTO events (id) VALUES (5 + 1)", 6),
    ("INSERT INTO events (id) SELECT 3", 3),
    ("INSERT INTO events (id) SELECT id FROM events WHERE id = 3", 3),
    ("DECLARE c CURSOR FOR SELECT * FROM events WHERE id = 3", 3),
    ("DECLARE c BINARY NO SCROLL CURSOR WITH HOLD FOR SELECT * FROM events WHERE id = 3", 3),
    ('DECLARE "for" CURSOR FOR SELECT * FROM events WHERE id = 3 FOR UPDATE', 3),
    ("PREPARE p AS SELECT * FROM events WHERE id = 3", 3),
    ("PREPARE p (int, text) AS SELECT * FROM events WHERE id = 3 AND kind = $2", 3),
    ("EXPLAIN (ANALYZE, BUFFERS) SELECT * FROM events WHERE id = 3", 3),
    ("EXPLAIN DECLARE c CURSOR FOR SELECT * FROM events WHERE id = 3", 3),
    ("EXPLAIN ANALYZE CREATE TABLE x AS SELECT * FROM events WHERE id = 3", 3),
    ("CREATE TABLE x AS SELECT * FROM events WHERE id = 3", 3),
    ("CREATE TEMP TABLE IF NOT EXISTS x (a, b) AS SELECT * FROM events WHERE id = 3", 3),
    ("CREATE UNLOGGED TABLE x AS SELECT * FROM events WHERE id = 3 WITH NO DATA", 3),
    ("SELECT * INTO x FROM events WHERE id = 3", 3),
    ("COPY (SELECT * FROM events WHERE id = 3) TO STDOUT", 3),
    ("SELECT * FROM events WHERE id = 3; SELECT 1", 3),
    ("SELECT * FROM shop.carts WHERE owner = 3", 3),
]
PLAIN = [
    "SELECT 1",
    "SELECT nextval('events_id_seq')",
    "SELECT * FROM pg_class WHERE relname = 'events'",
    "SELECT * FROM information_schema.events",
    "SELECT * FROM other.carts",
    "WITH events AS (SELECT 1) SELECT * FROM events",
    "SELECT events.n FROM things AS events",
    "BEGIN",
    "SET ROLE events",
    "SAVEPOINT events",
    "LISTEN events",
    "COPY things FROM STDIN",
    "SELECT * FROM things WHERE x @@@@ 3",
    "SELECT * FROM events WHERE id = NULL",
    "SELECT * FROM events WHERE id = 1 AND id = 3",
    "UPDATE events SET kind = 'x' WHERE CURRENT OF c",
    "SELECT * FROM events WHERE id = $1",
    "PREPARE p AS SELECT * FROM events WHERE id = $1",
    "SELECT e'unfinished",
]
REFUSED = {
    refusals.NO_KEY: [
        "SELECT count(*) FROM events",
        "TABLE events",
        "SELECT * FROM ONLY public.events",
        "SELECT (SELECT max(id) FROM events)",
        "SELECT * FROM events WHERE id = 3 OR kind = 'x'",
        "SELECT * FROM events WHERE id > 3",
        "SELECT * FROM events WHERE id = nextval('s')",
        "SELECT * FROM events WHERE id = abs(-3)",
        "SELECT * FROM events WHERE id IS NOT DISTINCT FROM NULL",
        "SELECT * FROM events WHERE id = 3::float8",
        "SELECT * FROM events WHERE id = 3.0::numeric",
        "INSERT INTO events (kind) VALUES ('x')",
        "INSERT INTO events (id) VALUES (nextval('s'))",
        "INSERT INTO events (id) VALUES (NULL)",
        "INSERT INTO events (id) VALUES (DEFAULT)",
        "INSERT INTO events DEFAULT VALUES",
        "INSERT INTO events VALUES (3, 'x')",
        "INSERT INTO events (id) SELECT NULL",
        "INSERT INTO events (id) SELECT n FROM things",
        "INSERT INTO events (id) SELECT n FROM (VALUES (NULL)) v (n)",
        "INSERT INTO things SELECT * FROM events",
        "UPDATE events SET kind = 'x'",
        "DELETE FROM events USING things WHERE things.n = events.id",
        "MERGE INTO events USING things ON things.n = id WHEN MATCHED THEN DELETE",
        "WITH gone AS (DELETE FROM events RETURNING id) SELECT * FROM gone",
        "SELECT * FROM events FOR UPDATE",
        "DECLARE c CURSOR FOR SELECT * FROM events",
        "PREPARE p AS SELECT * FROM events",
        "EXPLAIN SELECT * FROM events",
        "CREATE TABLE x AS SELECT * FROM events",
        "COPY (SELECT * FROM events) TO STDOUT",
        "SELECT 1; SELECT * FROM events",
        "SELECT * FROM shop.carts",
        "SELECT * FROM carts",
    ],
    refusals.UNKNOWN_KEY: [
        "SELECT * FROM events WHERE id = 1.5",
        "SELECT * FROM events WHERE id = 'x'",
        "SELECT * FROM events WHERE id = 5 / 0",
        "SELECT * FROM events WHERE id = 9223372036854775807 + 1",
        "SELECT * FROM events WHERE id IN (1.5, NULL)",
    ],
    refusals.EVERY_SHARD: [
        "TRUNCATE events",
        "TRUNCATE things, public.events CASCADE",
        "DROP TABLE events",
        "ALTER TABLE events ADD x int",
        "CREATE TABLE events (id bigint)",
        "CREATE TABLE IF NOT EXISTS public.events AS SELECT 3",
        "CREATE TABLE part PARTITION OF events FOR VALUES IN (1)",
        "CREATE INDEX CONCURRENTLY ON events (id)",
        "CREATE VIEW v AS SELECT * FROM events WHERE id = 3",
        "CREATE TRIGGER t BEFORE INSERT ON events EXECUTE FUNCTION f()",
        'GRANT SELECT ON "events" TO bob',
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO bob",
        "COMMENT ON COLUMN events.id IS 'x'",
        "LOCK TABLE events IN EXCLUSIVE MODE",
        "VACUUM",
        "VACUUM (FULL, ANALYZE)",
        "VACUUM FULL VERBOSE events",
        "ANALYZE",
        "ANALYZE events (id)",
        "CLUSTER",
        "REINDEX TABLE events",
        "REINDEX DATABASE app",
        "DROP SCHEMA public CASCADE",
        "DROP OWNED BY bob",
        "SELECT * FROM events WHERE id = 3; TRUNCATE events",
    ],
    refusals.COPY: ["COPY events FROM STDIN", "COPY public.events (id) TO STDOUT"],
    refusals.UNREADABLE: [
        "SELECT * FROM events WHERE CURRENT OF c",
        "SELECT * FROM events WHERE id = 3 AND x @@@@ 3 (",
        "DO $$ BEGIN DELETE FROM events; END $$",
        "SELECT * FROM events WHERE kind = 'unfinished",
        'SELECT * FROM U&"\\0065vents" WHERE kind = \'unfinished',
    ],
}
REFUSALS = [(sql, kind) for kind, texts in REFUSED.items() for sql in texts]


@pytest.fixture(scope="module")
def router() -> QueryRouter:
    """The router of a pool that refuses."""
    return QueryRouter(OPTIONS)


@pytest.fixture(scope="module")
def lenient() -> QueryRouter:
    """The router of one that does not."""
    return QueryRouter(replace(OPTIONS, refuses_without_key=False))


def shard(router: QueryRouter, sql: str, state: RoutingState | None = None) -> int | None:
    """The shard of a text; it must be the same when it is known."""
    state = state or RoutingState()
    found = router.route(sql.encode(), state).shard
    assert router.route(sql.encode(), state).shard == found
    return found


@pytest.mark.parametrize(("sql", "key"), KEYED)
def test_a_key_that_is_constant_is_found(router: QueryRouter, sql: str, key: int) -> None:
    assert shard(router, sql) == pg_bigint_hash(key, SHARDS)


@pytest.mark.parametrize("sql", PLAIN)
def test_what_uses_no_rows_of_sharded_tables_goes_to_the_default_shard(
    router: QueryRouter, sql: str
) -> None:
    assert shard(router, sql) == DEFAULT


@pytest.mark.parametrize(
    ("sql", "in_turn"),
    [
        ("CREATE TABLE things (n int)", False),
        ("create or replace view v as select 1", False),
        ("CREATE TABLE temp (n int)", False),
        ("ALTER TABLE database ADD n int", False),
        ("DROP TABLE temporary, events", False),
        ("TRUNCATE events", False),
        ("GRANT SELECT ON events TO bob", False),
        ("CREATE EXTENSION pg_trgm; COMMENT ON TABLE events IS 'x'", False),
        ("/* one */ ALTER TABLE countries ADD n int", False),
        ("VACUUM (FULL) things", True),
        ("ANALYZE", True),
        ("REINDEX TABLE events", True),
        ("DROP INDEX CONCURRENTLY x", True),
        ("ALTER TABLE events DETACH PARTITION p CONCURRENTLY", True),
        ("REFRESH MATERIALIZED VIEW v", True),
    ],
)
def test_what_means_the_same_on_every_shard_is_known(
    router: QueryRouter, sql: str, in_turn: bool
) -> None:
    for _ in range(2):
        with pytest.raises(ForEveryShard) as caught:
            router.route(sql.encode(), RoutingState())
        assert caught.value.in_turn is in_turn
        assert caught.value.is_of_sharded is ("events" in sql)


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE TEMP TABLE x (n int)",
        "create local temporary table x (n int)",
        "CREATE OR REPLACE TEMP VIEW v AS SELECT 1",
        "CREATE DATABASE x",
        "ALTER SYSTEM SET work_mem = '1GB'",
    ],
)
def test_what_is_of_a_session_or_a_cluster_goes_to_the_default_shard(
    router: QueryRouter, sql: str
) -> None:
    assert shard(router, sql) == DEFAULT


@pytest.mark.parametrize(
    "sql",
    [
        "VACUUM events; ANALYZE events",
        "CREATE TABLE x (n int); SELECT 1",
        "CREATE TABLE x (n int); VACUUM x",
        "SELECT * FROM events WHERE id = 3; TRUNCATE events",
        "LOCK TABLE events",
        "CREATE TABLE x AS SELECT * FROM events",
    ],
)
def test_what_can_not_be_brought_to_all_is_refused_as_ever(
    router: QueryRouter, sql: str
) -> None:
    with pytest.raises(NoSingleShard) as caught:
        router.route(sql.encode(), RoutingState())
    assert not isinstance(caught.value, ForEveryShard)


@pytest.mark.parametrize(("sql", "kind"), REFUSALS)
def test_what_has_no_single_shard_is_refused(router: QueryRouter, sql: str, kind: str) -> None:
    for _ in range(2):
        with pytest.raises(NoSingleShard) as caught:
            router.route(sql.encode(), RoutingState())
        assert (caught.value.kind, caught.value.sqlstate) == (kind, "0A000")
        assert "SET SHARD" in caught.value.hint
    assert kind in refusals.KINDS


@pytest.mark.parametrize(("sql", "kind"), REFUSALS)
def test_without_sharding_without_key_it_goes_to_the_default_shard(
    lenient: QueryRouter, sql: str, kind: str
) -> None:
    several_at_once = "; TRUNCATE" in sql
    expected = pg_bigint_hash(3, SHARDS) if several_at_once else DEFAULT
    assert shard(lenient, sql) == expected, kind


@pytest.mark.parametrize(("sql", "kind"), REFUSALS)
def test_on_a_chosen_shard_all_is_allowed(router: QueryRouter, sql: str, kind: str) -> None:
    state = RoutingState()
    state.shard, state.is_default = 1, False
    assert shard(router, sql, state) == 1, kind
    assert shard(router, f"/* shard: 0 */ {sql}") == 0, kind


def test_a_refusal_names_table_and_key(router: QueryRouter) -> None:
    with pytest.raises(NoSingleShard, match='sharding key "owner" of table "carts"'):
        router.route(b"SELECT * FROM shop.carts", RoutingState())


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM events WHERE id = $1",
        "SELECT * FROM events WHERE id IN ($1, NULL)",
        "INSERT INTO events (id) VALUES ($1)",
        "INSERT INTO events (id) SELECT $1::bigint",
        "SELECT * FROM events WHERE id IS NOT DISTINCT FROM $1",
    ],
)
def test_null_stands_for_no_row_only_where_it_is_compared(
    router: QueryRouter, sql: str
) -> None:
    analysis = router.analyse(sql.encode())
    state = RoutingState()
    assert router.route_analysis(analysis, state, {1: 3}).shard == pg_bigint_hash(3, SHARDS)
    if " = $1" in sql or " IN " in sql:
        assert router.route_analysis(analysis, state, {1: None}).shard == DEFAULT
    else:
        with pytest.raises(NoSingleShard, match="not known"):
            router.route_analysis(analysis, state, {1: None})
    # To be prepared it needs no value; to be executed it does.
    assert router.route_analysis(analysis, state, UNBOUND).shard == DEFAULT
    with pytest.raises(NoSingleShard, match="not known"):
        router.route_analysis(analysis, state, {})


@pytest.mark.parametrize("size", [101, 2_000_000])
@pytest.mark.parametrize("limit", [100, MAX_LENGTH])
def test_a_text_too_long_to_be_read_is_refused_if_it_may_name_a_sharded_table(
    size: int, limit: int
) -> None:
    router = QueryRouter(replace(OPTIONS, query_parser_max_length=limit))
    padding = "x" * size
    is_read = limit == MAX_LENGTH and size < MAX_LENGTH
    assert shard(router, f"SELECT '{padding}' FROM things") == DEFAULT
    for name in ("events", "EVENTS", '"events"', "carts"):
        with pytest.raises(NoSingleShard) as caught:
            router.route(f"SELECT '{padding}' FROM {name}".encode(), RoutingState())
        assert caught.value.kind == (refusals.NO_KEY if is_read else refusals.TOO_COMPLEX)


def test_any_table_may_be_sharded_until_its_columns_are_known() -> None:
    router = QueryRouter(replace(OPTIONS, automatic_sharding_key="*.tenant"))
    unreadable = b"SELECT * FROM things WHERE x @@@@ ("
    with pytest.raises(NoSingleShard):
        router.route(unreadable, RoutingState())
    assert shard(router, "SELECT * FROM things") == DEFAULT
    router.learn_columns({"things": ("n",), "public.things": ("n",)})
    assert shard(router, unreadable.decode()) == DEFAULT
    router.learn_columns({"things": ("tenant",), "public.things": ("tenant",)})
    for sql in (unreadable.decode(), "SELECT * FROM things", "TRUNCATE things"):
        with pytest.raises(NoSingleShard):
            router.route(sql.encode(), RoutingState())


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE events RENAME TO happenings",
        "ALTER TABLE IF EXISTS events RENAME TO happenings",
        "ALTER TABLE events RENAME COLUMN id TO number",
        "ALTER TABLE events RENAME id TO number",
        'ALTER TABLE events DROP COLUMN IF EXISTS "id"',
        "ALTER TABLE events ADD n int, DROP id",
        "ALTER TABLE events SET SCHEMA other",
        "ALTER TABLE a RENAME TO b; ALTER TABLE events RENAME TO c",
    ],
)
def test_a_table_and_its_key_keep_their_names(sql: str) -> None:
    router = QueryRouter(OPTIONS)
    with pytest.raises(NoSingleShard, match="settings call them") as caught:
        router.route(sql.encode(), RoutingState())
    assert not isinstance(caught.value, ForEveryShard)
    other = sql.replace("events", "things").replace("id", "other")
    with pytest.raises(ForEveryShard):
        router.route(other.encode(), RoutingState())


def test_a_table_keeps_its_key_while_its_columns_are_not_known() -> None:
    router = QueryRouter(replace(OPTIONS, automatic_sharding_key="*.tenant"))
    root = ("public", "things")
    router.learn_relations(
        frozenset(
            (
                Relation(*root, "table", root),
                Relation("public", "things_1", "table", root),
                Relation("public", "seen", "view"),
            )
        )
    )
    router.learn_columns({"things": ("tenant",), "public.things": ("tenant",)})
    assert shard(router, "INSERT INTO things VALUES (3)") == pg_bigint_hash(3, SHARDS)
    router.learn_columns({})
    for name in ("things", "public.things", "things_1"):
        keyed = shard(router, f"SELECT * FROM {name} WHERE tenant = 3")
        assert keyed == pg_bigint_hash(3, SHARDS)
        for sql in (f"SELECT * FROM {name}", f"INSERT INTO {name} VALUES (3)"):
            with pytest.raises(NoSingleShard):
                router.route(sql.encode(), RoutingState())
    with pytest.raises(NoSingleShard):
        router.route(b"SELECT * FROM seen", RoutingState())


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM events WHERE id IN (1, 3)", "several shards: 1, 2"),
        (
            "MERGE INTO events USING (VALUES (1), (3)) v(n) ON id = v.n "
            "WHEN MATCHED THEN DELETE",
            "several shards: 1, 2",
        ),
        ("SELECT * FROM events, shop.carts WHERE id = 3", 'table "carts" is used without'),
        ("UPDATE events SET id = 5 WHERE id = 3", "cannot be updated"),
        ("DELETE FROM countries", "is on every shard"),
    ],
)
@pytest.mark.parametrize("refuses", [False, True])
def test_what_was_refused_before_still_is(sql: str, message: str, *, refuses: bool) -> None:
    router = QueryRouter(replace(OPTIONS, refuses_without_key=refuses))
    with pytest.raises(RoutingError, match=message):
        router.route(sql.encode(), RoutingState())


def test_a_sticky_pool_and_one_of_one_shard_refuse_nothing() -> None:
    for options in (
        replace(OPTIONS, shard_count=1, default_shard="shard_0"),
        replace(OPTIONS, query_parser_enabled=False),
    ):
        router = QueryRouter(options)
        assert router.route(b"TRUNCATE events", RoutingState()).shard in (0, DEFAULT)


@pytest.mark.parametrize(("sql", "key"), KEYED)
def test_the_verdict_does_not_depend_on_the_shard(
    router: QueryRouter, lenient: QueryRouter, sql: str, key: int
) -> None:
    one, other = router.analyse(sql.encode()), lenient.analyse(sql.encode())
    assert one is not None
    assert other is not None
    assert (one.verdict, one.kinds) == (other.verdict, other.kinds), key
    assert one.obstacle is None
    if sql.startswith(("DECLARE", "PREPARE", "CREATE")):
        assert one.verdict is Verdict.WRITE


LEARNED = frozenset(
    (
        Relation("public", "events", "table", ("public", "events")),
        Relation("public", "events_0", "table", ("public", "events")),
        Relation("public", "busy", "view"),
        Relation("other", "busiest", "materialized view"),
        Relation("public", "countries", "view"),
        Relation("public", "purge", "function"),
    )
)


@pytest.fixture(scope="module")
def learned() -> QueryRouter:
    """The router of a pool that has learned what is made of its tables."""
    router = QueryRouter(OPTIONS)
    router.learn_relations(LEARNED)
    return router


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT * FROM busy", '"busy" is made of sharded tables'),
        ("SELECT * FROM busy WHERE id = 3", '"busy" is made of'),
        ("SELECT * FROM other.busiest", '"busiest" is made of'),
        ("SELECT * FROM things JOIN busiest USING (n)", '"busiest" is made of'),
        ("REFRESH MATERIALIZED VIEW other.busiest", 'sharded table "busiest"'),
        ("SELECT purge()", '"purge" is made of'),
        ("SELECT * FROM public.purge(3)", '"purge" is made of'),
        ("CALL purge()", '"purge" is made of'),
        ("SELECT * FROM events_0", 'sharding key "id" of table "events_0"'),
        ("DROP TABLE events_0", 'sharded table "events_0"'),
        ("SELECT * FROM events WHERE id = 3 AND id IN (SELECT id FROM busy)", '"busy" is used'),
    ],
)
def test_what_is_made_of_sharded_tables_is_sharded(
    learned: QueryRouter, sql: str, message: str
) -> None:
    with pytest.raises(NoSingleShard, match=message):
        learned.route(sql.encode(), RoutingState())
    state = RoutingState()
    state.shard, state.is_default = 1, False
    assert shard(learned, sql, state) == 1


def test_a_part_of_a_sharded_table_has_its_key(learned: QueryRouter) -> None:
    assert shard(learned, "SELECT * FROM events_0 WHERE id = 3") == pg_bigint_hash(3, SHARDS)
    sql = "INSERT INTO public.events_0 (id) VALUES (3)"
    assert shard(learned, sql) == pg_bigint_hash(3, SHARDS)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM other.busy",
        "SELECT pg_catalog.purge()",
        "SELECT purge FROM things",
        "SELECT * FROM information_schema.busy",
        "WITH busy AS (SELECT 1) SELECT * FROM busy",
    ],
)
def test_what_only_has_such_a_name_is_not(learned: QueryRouter, sql: str) -> None:
    assert shard(learned, sql) == DEFAULT


def test_a_view_that_the_settings_name_has_a_key() -> None:
    options = replace(OPTIONS, automatic_sharding_key=("events.id", "busy.id"))
    router = QueryRouter(options)
    router.learn_relations(LEARNED)
    assert shard(router, "SELECT * FROM busy WHERE id = 3") == pg_bigint_hash(3, SHARDS)


PLAIN_TABLE = frozenset(
    (Relation("public", "lists", derived.PLAIN), Relation("public", "items", derived.PLAIN))
)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM events JOIN lists USING (n) WHERE id = 3",
        "SELECT * FROM events WHERE id = 3 AND n IN (SELECT n FROM public.lists)",
        "INSERT INTO lists SELECT n FROM events WHERE id = 3",
        "INSERT INTO events (id, n) SELECT 3, n FROM lists",
        "INSERT INTO events (id, n) VALUES (3, (SELECT max(n) FROM lists))",
        "UPDATE lists SET n = 1 FROM events WHERE events.id = 3",
        "SELECT * FROM events WHERE id = 3; SELECT * FROM lists",
        "PREPARE p AS SELECT * FROM events, lists WHERE id = 3",
    ],
)
def test_a_table_that_no_setting_names_is_not_read_on_another_shard(sql: str) -> None:
    router = QueryRouter(OPTIONS)
    before = shard(router, sql)
    assert before == pg_bigint_hash(3, SHARDS)
    router.learn_relations(PLAIN_TABLE)
    with pytest.raises(NoSingleShard, match='"lists" is used beside'):
        router.route(sql.encode(), RoutingState())
    state = RoutingState()
    state.shard, state.is_default = 1, False
    assert shard(router, sql, state) == 1
    router.learn_relations(frozenset())
    assert shard(router, sql) == before


@pytest.mark.parametrize(
    ("sql", "is_plain"),
    [
        ("SELECT * FROM lists", True),
        ("UPDATE public.items SET n = 1", True),
        ("COPY lists FROM STDIN", True),
        ("SELECT * FROM other.lists", False),
        ("WITH lists AS (SELECT 1) SELECT * FROM lists", False),
        ("SELECT * FROM countries", False),
        ("SELECT * FROM pg_class", False),
        ("SELECT lists FROM things", False),
    ],
)
def test_it_is_at_home_on_default_shard(sql: str, *, is_plain: bool) -> None:
    router = QueryRouter(OPTIONS)
    router.learn_relations(PLAIN_TABLE)
    analysis = router.analyse(sql.encode())
    assert analysis is not None
    assert router.home_of(analysis, RoutingState()) == (DEFAULT if is_plain else None)
    loose = QueryRouter(replace(OPTIONS, refuses_without_key=False))
    loose.learn_relations(PLAIN_TABLE)
    assert loose.home_of(analysis, RoutingState()) is None


@pytest.mark.parametrize("kind", ["view", "materialized view"])
def test_a_view_with_such_a_column_need_not_have_the_key(kind: str) -> None:
    """It may be that of another row: the largest, or one that something has been joined to."""
    for named, is_found in (((), False), (("busy.id",), True)):
        keys = ("*.id", *named)
        router = QueryRouter(replace(OPTIONS, automatic_sharding_key=keys))
        root = ("public", "events")
        relations = (Relation(*root, "table", root), Relation("public", "busy", kind))
        router.learn_relations(frozenset(relations))
        for columns in (
            {},
            {f"{at}{n}": ("id",) for at in ("", "public.") for n in ("events", "busy")},
        ):
            router.learn_columns(columns)
            sql = "SELECT * FROM busy WHERE id = 3"
            if is_found:
                assert shard(router, sql) == pg_bigint_hash(3, SHARDS)
            else:
                with pytest.raises(NoSingleShard, match="is made of"):
                    router.route(sql.encode(), RoutingState())


def test_a_view_that_every_shard_has_is_everywhere(learned: QueryRouter) -> None:
    assert shard(learned, "SELECT * FROM countries") is None
