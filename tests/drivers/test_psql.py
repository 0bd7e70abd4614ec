"""psql, as people use it: backslash commands, scripts, copies from files, errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .conftest import SESSION, SINGLE, STATEMENT, TRANSACTION, run_program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Proxied

POOLS = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])


@pytest.fixture
def psql(proxied: Proxied) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that feeds psql a script, through a pool."""
    program = proxied.program("psql")

    def feed(pool: str, script: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [program, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", *options]
        return run_program(command, proxied.environment(pool), script)

    return feed


@pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE, STATEMENT])
def test_backslash_commands_describe_what_is_there(
    psql: Callable[..., subprocess.CompletedProcess[str]], pool: str
) -> None:
    done = psql(
        pool,
        """
        CREATE TABLE psql_described (id int PRIMARY KEY, word text DEFAULT 'x');
        \\d psql_described
        \\dt psql_*
        \\di psql_*
        \\l
        \\df pg_backend_pid
        \\conninfo
        DROP TABLE psql_described;
        """,
        "--set=ON_ERROR_STOP=1",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "id|integer||not null|" in done.stdout
    assert "public|psql_described_pkey|index|postgres|psql_described" in done.stdout
    assert "public|psql_described|table|postgres" in done.stdout
    assert "pg_catalog|pg_backend_pid|integer||func" in done.stdout


@POOLS
def test_a_file_is_copied_in_and_out(
    psql: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path, pool: str
) -> None:
    lines = "".join(f"{number},line {number}\n" for number in range(20_000))
    (tmp_path / "in.csv").write_text(lines)
    done = psql(
        pool,
        f"""
        CREATE TABLE psql_copied (id int, line text);
        \\copy psql_copied FROM '{tmp_path}/in.csv' WITH (FORMAT csv)
        \\copy (SELECT * FROM psql_copied ORDER BY id) TO '{tmp_path}/out.csv' WITH (FORMAT csv)
        DROP TABLE psql_copied;
        """,
        "--set=ON_ERROR_STOP=1",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "out.csv").read_text() == lines


@POOLS
def test_data_within_a_script_is_copied(
    psql: Callable[..., subprocess.CompletedProcess[str]], pool: str
) -> None:
    script = """BEGIN;
CREATE TEMP TABLE inline (id int, word text) ON COMMIT DROP;
COPY inline FROM STDIN;
1\tone
2\ttwo
\\.
SELECT * FROM inline ORDER BY id;
COMMIT;
"""
    done = psql(pool, script)
    assert (done.stdout, done.stderr) == ("1|one\n2|two\n", "")


@POOLS
def test_errors_are_shown_with_their_place_and_the_script_goes_on(
    psql: Callable[..., subprocess.CompletedProcess[str]], pool: str
) -> None:
    done = psql(pool, "SELECT 1;\nSELECT nothing;\nSELEKT;\nSELECT 2;\n")
    assert done.stdout == "1\n2\n"
    assert 'column "nothing" does not exist' in done.stderr
    assert "LINE 1: SELECT nothing;" in done.stderr
    assert 'syntax error at or near "SELEKT"' in done.stderr


@POOLS
def test_several_statements_in_one_go_are_one_transaction(
    psql: Callable[..., subprocess.CompletedProcess[str]], pool: str
) -> None:
    done = psql(
        pool,
        "",
        "--command=CREATE TABLE psql_atomic (a int); SELECT 'within'; SELECT 1/0",
        "--command=SELECT to_regclass('psql_atomic') IS NULL",
        "--command=SELECT 1; SELECT 2; SELECT 3",
    )
    assert "division by zero" in done.stderr
    assert done.stdout == "within\nt\n1\n2\n3\n"


@POOLS
def test_a_whole_script_in_one_transaction_with_savepoints(
    psql: Callable[..., subprocess.CompletedProcess[str]], pool: str
) -> None:
    script = """
\\set ON_ERROR_ROLLBACK on
BEGIN;
SELECT 'before';
SELECT 1/0;
SELECT 'after';
COMMIT;
"""
    done = psql(pool, script)
    assert done.stdout == "before\nafter\n"
    assert "division by zero" in done.stderr


@POOLS
def test_results_are_fetched_by_cursor_and_described_and_bound(
    psql: Callable[..., subprocess.CompletedProcess[str]], pool: str
) -> None:
    script = """
\\set FETCH_COUNT 10
SELECT i FROM generate_series(1, 35) i;
\\set FETCH_COUNT 0
SELECT 1 AS one, 'x'::text AS two \\gdesc
SELECT 'SELECT ' || i FROM generate_series(100, 102) i \\gexec
"""
    done = psql(pool, script)
    numbers = "".join(f"{number}\n" for number in range(1, 36))
    assert (done.stdout, done.stderr) == (
        f"{numbers}one|integer\ntwo|text\n100\n101\n102\n",
        "",
    )


@POOLS
def test_pipelines_and_bound_and_named_statements(
    psql: Callable[..., subprocess.CompletedProcess[str]], pool: str
) -> None:
    script = """
SELECT $1::int + $2::int \\bind 1 2 \\g
SELECT 'named ' || $1::text \\parse by_name
\\bind_named by_name x \\g
\\startpipeline
SELECT 'first' \\bind \\sendpipeline
\\bind_named by_name y \\sendpipeline
\\syncpipeline
SELECT 1/0 \\bind \\sendpipeline
SELECT 'skipped' \\bind \\sendpipeline
\\syncpipeline
SELECT 'last' \\bind \\sendpipeline
\\endpipeline
\\close_prepared by_name
\\bind_named by_name z \\g
"""
    done = psql(pool, script)
    if "invalid command" in done.stderr:
        pytest.skip("this psql has no pipelines: they came with version 18")
    assert [line for line in done.stdout.splitlines() if "aborted" not in line] == [
        *("3", "named x", "first", "named y", "last"),
    ]
    assert "division by zero" in done.stderr
    assert 'prepared statement "by_name" does not exist' in done.stderr


def test_psql_shows_the_pools_of_the_admin_database(proxied: Proxied) -> None:
    environment = {
        **proxied.environment("pgcat"),
        "PGUSER": "admin",
        "PGPASSWORD": "admin_secret",
    }
    done = run_program(
        [proxied.program("psql"), "--no-psqlrc", "--csv", "-c", "SHOW POOLS"], environment
    )
    assert done.returncode == 0, done.stderr
    assert f"\n{SINGLE},postgres,transaction," in done.stdout
