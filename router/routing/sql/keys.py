"""The automatic sharding key: which values of its column a statement's tree names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...errors import ConfigError, RoutingError

if TYPE_CHECKING:
    from ..types import KeyConditions
    from .trees import Tree


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """The column of automatic_sharding_key; an empty table means that of any table."""

    table: str
    column: str

    @classmethod
    def of(cls, setting: str) -> KeyColumn:
        """Read ``table.column`` or ``*.column``."""
        table, _, column = setting.replace('"', "").lower().rpartition(".")
        if not table or not column:
            raise ConfigError(
                f'automatic_sharding_key: "{setting}" is neither table.column nor *.column'
            )
        return cls("" if table == "*" else table, column)


@dataclass(frozen=True, slots=True)
class Keys:
    """What statements say about the sharding key."""

    conditions: tuple[KeyConditions, ...] = ()
    error: RoutingError | None = None

    def joined(self, other: Keys) -> Keys:
        """Put the findings of two statements together."""
        return Keys(self.conditions + other.conditions, self.error or other.error)


def extract(tree: Tree, key: KeyColumn) -> Keys:
    """Find the conditions on the sharding key."""
    return Keys()
