"""psycopg 3, through each kind of pool."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.pq import TransactionStatus

from tests.support.router import PoolText, primary_of, wait_until

from .conftest import SESSION, SINGLE, STATEMENT, TRANSACTION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

    from .conftest import Connection, Proxied

POOLS = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE])
EVERY_POOL = pytest.mark.parametrize("pool", [SESSION, TRANSACTION, SINGLE, STATEMENT])
RUNNING = (
    "SELECT count(*) FROM pg_stat_activity WHERE starts_with(query, %s) AND state = 'active'"
)


@pytest.fixture
def table(proxied: Proxied) -> Iterator[str]:
    """An empty table with a number and a text."""
    with proxied.direct() as directly:
        directly.execute("CREATE TABLE psycopg_rows (id int PRIMARY KEY, word text)")
    yield "psycopg_rows"
    with proxied.direct() as directly:
        directly.execute("DROP TABLE psycopg_rows")


def one(connection: Connection, query: str, *params: object) -> object:
    row = connection.execute(query, params).fetchone()
    assert row is not None
    return row[0]


@EVERY_POOL
@pytest.mark.parametrize("threshold", [0, 1, 5, None])
def test_statements_are_prepared_at_any_threshold(
    proxied: Proxied, pool: str, threshold: int | None
) -> None:
    with proxied.connect(pool) as first, proxied.connect(pool) as second:
        first.prepare_threshold = second.prepare_threshold = threshold
        for number in range(8):
            assert one(first, "SELECT %s::int + 1", number) == number + 1
            assert one(second, "SELECT %s::int * 2", number) == number * 2


@POOLS
def test_more_statements_than_the_driver_keeps_are_closed_again(
    proxied: Proxied, pool: str
) -> None:
    with proxied.connect(pool) as client:
        client.prepare_threshold = 0
        client.prepared_max = 3
        for number in (*range(10), *range(10)):
            assert one(client, f"SELECT {number} + %s::int", 1) == number + 1


@EVERY_POOL
def test_values_of_many_types_come_back_as_they_went_in_text_and_binary(
    proxied: Proxied, pool: str
) -> None:
    values: tuple[object, ...] = (
        1,
        2**40,
        1.5,
        "ü\n'\"\\",
        b"\x00\xff",
        None,
        [1, None, 3],
        [],
        True,
    )
    types = ("int", "bigint", "float8", "text", "bytea", "text", "int[]", "text[]", "bool")
    query = "SELECT " + ", ".join(f"%s::{name}" for name in types)
    with proxied.connect(pool) as client:
        for binary in (False, True):
            cursor = client.cursor(binary=binary)
            assert cursor.execute(query, values).fetchone() == values


@POOLS
def test_a_server_side_cursor_fetches_and_scrolls(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool, autocommit=False) as client:
        with client.cursor("steps", scrollable=True) as cursor:
            cursor.itersize = 7
            cursor.execute("SELECT i FROM generate_series(1, 100) i")
            assert cursor.fetchmany(3) == [(1,), (2,), (3,)]
            cursor.scroll(10)
            assert cursor.fetchone() == (14,)
            cursor.scroll(0, mode="absolute")
            assert [row[0] for row in cursor] == list(range(1, 101))
        client.commit()
        assert client.info.transaction_status == TransactionStatus.IDLE


def test_a_cursor_with_hold_outlives_its_transaction_in_a_session_pool(
    proxied: Proxied,
) -> None:
    with proxied.connect(SESSION, autocommit=False) as client:
        with client.cursor("held", withhold=True) as cursor:
            cursor.execute("SELECT i FROM generate_series(1, 10) i")
            client.commit()
            assert len(cursor.fetchall()) == 10


@POOLS
def test_a_pipeline_of_many_batches_answers_each_in_turn(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool) as client, client.pipeline() as pipeline:
        cursors = []
        for number in range(300):
            cursors.append(client.execute("SELECT %s::int", (number,)))
            if number % 3 == 0:
                pipeline.sync()
        assert [cursor.fetchone() for cursor in cursors] == [(i,) for i in range(300)]


@POOLS
@pytest.mark.parametrize("threshold", [0, 5])
def test_an_error_amid_a_pipeline_skips_to_the_next_sync(
    proxied: Proxied, pool: str, table: str, threshold: int
) -> None:
    insert = "INSERT INTO psycopg_rows VALUES (%s)"
    with proxied.connect(pool) as client:
        client.prepare_threshold = threshold
        with client.pipeline() as pipeline:
            client.execute(insert, (1,))
            pipeline.sync()
            client.execute(insert, (2,))
            failing = client.execute(insert, (1,))
            skipped = client.execute("SELECT 'skipped' WHERE %s", (True,))
            with pytest.raises(psycopg.errors.UniqueViolation):
                pipeline.sync()
            client.execute(insert, (3,))
            after = client.execute("SELECT 'skipped' WHERE %s", (True,))
            pipeline.sync()
            assert after.fetchone() == ("skipped",)
        assert failing.statusmessage is None
        assert skipped.statusmessage is None
        rows = client.execute("SELECT id FROM psycopg_rows ORDER BY id").fetchall()
        assert rows == [(1,), (3,)]


@EVERY_POOL
def test_executemany_inserts_and_returns(proxied: Proxied, pool: str, table: str) -> None:
    with proxied.connect(pool) as client:
        cursor = client.cursor()
        insert = "INSERT INTO psycopg_rows VALUES (%s, %s) RETURNING id"
        cursor.executemany(insert, [(i, str(i)) for i in range(200)], returning=True)
        found = []
        while True:
            found.append(cursor.fetchone())
            if not cursor.nextset():
                break
        assert found == [(i,) for i in range(200)]


@EVERY_POOL
@pytest.mark.parametrize("format_", ["text", "binary"])
def test_copy_in_and_out(proxied: Proxied, pool: str, table: str, format_: str) -> None:
    rows = [(i, None if i % 10 == 0 else f"wörd\t{i}\\") for i in range(2_000)]
    with proxied.connect(pool) as client:
        cursor = client.cursor()
        into = f"COPY psycopg_rows FROM STDIN (FORMAT {format_})"
        with cursor.copy(into) as copy:
            copy.set_types(["int4", "text"])
            for row in rows:
                copy.write_row(row)
        assert cursor.rowcount == len(rows)
        out_of = f"COPY (SELECT * FROM psycopg_rows ORDER BY id) TO STDOUT (FORMAT {format_})"
        with cursor.copy(out_of) as copy:
            copy.set_types(["int4", "text"])
            assert list(copy.rows()) == rows
        assert one(client, "SELECT count(*) FROM psycopg_rows") == len(rows)


def copy_and_stop(client: Connection) -> None:
    with client.cursor().copy("COPY psycopg_rows FROM STDIN") as copy:
        copy.write_row((1, "one"))
        raise RuntimeError("my own")


def copy_the_same(client: Connection, count: int) -> None:
    with client.cursor().copy("COPY psycopg_rows FROM STDIN") as copy:
        for _ in range(count):
            copy.write_row((1, "the same again"))


@EVERY_POOL
def test_a_copy_that_the_client_gives_up_inserts_nothing(
    proxied: Proxied, pool: str, table: str
) -> None:
    with proxied.connect(pool) as client:
        with pytest.raises(RuntimeError, match="my own"):
            copy_and_stop(client)
        assert one(client, "SELECT count(*) FROM psycopg_rows") == 0


@EVERY_POOL
def test_a_copy_that_the_server_refuses_leaves_the_session_usable(
    proxied: Proxied, pool: str, table: str
) -> None:
    with proxied.connect(pool) as client:
        with pytest.raises(psycopg.errors.UniqueViolation):
            copy_the_same(client, 50_000)
        assert one(client, "SELECT count(*) FROM psycopg_rows") == 0


@POOLS
def test_a_result_that_is_left_half_read_by_a_stream(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool) as client:
        cursor = client.cursor()
        for row in cursor.stream("SELECT i FROM generate_series(1, 100000) i"):
            if row == (10,):
                break
        assert one(client, "SELECT 1") == 1


@POOLS
@pytest.mark.parametrize("method", ["cancel", "cancel_safe"])
def test_a_running_query_is_cancelled_and_the_session_goes_on(
    proxied: Proxied, pool: str, method: str
) -> None:
    with proxied.connect(pool) as client, proxied.direct() as directly:
        for round_ in (1, 2):
            mark = f"/* {pool} {method} {round_} */"

            def cancel(mark: str = mark) -> None:
                wait_until("the query runs", lambda: one(directly, RUNNING, mark) == 1)
                getattr(client, method)()

            thread = threading.Thread(target=cancel)
            thread.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                client.execute(f"{mark} SELECT pg_sleep(60)")
            thread.join()
            assert one(client, "SELECT 1") == 1


@POOLS
def test_cancelling_an_idle_client_does_nothing_to_anyone(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool) as client, proxied.connect(pool) as other:
        for _ in range(5):
            client.cancel_safe()
            assert one(other, "SELECT 2") == 2
            assert one(client, "SELECT 1") == 1


@pytest.mark.parametrize("pool", [SESSION, TRANSACTION])
def test_notifications_reach_a_client_while_it_is_idle(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool) as client, proxied.connect(TRANSACTION) as speaker:
        client.execute("LISTEN news")
        speaker.execute("NOTIFY news, 'while idle'")
        [idle] = client.notifies(timeout=30, stop_after=1)
        assert (idle.channel, idle.payload) == ("news", "while idle")
        with speaker.transaction():
            for number in range(50):
                speaker.execute("SELECT pg_notify('news', %s)", (str(number),))
        many = list(client.notifies(timeout=30, stop_after=50))
        assert [notify.payload for notify in many] == [str(number) for number in range(50)]
        client.execute("UNLISTEN *")


@pytest.mark.parametrize("autocommit", [True, False])
@pytest.mark.parametrize("pool", [SESSION, TRANSACTION])
def test_a_listener_hears_itself_and_notifications_come_before_the_answer(
    proxied: Proxied, pool: str, autocommit: bool
) -> None:
    with proxied.connect(pool) as client:
        client.autocommit = autocommit
        client.execute("LISTEN self")
        client.commit()
        client.execute("NOTIFY self, 'me'")
        client.commit()
        [heard] = client.notifies(timeout=0)
        assert heard.payload == "me"


@POOLS
def test_a_value_of_several_megabytes_passes_both_ways(proxied: Proxied, pool: str) -> None:
    value = "ab" * (2 << 20)
    with proxied.connect(pool) as client:
        for threshold in (None, 0):
            client.prepare_threshold = threshold
            assert one(client, "SELECT %s::text", value) == value
        with client.cursor() as cursor:
            plain = psycopg.ClientCursor(client)
            assert plain.execute("SELECT length(%s)", (value,)).fetchone() == (len(value),)
            assert cursor.execute("SELECT 1").fetchone() == (1,)


@POOLS
def test_a_two_phase_commit_is_ended_by_another_client(proxied: Proxied, pool: str) -> None:
    with proxied.connect(pool) as other:
        for ends, left in ((other.tpc_commit, 1), (other.tpc_rollback, 0)):
            other.execute("DROP TABLE IF EXISTS two_phases")
            other.execute("CREATE TABLE two_phases ()")
            with closing(proxied.connect(pool, autocommit=False)) as client:
                xid = client.xid(1, "gtrid", pool)
                client.tpc_begin(xid)
                client.execute("INSERT INTO two_phases DEFAULT VALUES")
                client.tpc_prepare()
                assert client.info.transaction_status == TransactionStatus.IDLE
            assert one(other, "SELECT count(*) FROM two_phases") == 0
            ends(xid)
            assert one(other, "SELECT count(*) FROM two_phases") == left
        other.execute("DROP TABLE two_phases")


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_a_two_phase_commit_that_the_server_cannot_do_is_refused_in_its_words(
    private_primary: Callable[..., Server],
    start_router: Callable[..., RouterProcess],
    mode: str,
) -> None:
    server = private_primary(max_prepared_transactions="0")
    pool = PoolText([primary_of(server)], options=f'pool_mode = "{mode}"')
    router = start_router({"incapable": pool})
    with closing(psycopg.connect(router.dsn("incapable"))) as client:
        client.tpc_begin(client.xid(1, "gtrid", "bqual"))
        client.execute("SELECT 1")
        with pytest.raises(
            psycopg.NotSupportedError, match="prepared transactions are disabled"
        ):
            client.tpc_prepare()
        assert client.info.transaction_status == TransactionStatus.IDLE


@pytest.mark.parametrize("pool", [TRANSACTION, SINGLE])
def test_clients_in_threads_get_their_own_answers(proxied: Proxied, pool: str) -> None:
    wrong: list[tuple[int, object]] = []

    def work(number: int) -> None:
        with proxied.connect(pool) as client:
            client.prepare_threshold = 0 if number % 2 else None
            for step in range(30):
                expected = number * 1000 + step
                answer = one(client, f"SELECT %s::int /* {number % 3} */", expected)
                if answer != expected:
                    wrong.append((expected, answer))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@POOLS
def test_an_asynchronous_error_of_the_server_reaches_its_client_only(
    proxied: Proxied, pool: str
) -> None:
    victim = proxied.connect(pool)
    with proxied.connect(pool) as other, proxied.direct() as directly:
        victim.execute("BEGIN")
        pid = one(victim, "SELECT pg_backend_pid()")
        directly.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))
        with pytest.raises(psycopg.OperationalError):
            victim.execute("SELECT 1")
        assert victim.closed
        assert one(other, "SELECT 1") == 1
