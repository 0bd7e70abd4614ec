"""Which reads go to the primary because of what was written lately."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from router.routing.activity import FRESH, STARTING, Activity, written_by
from router.routing.classify import classify
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import Analysis, Role, RouterOptions

from .commanded import command_in

DELAY, UNUSED, TTL = 0.1, 900.0, 0.05


class Clock:
    """Stands still but for what a test adds to it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Case:
    """An activity whose database has been in use for a while."""

    def __init__(self, **times: float) -> None:
        self.clock = Clock()
        chosen = {"init_delay": DELAY, "ttl": UNUSED, "table_ttl": TTL, **times}
        self.activity = Activity(self.clock, **chosen)
        self.reason("SELECT 1")
        self.clock.now += DELAY

    def write(self, sql: str) -> None:
        """Execute a statement."""
        self.activity.note(written_by(classify(sql)))

    def reason(self, sql: str) -> str:
        """Why a read must go to the primary."""
        return self.activity.needs_primary(classify(sql))

    def is_fresh(self, sql: str) -> bool:
        """Whether a read must go to the primary."""
        return self.reason(sql) == FRESH


def test_a_read_of_what_was_written_goes_to_the_primary_for_a_time() -> None:
    case = Case()
    assert not case.is_fresh("SELECT * FROM t")
    case.write("INSERT INTO t VALUES (1)")
    assert case.is_fresh("SELECT * FROM t")
    assert not case.is_fresh("SELECT * FROM u")
    case.clock.now += TTL - 0.001
    assert case.is_fresh("SELECT * FROM t")
    case.clock.now += 0.001
    assert not case.is_fresh("SELECT * FROM t")


def test_another_write_begins_the_time_again() -> None:
    case = Case()
    case.write("INSERT INTO t VALUES (1)")
    case.clock.now += TTL / 2
    case.write("UPDATE t SET a = 1")
    case.clock.now += TTL / 2
    assert case.is_fresh("SELECT * FROM t")


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM u, t",
        "SELECT * FROM u LEFT JOIN t ON true",
        "SELECT * FROM u WHERE id IN (SELECT id FROM t)",
        "SELECT * FROM (SELECT * FROM t) x",
        "WITH x AS (SELECT * FROM t) SELECT * FROM x",
        "WITH t AS (SELECT * FROM t) SELECT * FROM t",
        "SELECT (SELECT max(id) FROM t)",
        "SELECT 1 UNION SELECT id FROM t",
        "TABLE t",
        "COPY t TO STDOUT",
        "COPY (SELECT * FROM t) TO STDOUT",
        "SELECT * FROM T",
        'SELECT * FROM "t"',
        "SELECT * FROM public.t",
        "SELECT 1; SELECT * FROM t",
    ],
)
def test_wherever_a_table_is_read_it_counts(sql: str) -> None:
    case = Case()
    case.write("DELETE FROM t")
    assert case.is_fresh(sql)
    case.clock.now += TTL
    assert not case.is_fresh(sql)


@pytest.mark.parametrize(
    ("written", "read", "is_fresh"),
    [
        ("t", "t", True),
        ("T", "t", True),
        ('"T"', "t", False),
        ('"T"', '"T"', True),
        ("app.t", "app.t", True),
        ("app.t", "t", True),
        ("t", "app.t", True),
        ("app.t", "other.t", False),
        ("APP.T", "app.t", True),
        ("t", "u", False),
        ("db.app.t", "app.t", True),
        ('"a.b"', '"a.b"', True),
    ],
)
def test_names_are_compared_as_postgresql_does(written: str, read: str, is_fresh: bool) -> None:
    case = Case()
    case.write(f"INSERT INTO {written} VALUES (1)")
    assert case.is_fresh(f"SELECT * FROM {read}") is is_fresh


@pytest.mark.parametrize(
    ("sql", "written"),
    [
        ("INSERT INTO t VALUES (1)", ("t",)),
        ("UPDATE t SET a = 1", ("t",)),
        ("DELETE FROM t USING u", ("t", "u")),
        ("MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE", ("t", "u")),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", ("t",)),
        ("WITH x AS (SELECT * FROM u) INSERT INTO t SELECT * FROM x", ("t", "u")),
        ("COPY t FROM STDIN", ("t",)),
        ("TRUNCATE t, u", ("t", "u")),
        ("DROP TABLE t", ("t",)),
        ("EXPLAIN ANALYZE DELETE FROM t", ("t",)),
        ("BEGIN; INSERT INTO t VALUES (1); UPDATE u SET a = 1; COMMIT", ("t", "u")),
        ("SELECT * FROM t FOR UPDATE", ("t",)),
        ("SELECT nextval('s')", ()),
        ("SELECT * FROM t", ()),
        ("SHOW x", ()),
        ("BEGIN", ()),
        ("START TRANSACTION", ()),
        ("COMMIT", ()),
        ("SET x = 1", ()),
        ("LISTEN x", ()),
        ("DECLARE c CURSOR FOR SELECT * FROM t", ()),
        ("FETCH 1 FROM c", ()),
        ("SELECT unknown(1)", None),
        ("SELECT 1 INTO t", None),
        ("CALL p()", None),
        ("DO $$BEGIN END$$", None),
        ("EXECUTE p", None),
        ("COMMIT PREPARED 'x'", None),
        ("REFRESH MATERIALIZED VIEW v", None),
        ("INSERT INTO t VALUES (", None),
        ("INSERT INTO t VALUES (1); foo", None),
        ("foo", None),
        (f"INSERT INTO t VALUES ({', '.join(['a'] * 20_000)})", None),
    ],
)
def test_what_a_statement_writes(sql: str, written: tuple[str, ...] | None) -> None:
    found = written_by(classify(sql))
    assert (found if found is None else tuple(sorted(found))) == written


