"""A COPY from the client is split by keys, and its rows are there as a whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct
import subprocess
from typing import TYPE_CHECKING, Final

import asyncpg
import psycopg
import pytest

from router.routing.sharding import pg_bigint_hash
from tests.support.postgres import Database
from tests.support.router import HOST, wait_until
from tests.support.shards import (
    LOSSES,
    SHARDS,
    Shards,
    break_off,
    copy_unasked,
    lose_at_each_step,
    outcome,
    steps_of,
    wired_shards,
)
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    WireClient,
    cancel_request,
    copy_data,
    copy_fail,
    kinds,
    query,
    rows,
    sqlstates,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess
    from tests.support.wire import Message

pytestmark = pytest.mark.postgres

COPY: Final = "COPY items (id, body) FROM STDIN"
KEYS: Final = range(1, 13)  # of all three shards
LINES: Final = b"".join(b"%d\tb%d\n" % (key, key) for key in KEYS)


def _there(shards: Shards) -> list[tuple[int, str]]:
    """All rows, each of which must be where its key belongs."""
    found = []
    for number, database in enumerate(shards.databases):
        for key, body in database.execute("SELECT id, body FROM items"):
            assert pg_bigint_hash(key, SHARDS) == number
            found.append((key, body))
    return sorted(found, key=str)


def _plain(shards: Shards) -> tuple[Database, WireClient]:
    """A database with the same table, and a client of it."""
    server = shards.databases[0].server
    server.execute("CREATE DATABASE plain")
    database = Database(server, "plain")
    database.execute("CREATE TABLE items (id bigint, body text)")
    return database, WireClient.login(server.port, user="postgres", database="plain")


def _same(mine: list[Message], theirs: list[Message], data: bytes) -> None:
    """Both have the same answer to data, but for what the router says of shards."""
    assert kinds(mine) == kinds(theirs), (data, [message.fields for message in theirs])
    for one, other in zip(mine, theirs, strict=True):
        if one.kind == "E":
            told, expected = one.fields, other.fields
            for code in "CM" if data.startswith(b"PGCOPY") else "CMW":
                assert told.get(code) == expected.get(code), data
            if "W" in expected:  # in binary format the column is not told of all errors
                lines = [each["W"].partition(", column")[0] for each in (told, expected)]
                assert lines[0] == lines[1]
        else:
            assert one.body == other.body


# What is wrong with a row is told alike; the shards of 1 to 5 are all three.
DATA_IN_TEXT: Final = (
    b"",
    b"1\ta\n2\tb\n3\t\\N\n5\tx",
    b"1\ta\r\n2\tb\r\n5\tc\r\n",
    b"1\ta\\\nb\n2\ta\\\tb\\x41\n\\063\tc\n",
    b" 7\ta\n+8 \tb\n-0009\tc\n",
    b"1\ta\n2\tb\n\\.\nwhatever\n",
    b"1\ta\n2\n3\tx\n",
    b"1\ta\n\n3\tx\n",
    b"1\ta\n2\tx\ty\n5\tx\n",
    b"1\ta\nx\tb\n3\tx\n",
    b"1\ta\n2\t\xff\n5\tx\n",
    b"1\ta\n99999999999999999999\tb\n",
    b"1\ta\n2\tb\r\n3\tx\n",
    b"1\ta\r\n2\tb\n3\tx\r\n",
)
DATA_IN_CSV: Final = (
    b"",
    b'1,a\n2,"b"\n3,\n5,""',
    b'1,a\r\n2,"b\r\nc"\r\n5,c\r\n',
    b'1,"a\nb"\n"2","a,""b"\n3,a" "b\n\\N,x\n',
    b'" 7",a\n+8 ,b\n-0009,"c"d"e"\n',
    b"1,a\n2,b\n\\.\nwhatever\n",
    b'1,"a\nb\nc"\n2\n3,x\n',
    b'1,"a\nb\nc"\n2,x,y\n5,x\n',
    b'1,"a\nb\nc"\nx,b\n3,x\n',
    b'1,"a\nb\nc"\nx,"b\nc"\n3,x\n',
    b"1,a\n2,\xff\n5,x\n",
    b"1,a\n2,b\r\n3,x\n",
    b"1,a\r\n2,b\n3,x\r\n",
    b'1,a\n2,"b\n3,x\n',
)


def _in_binary(*rows: tuple[int | bytes | None, bytes | None]) -> bytes:
    """The same in binary format, without a trailer."""
    parts = [b"PGCOPY\n\xff\r\n\0", struct.pack("!II", 0, 0)]
    for row in rows:
        parts.append(struct.pack("!h", len(row)))
        for value in row:
            data = struct.pack("!q", value) if isinstance(value, int) else value
            size = -1 if data is None else len(data)
            parts += [struct.pack("!i", size), data or b""]
    return b"".join(parts)


ROWS: Final = _in_binary((1, b"a"), (2, None), (3, b""), (5, b"x" * 300), (-7, b"\xc3\xa4"))
DATA_IN_BINARY: Final = (
    ROWS + b"\xff\xff",
    ROWS,
    ROWS + b"\xff\xff\0",
    ROWS[:-1],
    ROWS + b"\0",
    b"",
    b"PGCOPY\n\xff\r\n\0",
    b"PGCOPY\n\xff\n\0",
    ROWS[:15] + struct.pack("!I", 3) + b"abc" + ROWS[19:],
    ROWS[:11] + struct.pack("!I", 1 << 16) + ROWS[15:],
    ROWS[:11] + struct.pack("!I", 1 << 17) + ROWS[15:],
    ROWS[:11] + struct.pack("!I", 1) + ROWS[15:],
    _in_binary((1, b"a"), (b"\0\0\0\7", b"b"), (3, b"x")),
    _in_binary((1, b"a"), (b"\0" * 9, b"b"), (3, b"x")),
    _in_binary((1, b"a"), (2, b"\xff"), (3, b"x")),
    _in_binary((1, b"a")) + struct.pack("!hi", 2, -2),
    _in_binary((1, b"a")) + struct.pack("!hi", 3, -1),
    _in_binary((1, b"a")) + struct.pack("!h", -2),
)
DATA: Final = (
    *((f"{COPY} (FORMAT binary)", data) for data in DATA_IN_BINARY),
    *((COPY, data) for data in DATA_IN_TEXT),
    *((f"{COPY} WITH CSV", data) for data in DATA_IN_CSV),
    *((f"{COPY} (FORMAT csv, HEADER)", b"a,b\n" + data) for data in DATA_IN_CSV),
    *(
        (f"{COPY} (FORMAT csv, DELIMITER ';', QUOTE '$', ESCAPE E'\\\\')", data)
        for data in (b"$1$;$a\\$b\nc$\n2;\\$x$\n3;$\\\\$\n", b"1;$a\\b$\n$x\\$$;5\n")
    ),
    (f"{COPY} DELIMITER '|' NULL 'no'", b"1|no\n2|\\N\n3|a\\|b\n\\|5|x\n"),
    (f"{COPY} (FORMAT csv, FORCE_NULL (body), NULL 'no')", b'1,"no"\n2,no\n3,\n'),
    (f"{COPY} (FORMAT csv, FORCE_NOT_NULL (id, body))", b"1,\n2,x\n,y\n"),
    (f"{COPY} WHERE id % 2 = 1 AND body <> 'b'", b"1\ta\n2\ta\n3\tb\n5\tc\n"),
    ("COPY items (body, id) FROM STDIN (HEADER match)", b"body\tid\na\t3\nb\t5\n"),
    ("COPY items (body, id) FROM STDIN (HEADER match)", b"bodi\tid\na\t3\nb\t5\n"),
)


def test_the_same_data_has_the_same_rows_and_the_same_errors(shards: Shards) -> None:
    database, direct = _plain(shards)
    with shards.client() as client, direct:
        for number, (sql, data) in enumerate(DATA):
            messages = [copy_data(data), COPY_DONE]
            if number % 2:
                messages = [copy_data(data[i : i + 1]) for i in range(len(data))] + [COPY_DONE]
            mine = client.copy(sql, *messages)
            _same(mine, direct.copy(sql, *messages), data)
            expected = sorted(database.execute("SELECT id, body FROM items"), key=str)
            assert _there(shards) == expected, data
        assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


def test_generated_rows_are_the_same(shards: Shards) -> None:
    database, direct = _plain(shards)
    chosen = random.Random(11)
    bodies = (b"", b"x" * 300, b"a\\tb", b"\\\\", b"\\N", "\u00e4\u20ac".encode(), b"a\\\nb")
    with shards.client() as client, direct:
        for _ in range(8):
            data = b"".join(
                b"%d\t%b\n" % (chosen.randrange(-(1 << 63), 1 << 63), chosen.choice(bodies))
                for _ in range(chosen.randrange(1, 3000))
            )
            messages = []
            while data:
                size = chosen.choice((1, 7, 100, 20_000, 300_000))
                messages.append(copy_data(data[:size]))
                data = data[size:]
            mine = client.copy(COPY, *messages, COPY_DONE)
            theirs = direct.copy(COPY, *messages, COPY_DONE)
            assert [message.body for message in mine] == [message.body for message in theirs]
        expected = sorted(database.execute("SELECT id, body FROM items"), key=str)
        assert _there(shards) == expected
    assert shards.left() == 0


def test_the_error_of_a_shard_is_that_of_the_first_bad_line(shards: Shards) -> None:
    database, direct = _plain(shards)
    for one in (*shards.databases, database):
        one.execute("ALTER TABLE items ADD CHECK (body <> 'bad')")
        one.execute("CREATE UNIQUE INDEX ON items (id)")
    chosen = random.Random(3)
    with shards.client() as client, direct:
        for _ in range(12):
            lines = [b"%d\tgood\n" % n for n in range(1, 400)]
            for _ in range(chosen.randrange(1, 4)):
                at = chosen.randrange(len(lines))
                key = chosen.randrange(1, 400)
                lines[at] = b"%d\tbad\n" % key if chosen.random() < 0.7 else b"x\ty\n"
            messages = [copy_data(line) for line in lines]
            mine = client.copy(COPY, *messages, COPY_DONE)
            theirs = direct.copy(COPY, *messages, COPY_DONE)
            errors = [next(m.fields for m in each if m.kind == "E") for each in (mine, theirs)]
            assert [errors[0].get(c) for c in "CMW"] == [errors[1].get(c) for c in "CMW"]
            assert "Nothing has been changed on any shard." in errors[0]["D"]
            assert _there(shards) == []
        assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


def test_whoever_ends_it_nothing_stays(shards: Shards) -> None:
    with shards.client() as client:
        answer = client.copy(COPY, copy_data(LINES), copy_fail("no more"))
        (error,) = [message.fields for message in answer if message.kind == "E"]
        assert (error["C"], error["M"]) == ("57014", "COPY from stdin failed: no more")
        assert error["W"] == "COPY items, line 13"
        assert client.value("SELECT 1") == "1"
        # What is refused is told at once, or of a last row without an end at the end.
        assert kinds(client.copy(COPY, copy_data(b"1\ty\nx\ty\n"))) == "GEZ"
        client.send(copy_data(LINES) + COPY_DONE)
        assert kinds(client.copy(COPY, copy_data(b"1\ty\nx\ty"), COPY_DONE)) == "GEZ"
        # Sync and Flush mean nothing in it; what comes behind its end is ignored.
        answer = client.copy(COPY, SYNC, copy_data(b"x\ty\n"), FLUSH)
        assert sqlstates(answer) == ["22P02"]
        client.send(copy_data(LINES) + COPY_DONE + copy_fail())
        assert client.value("SELECT 1") == "1"
    break_off(shards, COPY, LINES, b"1\tx")
    assert _there(shards) == []
    copy_unasked(shards, COPY, LINES, b"20\tx\n")
    assert len(_there(shards)) == len(KEYS) + 1


def test_a_row_may_be_long_and_a_shard_slow(shards: Shards) -> None:
    body = b"x" * (1 << 20)
    with shards.client() as client:
        answer = client.copy(COPY, copy_data(b"1\t" + body + b"\n"), COPY_DONE)
        assert kinds(answer) == "GCZ"
        answer = client.copy(COPY, *[copy_data(b"1\t" + body)] * 5, COPY_DONE)
        assert sqlstates(answer) == ["54000"]
        assert [len(body) for _, body in _there(shards)] == [1 << 20]
        client.ask(query("TRUNCATE items"))
    assert shards.left() == 0


def test_a_slow_shard_slows_its_client_down(shards: Shards) -> None:
    for database in shards.databases:
        database.execute("CREATE UNIQUE INDEX ON items (id)")
    key = next(n for n in KEYS if pg_bigint_hash(n, SHARDS) == 1)
    server = shards.databases[1].server
    locker = psycopg.connect(host=HOST, port=server.port, user="postgres", dbname="shard_1")
    with locker, shards.client() as client:
        locker.execute("INSERT INTO items VALUES (%s, 'mine')", (key,))
        client.begin_copy(COPY)
        client.send(copy_data(LINES))
        waiting, sent = bytearray(), 0
        client.sock.settimeout(1)
        with contextlib.suppress(TimeoutError):
            for block in range(100, 100_000):  # gigabytes: they must not all be taken
                if not waiting:
                    rows = [b"%d\t%b\n" % (block * 100 + n, b"y" * 1000) for n in range(100)]
                    waiting += copy_data(b"".join(rows))
                    sent += 100
                del waiting[: client.sock.send(waiting)]
        client.sock.settimeout(60)
        assert sent < 500_000
        locker.rollback()
        client.send(bytes(waiting) + COPY_DONE)
        assert kinds(client.read_until("Z")) == "CZ"
    assert len(_there(shards)) == len(KEYS) + sent
    assert shards.left() == 0


def _ask(client: WireClient, *texts: str) -> None:
    for text in texts:
        assert not sqlstates(client.ask(query(text))), text


def test_in_a_transaction_they_are_committed_on_all_or_rolled_back(shards: Shards) -> None:
    more = (copy_data(b"100\tx\n101\ty\n102\tz\n"), COPY_DONE)
    for database in shards.databases:
        database.execute("CREATE UNIQUE INDEX ON items (id)")
    with shards.client() as client:
        for first in ((), ("SELECT 1",), ("CREATE TABLE IF NOT EXISTS made (id int)",)):
            for ending in ("COMMIT", "ROLLBACK"):
                _ask(client, "BEGIN", *first)
                answer = client.copy(COPY, copy_data(LINES), COPY_DONE)
                assert (kinds(answer), answer[-1].body) == ("GCZ", b"T")
                _ask(client, "INSERT INTO items (id, body) VALUES (50, 'e')", "SAVEPOINT s_1")
                answer = client.copy(COPY, copy_data(LINES), COPY_DONE)
                assert (sqlstates(answer), answer[-1].body) == (["23505"], b"E")
                assert sqlstates(client.ask(query("SELECT 1"))) == ["25P02"]
                assert sqlstates(client.begin_copy(COPY)) == ["25P02"]
                _ask(client, "ROLLBACK TO s_1")
                assert sqlstates(client.copy(COPY, copy_fail())) == ["57014"]
                _ask(client, "ROLLBACK TO s_1")
                assert sqlstates(client.begin_copy("COPY items (body) FROM STDIN")) == ["0A000"]
                _ask(client, "ROLLBACK TO s_1")
                client.begin_copy(COPY)
                with WireClient(shards.router.port) as other:
                    other.send(cancel_request(client.pid, client.secret))
                    other.read_to_end()
                assert sqlstates(client.read_until("Z")) == ["57014"]
                _ask(client, "ROLLBACK TO s_1")
                assert kinds(client.copy(COPY, *more)) == "GCZ"
                _ask(client, ending)
                assert len(_there(shards)) == 16 * (ending == "COMMIT")
                _ask(client, "TRUNCATE items")
        _ask(client, "BEGIN", "SELECT * FROM items WHERE id = 1")
        assert sqlstates(client.begin_copy(COPY)) == ["0A000"]
        _ask(client, "ROLLBACK", "BEGIN")
        (told,) = rows(client.ask(query(f"EXPLAIN ROUTE {COPY}")))
        assert told[3] == b"all"
        assert sqlstates(client.copy(COPY, copy_data(b"x\n"), COPY_DONE)) == ["22P02"]
        assert sqlstates(client.ask(query("COMMIT"))) == []
        _ask(client, "BEGIN")
        client.begin_copy(COPY)
        client.send(copy_data(LINES))
    wait_until("all have let go", lambda: not shards.busy())
    assert _there(shards) == []
    assert shards.left() == 0


REFUSED: Final = (
    "COPY items (body) FROM STDIN",
    "COPY items FROM STDIN (ENCODING 'LATIN1')",
    "COPY items FROM STDIN (SOMETHING 'else')",
    "COPY items FROM '/etc/passwd'",
    "COPY items TO STDOUT",
    "COPY items FROM STDIN; SELECT 1",
)


def test_what_cannot_be_split_is_refused_before_the_first_row(shards: Shards) -> None:
    with shards.client() as client:
        for sql in REFUSED:
            answer = client.begin_copy(sql)
            assert sqlstates(answer) == ["0A000"], sql
            assert all(message.fields["H"] for message in answer if message.kind == "E")
            (told,) = rows(client.ask(query(f"EXPLAIN ROUTE {sql}"))) or [[None] * 13]
            if ";" not in sql:
                assert told[11] == b"0A000", sql
        (told,) = rows(client.ask(query(f"EXPLAIN ROUTE {COPY}")))
        assert (told[3], told[4]) == (b"all", b"every shard")
        assert sqlstates(client.begin_copy("COPY items (id, nobody) FROM STDIN")) == ["42703"]
        for database in shards.databases[1:]:
            database.execute("ALTER TABLE items RENAME TO elsewhere")
        assert sqlstates(client.begin_copy(COPY)) == ["42P01"]
        assert client.value("SELECT 1") == "1"
    assert shards.left() == 0


def test_columns_are_counted_as_copy_does(shards: Shards) -> None:
    for database in shards.databases:
        database.execute("DROP TABLE items")
        database.execute(
            "CREATE TABLE items (gone int, twice int GENERATED ALWAYS AS (1) STORED, "
            "body text, id bigint)"
        )
        database.execute("ALTER TABLE items DROP gone")
    with shards.client() as client:
        answer = client.copy("COPY items FROM STDIN", copy_data(b"x\t3\ny\t5\n"), COPY_DONE)
        assert kinds(answer) == "GCZ"
        assert _there(shards) == [(3, "x"), (5, "y")]
        shards.databases[2].execute("ALTER TABLE items ADD more int")
        assert sqlstates(client.begin_copy("COPY items FROM STDIN")) == ["0A000"]
        shards.databases[2].execute("ALTER TABLE items ALTER id TYPE numeric")
        assert sqlstates(client.begin_copy(COPY)) == ["0A000"]


async def _copied_by_asyncpg(port: int) -> str:
    connection = await asyncpg.connect(
        host=HOST, port=port, user="postgres", database="items", timeout=60
    )
    try:
        async with connection.transaction():
            await connection.copy_records_to_table(
                "items", records=[(key + 200, "a") for key in KEYS], columns=["id", "body"]
            )
        return str(
            await connection.copy_records_to_table(
                "items", records=[(key + 300, "a") for key in KEYS]
            )
        )
    finally:
        await connection.close()


def test_drivers_copy_as_ever(shards: Shards, tmp_path: Path) -> None:
    place = f"host={HOST} port={shards.router.port} user=postgres dbname=items"
    with psycopg.connect(place) as connection, connection.cursor() as cursor:
        with cursor.copy(COPY.encode()) as copy:
            for key in KEYS:
                copy.write_row((key, "t"))
        assert cursor.rowcount == len(KEYS)
        with cursor.copy(f"{COPY} (FORMAT binary)".encode()) as copy:
            copy.set_types(["int8", "text"])
            for key in KEYS:
                copy.write_row((key + 100, "b"))
        with pytest.raises(psycopg.errors.InvalidTextRepresentation), connection.transaction():
            with cursor.copy(COPY.encode()) as copy:
                copy.write("x\ty\n")
    assert asyncio.run(_copied_by_asyncpg(shards.router.port)) == f"COPY {len(KEYS)}"
    source = tmp_path / "rows.csv"
    source.write_text("".join(f'{key + 400},"p\nq"\n' for key in KEYS))
    told = subprocess.run(
        ["psql", "-X", "-d", place, "-c", f"\\copy items FROM '{source}' CSV"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.stdout.strip() == f"COPY {len(KEYS)}", told.stderr
    assert len(_there(shards)) == 5 * len(KEYS)
    assert shards.left() == 0


@LOSSES[0]
@LOSSES[1]
def test_whatever_is_lost_at_any_step_all_rows_are_there_or_none(
    before: bool,
    kills: str,
    private_primary: Callable[..., Server],
    start_router: Callable[..., RouterProcess],
) -> None:
    def copy(client: WireClient, number: int) -> str:
        data = b"".join(b"%d\tstep %d\n" % (key, number) for key in KEYS)
        return outcome(client.copy(COPY, copy_data(data), COPY_DONE))

    def counted(shards: Shards, number: int) -> int:
        where = f"SELECT 1 FROM items WHERE body = 'step {number}'"
        return sum(len(each.execute(where)) for each in shards.databases)

    steps = steps_of(b"to_regclass", COPY.encode(), b"\tstep ")
    with wired_shards(private_primary(max_prepared_transactions="20")) as made:
        lose_at_each_step(
            steps, copy, counted, len(KEYS), made, start_router, before=before, kills=kills
        )
