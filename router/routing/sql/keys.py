"""The sharding keys that a statement names.

The tree is turned into variables with what is known of them (see `graph`): each query, at
whatever depth, adds its tables, and its WHERE and join conditions say which of their rows can
matter. In the end each use of a table that has a key either has conditions for it, or it is
not known where its rows are.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlglot import exp

from ..limits import Budget, TooComplex
from .changes import Changes
from .queries import Queries
from .values import parameter_of, uncast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...errors import RoutingError
    from ..columns import ShardedTables
    from ..types import KeyConditions, KeyType, TableChange
    from .trees import Tree


@dataclass(frozen=True, slots=True)
class Keys:
    """What statements say about sharding keys.

    Attributes:
        conditions: for each use of a table whose key is known what holds for it.
        unkeyed: names of the tables with a key that are used without it; "" stands for a
            statement that nobody has read.
        error: why the statement must not be done.
        untyped: numbers of parameters whose type the key does not tell.
        limit: what there was too much of to find them all, or "".
        changes: of tables, in the order of the text.
    """

    conditions: tuple[KeyConditions, ...] = ()
    unkeyed: tuple[str, ...] = ()
    error: RoutingError | None = None
    untyped: frozenset[int] = frozenset()
    limit: str = ""
    changes: tuple[TableChange, ...] = ()

    def joined(self, other: Keys) -> Keys:
        """Put the findings of two statements together."""
        return Keys(
            self.conditions + other.conditions,
            self.unkeyed + other.unkeyed,
            self.error or other.error,
            self.untyped | other.untyped,
            self.limit or other.limit,
            self.changes + other.changes,
        )


# To compare terms is cheap beside what else is a step.
_TERMS_PER_STEP: Final = 4

NOT_READ: Final = Keys(unkeyed=("",))
"""What a statement says that was too long, or not understood."""


def extract(tree: Tree, tables: ShardedTables, tokens: Sequence[str], steps: int) -> Keys:
    """Find what a statement says about the sharding keys.

    Args:
        tree: the statement's.
        tables: those of the pool.
        tokens: the statement's.
        steps: how far to go.
    """
    if isinstance(tree, exp.Create):
        if tree.kind != "TABLE":
            return Keys()
        tree = tree.expression
    queries = Queries(tables, tokens, Budget(steps))
    changes = Changes(queries)
    queries.change = changes.change
    try:
        if isinstance(tree, exp.Expr):
            queries.query(tree, None, {})
        return _found(tree, queries, changes, tokens)
    except TooComplex as error:
        limit = str(error)
    except RecursionError:
        limit = "expressions nested too deeply"
    unkeyed = tuple({use.table: None for use in queries.uses})
    return Keys(unkeyed=unkeyed, error=changes.error, limit=limit)


def _found(tree: Tree, queries: Queries, changes: Changes, tokens: Sequence[str]) -> Keys:
    found: dict[KeyConditions, None] = {}
    unkeyed: dict[str, None] = {}
    for use in queries.uses:
        conditions = use.key.conditions(queries.budget)
        if conditions:
            queries.budget.spend(sum(map(len, conditions)) // _TERMS_PER_STEP)
            found[conditions] = None
        else:
            unkeyed[use.table] = None
    untyped = _untyped(tree, found, queries, tokens)
    made = tuple(changes.made)
    return Keys(tuple(found), tuple(unkeyed), changes.error, untyped, changes=made)


def _untyped(
    tree: Tree, found: Iterable[KeyConditions], queries: Queries, tokens: Sequence[str]
) -> frozenset[int]:
    """List the key parameters that are used elsewhere, too.

    PostgreSQL takes the type of a parameter from where it stands first.
    """
    numbers = {n for table in found for terms in table for t in terms for n in t.parameters}
    if not numbers:
        return frozenset()
    counts = Counter(tokens)
    shared = {n for n in numbers if counts[f"${n}"] > 1}
    if not shared:
        return frozenset()
    return frozenset(
        number
        for node in tree.find_all(exp.Parameter)
        if (number := parameter_of(node)) in shared
        and not _is_key(node, queries.key_names, queries.tables.type)
    )


def _is_key(node: Tree, names: frozenset[str], kind: KeyType) -> bool:
    """Say whether a parameter is compared with a key column and with nothing else."""
    value = node
    while isinstance(value.parent, exp.Paren | exp.Cast):
        value = value.parent
    if uncast(value, kind) is not node:
        return False
    parent = value.parent
    if isinstance(parent, exp.EQ | exp.NullSafeEQ):
        left, right = parent.args["this"], parent.args["expression"]
        other = left if right is value else right
    elif isinstance(parent, exp.In):
        other = parent.args["this"]
    else:
        return False
    column = uncast(other, kind)
    return isinstance(column, exp.Column) and column.name in names
