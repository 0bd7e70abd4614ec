"""Lists and ranges of keys, compared with PostgreSQL's partitions."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from router.errors import ConfigError, InvalidShardingKey
from router.routing.shardmaps import ListMap, RangeMap
from router.routing.types import KeyType, ShardKeys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from router.routing.types import KeyValue
    from tests.support.postgres import Database

Bounds = tuple["KeyValue | None", "KeyValue | None"]


def ranges(*shards: Sequence[Bounds], default: int = -1) -> tuple[ShardKeys, ...]:
    """Shards with these ranges."""
    return tuple(
        ShardKeys(ranges=tuple(bounds), is_default=number == default)
        for number, bounds in enumerate(shards)
    )


def values(*shards: Sequence[KeyValue], default: int = -1) -> tuple[ShardKeys, ...]:
    """Shards with these values."""
    return tuple(
        ShardKeys(values=tuple(keys), is_default=number == default)
        for number, keys in enumerate(shards)
    )


def test_a_list_gives_the_shard_that_names_the_key() -> None:
    found = ListMap(KeyType.BIGINT, values([1, 2], [], [-3]))
    assert [found(1), found(2), found(-3)] == [0, 0, 2]


def test_a_key_in_no_list_is_refused_with_its_type_and_what_there_is() -> None:
    found = ListMap(KeyType.TEXT, values(["a", "b"], ["c"]))
    with pytest.raises(InvalidShardingKey) as caught:
        found("x" * 100)
    assert caught.value.sqlstate == "22023"
    assert "of type text" in caught.value.message
    assert len(caught.value.message) < 100
    assert caught.value.hint.startswith("The shards have a, b, c.")


def test_an_error_does_not_list_a_thousand_keys() -> None:
    found = ListMap(KeyType.BIGINT, values(range(1000)))
    with pytest.raises(InvalidShardingKey) as caught:
        found(-1)
    assert "0, 1, 2, 3, 4, 5, 6, 7 and 992 more" in caught.value.hint


def test_the_default_shard_has_what_no_list_names() -> None:
    found = ListMap(KeyType.BIGINT, values([1], [2], default=1))
    assert [found(1), found(2), found(3)] == [0, 1, 1]


def test_a_range_ends_before_its_upper_bound() -> None:
    found = RangeMap(KeyType.BIGINT, ranges([(10, 20)], [(20, 30), (0, 10)]))
    assert [found(key) for key in (0, 9, 10, 19, 20, 29)] == [1, 1, 0, 0, 1, 1]
    for key in (-1, 30):
        with pytest.raises(InvalidShardingKey):
            found(key)


def test_a_key_in_no_range_is_refused_with_its_type_and_the_ranges() -> None:
    found = RangeMap(KeyType.BIGINT, ranges([(None, 0)], [(10, 20)]))
    with pytest.raises(InvalidShardingKey) as caught:
        found(5)
    assert caught.value.sqlstate == "22023"
    assert '"5" of type bigint' in caught.value.message
    assert "from MINVALUE to 0, from 10 to 20." in caught.value.hint


def test_the_default_shard_has_what_is_between_and_beyond_the_ranges() -> None:
    found = RangeMap(KeyType.BIGINT, ranges([(0, 10)], [(20, 30)], [], default=2))
    assert [found(key) for key in (-1, 0, 10, 19, 20, 30)] == [2, 0, 2, 2, 1, 2]


def test_without_bounds_there_is_one_range_for_all() -> None:
    found = RangeMap(KeyType.TEXT, ranges([], [(None, None)]))
    assert [found(""), found("\U0010ffff")] == [1, 1]


def test_what_the_configuration_should_have_refused_is_refused_here() -> None:
    for shards in (
        ranges([(0, 10)], [(9, 20)]),
        ranges([(0, None)], [(5, 6)]),
        ranges([(None, 5)], [(None, 6)]),
        ranges([(5, 5)]),
        ranges([], [], default=0)[:1] * 2,
    ):
        with pytest.raises(ConfigError):
            RangeMap(KeyType.BIGINT, shards)
    with pytest.raises(ConfigError):
        ListMap(KeyType.BIGINT, values([1], [2, 1]))


# --- beside PostgreSQL


def literal(value: KeyValue | None, unbounded: str) -> str:
    """Write a bound as SQL."""
    if value is None:
        return unbounded
    return str(value) if isinstance(value, int) else "'" + str(value).replace("'", "''") + "'"


def stored_at(
    database: Database, column: str, method: str, bounds: list[str], keys: list[KeyValue]
) -> list[int | None]:
    """Insert each key into a partitioned table; its partition's number, or None if refused."""
    partitions = "".join(
        f"; CREATE TABLE parts_{number} PARTITION OF parts {bound}"
        for number, bound in enumerate(bounds)
    )
    database.execute(
        f"CREATE TABLE parts (key {column}) PARTITION BY {method} (key)" + partitions
    )
    database.execute(
        f"CREATE FUNCTION place(given {column.partition(' ')[0]}) RETURNS text AS $$"
        " DECLARE place text; BEGIN"
        " INSERT INTO parts VALUES (given) RETURNING tableoid::regclass::text INTO place;"
        " RETURN place;"
        " EXCEPTION WHEN check_violation THEN RETURN NULL; END $$ LANGUAGE plpgsql"
    )
    found = database.execute(
        f"SELECT place(key::{column.partition(' ')[0]})"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS t (key, n) ORDER BY n",
        [[str(key) for key in keys]],
    )
    return [None if place is None else int(place.rpartition("_")[2]) for (place,) in found]


