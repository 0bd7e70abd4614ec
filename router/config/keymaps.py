"""Which sharding keys each shard of a pool has: sharding_values and sharding_ranges.

They are the bounds of PostgreSQL's partitions: FOR VALUES IN, FOR VALUES FROM .. TO, DEFAULT.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Annotated, TypeVar
from uuid import UUID

from pydantic import PlainValidator, WithJsonSchema

from ..routing.types import KeyType, KeyValue, ShardKeys
from .findings import Finding
from .values import ShardingFunction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .declared import KeyPath
    from .pools import PoolConfig, Shard

Bounds = tuple[KeyValue | None, KeyValue | None]
"""From and to; None is MINVALUE as the one, MAXVALUE as the other."""

_LARGEST = 2**63 - 1
_LOWEST, _HIGHEST = "MINVALUE", "MAXVALUE"
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_FORMS = {
    KeyType.BIGINT: f"an integer from {-_LARGEST - 1} to {_LARGEST}",
    KeyType.UUID: 'a uuid as "01234567-89ab-cdef-0123-456789abcdef"',
    KeyType.TEXT: "a string",
}
_IMPLIED = {
    ShardingFunction.PG_BIGINT_HASH: KeyType.BIGINT,
    ShardingFunction.PG_UUID_HASH: KeyType.UUID,
    ShardingFunction.PG_TEXT_HASH: KeyType.TEXT,
}
_MAPS = {ShardingFunction.LIST: "sharding_values", ShardingFunction.RANGE: "sharding_ranges"}

_T = TypeVar("_T")


def _literal(value: object) -> int | str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be an integer or a string")
    return value


def _pair(value: object) -> tuple[int | str, int | str]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("must be [from, to]")
    low, high = value
    return _literal(low), _literal(high)


_LITERAL_SCHEMA = {"type": ["integer", "string"]}
_PAIR_SCHEMA = {"type": "array", "items": _LITERAL_SCHEMA, "minItems": 2, "maxItems": 2}

Literal = Annotated[int | str, PlainValidator(_literal), WithJsonSchema(_LITERAL_SCHEMA)]
Pair = Annotated[
    tuple[int | str, int | str], PlainValidator(_pair), WithJsonSchema(_PAIR_SCHEMA)
]


def key_type(pool: PoolConfig) -> KeyType:
    """What the sharding keys of a pool are."""
    implied = _IMPLIED.get(pool.sharding_function)
    return implied or pool.sharding_key_type or KeyType.BIGINT


def key_maps(pool: PoolConfig) -> tuple[ShardKeys, ...]:
    """The keys of each shard of a pool that has passed the rules; none if a hash decides."""
    if pool.sharding_function not in _MAPS:
        return ()
    kind = key_type(pool)
    return tuple(
        ShardKeys(
            tuple(_key(value, kind) for value in shard.sharding_values or ()),
            tuple(_bounds(pair, kind) for pair in shard.sharding_ranges or ()),
            shard.sharding_default,
        )
        for shard in pool.shards
    )


def _key(written: int | str, kind: KeyType) -> KeyValue:
    """Read a key; a ValueError says what it must be."""
    if kind is KeyType.BIGINT:
        if isinstance(written, int) and -_LARGEST - 1 <= written <= _LARGEST:
            return written
    elif isinstance(written, str):
        if kind is KeyType.TEXT and "\0" not in written:
            return written
        if kind is KeyType.UUID and _UUID.fullmatch(written):
            return UUID(written)
    raise ValueError(f"must be {_FORMS[kind]}, got {json.dumps(written, ensure_ascii=False)}")


def _bounds(pair: tuple[int | str, int | str], kind: KeyType) -> Bounds:
    """Read a range; a ValueError says what is wrong with it."""
    low = None if pair[0] == _LOWEST else _key(pair[0], kind)
    high = None if pair[1] == _HIGHEST else _key(pair[1], kind)
    if not _is_less(low, high):
        raise ValueError("must have a first value that is less than the second")
    return low, high


def _is_less(low: KeyValue | None, high: KeyValue | None) -> bool:
    """Compare a lower bound with an upper one; text as its bytes in UTF-8."""
    if isinstance(low, int) and isinstance(high, int):
        return low < high
    if isinstance(low, str) and isinstance(high, str):
        return low < high
    if isinstance(low, UUID) and isinstance(high, UUID):
        return low < high
    return True


# --- the rules


def check_key_maps(
    pool: PoolConfig, base: KeyPath, shards: Sequence[tuple[str, Shard]]
) -> Iterator[Finding]:
    """Look at all keys about sharding; `shards` are with their names in the file."""
    function = pool.sharding_function
    chosen = (*base, "sharding_function")
    implied = _IMPLIED.get(function)
    given = pool.sharding_key_type
    if implied is not None and given is not None and given is not implied:
        yield Finding(
            (*base, "sharding_key_type"),
            f'must be "{implied.value}", or left out, when sharding_function is '
            f'"{function.value}", got "{given.value}"',
            (chosen,),
        )
    placed = [((*base, "shards", name), shard) for name, shard in shards]
    for path, shard in placed:
        yield from _check_presence(function, path, shard, chosen)
    if function not in _MAPS:
        return
    defaults = [path for path, shard in placed if shard.sharding_default]
    for path in defaults[1:]:
        yield Finding(
            (*path, "sharding_default"),
            f"may be true for one shard only, and is for shard {defaults[0][-1]}",
            ((*defaults[0], "sharding_default"),),
        )
    # What a key is may be at fault as well as the key.
    rests = (chosen, (*base, "sharding_key_type"))
    if function is ShardingFunction.LIST:
        yield from _check_values(placed, key_type(pool), rests)
    else:
        yield from _check_ranges(placed, key_type(pool), rests)


def _check_presence(
    function: ShardingFunction, path: KeyPath, shard: Shard, chosen: KeyPath
) -> Iterator[Finding]:
    for needed, key in _MAPS.items():
        given = getattr(shard, key)
        if given is not None and function is not needed:
            yield Finding(
                (*path, key), f'is only valid when sharding_function is "{needed}"', (chosen,)
            )
        if given is None and function is needed and not shard.sharding_default:
            yield Finding(
                (*path, key),
                f'is required when sharding_function is "{needed}", '
                "except for the shard with sharding_default",
                (chosen, (*path, "sharding_default")),
            )
    if shard.sharding_default and function not in _MAPS:
        yield Finding(
            (*path, "sharding_default"),
            'is only valid when sharding_function is "list" or "range"',
            (chosen,),
        )


_Placed = list[tuple["KeyPath", "Shard"]]


def _check_values(
    shards: _Placed, kind: KeyType, rests: tuple[KeyPath, ...]
) -> Iterator[Finding]:
    seen: dict[KeyValue, KeyPath] = {}
    for base, shard in shards:
        for index, written in enumerate(shard.sharding_values or ()):
            path = (*base, "sharding_values", index)
            try:
                value = _key(written, kind)
            except ValueError as error:
                yield Finding(path, str(error), rests)
                continue
            first = seen.setdefault(value, path)
            if first is not path:
                yield Finding(
                    path,
                    f"must differ from all others, shard {first[-3]} has {value} already",
                    (first, *rests),
                )


def _check_ranges(
    shards: _Placed, kind: KeyType, rests: tuple[KeyPath, ...]
) -> Iterator[Finding]:
    ranges: list[tuple[Bounds, KeyPath]] = []
    for base, shard in shards:
        for index, pair in enumerate(shard.sharding_ranges or ()):
            path = (*base, "sharding_ranges", index)
            try:
                ranges.append((_bounds(pair, kind), path))
            except ValueError as error:
                yield Finding(path, str(error), rests)
    # Keys are of one type, so that they have an order; MINVALUE comes first.
    ranges.sort(key=lambda each: (each[0][0] is not None, each[0][0]))
    reach: tuple[Bounds, KeyPath] | None = None
    for bounds, path in ranges:
        if reach is None or not _is_less(bounds[0], reach[0][1]):
            reach = bounds, path
            continue
        other = reach[1]
        yield Finding(
            path,
            f"must not overlap with range {other[-1]} of shard {other[-3]}",
            (other, *rests),
        )
        if bounds[1] is None or _is_less(reach[0][1], bounds[1]):
            reach = bounds, path
