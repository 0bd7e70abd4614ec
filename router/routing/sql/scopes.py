"""Which column a name in a query means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .graph import Variable
from .relations import BaseTable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from sqlglot import exp

    from ..limits import Budget
    from .relations import Columns

# To ask a relation for a column is cheap beside what else is a step.
RELATIONS_PER_STEP: Final = 8


@dataclass(frozen=True, slots=True)
class Reference:
    """A column that a name stands for.

    Attributes:
        variable: the column's.
        relation: what it belongs to, if that is one of the query's own.
        is_outer: whether it belongs to a query further out.
    """

    variable: Variable
    relation: Columns | None = None
    is_outer: bool = False


class Scope:
    """The FROM of one query, inside of those that it is part of.

    Attributes:
        relations: what its columns can belong to.
    """

    def __init__(
        self,
        parent: Scope | None,
        shared: Callable[[str], Variable | None],
        budget: Budget,
    ) -> None:
        """Make an empty one.

        Args:
            parent: the scope of the query that this one is part of.
            shared: makes the variable of a key column of which only one of several tables can
                be the owner; None if no such column is a key.
            budget: what finding out may take.
        """
        self.parent = parent
        self.relations: list[Columns] = []
        self._by_name: dict[str, Columns] = {}
        self._plain: set[str] = set()
        self._merged: dict[str, Variable] = {}
        self._shared = shared
        self._budget = budget
        self._made: dict[str, Variable | None] = {}

    def add(self, relation: Columns, name: str, *, is_plain: bool = False) -> None:
        """Add a relation; ``is_plain`` if it goes by the table's own name."""
        self.relations.append(relation)
        if name:
            self._by_name[name] = relation
            if is_plain:
                self._plain.add(name)

    def merge(self, name: str, variable: Variable) -> None:
        """Note that a join's USING has made one column of two."""
        self._merged[name] = variable

    def merged(self, name: str) -> Variable | None:
        """Return the column that a join's USING has made, if there is one."""
        return self._merged.get(name)

    def relation(self, name: str) -> Columns | None:
        """Return the relation of a name."""
        return self._by_name.get(name)

    def spend(self, relations: int) -> None:
        """Pay for a look at so many relations.

        Raises:
            TooComplex: that is more than the budget allows.
        """
        self._budget.spend(relations // RELATIONS_PER_STEP)

    def resolve(self, column: exp.Column) -> Reference | None:
        """Find out which column is meant; None if that is not known.

        Raises:
            TooComplex: that takes more than the budget allows.
        """
        self._budget.spend(1)
        name = column.name
        qualifier = column.args.get("table")
        if qualifier is None:
            return self._resolve_bare(name)
        table: str = qualifier.name
        scope: Scope | None = self
        while scope is not None:
            relation = scope._by_name.get(table)
            if relation is not None:
                if column.args.get("db") is not None and table not in scope._plain:
                    return None
                variable = relation.column(name)
                if scope is self:
                    return Reference(variable, relation)
                return Reference(variable, is_outer=True)
            scope = scope.parent
        return None

    def _resolve_bare(self, name: str) -> Reference | None:
        scope: Scope | None = self
        while scope is not None:
            found = scope._own(name)
            if found is not None:
                return found if scope is self else Reference(found.variable, is_outer=True)
            if not scope._lacks(name):
                return None
            scope = scope.parent
        return None

    def _own(self, name: str) -> Reference | None:
        merged = self._merged.get(name)
        if merged is not None:
            return Reference(merged)
        self.spend(len(self.relations))
        owners = owners_of(self.relations, name)
        if len(owners) == 1:
            # Further out there may be another of that name, which would be meant if the only
            # one here lacked it.
            if self.parent is None or owners[0].has(name) or _has_key(owners[0], name):
                return Reference(owners[0].column(name), owners[0])
        elif owners and owners[0].has(name) is None:
            if name not in self._made:
                self._made[name] = self._shared(name)
            variable = self._made[name]
            return None if variable is None else Reference(variable)
        return None

    def _lacks(self, name: str) -> bool:
        return all(relation.has(name) is False for relation in self.relations)

    # --- as what "*" stands for

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""
        known = [relation.has(name) for relation in self.relations]
        if name in self._merged or True in known:
            return True
        return None if None in known else False

    def column(self, name: str) -> Variable:
        """Return the variable of a column."""
        found = self._own(name)
        return Variable() if found is None else found.variable

    def names(self) -> Sequence[str] | None:
        """List all columns in their order, if they are known."""
        if self._merged:
            return None
        names: list[str] = []
        for relation in self.relations:
            more = relation.names()
            if more is None:
                return None
            names.extend(more)
        return names


def owners_of(relations: Collection[Columns], name: str) -> list[Columns]:
    """List those that have a column of that name; or, if none has it for sure, that may."""
    sure = [relation for relation in relations if relation.has(name)]
    return sure or [relation for relation in relations if relation.has(name) is None]


def _has_key(relation: Columns, name: str) -> bool:
    return isinstance(relation, BaseTable) and relation.key == name
