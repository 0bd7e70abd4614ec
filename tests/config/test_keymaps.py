"""Which keys each shard has, and what is wrong about it."""

from __future__ import annotations

import uuid

import pytest

from router.config.effective import router_options
from router.routing.types import ShardKeys

from .builders import config, problems

APP = "pools/app"
SHARDS = "pools.app.shards"
ONE = "01234567-89ab-cdef-0123-456789abcdef"

Table = dict[str, object]


def shard(**keys: object) -> Table:
    """A shard's table with some keys of its own."""
    return {"database": "d", "servers": [["one", 5432, "primary"]], **keys}


def changes(function: str, *shards: Table, key_type: str | None = None) -> Table:
    """A pool with these shards."""
    changed: Table = {f"{APP}/sharding_function": function}
    if key_type is not None:
        changed[f"{APP}/sharding_key_type"] = key_type
    for number, table in enumerate(shards):
        changed[f"{APP}/shards/{number}"] = table
    return changed


def maps(function: str, *shards: Table, key_type: str | None = None) -> tuple[ShardKeys, ...]:
    """The keys of the shards, as the router is told them."""
    pool = config(changes(function, *shards, key_type=key_type)).pools["app"]
    return router_options(pool).shard_keys


def mistakes(function: str, *shards: Table, key_type: str | None = None) -> list[str]:
    """What is wrong with such a pool."""
    return problems(changes(function, *shards, key_type=key_type))


def test_a_list_names_the_keys_of_each_shard() -> None:
    assert maps(
        "list",
        shard(sharding_values=[1, -2]),
        shard(sharding_values=[3], sharding_default=True),
    ) == (ShardKeys((1, -2)), ShardKeys((3,), is_default=True))


def test_a_shard_may_have_no_keys_but_must_say_so() -> None:
    assert maps("list", shard(sharding_values=[1]), shard(sharding_values=[])) == (
        ShardKeys((1,)),
        ShardKeys(),
    )


def test_keys_are_of_the_type_that_is_configured() -> None:
    assert maps("list", shard(sharding_values=["a", ""]), key_type="text")[0].values == (
        "a",
        "",
    )
    [uuids] = maps("list", shard(sharding_values=[ONE]), key_type="uuid")
    assert uuids.values == (uuid.UUID(ONE),)


def test_ranges_may_be_open_at_either_end() -> None:
    assert maps(
        "range",
        shard(sharding_ranges=[["MINVALUE", 0], [10, 20]]),
        shard(sharding_ranges=[[0, 10], [20, "MAXVALUE"]]),
    ) == (ShardKeys(ranges=((None, 0), (10, 20))), ShardKeys(ranges=((0, 10), (20, None))))


def test_ranges_of_text_are_compared_by_their_bytes() -> None:
    assert maps("range", shard(sharding_ranges=[["b", "c"], ["", "b"]]), key_type="text")
    assert maps("range", shard(sharding_ranges=[["Z", "a"]]), key_type="text")
    assert mistakes("range", shard(sharding_ranges=[["a", "Z"]]), key_type="text") == [
        f"{SHARDS}.0.sharding_ranges.0: must have a first value that is less than the second"
    ]


@pytest.mark.parametrize(
    ("function", "key_type"),
    [("pg_bigint_hash", "bigint"), ("pg_uuid_hash", "uuid"), ("pg_text_hash", "text")],
)
def test_a_hash_function_implies_the_type_of_keys(function: str, key_type: str) -> None:
    for chosen in (None, key_type):
        pool = config(changes(function, shard(), key_type=chosen)).pools["app"]
        assert router_options(pool).sharding_key_type == key_type
        assert router_options(pool).shard_keys == ()


def test_a_bigint_has_64_bits() -> None:
    ends = [-(2**63), 2**63 - 1]
    assert maps("list", shard(sharding_values=ends)) == (ShardKeys(tuple(ends)),)


def test_another_type_than_the_implied_one_is_a_mistake() -> None:
    assert mistakes("pg_uuid_hash", shard(), key_type="text") == [
        'pools.app.sharding_key_type: must be "uuid", or left out, when sharding_function is '
        '"pg_uuid_hash", got "text"'
    ]


@pytest.mark.parametrize("function", ["sha1", "list", "range"])
def test_keys_are_bigint_unless_something_says_otherwise(function: str) -> None:
    keys: dict[str, Table] = {
        "list": {"sharding_values": [1]},
        "range": {"sharding_ranges": [[1, 2]]},
    }
    pool = config(changes(function, shard(**keys.get(function, {})))).pools["app"]
    assert router_options(pool).sharding_key_type == "bigint"


