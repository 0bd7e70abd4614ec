"""Clients that leave at every point, in every manner: nobody else may notice."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING

import pytest

from tests.support.router import wait_until
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    Ended,
    WireClient,
    bind,
    copy_data,
    execute,
    parse,
    query,
    run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

# The messages of each script, one by one; a string is what to wait for before going on, if the
# client is one that reads. The last message of a script makes it take effect; what comes
# before may leave nothing in the table.
Script = tuple[bytes | str, ...]

INSERT = "INSERT INTO t SELECT coalesce(max(id), 0) + 1, 'left behind' FROM t"
LITTER = (
    "SET work_mem = '123MB'; SET search_path = nowhere; CREATE TEMP TABLE litter (id int);"
    "SELECT pg_advisory_lock(4711); LISTEN litter; PREPARE litter AS SELECT 1;"
    "DECLARE litter CURSOR WITH HOLD FOR SELECT 1"
)
SCRIPTS: dict[str, Script] = {
    "another user": (
        *(query("SET SESSION AUTHORIZATION pg_monitor; SET ROLE pg_read_all_stats"), "Z"),
        *(query("BEGIN"), "Z", query("SET LOCAL ROLE NONE"), "Z", query("COMMIT")),
    ),
    "transaction": (
        *(
            query("BEGIN"),
            "Z",
            query(INSERT),
            "Z",
            query("SELECT pg_advisory_xact_lock(1)"),
            "Z",
        ),
        *(query("SAVEPOINT a"), "Z", query("SELECT 1/0"), "Z", query("ROLLBACK TO a"), "Z"),
        query("COMMIT"),
    ),
    "litter": (query(LITTER), "Z", query("BEGIN"), "Z", query(LITTER), "Z", query("SELECT 1")),
    "extended transaction": (
        *(parse("BEGIN"), bind(), execute(), SYNC, "Z", parse(INSERT, "i"), bind(name="i")),
        *(execute(), SYNC, "Z", bind(name="i"), execute(), SYNC, "Z", query("COMMIT")),
    ),
    "pipeline": (
        parse(INSERT, "i"),
        bind(name="i"),
        execute(),
        bind(name="i"),
        execute(),
        SYNC,
    ),
    "flushed pipeline": (
        *(parse(INSERT, "i"), FLUSH, "1", bind(name="i"), FLUSH, "2", execute(), FLUSH, "C"),
        *(bind(name="i"), execute(), FLUSH, "2C", SYNC),
    ),
    "failed pipeline": (run(INSERT), run("SELECT 1/0"), FLUSH, "E", run(INSERT), SYNC, "Z"),
    "copy in": (
        query("COPY t FROM STDIN"),
        "G",
        copy_data(b"1\ta\n"),
        copy_data(b"2\tb\n"),
        COPY_DONE,
    ),
    "extended copy in": (
        *(parse("COPY t FROM STDIN"), bind(), execute(), FLUSH, "G", copy_data(b"1\ta\n")),
        *(copy_data(b"2\tb\n"), COPY_DONE, SYNC),
    ),
    "extended copy in, synced early": (
        *(parse("COPY t FROM STDIN"), bind(), execute(), SYNC, "G", copy_data(b"1\ta\n")),
        *(COPY_DONE, SYNC),
    ),
    "copy out": (
        query("COPY (SELECT repeat('x', 999) FROM generate_series(1, 5000)) TO STDOUT"),
        "d",
        query("SELECT 1"),
    ),
    "long result": (
        *(parse("SELECT repeat('x', 999) FROM generate_series(1, 5000)"), bind(), execute()),
        *(SYNC, "D", query("SELECT 1")),
    ),
    "cursor": (
        *(
            query("BEGIN"),
            "Z",
            parse("SELECT generate_series(1, 9)"),
            bind(portal="p"),
            SYNC,
            "Z",
        ),
        *(execute("p", 2), FLUSH, "s", execute("p", 2), SYNC, "Z", query("COMMIT")),
    ),
    "long running": (query("SELECT pg_sleep(60)"), query("SELECT 1")),
    "long insert": (run("INSERT INTO t VALUES (1, $1)", b"x" * 600_000), SYNC),
}


def without_a_word(client: WireClient) -> None:
    """The program has crashed: the kernel closes its socket."""
    client.close()


def with_a_reset(client: WireClient) -> None:
    """The machine has crashed."""
    client.reset()


def politely(client: WireClient) -> None:
    """As the protocol wants it."""
    client.terminate()


def half_closed(client: WireClient) -> None:
    """Nothing more will be sent, but the answers might still be read."""
    client.sock.shutdown(1)
    client.read_to_end()
    client.close()


MANNERS = (without_a_word, with_a_reset, politely, half_closed)
# Scripts that need no transaction block.
IN_STATEMENT_MODE = sorted(
    name
    for name, script in SCRIPTS.items()
    if name not in ("transaction", "extended transaction", "cursor", "another user")
    and query("BEGIN") not in script
)


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One with pools of a single server, and one of which somebody else uses a server."""
    limited = pool_for()
    limited.options += "\nclient_idle_timeout = 200\ntransaction_timeout = 200\n"
    return module_router(
        {
            "one": pool_for(),
            "session": pool_for(mode="session"),
            "statement": pool_for(mode="statement"),
            "limited": limited,
        }
    )


