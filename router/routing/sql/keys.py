"""The automatic sharding key: which values of its column a statement's tree names.

Each SELECT, UPDATE, DELETE and MERGE, at whatever depth, is looked at by itself: its tables,
and what its WHERE and its join conditions demand of the key of each. The conditions of one
table hold together, so any of them narrows the shards down; the tables of a statement each
have a shard, so their shards add up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sqlglot import exp

from ...errors import RoutingError
from ..types import KeyTerms
from .values import integer_type, term_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..columns import KeyColumn, ShardedTables
    from ..types import KeyConditions
    from .trees import Tree

_SCOPES: Final = (exp.Select, exp.Update, exp.Delete, exp.Merge)

Demands = dict[str, list[KeyTerms]]
"""What is demanded of the key of each table, by the table's name in its query."""


@dataclass(frozen=True, slots=True)
class Keys:
    """What statements say about the sharding key."""

    conditions: tuple[KeyConditions, ...] = ()
    error: RoutingError | None = None

    def joined(self, other: Keys) -> Keys:
        """Put the findings of two statements together."""
        return Keys(self.conditions + other.conditions, self.error or other.error)


def extract(tree: Tree, tables: ShardedTables) -> Keys:
    """Find what a statement says about the sharding keys."""
    found = Keys()
    for key in tables.keys:
        found = found.joined(_extract(tree, key, tables))
    return found


def _extract(tree: Tree, key: KeyColumn, tables: ShardedTables) -> Keys:
    made = {cte.alias: cte.this for cte in tree.find_all(exp.CTE)}
    found: list[KeyConditions] = []
    error: RoutingError | None = None
    for node in tree.walk():
        if isinstance(node, _SCOPES):
            demands = _Scope(node, key, made).demands()
            found.extend(tuple(conditions) for conditions in demands.values())
        elif isinstance(node, exp.Insert):
            terms = _inserted(node, key, tables)
            found.extend([(terms,)] if terms else [])
        if isinstance(node, (exp.Update, exp.OnConflict)) and _updates_key(node, key):
            error = RoutingError(
                f'sharding key "{key.column}" cannot be updated',
                hint="Delete the row and insert it with its new key.",
            )
    return Keys(tuple(found), error)


class _Scope:
    """One query: its tables by the names that they have in it."""

    def __init__(self, node: Tree, key: KeyColumn, made: Mapping[str, Tree]) -> None:
        self._node = node
        self._key = key
        self._keyed: list[str] = []
        for source in _sources(node):
            if _has_key(source, key, made):
                self._keyed.append(source.alias_or_name)

    def demands(self) -> Demands:
        """Collect what WHERE and all join conditions demand together."""
        return self._together(list(_conditions(self._node)))

    def _together(self, parts: Sequence[Tree]) -> Demands:
        together: Demands = {}
        for part in parts:
            for name, conditions in self._demanded(part).items():
                together.setdefault(name, []).extend(conditions)
        return together

    def _demanded(self, condition: Tree) -> Demands:
        condition = _bare(condition)
        if isinstance(condition, exp.And):
            return self._together(_operands(condition, exp.And))
        if isinstance(condition, exp.Or):
            return self._either([self._demanded(o) for o in _operands(condition, exp.Or)])
        if isinstance(condition, exp.EQ):
            left, right = condition.left, condition.right
            return self._one_of(left, _members(right)) or self._one_of(right, [left])
        if isinstance(condition, exp.In) and not condition.args.get("query"):
            return self._one_of(condition.this, condition.expressions)
        return {}

    def _either(self, branches: Sequence[Demands]) -> Demands:
        """Keep what all branches of an OR demand: then the key is in one of their values."""
        either: Demands = {}
        for name in branches[0]:
            if all(name in branch for branch in branches):
                least = (min(branch[name], key=len) for branch in branches)
                either[name] = [tuple(term for terms in least for term in terms)]
        return either

    def _one_of(self, column: Tree, values: Sequence[Tree]) -> Demands:
        name = self._table_of(_uncast(column))
        if name is None or not values:
            return {}
        terms = [term_of(value) for value in values]
        known = tuple(term for term in terms if term is not None)
        return {name: [known]} if len(known) == len(terms) else {}

    def _table_of(self, column: Tree) -> str | None:
        """Return the name of the table whose key a column is, or None if it is no key."""
        if not isinstance(column, exp.Column) or column.name != self._key.column:
            return None
        qualifier = column.table
        if not self._key.table:
            return qualifier
        if qualifier:
            return qualifier if qualifier in self._keyed else None
        # With two of them PostgreSQL calls the bare column ambiguous.
        return self._keyed[0] if len(self._keyed) == 1 else None


