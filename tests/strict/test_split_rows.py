"""An INSERT of rows of several shards is split by their keys, and there as a whole or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from router.routing.sharding import pg_bigint_hash
from tests.support.proxy import Proxy
from tests.support.router import HOST, primary_of, wait_until
from tests.support.shards import (
    LOSSES,
    PROTOCOLS,
    SHARDS,
    Shards,
    ask_all,
    ask_in_batches,
    ask_simply,
    lose_at_each_step,
    make_shards,
    outcome,
    pool_of,
    steps_of,
    wired_shards,
)
from tests.support.wire import (
    FLUSH,
    SYNC,
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

pytestmark = pytest.mark.postgres

KEYS: Final = range(1, 13)  # of all three shards


def _prepare(shards: Shards) -> None:
    for database in shards.databases:
        database.execute("ALTER TABLE items ADD n serial, ADD at timestamptz DEFAULT now()")
        database.execute("CREATE UNIQUE INDEX ON items (id)")


def _there(shards: Shards) -> dict[int, str]:
    """All rows, each of which must be where its key belongs."""
    found = {}
    for number, database in enumerate(shards.databases):
        for key, body in database.execute("SELECT id, body FROM items"):
            assert pg_bigint_hash(key, SHARDS) == number
            found[key] = body
    return found


def _tag(answer: list[Message]) -> bytes:
    return next(message.body for message in answer if message.kind == "C").rstrip(b"\0")


def _values(texts: list[str]) -> str:
    return ", ".join(f"({key}, {text})" for key, text in zip(KEYS, texts, strict=False))


# Values of a column that is no key, and what they are.
FORMS: Final = (
    ("'plain'", "plain"),
    ("'it''s, (so)'", "it's, (so)"),
    (r"E'a\'),(\n'", "a'),(\n"),
    ("$$d),('$$", "d),('"),
    ("$a$x$$y$a$", "x$$y"),
    ("'a' || /* ), ( */ 'b'", "ab"),
    ("(SELECT 'inner') -- ), (\n", "inner"),
    ("upper('up')", "UP"),
    ("(ARRAY['x', 'y'])[2]", "y"),
    ("NULL", None),
    ("DEFAULT", None),
    ("CASE WHEN random() < 2 THEN 'r' END", "r"),
)


@PROTOCOLS
def test_rows_go_where_their_keys_belong(
    shards: Shards, ask: Callable[[WireClient, str], list[Message]]
) -> None:
    _prepare(shards)
    plain = [f"'{key}'" for key in KEYS]
    with shards.client() as client:
        answer = ask(client, f"INSERT INTO items (id, body) VALUES {_values(plain)}")
        assert _tag(answer) == b"INSERT 0 12"
        assert _there(shards) == {key: str(key) for key in KEYS}
        conflict = (
            "ON CONFLICT (id) DO UPDATE SET body = excluded.body || '!' RETURNING id, body"
        )
        insert = f"INSERT INTO items (id, body) VALUES {_values(plain)} {conflict}"
        answer = ask(client, insert)
        assert rows(answer) == [[b"%d" % key, b"%d!" % key] for key in KEYS]
        assert _tag(answer) == b"INSERT 0 12"
        ignore = "INSERT INTO items (body, id) VALUES ('x', 1), ('y', 2), ('z', 100), ('z', 5)"
        assert _tag(ask(client, f"{ignore} ON CONFLICT DO NOTHING")) == b"INSERT 0 1"
        answer = ask(client, f"{ignore} ON CONFLICT DO NOTHING RETURNING id")
        assert sqlstates(answer) == ["0A000"]
        ask_all(client, ask, "TRUNCATE items")
        forms = [text for text, _ in FORMS]
        answer = ask(client, f"INSERT INTO items (id, body) VALUES {_values(forms)};")
        if any("SELECT" in form for form in forms):  # a query among them is another thing
            assert sqlstates(answer) == ["0A000"]
            forms[6] = "'inner' -- ), (\n"
            answer = ask(client, f"INSERT INTO items (id, body) VALUES {_values(forms)};")
        assert _tag(answer) == b"INSERT 0 12"
        assert _there(shards) == {
            key: value for key, (_, value) in zip(KEYS, FORMS, strict=True)
        }
        assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


def test_values_may_be_bound(shards: Shards) -> None:
    _prepare(shards)
    count = len(KEYS)
    places = ", ".join(f"(${n}, ${n + count}, $25)" for n in range(1, count + 1))
    sql = f"INSERT INTO items (id, body, at) VALUES {places} RETURNING body, $26::text"
    keys = [b"%d" % key for key in KEYS]
    bodies = [b"b%d" % key for key in KEYS[:-1]]
    values = [*keys, *bodies, None, b"2026-01-01", b"last"]
    with shards.client() as client:
        answer = client.ask(run(sql, *values) + SYNC)
        assert kinds(answer) == "12T" + "D" * count + "CZ"
        assert rows(answer) == [[value, b"last"] for value in [*bodies, None]]
        assert len(_there(shards)) == count
        ask_all(client, ask_in_batches, "TRUNCATE items")
        client.send(parse(sql, "s") + describe("S", "s") + FLUSH)
        assert kinds(client.read_until("T")) == "1tT"
        answer = client.ask(bind(*values, name="s") + execute() + SYNC)
        assert kinds(answer) == "2" + "D" * count + "CZ"
        again = client.ask(bind(*values, name="s") + execute() + SYNC)
        assert sqlstates(again) == ["23505"]
        assert "P" not in again[-2].fields
        ask_all(client, ask_in_batches, "TRUNCATE items", "BEGIN")
        answer = client.ask(bind(*values, name="s") + execute() + SYNC)
        assert (kinds(answer), answer[-1].body) == ("2" + "D" * count + "CZ", b"T")
        one = "INSERT INTO items (id, body) VALUES ($1, $2)"
        assert kinds(client.ask(run(one, b"50", b"x") + SYNC)) == "12nCZ"
        ask_all(client, ask_in_batches, "COMMIT")
        assert len(_there(shards)) == count + 1
        assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


@PROTOCOLS
def test_in_a_transaction_they_are_committed_on_all_or_rolled_back(
    shards: Shards, ask: Callable[[WireClient, str], list[Message]]
) -> None:
    _prepare(shards)
    insert = "INSERT INTO items (id, body) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (5, 'd')"
    with shards.client() as client:
        for first in ((), ("SELECT 1",), ("CREATE TABLE IF NOT EXISTS made (id int)",)):
            for ending in ("COMMIT", "ROLLBACK"):
                ask_all(client, ask, "BEGIN", *first)
                answer = ask(client, insert)
                if first == ("SELECT 1",) and ask is ask_in_batches:
                    assert sqlstates(answer) == ["0A000"]  # its Parse is on one shard
                    ask_all(client, ask, "ROLLBACK")
                    continue
                assert (_tag(answer), answer[-1].body) == (b"INSERT 0 4", b"T")
                ask_all(client, ask, "SAVEPOINT s_1")
                ask_all(client, ask, "INSERT INTO items (id, body) VALUES (7, 'e')")
                assert sqlstates(ask(client, insert)) == ["23505"]
                assert sqlstates(ask(client, "SELECT 1")) == ["25P02"]
                ask_all(client, ask, "ROLLBACK TO s_1", ending)
                assert sorted(_there(shards)) == ([1, 2, 3, 5] if ending == "COMMIT" else [])
                ask_all(client, ask, "TRUNCATE items")
        ask_all(client, ask, "BEGIN", "SELECT * FROM items WHERE id = 1")
        assert sqlstates(ask(client, insert)) == ["0A000"]
        ask_all(client, ask, "ROLLBACK")
        assert client.value("SELECT 1") == "1"
    assert _there(shards) == {}
    assert shards.left() == 0


@PROTOCOLS
@pytest.mark.parametrize("shard", range(SHARDS))
def test_an_error_of_any_shard_is_told(
    shards: Shards, ask: Callable[[WireClient, str], list[Message]], shard: int
) -> None:
    _prepare(shards)
    there = next(key for key in KEYS if pg_bigint_hash(key, SHARDS) == shard)
    every = ", ".join(f"({key})" for key in KEYS)
    with shards.client() as client:
        ask_all(client, ask, f"INSERT INTO items (id) VALUES ({there})")
        for first in ((), ("CREATE TABLE IF NOT EXISTS made (id int)",)):
            ask_all(client, ask, "BEGIN", *first)
            answer = ask(client, f"INSERT INTO items (id) VALUES {every}")
            assert (sqlstates(answer), answer[-1].body) == (["23505"], b"E")
            assert sqlstates(ask(client, "SELECT 1")) == ["25P02"]
            ask_all(client, ask, "ROLLBACK")
    assert list(_there(shards)) == [there]


def test_the_state_of_the_transaction_is_told_when_it_is_known(
    private_primary: Callable[..., Server],
    start_router: Callable[..., RouterProcess],
) -> None:
    """The shard that has it has no rows of the INSERT, and has yet to answer to its BEGIN."""
    server = private_primary(max_prepared_transactions="20")
    databases = make_shards(server)
    with Proxy(server.port) as proxy:
        places = [[(HOST, proxy.port, "primary")], primary_of(server), primary_of(server)]
        shards = Shards(databases, start_router({"items": pool_of(places, databases)}))
        elsewhere = [key for key in KEYS if pg_bigint_hash(key, SHARDS)]
        values = ", ".join(f"({key}, 'x')" for key in elsewhere)
        with shards.client() as client:
            ask_all(client, ask_in_batches, "SELECT 1")  # there is a connection
            ask_all(client, ask_in_batches, "BEGIN")
            proxy.stall(new=False)
            client.send(run(f"INSERT INTO items VALUES {values}") + SYNC)
            inserted = "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^INSERT' AND state"
            wait_until(
                "the rows are there",
                lambda: (
                    databases[0].execute(f"{inserted} = 'idle in transaction'")[0][0]
                    == SHARDS - 1
                ),
            )
            shards.router.admin("SHOW VERSION")  # the router has heard of it
            proxy.resume()
            told = client.read_until("Z")
            assert (_tag(told), told[-1].body) == (b"INSERT 0 %d" % len(elsewhere), b"T")
            ask_all(client, ask_in_batches, "COMMIT")
        assert sorted(_there(shards)) == elsewhere


def test_to_prepare_behind_it_does_not_give_the_server_back(shards: Shards) -> None:
    insert = "INSERT INTO items (id, body) VALUES (1, 'a'), (2, 'b'), (3, 'c'), (5, 'd')"
    with shards.client() as client:
        for ask in (ask_simply, ask_in_batches):
            for ending in ("COMMIT", "ROLLBACK"):
                ask_all(client, ask, "BEGIN", insert)
                assert (
                    kinds(client.ask(parse("SELECT 1", ending + ask.__name__) + SYNC)) == "1Z"
                )
                ask_all(client, ask, ending)
                assert len(_there(shards)) == 4 * (ending == "COMMIT")
                ask_all(client, ask, "TRUNCATE items")
    assert shards.left() == 0


REFUSED: Final = (
    "INSERT INTO items (id, body) VALUES (1, 'a'), (nextval('s'), 'b'), (3, 'c')",
    "INSERT INTO items (id, body) VALUES (1, 'a'), (DEFAULT, 'b'), (3, 'c')",
    "INSERT INTO items (id, body) VALUES (1, 'a'), (NULL, 'b'), (3, 'c')",
    "INSERT INTO items (id, body) VALUES (1, 'a'), (3, 'c'); SELECT 1",
    "WITH x AS (SELECT 1) INSERT INTO items (id, body) VALUES (1, 'a'), (3, 'c')",
    "INSERT INTO items (id, body) SELECT * FROM (VALUES (1, 'a'), (3, 'c')) v",
    "INSERT INTO items (id, body) VALUES (1, 'a'), (3, (SELECT body FROM items WHERE id = 5))",
    "INSERT INTO items (id) VALUES " + ", ".join(f"({n})" for n in range(301)),
)


def test_what_cannot_be_split_is_refused(shards: Shards) -> None:
    _prepare(shards)
    with shards.client() as client:
        for begin in ((), ("BEGIN",), ("BEGIN", "CREATE TABLE made (id int)")):
            for sql in REFUSED:
                ask_all(client, ask_simply, *begin)
                assert sqlstates(client.ask(query(sql))) == ["0A000"], sql
                (told,) = rows(client.ask(query(f"EXPLAIN ROUTE {sql}"))) or [[None] * 13]
                if begin:
                    ask_all(client, ask_simply, "ROLLBACK")
                elif not sql.endswith("SELECT 1"):
                    assert told[11] == b"0A000", sql
        two = parse("INSERT INTO items (id) VALUES (1), (3)") + bind() + execute()
        assert sqlstates(client.ask(two + run("SELECT 1") + SYNC)) == ["0A000"]
        (told,) = rows(
            client.ask(query("EXPLAIN ROUTE INSERT INTO items (id) VALUES (1), (3)"))
        )
        assert told[3] == b"1, 2"
        assert client.value("SELECT 1") == "1"
    assert _there(shards) == {}


@LOSSES[0]
@LOSSES[1]
def test_whatever_is_lost_at_any_step_all_rows_are_there_or_none(
    before: bool,
    kills: str,
    private_primary: Callable[..., Server],
    start_router: Callable[..., RouterProcess],
) -> None:
    def insert(client: WireClient, number: int) -> str:
        rows = ", ".join(f"({key}, '{number}')" for key in KEYS)
        return outcome(client.ask(query(f"INSERT INTO items VALUES {rows}")))

    def counted(shards: Shards, number: int) -> int:
        where = f"SELECT 1 FROM items WHERE body = '{number}'"
        return sum(len(each.execute(where)) for each in shards.databases)

    with wired_shards(private_primary(max_prepared_transactions="20")) as made:
        lose_at_each_step(
            steps_of(b"INSERT"),
            insert,
            counted,
            len(KEYS),
            made,
            start_router,
            before=before,
            kills=kills,
        )
