"""The key of a row of COPY is found among any fields, whatever these and the key look like."""

from __future__ import annotations

import random
import struct
from typing import TYPE_CHECKING, Final
from uuid import UUID

import pytest

from router.errors import RowRefused
from router.routing.copy_formats import rows_of
from router.routing.copy_keys import Column, CopyKeys
from router.routing.copy_text import read_copy
from router.routing.sharding import Sharder
from router.routing.types import RouterOptions, ShardKeys

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.routing.copy_rows import CopyRows
    from router.routing.types import KeyValue

SHARDS: Final = 3
LONG: Final = b"y" * 300  # more than is looked at byte by byte
BODIES: Final = {
    "text": (b"", b"5", b"x", b"\\N", b"-1", b"a b", b'"', b"\xc3\xa4", b"\\\\", b"a\\tb",
             LONG),
    "csv": (b"", b"5", b"x", b'"5"', b'""', b'"a,b"', b'"a""b"', b'a"b"c', b'"5,7"', LONG,
            b'"' + LONG + b'"', b"\\N"),
    "csv lines": (b"5", b'"a\nb"', b'"\n\n"', b'a"\n"b', b'"a,b"'),
    "csv escape": (b"5", b"'a\\'b,'", b"'\\\\'", b"a\\b", b"'a''b'", b"'a,b'"),
}  # fmt: skip
OPTIONS: Final = {
    "text": "",
    "csv": "CSV",
    "csv lines": "CSV",
    "csv escape": "CSV QUOTE '''' ESCAPE E'\\\\'",
}


def _bigint(chosen: random.Random) -> tuple[KeyValue, bytes]:
    size = chosen.choice((4, 30, 62))
    key = chosen.choice((
        chosen.randrange(1 << size), -chosen.randrange(1 << size), 10**18, 10**18 - 1,
        (1 << 63) - 1, -(1 << 63), 0,
    ))  # fmt: skip
    form = "%d" if key < 0 else chosen.choice(("%d", "%d", "%d", "+%d", " %d", "0%d", "%d "))
    return key, (form % key).encode()


def _uuid(chosen: random.Random) -> tuple[KeyValue, bytes]:
    key = UUID(int=chosen.randrange(1 << 128))
    return key, str(key).encode()


def _text(chosen: random.Random) -> tuple[KeyValue, bytes]:
    key = chosen.choice(("a", "5", "long " * 80, "\u00e4\u00f6", "b c", str(chosen.random())))
    return key, key.encode()


def _listed(chosen: random.Random) -> tuple[KeyValue, bytes]:
    key = chosen.randrange(9)
    return key, b"%d" % key


KEYS: Final[dict[str, tuple[int, RouterOptions, Callable[..., tuple[KeyValue, bytes]]]]] = {
    "pg_bigint_hash": (20, RouterOptions(shard_count=SHARDS), _bigint),
    "sha1": (20, RouterOptions(shard_count=SHARDS, sharding_function="sha1"), _bigint),
    "pg_uuid_hash": (
        2950, RouterOptions(shard_count=SHARDS, sharding_function="pg_uuid_hash"), _uuid,
    ),
    "pg_text_hash": (
        25, RouterOptions(shard_count=SHARDS, sharding_function="pg_text_hash"), _text,
    ),
    "list": (
        20,
        RouterOptions(
            shard_count=SHARDS,
            sharding_function="list",
shard_keys=tuple(ShardKeys((n, n + 3, n + 6)) for n in range(SHARDS)),
        ),
        _listed,
    ),
}  # fmt: skip


def _dealer(
    options: str, type_: int, settings: RouterOptions, index: int, columns: int
) -> tuple[CopyRows, Sharder]:
    sharder = Sharder(settings)
    column = Column("id", type_, -1, is_required=False)
    rows = rows_of(
        read_copy(f"COPY items FROM STDIN {options}".encode()),
        CopyKeys(sharder, column, 150000),
        index,
        columns=columns,
        shards=SHARDS,
        home=0,
        version=150000,
    )
    return rows, sharder


