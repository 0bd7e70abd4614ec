"""The columns that SELECT, RETURNING and UNION make."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from .graph import Variable
from .relations import Opaque, Output, Single, nth
from .values import terms_of, uncast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..limits import Budget
    from ..types import KeyType
    from .relations import Columns
    from .scopes import Scope
    from .trees import Tree


def items_of(expressions: Sequence[Tree], scope: Scope, kind: KeyType) -> list[Columns]:
    """Make the columns of SELECT or RETURNING."""
    items: list[Columns] = []
    for item in expressions:
        name, value = "", item
        if isinstance(item, exp.Alias):
            name, value = item.alias, item.args["this"]
        if isinstance(value, exp.Star):
            items.append(scope)
        elif isinstance(value, exp.Column) and isinstance(value.args["this"], exp.Star):
            items.append(scope.relation(value.table) or Opaque())
        else:
            items.append(_item(name, value, scope, kind))
    return items


def _item(name: str, value: Tree, scope: Scope, kind: KeyType) -> Single:
    column = uncast(value, kind)
    if isinstance(column, exp.Column):
        reference = scope.resolve(column)
        # The name of a cast or bracketed column is PostgreSQL's to say.
        own = name or (column.name if column is value else "")
        return Single(own, None if reference is None else reference.variable)
    terms = terms_of((value,), kind)
    if not terms:
        return Single(name, None)
    variable = Variable()
    variable.demands.append(terms)
    return Single(name, variable)


def united(branches: Sequence[Columns], budget: Budget) -> Columns:
    """Make the columns of the branches of UNION, INTERSECT or EXCEPT, which go by position.

    Raises:
        TooComplex: there are more of them than the budget allows.
    """
    first = branches[0]
    names = first.names()
    if names is None:
        return _AsFirst(first)
    budget.spend(len(names) * len(branches))
    items: list[Columns] = []
    for index, name in enumerate(names):
        variable = Variable()
        parts = [nth(branch, index) for branch in branches]
        known = [part for part in parts if part is not None]
        conditions = [part.conditions(budget) for part in known]
        if len(known) == len(parts) and all(conditions):
            least = (min(condition, key=len) for condition in conditions)
            variable.demands.append(tuple(term for terms in least for term in terms))
        for part in known:
            part.limits.append(variable)
        items.append(Single(name, variable))
    return Output(items)


class _AsFirst(Opaque):
    """Columns with the names of other columns, and unknown values."""

    def __init__(self, first: Columns) -> None:
        super().__init__()
        self._first = first

    def has(self, name: str) -> bool | None:
        """Say whether there is a column of that name; None if that is not known."""
        return self._first.has(name)
