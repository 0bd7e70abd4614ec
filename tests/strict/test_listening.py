"""LISTEN and NOTIFY in transaction mode, with one connection that listens for all clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from tests.support.router import wait_until
from tests.support.wire import SYNC, WireClient, kinds, query, rows, run, sqlstates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

FENCE = "fence"
# Of the connections that listen for clients.
LINE = "application_name = 'pgcat listen'"


@dataclass
class Stage:
    """Where it is played."""

    database: Database
    router: RouterProcess
    fences: int = 0
    clients: list[WireClient] = field(default_factory=list)

    def client(self, *channels: str, pool: str = "one") -> WireClient:
        """A client that listens to some channels, and to the fence if to any."""
        client = WireClient.login(self.router.port, pool)
        self.clients.append(client)
        for channel in (*channels, *([FENCE] if channels else [])):
            client.query(f"LISTEN {channel}")
        return client

    def notify(self, *what: tuple[str, str]) -> None:
        """Have somebody else notify, each in a transaction of its own."""
        for channel, payload in what:
            self.database.execute("SELECT pg_notify(%s, %s)", (channel, payload))

    def heard(self, client: WireClient) -> list[tuple[str, str]]:
        """What an idle client has been told by now, up to a fence."""
        self.fences += 1
        mark = FENCE, str(self.fences)
        self.notify(mark)
        told = list[tuple[str, str]]()
        while True:
            message = client.read_message()
            assert message.kind == "A", message
            told.append(notification(message))
            if told[-1] == mark:
                return [one for one in told if one[0] != FENCE]

    def rows(self, pool: str = "one") -> dict[str, dict[str, str]]:
        """SHOW LISTENERS of a pool, by channel."""
        found = self.router.admin("SHOW LISTENERS")
        return {row["channel"]: row for row in found if row["database"] == pool}

    def lines(self) -> list[int]:
        """Processes of the connections that listen, in PostgreSQL."""
        sql = f"SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND {LINE}"
        return [row[0] for row in self.database.execute(sql)]


def notification(message: Message) -> tuple[str, str]:
    """Channel and payload."""
    channel, payload, _ = message.body[4:].split(b"\0")
    return channel.decode(), payload.decode()


def pid_of(message: Message) -> int:
    """The process that has notified."""
    return int.from_bytes(message.body[:4], "big")


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """A router with pools of one and of two servers, whose clients share a connection."""
    shared = 'listen = "shared"'
    return module_router(
        {
            "one": pool_for(size=1, options=shared),
            "two": pool_for(size=2, options=shared),
            "multiplexed": pool_for(size=2, options=f'{shared}\nmultiplexing = "reads"'),
            "stated": pool_for(size=1, mode="statement", options=shared),
            "session": pool_for(size=3, mode="session", options=shared),
        }
    )


@pytest.fixture
def stage(database: Database, router: RouterProcess) -> Iterator[Stage]:
    """The stage, whose clients leave at the end."""
    made = Stage(database, router)
    yield made
    for client in made.clients:
        client.close()
    wait_until("nobody listens", lambda: not made.rows() and not made.rows("two"))
    wait_until("nor in the other", lambda: not made.rows("multiplexed"))


@pytest.mark.parametrize("pool", ["one", "two", "stated", "multiplexed"])
def test_idle_clients_are_told_what_they_listen_to_and_no_more(stage: Stage, pool: str) -> None:
    listeners = [stage.client("a", pool=pool), stage.client("b", pool=pool)]
    both, other = stage.client("a", "b", pool=pool), stage.client(pool=pool)
    said = [("a", "1"), ("b", "2"), ("c", "3"), ("a", "1"), ("b", ""), ("a", "ä")]
    stage.notify(*said)
    for client, channels in zip((*listeners, both), ("a", "b", "ab"), strict=True):
        assert stage.heard(client) == [one for one in said if one[0] in channels]
    assert other.value("SELECT 1") == "1"
    assert not other.has_input()
    assert len(stage.lines()) >= 1


def test_all_listen_by_one_connection_and_keep_no_server(stage: Stage) -> None:
    clients = [stage.client(f"c{number}", "each") for number in range(20)]
    [pool] = [row for row in stage.router.admin("SHOW POOLS") if row["database"] == "one"]
    assert (pool["sv_active"], pool["cl_idle"]) == ("0", "20")
    stage.notify(("each", "x"))
    for client in clients:
        assert stage.heard(client) == [("each", "x")]


@pytest.mark.parametrize("batch", [query, lambda sql: run(sql) + SYNC])
@pytest.mark.parametrize("pool", ["one", "two", "multiplexed"])
def test_ones_own_notification_comes_before_ready(
    stage: Stage, pool: str, batch: Callable[[str], bytes]
) -> None:
    client, other = stage.client("a", pool=pool), stage.client("a", pool=pool)
    for number in range(5):
        told = client.ask(batch(f"NOTIFY a, '{number}'"))
        assert kinds(told)[-3:] == "CAZ"
        assert notification(told[-2]) == ("a", str(number))
        message = other.read_message()
        assert (notification(message), pid_of(message)) == (
            ("a", str(number)),
            pid_of(told[-2]),
        )
    told = client.ask(
        query("BEGIN; NOTIFY a, 'x'; NOTIFY b; NOTIFY a, 'x'; NOTIFY a, 'y'; COMMIT")
    )
    assert [notification(one) for one in told if one.kind == "A"] == [("a", "x"), ("a", "y")]
    assert stage.heard(client) == []
    assert stage.heard(other) == [("a", "x"), ("a", "y")]


def test_listen_and_notify_in_one_transaction(stage: Stage) -> None:
    client = stage.client()
    told = client.ask(query("BEGIN; LISTEN a; LISTEN fence; NOTIFY a, 'mine'; COMMIT"))
    assert [notification(one) for one in told if one.kind == "A"] == [("a", "mine")]
    stage.notify(("a", "x"))
    assert stage.heard(client) == [("a", "x")]


@pytest.mark.parametrize(
    ("statements", "channels"),
    [
        (["BEGIN", "LISTEN b", "COMMIT"], "ab"),
        (["BEGIN", "LISTEN b", "ROLLBACK"], "a"),
        (["LISTEN b; SELECT 1/0"], "a"),
        (["BEGIN", "SAVEPOINT s", "LISTEN b", "ROLLBACK TO s", "LISTEN c", "COMMIT"], "ac"),
        (["BEGIN", "LISTEN b", "SAVEPOINT s", "UNLISTEN *", "ROLLBACK TO s", "COMMIT"], "ab"),
        (["BEGIN", "UNLISTEN a", "ROLLBACK"], "a"),
        (["BEGIN", "UNLISTEN a", "SAVEPOINT s", "LISTEN b", "RELEASE s", "COMMIT"], "b"),
        (["BEGIN", "SELECT 1", "UNLISTEN *", "LISTEN c", "LISTEN fence", "COMMIT"], "c"),
        (["UNLISTEN *", "LISTEN fence"], ""),
        (["UNLISTEN a"], ""),
        (["LISTEN b; UNLISTEN a; LISTEN c"], "bc"),
        (["DO $$ BEGIN EXECUTE 'LISTEN b'; EXECUTE 'UNLISTEN a'; END $$"], "b"),
        (["LISTEN b", "LISTEN c", "UNLISTEN b", "LISTEN a"], "ac"),
        (["BEGIN; LISTEN b; SELECT 1/0", "COMMIT", "UNLISTEN a", "LISTEN a"], "a"),
    ],
)
@pytest.mark.parametrize("pool", ["one", "two", "multiplexed"])
def test_transactions_and_savepoints_are_as_in_postgresql(
    stage: Stage, pool: str, statements: list[str], channels: str
) -> None:
    client, noise = stage.client("a", pool=pool), stage.client("a", "b", "c", pool=pool)
    for statement in statements:
        client.ask(query(statement))
        if pool != "one":
            noise.query("SELECT 1")
    said = [("a", "1"), ("b", "2"), ("c", "3")]
    stage.notify(*said)
    assert stage.heard(client) == [one for one in said if one[0] in channels]
    assert stage.heard(noise) == said
    found = client.ask(
        query("SELECT * FROM pg_listening_channels() c WHERE c <> 'fence' ORDER BY 1")
    )
    assert rows(found) == [[one.encode()] for one in channels]


@pytest.mark.parametrize("before", [[], ["a"]])
def test_what_is_sent_before_the_commit_is_told_as_by_postgresql(
    stage: Stage, before: list[str]
) -> None:
    """Whoever listens already is told of what came since the transaction began."""
    with WireClient.login(stage.database.port, stage.database.name) as direct:
        told = []
        for number in range(2):
            # Made when the first has heard its fence, which is none of the second's.
            client = stage.client(*before) if number else direct
            for channel in before:
                client.query(f"LISTEN {channel}")
            client.query("BEGIN")
            client.query("LISTEN b")
            stage.notify(("b", "early"), ("a", "waits"))
            client.query("LISTEN fence")
            said = client.ask(query("COMMIT"))
            heard = [notification(one) for one in said if one.kind == "A"]
            stage.notify(("b", "late"))
            told.append([*heard, *stage.heard(client)])
        assert told[0] == told[1]


def test_whoever_knows_of_the_commit_is_heard(stage: Stage) -> None:
    """A notification is not missed that follows from what was committed with the LISTEN."""
    watcher = stage.client("inserted")
    stage.database.execute(
        "CREATE TABLE IF NOT EXISTS jobs (id text);"
        "CREATE OR REPLACE FUNCTION answer() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN PERFORM pg_notify('inserted', NEW.id); RETURN NEW; END $$;"
        "CREATE OR REPLACE TRIGGER answer AFTER INSERT ON jobs FOR EACH ROW"
        " EXECUTE FUNCTION answer()"
    )
    for number in range(30):
        client = stage.client()
        client.send(query(f"BEGIN; LISTEN job_{number}; INSERT INTO jobs VALUES ('{number}')"))
        client.send(query("COMMIT"))
        watcher.read_until("A")
        stage.notify((f"job_{number}", "done"))
        client.read_until("A")


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("Folded", "folded"),
        ('"Quoted"', "Quoted"),
        ('"with "" quote"', 'with " quote'),
        ('"a;b--c"', "a;b--c"),
        ("größe", "größe"),
        ('U&"d\\0061t"', "dat"),
        ("x" * 70, "x" * 63),
        ('"' + "ä" * 40 + '"', "ä" * 31),
        ('"123"', "123"),
    ],
)
def test_names_are_those_of_postgresql(stage: Stage, written: str, name: str) -> None:
    client = stage.client("a")
    client.query(f"LISTEN {written}")
    stage.notify((name, "told"), ("a", "b"))
    assert stage.heard(client) == [(name, "told"), ("a", "b")]
    client.query(f"UNLISTEN {written}")
    stage.notify((name, "not told"))
    assert stage.heard(client) == []


def test_long_payloads(stage: Stage) -> None:
    client = stage.client("a")
    said = [("a", str(number) * 7999) for number in range(10)] * 5
    stage.notify(*said)
    assert stage.heard(client) == said


@pytest.mark.parametrize("batch", [query, lambda sql: run(sql) + SYNC])
@pytest.mark.parametrize("pool", ["one", "two", "multiplexed"])
def test_discard_all_ends_it(stage: Stage, pool: str, batch: Callable[[str], bytes]) -> None:
    client = stage.client("a", pool=pool)
    assert sqlstates(client.ask(batch("DISCARD ALL"))) == []
    wait_until("nobody listens", lambda: not stage.rows(pool))
    client.query("LISTEN fence")
    stage.notify(("a", "x"))
    assert stage.heard(client) == []


def test_channels_go_with_their_last_listener(stage: Stage) -> None:
    first, second = stage.client("a", "b"), stage.client("a")
    wait_until("both are there", lambda: stage.rows()["a"]["listeners"] == "2")
    second.close()
    wait_until("one is there", lambda: stage.rows()["a"]["listeners"] == "1")
    first.query("UNLISTEN b")
    wait_until("b is gone", lambda: sorted(stage.rows()) == ["a", "fence"])
    first.terminate()
    wait_until("all are gone", lambda: not stage.rows())


def test_a_line_that_is_lost_is_opened_again_and_all_are_told(stage: Stage) -> None:
    clients = [stage.client("a"), stage.client("b")]
    busy = stage.client("a")
    busy.query("BEGIN")
    busy.query("SELECT 1")
    stage.database.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {LINE}"
        " AND datname = current_database()"
    )
    for client in clients:
        notice = client.read_message()
        assert (notice.kind, notice.fields["C"]) == ("N", "01000")
        assert notice.fields["M"] == "notifications may have been missed"
        assert "terminating connection" in notice.fields["D"]
    stage.notify(("a", "1"), ("b", "2"))
    assert [stage.heard(client) for client in clients] == [[("a", "1")], [("b", "2")]]
    told = busy.ask(query("COMMIT"))
    if "N" not in kinds(told):
        told += busy.read_until("N")
    assert sqlstates(told) == []
    stage.notify(("a", "3"))
    assert stage.heard(busy)[-1:] == [("a", "3")]
    assert stage.rows()["a"]["reconnects"] != "0"


def test_a_client_that_does_not_read_is_sent_away_and_slows_nobody(stage: Stage) -> None:
    slow = WireClient.login(stage.router.port, "one", receive_buffer=4096)
    slow.query("LISTEN a")
    quick = stage.client("a")
    payload = "x" * 7900
    count = 0
    wait_until("both listen", lambda: stage.rows()["a"]["listeners"] == "2")
    while stage.rows()["a"]["listeners"] == "2":
        stage.notify(*[("a", payload)] * 100)
        count += 100
        assert len(stage.heard(quick)) == 100
        assert count < 20_000
    told = slow.read_to_end()
    slow.close()
    assert told[-1].kind == "E"
    assert told[-1].fields["C"] == "53400"
    assert told[-1].fields["S"] == "FATAL"
    assert all(notification(one) == ("a", payload) for one in told[:-1])


def test_another_encoding_keeps_its_server(stage: Stage) -> None:
    with WireClient.login(
        stage.router.port, "two", parameters={"client_encoding": "LATIN1"}
    ) as client:
        client.query("LISTEN a")
        wait_until(
            "it is pinned",
            lambda: [row for row in stage.router.admin("SHOW CLIENTS") if row["pinned"]],
        )
        stage.notify(("a", "é"))
        assert client.read_message().body[4:] == b"a\0\xe9\0"


def test_what_else_is_there_keeps_the_server_and_hears_for_it(stage: Stage) -> None:
    client = stage.client("a", pool="two")
    client.query("CREATE TEMP TABLE mine (x int)")
    client.query("LISTEN b")
    said = [("a", "1"), ("b", "2"), ("a", "1")]
    stage.notify(*said)
    assert sorted(stage.heard(client)) == sorted(said)
    assert kinds(client.ask(query("NOTIFY a"))) == "CAZ"
    assert kinds(client.ask(query("NOTIFY b"))) == "CAZ"
    client.query("DROP TABLE mine")
    wait_until("it is free", lambda: stage.rows("two").get("b", {}).get("listeners") == "1")
    stage.notify(*said)
    assert stage.heard(client) == said


def test_in_session_mode_each_has_its_own(stage: Stage) -> None:
    client = stage.client("a", pool="session")
    stage.notify(("a", "1"))
    assert stage.heard(client) == [("a", "1")]
    assert stage.rows("session") == {}
