"""INSERT, UPDATE, DELETE and MERGE: the rows that they touch, and what must not be changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlglot import exp

from ...errors import RoutingError
from ..refusals import only_one_copy
from ..types import TableChange
from .graph import Variable
from .joins import Joined, narrow
from .outputs import items_of
from .relations import BaseTable, Columns, Opaque, Output, nth
from .sources import add_joins, add_sources
from .values import bare, term_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import KeyTerm
    from .ctes import Made
    from .queries import Queries
    from .scopes import Scope
    from .trees import Tree


class Changes:
    """Looks at the changes of data in one statement.

    Attributes:
        error: why one of them must not be done, wherever its rows are.
        made: all of them.
    """

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self.error: RoutingError | None = None
        self.made: list[TableChange] = []

    def change(self, node: Tree, parent: Scope | None, made: Made) -> Columns:
        """Look at a change; return what it returns."""
        if isinstance(node, exp.Insert):
            return self._insert(node, parent, made)
        if isinstance(node, exp.Merge):
            return self._merge(node, parent, made)
        return self._update_or_delete(node, parent, made)

    # --- UPDATE and DELETE

    def _update_or_delete(self, node: Tree, parent: Scope | None, made: Made) -> Columns:
        queries, args = self._queries, node.args
        scope = queries.scope(parent)
        target = self._target(args["this"], scope)
        if target is None:
            return Opaque()
        joined = add_joins(queries, Joined(target), args["this"].args.get("joins"), scope, made)
        source = args.get("from_")
        nodes = args.get("using") or ([] if source is None else [source.args["this"]])
        sources = add_sources(queries, nodes, scope, made)
        if source is not None:
            sources = add_joins(queries, sources, args.get("joins"), scope, made)
        conditions = queries.conditions(scope, made)
        where = args.get("where")
        if where is not None:
            conditions.apply(where.args["this"])
        for part in (joined, sources):
            if part is not None:
                narrow(part, conditions, conditions.strict)
        if isinstance(node, exp.Update):
            self._check(node.expressions, target, scope)
        queries.nested(node, scope, made, conditions)
        return self._returned(node, scope)

    def _target(
        self, node: Tree, scope: Scope, *, makes_rows: bool = False
    ) -> BaseTable | None:
        """Add the table that is changed; None if it is not to be found in the tree."""
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            return None
        self._note(node, makes_rows=makes_rows)
        target = self._queries.base(node.db, node.name)
        alias = node.args.get("alias")
        name = node.name if alias is None else alias.name
        scope.add(target, name, is_plain=alias is None)
        return target

    def _note(self, table: exp.Table, columns: Sequence[str] = (), *, makes_rows: bool) -> None:
        self.made.append(TableChange(table.db, table.name, makes_rows, tuple(columns)))
        if self._queries.tables.is_omnisharded(table.db, table.name):
            self.error = only_one_copy(table.name)

    def _returned(self, node: Tree, scope: Scope) -> Columns:
        returning = node.args.get("returning")
        if returning is None:
            return Output()
        return Output(items_of(returning.expressions, scope, self._queries.tables.type))

    # --- assignments

    def _check(
        self,
        assignments: Sequence[Tree],
        target: BaseTable,
        scope: Scope,
        kept: frozenset[str] = frozenset(),
    ) -> None:
        """Refuse to assign to the sharding key, unless it is what it has already.

        Args:
            assignments: what follows SET.
            target: the table.
            scope: tells what names mean.
            kept: relations whose key is that of the row.
        """
        if not target.key:
            return
        for assignment in assignments:
            if not isinstance(assignment, exp.EQ):
                continue
            left, right = assignment.args["this"], bare(assignment.args["expression"])
            columns = left.expressions if isinstance(left, exp.Tuple) else [left]
            values = right.expressions if isinstance(right, exp.Tuple) else [right]
            values = values if len(values) == len(columns) else [None] * len(columns)
            for column, value in zip(columns, values, strict=True):
                if self._assigned(column) == target.key and not self._is_same(
                    value, target, scope, kept
                ):
                    self.error = RoutingError(
                        f'sharding key "{target.key}" cannot be updated',
                        hint="Delete the row and insert it with its new key.",
                    )

    def _assigned(self, node: Tree) -> str:
        """Return the name of the column that is assigned to, or to a part of it."""
        while isinstance(node, exp.Bracket | exp.Dot | exp.Paren):
            node = node.args["this"]
        return node.name if isinstance(node, exp.Column) else ""

    def _is_same(
        self, value: Tree | None, target: BaseTable, scope: Scope, kept: frozenset[str]
    ) -> bool:
        if not isinstance(value, exp.Column) or value.name != target.key:
            return False
        if value.table in kept:
            return True
        reference = scope.resolve(value)
        return reference is not None and reference.relation is target

    # --- INSERT

    def _insert(self, node: exp.Insert, parent: Scope | None, made: Made) -> Columns:
        queries = self._queries
        into = node.args["this"]
        table = into.args["this"] if isinstance(into, exp.Schema) else into
        scope = queries.scope(parent)
        if not isinstance(table, exp.Table) or not isinstance(table.this, exp.Identifier):
            return Opaque()
        self._note(table, _names(into), makes_rows=True)
        key, is_certain = queries.tables.key_of(table.db, table.name)
        names = _names(into) or queries.tables.columns_of(table.db, table.name)
        position = list(names).index(key) if key and names and key in names else -1
        source = node.args.get("expression")
        inserted = Variable()
        is_keyed = bool(key) and (is_certain or position >= 0)
        if isinstance(source, exp.Values):
            queries.nested(source, queries.scope(parent), made)
            if is_keyed:
                self._rows(source, position, inserted, table.name)
        else:
            found = None if source is None else queries.query(source, parent, made)
            if found is not None and position >= 0:
                passed = nth(found, position)
                inserted.limits += () if passed is None else (passed,)
            if is_keyed:
                queries.use(table.name, inserted)
        target = _Inserted(table.name, key, inserted)
        alias = table.args.get("alias")
        scope.add(target, table.name if alias is None else alias.name)
        conflict = node.args.get("conflict")
        if conflict is not None:
            self._conflict(conflict, target, scope, made)
        return self._returned(node, scope)

    def _rows(self, values: exp.Values, position: int, key: Variable, table: str) -> None:
        """Note the keys of new rows; those that are not known are a use by themselves."""
        known: list[KeyTerm] = []
        rows = values.expressions
        for row in rows:
            cells = row.expressions if isinstance(row, exp.Tuple) else [row]
            if 0 <= position < len(cells):
                term = term_of(cells[position], self._queries.tables.type)
                if term is not None:
                    known.append(term)
        if known:
            key.demands.append(tuple(known))
            self._queries.use(table, key)
        if len(known) < len(rows):
            self._queries.use(table, Variable())

    def _conflict(
        self, conflict: exp.OnConflict, target: BaseTable, scope: Scope, made: Made
    ) -> None:
        keys = [column.this for column in conflict.args.get("conflict_keys") or ()]
        is_kept = any(isinstance(k, exp.Column) and k.name == target.key for k in keys)
        self._check(
            conflict.expressions,
            target,
            scope,
            frozenset(("excluded",)) if is_kept else frozenset(),
        )
        self._queries.nested(conflict, scope, made)

    # --- MERGE

    def _merge(self, node: exp.Merge, parent: Scope | None, made: Made) -> Columns:
        queries = self._queries
        scope = queries.scope(parent)
        target = self._target(node.args["this"], scope, makes_rows=True)
        if target is None:
            return Opaque()
        sources = add_sources(queries, (node.args["using"],), scope, made)
        conditions = queries.conditions(scope, made)
        whens = node.args["whens"].expressions
        narrowed: list[Columns] = []
        # Each kind of WHEN NOT MATCHED keeps the rows of one side that find no partner.
        if not any(when.args.get("source") for when in whens):
            narrowed.append(target)
        if sources is not None and all(_is_matched(when) for when in whens):
            narrowed += sources.relations()
        conditions.apply(node.args["on"], narrowed)
        if sources is not None:
            narrow(sources, conditions, set())
        for when in whens:
            action = when.args.get("then")
            if isinstance(action, exp.Update):
                self._check(action.expressions, target, scope)
            elif isinstance(action, exp.Insert):
                self._merged_row(action, node.args["this"], target, scope)
        queries.nested(node, scope, made, conditions)
        return self._returned(node, scope)

    def _merged_row(
        self, action: exp.Insert, table: exp.Table, target: BaseTable, scope: Scope
    ) -> None:
        if not target.key:
            return
        into, row = action.args.get("this"), action.args.get("expression")
        names: Sequence[str] | None
        if isinstance(into, exp.Tuple) and row is not None:
            names = [column.name for column in into.expressions]
        else:
            names = self._queries.tables.columns_of(table.db, table.name)
        key = Variable()
        if names and target.key in names and isinstance(row, exp.Tuple):
            index = list(names).index(target.key)
            if index < len(row.expressions):
                output = items_of([row.expressions[index]], scope, self._queries.tables.type)
                found = Output(output).nth(0)
                key.limits += () if found is None else (found,)
        self._queries.use(target.label, key)


class _Inserted(BaseTable):
    """The new rows of a table."""

    def __init__(self, label: str, key: str, variable: Variable) -> None:
        super().__init__(label, key, None, lambda label, key: None, is_certain=False)
        self._variables[key] = variable


def _names(into: Tree) -> list[str]:
    if not isinstance(into, exp.Schema):
        return []
    return [column.name for column in into.expressions]


def _is_matched(when: Tree) -> bool:
    return bool(when.args.get("matched"))
