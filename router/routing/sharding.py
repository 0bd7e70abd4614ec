"""Sharding: from the value of a key to the number of its shard, as a pool is set up."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError, InvalidShardingKey
from .arrays import BLANKS, is_array, members_of_binary, members_of_text
from .hashing import pg_bigint_hash, pg_text_hash, pg_uuid_hash, sha1
from .keyvalues import (
    KEY_MAX,
    KEY_MIN,
    LITERALS,
    PARAMETERS,
    PARSERS,
    integer,
    parameter_key,
    parse_key,
    plain_integers,
    shown,
)
from .limits import KeyBudget
from .shardmaps import ListMap, RangeMap
from .types import KeyType, RouterOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .types import KeyValue

__all__ = [
    "BIGINTS",
    "FUNCTIONS",
    "KEY_MAX",
    "KEY_MIN",
    "Sharder",
    "check_plain",
    "integer",
    "parameter_key",
    "parse_key",
    "pg_bigint_hash",
    "sha1",
]

FUNCTIONS: Final[Mapping[str, Callable[[int, int], int]]] = {
    "pg_bigint_hash": pg_bigint_hash,
    "sha1": sha1,
}
"""The functions that hash a bigint."""

_HASHES: Final[Mapping[KeyType, Mapping[str, Callable[..., int]]]] = {
    KeyType.BIGINT: FUNCTIONS,
    KeyType.UUID: {"pg_uuid_hash": pg_uuid_hash, "sha1": sha1},
    KeyType.TEXT: {"pg_text_hash": pg_text_hash, "sha1": sha1},
}

# The types text[] and varchar[], and one that the server is to find.
_ARRAYS: Final = frozenset((0, 1009, 1015))

IMPLIED: Final = {
    "pg_bigint_hash": KeyType.BIGINT,
    "pg_uuid_hash": KeyType.UUID,
    "pg_text_hash": KeyType.TEXT,
}


class Sharder:
    """Reads the sharding keys of one pool, and finds their shards.

    Attributes:
        count: how many shards there are.
        type: what the keys are.
        parse: reads a key from text: a parameter, or what stands between the quotes of a
            literal. Raises InvalidShardingKey, which says what is allowed.
        literal: reads a key from a literal of SQL: as it is written, whether behind a minus
            sign, whether behind an E. None if it is not known which key it stands for.
            Raises InvalidShardingKey for text that is not UTF-8.
        parameter: reads a key from a parameter of Bind, see `ParameterReader`.
        shard: gives the shard of a key. Raises InvalidShardingKey if no shard has it.
        hashes_bigints: what that is by `shard_of_bigint`.
    """

    __slots__ = ("count", "hashes_bigints", "literal", "parameter", "parse", "shard", "type")

    def __init__(self, options: RouterOptions, *, is_cautious: bool = False) -> None:
        """Take in the options about sharding.

        Args:
            options: those of the pool.
            is_cautious: make `shard` refuse keys that `check_plain` refuses.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self.count: Final = options.shard_count
        self.type: Final = _key_type(options)
        self.parse: Final = PARSERS[self.type]
        self.literal: Final = LITERALS[self.type]
        self.parameter: Final = PARAMETERS[self.type]
        self.hashes_bigints: Final = options.sharding_function == "pg_bigint_hash"
        function = _shard_function(self.type, options)
        must_check = is_cautious and self.type is KeyType.TEXT
        self.shard: Final = _checked(function) if must_check else function

    def __repr__(self) -> str:
        return f"<Sharder {self.type.value}>"

    def budget(self) -> KeyBudget:
        """Make the budget for the keys in the lists and arrays of one text or message."""
        return KeyBudget(are_bigints=self.type is KeyType.BIGINT)

    def parameter_array(
        self, value: bytes, *, binary: bool, oid: int = 0, budget: KeyBudget | None = None
    ) -> tuple[KeyValue, ...] | None:
        """Read the keys in a parameter that is an array, each once; None if it is not known.

        Raises:
            InvalidShardingKey: one of them is no key.
            TooComplex: there are more than the budget allows.
        """
        budget = budget or self.budget()
        if binary:
            found = members_of_binary(value)
            if found is None:
                return None
            member_oid, members = found
        else:
            if self.type is KeyType.BIGINT and is_array(value):
                budget.read(value.count(b",") + 1)
                numbers = plain_integers(value.strip(BLANKS)[1:-1])
                if numbers is not None:
                    return tuple(dict.fromkeys(numbers))  # to hash them is what takes long
            read = members_of_text(value)
            if read is None or (oid not in _ARRAYS and self.type is KeyType.TEXT):
                return None
            member_oid, members = 0, read
        distinct = dict.fromkeys(members)
        budget.read(len(members))
        budget.convert(len(distinct))
        keys = [
            self.parameter(member, binary=binary, oid=member_oid)
            for member in distinct
            if member is not None
        ]
        known = tuple(key for key in keys if key is not None)
        return known if len(known) == len(keys) else None


def check_plain(key: KeyValue) -> None:
    r"""Refuse a key of a client with odd text (see `RoutingState`), if it may mean another.

    Raises:
        InvalidShardingKey: it is not ASCII, or has a \ in it.
    """
    if isinstance(key, str) and not (key.isascii() and "\\" not in key):
        raise InvalidShardingKey(
            f'sharding key "{shown(key)}" is not plain ASCII',
            hint="Connect with client_encoding set to UTF8 and with "
            "standard_conforming_strings set to on, and keep them so.",
        )


def _checked(function: Callable[[KeyValue], int]) -> Callable[[KeyValue], int]:
    def shard(key: KeyValue) -> int:
        check_plain(key)
        return function(key)

    return shard


def _key_type(options: RouterOptions) -> KeyType:
    implied = IMPLIED.get(options.sharding_function)
    chosen = options.sharding_key_type
    if implied is None:
        return KeyType(chosen or "bigint")
    if chosen not in (None, implied.value):
        raise ConfigError(
            f'sharding_key_type: {options.sharding_function} is for "{implied.value}"'
        )
    return implied


def _shard_function(key_type: KeyType, options: RouterOptions) -> Callable[[KeyValue], int]:
    function = options.sharding_function
    if function == "list":
        return ListMap(key_type, options.shard_keys)
    if function == "range":
        return RangeMap(key_type, options.shard_keys)
    if function not in _HASHES[key_type]:
        raise ConfigError(f'sharding_function: unknown "{function}"')
    return partial(_HASHES[key_type][function], shards=options.shard_count)


BIGINTS: Final = Sharder(RouterOptions())
"""That of a pool whose keys are of the usual type."""
