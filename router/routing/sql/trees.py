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
MAX_TYPE_DEPTH: Final = 6
MAX_SUBSCRIPTS: Final = 60

_SET_OPERATORS: Final = frozenset(("union", "intersect", "except"))
_UNCONDITIONAL: Final = frozenset(("cross", "natural"))
_TYPES: Final = frozenset(
    word.lower()
    for word, token in Postgres.Tokenizer.KEYWORDS.items()
    if token in Postgres.Parser.TYPE_TOKENS
)

_DIALECT: Final = Postgres()

_QUERIES: Final = (exp.Query, exp.Values, exp.Insert, exp.Update, exp.Delete, exp.Merge)

Tree = exp.Expr


def parse(text: str) -> Tree | None:
    """Parse one statement of a folded shape; None if it is not exactly one."""
    trees = _DIALECT.parse(text)
    return trees[0] if len(trees) == 1 else None


def is_safe(tokens: Sequence[str]) -> bool:
    """Say whether sqlglot parses these tokens in a time that grows with their number only."""
    return (
        0 <= deepest(tokens) <= MAX_DEPTH and _joins_are_safe(tokens) and _nests_safely(tokens)
    )


def _joins_are_safe(tokens: Sequence[str]) -> bool:
    """Say whether few joins wait for their condition at a time."""
    waiting = 0
    for i, token in enumerate(tokens):
        if token == "join":
            waiting += not _is_unconditional(tokens, i)
            if waiting > MAX_OPEN_JOINS:
                return False
        elif token in ("on", "using") and waiting:
            waiting -= 1
    return True


def _is_unconditional(tokens: Sequence[str], join: int) -> bool:
    """Say whether a JOIN is a CROSS JOIN or a NATURAL [LEFT [OUTER]] JOIN."""
    for i in range(join - 1, max(join - 4, 0), -1):
        if tokens[i] in _UNCONDITIONAL:
            return tokens[i - 1] != "join"
    return False


def _nests_safely(tokens: Sequence[str]) -> bool:
    """Say whether few brackets are open at a time that could belong to a type."""
    subscripts = 0
    brackets: list[bool] = []
    previous = ""
    for token in tokens:
        if token in ("(", "["):
            subscripts += token == "["
            brackets.append(token == "[" or previous in _TYPES)
            if brackets[-1] and sum(brackets) > MAX_TYPE_DEPTH:
                return False
        elif token in (")", "]"):
            brackets.pop()
        elif token in _SET_OPERATORS and previous in ("(", "union"):
            return False
        previous = token
    return subscripts <= MAX_SUBSCRIPTS


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
