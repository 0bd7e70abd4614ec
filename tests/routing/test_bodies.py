"""What functions do, by their bodies."""

from __future__ import annotations

import random

import pytest

from router.routing.bodies import Body, calls_of
from router.routing.learned import Learned
from router.routing.limits import MAX_BODIES, MAX_BODY
from router.routing.tokens import Call
from router.routing.verdicts import FunctionRules

READS = {
    "sql": [
        "SELECT 1",
        "SELECT 1;",
        "SELECT $1 + count(*) FROM t WHERE a = x; VALUES (1)",
        "WITH a AS (SELECT 1) SELECT * FROM a -- it's",
        "TABLE t",
        "(SELECT 1) UNION SELECT 2",
        "",
    ],
    "atomic": [
        "CREATE OR REPLACE FUNCTION public.f()\n RETURNS integer\n LANGUAGE sql\n"
        "BEGIN ATOMIC\n SELECT 1;\n SELECT t.a\n    FROM t;\nEND\n",
        "CREATE OR REPLACE FUNCTION public.f(a integer DEFAULT 5)\n RETURNS integer\n"
        " LANGUAGE sql\nRETURN (a + abs(a))\n",
    ],
    "plpgsql": [
        "BEGIN RETURN 1; END",
        "BEGIN\n  RETURN;\nEND;\n",
        "BEGIN NULL; END",
        "<<outer>> DECLARE a int; b CONSTANT text := 'x'; c numeric(10, 2) NOT NULL DEFAULT 5;"
        " d t%ROWTYPE; e t.a%TYPE = 1; f ALIAS FOR $1; BEGIN RETURN a; END outer",
        "#variable_conflict use_column\nBEGIN RETURN 1; END",
        "DECLARE a int; BEGIN SELECT x INTO a FROM t; SELECT INTO STRICT a x FROM t;"
        " SELECT x, y FROM t INTO a, b.c; RETURN a; END",
        "BEGIN a := 5; a = 6; a.b := 7; a[1] := 8; a[b + 1].c := 9; RETURN; END",
        "BEGIN IF a THEN RETURN 1; ELSIF b > 3 THEN NULL; ELSEIF c THEN NULL; ELSE RETURN 2;"
        " END IF; END",
        "BEGIN IF (CASE WHEN a THEN 1 END) = 1 THEN RETURN 1; END IF; END",
        "BEGIN CASE a WHEN 1, 2 THEN NULL; WHEN 3 THEN RETURN 1; ELSE NULL; END CASE; END",
        "BEGIN CASE WHEN a > 1 THEN NULL; END CASE; END",
        "BEGIN LOOP EXIT; CONTINUE WHEN a > 5; EXIT x WHEN b; END LOOP; END",
        "BEGIN <<x>> WHILE a < 5 LOOP a := a + 1; END LOOP x; END",
        "BEGIN FOR i IN 1..10 LOOP NULL; END LOOP; FOR i IN REVERSE 10 .. a BY 2 LOOP NULL;"
        " END LOOP; END",
        "BEGIN FOR r, s IN SELECT * FROM t LOOP RETURN NEXT r; END LOOP; END",
        "BEGIN FOR r IN (SELECT 1) LOOP NULL; END LOOP; FOREACH x SLICE 1 IN ARRAY a LOOP NULL;"
        " END LOOP; END",
        "BEGIN RETURN QUERY SELECT * FROM t; RETURN QUERY VALUES (1); RETURN NEXT; END",
        "BEGIN PERFORM 1 FROM t; ASSERT a > 1, 'no'; END",
        "BEGIN RAISE NOTICE 'a % b', a + 1; RAISE; RAISE division_by_zero;"
        " RAISE EXCEPTION 'x' USING ERRCODE = '22012', HINT = a || 'b'; RAISE 'x %', 1; END",
        "BEGIN BEGIN a := 1 / 0; EXCEPTION WHEN division_by_zero OR SQLSTATE '22000' THEN"
        " RETURN 1; WHEN OTHERS THEN GET STACKED DIAGNOSTICS b = MESSAGE_TEXT; END; END",
        "DECLARE c CURSOR (k int) FOR SELECT * FROM t; d refcursor; BEGIN OPEN c (5);"
        " FETCH c INTO a; FETCH NEXT FROM c INTO a; MOVE c; CLOSE c;"
        " OPEN d NO SCROLL FOR SELECT 1; RETURN d; END",
        "BEGIN GET DIAGNOSTICS n = ROW_COUNT; RETURN n; END",
        "BEGIN /* ; END */ RETURN 'x; INSERT INTO t'; -- DELETE\nEND",
    ],
}

