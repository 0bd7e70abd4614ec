"""A time limit in the middle of a COPY on all shards: it is told, and no shard has rows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from router.routing.sharding import pg_bigint_hash
from tests.support.router import HOST, primary_of, wait_until
from tests.support.shards import KEYED, SHARDS, Shards, make_shards, pool_of
from tests.support.wire import (
    COPY_DONE,
    Ended,
    WireClient,
    copy_data,
    kinds,
    query,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

pytestmark = pytest.mark.postgres

OPTIONS: Final = f'{KEYED}\nomnisharded_tables = ["copies"]'
TABLES: Final = pytest.mark.parametrize("table", ["items", "copies"])
KEYS: Final = range(1, 13)  # of all three shards
LINES: Final = b"".join(b"%d\tb%d\n" % (key, key) for key in KEYS)
SHORT: Final = 300  # in milliseconds


@pytest.fixture
def make(
    private_primary: Callable[..., Server], start_router: Callable[..., RouterProcess]
) -> Callable[..., Shards]:
    """Make three shards, of which one has a setting of its own, and a router with others."""

    def begin(general: str = "", setting: str = "") -> Shards:
        server = private_primary(max_prepared_transactions="20")
        databases = make_shards(server)
        for database in databases:
            database.execute("CREATE TABLE copies (id bigint PRIMARY KEY, body text)")
            database.execute("ALTER TABLE items ADD PRIMARY KEY (id)")
        if setting:
            server.execute(f"ALTER DATABASE shard_1 SET {setting} = {SHORT}")
        pool = pool_of([primary_of(server)] * SHARDS, databases, OPTIONS)
        return Shards(databases, start_router({"items": pool}, general))

    return begin


def _begin(client: WireClient, table: str) -> None:
    client.send(query(f"COPY {table} (id, body) FROM STDIN") + copy_data(LINES))
    assert client.read_message().kind == "G"


def _go_on(client: WireClient) -> list[Message]:
    """Send rows until there is an answer: PostgreSQL looks at its limits as it reads."""
    key = len(KEYS)
    client.sock.settimeout(0.05)
    answer: list[Message] = []
    while not answer:
        key += 1
        client.send(copy_data(b"%d\tmore\n" % key))
        with contextlib.suppress(TimeoutError):
            answer.append(client.read_message())
    client.sock.settimeout(60)
    try:
        return answer + client.read_until("Z")
    except Ended as end:
        return answer + end.messages


def _see_nothing(shards: Shards) -> None:
    """Nothing is there, and nothing is left that could be."""
    wait_until("all have let go", lambda: not shards.busy())
    for database in shards.databases:
        for table in ("items", "copies"):
            assert database.execute(f"SELECT * FROM {table}") == []
    assert shards.left() == 0


@TABLES
@pytest.mark.parametrize("begin", ["", "BEGIN"])
@pytest.mark.parametrize(
    ("general", "setting", "own", "sqlstate"),
    [
        ("", "statement_timeout", "", "57014"),
        ("", "", f"SET statement_timeout = {SHORT}", "57014"),
        (f"query_timeout = {SHORT}\n", "", "", "57014"),
        (f"transaction_timeout = {SHORT}\n", "", "", "25P04"),
    ],
    ids=["of one server", "of the client", "query_timeout", "transaction_timeout"],
)
def test_a_limit_is_over_while_the_client_sends(
    make: Callable[..., Shards],
    general: str,
    setting: str,
    own: str,
    sqlstate: str,
    begin: str,
    table: str,
) -> None:
    shards = make(general, setting)
    with shards.client() as client:
        if own:
            client.query(own)
        if begin:
            client.query(begin)
        _begin(client, table)
        answer = _go_on(client)  # it says nothing of an end
        assert sqlstates(answer) == [sqlstate]
        (error,) = [message.fields for message in answer if message.kind == "E"]
        if answer[-1].kind == "E":
            assert (sqlstate, begin, error["S"]) == ("25P04", "BEGIN", "FATAL")
            _see_nothing(shards)
            return
        told = "has failed on all shards" if begin else "Nothing has been changed"
        assert told in error["D"]
        client.send(copy_data(LINES) + COPY_DONE)  # too late, and not acted on
        if begin:
            assert sqlstates(client.ask(query("COMMIT"))) == []  # which is a ROLLBACK
        client.query("RESET statement_timeout")
        assert client.value("SELECT 1") == "1"
        _see_nothing(shards)


@TABLES
@pytest.mark.parametrize("begin", ["", "BEGIN"])
def test_one_server_ends_its_part_while_another_is_waited_for(
    make: Callable[..., Shards], table: str, begin: str
) -> None:
    shards = make("", "idle_in_transaction_session_timeout")
    server = shards.databases[2].server
    key = next(key for key in KEYS if pg_bigint_hash(key, SHARDS) == 2)
    gone = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shard_1' "
        "AND pid <> pg_backend_pid()"
    )
    locker = psycopg.connect(host=HOST, port=server.port, user="postgres", dbname="shard_2")
    with locker, shards.client() as client:
        if begin:
            client.query(begin)
        locker.execute(f"INSERT INTO {table} VALUES ({key}, 'mine')")
        _begin(client, table)
        client.send(COPY_DONE)
        wait_until("it is ended", lambda: not shards.databases[0].execute(gone)[0][0])
        locker.rollback()
        answer = client.read_until("Z")
        if begin and not sqlstates(answer):
            answer = client.ask(query("COMMIT"))
        assert sqlstates(answer) != []
        if begin and answer[-1].body != b"I":
            client.query("ROLLBACK")
        assert client.value("SELECT 1") == "1"
        _see_nothing(shards)


@TABLES
def test_a_transaction_is_idle_behind_it(make: Callable[..., Shards], table: str) -> None:
    shards = make(f"idle_client_in_transaction_timeout = {SHORT}\n")
    with shards.client() as client:
        client.query("BEGIN")
        _begin(client, table)
        client.send(COPY_DONE)
        assert kinds(client.read_until("Z")) == "CZ"
        assert sqlstates(client.read_to_end()) == ["25P03"]
    _see_nothing(shards)


@TABLES
def test_a_server_ends_a_transaction_behind_it(make: Callable[..., Shards], table: str) -> None:
    shards = make("", "idle_in_transaction_session_timeout")
    gone = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shard_1' "
        "AND pid <> pg_backend_pid()"
    )
    with shards.client() as client:
        client.query("BEGIN")
        _begin(client, table)
        client.send(COPY_DONE)
        assert kinds(client.read_until("Z")) == "CZ"
        wait_until("it is ended", lambda: not shards.databases[0].execute(gone)[0][0])
        answer = client.ask(query("COMMIT"))
        assert sqlstates(answer) != []
        (error,) = [message.fields for message in answer if message.kind == "E"]
        assert "Nothing has been changed" in error["D"]
        assert answer[-1].body == b"I"
        assert client.value("SELECT 1") == "1"
    _see_nothing(shards)
