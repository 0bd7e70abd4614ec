"""What a client has been told of a statement's columns holds on whichever server it is run.

Programs are played to PostgreSQL and through the router, where the client is sent from one
server to the other, while somebody past the router changes the tables. What comes back must be
the same, message by message: the rows, or that the plan must not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.strict.test_schema_changes import masked
from tests.support.wire import (
    FLUSH,
    SYNC,
    WireClient,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
    rows,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

BEFORE: Final = (
    "DROP TABLE IF EXISTS things, runs; CREATE TABLE things (id int, v text); "
    "INSERT INTO things VALUES (1, '7'), (2, '8'); CREATE TABLE runs (n int)"
)
# By the client's names for them, with a value to bind.
TEXTS: Final[dict[str, tuple[str, tuple[bytes, ...]]]] = {
    "all": ("SELECT * FROM things ORDER BY id", ()),
    "one": ("SELECT v FROM things WHERE id = $1", (b"1",)),
    "put": ("INSERT INTO things (id, v) VALUES ($1, 9) RETURNING id", (b"3",)),
    "set": ("UPDATE things SET id = id RETURNING *", ()),
    "run": ("INSERT INTO runs VALUES (1)", ()),
    "": ("SELECT id FROM things ORDER BY id", ()),
}
CHANGES: Final = (
    "ALTER TABLE things ALTER v TYPE int USING v::int",
    "ALTER TABLE things ALTER v TYPE text",
    "ALTER TABLE things ALTER id TYPE bigint",
    "ALTER TABLE things ALTER id TYPE int",
    "ALTER TABLE things ADD COLUMN IF NOT EXISTS extra int DEFAULT 5",
    "ALTER TABLE things DROP COLUMN IF EXISTS extra",
    # Made anew, and yet the same.
    "CREATE TABLE new AS SELECT * FROM things; "
    "DROP TABLE things; ALTER TABLE new RENAME TO things",
)
SAME: Final = CHANGES[-1]
RENAMED: Final = "ALTER TABLE things RENAME v TO w; ALTER TABLE things ADD v text"
TABLES: Final = ("things", "runs")
RUN: Final = "INSERT INTO runs VALUES (2)"


@dataclass(frozen=True)
class Step:
    """Something that happens.

    Attributes:
        change: what somebody does past the router; or "move": the client has to go elsewhere.
        batches: what the client sends, each with the ReadyForQuery to wait for.
    """

    change: str = ""
    batches: tuple[tuple[bytes, str], ...] = ()


def used(name: str, *, limit: int = 0) -> bytes:
    """Bind and Execute."""
    return bind(*TEXTS[name][1], name=name) + execute(limit=limit)


def prepared(name: str) -> bytes:
    """The client is told of a statement."""
    return close("S", name) + parse(TEXTS[name][0], name) + describe("S", name) + SYNC


def uses(first: str, second: str) -> list[tuple[tuple[bytes, str], ...]]:
    """Ways to use statements, each as batches; see `Step`."""
    one, two, end = used(first), used(second), query("COMMIT")
    values = TEXTS[first][1]
    binary = bind(*values, name=first, formats=(1,)) + execute()
    in_pieces = bind(*values, name=first, portal="p") + execute("p", 1) + execute("p")
    other = parse(RUN, "x") + bind(name="x") + execute()
    whole = [
        one + SYNC,
        binary + SYNC,
        one + two + SYNC,
        two + one + two + SYNC,
        one + FLUSH + SYNC,
        in_pieces + SYNC,
        other + one + close("S", "x") + SYNC,
    ]
    return [
        *(((batch, "Z"),) for batch in whole),
        ((one + SYNC + two + SYNC + one + SYNC, "ZZZ"),),
        ((query("BEGIN") + one + SYNC + query(RUN) + end, "ZZZZ"),),
        tuple(
            (part, "Z") for part in (query("BEGIN"), query(RUN), one + SYNC, two + SYNC, end)
        ),
        tuple((part, "Z") for part in (query("BEGIN"), one + two + SYNC, query("ROLLBACK"))),
    ]


NAMES: Final = st.sampled_from(sorted(set(TEXTS) - {""}))
STEPS: Final = st.one_of(
    st.sampled_from(CHANGES).map(lambda sql: Step(change=sql)),
    st.just(Step(change="move")),
    st.just(Step(change="move")),
    st.tuples(NAMES, NAMES).flatmap(lambda two: st.sampled_from(uses(*two))).map(
        lambda batches: Step(batches=batches)
    ),
    st.tuples(NAMES, NAMES).flatmap(lambda two: st.sampled_from(uses(*two))).map(
        lambda batches: Step(batches=batches)
    ),
    NAMES.map(lambda name: Step(batches=((prepared(name), "Z"),))),
)  # fmt: skip
thorough = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Mover:
    """Takes one of a pool's two servers, so that another client gets the other one."""

    def __init__(self, port: int, name: str) -> None:
        self._held = WireClient.login(port, name)
        self._free = WireClient.login(port, name)
        self._take(self._held)

    @staticmethod
    def _take(client: WireClient) -> None:
        client.query("BEGIN")
        client.query("SELECT 1")

    def move(self) -> None:
        """Take the server that is free, and let the other one go."""
        self._take(self._free)
        self._held.query("COMMIT")
        self._held, self._free = self._free, self._held

    def close(self) -> None:
        """Let both go."""
        self._held.close()
        self._free.close()


