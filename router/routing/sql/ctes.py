"""The queries of WITH, and what a reference to one of them stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from .relations import Columns, Opaque, Output, Renamed, nth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .queries import Queries
    from .scopes import Scope
    from .trees import Tree

CHANGES: Final = (exp.Insert, exp.Update, exp.Delete, exp.Merge)


class Cte:
    """A query in a WITH.

    Attributes:
        query: its tree.
        parent: what its columns can refer to.
        made: the queries that it can refer to.
        names: of its columns, as far as the WITH has them.
        columns: what is known of it; None if each reference is to be looked at by itself.
    """

    __slots__ = ("columns", "made", "names", "parent", "query")

    def __init__(
        self, query: Tree, parent: Scope | None, made: Made, names: Sequence[str]
    ) -> None:
        self.query = query
        self.parent = parent
        self.made = made
        self.names = names
        self.columns: Columns | None = None


Made = dict[str, Cte]
"""What WITH has made, by name."""


def with_(queries: Queries, node: Tree, parent: Scope | None, made: Made) -> Made:
    """Take in the queries of a WITH; return all that can be referred to behind it."""
    clause = node.args.get("with_")
    if clause is None:
        return made
    is_recursive = bool(clause.args.get("recursive"))
    made = dict(made)
    for part in clause.expressions:
        alias = part.args["alias"]
        query = part.args["this"]
        names = [name.name for name in alias.args.get("columns") or ()]
        entry = Cte(query, parent, made if is_recursive else dict(made), names)
        if isinstance(query, CHANGES):
            # It is executed once, whatever becomes of the rows that it returns.
            entry.columns = Output((queries.query(query, parent, entry.made),), is_opaque=True)
        made[alias.name] = entry
    return made


def referred(queries: Queries, entry: Cte) -> Columns:
    """Return the columns of a query of WITH, for one reference to it."""
    if entry.columns is not None:
        return _renamed(entry, entry.columns)
    if entry not in entry.made.values():
        return _renamed(entry, queries.query(entry.query, entry.parent, entry.made))
    if isinstance(entry.query, exp.SetOperation):
        return _repeated(queries, entry)
    # It may refer to itself, which PostgreSQL does not allow: it is not followed round.
    entry.columns = Opaque()
    try:
        return _renamed(entry, queries.query(entry.query, entry.parent, entry.made))
    finally:
        entry.columns = None


def _repeated(queries: Queries, entry: Cte) -> Columns:
    """Look at a recursive query.

    A column that the repeated part passes on from the row before has only the values that the
    first part gives it.
    """
    own = Opaque()
    entry.columns = own
    try:
        first = queries.query(entry.query.args["this"], entry.parent, entry.made)
        names = entry.names or first.names() or ()
        for name in names:
            own.column(name)
        again = queries.query(entry.query.args["expression"], entry.parent, entry.made)
    finally:
        entry.columns = None
    for index, name in enumerate(names):
        start, passed = nth(first, index), nth(again, index)
        variable = own.column(name)
        if start is not None and passed is not None and passed.reaches(variable):
            variable.limits.append(start)
    return own


def _renamed(entry: Cte, columns: Columns) -> Columns:
    return Renamed(columns, entry.names) if entry.names else columns