def _sources(node: Tree) -> Iterator[Tree]:
    """Yield the tables and sub-selects that a query's columns can belong to."""
    if isinstance(node, (exp.Update, exp.Delete, exp.Merge)):
        yield from _with_joined(node.this)
    for name in ("from_", "using"):
        found = node.args.get(name)
        for source in found if isinstance(found, list) else [found]:
            if isinstance(source, exp.Expr):
                yield from _with_joined(source.this if isinstance(source, exp.From) else source)
    for join in node.args.get("joins") or ():
        yield from _with_joined(join.this)


def _with_joined(source: Tree) -> Iterator[Tree]:
    if not isinstance(source, (exp.Table, exp.Subquery)):
        return
    if isinstance(source, exp.Subquery) and isinstance(source.this, exp.Table):
        yield from _with_joined(source.this)
    else:
        yield source
    for join in source.args.get("joins") or ():
        yield from _with_joined(join.this)


def _conditions(node: Tree) -> Iterator[Tree]:
    where = node.args.get("where")
    if where is not None:
        yield where.this
    if isinstance(node, exp.Merge):
        yield node.args["on"]
    for source in (node, *_sources(node)):
        for join in source.args.get("joins") or ():
            if join.args.get("on") is not None:
                yield join.args["on"]


def _has_key(source: Tree, key: KeyColumn, made: Mapping[str, Tree], depth: int = 8) -> bool:
    """Say whether the key is among the columns of a table, sub-select or CTE."""
    if isinstance(source, exp.Table):
        body = None if source.db else made.get(source.name)
        if body is None:
            return key.is_in(source.db, source.name)
        return depth > 0 and _passes_key(body, key, made, depth - 1)
    return depth > 0 and _passes_key(source.this, key, made, depth - 1)


def _passes_key(query: Tree, key: KeyColumn, made: Mapping[str, Tree], depth: int) -> bool:
    while isinstance(query, (exp.Subquery, exp.SetOperation)):
        query = query.this
    if not isinstance(query, exp.Select):
        return False
    passes = any(
        column.is_star or (isinstance(column, exp.Column) and column.name == key.column)
        for column in query.expressions
    )
    return passes and any(_has_key(source, key, made, depth) for source in _sources(query))


def _inserted(insert: exp.Insert, key: KeyColumn, tables: ShardedTables) -> KeyTerms:
    """Return the key of each new row, or nothing if one of them is not known."""
    schema = insert.this
    table = schema.this if isinstance(schema, exp.Schema) else schema
    if not isinstance(table, exp.Table) or not key.is_in(table.db, table.name):
        return ()
    if isinstance(schema, exp.Schema):
        names = [column.name for column in schema.expressions]
    else:
        names = list(tables.columns_of(table.db, table.name) or ())
    if key.column not in names:
        return ()
    position = names.index(key.column)
    rows = _rows(insert.args.get("expression"))
    terms = [term_of(row[position]) if position < len(row) else None for row in rows]
    known = tuple(term for term in terms if term is not None)
    return known if len(known) == len(terms) else ()


def _rows(source: object) -> list[list[Tree]]:
    if isinstance(source, exp.Values):
        return [
            row.expressions if isinstance(row, exp.Tuple) else [row]
            for row in source.expressions
        ]
    return [source.expressions] if isinstance(source, exp.Select) else []


def _updates_key(node: Tree, key: KeyColumn) -> bool:
    """Say whether SET assigns to the key column."""
    table = node.this if isinstance(node, exp.Update) else None
    if table is None:
        above = node.find_ancestor(exp.Insert, exp.Merge)
        table = above.this if above is not None else None
    if isinstance(table, exp.Schema):
        table = table.this
    if isinstance(table, exp.Table) and not key.is_in(table.db, table.name):
        return False
    targets = (a.this for a in node.expressions if isinstance(a, exp.EQ))
    return any(
        column.name == key.column
        for target in targets
        for column in target.find_all(exp.Column)
    )


def _bare(node: Tree) -> Tree:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _uncast(node: Tree) -> Tree:
    node = _bare(node)
    while isinstance(node, exp.Cast) and integer_type(node):
        node = _bare(node.this)
    return node


def _operands(node: Tree, kind: type[exp.Connector]) -> list[Tree]:
    """List the operands of ANDs or ORs, which can be more than the stack is deep."""
    operands: list[Tree] = []
    pending = [node]
    while pending:
        part = _bare(pending.pop())
        if isinstance(part, kind):
            pending += (part.right, part.left)
        else:
            operands.append(part)
    return operands


def _members(value: Tree) -> list[Tree]:
    """Return the members of ANY (ARRAY[..]), or the value itself."""
    if not isinstance(value, exp.Any):
        return [value]
    array = _bare(value.this)
    return array.expressions if isinstance(array, exp.Array) else []