def test_what_nobody_has_looked_at_writes_anything() -> None:
    assert written_by(None) is None
    assert written_by(Analysis.unknown("?")) is None


def test_a_write_to_unknown_tables_makes_all_of_them_fresh() -> None:
    case = Case()
    case.write("CALL p()")
    assert case.is_fresh("SELECT * FROM t")
    case.clock.now += TTL
    assert not case.is_fresh("SELECT * FROM t")


def test_a_read_that_names_no_table_is_fresh_while_any_is() -> None:
    case = Case()
    assert not case.is_fresh("BEGIN READ ONLY")
    case.write("INSERT INTO t VALUES (1)")
    assert case.is_fresh("BEGIN READ ONLY")
    case.clock.now += TTL
    assert not case.is_fresh("BEGIN READ ONLY")


def test_everything_goes_to_the_primary_when_the_database_begins_to_be_used() -> None:
    case = Case()
    case.clock.now += UNUSED - DELAY
    assert case.reason("SELECT 1") == ""
    case.clock.now += UNUSED + 1
    assert case.reason("SELECT 1") == STARTING
    case.clock.now += DELAY / 2
    assert case.reason("SELECT 1") == STARTING
    case.clock.now += DELAY / 2
    assert case.reason("SELECT 1") == ""


def test_writes_count_as_use() -> None:
    case = Case()
    for _ in range(3):
        case.clock.now += UNUSED
        case.write("INSERT INTO t VALUES (1)")
    assert case.reason("SELECT 1 FROM u") == ""


def test_there_is_a_bound_on_the_tables() -> None:
    case = Case()
    for number in range(2000):
        case.write(f"INSERT INTO t{number} VALUES (1)")
    assert len(case.activity._fresh) <= 1000
    assert case.is_fresh("SELECT * FROM t1999"), "those that are too many make all fresh"
    case.clock.now += TTL
    case.write("INSERT INTO t VALUES (1)")
    assert len(case.activity._fresh) <= 1000
    assert case.is_fresh("SELECT * FROM t")
    assert not case.is_fresh("SELECT * FROM t1999")


# --- in the router

SPLITTING = RouterOptions(query_parser_enabled=True, query_parser_read_write_splitting=True)


def role_of(router: QueryRouter, sql: str, *commands: str) -> Role | None:
    """The role of a statement of a client that has made some choices."""
    state = RoutingState()
    for text in commands:
        command = command_in(text.encode())
        assert command is not None
        state.execute(command, router.options, random.Random(1))
    return router.route(sql.encode(), state).role


def test_the_router_sends_fresh_reads_to_the_primary_and_others_to_replicas() -> None:
    case = Case()
    router = QueryRouter(SPLITTING, case.activity)
    for _ in range(2):
        assert role_of(router, "SELECT * FROM t") is Role.REPLICA
        case.write("DELETE FROM t")
        assert role_of(router, "SELECT * FROM t") is Role.PRIMARY
        analysis = router.analyse(b"SELECT * FROM t")
        assert router.route_analysis(analysis, RoutingState()).role is Role.PRIMARY
        assert router.route_analysis(analysis, RoutingState()).reason == FRESH
        assert role_of(router, "SELECT * FROM u") is Role.REPLICA
        case.clock.now += TTL


def test_the_shard_of_a_fresh_read_is_found_all_the_same() -> None:
    case = Case()
    options = replace(SPLITTING, shard_count=3, automatic_sharding_key="t.id")
    router = QueryRouter(options, case.activity)
    case.write("DELETE FROM t")
    route = router.route(b"SELECT * FROM t WHERE id = 0", RoutingState())
    assert (route.role, route.shard) == (Role.PRIMARY, 2)


def test_with_primary_reads_a_fresh_read_still_needs_the_primary() -> None:
    case = Case()
    router = QueryRouter(replace(SPLITTING, primary_reads_enabled=True), case.activity)
    assert role_of(router, "SELECT * FROM t") is None
    case.write("DELETE FROM t")
    assert role_of(router, "SELECT * FROM t") is Role.PRIMARY


def test_a_role_that_the_client_has_chosen_goes_before() -> None:
    case = Case()
    router = QueryRouter(SPLITTING, case.activity)
    case.write("DELETE FROM t")
    assert role_of(router, "SELECT * FROM t", "SET SERVER ROLE TO 'replica'") is Role.REPLICA
    assert role_of(router, "SELECT * FROM t", "SET SERVER ROLE TO 'auto'") is Role.PRIMARY


def test_without_the_parser_there_is_no_activity() -> None:
    assert QueryRouter(RouterOptions(), Case().activity).activity is None
