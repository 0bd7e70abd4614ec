"""How often a router has decided what: by which rule, or why it refused."""

from __future__ import annotations

from typing import Final

from ..errors import AmbiguousShard, NoSingleShard, RoutingError
from . import refusals
from .tally import Tally

BY_RULE: Final = {
    "shard_id_regex": "by_comment",
    "sharding_key_regex": "by_comment",
    "SET SHARD": "by_choice",
    "automatic_sharding_key": "by_key",
    "sharding_key_policy": "by_sticky_shard",
    "omnisharded_tables": "any_shard",
    "default_shard": "default_shard",
    "single shard": "single_shard",
}
"""Under which name the statements count that have got their shard by a rule."""
WITHOUT_KEY: Final = "without_key"
"""The name of those that were sent to default_shard, having no single shard."""
EVERY_SHARD: Final = "every_shard"
"""The name of those that were brought to all shards."""
_BY_KIND: Final = {
    AmbiguousShard.default_kind: "refused_several_shards",
    refusals.NO_KEY: "refused_no_key",
    refusals.UNKNOWN_KEY: "refused_unknown_key",
    refusals.EVERY_SHARD: "refused_every_shard",
    refusals.COPY: "refused_copy",
    refusals.UNREADABLE: "refused_not_understood",
    refusals.TOO_LONG: "refused_too_long",
    refusals.TOO_COMPLEX: "refused_too_complex",
}
_OTHER: Final = "refused_other"
NAMES: Final = (
    *dict.fromkeys(BY_RULE.values()),
    WITHOUT_KEY,
    EVERY_SHARD,
    *_BY_KIND.values(),
    _OTHER,
)
"""All names, in the order of SHOW ROUTING."""
# What concerns the place of a statement; others fail for reasons of their own.
_STATES: Final = ("0A000", "22023")


class Tallies:
    """The counters of one router."""

    __slots__ = ("_tallies",)

    def __init__(self) -> None:
        self._tallies: Final = {name: Tally() for name in NAMES}

    def of_rule(self, rule: str) -> Tally:
        """Return the counter of a rule that gives shards."""
        return self._tallies[BY_RULE.get(rule, rule)]

    def refuse(self, error: Exception) -> None:
        """Count a refusal, if it is one of routing."""
        if isinstance(error, NoSingleShard):
            self._tallies[_BY_KIND.get(error.kind, _OTHER)].count += 1
        elif isinstance(error, RoutingError) and error.sqlstate in _STATES:
            self._tallies[_OTHER].count += 1

    @property
    def counts(self) -> dict[str, int]:
        """All counts by their names."""
        return {name: tally.count for name, tally in self._tallies.items()}
