"""Finds guarded relations in a statement of any kind.

Queries are the business of `relations`. In all other statements a guarded name is taken for
the relation's, wherever it stands, but for the places where PostgreSQL's grammar has nothing
else than a column, a role, a cursor or the like.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..routing.tokens import closing, is_word, unquoted
from .guarded import cut
from .relations import QUERY_STARTS, QueryScan, name_at

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .guarded import Guarded

# Statements that name no relation: settings, transactions, cursors, channels, prepared ones.
_WITHOUT_RELATIONS: Final = frozenset(
    [
        "abort",
        "begin",
        "checkpoint",
        "close",
        "commit",
        "deallocate",
        "discard",
        "end",
        "fetch",
        "listen",
        "load",
        "move",
        "notify",
        "release",
        "reset",
        "rollback",
        "savepoint",
        "set",
        "show",
        "start",
        "unlisten",
    ]
)
_ROLES: Final = frozenset(("role", "user", "group", "database"))
_MODIFIERS: Final = frozenset(
    [
        "or",
        "replace",
        "temp",
        "temporary",
        "local",
        "global",
        "unlogged",
        "recursive",
        "materialized",
        "foreign",
        "unique",
    ]
)
# What may be in brackets without being a column.
_LISTS: Final = frozenset(
    ["inherits", "only", "to", "except", "into", "partitions", "partition"]
)
_OBJECTS_WITH_COLUMNS: Final = frozenset(("table", "index", "view"))
_WITH_COLUMNS: Final = frozenset(("copy", "analyze", "analyse", "vacuum", "grant", "revoke"))
_EXPLAIN_WORDS: Final = frozenset(("analyze", "analyse", "verbose"))


def guarded_relation(tokens: Sequence[str], guarded: Guarded) -> str | None:
    """The first guarded relation that a statement names, or None."""
    first = tokens[0] if tokens else ""
    if first in _WITHOUT_RELATIONS:
        return None
    if first == "explain":
        return guarded_relation(_explained(tokens), guarded)
    if first in QUERY_STARTS or first in ("call", "execute"):
        return QueryScan(tokens, guarded).find()
    if first == "copy" and tokens[1:2] == ["("]:
        end = closing(list(tokens), 1)
        found = QueryScan(tokens[2:end], guarded).find()
        return found or _Utility(["copy", *tokens[end + 1 :]], guarded).find()
    start = _query_start(tokens)
    if start is not None:
        found = QueryScan(tokens[start:], guarded).find()
        if found is not None or first in ("prepare", "declare"):
            return found
        tokens = tokens[:start]
    return _Utility(tokens, guarded).find()


def _explained(tokens: Sequence[str]) -> Sequence[str]:
    """The statement behind EXPLAIN and its options."""
    start = 1
    if tokens[1:2] == ["("] and tokens[2:3] and tokens[2] not in QUERY_STARTS:
        start = closing(list(tokens), 1) + 1
    while start < len(tokens) and tokens[start] in _EXPLAIN_WORDS:
        start += 1
    return tokens[start:]


def _query_start(tokens: Sequence[str]) -> int | None:
    """Where the query begins that a statement prepares, declares or makes a relation of."""
    first = tokens[0]
    if first == "declare":
        word = "for"
    elif first == "prepare" or (first == "create" and _object(tokens) in ("table", "view")):
        word = "as"
    else:
        return None
    level = 0
    for i, token in enumerate(tokens[:-1]):
        if token == "(":
            level += 1
        elif token == ")":
            level -= 1
        elif token == word and level == 0 and tokens[i + 1] in QUERY_STARTS:
            return i + 1
    return None


def _object(tokens: Sequence[str]) -> str:
    """What kind of object CREATE, ALTER or DROP is about."""
    return next((token for token in tokens[1:8] if token not in _MODIFIERS), "")


class _Utility:
    """One pass over the tokens of a statement that is no query."""

    def __init__(self, tokens: Sequence[str], guarded: Guarded) -> None:
        self._tokens: Final = tokens
        self._guarded: Final = guarded
        self._first: Final = tokens[0] if tokens else ""
        self._object: Final = _object(tokens)
        self._has_columns: Final = self._first in _WITH_COLUMNS or (
            self._first in ("create", "alter")
            and self._object in _OBJECTS_WITH_COLUMNS
            and "select" not in tokens  # a query among it makes nothing certain
        )

    def find(self) -> str | None:
        """The first guarded relation, or None."""
        if self._first in ("create", "alter", "drop") and self._object in _ROLES:
            return None
        tokens = self._tokens
        end = self._end()
        openers: list[str] = []
        i = 1
        while i < end:
            token = tokens[i]
            if token == "(":
                openers.append(tokens[i - 1])
            elif token == ")" and openers:
                openers.pop()
            elif is_word(token):
                parts = name_at(tokens, i)
                found = self._relation(parts, i, openers)
                if found is not None:
                    return found
                i += 2 * len(parts) - 2
            i += 1
        return None

    def _end(self) -> int:
        """Where relations end: the rest of GRANT and REVOKE names roles."""
        tokens = self._tokens
        if self._first not in ("grant", "revoke"):
            return len(tokens)
        if "on" not in tokens:
            return 0  # a role is granted
        start = tokens.index("on")
        for i in range(start, len(tokens)):
            if tokens[i] in ("to", "from") and tokens[i - 1] != ".":
                return i
        return len(tokens)

    def _relation(self, parts: list[str], i: int, openers: list[str]) -> str | None:
        """The guarded relation that a name stands for, or that the named column belongs to."""
        if len(parts) == 1:
            is_guarded = self._guarded.covers("", parts[0]) and not self._is_other(i, openers)
            return parts[0] if is_guarded else None
        is_column = self._first == "comment" and self._tokens[i - 1] == "column"
        if not is_column and self._guarded.covers(parts[-2], parts[-1]):
            return ".".join(parts[-2:])
        # The last part may be a column (OWNED BY).
        if self._guarded.covers(parts[-3] if len(parts) > 2 else "", parts[-2]):
            return ".".join(parts[-3:-1])
        return None

    def _is_other(self, i: int, openers: list[str]) -> bool:
        """Whether the lone name at `i` is certainly that of a column or a type."""
        before = self._tokens[i - 1]
        if before == "as":
            return True
        if not self._has_columns:
            return False
        if openers:
            return before in ("(", ",") and openers[-1] not in _LISTS
        start = i - 1
        while self._tokens[start] in ("if", "not", "exists"):
            start -= 1
        return self._first == "alter" and self._tokens[start] == "column"


# --- what hides the tables

# Functions whose arguments are SQL, or the names of tables.
_RUN_SQL: Final = frozenset(
    [
        "query_to_xml",
        "query_to_xmlschema",
        "query_to_xml_and_xmlschema",
        "table_to_xml",
        "table_to_xmlschema",
        "table_to_xml_and_xmlschema",
        "schema_to_xml",
        "schema_to_xmlschema",
        "schema_to_xml_and_xmlschema",
        "database_to_xml",
        "database_to_xmlschema",
        "database_to_xml_and_xmlschema",
        "ts_stat",
        "ts_rewrite",
        "connectby",
        "xpath_table",
    ]
)
_RUN_SQL_PREFIXES: Final = ("dblink", "crosstab")
# Words without which nothing of this can be in a text.
HINTS: Final = (
    r"\bdo\b",
    "function",
    "procedure",
    "_to_xml",
    "ts_stat",
    "ts_rewrite",
    "connectby",
    "xpath_table",
    "dblink",
    "crosstab",
    r"\bowned\b",
    r"\bschema\b",
    r"\btables\b",
)


def hidden_by(tokens: Sequence[str]) -> str | None:
    """What in a statement keeps from knowing its tables, or None."""
    first = tokens[0] if tokens else ""
    if first == "explain":
        return hidden_by(_explained(tokens))
    kind = _object(tokens)
    if first == "do":
        return "a DO block"
    if first == "create" and kind in ("function", "procedure") and _has_text_body(tokens):
        return f"CREATE {kind.upper()} with its body in a string"
    if first == "drop" and kind in ("schema", "owned"):
        return f"DROP {kind.upper()}"
    if first in ("grant", "revoke", "alter") and _has_all_tables(tokens):
        return "ALL TABLES"
    for i, token in enumerate(tokens[:-1]):
        if tokens[i + 1] == "(" and is_word(token):
            name = cut(unquoted(token))
            if name in _RUN_SQL or name.startswith(_RUN_SQL_PREFIXES):
                return f"function {name}, which runs SQL from a string"
    return None


def _has_text_body(tokens: Sequence[str]) -> bool:
    return any(
        token == "as" and any(after[0] == "'" for after in tokens[i + 1 : i + 4])
        for i, token in enumerate(tokens)
    )


def _has_all_tables(tokens: Sequence[str]) -> bool:
    return any(tokens[i : i + 3] == ["all", "tables", "in"] for i in range(len(tokens) - 2))