class Stage:
    """Where programs are played."""

    def __init__(self, database: Database, router: RouterProcess) -> None:
        self.database = database
        self.router = router
        self.outsider = WireClient.login(database.port, database.name)

    def play(self, program: Sequence[Step], *, directly: bool) -> list[list[object]]:
        """What the client is told, and at the end what there is in the tables."""
        self.outsider.query(BEFORE)
        name = self.database.name if directly else "two"
        port = self.database.port if directly else self.router.port
        told: list[list[object]] = []
        mover = None if directly else Mover(port, name)
        with WireClient.login(port, name) as client:
            told += [anew(client, prepared(statement)) for statement in TEXTS]
            for step in program:
                if step.change == "move":
                    if mover is not None:
                        mover.move()
                elif step.change:
                    self.outsider.query(step.change)
                for batch, until in step.batches:
                    if batch[:1] == b"C":
                        told.append(anew(client, batch))
                    else:
                        found = client.ask(batch, until=until)
                        told.append([masked(each) for each in found])
        if mover is not None:
            mover.close()
        told += [list(self.outsider.query(f"SELECT * FROM {t} ORDER BY 1")) for t in TABLES]
        return told


def anew(client: WireClient, batch: bytes) -> list[object]:
    """Prepare a statement.

    Where a server has it from others, it may tell of the change only now.
    """
    found = client.ask(batch)
    if "0A000" in sqlstates(found):
        found = client.ask(batch)
    return [masked(each) for each in found]


@pytest.fixture(scope="module")
def stage(
    database: Database, module_router: ModuleRouter, pool_for: PoolFor
) -> Iterator[Stage]:
    """A router with a pool of two servers."""
    made = Stage(database, module_router({"two": pool_for(size=2)}))
    yield made
    made.outsider.close()


@thorough
@given(st.lists(STEPS, min_size=2, max_size=12))
def test_programs_are_answered_as_by_a_connection_of_their_own(
    stage: Stage, program: list[Step]
) -> None:
    assert stage.play(program, directly=False) == stage.play(program, directly=True)


@pytest.mark.parametrize("number", range(len(uses("one", "one"))))
@pytest.mark.parametrize("name", sorted(set(TEXTS) - {"", "run"}))
@pytest.mark.parametrize(
    "changes",
    [[], [CHANGES[0], CHANGES[2], CHANGES[4]], [CHANGES[0], CHANGES[1]], [RENAMED], [SAME]],
    ids=["none", "all", "back", "names", "same"],
)
def test_a_statement_is_run_on_a_server_that_lacks_it(
    stage: Stage, name: str, number: int, changes: list[str]
) -> None:
    batches = uses(name, name)[number]
    program = [
        *(Step(change=change) for change in changes),
        Step(change="move"),
        Step(batches=batches),
        Step(batches=batches),
        Step(change="move"),
        Step(batches=batches),
        Step(batches=((prepared(name), "Z"),)),
        Step(batches=batches),
    ]
    directly = stage.play(program, directly=True)
    assert stage.play(program, directly=False) == directly


