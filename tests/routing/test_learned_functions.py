"""Functions that are taken for reads by their bodies, on a real standby."""

from __future__ import annotations

import contextlib
import itertools
import random
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.pool.catalogue import Wanted, functions_of
from router.routing.learned import Learned
from router.routing.tokens import Call
from router.routing.verdicts import FunctionRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from router.pool.query import Row
    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import Database

SCHEMA = """
CREATE TABLE t (id int, name text);
INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three');
CREATE SEQUENCE s;
CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT 1';
"""

# What a body does in itself, and what a standby says to it.
WRITES = {
    "INSERT": "INSERT INTO t VALUES (9, 'x');",
    "UPDATE": "UPDATE t SET name = 'y';",
    "DELETE": "DELETE FROM t;",
    "MERGE": "MERGE INTO t USING (SELECT 1 AS i) u ON t.id = u.i WHEN MATCHED THEN DELETE;",
    "nextval": "PERFORM nextval('s');",
    "setval": "n := setval('s', 5);",
    "lock": "PERFORM * FROM t FOR UPDATE;",
    "lock, shared": "PERFORM * FROM t FOR KEY SHARE;",
    "LOCK": "LOCK TABLE t;",
    "temporary": "CREATE TEMP TABLE x AS SELECT 1;",
    "CREATE": "CREATE TABLE y (a int);",
    "dynamic": "EXECUTE 'DELETE FROM t';",
    "dynamic, concealed": "EXECUTE format('%s FROM t', 'DELETE');",
    "dynamic, loop": "FOR r IN EXECUTE 'DELETE FROM t RETURNING *' LOOP NULL; END LOOP;",
    "loop": "FOR r IN DELETE FROM t RETURNING * LOOP NULL; END LOOP;",
    "CTE": "WITH x AS (DELETE FROM t RETURNING *) SELECT count(*) INTO n FROM x;",
    "WITH in FOR": "FOR r IN WITH x AS (DELETE FROM t RETURNING *) SELECT 1 LOOP END LOOP;",
    "cursor": "OPEN c FOR EXECUTE 'SELECT * FROM t FOR UPDATE'; FETCH c INTO r;",
    "cursor, lock": "OPEN c FOR SELECT * FROM t FOR UPDATE; FETCH c INTO r;",
    "condition": "IF nextval('s') > 0 THEN n := 1; END IF;",
    "handler": "BEGIN n := 1 / 0; EXCEPTION WHEN OTHERS THEN DELETE FROM t; END;",
    "TRUNCATE": "TRUNCATE t;",
    "NOTIFY": "NOTIFY x;",
    "notify": "PERFORM pg_notify('x', 'y');",
    "large object": "PERFORM lo_create(0);",
    "xid": "PERFORM txid_current();",
}

# What is left of these is a read, but nobody should rely on it, or it cannot be told.
NOT_PROVEN = {
    "SET": "SET LOCAL work_mem = '5MB';",
    "set_config": "PERFORM set_config('work_mem', '5MB', true);",
    "CALL": "CALL p();",
    "advisory lock": "PERFORM pg_advisory_xact_lock(5);",
    "dynamic read": "EXECUTE 'SELECT 1' INTO n;",
    "DISCARD": "DISCARD PLANS;",
}

HEAD = "DECLARE n bigint := 0; r record; c refcursor; a int[] := '{1,2}'; i int; "


def a_function(name: str, body: str, *, language: str = "plpgsql") -> str:
    """A function that is volatile, as all are that say nothing."""
    return (
        f"CREATE FUNCTION {name}(k int) RETURNS int LANGUAGE {language} AS $body${body}$body$"
    )


