"""What a text says of prepared statements: read as PostgreSQL does, or not at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protocol.marks import HARMLESS, LOCK, of_text
from router.protocol.naming import LONGEST, declared, naming_in, prepare


def told(sql: str) -> list[str]:
    """The changes, and behind them the names."""
    naming = naming_in(sql.encode())
    assert naming is not None
    changes = [
        " ".join(filter(None, (change.tag.decode(), change.name.decode())))
        for change in naming.changes
    ]
    return [*changes, *(name.decode() for name in naming.names)]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("PREPARE x AS SELECT 1", ["PREPARE x", "x"]),
        ("prepare X (int, numeric(3, 1)) as select ';'; select 2", ["PREPARE x", "x"]),
        ('PREPARE "A ""b" AS VALUES (1)', ['PREPARE A "b', 'A "b']),
        ("/* a */ PREPARE x -- b\nAS SELECT 1", ["PREPARE x", "x"]),
        ("PREPARE transaction AS SELECT 1", ["PREPARE transaction", "transaction"]),
        ("EXECUTE x(1, 'execute y')", ["x"]),
        ("EXPLAIN (ANALYZE, COSTS off) EXECUTE x", ["x"]),
        ("CREATE TEMP TABLE t AS EXECUTE x(1) WITH NO DATA", ["x"]),
        ("DEALLOCATE x", ["DEALLOCATE x", "x"]),
        ("DEALLOCATE PREPARE x", ["DEALLOCATE x", "x"]),
        ("DEALLOCATE PREPARE ALL", ["DEALLOCATE ALL"]),
        ('DEALLOCATE "all"', ["DEALLOCATE all", "all"]),
        ("DEALLOCATE prepare", ["DEALLOCATE prepare", "prepare"]),
        ("DISCARD ALL; SELECT E'it\\'s; x'; EXECUTE y", ["DISCARD ALL", "y"]),
        ("SELECT $$; PREPARE a AS $$; EXECUTE y", ["y"]),
        ("SELECT $a$ $$ ; $a$, $1; EXECUTE y", ["y"]),
        ("PREPARE x AS SELECT 1; DEALLOCATE x", ["PREPARE x", "DEALLOCATE x", "x"]),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); EXECUTE y", ["y"]),
    ],
)
def test_what_is_said_is_read(sql: str, expected: list[str]) -> None:
    assert told(sql) == expected


@pytest.mark.parametrize(
    "sql",
    [
        "PREPARE TRANSACTION 'x'",
        "DO $$ BEGIN EXECUTE 'PREPARE x AS SELECT 1'; END $$",
        "SELECT 'EXECUTE x'",
        "SELECT 1 /* /* nested */ EXECUTE x */",
        "SELECT E'a'\n'\\'; EXECUTE x; --'",
        "SELECT E'a' -- why\n'\\'; EXECUTE x; --'",
        "SELECT 'open; EXECUTE x",
        "SELECT $a$ open; EXECUTE x",
        "EXECUTE é",
        'PREPARE U&"x" AS SELECT 1',
        f"PREPARE {'x' * 64} AS SELECT 1",
        f"PREPARE x AS SELECT {'1' * LONGEST}",
        "DISCARD PLANS",
    ],
)
def test_what_is_not_certain_is_not_told(sql: str) -> None:
    assert naming_in(sql.encode()) is None


def test_a_prepare_is_cut_at_its_semicolon() -> None:
    naming = naming_in(b"SELECT 0; PREPARE x (int, odd) AS SELECT $1, ';'; SELECT 2")
    assert naming is not None
    [change] = naming.changes
    assert change.rest == b" (int, odd) AS SELECT $1, ';'"
    assert change.body == b" SELECT $1, ';'\0\0\2\0\0\0\x17\xff\xff\xff\xff"
    assert prepare(b'a"b', change.rest) == b'PREPARE"a""b"(int, odd) AS SELECT $1, \';\''


def test_what_is_made_again_is_as_long_as_most_write_it() -> None:
    for sql in (b"PREPARE x AS SELECT 1", b"PREPARE x (int) AS SELECT $1"):
        naming = naming_in(sql)
        assert naming is not None
        assert len(prepare(b"x", naming.changes[0].rest)) == len(sql)


def test_a_parse_is_read_as_a_prepare() -> None:
    assert declared(b"x", b"SELECT $1\0\0\0", ()) == b'PREPARE "x" AS SELECT $1'
    types = (20, 17, 0)
    assert declared(b"x", b"SELECT 1\0", types) == b'PREPARE "x" (bigint, unknown) AS SELECT 1'


def test_a_glance_tells_of_it() -> None:
    naming = of_text(b"EXECUTE x").naming
    assert naming is not None
    assert naming.is_lone
    assert of_text(b"SELECT executed FROM prepared") is HARMLESS
    lock = of_text(b"PREPARE x AS SELECT pg_advisory_lock(1), set_config('a', 'b', false)")
    assert (lock.leaves, lock.alters) == (0, False)
    assert of_text(b"PREPARE x AS SELECT 1; SELECT pg_advisory_lock(1)").leaves == LOCK


def test_what_is_run_is_told_apart() -> None:
    naming = naming_in(b"PREPARE x AS SELECT 1; EXECUTE x; EXECUTE y; DEALLOCATE z")
    assert naming is not None
    assert naming.names == (b"x", b"y", b"z")
    assert naming.runs == (b"y",)


PIECES = st.sampled_from(
    (
        *("'", "''", "E'", "\\", "$$", "$a$", '"', "--", "\n", "/*", "*/", ";", " ", "(", ")"),
        *(
            "x",
            "EXECUTE x",
            "PREPARE x AS",
            "SELECT 1",
            "DEALLOCATE",
            "ALL",
            "1",
            "-",
            "/",
            "e",
        ),
    )
)


@given(st.lists(PIECES, max_size=30).map("".join))
def test_nothing_is_too_odd_to_be_looked_at(sql: str) -> None:
    naming = naming_in(sql.encode())
    if naming is not None:
        assert naming.names or naming.changes
        for change in naming.changes:
            assert change.rest in sql.encode()
