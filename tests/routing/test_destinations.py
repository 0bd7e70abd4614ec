"""Where each statement of a long table must go, and why; and what a hot standby says to it.

The table is destinations.txt: a line has the role, the shard and the reason, then the
statement. The pool has three shards, read/write splitting, and the sharding key t.id.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import RouterOptions

from .standby import READ_ONLY_TRANSACTION, a_standby, refusal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from router.routing.types import Route
    from tests.support.cluster.cluster import Shard
    from tests.support.postgres import Database

OPTIONS = RouterOptions(
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    shard_count=3,
    automatic_sharding_key=("t.id",),
)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table."""

    kind: str
    where: str
    sql: str

    @property
    def is_read(self) -> bool:
        """Whether it says that a replica can run it."""
        return self.where.startswith("replica ")

    @property
    def may_be_run(self) -> bool:
        """Whether running it on a server that others use does no harm."""
        return "not to be run" not in self.kind


def read_table() -> Iterator[Line]:
    """Read the table."""
    kind = ""
    for text in (Path(__file__).parent / "destinations.txt").read_text().splitlines():
        if text.startswith("# "):
            kind = text[2:]
        elif text:
            where, _, sql = text.partition(" | ")
            yield Line(kind, where, sql)


TABLE = list(read_table())


def where(route: Route) -> str:
    """A route as the table has it."""
    role = "any" if route.role is None else route.role.value
    return f"{role} {route.shard} {route.reason}"


@pytest.fixture(scope="module")
def router() -> QueryRouter:
    """The router of the pool."""
    return QueryRouter(OPTIONS)


def test_the_table_is_long_and_says_everything_once() -> None:
    assert len(TABLE) > 400
    assert len({line.sql for line in TABLE}) == len(TABLE)
    assert len({line.kind for line in TABLE}) > 20


@pytest.mark.parametrize("line", TABLE, ids=lambda line: line.sql)
def test_a_statement_goes_where_the_table_says(router: QueryRouter, line: Line) -> None:
    state = RoutingState()
    assert where(router.route(line.sql.encode(), state)) == line.where
    assert where(router.route(line.sql.encode(), state)) == line.where, "from the cache"
    assert where(router.route_analysis(router.analyse(line.sql.encode()), state)) == line.where


@pytest.mark.postgres
@pytest.mark.slow
def test_a_hot_standby_agrees_with_the_table(
    replicated: Shard, make_database: Callable[..., Database]
) -> None:
    refused = 0
    with a_standby(replicated, make_database) as standby:
        for line in TABLE:
            if not line.may_be_run:
                assert not line.is_read, line.sql
                continue
            refusal = refusal_of(standby, line.sql)
            assert refusal is None or not line.is_read, f"{line.sql}: {refusal}"
            refused += refusal is not None and refusal.sqlstate == READ_ONLY_TRANSACTION
    assert refused > 120, "the standby must be one"