class Servers:
    """A primary with functions, and its standby."""

    def __init__(self, database: Database, replicated: Shard) -> None:
        self.database = database
        self._replicated = replicated

    def rules(self) -> FunctionRules:
        """What a router of the database knows."""
        with contextlib.closing(self.database.server.connect(self.database.name)) as connection:
            cursor = connection.execute(Wanted(functions=True).sql, prepare=False)
            rows: list[Row] = list(cursor.fetchall())
            while cursor.nextset():
                rows += cursor.fetchall()
        return FunctionRules(learned=Learned(functions_of(rows)))

    def has(self, module: str) -> bool:
        """Whether the module is installed."""
        with contextlib.closing(self.database.server.connect(self.database.name)) as connection:
            found = connection.execute(
                "SELECT FROM pg_available_extensions WHERE name = %s", (module,)
            )
            return found.fetchone() is not None

    def refusals(self, names: list[str]) -> dict[str, str]:
        """What the standby says to a call of each function, by SQLSTATE; "" if it is run."""
        self._replicated.wait_for_replication()
        found = {}
        standby = self._replicated.replicas[0].connect(self.database.name)
        with contextlib.closing(standby):
            for name in names:
                found[name] = ""
                try:
                    standby.execute(f"SELECT {name}(1)".encode(), prepare=False)
                except psycopg.Error as error:
                    found[name] = error.sqlstate or "?"
        return found


@pytest.fixture
def servers(replicated: Shard, make_database: Callable[..., Database]) -> Servers:
    database = make_database(replicated.primary)
    database.execute(SCHEMA)
    return Servers(database, replicated)


def are_reads(rules: FunctionRules, names: list[str]) -> dict[str, bool]:
    return {name: rules.is_harmless(Call("", name)) for name in names}


def test_what_writes_is_not_taken_for_a_read(servers: Servers) -> None:
    names = {}
    for number, (form, body) in enumerate((*WRITES.items(), *NOT_PROVEN.items())):
        names[f"f{number}"] = form
        text = f"{HEAD} BEGIN {body} RETURN n; END"
        servers.database.execute(a_function(f"f{number}", text))
        servers.database.execute(
            a_function(f"g{number}", f"SELECT f{number}(k)", language="sql")
        )
        names[f"g{number}"] = form
    found = are_reads(servers.rules(), list(names))
    assert {names[name] for name, is_read in found.items() if is_read} == set()
    # The table above is right: a standby cannot run them.
    accepted = {names[n] for n, state in servers.refusals(list(names)).items() if state == ""}
    assert accepted <= set(NOT_PROVEN)


ATOMIC = """
CREATE FUNCTION reads_a(k int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC
 SELECT 1; SELECT count(*) FROM t WHERE id > k; END;
CREATE FUNCTION reads_b(k int) RETURNS int LANGUAGE sql SET search_path = public
 RETURN k + abs(k) + length('RETURN nextval(''s'')');
CREATE FUNCTION reads_c(k int, d text DEFAULT '
BEGIN ATOMIC
') RETURNS bigint LANGUAGE sql RETURN reads_a(k);
CREATE FUNCTION writes_a(k int) RETURNS void LANGUAGE sql BEGIN ATOMIC
 INSERT INTO t VALUES (k); END;
CREATE FUNCTION writes_b(k int) RETURNS bigint LANGUAGE sql RETURN nextval('s');
CREATE FUNCTION writes_c(k int) RETURNS bigint LANGUAGE sql RETURN writes_b(k);
CREATE FUNCTION writes_d(k int, d text DEFAULT '
RETURN 1') RETURNS bigint LANGUAGE sql RETURN writes_b(k);
"""

OTHERS = """
CREATE FUNCTION mixed(k int) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION mixed(k text) RETURNS int LANGUAGE sql AS 'SELECT nextval(''s'')::int';
CREATE FUNCTION halves(k int) RETURNS int LANGUAGE sql STABLE AS 'SELECT 1';
CREATE FUNCTION halves(k text) RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END';
CREATE FUNCTION summed(k int) RETURNS int LANGUAGE sql AS 'SELECT halves(k) + halves(''x'')';
CREATE FUNCTION sums(k int) RETURNS int LANGUAGE sql AS 'SELECT mixed(k)';
CREATE AGGREGATE added(int) (sfunc = int4pl, stype = int);
CREATE FUNCTION more(a int, k int) RETURNS int LANGUAGE sql AS 'SELECT a + k';
CREATE FUNCTION most(a int) RETURNS int LANGUAGE sql AS 'SELECT nextval(''s'')::int';
CREATE AGGREGATE all_of(int) (sfunc = more, stype = int, initcond = 0);
CREATE AGGREGATE counted(int) (sfunc = more, stype = int, finalfunc = most);
CREATE FUNCTION inside(k int) RETURNS int LANGUAGE internal AS 'int4abs';
CREATE FUNCTION only_reads(k int) RETURNS int LANGUAGE sql
 SET session_replication_role = replica AS 'SELECT 1';
CREATE FUNCTION with_setting(k int) RETURNS int LANGUAGE sql SET work_mem = '5MB' SET jit = off
 SECURITY DEFINER AS 'SELECT 1';
CREATE FUNCTION longest(k int) RETURNS int LANGUAGE sql AS $x$SELECT 1 -- {padding}$x$;
CREATE FUNCTION even(k int) RETURNS bool LANGUAGE plpgsql
 AS 'BEGIN IF k = 0 THEN RETURN true; END IF; RETURN odd(k - 1); END';
CREATE FUNCTION odd(k int) RETURNS bool LANGUAGE plpgsql
 AS 'BEGIN IF k = 0 THEN RETURN false; END IF; RETURN even(k - 1); END';
"""


