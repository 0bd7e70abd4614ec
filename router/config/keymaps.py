"""Which sharding keys each shard of a pool has: sharding_values and sharding_ranges.

They are the bounds of PostgreSQL's partitions: FOR VALUES IN, FOR VALUES FROM .. TO, DEFAULT.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from uuid import UUID

from ..routing.sharding import IMPLIED
from ..routing.types import KeyType, KeyValue, ShardKeys
from .keys import LARGEST
from .values import ShardingFunction

if TYPE_CHECKING:
    from .pools import PoolConfig

Bounds = tuple[KeyValue | None, KeyValue | None]
"""From and to; None is MINVALUE as the one, MAXVALUE as the other."""

_LOWEST, _HIGHEST = "MINVALUE", "MAXVALUE"
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
_FORMS = {
    KeyType.BIGINT: f"an integer from {-LARGEST - 1} to {LARGEST}",
    KeyType.UUID: 'a uuid as "01234567-89ab-cdef-0123-456789abcdef"',
    KeyType.TEXT: "a string",
}
MAPS = {ShardingFunction.LIST: "sharding_values", ShardingFunction.RANGE: "sharding_ranges"}


def key_type(pool: PoolConfig) -> KeyType:
    """What the sharding keys of a pool are."""
    implied = IMPLIED.get(pool.sharding_function)
    return implied or pool.sharding_key_type or KeyType.BIGINT


def key_maps(pool: PoolConfig) -> tuple[ShardKeys, ...]:
    """The keys of each shard of a pool that has passed the rules; none if a hash decides."""
    if pool.sharding_function not in MAPS:
        return ()
    kind = key_type(pool)
    return tuple(
        ShardKeys(
            tuple(read_key(value, kind) for value in shard.sharding_values or ()),
            tuple(read_bounds(pair, kind) for pair in shard.sharding_ranges or ()),
            shard.sharding_default,
        )
        for shard in pool.shards
    )


def read_key(written: int | str, kind: KeyType) -> KeyValue:
    """Read a key; a ValueError says what it must be."""
    if kind is KeyType.BIGINT:
        if isinstance(written, int) and -LARGEST - 1 <= written <= LARGEST:
            return written
    elif isinstance(written, str):
        if kind is KeyType.TEXT and "\0" not in written:
            return written
        if kind is KeyType.UUID and _UUID.fullmatch(written):
            return UUID(written)
    raise ValueError(f"must be {_FORMS[kind]}, got {json.dumps(written, ensure_ascii=False)}")


def read_bounds(pair: tuple[int | str, int | str], kind: KeyType) -> Bounds:
    """Read a range; a ValueError says what is wrong with it."""
    low = None if pair[0] == _LOWEST else read_key(pair[0], kind)
    high = None if pair[1] == _HIGHEST else read_key(pair[1], kind)
    if not is_less(low, high):
        raise ValueError("must have a first value that is less than the second")
    return low, high


def is_less(low: KeyValue | None, high: KeyValue | None) -> bool:
    """Compare a lower bound with an upper one of its type; text as its bytes in UTF-8."""
    return low is None or high is None or low < high  # type: ignore[operator]
