"""Texts that cost time to analyse, of any size: hostile ones, and some that are just long."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from router.routing.hashing import pg_bigint_hash, pg_text_hash, pg_uuid_hash

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Kind:
    """How texts of one kind are made.

    Attributes:
        head, tail: what is there once.
        unit: what comes again and again; ``#`` is its number, ``%`` that of the one before,
            ``<`` and ``>`` are twice its number, less one and as it is, ``&`` is one more key
            of shard 0 of 3.
        separator: what stands between two units.
        closing: what each unit needs at the other end, if it is nested.
        core: what stands in the middle of nested ones.
        sharding_function: that of the pool.
    """

    head: bytes
    unit: bytes
    separator: bytes = b", "
    tail: bytes = b""
    closing: bytes = b""
    core: bytes = b""
    sharding_function: str = "pg_bigint_hash"

    def text(self, size: int) -> bytes:
        """Make one of at most about `size` bytes."""
        room = size - len(self.head) - len(self.core) - len(self.tail)
        units: list[bytes] = []
        for unit in self._units():
            room -= len(unit) + len(self.separator) + len(self.closing)
            if room < 0 and units:
                break
            units.append(unit)
        middle = self.separator.join(units) + self.core + self.closing * len(units)
        return self.head + middle + self.tail

    def _units(self) -> Iterator[bytes]:
        keys = _keys_of_one_shard(self.sharding_function)
        for number in itertools.count(1):
            unit = self.unit.replace(b"#", b"%d" % number).replace(b"%", b"%d" % (number - 1))
            if b"<" in unit:
                unit = unit.replace(b"<", b"%d" % (2 * number - 1))
                unit = unit.replace(b">", b"%d" % (2 * number))
            if b"&" in unit:
                unit = unit.replace(b"&", next(keys))
            yield unit


def _keys_of_one_shard(function: str) -> Iterator[bytes]:
    for number in itertools.count(1_000_000):
        if function == "pg_bigint_hash":
            shard = pg_bigint_hash(number, 3)
            key = b"%d" % number
        elif function == "pg_uuid_hash":
            uuid = UUID(int=number << 64 | number)
            shard = pg_uuid_hash(uuid, 3)
            key = str(uuid).encode()
        else:
            shard = pg_text_hash(f"somebody{number}@example.com", 3)
            key = b"somebody%d@example.com" % number
        if shard == 0:
            yield key


_SELECT: Final = b"SELECT * FROM users WHERE "
_ROW: Final = b"(#, 'somebody', NULL, 3.5, now())"

KINDS: Final = {
    "AND": Kind(_SELECT, b"id = #", b" AND "),
    "OR": Kind(_SELECT, b"id = #", b" OR "),
    "OR of words": Kind(_SELECT, b"a# = b", b" OR "),
    "IN, numbers": Kind(_SELECT + b"id IN (", b"#000001", tail=b")"),
    "IN, digits": Kind(_SELECT + b"id IN (", b"1", b",", tail=b")"),
    "IN, strings": Kind(_SELECT + b"id IN (", b"'#'", tail=b")"),
    "IN, parameters": Kind(_SELECT + b"id IN (", b"$#", tail=b")"),
    "IN, rows": Kind(_SELECT + b"(id, n) IN (", b"(#, 1)", tail=b")"),
    "IN, words": Kind(_SELECT + b"id IN (", b"a#", tail=b")"),
    "IN, thousands": Kind(_SELECT, b"n IN (1, 2, #)", b" AND "),
    "ARRAY": Kind(_SELECT + b"id = ANY (ARRAY[", b"#", tail=b"])"),
    "array in a string": Kind(_SELECT + b"id = ANY ('{", b"#", b",", tail=b"}')"),
    "VALUES": Kind(
        b"INSERT INTO users (id, name, note, n) VALUES ", b"(#, 'somebody', NULL, 3.5)"
    ),
    "VALUES, narrow": Kind(b"INSERT INTO users (id) VALUES ", b"(#)", b","),
    "VALUES, wide": Kind(b"INSERT INTO users VALUES (", b"'#'", tail=b")"),
    "VALUES, calls": Kind(b"INSERT INTO users (id, name, note, n, at) VALUES ", _ROW),
    "VALUES, parameters": Kind(b"INSERT INTO users (id, n) VALUES ", b"($<, $>)"),
    "VALUES, parameters twice": Kind(b"INSERT INTO users (id, n) VALUES ", b"($#, $#)"),
    "VALUES, casts": Kind(b"INSERT INTO users (id, n) VALUES ", b"($<::INTEGER, $>::VARCHAR)"),
    "VALUES, mixed": Kind(b"INSERT INTO users (id, n, at) VALUES ", b"($<, $>, now())"),
    "parameters": Kind(b"SELECT ", b"$#"),
    "IN, casts": Kind(_SELECT + b"id IN (", b"$#::bigint", tail=b")"),
    "IN, literals and parameters": Kind(_SELECT + b"id IN (", b"$#, #", tail=b")"),
    "IN, one shard": Kind(_SELECT + b"id IN (", b"&", tail=b")"),
    "IN, uuids": Kind(
        _SELECT + b"id IN (", b"'&'", tail=b")", sharding_function="pg_uuid_hash"
    ),
    "IN, texts": Kind(
        _SELECT + b"id IN (", b"'&'", tail=b")", sharding_function="pg_text_hash"
    ),
    "array of uuids": Kind(
        _SELECT + b"id = ANY ('{", b"&", b",", b"}')", sharding_function="pg_uuid_hash"
    ),
    "VALUES, one shard": Kind(b"INSERT INTO users (n, id) VALUES ", b"(#, &)"),
    "VALUES, uuids": Kind(
        b"INSERT INTO users (n, id) VALUES ", b"(#, '&')", sharding_function="pg_uuid_hash"
    ),
    "VALUES, query": Kind(b"SELECT * FROM (VALUES ", b"(#, 2)", tail=b") AS v (id, n)"),
    "columns": Kind(b"SELECT ", b"column#", tail=b" FROM users WHERE id = 5"),
    "columns, aliases": Kind(b"SELECT ", b"c AS c#", tail=b" FROM users WHERE id = 5"),
    "columns, dots": Kind(b"SELECT ", b"u.c#", tail=b" FROM users u WHERE id = 5"),
    "GROUP BY": Kind(b"SELECT 1 FROM users WHERE id = 5 GROUP BY ", b"c#"),
    "ORDER BY": Kind(_SELECT + b"id = 5 ORDER BY ", b"c# DESC NULLS LAST"),
    "SET": Kind(b"UPDATE users SET ", b"c# = #", tail=b" WHERE id = 5"),
    "CTEs": Kind(b"WITH ", b"x# AS (SELECT # AS a)", tail=b" SELECT * FROM users WHERE id = 5"),
    "CTEs, chained": Kind(
        b"WITH x0 AS (SELECT * FROM users), ", b"x# AS (SELECT * FROM x%)", tail=b" SELECT 1"
    ),
    "CTEs, all used": Kind(
        b"WITH x0 AS (SELECT * FROM users), ",
        b"x# AS (SELECT * FROM users WHERE id = 5)",
        tail=b" SELECT * FROM x1, x2, x3",
    ),
    "CTEs, nested": Kind(
        b"", b"WITH x# AS (SELECT 1) SELECT * FROM (", b" ", b"", b") y", b"SELECT 1"
    ),
    "UNION": Kind(b"", b"SELECT * FROM users WHERE id = #", b" UNION ALL "),
    "UNION, bracketed": Kind(b"", b"(SELECT id FROM users WHERE id = #)", b" UNION "),
    "joins": Kind(
        b"SELECT * FROM users u0 ", b"JOIN users u# ON u#.id = u%.id", b" ", b" WHERE u0.id = 5"
    ),
    "joins, USING": Kind(b"SELECT * FROM users ", b"JOIN t# USING (id)", b" "),
    "joins, no condition": Kind(b"SELECT * FROM users ", b"JOIN t#", b" "),
    "joins, CROSS": Kind(b"SELECT * FROM users ", b"CROSS JOIN t#", b" "),
    "joins, NATURAL": Kind(b"SELECT * FROM users ", b"NATURAL JOIN t#", b" "),
    "joins, LEFT": Kind(b"SELECT * FROM users u ", b"LEFT JOIN t# ON t#.id = u.id", b" "),
    "joins, bracketed": Kind(
        b"SELECT * FROM ", b"(users u# JOIN ", b"", b"", b" ON true)", b"users u"
    ),
    "commas": Kind(b"SELECT * FROM ", b"users u#"),
    "sub-selects": Kind(b"SELECT ", b"(SELECT # FROM users WHERE id = 5)"),
    "sub-selects, EXISTS": Kind(
        _SELECT, b"EXISTS (SELECT 1 FROM users x WHERE x.id = users.id)", b" AND "
    ),
    "sub-selects, nested": Kind(b"", b"SELECT * FROM (", b"", b"", b") x", b"SELECT 1"),
    "sub-selects, IN": Kind(
        b"", b"SELECT id FROM users WHERE id IN (", b"", b"", b")", b"SELECT 1"
    ),
    "brackets": Kind(b"SELECT ", b"(", b"", b"", b")", b"1"),
    "brackets, open": Kind(b"SELECT ", b"(", b""),
    "brackets, flat": Kind(b"SELECT ", b"(#)", b" + "),
    "brackets, rows": Kind(b"SELECT ", b"(#, 1)"),
    "calls": Kind(b"SELECT ", b"lower(a)"),
    "calls, nested": Kind(b"SELECT ", b"lower(", b"", b"", b")", b"1"),
    "calls, cubes": Kind(b"SELECT 1 FROM t GROUP BY ", b"cube (a)"),
    "calls, names": Kind(b"SELECT 1 FROM t", b"a (b)", b", "),
    "calls, DISTINCT ON": Kind(b"SELECT (", b"(a) b (c)", b", ", b")"),
    "casts": Kind(_SELECT + b"id = 5", b"::int", b""),
    "casts, apart": Kind(b"SELECT ", b"#::int"),
    "casts, CAST": Kind(b"SELECT ", b"CAST(", b"", b"", b" AS int)", b"1"),
    "CASE": Kind(b"SELECT CASE ", b"WHEN a = # THEN 'x'", b" ", b" END"),
    "CASE, nested": Kind(b"SELECT ", b"CASE WHEN a THEN ", b"", b"", b" END", b"1"),
    "operators, +": Kind(b"SELECT ", b"#", b" + "),
    "operators, ||": Kind(b"SELECT ", b"'#'", b" || "),
    "operators, minus": Kind(b"SELECT ", b"-", b" ", b"1"),
    "operators, NOT": Kind(_SELECT, b"NOT", b" ", b" id = 5"),
    "operators, ~": Kind(b"SELECT ", b"~", b" ", b" 5"),
    "operators, one": Kind(b"SELECT 1 ", b"+", b"", b" 1"),
    "operators, IS": Kind(b"SELECT a", b" IS NULL", b""),
    "operators, LIKE": Kind(_SELECT, b"name LIKE 'x#'", b" OR "),
    "operators, JSON": Kind(b"SELECT a", b" -> 'b'", b""),
    "operators, AT": Kind(b"SELECT now()", b" AT TIME ZONE 'UTC'", b""),
    "BETWEEN": Kind(b"SELECT 1 WHERE ", b"a BETWEEN 1 AND", b" ", b" 2"),
    "subscripts": Kind(b"SELECT a", b"[1]", b""),
    "subscripts, nested": Kind(b"SELECT ", b"ARRAY[", b"", b"", b"]", b"1"),
    "dots": Kind(b"SELECT ", b"a", b"."),
    "windows": Kind(
        b"SELECT ", b"sum(a) OVER (PARTITION BY b ORDER BY c)", tail=b" FROM users"
    ),
    "equalities": Kind(
        b"SELECT * FROM users a, users b WHERE ", b"a.c# = b.c# AND a.c# = b.id", b" AND "
    ),
    "string": Kind(b"INSERT INTO users (id, j) VALUES (5, '{", b'"a#": #', b", ", b"}')"),
    "string, escaped": Kind(b"INSERT INTO users (id, j) VALUES (5, E'", b"\\n", b"", b"')"),
    "string, quotes": Kind(b"INSERT INTO users (id, j) VALUES (5, '", b"''", b"", b"')"),
    "string, open": Kind(b"INSERT INTO users (id, j) VALUES (5, '", b"''x", b""),
    "strings, E": Kind(b"SELECT ", b"E'#'"),
    "dollar quote": Kind(b"INSERT INTO users (id, j) VALUES (5, $x$", b"$ '", b"", b"$x$)"),
    "dollar quotes": Kind(b"SELECT ", b"$a#$x$a#$"),
    "dollar quotes, open": Kind(b"SELECT ", b"$a#$", b" "),
    "comments": Kind(b"SELECT 1 ", b"/* # */", b" "),
    "comments, lines": Kind(b"SELECT 1 ", b"-- #\n", b""),
    "comments, nested": Kind(b"SELECT 1 ", b"/* ", b"", b"", b" */", b"x"),
    "comments, stars": Kind(b"SELECT 1 /*", b"*", b"", b"*/"),
    "comments, slashes": Kind(b"SELECT 1 /*", b"/", b"", b"*/"),
    "comments, slashes open": Kind(b"SELECT 1 /*", b"/", b""),
    "comments, slashes apart": Kind(b"SELECT 1 /*", b"/a", b"", b"*/"),
    "comments, stars apart": Kind(b"SELECT 1 /*", b"*a", b"", b"*/"),
    "comments, in one": Kind(b"SELECT 1 /*", b"/**/", b"", b"*/"),
    "comments, deep in one": Kind(b"SELECT 1 /*/*/*", b"/**/", b"", b"*/*/*/"),
    "comments, open": Kind(b"SELECT 1 ", b"/*", b" "),
    "comment, long": Kind(b"SELECT * FROM users WHERE id = 5 /* ", b"word #", b" ", b" */"),
    "comment, ahead": Kind(b"/* ", b"word #", b" ", b" */ SELECT * FROM users WHERE id = 5"),
    "statements": Kind(b"", b"SELECT * FROM users WHERE id = #", b"; "),
    "statements, short": Kind(b"", b"BEGIN", b";"),
    "statements, semicolons": Kind(b"", b";", b""),
    "statements, changes": Kind(b"", b"UPDATE users SET a = # WHERE id = 5", b"; "),
    "identifiers": Kind(b"SELECT ", b'"A#"', tail=b" FROM users WHERE id = 5"),
    "identifier, long": Kind(b'SELECT "', b"x", b"", b'" FROM users WHERE id = 5'),
    "word, long": Kind(b"SELECT ", b"x", b"", b" FROM users WHERE id = 5"),
    "unicode": Kind(b"SELECT ", "größe#".encode(), tail=b" FROM users WHERE id = 5"),
    "unicode, not UTF-8": Kind(b"SELECT ", b"\xff#"),
    "blanks": Kind(b"SELECT 1", b" ", b"", b" FROM users WHERE id = 5"),
    "blanks, lines": Kind(b"", b"\n", b"", b"SELECT * FROM users WHERE id = 5"),
    "EXPLAIN": Kind(b"EXPLAIN ANALYZE SELECT ", b"#", b" + "),
    "COPY": Kind(b"COPY (SELECT ", b"c#", b", ", b" FROM users) TO STDOUT"),
    "CREATE TABLE": Kind(b"CREATE TABLE t (", b"c# int NOT NULL DEFAULT #", tail=b")"),
    "GRANT": Kind(b"GRANT SELECT ON ", b"t#", tail=b" TO somebody"),
    "DO": Kind(b"DO $$ BEGIN ", b"PERFORM #;", b" ", b" END $$"),
    "SET commands": Kind(b"SET x = ", b"a#"),
    "MERGE": Kind(
        b"MERGE INTO users u USING t ON u.id = t.id ",
        b"WHEN MATCHED AND t.a = # THEN DO NOTHING",
        b" ",
    ),
    "words": Kind(b"", b"w#", b" "),
    "zero bytes": Kind(b"SELECT ", b"\0", b""),
}
