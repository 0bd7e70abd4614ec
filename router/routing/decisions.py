"""From the sharding keys that a statement names to the one shard that it belongs to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import AmbiguousShard, ConfigError
from .cache import keys_of
from .limits import TooComplex
from .refusals import too_complex, unknown_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .limits import KeyBudget
    from .sharding import Sharder
    from .types import Analysis, KeyTerm, KeyTerms, KeyValue, RouterOptions

    Parameters = Mapping[int, KeyValue | tuple[KeyValue, ...] | None]

UNBOUND: Final[Parameters] = {}
"""The parameters of a statement that is not executed: this very object."""

_NOT_READ: Final = "a part of the text cannot be parsed"
_CHOOSE: Final = "or choose the shard with SET SHARD or a comment"


def shard_of_keys(
    analysis: Analysis,
    parameters: Parameters,
    sharder: Sharder,
    *,
    refuses: bool = False,
) -> int | None:
    """Return the one shard that all sharding keys belong to; None if none is known.

    Args:
        analysis: of the statement.
        parameters: the values of its parameters that are known, or UNBOUND.
        sharder: reads keys.
        refuses: whether None will not do if a key is not known, other than one that is still
            to be bound.

    Raises:
        AmbiguousShard: they belong to several, or some are not known.
        NoSingleShard: none is known.
        InvalidShardingKey: one of them is no key.
    """
    shards: set[int] = set()
    hinted: set[int] = set()
    is_partial = is_to_be_bound = False
    # One condition can hold for many uses of tables.
    known: dict[int, tuple[set[int], bool]] = {}
    budget = sharder.budget()
    for conditions in analysis.keys:
        possible: set[int] | None = None
        for terms in conditions:
            if id(terms) not in known:
                try:
                    known[id(terms)] = _shards(terms, parameters, sharder, budget)
                except TooComplex as error:
                    raise too_complex(str(error)) from None
            found, is_complete = known[id(terms)]
            if parameters is UNBOUND and not is_complete:
                is_to_be_bound = is_to_be_bound or any(term.parameters for term in terms)
            if is_complete:
                possible = found if possible is None else possible & found
            else:
                hinted |= found
        if possible is None:
            is_partial = True
        else:
            shards |= possible
    _check_one(analysis, shards, hinted, is_partial=is_partial)
    if is_partial and refuses and not is_to_be_bound:
        raise unknown_key()
    return shards.pop() if shards else None


def _check_one(
    analysis: Analysis, shards: set[int], hinted: set[int], *, is_partial: bool
) -> None:
    """See that keys belong to one shard, or none is known; `hinted` are some of others."""
    if len(shards) > 1:
        raise AmbiguousShard(
            f"the statement's sharding keys belong to several shards: {_listed(shards)}",
            hint=f"Send one statement for each shard, {_CHOOSE}.",
        )
    if analysis.unkeyed and shards:
        name = analysis.unkeyed[0]
        what = f'table "{name}" is used without its sharding key' if name else _NOT_READ
        raise AmbiguousShard(
            f"{what}, while other keys of the statement belong to shard {_listed(shards)}",
            hint=f"Add a condition for its sharding key, {_CHOOSE}.",
        )
    if is_partial and (shards or hinted):
        raise AmbiguousShard(
            "one of the statement's sharding keys is not known, "
            f"while others belong to shard {_listed(shards | hinted)}",
            hint=f"Use literals or parameters of the key's type, {_CHOOSE}.",
        )


def _shards(
    terms: KeyTerms,
    parameters: Parameters,
    sharder: Sharder,
    budget: KeyBudget,
) -> tuple[set[int], bool]:
    """Return the shards of some alternatives, and whether these are all."""
    keys: dict[KeyValue, None] = {}
    is_complete = True
    for term in terms:
        found, numbers = keys_of(term, (), sharder.literal, budget)
        for key in found:
            if key is None:
                is_complete = False
            else:
                keys[key] = None
        before = len(keys)
        if numbers and not _add_bound(keys, term, numbers, parameters):
            is_complete = False
        if len(keys) > before + 1:
            budget.convert(len(keys) - before)
    shards: set[int] = set()
    for known in keys:
        shards.add(sharder.shard(known))
        if len(shards) == sharder.count:
            return shards, True  # it cannot say any less
    return shards, is_complete


def _add_bound(
    keys: dict[KeyValue, None],
    term: KeyTerm,
    numbers: Sequence[int],
    parameters: Parameters,
) -> bool:
    """Add the values of parameters; returns whether all of them are known."""
    if parameters is UNBOUND:
        return False
    is_complete = True
    for number in numbers:
        if number not in parameters:
            is_complete = False
            continue
        value = parameters[number]
        if isinstance(value, tuple):
            keys.update(dict.fromkeys(value))
        elif value is not None:
            keys[value] = None
        elif not term.is_compared:
            is_complete = False
        # Else it is equal to nothing, so that it adds no shard.
    return is_complete


def _listed(shards: set[int]) -> str:
    return ", ".join(map(str, sorted(shards)))


def default_shard(options: RouterOptions) -> int | None:
    """Return the number of default_shard, or None if the pool is to choose each time."""
    if options.default_shard in ("random", "random_healthy"):
        return None if options.shard_count > 1 else 0
    match = re.fullmatch(r"shard_([0-9]{1,9})", options.default_shard)
    if match is None or int(match[1]) >= options.shard_count:
        raise ConfigError(f"default_shard: invalid shard {options.default_shard}")
    return int(match[1])