class Witness:
    """Somebody else on the same pool, who checks what the next client finds."""

    def __init__(self, router: RouterProcess, database: Database, pool: str) -> None:
        self._client = WireClient.login(router.port, pool)
        self._own = WireClient.login(database.port, database.name)

    def close(self) -> None:
        """Leave."""
        self._client.close()
        self._own.close()

    def clear(self) -> None:
        """Empty the table."""
        self._own.query("TRUNCATE t")

    def count(self) -> int:
        """The rows of the table."""
        return int(self._own.value("SELECT count(*) FROM t"))

    def look(self) -> dict[str, str]:
        """What the pool's server has that a new connection has not."""
        answers = self._client.ask(query(_LOOK))
        assert answers[-1].body == b"I", "a transaction is open"
        [row] = [answer.row for answer in answers if answer.kind == "D"]
        found = zip(
            ("locks", "temp", "cursors", "prepared", "listens", "set", "user"), row, strict=True
        )
        return {what: (value or b"").decode() for what, value in found if value != b"0"}


_LOOK = """
SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    (SELECT count(*) FROM pg_cursors WHERE name <> ''),
    (SELECT count(*) FROM pg_prepared_statements WHERE name NOT LIKE 'PGCAT%'),
    (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_settings WHERE source = 'session'
        AND name NOT IN ('application_name', 'client_encoding')),
    (SELECT count(*) FROM pg_stat_activity WHERE pid = pg_backend_pid()
        AND (usename <> session_user OR usename <> current_user))
"""


@pytest.fixture(scope="module")
def witness(router: RouterProcess, database: Database) -> Iterator[Witness]:
    """On the pool in transaction mode."""
    made = Witness(router, database, "one")
    yield made
    made.close()