WRITES = {
    "sql": [
        "INSERT INTO t VALUES (1)",
        "SELECT 1; DELETE FROM t",
        "WITH a AS (UPDATE t SET b = 1 RETURNING *) SELECT * FROM a",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR KEY SHARE",
        "SELECT 1 INTO u",
        "CREATE TEMP TABLE x (a int)",
        "SET LOCAL work_mem = 5",
        "COPY t TO STDOUT",
        "NOTIFY x",
        "TRUNCATE t",
        "SHOW work_mem",
        "MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE",
        "SELECT 'not closed",
        "SELECT '\\' ; DELETE FROM t; --'",
    ],
    "atomic": [
        "CREATE FUNCTION f()\n LANGUAGE sql\nBEGIN ATOMIC\n INSERT INTO t VALUES (1);\nEND\n",
        "CREATE FUNCTION f(a text DEFAULT '\nRETURN 1')\n LANGUAGE sql\nBEGIN ATOMIC\n"
        " DELETE FROM t;\nEND\n",
        "CREATE FUNCTION f()\n LANGUAGE sql\nAS 'x'",
    ],
    "plpgsql": [
        "",
        "RETURN 1",
        "BEGIN RETURN 1",
        "BEGIN RETURN 1; END; DELETE FROM t",
        "BEGIN INSERT INTO t VALUES (1); RETURN 1; END",
        "BEGIN UPDATE t SET a = 1; END",
        "BEGIN DELETE FROM t; END",
        "BEGIN IF a THEN DELETE FROM t; END IF; END",
        "BEGIN IF a THEN NULL; ELSE DELETE FROM t; END IF; END",
        "BEGIN IF a THEN NULL; ELSIF b THEN DELETE FROM t; END IF; END",
        "BEGIN LOOP DELETE FROM t; END LOOP; END",
        "BEGIN WHILE a LOOP DELETE FROM t; END LOOP; END",
        "BEGIN FOR i IN 1..2 LOOP DELETE FROM t; END LOOP; END",
        "BEGIN FOREACH i IN ARRAY a LOOP DELETE FROM t; END LOOP; END",
        "BEGIN CASE a WHEN 1 THEN DELETE FROM t; END CASE; END",
        "BEGIN CASE a WHEN 1 THEN NULL; ELSE DELETE FROM t; END CASE; END",
        "BEGIN BEGIN DELETE FROM t; END; END",
        "BEGIN NULL; EXCEPTION WHEN OTHERS THEN DELETE FROM t; END",
        "BEGIN EXECUTE 'DELETE FROM t'; END",
        "BEGIN EXECUTE a INTO b USING c; END",
        "BEGIN RETURN QUERY EXECUTE 'SELECT 1'; END",
        "BEGIN RETURN QUERY DELETE FROM t RETURNING *; END",
        "BEGIN FOR r IN EXECUTE a LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN UPDATE t SET a = 1 RETURNING * LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN REVERSE DELETE FROM t LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN EXECUTE 'DELETE FROM t' LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN REVERSE EXECUTE 'DELETE FROM t' LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN SHOW 'x' LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN CALL p() LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN SHOW ALL LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN EXPLAIN ANALYZE DELETE FROM t LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN EXPLAIN (ANALYZE) DELETE FROM t LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN EXPLAIN (ANALYZE) CREATE TABLE x AS SELECT 1 LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN REVERSE LOOP NULL; END LOOP; END",
        "BEGIN FOR r IN SELECT * FROM t FOR UPDATE LOOP NULL; END LOOP; END",
        "DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE 'DELETE FROM t'; END",
        "DECLARE c CURSOR FOR SELECT * FROM t FOR SHARE; BEGIN END",
        "BEGIN SELECT a INTO b FROM t FOR NO KEY UPDATE; END",
        "BEGIN WITH x AS (DELETE FROM t RETURNING *) SELECT * INTO a FROM x; END",
        "BEGIN PERFORM 1 FROM t FOR SHARE; END",
        "BEGIN CREATE TEMP TABLE x (a int); END",
        "BEGIN CREATE TABLE x AS SELECT 1; END",
        "BEGIN SET LOCAL work_mem = 5; END",
        "BEGIN RESET ALL; END",
        "BEGIN LOCK TABLE t; END",
        "BEGIN NOTIFY x; END",
        "BEGIN CALL p(); END",
        "BEGIN COMMIT; END",
        "BEGIN ROLLBACK; END",
        "BEGIN TRUNCATE t; END",
        "BEGIN REFRESH MATERIALIZED VIEW v; END",
        "BEGIN MERGE INTO t USING u ON true WHEN MATCHED THEN DELETE; END",
        "BEGIN COPY t TO '/tmp/x'; END",
        "BEGIN DO 'x'; END",
        "BEGIN SELECT a INTO b FROM t INTO c; END",
        "BEGIN RETURN (1; END",
        "BEGIN RETURN execute; END",
        "BEGIN NULL; EXCEPTION WHEN f(1) THEN NULL; END",
        "BEGIN FETCH f(1) FROM c INTO a; END",
        "BEGIN GET DIAGNOSTICS a = f(1); END",
        "BEGIN LOOP EXIT a b; END LOOP; END",
        "BEGIN " * 40 + "NULL; " + "END; " * 40,
    ],
}