def _see(rows: CopyRows, made: list[tuple[int, bytes, int]], data: bytes, sizes: int) -> None:
    """Rows go where they belong, and their lines are known.

    Args:
        rows: deals them out.
        made: of each row, its shard, itself, and how many lines it has.
        data: all of them.
        sizes: the seed of how they are cut.
    """
    chosen, found = random.Random(sizes), [b""] * SHARDS
    while data:
        size = chosen.choice((1, 40, 700, 1 << 20))
        rows.feed(data[:size])
        found = [one + more for one, more in zip(found, rows.take(), strict=True)]
        data = data[size:]
    rows.end()
    expected, counts, total = [b""] * SHARDS, [0] * SHARDS, 0
    for shard, row, lines in made:
        expected[shard] += row
        first = total + 1
        total += lines
        for line in range(lines):
            counts[shard] += 1
            assert rows.lines.line_of(shard, counts[shard]) == first + line
    found = [one + more for one, more in zip(found, rows.take(), strict=True)]
    is_same = found == expected  # to show how these differ would take very long
    assert is_same, (made, sizes)
    assert rows.lines.total == total


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("form", BODIES)
@pytest.mark.parametrize("function", KEYS)
def test_rows_go_where_their_key_belongs(function: str, form: str, eol: bytes) -> None:
    type_, settings, make = KEYS[function]
    delimiter = b"\t" if form == "text" else b","
    quote = b"'" if form == "csv escape" else b'"'
    for seed in range(40):
        chosen = random.Random(seed)
        columns = chosen.randrange(1, 5)
        index = chosen.randrange(columns)
        rows, sharder = _dealer(OPTIONS[form], type_, settings, index, columns)
        made = []
        for number in range(chosen.randrange(1, 40)):
            key, written = make(chosen)
            fields = [chosen.choice(BODIES[form]) for _ in range(columns)]
            if not number:
                # Of its first row a server counts the lines in another way, see `Lines`.
                fields = [field.replace(b"\n", b"") for field in fields]
            is_quoted = form != "text" and chosen.random() < 0.4
            fields[index] = quote + written + quote if is_quoted else written
            row = delimiter.join(fields).replace(b"\n", eol) + eol
            made.append((sharder.shard(key), row, row.count(b"\n")))
        firsts = {shard: lines for shard, _, lines in reversed(made)}
        if any(lines > 1 for lines in firsts.values()) and eol == b"\n":
            continue
        _see(rows, made, b"".join(row for _, row, _ in made), seed)


@pytest.mark.parametrize(("type_", "size"), [(20, 8), (23, 4), (21, 2)])
def test_binary_keys_of_any_size_are_hashed_alike(type_: int, size: int) -> None:
    header = b"PGCOPY\n\xff\r\n\0" + bytes(8)
    for seed in range(40):
        chosen = random.Random(seed)
        columns = chosen.randrange(1, 5)
        index = chosen.randrange(columns)
        settings = KEYS[chosen.choice(("pg_bigint_hash", "sha1"))][1]
        rows, sharder = _dealer("BINARY", type_, settings, index, columns)
        made = []
        limit = 1 << 8 * size - 1
        for _ in range(chosen.randrange(1, 40)):
            key = chosen.choice((chosen.randrange(-limit, limit), -limit, limit - 1, -1, 0))
            fields = [chosen.choice((None, b"", b"x", LONG, bytes(8))) for _ in range(columns)]
            fields[index] = key.to_bytes(size, "big", signed=True)
            row = struct.pack("!h", columns)
            for field in fields:
                row += struct.pack("!i", -1 if field is None else len(field)) + (field or b"")
            made.append((sharder.shard(key), row, 1))
        rows.feed(header)
        assert rows.take() == [header] * SHARDS
        _see(rows, made, b"".join(row for _, row, _ in made), seed)


def test_a_binary_key_of_another_size_is_none() -> None:
    for size in (0, 2, 4, 7, 9):
        rows, _ = _dealer("BINARY", 20, KEYS["pg_bigint_hash"][1], 0, 1)
        rows.feed(b"PGCOPY\n\xff\r\n\0" + bytes(8))
        with pytest.raises(RowRefused):
            rows.feed(struct.pack("!hi", 1, size) + bytes(size))


@pytest.mark.parametrize(
    ("options", "row"),
    [
        ("CSV", b'"5"x,y'),
        ("CSV", b'5"x",y'),
        ("CSV", b'"5,,x",y'),
        ("CSV", b'"5,""",y'),
        ("CSV", b"5 x,y"),
        ("", b"5x\ty"),
        ("", b'"5"\ty'),
        ("", b"\ty"),
    ],
)
def test_what_only_begins_as_a_number_is_none(options: str, row: bytes) -> None:
    type_, settings, _ = KEYS["pg_bigint_hash"]
    rows, _ = _dealer(options, type_, settings, 0, 2)
    good = b"5,y\n" if options else b"5\ty\n"
    with pytest.raises(RowRefused, match="invalid input syntax") as caught:
        rows.feed(good + row + b"\n" + good)
    assert caught.value.number == 2


def test_a_key_that_is_not_there_is_for_its_server_to_tell() -> None:
    type_, settings, _ = KEYS["pg_bigint_hash"]
    for options, row in (("", b"5\tx"), ("CSV", b'"5,6,7",x'), ("CSV", b"5,6"), ("", LONG)):
        rows, sharder = _dealer(options, type_, settings, 2, 3)
        delimiter = b"," if options else b"\t"
        good = delimiter.join((b"x", b"y", b"5")) + b"\n"
        rows.feed(good + row + b"\n" + good)
        found = [b""] * SHARDS
        for shard, line in (
            (sharder.shard(5), good),
            (0, row + b"\n"),
            (sharder.shard(5), good),
        ):
            found[shard] += line
        assert rows.take() == found
