"""pgbench, whose transactions check that nothing is lost under load."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .conftest import (
    SESSION,
    SINGLE,
    TINY_CACHE,
    TRANSACTION,
    TRANSACTION_POOL_SIZE,
    run_program,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import Proxied

CLIENTS = 2 * TRANSACTION_POOL_SIZE
PROTOCOLS = pytest.mark.parametrize("protocol", ["simple", "extended", "prepared"])


@pytest.fixture(scope="module")
def tables(proxied: Proxied) -> None:
    """pgbench's tables, made through the router."""
    command = [proxied.program("pgbench"), "--initialize", "--quiet", "--scale=1"]
    done = run_program(command, proxied.environment(SESSION))
    assert done.returncode == 0, done.stderr


@pytest.fixture
def pgbench(proxied: Proxied, tables: None) -> Callable[..., int]:
    """Return a function that runs pgbench without any error and returns what it has done."""

    def bench(pool: str, *options: str) -> int:
        command = [proxied.program("pgbench"), "--no-vacuum", *options]
        done = run_program(command, proxied.environment(pool))
        assert done.returncode == 0, done.stderr
        assert not re.search("error|fatal|abort", done.stderr, re.IGNORECASE), done.stderr
        assert "number of failed transactions: 0 (0.000%)" in done.stdout
        found = re.search(r"actually processed: (\d+)/(\d+)", done.stdout)
        assert found is not None, done.stdout
        assert found[1] == found[2]
        return int(found[1])

    return bench


@PROTOCOLS
@pytest.mark.parametrize("pool", [SINGLE, TRANSACTION])
def test_reads_of_more_clients_than_servers(
    pgbench: Callable[..., int], pool: str, protocol: str
) -> None:
    done = pgbench(pool, "-S", f"-c{CLIENTS}", "-t100", f"--protocol={protocol}")
    assert done == CLIENTS * 100


@PROTOCOLS
@pytest.mark.parametrize("pool", [SINGLE, TRANSACTION])
def test_transactions_lose_and_double_nothing(
    proxied: Proxied, pgbench: Callable[..., int], pool: str, protocol: str
) -> None:
    with proxied.direct() as directly:
        directly.execute("TRUNCATE pgbench_history")
        directly.execute("UPDATE pgbench_accounts SET abalance = 0 WHERE abalance <> 0")
        directly.execute("UPDATE pgbench_tellers SET tbalance = 0")
        directly.execute("UPDATE pgbench_branches SET bbalance = 0")
        done = pgbench(pool, f"-c{CLIENTS}", "-t20", f"--protocol={protocol}")
        row = directly.execute(
            "SELECT (SELECT count(*) FROM pgbench_history),"
            " (SELECT sum(delta) FROM pgbench_history),"
            " (SELECT sum(abalance) FROM pgbench_accounts),"
            " (SELECT sum(tbalance) FROM pgbench_tellers),"
            " (SELECT sum(bbalance) FROM pgbench_branches)"
        ).fetchone()
    assert row is not None
    count, deltas, *balances = row
    assert count == done == CLIENTS * 20
    assert balances == [deltas] * 3


@PROTOCOLS
def test_a_connection_for_each_transaction(pgbench: Callable[..., int], protocol: str) -> None:
    assert pgbench(TRANSACTION, "-C", "-S", "-c8", "-t20", f"--protocol={protocol}") == 160


@PROTOCOLS
def test_more_statements_than_a_server_keeps(
    pgbench: Callable[..., int], protocol: str, tmp_path: Path
) -> None:
    script = tmp_path / "statements.sql"
    script.write_text("".join(f"SELECT :client_id + {number};\n" for number in range(20)))
    done = pgbench(TINY_CACHE, f"-f{script}", "-c8", "-t10", f"--protocol={protocol}")
    assert done == 80


@pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])
@pytest.mark.parametrize("protocol", ["extended", "prepared"])
def test_pipelines_within_and_without_transactions(
    pgbench: Callable[..., int], pool: str, protocol: str, tmp_path: Path
) -> None:
    reads = "SELECT :client_id;\n" * 10
    script = tmp_path / "pipeline.sql"
    script.write_text(
        f"\\startpipeline\n{reads}\\syncpipeline\n{reads}\\endpipeline\n"
        f"\\startpipeline\nBEGIN;\n{reads}COMMIT;\n\\endpipeline\n"
    )
    assert pgbench(pool, f"-f{script}", "-c6", "-t20", f"--protocol={protocol}") == 120