def given_by(found: ListMap | RangeMap, keys: list[KeyValue]) -> list[int | None]:
    """The shard of each key, or None if it is refused."""
    shards: list[int | None] = []
    for key in keys:
        try:
            shards.append(found(key))
        except InvalidShardingKey:
            shards.append(None)
    return shards


RANGES: dict[str, tuple[str, KeyType, tuple[ShardKeys, ...]]] = {
    "bigint": (
        "bigint",
        KeyType.BIGINT,
        ranges([(None, -100)], [(-100, 0), (50, 60)], [(0, 50)], [(100, None)]),
    ),
    "bigint with a default": (
        "bigint",
        KeyType.BIGINT,
        ranges([(-100, 0), (50, 60)], [], [(0, 50)], default=1),
    ),
    "text": (
        'text COLLATE "C"',
        KeyType.TEXT,
        ranges([("", "A"), ("é", "漢")], [("A", "a")], [("a", "é")], [("漢", "🙂")]),
    ),
    "uuid": (
        "uuid",
        KeyType.UUID,
        ranges(
            [(None, UUID(int=1 << 64))],
            [(UUID(int=1 << 64), UUID(int=1 << 120))],
            [(UUID(int=1 << 127), None)],
        ),
    ),
}


def around(bound: KeyValue) -> list[KeyValue]:
    """A bound and its neighbours."""
    if isinstance(bound, int):
        return [bound - 1, bound, bound + 1]
    if isinstance(bound, UUID):
        return [UUID(int=bound.int - 1), bound, UUID(int=bound.int + 1)]
    # The one before has no last character; chr() stays out of the surrogates here.
    before = bound[:-1] + chr(ord(bound[-1]) - 1) + "zz" if bound else ""
    return [before, bound, bound + " ", bound + "🙂"]


@pytest.mark.postgres
@pytest.mark.parametrize("name", RANGES)
def test_ranges_agree_with_partitions(name: str, fresh_database: Database) -> None:
    column, key_type, shards = RANGES[name]
    bounds = []
    keys: list[KeyValue] = []
    order: list[int] = []
    for number, shard in enumerate(shards):
        for low, high in shard.ranges:
            order.append(number)
            bounds.append(
                f"FOR VALUES FROM ({literal(low, 'MINVALUE')}) TO ({literal(high, 'MAXVALUE')})"
            )
            keys += [key for bound in (low, high) if bound is not None for key in around(bound)]
        if shard.is_default:
            order.append(number)
            bounds.append("DEFAULT")
    rng = random.Random(7)
    if key_type is KeyType.BIGINT:
        keys += [rng.randint(-200, 200) for _ in range(100)]
    partitions = stored_at(fresh_database, column, "RANGE", bounds, keys)
    shards_of_rows = [None if place is None else order[place] for place in partitions]
    assert given_by(RangeMap(key_type, shards), keys) == shards_of_rows
    assert len(set(shards_of_rows)) >= 3


@pytest.mark.postgres
@pytest.mark.parametrize("default", [-1, 1])
def test_lists_agree_with_partitions(default: int, fresh_database: Database) -> None:
    shards = values(["a", "it's", "é"], ["", "A"], ["a ", "🙂"], default=default)
    bounds = [
        f"FOR VALUES IN ({', '.join(literal(value, '') for value in shard.values)})"
        for shard in shards
    ]
    if default >= 0:
        bounds.append("DEFAULT")
    keys: list[KeyValue] = [
        "a",
        "it's",
        "é",
        "",
        "A",
        "a ",
        "🙂",
        " a",
        "b",
        "e\u0301",
        "it''s",
    ]
    partitions = stored_at(fresh_database, "text", "LIST", bounds, keys)
    stored = [default if place == len(shards) else place for place in partitions]
    assert given_by(ListMap(KeyType.TEXT, shards), keys) == stored
