"""Joins: whose rows a join drops, and what follows from its condition for either side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .graph import Variable
from .scopes import owners_of

if TYPE_CHECKING:
    from sqlglot import exp

    from .conditions import Conditions
    from .relations import Columns
    from .scopes import Scope


class Joined:
    """Relations that have been joined, or a single one.

    Attributes:
        left, right: what was joined, unless it is a single relation.
        join: how; None is a comma.
    """

    __slots__ = ("join", "left", "relation", "right")

    def __init__(
        self,
        relation: Columns | None = None,
        *,
        left: Joined | None = None,
        right: Joined | None = None,
        join: exp.Join | None = None,
    ) -> None:
        self.relation = relation
        self.left = left
        self.right = right
        self.join = join

    def relations(self) -> list[Columns]:
        """List all of them."""
        found: list[Columns] = []
        pending: list[Joined | None] = [self]
        while pending:
            part = pending.pop()
            if part is None:
                continue
            if part.relation is not None:
                found.append(part.relation)
            pending += (part.right, part.left)
        return found


def narrow(joined: Joined, conditions: Conditions, strict: set[Columns]) -> None:
    """Apply the conditions of all joins.

    Args:
        joined: what was joined.
        conditions: reads them.
        strict: relations of which WHERE drops the rows that consist of NULLs, so that an outer
            join which makes such rows is no different from an inner one.
    """
    pending = [(joined, strict)]
    while pending:
        part, outside = pending.pop()
        left, right = part.left, part.right
        if left is None or right is None:
            continue
        on = None if part.join is None else part.join.args.get("on")
        if part.join is None or on is None:
            pending += ((left, outside), (right, outside))
            continue
        side = part.join.side
        lefts, rights = left.relations(), right.relations()
        conditions.spend(len(lefts) + len(rights))
        keeps_left = side in ("LEFT", "FULL") and outside.isdisjoint(rights)
        keeps_right = side in ("RIGHT", "FULL") and outside.isdisjoint(lefts)
        conditions.strict = set()
        conditions.apply(on, {*(() if keeps_left else lefts), *(() if keeps_right else rights)})
        inside = outside | conditions.strict
        pending += (
            (left, outside if keeps_left else inside),
            (right, outside if keeps_right else inside),
        )


def merge(
    left: Joined, right: Joined, join: exp.Join, scope: Scope, keys: frozenset[str]
) -> None:
    """Make one column of two for each column of USING, or that NATURAL finds."""
    names = [column.name for column in join.args.get("using") or ()]
    is_natural = not names and join.args.get("method") == "NATURAL"
    if is_natural:
        names = list(keys)
    elif not names:
        return
    lefts, rights = left.relations(), right.relations()
    scope.spend(4 * len(lefts) * len(names))  # each is asked that often
    side = join.side
    for name in names:
        one = scope.merged(name) or _only(lefts, name, is_sure=is_natural)
        other = _only(rights, name, is_sure=is_natural)
        if is_natural and (one is None or other is None):
            continue
        merged = Variable()
        for variable, is_preserved in ((one, side != "RIGHT"), (other, side != "LEFT")):
            if variable is None:
                continue
            # A row of either side matters only where the column of the join has its value.
            variable.limits.append(merged)
            if is_preserved and side != "FULL":
                merged.limits.append(variable)
        scope.merge(name, merged)


def _only(relations: list[Columns], name: str, *, is_sure: bool) -> Variable | None:
    """Return the column of the only relation that has it, or that can have it."""
    owners = owners_of(relations, name)
    if len(owners) != 1 or (is_sure and not owners[0].has(name)):
        return None
    return owners[0].column(name)
