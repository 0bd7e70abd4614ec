"""Transactions without a server, while an administrator works: reloads, PAUSE and RESUME.

Programs and events are drawn at random. What a client is told is what PostgreSQL tells it
directly, message by message, whatever happens to its pool between its BEGIN and its first
statement.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strict.test_deferred_begin import (
    ANYWHERE,
    BEGINS,
    SHARDS,
    answers,
    batches,
    texts,
    thorough,
    unread,
)
from tests.support.router import (
    ADMIN,
    ADMIN_PASSWORD,
    PoolText,
    RouterProcess,
    config_text,
    primary_of,
    wait_until,
)
from tests.support.wire import (
    SYNC,
    WireClient,
    bind,
    cancel,
    describe,
    execute,
    parse,
    query,
    run,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.strict.conftest import ModuleRouter
    from tests.support.postgres import Database
    from tests.support.wire import Message

pytestmark = pytest.mark.postgres

# They are on the default shard, be there two or three: what names no key is there as well.
KEYS: Final = (42, 1234)
SHARDED: Final = 'query_parser_enabled = true\nautomatic_sharding_key = "t.id"'
# What a reload may make of the pool; the number is that of its shards. The first is how it
# begins.
FACES: Final = (
    ("deferred_begin = true", 1),
    ("deferred_begin = false", 1),
    ("deferred_begin = true\nstatement_timeout = 100000", 1),
    ("deferred_begin = true\nidle_timeout = 100000", 1),
    ('deferred_begin = true\npool_mode = "session"', 1),
    ("deferred_begin = true\nprepared_statements_cache_size = 0", 1),
    (SHARDED, SHARDS),
    (SHARDED, SHARDS - 1),
    (SHARDED + "\ndeferred_begin = false", 1),
)
PAUSE: Final = -1
RECONNECT: Final = -2


class Stage:
    """A router whose configuration changes, and a database with the same rows."""

    def __init__(self, database: Database, router: RouterProcess) -> None:
        self._database = database
        self.router = router
        self._face = 0
        self._admin = self._login()

    def _login(self) -> psycopg.Connection:
        return psycopg.connect(
            self.router.dsn("pgcat", ADMIN, ADMIN_PASSWORD),
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        )

    def login(self) -> WireClient:
        """A client of the router."""
        return WireClient.login(self.router.port, "db")

    def close(self) -> None:
        """Close the connection to the admin database."""
        self._admin.close()

    def play(
        self,
        program: Sequence[list[bytes]],
        key: int,
        events: Sequence[int | None] | None = None,
    ) -> list[object]:
        """What the client is told, directly or by the router.

        Before each exchange with that an event may come.
        """
        self._restore()
        self.show(0)
        port, name = self._database.port, self._database.name
        if events is not None:
            port, name = self.router.port, "db"
        happens = [*(events or ()), *([None] * len(program)), None]
        told: list[tuple[str, object]] = []
        with WireClient.login(port, name) as client:
            for exchange, event in zip([*program, [query("ROLLBACK")]], happens, strict=False):
                data, until = filled(exchange, key), "Z" * len(exchange)
                if event == PAUSE:
                    told += answers(self._ask_paused(client, data, until))
                    continue
                if event == RECONNECT:
                    self._admin.execute("RECONNECT db")
                elif event is not None:
                    self.show(event)
                told += answers(client.ask(data, until=until))
        return unread(told)

    def _ask_paused(self, client: WireClient, data: bytes, until: str) -> list[Message]:
        """Ask while the pool is paused, which is over as soon as that has been read."""
        with closing(self._login()) as pauser:
            pauser.pgconn.send_query(b"PAUSE db")  # no answer while a transaction has a server
            pauser.pgconn.flush()
            wait_until("the pool is paused", self._is_paused)
            client.send(data)
            client.wait_consumed()
            self._admin.execute("RESUME db")
            return client.read_until(until)

    def _is_paused(self) -> bool:
        cursor = self._admin.execute("SHOW DATABASES")
        assert cursor.description is not None
        names = [column.name for column in cursor.description]
        found = [dict(zip(names, row, strict=True)) for row in cursor]
        return any(row["paused"] for row in found)

    def show(self, face: int) -> None:
        """Reload with another configuration."""
        if face != self._face:
            self._face = face
            pools = {"db": pool_text(self._database, face)}
            self.router.config_path.write_text(config_text(self.router.port, pools))
            self._admin.execute("RELOAD")

    def _restore(self) -> None:
        self._database.execute(
            f"INSERT INTO t SELECT unnest(ARRAY{list(KEYS)}), 'v'"
            " ON CONFLICT (id) DO UPDATE SET v = 'v' WHERE t.v <> 'v'"
        )


def pool_text(database: Database, face: int) -> PoolText:
    """The pool; its shards are one database, so that what is written is seen by all."""
    options, count = FACES[face]
    shards = [primary_of(database.server)] * count
    return PoolText(shards, database.name, pool_size=2, options=options)


def filled(exchange: Sequence[bytes], key: int) -> bytes:
    """The messages of an exchange, about a certain row."""
    return b"".join(exchange).replace(b"{key}", b"%05d" % key)


@pytest.fixture(scope="module")
def stage(database: Database, module_router: ModuleRouter) -> Iterator[Stage]:
    """Where programs are played."""
    made = Stage(database, module_router({"db": pool_text(database, 0)}))
    yield made
    made.close()


EVENTS: Final = st.lists(
    st.one_of(
        st.none(),
        st.integers(0, len(FACES) - 1),
        st.integers(0, len(FACES) - 1),
        st.sampled_from((PAUSE, RECONNECT)),
    ),
    max_size=8,
)
PROGRAMS: Final = st.builds(
    lambda first, others: [first, *others],
    st.sampled_from(BEGINS).map(lambda sql: [query(sql)]),
    st.lists(batches(texts(ANYWHERE)), min_size=1, max_size=6),
)


@thorough
@given(PROGRAMS, EVENTS, st.sampled_from(KEYS))
def test_a_program_is_answered_as_by_one_server_whatever_happens_to_its_pool(
    stage: Stage, program: list[list[bytes]], events: list[int | None], key: int
) -> None:
    assert stage.play(program, key, events) == stage.play(program, key)


@pytest.mark.parametrize("first", range(len(FACES)))
@pytest.mark.parametrize(
    "ending",
    [query("COMMIT"), run("COMMIT") + SYNC, parse("COMMIT") + bind() + execute() + SYNC],
)
def test_a_failed_transaction_can_be_ended_whatever_a_reload_has_made_of_its_pool(
    stage: Stage, first: int, ending: bytes
) -> None:
    for face in range(len(FACES)):
        stage.show(first)
        with stage.login() as client:
            assert client.ask(query("BEGIN"))[-1].body == b"T"
            found = client.ask(query("ROLLBACK TO sp_1"))
            assert (sqlstates(found), found[-1].body) == (["3B001"], b"E")
            stage.show(face)
            found = client.ask(query("SELECT 1"))
            assert (sqlstates(found), found[-1].body) == (["25P02"], b"E")
            found = client.ask(ending)
            assert found[-2].body == b"ROLLBACK\0", found
            assert found[-1].body == b"I"
            assert client.value("SELECT 5") == "5"


def test_a_transaction_without_a_pool_ends_with_its_session(
    database: Database, module_router: ModuleRouter
) -> None:
    router = module_router({"db": pool_text(database, 0), "other": pool_text(database, 0)})
    with WireClient.login(router.port, "db") as client:
        client.query("BEGIN")
        router.reload(config_text(router.port, {"other": pool_text(database, 0)}))
        client.send(query("COMMIT"))
        found = client.read_to_end()
        assert (sqlstates(found), found[-1].fields["S"]) == (["3D000"], "FATAL")


@pytest.mark.parametrize(
    ("limit", "sqlstate"),
    [("idle_client_in_transaction_timeout", "25P03"), ("transaction_timeout", "25P04")],
)
def test_limits_hold_for_a_transaction_without_a_server(
    database: Database, start_router: Callable[..., RouterProcess], limit: str, sqlstate: str
) -> None:
    router = start_router({"db": pool_text(database, 0)}, f"{limit} = 300")
    programs = {
        "begun": [query("BEGIN")],
        "begun by a batch": [run("BEGIN") + SYNC],
        "failed": [query("BEGIN"), query("ROLLBACK TO sp_1")],
        "anew": [query("BEGIN"), query("COMMIT AND CHAIN")],
        "prepared": [query("BEGIN"), parse("SELECT 1", "s") + describe("S", "s") + SYNC],
        "with a server": [query("BEGIN"), query("SELECT 1")],
    }
    for name, program in programs.items():
        with WireClient.login(router.port, "db") as client:
            for exchange in program:
                client.ask(exchange)
            found = client.read_to_end()
            assert (name, sqlstates(found)) == (name, [sqlstate])
    [row] = [row for row in router.admin("SHOW TIMEOUTS") if row["sqlstate"] == sqlstate]
    assert row["total"] == str(len(programs))


def test_a_client_that_got_no_server_is_idle_in_its_transaction(
    database: Database, start_router: Callable[..., RouterProcess]
) -> None:
    router = start_router(
        {"db": pool_text(database, 0)}, "idle_client_in_transaction_timeout = 300"
    )
    with WireClient.login(router.port, "db") as client:
        client.query("BEGIN")
        router.admin("PAUSE")
        client.send(query("SELECT 1"))

        def has_waited() -> bool:
            row = router.pool("db")
            return int(row["maxwait"]) > 0 or int(row["maxwait_us"]) > 400_000

        wait_until("the client has waited for longer than it may be idle", has_waited)
        cancel(router.port, client.pid, client.secret)
        found = client.read_until("Z")
        assert (sqlstates(found), found[-1].body) == (["57014"], b"E")
        assert sqlstates(client.read_to_end()) == ["25P03"]
