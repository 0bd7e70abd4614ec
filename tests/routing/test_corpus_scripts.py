"""The statements of psql scripts, as the corpus takes them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.corpus.scripts import Command, Script, schedule
from tests.corpus.shadow import is_candidate

if TYPE_CHECKING:
    from pathlib import Path


def commands(directory: Path, text: str) -> list[Command]:
    script = directory / "script.sql"
    script.write_text(text)
    return list(Script(script, {"PG_ABS_SRCDIR": "/there"}))


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';', E'\\';', $$;$$, $a$;$$;$a$;", ["SELECT ';', E'\\';', $$;$$, $a$;$$;$a$"]),
        ("SELECT 1 -- a;\n + /* ; /* ; */ */ 2;", ["SELECT 1  \n +   2"]),
        ("\\set x 1\n\\pset null 'y;'\nSELECT :x, a[1:2], b::c;", ["SELECT 1, a[1:2], b::c"]),
        ("SELECT 1 \\gset\nSELECT 2 \\; SELECT 3 \\g\n", ["SELECT 1", "SELECT 2 ; SELECT 3"]),
        (
            "\\getenv d PG_ABS_SRCDIR\n\\set f :d '/x'\nCOPY t FROM :'f';",
            ["COPY t FROM '/there/x'"],
        ),
        ("CREATE RULE r DO (SELECT 1; SELECT 2);", ["CREATE RULE r DO (SELECT 1; SELECT 2)"]),
        (
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END; SELECT 3;",
            ["CREATE FUNCTION f() BEGIN ATOMIC SELECT CASE WHEN a THEN 1 END; END", "SELECT 3"],
        ),
    ],
)
def test_a_script_is_cut_at_its_semicolons(
    tmp_path: Path, text: str, statements: list[str]
) -> None:
    assert [command.sql for command in commands(tmp_path, text)] == statements


def test_the_lines_of_copy_are_data(tmp_path: Path) -> None:
    text = "COPY t FROM stdin;\n1;\n2\n\\.\nSELECT 3;"
    assert commands(tmp_path, text) == [
        Command("COPY t FROM stdin", "1;\n2\n"),
        Command("SELECT 3"),
    ]


def test_a_schedule_names_its_tests_in_order(tmp_path: Path) -> None:
    path = tmp_path / "schedule"
    path.write_text("# all\ntest: a\n\ntest: b c\nignore: d\n")
    assert schedule(path) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "sql", ["select 1", "(SELECT 1)", "-- x\n/* y */ WITH a AS (b)", "TABLE t"]
)
def test_a_query_is_tried_on_the_standby(sql: str) -> None:
    assert is_candidate(sql.encode())


@pytest.mark.parametrize("sql", ["insert into t", "selected", "create table t", ""])
def test_nothing_else_is(sql: str) -> None:
    assert not is_candidate(sql.encode())