@pytest.mark.parametrize(
    ("language", "text"), [(name, text) for name, texts in READS.items() for text in texts]
)
def test_a_body_of_reads_and_control_flow_reads(language: str, text: str) -> None:
    calls = calls_of(Body(language, text))
    assert calls is not None
    assert {call.name for call in calls} <= {"abs", "count"}


@pytest.mark.parametrize(
    ("language", "text"),
    [(name, text) for name, texts in WRITES.items() for text in texts]
    + [("c", "SELECT 1"), ("plpython3u", "SELECT 1"), ("internal", ""), ("sql", "SELECT \0")],
)
def test_all_else_writes(language: str, text: str) -> None:
    assert calls_of(Body(language, text)) is None


@pytest.mark.parametrize(
    "text",
    [
        "PERFORM f(1);",
        "PERFORM 1 FROM f(1);",
        "PERFORM filter(1); PERFORM f(1);",
        "a := f(1);",
        "a = 1 + f(1);",
        "a[f(1)] := 1;",
        "IF f(1) THEN NULL; END IF;",
        "IF a THEN NULL; ELSIF f(1) THEN NULL; END IF;",
        "IF a THEN PERFORM f(1); END IF;",
        "CASE f(1) WHEN 1 THEN NULL; END CASE;",
        "CASE a WHEN f(1) THEN NULL; END CASE;",
        "WHILE f(1) LOOP NULL; END LOOP;",
        "FOR i IN f(1)..2 LOOP NULL; END LOOP;",
        "FOR i IN 1 .. 5 BY f(1) LOOP NULL; END LOOP;",
        "FOR i IN REVERSE f(1) .. 2 LOOP NULL; END LOOP;",
        "FOR r IN SELECT f(1) LOOP NULL; END LOOP;",
        "FOREACH x IN ARRAY f(1) LOOP NULL; END LOOP;",
        "LOOP EXIT WHEN f(1); END LOOP;",
        "LOOP CONTINUE x WHEN f(1); END LOOP;",
        "RETURN f(1);",
        "RETURN NEXT f(1);",
        "RETURN QUERY SELECT * FROM f(1);",
        "RAISE NOTICE '%', f(1);",
        "RAISE EXCEPTION USING MESSAGE = f(1);",
        "ASSERT f(1);",
        "OPEN c (f(1));",
        "OPEN c FOR SELECT f(1);",
        "SELECT f(1) INTO a;",
        "SELECT INTO a f(1);",
        "SELECT INTO a, b 1, f(1);",
        "BEGIN NULL; EXCEPTION WHEN OTHERS THEN PERFORM f(1); END;",
    ],
)
def test_no_call_of_a_function_is_overlooked(text: str) -> None:
    for name in ("f", '"f"', "filter", "rows", "set", "over", "s.f"):
        if text.startswith("PERFORM filter") and name != "f":
            continue
        body = f"DECLARE a int; BEGIN {text.replace('f(1)', f'{name}(1)')} END"
        calls = calls_of(Body("plpgsql", body))
        wanted = Call("s" if "." in name else "", name.rpartition(".")[2].strip('"'))
        assert calls is None or any(call.name == wanted.name for call in calls), body
        if name in ("f", '"f"'):
            assert calls is not None
            assert wanted in calls


WORDS = """
    begin end declare if then else elsif case when loop while for foreach in array return query
    next perform select into strict from raise notice using execute exception open fetch close
    exit continue null assert get diagnostics reverse by as values with update delete insert
    a b f 1 'x' "x" $1 ( ) [ ] , . .. ; ; ; := = << >> # + variable_conflict cursor is not
"""


def test_any_body_is_judged() -> None:
    dice, words = random.Random(5), WORDS.split()
    for _ in range(3_000):
        text = " ".join(dice.choices(words, k=dice.randint(0, 12)))
        for body in (text, f"BEGIN {text}; END", f"DECLARE {text}; BEGIN {text} END"):
            calls_of(Body("plpgsql", body))


