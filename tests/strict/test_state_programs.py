"""Programs of whatever leaves something behind, directly and through a pool with neighbours.

They are drawn at random. What a client is told must be the same, message by message, and its
neighbours must see nothing of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strict.test_session_state import LOOKS, masked
from tests.support.wire import SYNC, WireClient, bind, execute, parse, query, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

NAMES: Final = ("app.user_id", "app.tenant", "work_mem", "search_path")
VALUES: Final = {
    "app.user_id": ("'1'", "'x y'", "''"),
    "app.tenant": ("'ä\\'", "7"),
    "work_mem": ("'3MB'", "4321", "'1GB'"),
    "search_path": ("pg_temp, public", "'odd \"one', public", "other"),
}
# All that is to be seen in one row, so that it can be asked in a transaction as well.
LOOK: Final = "SELECT " + ", ".join(
    f"({sql})" if sql.startswith("SELECT") else f"current_setting('{sql[5:]}')"
    for sql in (*LOOKS.values(), "SHOW TimeZone", "SHOW DateStyle")
)


def settings_statements() -> st.SearchStrategy[str]:
    """SET in its forms."""
    name = st.sampled_from(NAMES)
    pair = name.flatmap(lambda n: st.tuples(st.just(n), st.sampled_from(VALUES[n])))
    plain = st.sampled_from(("app.user_id", "app.tenant"))
    flag = st.sampled_from(("true", "false"))
    return st.one_of(
        pair.map(lambda p: f"SET {p[0]} = {p[1]}"),
        pair.map(lambda p: f"SET SESSION {p[0].upper()} TO {p[1]}"),
        pair.map(lambda p: f"SET LOCAL {p[0]} = {p[1]}"),
        plain.map(lambda n: f"SELECT set_config('{n}', 'brief', true)"),
        st.builds(lambda n, f: f"SELECT set_config('{n}', 'made', {f})", plain, flag),
        plain.map(lambda n: f"DO $$ BEGIN PERFORM set_config('{n}', 'do', false); END $$"),
        name.map(lambda n: f"RESET {n}"),
        st.sampled_from(("SET ROLE pg_monitor", "RESET ROLE", "RESET ALL", "DISCARD ALL")),
        st.sampled_from(("SET TimeZone = 'Asia/Tokyo'", "SET LOCAL DateStyle = 'German'")),
    )


OTHERS: Final = st.sampled_from(
    (
        *("BEGIN", "BEGIN", "COMMIT", "COMMIT", "ROLLBACK", "SAVEPOINT a", "ROLLBACK TO a"),
        *("SELECT 1/0", "SELECT 1", "SELECT 1"),
        *("CREATE TEMP TABLE mine AS SELECT 7 AS a", "DROP TABLE mine", "SELECT * FROM mine"),
        "CREATE TEMP TABLE mine (a int) ON COMMIT DROP",
        *("SELECT pg_advisory_lock(71)", "SELECT pg_advisory_unlock(71)"),
        *("SELECT pg_advisory_unlock_all()", "SELECT pg_advisory_xact_lock(72)"),
        *("DECLARE mine CURSOR WITH HOLD FOR SELECT 1", "FETCH mine", "CLOSE mine"),
        *("LISTEN mine", "UNLISTEN mine", "NOTIFY mine", "UNLISTEN *"),
        *("PREPARE mine AS SELECT 5", "EXECUTE mine", "DEALLOCATE mine", "DEALLOCATE ALL"),
    )
)
STATEMENT: Final = st.one_of(settings_statements(), OTHERS)
SIMPLE: Final = st.lists(STATEMENT, min_size=1, max_size=3).map("; ".join).map(query)
EXTENDED: Final = STATEMENT.map(lambda sql: run(sql) + SYNC)
BOUND: Final = st.sampled_from((b"app.user_id", b"app.tenant")).map(
    lambda name: (
        parse("SELECT set_config($1, $2, false)") + bind(name, b"bound") + execute() + SYNC
    )
)


@dataclass(frozen=True)
class Step:
    """A batch of the client, or a neighbour that looks around."""

    batch: bytes | None


PROGRAMS: Final = st.lists(
    st.one_of(SIMPLE, SIMPLE, EXTENDED, BOUND, st.none()).map(Step), min_size=2, max_size=12
)
thorough = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Stage:
    """Where programs are played."""

    def __init__(self, database: Database, router: RouterProcess) -> None:
        self._database = database
        self._router = router
        with WireClient.login(database.port, database.name) as fresh:
            self._clean = fresh.query(LOOK)

    def play(self, program: Sequence[Step], pool: str | None = None) -> list[object]:
        """What the client is told, and sees between its transactions."""
        port, name = self._database.port, self._database.name
        if pool is not None:
            port, name = self._router.port, pool
        told: list[object] = []
        with WireClient.login(port, name) as client:
            status = b"I"
            for step in program:
                if step.batch is None:
                    if status == b"I":
                        self._look_around(pool)
                    continue
                found = client.ask(step.batch)
                status = found[-1].body
                told.append(answers(found))
                if status == b"I":
                    told.append(answers(client.ask(query(LOOK))))
        self._look_around(pool)
        return told

    def _look_around(self, pool: str | None) -> None:
        """Neighbours use the connections that there are, and see nothing."""
        if pool is None:
            return
        with (
            WireClient.login(self._router.port, pool) as one,
            WireClient.login(self._router.port, pool) as two,
        ):
            one.ask(query("BEGIN"))
            assert two.query(LOOK) == self._clean
            assert one.query(LOOK) == self._clean
            two.query("SET app.user_id = 'neighbour'; SET work_mem = '5MB'")


def answers(messages: Sequence[Message]) -> list[tuple[str, object]]:
    """What must be equal: where among the answers a ParameterStatus comes may differ."""
    return [masked(message) for message in messages if message.kind != "S"]


@pytest.fixture(scope="module")
def stage(database: Database, module_router: ModuleRouter, pool_for: PoolFor) -> Stage:
    """A router with a pool of three servers, one of which may be kept."""
    return Stage(database, module_router({"three": pool_for(size=3, options="max_pinned = 1")}))


@thorough
@given(PROGRAMS)
def test_programs_are_answered_as_by_a_connection_of_their_own(
    stage: Stage, program: list[Step]
) -> None:
    assert stage.play(program, "three") == stage.play(program)
