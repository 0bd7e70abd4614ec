"""What has no single shard is refused, by every message that can carry it, in every state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors

from router.routing.hashing import pg_bigint_hash
from tests.support.router import PoolText, primary_of
from tests.support.shards import items_of_shard
from tests.support.wire import (
    FLUSH,
    SYNC,
    WireClient,
    bind,
    describe,
    execute,
    function_call,
    kinds,
    parse,
    query,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

SHARDS = 3
ALL = "SELECT count(*) FROM items"
LONG = f"SELECT '{'x' * 300_000}'"
KEYS = [
    next(key for key in range(100) if pg_bigint_hash(key, SHARDS) == shard)
    for shard in range(SHARDS)
]
COMMENT = "shard_id_regex = '/\\* shard: (\\d+) \\*/'"


@pytest.fixture
def router(
    postgres: Server,
    make_database: Callable[..., Database],
    start_router: Callable[..., RouterProcess],
) -> RouterProcess:
    """A router with pools of one connection a shard; shard n has n items."""
    databases = [make_database(postgres) for _ in range(SHARDS)]
    for number, database in enumerate(databases):
        database.execute(
            items_of_shard(number, SHARDS)
            + f"INSERT INTO items SELECT {KEYS[number]}, 'x' FROM generate_series(1, {number})"
        )

    def pool(mode: str, options: str = "") -> PoolText:
        return PoolText(
            shards=[primary_of(postgres)] * SHARDS,
            databases=[database.name for database in databases],
            pool_size=1,
            options=(
                f'pool_mode = "{mode}"\nquery_parser_enabled = true\n{COMMENT}\n'
                f'automatic_sharding_key = "items.id"\n{options}'
            ),
        )

    return start_router(
        {
            "items": pool("transaction"),
            "sessions": pool("session"),
            "uncached": pool("transaction", "prepared_statements_cache_size = 0"),
            "lenient": pool("transaction", 'default_shard = "shard_2"'),
        }
    )


def wire(router: RouterProcess, pool: str = "items") -> WireClient:
    """A client that has logged in."""
    return WireClient.login(router.port, pool)


REFUSED = [
    query(ALL),
    query(f"SELECT 1; {ALL}"),
    query(LONG),
    query("COPY items (body) FROM STDIN"),
    query("LOCK TABLE items"),
    parse(ALL) + bind() + execute() + SYNC,
    parse(LONG) + bind() + execute() + SYNC,
    parse("DECLARE c CURSOR FOR " + ALL) + bind() + execute() + SYNC,
    parse("INSERT INTO items (id) VALUES ($1)") + bind(None) + execute() + SYNC,
    parse("SELECT 1") + bind() + execute() + FLUSH + query(ALL),
    parse("SELECT 1") + bind() + execute() + FLUSH + query(LONG),
    parse("SELECT 1") + bind() + execute() + FLUSH + parse(ALL) + bind() + execute() + SYNC,
]


POOLS = ["items", "sessions", "uncached"]


@pytest.mark.parametrize("pool", POOLS)
def test_it_fails_alone_and_fails_its_transaction(router: RouterProcess, pool: str) -> None:
    for batch in REFUSED:
        with wire(router, pool) as client:
            for _ in range(2):
                replies = client.ask(batch)
                assert sqlstates(replies) == ["0A000"], batch[:100]
                assert kinds(replies)[-2:] == "EZ"
                assert client.query("SELECT 1") == [[b"1"]]
            client.query("BEGIN")
            assert sqlstates(client.ask(batch)) == ["0A000"], batch[:100]
            assert sqlstates(client.ask(query("SELECT 1"))) == ["25P02"]
            client.query("ROLLBACK")
            assert client.query("SELECT 1") == [[b"1"]]


@pytest.mark.parametrize("size", [1, 100_000, 131_050, 132_000, 270_000, 1_100_000])
def test_a_function_call_of_any_size_goes_where_a_short_one_goes(
    router: RouterProcess, size: int
) -> None:
    data = function_call(1317, b"x" * size)  # length(text)
    for pool in POOLS:
        with wire(router, pool) as client:
            for before in (b"", query("SELECT 1"), parse("SELECT 1") + bind() + FLUSH):
                for begin in ("SELECT 1", "BEGIN"):
                    client.query(begin)
                    replies = client.ask(before + data, until="V")
                    assert replies[-1].body[4:] == b"%d" % size
                    client.read_until("Z")
                    client.query("ROLLBACK")


@pytest.mark.parametrize("pool", POOLS)
def test_it_may_be_described_and_is_refused_when_it_is_bound(
    router: RouterProcess, pool: str
) -> None:
    for batch in (parse(ALL) + SYNC, parse(ALL) + describe("S") + SYNC):
        for begin in ((), ("BEGIN",)):
            with wire(router, pool) as client:
                for sql in begin:
                    client.query(sql)
                assert sqlstates(client.ask(batch)) in ([], ["0A000"])
                assert len(sqlstates(client.ask(bind() + execute() + SYNC))) == 1


def test_on_a_chosen_shard_it_runs(router: RouterProcess) -> None:
    for pool in POOLS:
        for shard in range(SHARDS):
            check_on_a_chosen_shard(router, pool, shard, query(ALL))
            check_on_a_chosen_shard(router, pool, shard, parse(ALL) + bind() + execute() + SYNC)


def check_on_a_chosen_shard(router: RouterProcess, pool: str, shard: int, batch: bytes) -> None:
    """See that a client that chooses a shard counts the rows there."""

    def count(client: WireClient) -> list[bytes | None]:
        [row] = [reply.row for reply in client.ask(batch) if reply.kind == "D"]
        return row

    with wire(router, pool) as client:
        client.query(f"SET SHARD TO {shard}")
        assert count(client) == [b"%d" % shard]
        client.query("BEGIN")
        assert count(client) == [b"%d" % shard]
        client.query("COMMIT")
        assert kinds(client.ask(query(LONG))) == "TDCZ"
    with wire(router) as client:
        assert client.query(f"/* shard: {shard} */ {ALL}") == [[b"%d" % shard]]
        client.query(f"/* shard: {shard} */ BEGIN")
        assert count(client) == [b"%d" % shard]
        assert kinds(client.ask(query(LONG))) == "TDCZ"
        client.query("ROLLBACK")
        assert sqlstates(client.ask(query(ALL))) == ["0A000"]
        client.query("BEGIN")
        assert sqlstates(client.ask(query(ALL))) == ["0A000"]


def test_a_file_with_a_default_shard_keeps_its_way(router: RouterProcess) -> None:
    with router.connect("lenient") as connection:
        assert connection.execute(ALL).fetchone() == (2,)
        with connection.transaction():
            assert connection.execute(ALL).fetchone() == (2,)
    assert "sharding_without_key: is not set" in router.log_path.read_text()


def test_a_cursor_of_the_server_has_the_rows_of_its_key(router: RouterProcess) -> None:
    for shard, key in enumerate(KEYS):
        check_cursor(router, shard, key)


def check_cursor(router: RouterProcess, shard: int, key: int) -> None:
    """See that a cursor has all rows of a key, or is refused."""
    find = "SELECT id FROM items WHERE id = %s"
    with router.connect("items", autocommit=True) as connection:
        connection.execute(f"SET SHARDING KEY TO {key}".encode())
        with connection.transaction(), connection.cursor("c") as cursor:
            assert cursor.execute(find, [key]).fetchall() == [(key,)] * shard
            assert connection.execute(ALL).fetchone() == (shard,)
    with router.connect("items", autocommit=False) as connection:
        # DECLARE is the first statement of its transaction, and places that.
        with connection.cursor("c") as cursor:
            assert cursor.execute(find.replace("%s", str(key))).fetchall() == [(key,)] * shard


def test_a_row_of_a_cursor_can_be_changed(router: RouterProcess) -> None:
    with router.connect("items") as connection:
        connection.execute(f"SET SHARDING KEY TO {KEYS[2]}".encode())
        with connection.transaction():
            connection.execute(f"DECLARE c CURSOR FOR SELECT * FROM items WHERE id = {KEYS[2]}")
            connection.execute("MOVE c")
            cursor = connection.execute("UPDATE items SET body = 'y' WHERE CURRENT OF c")
            assert cursor.rowcount == 1


def test_copy_reaches_a_chosen_shard_and_no_other(router: RouterProcess) -> None:
    with router.connect("items") as connection, connection.cursor() as cursor:
        for sql in ("COPY items FROM '/dev/null'", "COPY items TO STDOUT"):
            with pytest.raises(errors.FeatureNotSupported, match="every shard"):
                with cursor.copy(sql):
                    pass
        with cursor.copy(f"COPY (SELECT id FROM items WHERE id = {KEYS[2]}) TO STDOUT") as copy:
            assert len(list(copy.rows())) == 2
        connection.execute("SET SHARD TO 1")
        with cursor.copy("COPY items FROM STDIN") as copy:
            copy.write_row((KEYS[1], "y"))
        assert connection.execute(ALL).fetchone() == (2,)
        with pytest.raises(psycopg.errors.CheckViolation):
            with cursor.copy("COPY items FROM STDIN") as copy:
                copy.write_row((KEYS[2], "y"))


def test_execute_finds_the_rows_of_its_values(router: RouterProcess) -> None:
    prepare = b"PREPARE p AS SELECT id FROM items WHERE id = $1"
    for pool in ("items", "sessions"):
        for shard, key in enumerate(KEYS):
            execute_key = f"EXECUTE p({key})".encode()
            with router.connect(pool) as connection:
                connection.execute(f"SET SHARDING KEY TO {key}".encode())
                with connection.transaction():
                    connection.execute(prepare)
                    assert connection.execute(execute_key).fetchall() == [(key,)] * shard
            with router.connect(pool) as connection, connection.transaction():
                connection.execute(prepare)  # on shard 0
                if shard == 0:
                    assert connection.execute(execute_key).fetchall() == []
                else:
                    with pytest.raises(errors.FeatureNotSupported, match=f"shard {shard}, but"):
                        connection.execute(execute_key)
                    raise psycopg.Rollback
    with router.connect("items") as connection:
        connection.execute(prepare)
        # There is but one connection to each shard, which nobody may keep.
        for shard, key in enumerate(KEYS):
            execute_key = f"EXECUTE p({key})".encode()
            assert connection.execute(execute_key).fetchall() == [(key,)] * shard
        connection.execute(b"DEALLOCATE p")
        with pytest.raises(errors.InvalidSqlStatementName, match="does not exist"):
            connection.execute(b"EXECUTE p(1)")
