"""The sharding keys that a statement names.

The tree is turned into variables with what is known of them (see `graph`): each query, at
whatever depth, adds its tables, and its WHERE and join conditions say which of their rows can
matter. In the end each use of a table that has a key either has conditions for it, or it is
not known where its rows are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlglot import exp

from .changes import Changes
from .queries import Queries
from .sources import TooComplex
from .trees import are_operators_plain

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...errors import RoutingError
    from ..columns import ShardedTables
    from ..types import KeyConditions
    from .trees import Tree


@dataclass(frozen=True, slots=True)
class Keys:
    """What statements say about sharding keys.

    Attributes:
        conditions: for each use of a table whose key is known what holds for it.
        unkeyed: names of the tables with a key that are used without it.
        error: why the statement must not be done.
    """

    conditions: tuple[KeyConditions, ...] = ()
    unkeyed: tuple[str, ...] = ()
    error: RoutingError | None = None

    def joined(self, other: Keys) -> Keys:
        """Put the findings of two statements together."""
        return Keys(
            self.conditions + other.conditions,
            self.unkeyed + other.unkeyed,
            self.error or other.error,
        )


def extract(tree: Tree, tables: ShardedTables, tokens: Sequence[str]) -> Keys:
    """Find what a statement says about the sharding keys.

    Args:
        tree: the statement's.
        tables: those of the pool.
        tokens: the statement's.
    """
    if isinstance(tree, exp.Create):
        if tree.kind != "TABLE":
            return Keys()
        tree = tree.expression
    is_readable = are_operators_plain(tokens)
    queries = Queries(tables, tokens)
    changes = Changes(queries)
    queries.change = changes.change
    try:
        if isinstance(tree, exp.Expr):
            queries.query(tree, None, {})
    except TooComplex:
        is_readable = False
    if not is_readable:
        return Keys(
            unkeyed=tuple({use.table: None for use in queries.uses}), error=changes.error
        )
    found: dict[KeyConditions, None] = {}
    unkeyed: dict[str, None] = {}
    for use in queries.uses:
        conditions = use.key.conditions()
        if conditions:
            found[conditions] = None
        else:
            unkeyed[use.table] = None
    return Keys(tuple(found), tuple(unkeyed), changes.error)