def test_bodies_come_from_the_catalogue(servers: Servers) -> None:
    servers.database.execute(ATOMIC)
    servers.database.execute(OTHERS.format(padding="x" * 9_000))
    expected = {
        **dict.fromkeys(("reads_a", "reads_b", "reads_c", "halves", "summed", "added"), True),
        **dict.fromkeys(("with_setting", "even", "odd", "all_of"), True),
        **dict.fromkeys(("writes_a", "writes_b", "writes_c", "writes_d", "mixed"), False),
        **dict.fromkeys(("sums", "counted", "inside", "only_reads", "longest"), False),
    }
    found = are_reads(servers.rules(), list(expected))
    assert found == expected
    reads = [name for name, is_read in expected.items() if is_read]
    assert set(servers.refusals(reads).values()) == {""}


# --- at random

EXPRESSIONS = (
    "k + 1",
    "(SELECT count(*) FROM t)",
    "abs(k - 5)",
    "length(name_of(k))",
    "(CASE WHEN k > 1 THEN 2 ELSE 3 END)",
    "coalesce(n, 0)",
    "a[1]",
    "(SELECT max(id) FROM t WHERE id > k)",
    "{f}(k)",
    "array_length(a, 1)",
    "extract(year FROM now())",
    "random() * 5",
    "greatest(k, n, 7)",
)

STATEMENTS = (
    "n := {e};",
    "n = {e};",
    "a[1] := {e};",
    "NULL;",
    "PERFORM {e};",
    "PERFORM * FROM t WHERE id > {e};",
    "SELECT {e} INTO n;",
    "SELECT id, name INTO n, x FROM t WHERE id = {e};",
    "SELECT INTO r * FROM t;",
    "IF {e} > 2 THEN {s} ELSIF {e} = 1 THEN {s} ELSE {s} END IF;",
    "IF {e} > 5 THEN RETURN 1; END IF;",
    "CASE WHEN {e} > 5 THEN {s} ELSE {s} END CASE;",
    "CASE k WHEN 1, 2 THEN {s} ELSE NULL; END CASE;",
    "FOR i IN 1..2 LOOP {s} END LOOP;",
    "FOR i IN REVERSE 3 .. 1 BY 2 LOOP {s} END LOOP;",
    "FOR r IN SELECT * FROM t WHERE id < {e} LOOP {s} EXIT WHEN n > 3; END LOOP;",
    "FOREACH i IN ARRAY a LOOP {s} CONTINUE WHEN n > {e}; END LOOP;",
    "<<l>> LOOP {s} EXIT l; END LOOP l;",
    "BEGIN {s} EXCEPTION WHEN OTHERS THEN {s} END;",
    "BEGIN {s} n := 1 / 0; EXCEPTION WHEN division_by_zero THEN {s} END;",
    "DECLARE m int := {e}; BEGIN {s} END;",
    "RAISE DEBUG 'x % y', {e};",
    "GET DIAGNOSTICS n = ROW_COUNT;",
    "OPEN c FOR SELECT * FROM t WHERE id > {e}; FETCH c INTO r; CLOSE c;",
    "ASSERT {e} IS NOT NULL;",
)


