"""Keys and their shards."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from router.errors import ConfigError, InvalidShardingKey
from router.routing.sharding import (
    FUNCTIONS,
    KEY_MAX,
    KEY_MIN,
    Sharder,
    integer,
    parameter_key,
    parse_key,
    pg_bigint_hash,
    sha1,
)
from router.routing.types import KeyType, RouterOptions

if TYPE_CHECKING:
    from tests.support.postgres import Database

MODULI = (2, 3, 5, 8, 12, 16)
PG_VECTORS = {
    0: (0, 2, 3, 0, 8, 0),
    1: (0, 2, 0, 0, 8, 8),
    -1: (1, 2, 4, 5, 5, 5),
    2: (0, 0, 1, 2, 6, 10),
    -2: (0, 1, 4, 2, 10, 10),
    5: (1, 2, 0, 5, 5, 13),
    6: (1, 0, 2, 3, 3, 3),
    13: (0, 1, 3, 6, 10, 6),
    42: (0, 0, 4, 2, 6, 2),
    85: (0, 2, 0, 0, 8, 8),
    1234: (0, 0, 2, 2, 6, 10),
    1000000: (1, 0, 1, 3, 3, 11),
    2147483647: (1, 1, 4, 7, 7, 15),
    2147483648: (0, 0, 1, 6, 6, 6),
    -2147483648: (0, 0, 1, 6, 6, 6),
    4294967296: (0, 2, 0, 0, 8, 8),
    123456789012345678: (0, 0, 2, 4, 0, 12),
    KEY_MAX: (0, 0, 1, 6, 6, 6),
    KEY_MIN: (1, 1, 4, 7, 7, 15),
}
SHA1_MODULI = (2, 3, 5, 12, 16)
SHA1_VECTORS = {
    42: (0, 1, 3, 10, 6),
    -1: (1, 1, 3, 1, 9),
    -5: (0, 1, 1, 10, 2),
    1234: (0, 1, 1, 4, 0),
    KEY_MAX: (1, 2, 4, 5, 1),
    KEY_MIN: (1, 2, 0, 11, 15),
}


@pytest.mark.parametrize("key", PG_VECTORS)
def test_pg_bigint_hash_gives_the_known_shards(key: int) -> None:
    assert tuple(pg_bigint_hash(key, shards) for shards in MODULI) == PG_VECTORS[key]


@pytest.mark.parametrize(
    ("shards", "expected"),
    [
        (3, [2, 2, 0, 1, 0, 2, 0, 1, 0, 2, 1, 2, 2, 1, 1, 0, 0, 2, 0, 0, 0]),
        (4, [0, 0, 2, 1, 3, 1, 3, 3, 1, 1, 3, 1, 0, 2, 0, 3, 0, 0, 2, 1, 1]),
        (5, [3, 0, 1, 1, 0, 0, 2, 2, 3, 4, 4, 1, 3, 3, 0, 2, 2, 1, 2, 0, 2]),
    ],
)
def test_pg_bigint_hash_spreads_small_keys_as_known(shards: int, expected: list[int]) -> None:
    assert [pg_bigint_hash(key, shards) for key in range(21)] == expected


@pytest.mark.parametrize("key", SHA1_VECTORS)
def test_sha1_gives_the_known_shards(key: int) -> None:
    assert tuple(sha1(key, shards) for shards in SHA1_MODULI) == SHA1_VECTORS[key]


def test_sha1_spreads_small_keys_as_known() -> None:
    expected = [4, 7, 8, 3, 6, 0, 0, 10, 3, 11, 1, 7, 4, 4, 11, 2, 5, 0, 8, 3]
    assert [sha1(key, 12) for key in range(20)] == expected


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_key_belongs_to_the_only_shard(name: str) -> None:
    assert {FUNCTIONS[name](key, 1) for key in PG_VECTORS} == {0}


@pytest.mark.postgres
def test_pg_bigint_hash_agrees_with_hash_partitions(fresh_database: Database) -> None:
    rng = random.Random(20)
    keys = [rng.randint(KEY_MIN, KEY_MAX) for _ in range(900)]
    keys += [*range(-50, 50), KEY_MIN, KEY_MAX]
    rows = ", ".join(f"({key})" for key in keys)
    for shards in (2, 3, 5, 7, 16):
        table = f"hashed_{shards}"
        partitions = "; ".join(
            f"CREATE TABLE {table}_{n} PARTITION OF {table}"
            f" FOR VALUES WITH (MODULUS {shards}, REMAINDER {n})"
            for n in range(shards)
        )
        fresh_database.execute(
            f"CREATE TABLE {table} (key bigint) PARTITION BY HASH (key);"
            f" {partitions}; INSERT INTO {table} VALUES {rows}"
        )
        stored = fresh_database.execute(f"SELECT key, tableoid::regclass::text FROM {table}")
        assert len(stored) == len(keys)
        for key, partition in stored:
            assert partition == f"{table}_{pg_bigint_hash(key, shards)}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("0", 0),
        (b"42", 42),
        (" -7\t", -7),
        ("+7", 7),
        ("0000000000000000000000005", 5),
        (str(KEY_MAX), KEY_MAX),
        (str(KEY_MIN), KEY_MIN),
    ],
)
def test_a_bigint_is_read(text: str | bytes, key: int) -> None:
    assert parse_key(text) == key


@pytest.mark.parametrize(
    "text",
    [
        "",
        "five",
        "5.0",
        "1e3",
        "--5",
        "\N{ARABIC-INDIC DIGIT FIVE}",
        b"\xff",
        "1_000",
        str(KEY_MAX + 1),
        str(KEY_MIN - 1),
        "9" * 100_000,
    ],
)
def test_what_is_no_bigint_is_refused_with_the_range(text: str | bytes) -> None:
    with pytest.raises(InvalidShardingKey) as caught:
        parse_key(text)
    assert caught.value.sqlstate == "22023"
    assert str(KEY_MIN) in caught.value.hint
    assert str(KEY_MAX) in caught.value.hint
    assert len(caught.value.message) < 100


def test_a_minus_sign_may_come_from_outside() -> None:
    assert integer(b"9223372036854775808", negative=True) == KEY_MIN
    assert integer(b"9223372036854775808") is None
    assert integer("-5", negative=True) == 5


@pytest.mark.parametrize(
    ("value", "binary", "key"),
    [
        (None, False, None),
        (None, True, None),
        (b"-12", False, -12),
        (b"\xff\xfe", True, -2),
        (b"\x00\x00\x01\x00", True, 256),
        (b"\x80" + bytes(7), True, KEY_MIN),
    ],
)
def test_a_bound_parameter_is_read_in_both_formats(
    value: bytes | None, binary: bool, key: int | None
) -> None:
    assert parameter_key(value, binary=binary) == key


@pytest.mark.parametrize(("value", "binary"), [(b"", True), (b"\x01", True), (b"x", False)])
def test_a_bound_parameter_that_is_no_integer_is_refused(value: bytes, binary: bool) -> None:
    with pytest.raises(InvalidShardingKey):
        parameter_key(value, binary=binary)


@pytest.mark.parametrize("chosen", KeyType)
@pytest.mark.parametrize("implied", [KeyType.BIGINT, KeyType.UUID, KeyType.TEXT])
def test_a_hash_function_of_postgresql_is_for_keys_of_its_own_type(
    implied: KeyType, chosen: KeyType
) -> None:
    options = RouterOptions(
        shard_count=2,
        sharding_function=f"pg_{implied.value}_hash",
        sharding_key_type=chosen.value,
    )
    if chosen is implied:
        assert Sharder(options).type is implied
    else:
        with pytest.raises(ConfigError, match="sharding_key_type"):
            Sharder(options)