def test_declarations_call_functions_too() -> None:
    for text in ("a int := f(1);", "a int = f(1);", "a varchar(20) NOT NULL DEFAULT f(1);"):
        calls = calls_of(Body("plpgsql", f"DECLARE {text} BEGIN RETURN a; END"))
        assert calls == frozenset((Call("", "f"),))
    calls = calls_of(Body("plpgsql", "DECLARE c CURSOR FOR SELECT f(1); BEGIN NULL; END"))
    assert calls == frozenset((Call("", "f"),))


@pytest.mark.parametrize(
    ("text", "is_known"),
    [
        ("$libdir/pgcrypto pg_gen_salt", True),
        ("$libdir/uuid-ossp uuid_generate_v4", True),
        ("$libdir/pg_visibility pg_truncate_visibility_map", False),
        ("$libdir/mine pg_gen_salt", False),
        ("/tmp/pgcrypto pg_gen_salt", False),
        ("pgcrypto pg_gen_salt", False),
        ("$libdir/pgcrypto", False),
        ("$libdir/pgcrypto ", False),
        ("", False),
    ],
)
def test_functions_in_c_are_known_by_their_library(text: str, is_known: bool) -> None:
    assert calls_of(Body("c", text)) == (frozenset() if is_known else None)


# --- functions that call functions


def rules(**bodies: str | list[str]) -> FunctionRules:
    """Functions written in SQL; none at all are those that are declared to read."""
    learned = {
        name: frozenset(Body("sql", t) for t in ([text] if isinstance(text, str) else text))
        for name, text in bodies.items()
    }
    return FunctionRules(
        harmless=frozenset(("mine",)), writing=frozenset(("abs",)), learned=Learned(learned)
    )


def reads(known: FunctionRules, name: str, schema: str = "") -> bool:
    return known.is_harmless(Call(schema, name))


def test_a_function_reads_if_all_do_that_it_calls() -> None:
    known = rules(
        declared=[],
        a="SELECT b(1), declared(2), mine(3), lower('x')",
        b="SELECT s.c()",
        c="SELECT 1",
        d="SELECT c(), nextval('x')",
        e="SELECT unknown()",
        f="SELECT e()",
        g="SELECT abs(1)",
        h="SELECT pg_catalog.c()",
        i="SELECT set_config('a', 'b', false)",
    )
    for name in ("declared", "a", "b", "c"):
        assert reads(known, name), name
        assert reads(known, name, "app")
        assert not reads(known, name, "pg_catalog")
    for name in ("d", "e", "f", "g", "h", "i", "unknown"):
        assert not reads(known, name), name


def test_functions_that_call_each_other_read_until_one_writes() -> None:
    assert reads(rules(a="SELECT b()", b="SELECT a(), b()"), "a")
    assert not reads(rules(a="SELECT b()", b="SELECT a(), c()", c="DELETE FROM t"), "a")


def test_all_functions_of_a_name_must_read() -> None:
    assert reads(rules(a=["SELECT 1", "SELECT 2"]), "a")
    assert not reads(rules(a=["SELECT 1", "DELETE FROM t"]), "a")


def test_how_much_is_looked_at_does_not_depend_on_what_is_remembered() -> None:
    long = "SELECT 1 -- " + "x" * (MAX_BODY - 20)
    assert reads(rules(a=long), "a")
    assert not reads(rules(a=long + "x" * 20), "a")
    count = MAX_BODIES // MAX_BODY
    bodies: dict[str, str | list[str]] = {f"f{n}": long for n in range(count)}
    bodies["all_of"] = "SELECT " + ", ".join(f"f{n}()" for n in range(count))
    for _ in range(2):
        known = rules(**bodies, f99=long, more="SELECT all_of(), f99()")
        for name in ("more", "f99", "f0", "more"):
            assert reads(known, name) is (name != "more"), name


def test_what_is_remembered_of_a_body_is_that_of_the_body() -> None:
    old = Learned({"f": frozenset((Body("sql", "SELECT 1"),))})
    assert FunctionRules(learned=old).is_harmless(Call("", "f"))
    new = Learned({"f": frozenset((Body("sql", "DELETE FROM t"),))}, old)
    assert not FunctionRules(learned=new).is_harmless(Call("", "f"))
    assert set(new._calls) <= new.bodies["f"]
    again = Learned(old.bodies, new)
    assert FunctionRules(learned=again).is_harmless(Call("", "f"))
