"""The rows of a COPY go where their keys belong, wherever its data is cut."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from router.errors import NoSingleShard, RoutingError, RowRefused
from router.routing import copy_rows
from router.routing.copy_formats import rows_of
from router.routing.copy_keys import Column, CopyKeys
from router.routing.copy_lines import Lines
from router.routing.copy_text import read_copy
from router.routing.hashing import pg_bigint_hash
from router.routing.sharding import Sharder
from router.routing.types import RouterOptions
from tests.support.builds import Build, build

if TYPE_CHECKING:
    from router.routing.copy_rows import CopyRows

SHARDS: Final = 3
BIGINT: Final = Column("id", 20, -1, is_required=False)
SHARDER: Final = Sharder(RouterOptions(shard_count=SHARDS))
TEXTS: Final = Sharder(RouterOptions(shard_count=SHARDS, sharding_function="pg_text_hash"))


def dealer(
    options: str = "",
    index: int = 0,
    column: Column = BIGINT,
    *,
    sharder: Sharder = SHARDER,
    version: int = 150000,
) -> CopyRows:
    """What deals out rows, of which the column of this index is the key."""
    text = read_copy(f"COPY items FROM STDIN {options}".encode())
    keys = CopyKeys(sharder, column, version)
    return rows_of(text, keys, index, columns=2, shards=SHARDS, home=0, version=version)


def dealt(rows: CopyRows, *pieces: bytes) -> list[bytes]:
    """What each shard gets of data that comes in pieces."""
    found = [b""] * SHARDS
    for piece in (*pieces, None):
        if piece is None:
            rows.end()
        else:
            rows.feed(piece)
        found = [one + more for one, more in zip(found, rows.take(), strict=True)]
    return found


def here(key: int) -> int:
    """The shard of a key."""
    return pg_bigint_hash(key, SHARDS)


BODIES: Final = (
    b"",
    b"x",
    b"a\\tb",
    b"a\\\nb",
    b"\\\\",
    b"c:\\\\.git",
    b"\\.5",
    b"\\N",
    b"\xc3\xa4",
)
QUOTED: Final = (b"", b"x", b'"a,b"', b'"a\nb"', b'"a""b"', b'""', b'a"\n"b', b'"\r\n"', b"\\N")


def _data(seed: int, form: str, eol: bytes) -> tuple[bytes, list[bytes]]:
    """Data in text or CSV, and what each shard is to get of it."""
    chosen = random.Random(seed)
    expected = [b""] * SHARDS
    rows, key = [], 0
    for _ in range(chosen.randrange(1, 12)):
        key = chosen.randrange(-50, 50)
        if form == "text":
            bodies = [body for body in BODIES if body != b"\\.5"]
            row = b"%d\t%b" % (key, chosen.choice(bodies))
            if eol == b"\r\n":
                row = row.replace(b"\\\n", b"\\\r\\\n")
        else:
            written = chosen.choice((b"%d", b'"%d"')) % key
            row = b"%b,%b" % (written, chosen.choice(QUOTED))
        rows.append(row)
        expected[here(key)] += row + eol
    data = eol.join(rows) + eol
    if chosen.random() < 0.3:
        data = data[: -len(eol)]
        last = here(key)
        expected[last] = expected[last][: -len(eol)]
    return data, expected


@pytest.mark.parametrize("eol", [b"\n", b"\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("form", ["text", "csv"])
def test_rows_are_the_same_wherever_they_are_cut(form: str, eol: bytes) -> None:
    for seed in range(60):
        data, expected = _data(seed, form, eol)
        options = "CSV" if form == "csv" else ""
        assert dealt(dealer(options), data) == expected, (seed, data)
        every = [data[i : i + 1] for i in range(len(data))]
        assert dealt(dealer(options), *every) == expected, (seed, data)
        for at in range(len(data) + 1):
            assert dealt(dealer(options), data[:at], data[at:]) == expected, (seed, data, at)


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("7", 7),
        (" 7", 7),
        ("+7\t", None),
        ("+7", 7),
        ("-07 ", -7),
        ("\\x37", 7),
        ("\\67", 7),
        ("9223372036854775807", 9223372036854775807),
        ("-9223372036854775808", -9223372036854775808),
        ("0" * 5000 + "7", 7),
    ],
)
def test_a_key_is_read_as_postgresql_reads_it(written: str, key: int | None) -> None:
    row = f"{written}\tx\n".encode()
    found = dealt(dealer(), row)
    expected = here(7 if key is None else key)
    assert [bool(data) for data in found] == [n == expected for n in range(SHARDS)]


@pytest.mark.parametrize("written", ["0x7", "0o7", "0b111", "0_7", "0X0_7"])
def test_other_numbers_are_known_to_later_servers(written: str) -> None:
    row = f"{written}\tx\n".encode()
    with pytest.raises(RowRefused, match="invalid input syntax for type bigint"):
        dealt(dealer(), row)
    assert dealt(dealer(version=160000), row)[here(7)] == row


@pytest.mark.parametrize(
    ("written", "sqlstate", "message"),
    [
        ("", "22P02", 'invalid input syntax for type bigint: ""'),
        ("7a", "22P02", 'invalid input syntax for type bigint: "7a"'),
        ("1.0", "22P02", 'invalid input syntax for type bigint: "1.0"'),
        ("9223372036854775808", "22003", "is out of range for type bigint"),
        ("9" * 5000, "22003", "is out of range for type bigint"),
        ("\\N", "0A000", 'the key "id" is NULL'),
    ],
)
def test_what_is_no_key_is_refused_with_its_line(
    written: str, sqlstate: str, message: str
) -> None:
    rows = dealer()
    data = f"1\tx\n2\ty\n{written}\tz\n4\tx\n".encode()
    with pytest.raises(RowRefused) as caught:
        rows.feed(data)
    assert (caught.value.sqlstate, caught.value.number) == (sqlstate, 3)
    assert message in caught.value.message
    assert caught.value.where.startswith("COPY items, line 3")
    assert b"".join(rows.take()).count(b"\n") == 2  # those before it


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ("", b"1\ta\n2\tb\r\n"),
        ("", b"1\ta\r\n2\tb\n"),
        ("", b"1\ta\r\n2\tb\rc\r\n"),
        ("", b"1\ta\r2\tb\r"),
        ("", b"1\ta\n2\t\\.\n"),
        ("", b"1\ta\n\\.x\n"),
        ("", b"1\ta\n2\tb\r"),
        ("CSV", b"1,a\n2,b\r\n"),
        ("CSV", b'1,a\r\n2,"b"\n'),
        ("CSV", b"1,a\r2,b\r"),
        ("CSV", b"1,a\n2,b\r"),
    ],
)
def test_what_is_wrong_with_rows_together_is_refused_here(options: str, data: bytes) -> None:
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        with pytest.raises(RowRefused) as caught:
            dealt(dealer(options), *pieces)
        assert caught.value.sqlstate in ("22P04", "0A000")


def test_the_mark_ends_the_data_where_it_does() -> None:
    for version in (150000, 180000):
        for options, is_end in (("", True), ("CSV", version < 180000)):
            column = Column("id", 25, -1, is_required=False)
            rows = dealer(options, 0, column, version=version, sharder=TEXTS)
            found = dealt(rows, b"1\n\\.\n2\n", b"3\n")
            assert (b"3" in b"".join(found)) is not is_end
            assert rows.is_over is is_end
            first = dealt(
                dealer(options, 0, column, version=version, sharder=TEXTS), b"\\.\n2\n"
            )
            assert (b"2" in b"".join(first)) is not is_end


def test_a_header_is_for_all() -> None:
    for options in ("(HEADER)", "(FORMAT csv, HEADER match, DELIMITER E'\\t')"):
        found = dealt(dealer(options), b"id\tbody\n", b"1\tx\n", b"5\ty")
        assert all(one.startswith(b"id\tbody\n") for one in found)
        assert sum(one.count(b"\t") for one in found) == SHARDS + 2


def test_csv_knows_null_by_its_quotes() -> None:
    text = Column("id", 25, -1, is_required=True)
    for options, data, is_null in (
        ("CSV", b",x\n", True),
        ("CSV", b'"",x\n', False),
        ("(FORMAT csv, FORCE_NULL (id))", b'"",x\n', True),
        ("(FORMAT csv, FORCE_NOT_NULL (id))", b",x\n", False),
        ("(FORMAT csv, NULL 'no')", b"no,x\n", True),
        ("(FORMAT csv, NULL 'no')", b'n"o",x\n', False),
        ("(FORMAT csv, QUOTE '''', ESCAPE E'\\\\', NULL 'n''o')", b"'n\\'o',x\n", False),
    ):
        rows = dealer(options, column=text, sharder=TEXTS)
        if is_null:
            with pytest.raises(RowRefused) as caught:
                dealt(rows, data)
            assert caught.value.sqlstate == "23502"
        else:
            assert b"".join(dealt(rows, data)) == data


def test_what_a_server_will_refuse_goes_home() -> None:
    for options, data in (("", b"\\\t5\n"), ("CSV", b'x\n"1,2'), ("", b"x\n")):
        found = dealt(dealer(options, index=1), data)
        assert found == [data, b"", b""]


@pytest.mark.skipif(build() is not Build.PLAIN, reason="compiled code cannot be watched")
def test_a_row_that_is_too_long_is_refused_and_a_long_one_is_not_read_over_and_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(copy_rows, "LONGEST_ROW", 100_000)
    for options, piece in (("", b"\\\n" * 10), ("CSV", b'""\n' * 10), ("", b"x" * 20)):
        rows = dealer(options)
        rows.feed(b"1\t" if not options else b'1,"')
        looks: list[int] = []
        deal = type(rows)._deal_carefully

        def look(self: CopyRows, data: bytes) -> int:
            looks.append(len(data))  # noqa: B023
            return deal(self, data)  # noqa: B023

        monkeypatch.setattr(type(rows), "_deal_carefully", look)
        with pytest.raises(RowRefused) as caught:
            dealt(rows, *[piece] * 20_000)
        assert caught.value.sqlstate == "54000"
        assert len(looks) < 100
        monkeypatch.setattr(type(rows), "_deal_carefully", deal)


@pytest.mark.parametrize(
    "options",
    [
        "(FORMAT xml)",
        "(ENCODING 'LATIN1')",
        "(ON_ERROR ignore)",
        "(DELIMITER 'ab')",
        "(DELIMITER 'x')",
        "(FORMAT csv, QUOTE 'ab')",
        "(SOMETHING 'else')",
        "WITH CSV SOMETHING",
        "(HEADER 2)",
        "(NULL E'a\\nb')",
    ],
)
def test_options_that_are_not_understood_are_refused(options: str) -> None:
    with pytest.raises(NoSingleShard) as caught:
        read_copy(f"COPY items FROM STDIN {options}".encode())
    assert caught.value.hint


def test_a_type_that_no_key_has_is_refused() -> None:
    with pytest.raises(RoutingError):
        dealer(column=Column("id", 1700, -1, is_required=False))


def test_lines_are_those_of_the_client() -> None:
    chosen = random.Random(7)
    lines = Lines(SHARDS)
    lines.add_common(1)
    counts, total = [1] * SHARDS, 1
    for _ in range(50):
        order = bytes(chosen.randrange(SHARDS) for _ in range(chosen.randrange(1, 30)))
        lines.add(order)
        for shard in order:
            counts[shard] += 1
            total += 1
            assert lines.line_of(shard, counts[shard]) == total
    assert lines.line_of(0, 1) == 1
    assert lines.total == total
