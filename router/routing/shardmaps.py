"""The sharding functions ``list`` and ``range``: each shard names the keys that it has.

They mean what ``FOR VALUES IN``, ``FOR VALUES FROM .. TO`` and ``DEFAULT`` mean to PostgreSQL's
partitions. Text is compared as with COLLATE "C": Python orders strings by code points, which is
the order of their bytes in UTF-8.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, InvalidShardingKey
from .keyvalues import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .types import KeyType, KeyValue, ShardKeys

_NAMED: Final = 8
"""How many values or ranges an error names at most."""


def _default(shards: Sequence[ShardKeys]) -> int | None:
    defaults = [number for number, keys in enumerate(shards) if keys.is_default]
    if len(defaults) > 1:
        raise ConfigError("sharding_default: may be true for one shard only")
    return defaults[0] if defaults else None


def _missing(key: KeyValue, key_type: KeyType, covered: list[str]) -> InvalidShardingKey:
    named = ", ".join(covered[:_NAMED])
    more = f" and {len(covered) - _NAMED} more" if len(covered) > _NAMED else ""
    return InvalidShardingKey(
        f'no shard has the sharding key "{shown(str(key))}" of type {key_type.value}',
        hint=f"The shards have {named or 'none'}{more}. Choose a shard with SET SHARD.",
    )


class ListMap:
    """Finds the shard that names a key."""

    __slots__ = ("_default", "_shards", "_type")

    def __init__(self, key_type: KeyType, shards: Sequence[ShardKeys]) -> None:
        """Take the values of each shard.

        Raises:
            ConfigError: two shards name the same one.
        """
        self._type: Final = key_type
        self._default: Final = _default(shards)
        self._shards: Final[dict[KeyValue, int]] = {}
        for number, keys in enumerate(shards):
            for value in keys.values:
                if self._shards.setdefault(value, number) != number:
                    raise ConfigError(f"sharding_values: two shards have {value}")

    def __call__(self, key: KeyValue) -> int:
        """Return the shard of a key.

        Raises:
            InvalidShardingKey: there is none.
        """
        found = self._shards.get(key, self._default)
        if found is None:
            raise _missing(key, self._type, [shown(str(value)) for value in self._shards])
        return found


class RangeMap:
    """Finds the shard that has a range with a key in it."""

    __slots__ = ("_bounds", "_default", "_ranges", "_shards", "_type")

    def __init__(self, key_type: KeyType, shards: Sequence[ShardKeys]) -> None:
        """Take the ranges of each shard.

        Raises:
            ConfigError: they overlap, or one is empty.
        """
        self._type: Final = key_type
        self._default: Final = _default(shards)
        self._ranges: Final[list[str]] = []
        # _shards[n] has the keys before _bounds[n], down to the bound before that one.
        self._bounds: Final[list[KeyValue]] = []
        self._shards: Final[list[int | None]] = [self._default]
        for low, high, number in _sorted(shards):
            self._ranges.append(f"from {_bound(low, 'MINVALUE')} to {_bound(high, 'MAXVALUE')}")
            self._begin(low, number)
            if high is not None:
                self._begin(high, self._default)

    def _begin(self, bound: KeyValue | None, shard: int | None) -> None:
        """From a bound on, keys belong to a shard, until the next bound."""
        if bound is None or (self._bounds and self._bounds[-1] == bound):
            self._shards[-1] = shard
        else:
            self._bounds.append(bound)
            self._shards.append(shard)

    def __call__(self, key: KeyValue) -> int:
        """Return the shard of a key.

        Raises:
            InvalidShardingKey: there is none.
        """
        found = self._shards[bisect_right(self._bounds, key)]
        if found is None:
            raise _missing(key, self._type, self._ranges)
        return found


def _bound(value: KeyValue | None, unbounded: str) -> str:
    return unbounded if value is None else shown(str(value))


Range = tuple["KeyValue | None", "KeyValue | None", int]
"""From, to, and the number of the shard."""


def _sorted(shards: Sequence[ShardKeys]) -> list[Range]:
    """Return all ranges in their order."""
    ranges: list[Range] = [
        (low, high, number) for number, keys in enumerate(shards) for low, high in keys.ranges
    ]
    unbounded = [each for each in ranges if each[0] is None]
    others = [each for each in ranges if each[0] is not None]
    others.sort(key=lambda each: each[0])  # type: ignore[arg-type,return-value]
    found = unbounded + others
    for (_, high, _), (low, _, _) in pairwise(found):
        if high is None or low is None or low < high:  # type: ignore[operator]
            raise ConfigError("sharding_ranges: two ranges overlap")
    for low, high, _ in found:
        if low is not None and high is not None and high <= low:  # type: ignore[operator]
            raise ConfigError("sharding_ranges: from must be less than to")
    return found
