"""FROM: tables, sub-selects, functions and their joins, added to the scope of a query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from .ctes import referred
from .joins import Joined, merge, narrow
from .relations import Columns, Opaque, Renamed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .ctes import Made
    from .queries import Queries
    from .scopes import Scope
    from .trees import Tree

_STEPS_PER_RELATION: Final = 5


def add_sources(
    queries: Queries, nodes: Sequence[Tree], scope: Scope, made: Made
) -> Joined | None:
    """Add what a comma separates in FROM or USING."""
    joined = None
    for node in nodes:
        right = _source(queries, node, scope, made)
        joined = right if joined is None else Joined(left=joined, right=right)
    return joined


def add_joins(
    queries: Queries,
    joined: Joined | None,
    joins: Sequence[exp.Join] | None,
    scope: Scope,
    made: Made,
) -> Joined | None:
    """Join what follows to what has been joined.

    A comma separates joins that have nothing to do with each other; the tree, which has them
    all in one row, does not say so.
    """
    before: Joined | None = None
    for join in joins or ():
        right = _source(queries, join.args["this"], scope, made)
        if joined is None:
            joined = right
        elif _is_comma(join):
            before = joined if before is None else Joined(left=before, right=joined)
            joined = right
        else:
            merge(joined, right, join, scope, queries.key_names)
            joined = Joined(left=joined, right=right, join=join)
    return joined if before is None or joined is None else Joined(left=before, right=joined)


def _is_comma(join: exp.Join) -> bool:
    return not any(join.args.get(name) for name in ("on", "using", "kind", "side", "method"))


def base_table(queries: Queries, node: exp.Table) -> Columns:
    """Return a use of a table of the database."""
    return queries.base(node.db, node.name)


def _source(queries: Queries, node: Tree, scope: Scope, made: Made) -> Joined:
    queries.budget.spend(_STEPS_PER_RELATION)
    alias = node.args.get("alias")
    name = "" if alias is None else alias.name
    if isinstance(node, exp.Subquery) and _is_join(node):
        joined = _bracketed(queries, node, name, scope, made)
    else:
        relation, own = _relation(queries, node, scope, made)
        names = () if alias is None else [c.name for c in alias.args.get("columns") or ()]
        if names:
            relation = Renamed(relation, names)
        scope.add(relation, name or own, is_plain=not name)
        joined = Joined(relation)
    return add_joins(queries, joined, node.args.get("joins"), scope, made) or joined


def _is_join(node: Tree) -> bool:
    while isinstance(node, exp.Subquery):
        node = node.args["this"]
    return isinstance(node, exp.Table)


def _bracketed(
    queries: Queries, node: exp.Subquery, name: str, scope: Scope, made: Made
) -> Joined:
    """Add ``(a JOIN b ..)``, whose names are hidden if it has one itself."""
    inner = node.args["this"]
    if not name:
        return _source(queries, inner, scope, made)
    hidden = queries.scope(scope.parent)
    joined = _source(queries, inner, hidden, made)
    narrow(joined, queries.conditions(hidden, made), set())
    scope.add(hidden, name)
    return Joined(hidden)


def _relation(queries: Queries, node: Tree, scope: Scope, made: Made) -> tuple[Columns, str]:
    """Return what one item of FROM is, and its name if it has no alias."""
    if isinstance(node, exp.Lateral):
        inner = node.args["this"]
        if isinstance(inner, exp.Subquery):
            return queries.query(inner, scope, made), ""
    elif isinstance(node, exp.Table):
        if isinstance(node.args.get("this"), exp.Identifier):
            entry = None if node.db else made.get(node.name)
            if entry is not None:
                return referred(queries, entry), node.name
            return base_table(queries, node), node.name
    elif isinstance(node, exp.Query | exp.Values):
        return queries.query(node, scope.parent, made), ""
    queries.nested(node, scope, made)
    return Opaque(), ""
