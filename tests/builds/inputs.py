"""What both builds are given: texts, values and messages, the same in every process."""

from __future__ import annotations

import struct
from itertools import product
from random import Random
from typing import TYPE_CHECKING

from tests.routing.test_destinations import TABLE
from tests.routing.test_fuzz import WORDS
from tests.support.wire import (
    COPY_DONE,
    FLUSH,
    SYNC,
    TERMINATE,
    bind,
    close,
    copy_data,
    copy_fail,
    describe,
    execute,
    function_call,
    message,
    parse,
    query,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = 20261121
# One of each kind that the lexer knows.
CHARACTERS = [bytes([byte]) for byte in b"'\"$/*-0aEx\\.;_(:[ \n\0\xe9"]
# Opened so many times, with something inside, and closed again.
NESTS = {
    "(": ("SELECT ", "(", "1", ")"),
    "function": ("SELECT ", "f(", "1", ")"),
    "subselect": ("", "SELECT (", "SELECT 1", ")"),
    "FROM": ("", "SELECT * FROM (", "SELECT 1", ") x"),
    "EXISTS": ("SELECT * FROM t WHERE ", "EXISTS (SELECT 1 WHERE ", "true", ")"),
    "CASE": ("SELECT ", "CASE WHEN ", "true", " THEN 1 END"),
    "ARRAY": ("SELECT ", "ARRAY[", "1", "]"),
    "subscript": ("SELECT a", "[b", "[1]", "]"),
    "NOT": ("SELECT * FROM t WHERE id = 5 AND ", "NOT ", "true", ""),
    "minus": ("SELECT * FROM t WHERE id = ", "- ", "5", ""),
    "AND": ("SELECT * FROM t WHERE ", "id = 5 AND ", "true", ""),
    "OR": ("SELECT * FROM t WHERE ", "id = 5 OR ", "true", ""),
    "UNION": ("", "SELECT 1 UNION ALL ", "SELECT 2", ""),
    "comment": ("SELECT 1 ", "/*", "x", "*/"),
    "WITH": ("", "WITH x AS (", "SELECT 1", ") SELECT * FROM x"),
    "cast": ("SELECT ", "CAST(", "1", " AS int)"),
    "join": ("SELECT * FROM ", "t JOIN (", "u", ") ON true"),
    "EXPLAIN": ("", "EXPLAIN ", "SELECT 1", ""),
}
DEPTHS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 610, 2_584, 10_946)


def texts() -> Iterator[bytes]:
    """Statements that are known, and others that nobody has thought of."""
    random = Random(SEED)
    known = [line.sql.encode() for line in TABLE]
    yield from known
    for length in range(3):
        yield from map(b"".join, product(CHARACTERS, repeat=length))
    for _ in range(1500):
        yield b"".join(random.choices(CHARACTERS, k=random.randrange(3, 12)))
    for _ in range(1000):
        words = random.choices(WORDS.split(), k=random.randrange(1, 25))
        yield " ".join(words).encode()
    for _ in range(1500):
        yield damaged(random, random.choice(known))
    for begin, opening, inside, closing in NESTS.values():
        for depth in DEPTHS:
            yield f"{begin}{opening * depth}{inside}{closing * depth}".encode()


def damaged(random: Random, data: bytes) -> bytes:
    """Data of which a part is missing, doubled, moved or replaced."""
    start, stop = sorted(random.choices(range(len(data) + 1), k=2))
    part, other = data[start:stop], random.choice(CHARACTERS)
    return random.choice(
        (
            data[:start] + data[stop:],
            data[:stop] + part + data[stop:],
            data[:start] + other + data[stop:],
            data[:start] + other + data[start:],
            data[:stop],
            data[start:],
            part + data[:start] + data[stop:],
        )
    )


