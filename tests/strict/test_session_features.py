"""SHOW SESSION_FEATURES: what applications use, in the mode that they are in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.router import wait_until
from tests.support.wire import SYNC, WireClient, parse, query, run, sqlstates

if TYPE_CHECKING:
    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.router import RouterProcess

PROGRAM = (
    "SET work_mem = '3MB'",
    "SELECT pg_advisory_lock(5)",
    "CREATE TEMP TABLE mine (a int)",
    "SELECT 1",
    "BEGIN; SET LOCAL work_mem = '5MB'; COMMIT",
)


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """A pool of each mode; in one of them nobody may be kept."""
    return module_router(
        {
            "session": pool_for(size=2, mode="session"),
            "transaction": pool_for(size=2),
            "none": pool_for(size=2, options='listen = "pin"\nmax_pinned = 0'),
            "statement": pool_for(size=2, mode="statement", options='listen = "pin"'),
        }
    )


def features(router: RouterProcess, pool: str) -> dict[str, dict[str, str]]:
    """The rows of one pool by feature."""
    rows = router.admin("SHOW SESSION_FEATURES")
    assert all(row["application_name"] == "web" for row in rows)
    return {row["feature"]: row for row in rows if row["database"] == pool}


def client(router: RouterProcess, pool: str) -> WireClient:
    return WireClient.login(router.port, pool, parameters={"application_name": "web"})


def test_it_is_told_in_session_mode_before_anything_is_changed(router: RouterProcess) -> None:
    with client(router, "session") as web:
        for sql in PROGRAM:
            web.query(sql)
        web.ask(run("LISTEN mine") + SYNC)
        web.ask(parse("PREPARE x AS SELECT 1", "s") + SYNC)
        found = features(router, "session")
        told = {name: (row["uses"], row["transaction_mode"]) for name, row in found.items()}
        assert told == {
            "SET": ("1", "follows"),
            "PREPARE": ("1", "follows"),
            "advisory lock": ("1", "keeps the server"),
            "temporary table": ("1", "keeps the server"),
            "LISTEN": ("1", "follows"),
        }
        assert {row["pins"] for row in found.values()} == {"0"}


def test_pins_are_counted_by_what_they_are_for(router: RouterProcess) -> None:
    with client(router, "transaction") as web:
        for sql in PROGRAM:
            web.query(sql)
        lock = wait_until(
            "the server has told",
            lambda: (
                [row]
                if (row := features(router, "transaction")["temporary table"])["pins"] == "1"
                else []
            ),
        )
        assert lock[0]["pinned"] == "1"
        found = features(router, "transaction")
        assert found["advisory lock"]["pinned"] == "1"
        assert found["SET"]["pins"] == "0"
        web.query("SELECT pg_advisory_unlock_all(); DROP TABLE mine")
        wait_until(
            "nothing is kept",
            lambda: features(router, "transaction")["advisory lock"]["pinned"] == "0",
        )
        assert int(features(router, "transaction")["advisory lock"]["longest_pin_us"]) > 0
    assert features(router, "transaction")["advisory lock"]["pins"] == "1"


@pytest.mark.parametrize(("pool", "sqlstate"), [("none", "53300"), ("statement", "0A000")])
@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("SELECT pg_advisory_lock(5)", "advisory lock"),
        ("LISTEN mine", "LISTEN"),
        ("SELECT setseed(0)", "LOAD, setseed or dblink"),
        ("LOAD 'plpgsql'", "LOAD, setseed or dblink"),
        ("SET SESSION AUTHORIZATION pg_monitor", "SET SESSION AUTHORIZATION"),
        ("CREATE TEMP TABLE mine (a int)", "temporary table"),
        ("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "cursor WITH HOLD"),
        ("DO $$ BEGIN PERFORM pg_advisory_lock(6); END $$", "advisory lock"),
    ],
)
def test_what_may_not_be_kept_is_refused_by_its_name(
    router: RouterProcess, pool: str, sqlstate: str, sql: str, reason: str
) -> None:
    before = features(router, pool).get(reason, {"refused": "0"})["refused"]
    with client(router, pool) as web:
        web.query(sql)
        said = web.ask(query("SELECT 1"))
        assert sqlstates(said) == [sqlstate]
        assert reason in said[0].fields["M"]
        assert sqlstates(web.ask(query("SELECT 1"))) == []
    assert int(features(router, pool)[reason]["refused"]) == int(before) + 1