def test_the_unnamed_statement_is_no_exception(stage: Stage) -> None:
    program = [
        Step(batches=((prepared(""), "Z"),)),
        Step(change=CHANGES[2]),
        Step(change="move"),
        Step(batches=((used("") + SYNC, "Z"),)),
        Step(change=CHANGES[3]),
        Step(batches=((used("") + SYNC, "Z"),)),
    ]
    directly = stage.play(program, directly=True)
    assert "0A000" in str(directly)
    assert stage.play(program, directly=False) == directly


@pytest.mark.parametrize("size", [200_000, 2_000_000])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_long_bind_waits_as_well(stage: Stage, size: int, *, in_transaction: bool) -> None:
    text, value = "INSERT INTO things VALUES (5, $1) RETURNING *", b"1" * size
    told = []
    for directly in (True, False):
        stage.outsider.query(BEFORE)
        port = stage.database.port if directly else stage.router.port
        name = stage.database.name if directly else "two"
        mover = None if directly else Mover(port, name)
        with WireClient.login(port, name) as client:
            client.ask(parse(text, "long") + describe("S", "long") + SYNC)
            found: list[list[object]] = []
            for change in ("", CHANGES[4], CHANGES[5]):
                stage.outsider.query(change)
                if mover is not None:
                    mover.move()
                if in_transaction:
                    client.query("BEGIN")
                answer = client.ask(bind(value, name="long") + execute() + SYNC)
                found.append([masked(each) for each in answer])
                if in_transaction:
                    client.query("COMMIT")
        if mover is not None:
            mover.close()
        found.append(list(stage.outsider.query("SELECT count(*) FROM things")))
        told.append(found)
    assert told[0] == told[1]


def test_who_asks_for_the_columns_each_time_gets_the_new_ones(stage: Stage) -> None:
    stage.outsider.query(BEFORE)
    mover = Mover(stage.router.port, "two")
    with WireClient.login(stage.router.port, "two") as client:
        client.ask(prepared("one"))
        stage.outsider.query(CHANGES[0])
        for _ in range(3):
            mover.move()
            found = client.ask(bind(b"1", name="one") + describe() + execute() + SYNC)
            assert not sqlstates(found)
            assert rows(found) == [[b"7"]]
    mover.close()


def test_the_error_is_the_one_that_drivers_look_for(stage: Stage) -> None:
    stage.outsider.query(BEFORE)
    mover = Mover(stage.router.port, "two")
    with WireClient.login(stage.router.port, "two") as client:
        client.ask(prepared("one"))
        stage.outsider.query(CHANGES[0])
        mover.move()
        [error] = [each for each in client.ask(used("one") + SYNC) if each.kind == "E"]
        assert error.fields["C"] == "0A000"
        assert error.fields["M"] == "cached plan must not change result type"
        assert error.fields["R"] == "RevalidateCachedQuery"
    mover.close()


def test_settings_that_change_the_meaning_of_texts_do_not_hide_it(stage: Stage) -> None:
    stage.outsider.query(BEFORE)
    mover = Mover(stage.router.port, "two")
    with WireClient.login(stage.router.port, "two") as client:
        client.ask(prepared("one"))
        client.query("SET TimeZone TO 'Asia/Tokyo'")
        assert rows(client.ask(used("one") + SYNC)) == [[b"7"]]
        stage.outsider.query(CHANGES[0])
        mover.move()
        assert sqlstates(client.ask(used("one") + SYNC)) == ["0A000"]
    mover.close()


def test_who_has_not_been_told_gets_the_new_columns_and_is_parsed_once(stage: Stage) -> None:
    stage.outsider.query(BEFORE)
    mover = Mover(stage.router.port, "two")
    text = TEXTS["one"][0]
    times = f"SELECT name FROM pg_prepared_statements WHERE statement = '{text}' ORDER BY 1"
    with WireClient.login(stage.router.port, "two") as client:
        client.ask(prepared("one"))
        client.ask(parse(text, "untold") + SYNC)
        stage.outsider.query(CHANGES[0])
        mover.move()
        batch = bind(b"1", name="untold") + execute() + SYNC
        assert rows(client.ask(batch)) == [[b"7"]]
        assert sqlstates(client.ask(used("one") + SYNC)) == ["0A000"]
        assert rows(client.ask(batch)) == [[b"7"]]
        known = client.query(times)
        for _ in range(3):
            assert rows(client.ask(batch)) == [[b"7"]]
            assert client.query(times) == known
        assert sqlstates(client.ask(used("one") + SYNC)) == ["0A000"]
    mover.close()
