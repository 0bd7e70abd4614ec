"""Which features of a session a text uses, and how that is counted."""

from __future__ import annotations

import pytest

from router.protocol.features import BITS, MOST_APPLICATIONS, OTHERS, Features, commands_in
from router.protocol.marks import HARMLESS, of_text


def used(sql: str) -> list[str]:
    uses = of_text(sql.encode()).uses
    return [name for name, bit in BITS.items() if uses & bit]


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SET work_mem = 1; RESET ALL", ["SET", "RESET"]),
        ("/* a */ set -- b\n time zone 'UTC'", ["SET"]),
        ("SET ROLE x", ["SET ROLE"]),
        ("SET SESSION ROLE x", ["SET ROLE"]),
        ("SET SESSION AUTHORIZATION x", ["SET SESSION AUTHORIZATION"]),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", ["SET"]),
        ("SET LOCAL ROLE x", []),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", []),
        ("SELECT set_config('a.b', 'c', false)", ["set_config()"]),
        ("SELECT set_config('a.b', 'c', true)", []),
        ("PREPARE x AS SELECT pg_advisory_lock(1)", ["PREPARE"]),
        ("DEALLOCATE x", []),
        ("DISCARD ALL", ["DISCARD ALL"]),
        ("CREATE TEMP TABLE t (a int)", ["temporary table"]),
        ("SELECT pg_try_advisory_lock(1)", ["advisory lock"]),
        ("SELECT pg_advisory_xact_lock(1)", []),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", ["cursor WITH HOLD"]),
        ("LISTEN x", ["LISTEN"]),
        ("LOAD 'x'", ["LOAD, setseed or dblink"]),
        ("SELECT setseed(0)", ["LOAD, setseed or dblink"]),
        ("SELECT lo_creat(1)", ["large object"]),
        ("DO $$ BEGIN END $$", ["DO or CALL"]),
        ("CALL p()", ["DO or CALL"]),
        ("SELECT listen, load FROM called", []),
    ],
)
def test_what_a_text_uses_is_seen(sql: str, expected: list[str]) -> None:
    assert used(sql) == expected


def test_what_uses_nothing_is_harmless() -> None:
    assert of_text(b"SELECT listen, load FROM documents") is HARMLESS


def test_uses_are_counted_by_application() -> None:
    features = Features()
    features.note("web", BITS["SET"] | BITS["LISTEN"], 10.0)
    features.note("web", BITS["SET"], 15.0)
    first, second = object(), object()
    features.pin("web", first, ("LISTEN",), 11.0)
    features.pin("web", first, ("LISTEN", "advisory lock"), 11.0)
    features.pin("web", second, ("LISTEN",), 14.0)
    features.unpin(first, 19.0)
    features.refuse("batch", ("advisory lock",))
    found = {
        (row.application, row.feature): (row.uses, row.age, row.pins, row.pinned, row.longest)
        for row in features.snapshots("db", "user", 20.0, is_listening=False)
    }
    assert found == {
        ("batch", "advisory lock"): (0, None, 0, 0, 0.0),
        ("web", "SET"): (2, 5.0, 0, 0, 0.0),
        ("web", "LISTEN"): (1, 10.0, 2, 1, 8.0),
        ("web", "advisory lock"): (0, None, 1, 0, 8.0),
    }


def test_applications_are_bounded_in_number_and_length() -> None:
    features = Features()
    for number in range(3 * MOST_APPLICATIONS):
        features.note(f"{number} {'x' * 1000}", BITS["SET"], 1.0)
    rows = list(features.snapshots("db", "user", 2.0, is_listening=False))
    assert len(rows) == MOST_APPLICATIONS + 1
    assert max(len(row.application) for row in rows) <= 64
    assert {row.uses for row in rows if row.application == OTHERS} == {2 * MOST_APPLICATIONS}


@pytest.mark.parametrize("length", [0, 199, 200, 201, 500])
@pytest.mark.parametrize("ends", ["", "\n", "\r"])
def test_the_end_of_a_comment_is_no_command(length: int, ends: str) -> None:
    assert commands_in(f"--{'x' * length}set role a") == 0
    is_read = length <= 200 and ends
    found = commands_in(f"--{'x' * length}{ends}set role a")
    assert found == (BITS["SET ROLE"] if is_read else 0)
