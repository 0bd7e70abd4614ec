"""What a direct connection would parse anew is parsed anew, whatever becomes of the schema.

Programs of Parse, Bind and Execute with schema changes between them are played to PostgreSQL
and through the router, whose server connections others have used for the same texts. What comes
back must be the same, message by message.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.wire import (
    SYNC,
    Message,
    WireClient,
    bind,
    close,
    describe,
    execute,
    parse,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

MODES: Final = ("transaction", "session")
# Oids from here on are those of what has been created.
FIRST_OID: Final = 16384

BEFORE: Final = """
DROP SCHEMA IF EXISTS one CASCADE;
DROP SCHEMA IF EXISTS two CASCADE;
CREATE SCHEMA one; CREATE SCHEMA two;
CREATE TABLE one.things (id int, v text); INSERT INTO one.things VALUES (1, 'a'), (2, 'b');
CREATE TABLE two.things (v int, id bigint); INSERT INTO two.things VALUES (7, 1);
CREATE TYPE one.mood AS ENUM ('a', 'b');
CREATE FUNCTION one.f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 1';
ALTER DATABASE {name} SET search_path = one, public
"""
# Each with the values for one Bind.
TEXTS: Final[dict[str, tuple[bytes, ...]]] = {
    "SELECT * FROM things": (),
    "SELECT id FROM things WHERE v = $1": (b"1",),
    "SELECT $1::mood": (b"a",),
    "SELECT f($1)": (b"1",),
    "SELECT pg_typeof(v)::text FROM things LIMIT 1": (),
    "INSERT INTO things (id, v) VALUES (3, $1) RETURNING *": (b"5",),
}
CHANGES: Final = (
    "ALTER TABLE things ADD COLUMN extra int DEFAULT 7",
    "ALTER TABLE things DROP COLUMN IF EXISTS extra",
    "ALTER TABLE things ALTER v TYPE int USING 1",
    "ALTER TABLE things ALTER v TYPE text",
    "ALTER TABLE things RENAME TO others",
    "ALTER TABLE IF EXISTS others RENAME TO things",
    "DROP TABLE things",
    "CREATE TABLE things (v date, id int)",
    "DROP TYPE IF EXISTS mood",
    "CREATE TYPE mood AS ENUM ('a', 'c')",
    "CREATE TYPE two.mood AS ENUM ('a', 'd')",
    "CREATE FUNCTION f(text) RETURNS text LANGUAGE sql AS 'SELECT $1'",
    "DROP FUNCTION IF EXISTS f(int)",
    "CREATE OR REPLACE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT $1 + 2'",
    # What no tag tells of.
    "DO $$ BEGIN ALTER TABLE things ADD COLUMN quiet int; END $$",
)
# These end with their transaction, so that it may be left to another server afterwards.
LOCAL_CHANGES: Final = (
    "CREATE TEMP TABLE things (z int, v bigint) ON COMMIT DROP",
    "CREATE TEMP TABLE things (v text, id int) ON COMMIT DROP",
    "SET LOCAL search_path TO two, one",
    "SET LOCAL search_path TO one",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "ROLLBACK",
    "COMMIT",
)


@dataclass(frozen=True)
class Step:
    """Something that happens.

    Attributes:
        who: the client that is looked at, another of its pool, or somebody past the router.
        batch: what is sent, up to its ReadyForQuery.
        is_local: it is meant for the inside of a transaction.
    """

    who: str
    batch: bytes
    is_local: bool = False

    @property
    def begins_with_parse(self) -> bool:
        """Whether it counts on nothing that has been prepared before."""
        return self.batch[:1] in (b"P", b"Q")


def batch_of(*messages: bytes) -> bytes:
    """A batch with its Sync."""
    return b"".join(messages) + SYNC


def fresh(text: str, name: str = "") -> bytes:
    """Parse, Bind, Describe and Execute of a text."""
    return parse(text, name) + use(text, name)


def use(text: str, name: str = "") -> bytes:
    """Bind, Describe and Execute of what is hoped to be that text."""
    return bind(*TEXTS.get(text, ()), name=name) + describe() + execute()


def nameless() -> st.SearchStrategy[bytes]:
    """Batches about unnamed statements; some count on what an earlier one has prepared."""
    text = st.sampled_from(sorted(TEXTS))
    change = st.sampled_from(CHANGES)
    return st.one_of(
        text.map(lambda t: batch_of(fresh(t))),
        text.map(lambda t: batch_of(fresh(t))),
        text.map(lambda t: batch_of(use(t))),
        text.map(lambda t: batch_of(parse(t), describe("S"))),
        text.map(lambda t: batch_of(parse(t))),
        st.builds(lambda t, c: batch_of(fresh(t), fresh(c), fresh(t)), text, change),
        st.builds(lambda t, c: batch_of(parse(t), fresh(c), use(t)), text, change),
        st.just(batch_of(close("S"))),
        st.just(batch_of(describe("S"))),
        st.just(batch_of(fresh("SELEC 1"))),
    )


def changes(texts: Sequence[str]) -> st.SearchStrategy[bytes]:
    """Changes in either protocol."""
    change = st.sampled_from(texts)
    return st.one_of(change.map(query), change.map(lambda c: batch_of(fresh(c))))


STEPS: Final = st.one_of(
    nameless().map(lambda batch: Step("client", batch)),
    nameless().map(lambda batch: Step("client", batch)),
    changes(CHANGES).map(lambda batch: Step("client", batch)),
    changes(LOCAL_CHANGES).map(lambda batch: Step("client", batch, is_local=True)),
    st.just(Step("client", query("BEGIN"))),
    nameless().map(lambda batch: Step("neighbour", batch)),
    changes(CHANGES).map(lambda batch: Step("neighbour", batch)),
    changes(CHANGES).map(lambda batch: Step("outsider", batch)),
)
PROGRAMS: Final = st.lists(STEPS, min_size=3, max_size=14)
thorough = settings(
    max_examples=120, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Stage:
    """Where programs are played, on PostgreSQL and through the router."""

    def __init__(self, database: Database, router: RouterProcess) -> None:
        self._database = database
        self._router = router
        self._outsider = WireClient.login(database.port, database.name)

    def close(self) -> None:
        """Close its own connection."""
        self._outsider.close()

    def play(self, program: Sequence[Step], mode: str | None = None) -> list[object]:
        """What the client is told, masked; through a pool of that mode, or directly."""
        self._outsider.query(BEFORE.format(name=self._database.name))
        port, name = self._database.port, self._database.name
        if mode is not None:
            port, name = self._router.port, mode
        told: list[object] = []
        with WireClient.login(port, name) as client, WireClient.login(port, name) as other:
            for one in (client, other):
                one.query("SET search_path TO one, public" if mode != "transaction" else "")
            status, is_outdated = b"I", False
            for step in program:
                if step.who != "client":
                    if status == b"I":  # else the client may hold locks
                        (other if step.who == "neighbour" else self._outsider).ask(step.batch)
                        is_outdated = True
                    continue
                if status == b"I" and (
                    step.is_local or (is_outdated and not step.begins_with_parse)
                ):
                    # What is kept from one transaction to the next may have to be parsed anew
                    # on another server, when others have changed what it is about.
                    continue
                found = client.ask(step.batch)
                status, is_outdated = (
                    found[-1].body,
                    (is_outdated and not step.begins_with_parse),
                )
                told.append([masked(message) for message in found])
        return told


_NUMBERS: Final = re.compile(r"\d{5,}")


def masked(message: Message) -> tuple[str, object]:
    """What must be equal: neither places in the source nor oids of what has been created."""
    kind, body = message.kind, message.body
    if kind in "EN":
        fields = {
            code: _NUMBERS.sub("oid", text)
            for code, text in message.fields.items()
            if code not in "FLR"
        }
        return kind, fields
    if kind == "t":
        count = len(body) // 4
        return kind, [min(oid, FIRST_OID) for oid in struct.unpack_from(f"!{count}I", body, 2)]
    if kind == "T":
        return kind, columns(body)
    return kind, body


def columns(body: bytes) -> list[tuple[object, ...]]:
    """The columns of a RowDescription, with the oids masked."""
    found, pos = list[tuple[object, ...]](), 2
    while pos < len(body):
        end = body.index(b"\0", pos)
        table, number, kind, size, mod, form = struct.unpack_from("!IhIhih", body, end + 1)
        found.append((body[pos:end], table > 0, number, min(kind, FIRST_OID), size, mod, form))
        pos = end + 19
    return found


@pytest.fixture(scope="module")
def stage(
    database: Database, module_router: ModuleRouter, pool_for: PoolFor
) -> Iterator[Stage]:
    """A router with pools of both modes; in transaction mode clients share two servers."""
    database.execute(BEFORE.format(name=database.name))
    router = module_router({mode: pool_for(mode=mode, size=2) for mode in MODES})
    made = Stage(database, router)
    yield made
    made.close()


@thorough
@given(PROGRAMS)
@pytest.mark.parametrize("mode", MODES)
def test_programs_are_answered_as_by_a_connection_of_their_own(
    stage: Stage, mode: str, program: list[Step]
) -> None:
    assert stage.play(program, mode) == stage.play(program)