class Maker:
    """Makes bodies at random; now and then there is a write in one."""

    def __init__(self, dice: random.Random, functions: list[str]) -> None:
        self._dice = dice
        self._functions = functions
        self.has_write = False
        self.calls: set[str] = set()

    def expression(self) -> str:
        text = self._dice.choice(EXPRESSIONS)
        if "{f}" in text:
            if not self._functions:
                return "5"
            name = self._dice.choice(self._functions)
            self.calls.add(name)
            return text.replace("{f}", name)
        return text

    def statement(self, depth: int) -> str:
        if self._dice.random() < 0.02:
            self.has_write = True
            return self._dice.choice(list(WRITES.values()))
        text = self._dice.choice(STATEMENTS)
        if "{s}" in text and depth == 0:
            return "NULL;"
        while "{e}" in text:
            text = text.replace("{e}", self.expression(), 1)
        while "{s}" in text:
            text = text.replace("{s}", self.statement(depth - 1), 1)
        return text

    def plpgsql(self) -> str:
        body = " ".join(self.statement(3) for _ in range(self._dice.randint(1, 5)))
        return f"{HEAD} x text; BEGIN {body} RETURN n; END"

    def sql(self) -> str:
        first = "SELECT 1;"
        if self._dice.random() < 0.1:
            self.has_write = True
            first = self._dice.choice(("DELETE FROM t;", "SELECT nextval('s');"))
        expression = (
            self.expression().replace("a[1]", "1").replace("(a, 1)", "('{1}'::int[], 1)")
        )
        return f"{first} SELECT ({expression.replace('n, ', '')})::int"


def made(dice: random.Random, count: int) -> Iterator[tuple[str, str, bool]]:
    """Functions, and whether there is a write in them or in one that they call."""
    writing: dict[str, bool] = {}
    for number in range(count):
        name = f"f{number}"
        maker = Maker(dice, list(writing))
        language = dice.choice(("sql", "plpgsql", "plpgsql"))
        body = maker.sql() if language == "sql" else maker.plpgsql()
        writing[name] = maker.has_write or any(writing[call] for call in maker.calls)
        yield name, a_function(name, body, language=language), writing[name]


def test_functions_at_random_are_judged_right(servers: Servers) -> None:
    servers.database.execute(
        "CREATE FUNCTION name_of(k int) RETURNS text LANGUAGE sql"
        " AS 'SELECT name FROM t WHERE id = k'"
    )
    writing = {}
    with contextlib.closing(servers.database.server.connect(servers.database.name)) as primary:
        for name, text, has_write in made(random.Random(11), 250):
            writing[name] = has_write
            primary.execute(text.encode(), prepare=False)
    found = are_reads(servers.rules(), list(writing))
    assert {name for name, is_read in found.items() if is_read and writing[name]} == set()
    reads = [name for name, is_read in found.items() if is_read]
    # What is no write is found out in nearly all cases: the rest is too long.
    assert len(reads) > 0.9 * list(writing.values()).count(False)
    refused = {"25006", "55000", "0A000"}
    assert {n for n, s in servers.refusals(reads).items() if s in refused} == set()


def test_all_statements_at_random_are_good_ones(servers: Servers) -> None:
    """What is made is PL/pgSQL, so that the test above says something."""
    numbers = itertools.count()
    for form in STATEMENTS:
        for expression in EXPRESSIONS[:4]:
            text = form.replace("{e}", expression).replace("{s}", "NULL;")
            text = text.replace("length(name_of(k))", "1")
            name = f"one{next(numbers)}"
            servers.database.execute(
                a_function(name, f"{HEAD} x text; BEGIN {text} RETURN n; END")
            )
    names = [f"one{n}" for n in range(next(numbers))]
    assert all(are_reads(servers.rules(), names).values())
    assert set(servers.refusals(names).values()) <= {"", "2201B", "22004"}


def test_modules_of_postgresql_are_known(servers: Servers) -> None:
    for module in ("pgcrypto", "pgstattuple"):
        if not servers.has(module):
            pytest.skip("this installation of PostgreSQL has no modules")
        servers.database.execute(f"CREATE EXTENSION {module}")
    known = ("gen_salt", "gen_random_bytes", "pgp_sym_encrypt", "crypt", "pgstattuple")
    assert are_reads(servers.rules(), list(known)) == dict.fromkeys(known, True)