def values() -> Iterator[bytes]:
    """What may stand for a sharding key, an array or a literal."""
    random = Random(SEED + 1)
    known = [
        b"",
        b"0",
        b"-0",
        b"5",
        b" 5 ",
        b"+5",
        b"5.0",
        b"0x1F",
        b"1_000",
        b"9223372036854775807",
        b"-9223372036854775808",
        b"9223372036854775808",
        b"9" * 5000,
        b'{1,2,NULL,"3"}',
        b"{}",
        b"{{1},{2}}",
        b"'it''s'",
        b"E'\\x41\\101\\u0041'",
        b"$$a$$",
        b"$t$a$t$",
        b"6fa459ea-ee8a-3ca4-894e-db77e160355e",
        b"{6FA459EAEE8A3CA4894EDB77E160355E}",
        "é€😀".encode(),
        b"\xff\xfe",
        struct.pack("!q", 5),
        struct.pack("!q", -5),
        struct.pack("!i", -(1 << 31)),
        struct.pack("!iiIiiiqiq", 1, 0, 20, 2, 1, 8, 5, 8, -5),
        struct.pack("!iiIiii", 1, 0, 20, 1, 1, -1),
        struct.pack("!iiIiii", 1, 0, 20, 1, 1, -7),
        struct.pack("!iiIii", 1, 0, 20, 1 << 30, 1),
    ]
    yield from known
    for length in range(13):
        yield random.randbytes(length)
    for _ in range(1500):
        yield damaged(random, random.choice(known))


def client_messages(random: Random) -> list[bytes]:
    """What a client may send, one after the other; some of it is broken."""
    sqls = (
        "SELECT 1",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "fail",
        "SET SERVER ROLE TO 'primary'",
        "SHOW SHARD",
        "SET SHARD TO '1'",
        "SET SHARDING KEY TO '5'",
        "EXPLAIN ROUTE SELECT 1",
        "DEALLOCATE a",
        "DEALLOCATE ALL",
        "SELECT * FROM t WHERE id = 5",
        "'",
        "",
    )
    name = random.choice(("", "a", "b", "PGCAT_1"))
    sql = random.choice(sqls)
    kinds = (
        query(sql),
        parse(sql, name) + SYNC,
        parse(sql, name),
        bind(name=name, portal=random.choice(("", "p"))),
        bind(b"5", name=name),
        describe("S", name),
        describe(),
        execute(random.choice(("", "p"))),
        close("S", name),
        parse(sql) + bind() + describe() + execute() + SYNC,
        SYNC,
        SYNC,
        FLUSH,
        copy_data(b"1\n"),
        COPY_DONE,
        copy_fail(),
        function_call(1),
    )
    chosen = random.choice(kinds)
    if random.random() < 0.1:
        kind = chr(chosen[0]) if chosen else "Q"
        chosen = message(
            kind, random.choice((b"", b"x", b"\0", b"S", b"S\0", b"\0\0\0", chosen[5:-1]))
        )
    return [chosen, *([TERMINATE] if random.random() < 0.01 else [])]


def server_messages(random: Random) -> bytes:
    """What a server may send; some of it is broken."""
    kinds = (
        message("D", b"\0\1\0\0\0\3abc"),
        message("C", b"SELECT 1\0"),
        message("C", b"SET\0"),
        message("E", b"SERROR\0VERROR\0C42P01\0Mno such table\0\0"),
        message("N", b"SNOTICE\0C00000\0Mhello\0\0"),
        message("S", b"TimeZone\0UTC\0"),
        message("A", b"\0\0\0\1channel\0\0"),
        message("G", b"\0\0\0"),
        message("1"),
        message("2"),
        message("3"),
        message("n"),
        message("T", b"\0\0"),
        message("Z", b"I"),
        message("Z", b"T"),
        message("Z", b"E"),
    )
    chosen = random.choice(kinds)
    if random.random() < 0.1:
        chosen = message(chr(chosen[0]), random.choice((b"", b"\0", b"x", chosen[5:-1])))
    return chosen
