"""Commands that mean the same on every shard: definitions, and the upkeep of tables.

Judged by the first words. What defines something can be part of a transaction on each shard; of
what only keeps tables in order a part is better than nothing, and much of it refuses to be.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence


class Manner(Enum):
    """How a command is brought to all shards."""

    TOGETHER = "in one transaction"
    """On all of them, or on none."""
    IN_TURN = "one after the other"
    """Each by itself, up to the first that refuses."""


_DEFINES: Final = frozenset(("create", "alter", "drop"))
_OTHERS: Final = frozenset(("truncate", "grant", "revoke", "comment"))
_PAIRS: Final = frozenset((("security", "label"), ("import", "foreign"), ("reassign", "owned")))
_UPKEEP: Final = frozenset(("vacuum", "analyze", "analyse", "cluster", "reindex"))
# What is of a whole cluster, and not of the tables of a shard.
_OF_CLUSTER: Final = frozenset(("database", "tablespace", "system", "subscription"))
_BEFORE_TEMPORARY: Final = frozenset(("or", "replace", "local", "global"))
_TEMPORARY: Final = frozenset(("temp", "temporary"))


def manner_of(tokens: Sequence[str]) -> Manner | None:
    """Return how a statement is brought to all shards; None if it is not meant for all."""
    first = tokens[0]
    if first in _DEFINES:
        if tokens[1:2] and tokens[1] in _OF_CLUSTER:
            return None
        if first == "create" and _is_temporary(tokens):
            return None
        return Manner.IN_TURN if "concurrently" in tokens else Manner.TOGETHER
    if first in _OTHERS or tuple(tokens[:2]) in _PAIRS:
        return Manner.TOGETHER
    if first in _UPKEEP or tuple(tokens[:2]) == ("refresh", "materialized"):
        return Manner.IN_TURN
    return None


def _is_temporary(tokens: Sequence[str]) -> bool:
    for token in tokens[1:]:
        if token not in _BEFORE_TEMPORARY:
            return token in _TEMPORARY
    return False
