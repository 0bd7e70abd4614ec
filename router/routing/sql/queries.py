"""SELECT and its like: what they read, and what is known of the rows that they return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from .conditions import Conditions
from .ctes import CHANGES, with_
from .graph import KeyUse, Variable
from .joins import narrow
from .outputs import items_of, united
from .relations import BaseTable, Columns, Opaque, Output, Single
from .scopes import Scope
from .sources import add_joins, add_sources
from .values import bare, terms_of, uncast

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..columns import ShardedTables
    from ..limits import Budget
    from .ctes import Made
    from .trees import Tree

_STEPS_PER_QUERY: Final = 10
_QUERY_WORDS: Final = ("select", "values", "table")
_LOOKED_AT: Final = frozenset(("from_", "joins", "with_", "using", "laterals"))


class Queries:
    """Looks at the queries of one statement.

    Attributes:
        tables: the pool's.
        uses: the uses of tables with sharding keys that were found.
        key_names: the names of all key columns.
        change: looks at a change of data in the place of a query.
        budget: what all of this may take.
    """

    def __init__(self, tables: ShardedTables, tokens: Sequence[str], budget: Budget) -> None:
        self.tables = tables
        self.uses: list[KeyUse] = []
        self.key_names = frozenset(key.column for key in tables.keys)
        self.change: Callable[[Tree, Scope | None, Made], Columns] = self.query
        self._wildcards = frozenset(key.column for key in tables.keys if not key.table)
        self.budget = budget
        self._has_nested = sum(map(tokens.count, _QUERY_WORDS)) > 1 or tokens[0] in (
            "update",
            "delete",
            "merge",
        )
        self._has_windows = "over" in tokens

    # --- the parts

    def use(self, table: str, key: Variable) -> None:
        """Note a use of a table with a sharding key."""
        self.uses.append(KeyUse(table, key))

    def base(self, schema: str, table: str) -> BaseTable:
        """Make a use of a table of the database."""
        key, is_certain = self.tables.key_of(schema, table)
        columns = self.tables.columns_of(schema, table)
        if not key and self.tables.is_sharded(schema, table):
            self.use(table, Variable())
        return BaseTable(table, key, columns, self.use, is_certain=is_certain)

    def scope(self, parent: Scope | None) -> Scope:
        """Make a scope."""
        return Scope(parent, self._shared, self.budget)

    def conditions(self, scope: Scope, made: Made) -> Conditions:
        """Make a reader of conditions."""
        return Conditions(
            scope,
            self.tables.type,
            self.budget,
            query=lambda node: self.query(node, scope, made),
        )

    def _shared(self, name: str) -> Variable | None:
        if name not in self._wildcards:
            return None
        variable = Variable()
        self.use(f"*.{name}", variable)
        return variable

    # --- queries

    def query(self, node: Tree, parent: Scope | None, made: Made) -> Columns:
        """Look at a query, or at a change of data in its place.

        Raises:
            TooComplex: there is more of it than the budget allows.
        """
        self.budget.spend(_STEPS_PER_QUERY)
        is_opaque = False
        while isinstance(node, exp.Subquery):
            made = with_(self, node, parent, made)
            is_opaque = is_opaque or _is_limited(node)
            node = node.args["this"]
        made = with_(self, node, parent, made)
        if isinstance(node, exp.Select):
            found: Columns = self._select(node, parent, made)
        elif isinstance(node, exp.SetOperation):
            found = self._set_operation(node, parent, made)
        elif isinstance(node, exp.Values):
            found = self._values(node, parent, made)
        elif isinstance(node, CHANGES):
            return self.change(node, parent, made)
        else:
            return Opaque()
        return Output((found,), is_opaque=True) if is_opaque else found

    def _select(self, node: exp.Select, parent: Scope | None, made: Made) -> Columns:
        args = node.args
        scope = self.scope(parent)
        source = args.get("from_")
        joined = None
        if source is not None:
            joined = add_sources(self, (source.args["this"],), scope, made)
            joined = add_joins(self, joined, args.get("joins"), scope, made)
        conditions = self.conditions(scope, made)
        where = args.get("where")
        if where is not None:
            conditions.apply(where.args["this"])
        if joined is not None:
            narrow(joined, conditions, conditions.strict)
        self.nested(node, scope, made, conditions)
        return self._output(node, scope)

    def _output(self, node: exp.Select, scope: Scope) -> Columns:
        args = node.args
        distinct = args.get("distinct")
        is_opaque = (
            self._has_windows
            or _is_limited(node)
            or (distinct is not None and distinct.args.get("on") is not None)
            or (args.get("group") is not None and not self._is_grouped(node, scope))
        )
        self.budget.spend(len(node.expressions))
        items = items_of(node.expressions, scope, self.tables.type)
        return Output(items, is_opaque=is_opaque)

    def _is_grouped(self, node: exp.Select, scope: Scope) -> bool:
        """Say whether groups have one value of each column that is returned as it is."""
        keys = set()
        group = node.args["group"]
        for part in group.expressions:
            column = bare(part)
            reference = scope.resolve(column) if isinstance(column, exp.Column) else None
            if reference is None:
                return False
            keys.add(reference.variable)
        if any(value for name, value in group.args.items() if name != "expressions"):
            return False
        for item in node.expressions:
            column = uncast(
                item.args["this"] if isinstance(item, exp.Alias) else item, self.tables.type
            )
            if isinstance(column, exp.Column):
                reference = scope.resolve(column)
                if reference is None or reference.variable not in keys:
                    return False
        return True

    def _set_operation(
        self, node: exp.SetOperation, parent: Scope | None, made: Made
    ) -> Columns:
        """Look at UNION, INTERSECT or EXCEPT, of which there can be very many in a row."""
        branches: list[Columns] = []
        is_opaque = False
        part: Tree = node
        while isinstance(part, exp.SetOperation):
            is_opaque = is_opaque or _is_limited(part)
            if part is not node:
                made = with_(self, part, parent, made)
            branches.append(self.query(part.args["expression"], parent, made))
            part = part.args["this"]
        branches.append(self.query(part, parent, made))
        branches.reverse()
        return Output((united(branches, self.budget),), is_opaque=is_opaque)

    def _values(self, node: exp.Values, parent: Scope | None, made: Made) -> Columns:
        rows = [
            row.expressions if isinstance(row, exp.Tuple) else [row] for row in node.expressions
        ]
        self.nested(node, self.scope(parent), made)
        items = []
        self.budget.spend(sum(map(len, rows)))
        for index in range(len(rows[0])):
            variable = Variable()
            if all(index < len(row) for row in rows):
                terms = terms_of([row[index] for row in rows], self.tables.type)
                variable.demands += (terms,) if terms else ()
            items.append(Single(f"column{index + 1}", variable))
        return Output(items)

    def nested(
        self, node: Tree, scope: Scope, made: Made, conditions: Conditions | None = None
    ) -> None:
        """Look at the queries inside of the expressions of a query or a change."""
        if not self._has_nested:
            return
        seen = conditions.seen if conditions is not None else set()
        pending: list[object] = [
            value for name, value in node.args.items() if name not in _LOOKED_AT
        ]
        pending += (join.args.get("on") for join in node.args.get("joins") or ())
        while pending:
            part = pending.pop()
            if isinstance(part, list):
                self.budget.spend(len(part))
                pending.extend(part)
            elif isinstance(part, exp.Query):
                if id(part) not in seen:
                    self.query(part, scope, made)
            elif isinstance(part, exp.Expr):
                self.budget.spend(1)
                pending.extend(part.args.values())


def _is_limited(node: Tree) -> bool:
    return node.args.get("limit") is not None or node.args.get("offset") is not None
