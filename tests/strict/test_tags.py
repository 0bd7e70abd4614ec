"""What is taken for the comment of sqlcommenter, and what PostgreSQL makes of such texts."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.routing.tags import without_tags

if TYPE_CHECKING:
    from tests.support.postgres import Database

    from .conftest import ModuleRouter, PoolFor

BEGINNINGS = (
    "SELECT 1",
    "SELECT 'x",
    "SELECT 'x'",
    "SELECT $$x",
    "SELECT $a$x$a$",
    'SELECT 1 AS "x',
    "SELECT E'x\\'",
    "SELECT /* x",
    "SELECT 1 -- x",
    "SELECT 1 /* x */",
    "SELECT 1;",
    "SELECT 1; SELECT 'x",
)
VALUES = ("", "x", "$$", "$a$", '"', "--", "/", "*", ";", "$$ $$", "$$x", '" "', "/x/", "**")


@pytest.mark.parametrize("seed", range(30))
def test_what_postgresql_accepts_means_the_same_without_it(
    database: Database, seed: int
) -> None:
    dice = random.Random(seed)
    accepted = 0
    with psycopg.connect(
        host=database.host,
        port=database.port,
        dbname=database.name,
        user="postgres",
        autocommit=True,
    ) as connection:
        for _ in range(200):
            pairs = [f"k='{dice.choice(VALUES)}'" for _ in range(dice.choice((1, 1, 2, 3)))]
            gap = dice.choice(("", " ", "\n"))
            text = f"{dice.choice(BEGINNINGS)}{gap}/*{','.join(pairs)}*/"
            bare = without_tags(text.encode()).decode()
            if bare == text:
                continue
            try:
                rows = connection.execute(text).fetchall()
            except psycopg.Error:
                continue
            assert rows == connection.execute(bare).fetchall()
            accepted += 1
    assert accepted > 20


def test_drivers_with_tags_share_one_statement_on_the_server(
    module_router: ModuleRouter, pool_for: PoolFor
) -> None:
    router = module_router({"db": pool_for()})
    for number in range(50):
        with router.connect("db") as connection:
            trace = f"00-{number:032x}-{number:016x}-01"
            text = f"SELECT %s::int /*framework='x',traceparent='{trace}'*/"
            row = connection.execute(text, (number,), prepare=True).fetchone()
            assert row == (number,)
    servers = [row for row in router.admin("SHOW SERVERS") if row["database_name"] == "db"]
    assert [row["prepare_cache_size"] for row in servers] == ["1"]
    [fingerprint] = [row for row in router.admin("SHOW QUERIES") if "::int" in row["query"]]
    assert (fingerprint["query"], fingerprint["calls"]) == ("SELECT $1::int", "50")