@pytest.mark.parametrize(
    ("value", "key_type", "allowed"),
    [
        ("1", "bigint", "an integer from -9223372036854775808 to 9223372036854775807"),
        (1, "text", "a string"),
        ("a\0b", "text", "a string"),
        (1, "uuid", "a uuid"),
        (ONE.replace("-", ""), "uuid", "a uuid"),
        (f"{{{ONE}}}", "uuid", "a uuid"),
    ],
)
def test_a_key_of_another_type_is_a_mistake(value: object, key_type: str, allowed: str) -> None:
    both: tuple[tuple[str, Table], ...] = (
        ("list", {"sharding_values": [value]}),
        ("range", {"sharding_ranges": [["MINVALUE", value]]}),
    )
    for function, keys in both:
        [mistake] = mistakes(function, shard(**keys), key_type=key_type)
        assert mistake.startswith(f"{SHARDS}.0.{next(iter(keys))}.0: must be {allowed}")


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ({"sharding_values": 5}, "sharding_values: must be an array of integers or strings"),
        ({"sharding_values": [1.5]}, "sharding_values.0: must be an integer or a string"),
        ({"sharding_values": [True]}, "sharding_values.0: must be an integer or a string"),
        ({"sharding_ranges": [1, 2]}, "sharding_ranges.0: must be [from, to]"),
        ({"sharding_ranges": [[1, 2, 3]]}, "sharding_ranges.0: must be [from, to]"),
        ({"sharding_ranges": [[1, False]]}, "sharding_ranges.0: must be an integer or"),
        ({"sharding_default": "yes"}, "sharding_default: must be true or false"),
    ],
)
def test_other_values_in_the_file_are_mistakes(keys: Table, problem: str) -> None:
    function = "range" if "sharding_ranges" in keys else "list"
    assert mistakes(function, shard(**keys))[0].startswith(f"{SHARDS}.0.{problem}")


def test_two_shards_cannot_have_the_same_key() -> None:
    assert mistakes(
        "list", shard(sharding_values=[1, 2]), shard(sharding_values=[3, 2, 3])
    ) == [
        f"{SHARDS}.1.sharding_values.1: must differ from all others, shard 0 has 2 already",
        f"{SHARDS}.1.sharding_values.2: must differ from all others, shard 1 has 3 already",
    ]


def test_one_uuid_in_two_spellings_is_one_key() -> None:
    assert mistakes(
        "list",
        shard(sharding_values=[ONE]),
        shard(sharding_values=[ONE.upper()]),
        key_type="uuid",
    ) == [
        f"{SHARDS}.1.sharding_values.0: must differ from all others, shard 0 has {ONE} already"
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 10], [9, 20]),
        ([1, 10], [2, 3]),
        ([1, 10], [1, 10]),
        (["MINVALUE", 10], ["MINVALUE", 5]),
        (["MINVALUE", "MAXVALUE"], [5, 6]),
        ([1, "MAXVALUE"], [5, "MAXVALUE"]),
    ],
)
def test_ranges_cannot_overlap(one: list[object], other: list[object]) -> None:
    [mistake] = mistakes("range", shard(sharding_ranges=[one]), shard(sharding_ranges=[other]))
    assert "must not overlap with range 0 of shard" in mistake


def test_a_range_in_a_range_does_not_hide_the_next_overlap() -> None:
    assert mistakes(
        "range", shard(sharding_ranges=[[1, 100], [2, 3]]), shard(sharding_ranges=[[50, 60]])
    ) == [
        f"{SHARDS}.0.sharding_ranges.1: must not overlap with range 0 of shard 0",
        f"{SHARDS}.1.sharding_ranges.0: must not overlap with range 0 of shard 0",
    ]


@pytest.mark.parametrize("pair", [[5, 5], [6, 5]])
def test_a_range_cannot_be_empty(pair: list[int]) -> None:
    assert mistakes("range", shard(sharding_ranges=[pair])) == [
        f"{SHARDS}.0.sharding_ranges.0: must have a first value that is less than the second"
    ]


def test_maxvalue_is_no_lower_bound() -> None:
    [mistake] = mistakes("range", shard(sharding_ranges=[["MAXVALUE", 1]]))
    assert mistake.startswith(f"{SHARDS}.0.sharding_ranges.0: must be an integer")


@pytest.mark.parametrize(("function", "key"), [("list", "values"), ("range", "ranges")])
def test_each_shard_needs_keys_but_the_one_with_the_rest(function: str, key: str) -> None:
    given = {"sharding_values": [1]} if key == "values" else {"sharding_ranges": [[1, 2]]}
    assert mistakes(function, shard(**given), shard(), shard(sharding_default=True)) == [
        f'{SHARDS}.1.sharding_{key}: is required when sharding_function is "{function}", '
        "except for the shard with sharding_default"
    ]


def test_only_one_shard_can_have_the_rest() -> None:
    assert mistakes("list", shard(sharding_default=True), shard(sharding_default=True)) == [
        f"{SHARDS}.1.sharding_default: may be true for one shard only, and is for shard 0"
    ]


def test_keys_that_the_function_does_not_use_are_mistakes() -> None:
    only = "is only valid when sharding_function is"
    assert mistakes("sha1", shard(sharding_values=[1], sharding_default=True)) == [
        f'{SHARDS}.0.sharding_values: {only} "list"',
        f'{SHARDS}.0.sharding_default: {only} "list" or "range"',
    ]
    assert mistakes("list", shard(sharding_values=[1], sharding_ranges=[[1, 2]])) == [
        f'{SHARDS}.0.sharding_ranges: {only} "range"'
    ]


def test_many_ranges_are_looked_at_in_a_time_that_grows_with_their_number() -> None:
    ranges = [[n, n + 1] for n in range(20_000)]
    [found] = maps("range", shard(sharding_ranges=ranges))
    assert len(found.ranges) == 20_000


def test_a_reload_that_moves_a_key_changes_the_pool() -> None:
    old = config(changes("list", shard(sharding_values=[1]), shard(sharding_values=[2])))
    same = config(changes("list", shard(sharding_values=[1]), shard(sharding_values=[2])))
    new = config(changes("list", shard(sharding_values=[2]), shard(sharding_values=[1])))
    told = [router_options(each.pools["app"]) for each in (old, same, new)]
    assert told[0] == told[1]
    assert told[0] != told[2]