def prefixes(script: Script) -> list[Script]:
    """The script up to each of its messages, whole or cut in two."""
    found: list[Script] = []
    for position, part in enumerate(script):
        found.append(script[:position])
        if isinstance(part, bytes):
            found += [(*script[:position], part[:cut]) for cut in (1, (len(part) + 5) // 2)]
    return [*found, script]


def leave(
    router: RouterProcess, pool: str, script: Script, manner: Callable[[WireClient], None]
) -> None:
    """Play a script that ends anywhere, and go."""
    with WireClient.login(router.port, pool) as client:
        for part in script:
            if isinstance(part, bytes):
                client.send(part)
            else:
                client.read_until(part)
        client.wait_consumed()
        manner(client)


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize("name", SCRIPTS)
def test_leaving_anywhere_leaves_nothing_behind(
    router: RouterProcess, witness: Witness, name: str, manner: Callable[[WireClient], None]
) -> None:
    if name == "long running" and manner is politely:
        pytest.skip("what was sent before a goodbye is given time to finish, as in PostgreSQL")
    script = SCRIPTS[name]
    for prefix in prefixes(script):
        witness.clear()
        leave(router, "one", prefix, manner)
        assert witness.look() == {}, prefix
        if prefix != script:
            assert witness.count() == 0, prefix
    wait_until("no client is left", lambda: router.pool("one")["cl_active"] == "0")
    assert router.pool("one")["sv_active"] == "0"


@pytest.mark.parametrize("manner", MANNERS)
@pytest.mark.parametrize(
    ("mode", "name"),
    [
        *(("session", name) for name in SCRIPTS),
        *(("statement", name) for name in IN_STATEMENT_MODE),
    ],
)
def test_leaving_a_pool_of_another_mode_leaves_nothing_behind(
    router: RouterProcess,
    database: Database,
    mode: str,
    name: str,
    manner: Callable[[WireClient], None],
) -> None:
    if name == "long running" and manner is politely:
        pytest.skip("what was sent before a goodbye is given time to finish, as in PostgreSQL")
    for prefix in prefixes(SCRIPTS[name]):
        leave(router, mode, prefix, manner)
        look_anew(router, database, mode, prefix)


def look_anew(router: RouterProcess, database: Database, pool: str, prefix: Script) -> None:
    """See whether the next client finds something of the last one."""
    witness = Witness(router, database, pool)
    try:
        assert witness.look() == {}, prefix
    finally:
        witness.close()


@pytest.mark.parametrize("mode", ["one", "session"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_who_is_sent_away_anywhere_leaves_nothing_behind(
    router: RouterProcess, database: Database, name: str, mode: str
) -> None:
    def by_an_administrator(client: WireClient) -> None:
        host, port = client.sock.getsockname()
        [found] = [
            row for row in router.admin("SHOW CLIENTS") if row["addr"] == f"{host}:{port}"
        ]
        router.admin(f"KILL_CLIENT {found['client_id']}")
        client.read_to_end()
        client.close()

    for prefix in prefixes(SCRIPTS[name]):
        leave(router, mode, prefix, by_an_administrator)
        look_anew(router, database, mode, prefix)


@pytest.mark.parametrize("name", SCRIPTS)
def test_whose_time_is_over_anywhere_leaves_nothing_behind(
    router: RouterProcess, database: Database, name: str
) -> None:
    def by_a_time_limit(client: WireClient) -> None:
        client.read_to_end()
        client.close()

    def looked(prefix: Script) -> bool:
        try:
            look_anew(router, database, "limited", prefix)
        except Ended:
            return False  # on a busy machine the limit may strike who looks
        return True

    for prefix in prefixes(SCRIPTS[name]):
        # On a busy machine the limit may strike before it is expected.
        with contextlib.suppress(Ended, OSError):
            leave(router, "limited", prefix, by_a_time_limit)
        wait_until("somebody has looked", lambda: looked(prefix))  # noqa: B023


@pytest.mark.parametrize("name", ["transaction", "pipeline", "flushed pipeline", "copy in"])
def test_what_was_ended_before_a_polite_goodbye_takes_effect(
    router: RouterProcess, witness: Witness, name: str
) -> None:
    witness.clear()
    client = WireClient.login(router.port, "one")
    for part in SCRIPTS[name]:
        client.send(part) if isinstance(part, bytes) else client.read_until(part)
    client.terminate()
    # The witness may be quicker than what the client has left on its way.
    expected = 1 if name == "transaction" else 2
    wait_until("it has taken effect", lambda: witness.count() == expected)
    assert witness.look() == {}


def test_a_goodbye_right_behind_a_statement_lets_it_finish(
    router: RouterProcess, witness: Witness
) -> None:
    witness.clear()
    with WireClient.login(router.port, "one") as client:
        client.send(query("SELECT pg_sleep(0.1)") + query(INSERT) + TERMINATE)
        client.read_to_end()
    assert witness.look() == {}
    assert witness.count() == 1


def ended_by_a_request(script: Script) -> list[bytes]:
    """What all messages up to each that is answered by itself are together."""
    ends = b"QSc" if script[0][:1] == b"Q" else b"QS"
    found, sent = [], b""
    for part in script:
        sent += part if isinstance(part, bytes) else b""
        if isinstance(part, bytes) and part[:1] in ends:
            found.append(sent)
    return found


@pytest.mark.parametrize("half_closes", [False, True])
@pytest.mark.parametrize("pool", ["one", "session"])
@pytest.mark.parametrize("name", sorted({*SCRIPTS} - {"long running"}))
def test_a_goodbye_is_answered_last(
    router: RouterProcess,
    database: Database,
    witness: Witness,
    name: str,
    pool: str,
    half_closes: bool,
) -> None:
    for sent in ended_by_a_request(SCRIPTS[name]):
        told = []
        for port, where in (database.port, database.name), (router.port, pool):
            witness.clear()
            with WireClient.login(port, where) as client:
                client.send(sent + TERMINATE)
                if half_closes:
                    client.sock.shutdown(socket.SHUT_WR)
                told.append([(each.kind, each.body) for each in client.read_to_end()])
        if told[1][-1:] and told[1][-1][0] == "G":
            del told[0][len(told[1]) :]  # an error, that a goodbye has no place in a COPY
        assert told[1] == told[0], sent


def test_what_a_statement_does_after_its_client_has_left_is_cleaned_up(
    router: RouterProcess, witness: Witness
) -> None:
    client = WireClient.login(router.port, "one")
    client.send(query("SELECT pg_sleep(0.1);" + LITTER))
    client.wait_consumed()
    client.terminate()
    assert witness.look() == {}


def test_a_waiting_client_that_says_goodbye_is_served_first(
    router: RouterProcess, witness: Witness
) -> None:
    witness.clear()
    with WireClient.login(router.port, "one") as holder:
        holder.query("BEGIN")
        waiting = WireClient.login(router.port, "one")
        waiting.send(query(INSERT))
        wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
        politely(waiting)
        holder.query("COMMIT")
    wait_until("its statement has run", lambda: witness.count() == 1)
    assert witness.look() == {}


def test_a_waiting_client_that_leaves_is_forgotten(
    router: RouterProcess, witness: Witness
) -> None:
    witness.clear()
    with WireClient.login(router.port, "one") as holder:
        holder.query("BEGIN")
        for manner in (without_a_word, with_a_reset):
            waiting = WireClient.login(router.port, "one")
            waiting.send(query(INSERT))
            wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
            manner(waiting)
            wait_until("it is gone", lambda: router.pool("one")["cl_waiting"] == "0")
        holder.query("COMMIT")
    assert witness.look() == {}
    assert witness.count() == 0
