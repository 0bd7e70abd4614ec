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

from ..limits import MAX_DEPTH, TooComplex, too_many
from ..tokens import deepest

if TYPE_CHECKING:
    from collections.abc import Sequence

# It would log every statement that it leaves unparsed.
logging.getLogger("sqlglot").setLevel(logging.CRITICAL)

MAX_OPEN_JOINS: Final = 5
MAX_COSTLY_DEPTH: Final = 6
MAX_SUBSCRIPTS: Final = 60

_SET_OPERATORS: Final = frozenset(("union", "intersect", "except"))
_SIDES: Final = frozenset(("left", "right", "full", "inner", "outer"))
_LIMITS: Final = frozenset(("limit", "offset", "fetch", "first", "next"))
TYPES: Final = frozenset(
    word.lower()
    for word, token in Postgres.Tokenizer.KEYWORDS.items()
    if token in Postgres.Parser.TYPE_TOKENS
)

_DIALECT: Final = Postgres()
# Both forget one text when they are given the next. To make them takes as long as to parse.
_tokenizer: Final = _DIALECT.tokenizer()
_parser: Final = _DIALECT.parser()

_QUERIES: Final = (exp.Query, exp.Values, exp.Insert, exp.Update, exp.Delete, exp.Merge)

Tree = exp.Expr


def parse(text: str) -> Tree | None:
    """Parse one statement of a folded fingerprint; None if it is not exactly one."""
    trees = _parser.parse(_tokenizer.tokenize(text), text)
    return trees[0] if len(trees) == 1 else None


def is_balanced(tokens: Sequence[str]) -> bool:
    """Say whether each bracket that is opened is closed."""
    return deepest(tokens) >= 0


def check(tokens: Sequence[str]) -> None:
    """See that sqlglot parses these tokens in a time that grows with their number only.

    Raises:
        TooComplex: it may not.
    """
    if deepest(tokens) > MAX_DEPTH:
        raise TooComplex(f"brackets nested more than {MAX_DEPTH} deep")
    if not _joins_are_safe(tokens):
        raise too_many(MAX_OPEN_JOINS, "joins without conditions of their own")
    _check_nesting(tokens)


def _joins_are_safe(tokens: Sequence[str]) -> bool:
    """Say whether few joins lack a condition before the next join begins."""
    open_joins = 0
    lacks_condition = False
    for i, token in enumerate(tokens):
        if token == "join":
            open_joins += lacks_condition
            lacks_condition = not _is_unconditional(tokens, i)
        elif token in ("on", "using") and tokens[i - 1] not in ("as", "on", "join"):
            lacks_condition = False
    return open_joins <= MAX_OPEN_JOINS


def _is_unconditional(tokens: Sequence[str], join: int) -> bool:
    """Say whether a JOIN is a CROSS JOIN or a NATURAL [LEFT [OUTER]] JOIN."""
    i = join - 1
    while i > 0 and tokens[i] in _SIDES:
        i -= 1
    return i > 0 and tokens[i] in ("cross", "natural") and tokens[i - 1] != "join"


def _check_nesting(tokens: Sequence[str]) -> None:
    """See that few brackets are open at a time that sqlglot reads more than once."""
    subscripts = 0
    is_costly: list[bool] = []
    for i, token in enumerate(tokens):
        previous = tokens[i - 1] if i else ""
        if token in ("(", "["):
            subscripts += token == "["
            is_costly.append(
                token == "["
                or previous in TYPES
                or not _LIMITS.isdisjoint(tokens[max(i - 2, 0) : i])
            )
            if is_costly[-1] and sum(is_costly) > MAX_COSTLY_DEPTH:
                raise TooComplex(f"arrays, types or limits nested {MAX_COSTLY_DEPTH} deep")
        elif token in (")", "]"):
            is_costly.pop()
        elif token in _SET_OPERATORS and previous in ("(", "union"):
            raise TooComplex("set operators that follow each other")
    if subscripts > MAX_SUBSCRIPTS:
        raise too_many(MAX_SUBSCRIPTS, "subscripts")


def is_query(tree: Tree) -> bool:
    """Say whether a tree is that of a query or of a change of data."""
    return isinstance(tree, _QUERIES)


def tables(tree: Tree) -> tuple[str, ...]:
    """Name the relations in a tree, each once, without those that WITH makes."""
    named: dict[str, None] = {}
    made: set[str] = set()
    outer: set[str] = set()
    for node in tree.find_all(exp.Table, exp.CTE, bfs=False):
        if isinstance(node, exp.CTE):
            made.add(node.alias)
        elif isinstance(node, exp.Table):
            name = table_name(node)
            named[name] = None
            if _is_in_own_cte(node, name):
                outer.add(name)
    return tuple(name for name in named if name and (name not in made or name in outer))


def _is_in_own_cte(table: exp.Table, name: str) -> bool:
    """Say whether ``WITH name AS (.. FROM name ..)`` is it, which means another relation."""
    cte = table.find_ancestor(exp.CTE)
    while cte is not None and cte.alias != name:
        cte = cte.find_ancestor(exp.CTE)
    above = None if cte is None else cte.parent
    return above is not None and not above.args.get("recursive")


def table_name(table: exp.Table) -> str:
    """Return a relation's name with its schema, or "" for a function in its place."""
    if not isinstance(table.this, exp.Identifier):
        return ""
    return ".".join(part for part in (table.db, table.name) if part)
