"""The hash functions, compared with PostgreSQL's partitions."""

from __future__ import annotations

import hashlib
import random
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from router.routing.hashing import pg_bigint_hash, pg_text_hash, pg_uuid_hash, sha1

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.postgres import Database

MODULI = (2, 3, 5, 7, 16)
ALPHABET = "abcXYZ019 '\"\\%_\t\n$-,{}äßñ€漢字🙂\u0301\x7f"

TEXTS = {
    "": (0, 2, 1, 1, 6),
    "a": (0, 2, 2, 3, 14),
    "hello world!": (0, 2, 1, 5, 12),
    "日本語": (0, 0, 1, 6, 14),
}
UUIDS = {
    "00000000-0000-0000-0000-000000000000": (1, 0, 0, 2, 5),
    "01234567-89ab-cdef-0123-456789abcdef": (1, 0, 1, 3, 11),
    "ffffffff-ffff-ffff-ffff-ffffffffffff": (1, 1, 3, 0, 1),
}


@pytest.mark.parametrize("key", TEXTS)
def test_pg_text_hash_gives_the_known_shards(key: str) -> None:
    assert tuple(pg_text_hash(key, shards) for shards in MODULI) == TEXTS[key]


@pytest.mark.parametrize("key", UUIDS)
def test_pg_uuid_hash_gives_the_known_shards(key: str) -> None:
    assert tuple(pg_uuid_hash(UUID(key), shards) for shards in MODULI) == UUIDS[key]


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (-5, "-5"),
        ("grün", "grün"),
        (UUID("01234567-89AB-CDEF-0123-456789ABCDEF"), "01234567-89ab-cdef-0123-456789abcdef"),
    ],
)
def test_sha1_is_that_of_the_key_as_text(key: int | str | UUID, text: str) -> None:
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    assert sha1(key, 1000) == int(digest[-8:], 16) % 1000


def assert_partitions_agree(
    database: Database, column: str, keys: Sequence[object], shard: Callable[[int], list[int]]
) -> None:
    """Insert the keys into tables with hash partitions, and see where each has come to."""
    array = column.partition(" ")[0]
    for shards in MODULI:
        table = f"hashed_{shards}"
        partitions = "; ".join(
            f"CREATE TABLE {table}_{n} PARTITION OF {table}"
            f" FOR VALUES WITH (MODULUS {shards}, REMAINDER {n})"
            for n in range(shards)
        )
        database.execute(
            f"CREATE TABLE {table} (number int, key {column}) PARTITION BY HASH (key); "
            + partitions
        )
        database.execute(
            f"INSERT INTO {table} SELECT number, key"
            f" FROM unnest(%s::{array}[]) WITH ORDINALITY AS t (key, number)",
            [list(keys)],
        )
        stored = database.execute(
            f"SELECT tableoid::regclass::text FROM {table} ORDER BY number"
        )
        assert [partition for (partition,) in stored] == [
            f"{table}_{number}" for number in shard(shards)
        ]


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("column", "bits"), [("bigint", 64), ("integer", 32), ("smallint", 16)]
)
def test_pg_bigint_hash_agrees_with_partitions_by(
    column: str, bits: int, fresh_database: Database
) -> None:
    rng = random.Random(bits)
    half = 1 << (bits - 1)
    keys = [rng.randint(-half, half - 1) for _ in range(1000)]
    keys += [-half, half - 1, 0, 1, -1]
    assert_partitions_agree(
        fresh_database, column, keys, lambda n: [pg_bigint_hash(key, n) for key in keys]
    )


@pytest.mark.postgres
def test_pg_uuid_hash_agrees_with_partitions(fresh_database: Database) -> None:
    rng = random.Random(16)
    keys = [UUID(int=rng.getrandbits(128)) for _ in range(1000)]
    keys += [UUID(int=0), UUID(int=(1 << 128) - 1)]
    assert_partitions_agree(
        fresh_database, "uuid", keys, lambda n: [pg_uuid_hash(key, n) for key in keys]
    )


@pytest.mark.postgres
@pytest.mark.parametrize("column", ["text", "varchar", "varchar(200)", 'text COLLATE "C"'])
def test_pg_text_hash_agrees_with_partitions_by(column: str, fresh_database: Database) -> None:
    rng = random.Random(column)
    keys = ["".join(rng.choices(ALPHABET, k=length)) for length in range(61)]
    keys += ["".join(rng.choices("0123456789abcdef", k=length)) for length in range(61)]
    keys += ["".join(rng.choices(ALPHABET, k=rng.randint(0, 60))) for _ in range(880)]
    assert_partitions_agree(
        fresh_database, column, keys, lambda n: [pg_text_hash(key, n) for key in keys]
    )
