"""Reads whose server is lost are answered all the same, and nothing is done or told twice."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
import pytest

from router.demo.server import HOST
from tests.support.cluster.server import StopMode
from tests.support.router import PoolText, RouterProcess, primary_of, servers_of, wait_until
from tests.support.wire import (
    SYNC,
    Ended,
    WireClient,
    bind,
    describe,
    execute,
    kinds,
    parse,
    query,
    rows,
    run,
    sqlstates,
)

from .conftest import CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.cluster import Cluster, Shard
    from tests.support.cluster.server import Server
    from tests.support.postgres import Database, PostgresRun
    from tests.support.proxy import Proxy

SPLITTING = "query_parser_enabled = true\nquery_parser_read_write_splitting = true\n"
PLAIN = "retry_reads = true\n"
# A read that takes as long as somebody has the table.
WAITS = "SELECT a FROM busy"
# The same, which no client has prepared before.
NEW = "SELECT a FROM busy WHERE true"
DONE = [[b"1"]]


@pytest.fixture(scope="module")
def cluster(postgres_run: PostgresRun) -> Iterator[Cluster]:
    """A primary and two replicas, which the tests here stop and start again."""
    cluster = postgres_run.private(replicas=2)
    with direct(cluster.primary) as link:
        link.execute("CREATE TABLE busy AS SELECT 1 AS a")
    cluster.wait_for_replication()
    yield cluster
    cluster.close()


@pytest.fixture
def shard(cluster: Cluster) -> Iterator[Shard]:
    """Its shard; all servers run."""
    [shard] = cluster.shards
    yield shard
    for server in shard.servers:
        if server.pid is None:
            server.start()


@contextmanager
def held(shard: Shard) -> Iterator[Callable[[], None]]:
    """A table that nobody can read, on any server, until what this yields is called."""
    with direct(shard.primary) as link:
        link.execute("BEGIN")
        link.execute("LOCK TABLE busy")
        with direct(shard.primary) as other:  # whose commit sends the lock to the replicas
            other.execute("DROP TABLE IF EXISTS other; CREATE TABLE other (a int)")
        for server in shard.servers:
            wait_until("the lock is there", lambda: is_locked(server))  # noqa: B023
        yield link.commit


def direct(server: Server) -> psycopg.Connection[tuple[object, ...]]:
    """A connection past the router."""
    return psycopg.connect(
        host=HOST, port=server.port, dbname="postgres", user="postgres", autocommit=True
    )


def is_locked(server: Server) -> bool:
    """Whether the table is locked on a server, too."""
    with direct(server) as link:
        sql = (
            "SELECT FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND locktype = 'relation'"
        )
        return bool(link.execute(sql).fetchall())


def backends(server: Server, text: str) -> list[int]:
    """The backends that run a text."""
    with direct(server) as link:
        found = link.execute(
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> "
            "pg_backend_pid() AND query = %s",
            [text],
        )
        return [int(str(row[0])) for row in found]


def terminate(server: Server, pids: list[int]) -> None:
    """End backends."""
    with direct(server) as link:
        for pid in pids:
            link.execute("SELECT pg_terminate_backend(%s)", [pid])


def running(shard: Shard, text: str) -> tuple[Server, list[int]]:
    """Where a text is running, once it is."""

    def found() -> tuple[Server, list[int]] | None:
        for server in shard.servers:
            pids = backends(server, text)
            if pids:
                return server, pids
        return None

    place = wait_until("it runs", found)
    assert place is not None
    return place


def retried(router: RouterProcess) -> int:
    """How many reads have been sent again."""
    return sum(int(row["retried_reads"]) for row in router.admin("SHOW ROUTING"))


@pytest.mark.parametrize("is_prepared", [False, True])
def test_a_read_outlives_its_replica(
    start_router: Callable[..., RouterProcess], shard: Shard, is_prepared: bool
) -> None:
    router = start_router({"db": PoolText([servers_of(shard)], options=SPLITTING)}, CHECKS)
    with held(shard) as release, WireClient.login(router.port, "db") as client:
        client.send(run(WAITS) + SYNC if is_prepared else query(WAITS))
        server, _ = running(shard, WAITS)
        assert server is not shard.primary
        server.stop(StopMode.KILL)
        release()
        assert rows(client.read_until("Z")) == DONE
        assert retried(router) == 1
        assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize("options", [PLAIN, SPLITTING])
@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (query(WAITS), "TDCZ"),
        (bind(name="s") + describe() + execute() + SYNC, "2TDCZ"),
        (run(WAITS) + SYNC, "12TDCZ"),
        (parse(WAITS, "t") + bind(name="t") + describe() + execute() + SYNC, "12TDCZ"),
        (parse(NEW, "t") + bind(name="t") + describe() + execute() + SYNC, "12TDCZ"),
        (parse(NEW, "t") + describe("S", "t") + bind(name="t") + execute() + SYNC, "1tT2DCZ"),
    ],
    ids=["query", "prepared", "unnamed", "named", "new to the server", "described"],
)
def test_a_backend_that_is_terminated_before_it_answers_is_replaced(
    start_router: Callable[..., RouterProcess],
    shard: Shard,
    options: str,
    batch: bytes,
    expected: str,
) -> None:
    # What it says last comes with the answers that it has not sent yet.
    router = start_router({"db": PoolText([servers_of(shard)], options=options)}, CHECKS)
    with WireClient.login(router.port, "db") as client:
        client.ask(parse(WAITS, "s") + SYNC)
        with held(shard) as release:
            client.send(batch)
            terminate(*running(shard, NEW if NEW.encode() in batch else WAITS))
            release()
        answer = client.read_until("Z")
        assert rows(answer) == DONE
        assert kinds(answer) == expected
        assert retried(router) == 1


@pytest.mark.parametrize("is_write", [False, True])
def test_a_deferred_transaction_goes_on_elsewhere_if_its_first_statement_reads(
    start_router: Callable[..., RouterProcess], shard: Shard, is_write: bool
) -> None:
    options = PLAIN + "deferred_begin = true\n"
    router = start_router(
        {"db": PoolText([primary_of(shard.primary)], options=options)}, CHECKS
    )
    text = "UPDATE busy SET a = a" if is_write else WAITS
    with WireClient.login(router.port, "db") as client:
        client.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with held(shard) as release:
            client.send(query(text))
            terminate(*running(shard, text))
            release()
        if is_write:
            assert sqlstates(client.read_to_end()) == ["57P01"]
            return
        answer = client.read_until("Z")
        assert rows(answer) == DONE
        assert answer[-1].body == b"T"
        assert client.value("SHOW transaction_isolation") == "repeatable read"


def test_a_backend_that_is_terminated_later_has_its_last_word_passed_on(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    router = start_router({"db": PoolText([servers_of(shard)], options=SPLITTING)}, CHECKS)
    # Longer than all buffers on the way.
    text = "SELECT n, repeat('x', 1000) FROM generate_series(1, 200000) AS n"
    with WireClient.login(router.port, "db") as client:
        client.send(query(text))
        client.read_until("D")
        terminate(*running(shard, text))
        answer = client.read_to_end()
        assert sqlstates(answer) in (["57P01"], [])
        numbers = [int(row[0] or b"0") for row in rows(answer)]
        assert numbers == list(range(2, len(numbers) + 2))
        assert len(numbers) < 200000
        assert retried(router) == 0


def test_a_write_is_not_repeated(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    router = start_router({"db": PoolText([servers_of(shard)], options=SPLITTING)}, CHECKS)
    with direct(shard.primary) as link:
        link.execute("CREATE SEQUENCE IF NOT EXISTS attempts")
        link.execute("SELECT setval('attempts', 1, false)")
        text = "SELECT nextval('attempts'), pg_sleep(1)"
        for data in (query(text), run(text) + SYNC):
            with WireClient.login(router.port, "db") as client:
                client.send(data)
                terminate(*running(shard, text))
                assert sqlstates(client.read_to_end()) == ["57P01"]
        [row] = link.execute("SELECT last_value FROM attempts").fetchall()
        assert row == (2,)
    assert retried(router) == 0


@pytest.mark.parametrize("begin", ["", "BEGIN", "START TRANSACTION READ ONLY"])
def test_connections_that_have_gone_while_they_were_idle_harm_no_read_and_no_begin(
    start_router: Callable[..., RouterProcess],
    shard: Shard,
    proxy_for: Callable[[Server], Proxy],
    begin: str,
) -> None:
    proxy = proxy_for(shard.primary)
    router = start_router({"db": PoolText([[(HOST, proxy.port, "primary")]])})
    with ExitStack() as stack:
        clients = [stack.enter_context(WireClient.login(router.port, "db")) for _ in range(5)]
        for _ in range(20):
            for client in clients:
                client.send(query("SELECT 1"))
            for client in clients:
                client.read_until("Z")
            proxy.reset()
            for client in clients:
                client.send(query(begin or "SELECT 2"))
            for client in clients:
                answer = client.read_until("Z")
                assert rows(answer) == ([] if begin else [[b"2"]])
                assert answer[-1].body == (b"T" if begin else b"I")
            for client in clients if begin else ():
                assert client.value("SELECT 2") == "2"
                client.query("COMMIT")


def test_a_server_that_restarts_is_waited_for(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    router = start_router({"db": PoolText([primary_of(shard.primary)])}, CHECKS)
    with (
        WireClient.login(router.port, "db") as client,
        suppress(psycopg.OperationalError),
        held(shard),
    ):
        client.send(query(WAITS))
        running(shard, WAITS)
        shard.primary.restart(StopMode.FAST)
        assert rows(client.read_until("Z")) == DONE


def test_under_a_storm_no_write_is_done_twice_and_no_read_fails_or_is_told_twice(
    start_router: Callable[..., RouterProcess], shard: Shard
) -> None:
    router = start_router(
        {"db": PoolText([servers_of(shard)], options=SPLITTING, pool_size=4)}, CHECKS
    )
    admin = direct(shard.primary)
    keep = admin.info.backend_pid
    admin.execute("DROP TABLE IF EXISTS done")
    admin.execute("CREATE TABLE done (n bigint)")
    acknowledged: list[int] = []
    attempted: list[int] = []
    failures: list[str] = []
    finished = Counter[int]()
    is_over = threading.Event()

    def write(number: int) -> None:
        client = WireClient.login(router.port, "db")
        while not is_over.is_set():
            number += 10
            attempted.append(number)
            try:
                answer = client.ask(query(f"INSERT INTO done VALUES ({number})"))
                if not sqlstates(answer):
                    acknowledged.append(number)
            except (Ended, OSError):
                client.close()
                client = WireClient.login(router.port, "db")
        client.close()

    def read(number: int) -> None:
        sql = f"SELECT n + {number} FROM generate_series(1, 20) AS n"
        wanted = [[str(n + number).encode()] for n in range(1, 21)]
        with WireClient.login(router.port, "db") as client:
            while not is_over.is_set():
                try:
                    answer = client.ask(run(sql) + SYNC if number % 2 else query(sql))
                except (Ended, OSError) as error:
                    failures.append(repr(error))
                    return
                finished[number] += 1
                if rows(answer) != wanted:
                    failures.append(repr(answer))

    tasks = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    tasks += [threading.Thread(target=read, args=(n,)) for n in range(4)]
    for task in tasks:
        task.start()
    try:
        wait_until("they are at it", lambda: len(acknowledged) > 20)
        for number in range(30):
            before = len(acknowledged)
            reads = Counter(finished)
            server = shard.servers[number % 3]
            with direct(server) as link:
                link.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE "
                    "backend_type = 'client backend' AND pid NOT IN "
                    f"(pg_backend_pid(), {keep if server is shard.primary else 0})"
                )
            # So nobody can be hit twice running.
            wait_until(
                "they go on",
                lambda: (
                    failures
                    or (
                        len(acknowledged) > before + 3  # noqa: B023
                        and all(finished[n] > reads[n] + 1 for n in range(4))  # noqa: B023
                    )
                ),
            )
    finally:
        is_over.set()
        for task in tasks:
            task.join()
    found = [int(str(row[0])) for row in admin.execute("SELECT n FROM done").fetchall()]
    admin.close()
    assert len(found) == len(set(found))
    assert set(acknowledged) <= set(found) <= set(attempted)
    assert not failures, failures[0] + router.log()[-6000:]
    assert retried(router) > 0


def test_a_statement_whose_columns_are_others_is_prepared_anew(
    start_router: Callable[..., RouterProcess], fresh_database: Database
) -> None:
    database = fresh_database
    pool = PoolText(
        [[(database.host, database.port, "primary")]], database=database.name, pool_size=1
    )
    router = start_router({"db": pool})
    database.execute("CREATE TABLE t (a int)")
    database.execute("INSERT INTO t VALUES (1)")
    with router.connect("db") as reader:
        reader.prepare_threshold = 0
        for number in range(5):
            names = [f"b{n}" for n in range(number)]
            cursor = reader.execute("SELECT * FROM t")
            assert [column.name for column in cursor.description or ()] == ["a", *names]
            cursor = reader.execute("UPDATE t SET a = a + 1 RETURNING *")
            assert cursor.fetchall()[0][0] == number + 2
            database.execute(f"ALTER TABLE t ADD COLUMN b{number} int")
        with reader.transaction():
            with pytest.raises(psycopg.errors.FeatureNotSupported), reader.transaction():
                reader.execute("SELECT * FROM t")
    prepared = sum(int(row["prepared_anew"]) for row in router.admin("SHOW ROUTING"))
    assert prepared == 4  # which was good for both
