"""Statement text -> syntax tree, within bounded time.

sqlglot backtracks: nested arrays and joins that have no condition double its time with each
level, and deep nesting exhausts its stack, which compiled code does not survive. So what looks
like trouble is refused by its tokens before it is parsed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sqlglot import exp
from sqlglot.dialects.postgres import Postgres

from ..tokens import deepest

if TYPE_CHECKING:
    from collections.abc import Sequence

# It would log every statement that it leaves unparsed.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

MAX_DEPTH: Final = 40
MAX_OPEN_JOINS: Final = 5
MAX_ARRAY_DEPTH: Final = 6
MAX_SUBSCRIPTS: Final = 60

_CONDITIONS: Final = frozenset(("on", "using", "cross", "natural"))
_SET_OPERATORS: Final = frozenset(("union", "intersect", "except"))

_DIALECT: Final = Postgres()

_QUERIES: Final = (exp.Query, exp.Values, exp.Insert, exp.Update, exp.Delete, exp.Merge)

Tree = exp.Expr


def parse(text: str) -> Tree | None:
    """Parse one statement of a folded shape; None if it is not exactly one."""
    trees = _DIALECT.parse(text)
    return trees[0] if len(trees) == 1 else None


def is_safe(tokens: Sequence[str]) -> bool:
    """Say whether sqlglot parses these tokens in a time that grows with their number only."""
    depth = deepest(tokens)
    if depth < 0 or depth > MAX_DEPTH:
        return False
    joins = conditions = subscripts = array_depth = 0
    previous = ""
    for token in tokens:
        if token == "join":
            joins += 1
        elif token in _CONDITIONS:
            conditions += 1
        elif token == "[":
            subscripts += 1
            array_depth += 1
            if array_depth > MAX_ARRAY_DEPTH:
                return False
        elif token == "]":
            array_depth -= 1
        elif token in _SET_OPERATORS and previous in ("(", "union"):
            return False
        previous = token
    return joins - conditions <= MAX_OPEN_JOINS and subscripts <= MAX_SUBSCRIPTS


def is_query(tree: Tree) -> bool:
    """Say whether a tree is that of a query or of a change of data."""
    return isinstance(tree, _QUERIES)


def tables(tree: Tree) -> tuple[str, ...]:
    """Name the relations in a tree, each once, without those that WITH makes."""
    named: dict[str, None] = {}
    made: set[str] = set()
    for node in tree.walk(bfs=False):
        if isinstance(node, exp.Table):
            named[table_name(node)] = None
        elif isinstance(node, exp.CTE):
            made.add(node.alias)
    return tuple(name for name in named if name and name not in made)


def table_name(table: exp.Table) -> str:
    """Return a relation's name with its schema, or "" for a function in its place."""
    if not isinstance(table.this, exp.Identifier):
        return ""
    return ".".join(part for part in (table.db, table.name) if part)
