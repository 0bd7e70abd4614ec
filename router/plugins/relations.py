"""Finds guarded relations in the tokens of a query, without a parser.

In PostgreSQL's grammar of queries and changes of data, the name of a relation stands in few
places: after FROM, JOIN, INTO, UPDATE, TABLE or USING, in a list that one of these begins, and
in brackets in such a place. So the tokens decide, and nothing depends on a parser's idea of
PostgreSQL. Where more than one reading is possible, the name is taken for a relation's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..routing.tokens import is_word, unquoted
from .guarded import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .guarded import Guarded

QUERY_STARTS: Final = frozenset(
    ("select", "with", "values", "table", "insert", "update", "delete", "merge", "(")
)
# All of them are reserved, so that none can be the name of a table or its alias.
_ENDS_OF_FROM: Final = frozenset(
    (
        "select",
        "where",
        "group",
        "having",
        "window",
        "union",
        "intersect",
        "except",
        "order",
        "limit",
        "offset",
        "fetch",
        "returning",
        "do",
    )
)
_AFTER_FOR: Final = frozenset(("update", "share", "no", "key", "read"))
# Functions with a FROM in their brackets that is not a clause.
_CALLS_WITH_FROM: Final = frozenset(("extract", "substring", "trim", "overlay"))
_AFTER_INTO: Final = frozenset(["temp", "temporary", "unlogged", "local", "global", "table"])


def name_at(tokens: Sequence[str], start: int) -> list[str]:
    """The parts of the dotted name whose first part is at `start`."""
    parts = [cut(unquoted(tokens[start]))]
    i = start + 1
    while i + 1 < len(tokens) and tokens[i] == "." and is_word(tokens[i + 1]):
        parts.append(cut(unquoted(tokens[i + 1])))
        i += 2
    return parts


class _Level:
    """What is open between one bracket and its end.

    Attributes:
        in_list: a comma is followed by a relation.
        joined: a JOIN has been seen since, so that USING belongs to it.
        plain_from: FROM is no clause here.
        made: the names that WITH has made.
        naming: the next name is one that WITH makes.
        pending: the name whose query is to come.
        recursive: they stand for their queries from their names on.
        makes: the name that stands for the query in these brackets.
    """

    __slots__ = (
        "in_list",
        "joined",
        "made",
        "makes",
        "naming",
        "pending",
        "plain_from",
        "recursive",
    )

    def __init__(
        self, *, in_list: bool = False, plain_from: bool = False, makes: str = ""
    ) -> None:
        self.in_list = in_list
        self.joined = False
        self.plain_from: Final = plain_from
        self.made: set[str] = set()
        self.naming = False
        self.pending = ""
        self.recursive = False
        self.makes: Final = makes


class QueryScan:
    """One pass over the tokens of a query or a change of data.

    A name that WITH makes is no relation where PostgreSQL sees it: from the end of its query
    (with RECURSIVE, from its name) to the end of the brackets that the WITH is in.
    """

    def __init__(self, tokens: Sequence[str], guarded: Guarded) -> None:
        self._tokens: Final = tokens
        self._guarded: Final = guarded
        self._levels = [_Level()]
        # The next name is a relation's; and if so, not one that WITH has made.
        self._expects = False
        self._is_target = False

    def find(self) -> str | None:
        """The first guarded relation, or None."""
        i = 0
        while i < len(self._tokens):
            token = self._tokens[i]
            level = self._levels[-1]
            if token in ("(", "["):
                self._open(i)
            elif token in (")", "]"):
                self._close(i)
            elif token == ",":
                self._is_target = False
                self._expects = level.in_list and not level.naming
            elif level.naming and is_word(token) and token != "recursive":
                self._name_query(level, token)
            elif not self._keyword(i) and is_word(token):
                parts = name_at(self._tokens, i)
                i += 2 * len(parts) - 2
                if self._expects and self._is_guarded(parts, i + 1):
                    return ".".join(parts[-2:])
                self._expects = False
            i += 1
        return None

    # --- brackets

    def _open(self, i: int) -> None:
        tokens, level = self._tokens, self._levels[-1]
        before = tokens[i - 1] if i else ""
        is_query = tokens[i + 1 : i + 2] != [] and tokens[i + 1] in QUERY_STARTS - {"("}
        makes = ""
        if level.pending and before in ("as", "materialized"):
            makes, level.pending = level.pending, ""
        self._expects = self._expects and not is_query and tokens[i] == "("
        plain_from = before in _CALLS_WITH_FROM and not is_query and not self._expects
        self._levels.append(_Level(in_list=self._expects, plain_from=plain_from, makes=makes))

    def _close(self, i: int) -> None:
        closed = self._levels.pop()
        self._expects = self._is_target = False
        if not self._levels:
            # Not balanced: it is a piece of something, or PostgreSQL refuses it.
            self._levels.append(_Level())
            return
        if closed.makes:
            level = self._levels[-1]
            level.made.add(closed.makes)
            level.naming = self._tokens[i + 1 : i + 2] == [","]

    def _name_query(self, level: _Level, token: str) -> None:
        level.naming = False
        level.pending = cut(unquoted(token))
        if level.recursive:
            level.made.add(level.pending)

    # --- words

    def _keyword(self, i: int) -> bool:
        """Act on a keyword of the grammar; whether it is one."""
        tokens, level = self._tokens, self._levels[-1]
        token = tokens[i]
        before = tokens[i - 1] if i else ""
        if token == "from":
            if not level.plain_from and not _is_comparison(tokens, i):
                self._begin_list(level, is_target=before == "delete")
        elif token == "using":
            if not level.joined:
                self._begin_list(level, is_target=False)
        elif token == "join":
            level.joined = self._expects = True
            self._is_target = False
        elif token in ("into", "update"):
            self._expects = self._is_target = True
        elif token == "table":
            self._is_target = self._expects and self._is_target
            self._expects = True
        elif token == "with" and before in ("", "("):
            level.naming = True
            level.recursive = tokens[i + 1 : i + 2] == ["recursive"]
        elif token in ("only", "lateral") and self._expects:
            pass
        elif token in _AFTER_INTO and self._expects and self._is_target:
            # Perhaps a table has such a name; but no guarded one hides behind it.
            return not self._guarded.covers("", token)
        elif _ends_list(tokens, i):
            level.in_list = self._expects = False
        elif token in ("delete", "merge"):
            level.joined = False
            return False
        else:
            return False
        return True

    def _begin_list(self, level: _Level, *, is_target: bool) -> None:
        level.in_list = self._expects = True
        self._is_target = is_target

    # --- relations

    def _is_guarded(self, parts: list[str], after: int) -> bool:
        """Whether a relation, whose name ends before `after`, is a guarded one."""
        if not self._is_target:
            if self._tokens[after : after + 1] == ["("]:
                return False  # a function
            if len(parts) == 1 and any(parts[0] in level.made for level in self._levels):
                return False
        return self._guarded.covers(parts[-2] if len(parts) > 1 else "", parts[-1])


def _ends_list(tokens: Sequence[str], i: int) -> bool:
    """Whether no list of relations goes on behind the word at `i`."""
    token, before = tokens[i], tokens[i - 1] if i else ""
    if before == ".":
        return False
    if token == "for":  # that of a lock, and not of COLLATION FOR
        return tokens[i + 1 : i + 2] != [] and tokens[i + 1] in _AFTER_FOR
    if token == "set":  # that of MERGE
        return tokens[max(i - 2, 0) : i] == ["then", "update"]
    return token in _ENDS_OF_FROM and not (token == "group" and before == "within")


def _is_comparison(tokens: Sequence[str], i: int) -> bool:
    """Whether the FROM at `i` is that of IS [NOT] DISTINCT FROM."""
    start = i - 2
    if start < 1 or tokens[i - 1] != "distinct":
        return False
    if tokens[start] == "not":
        start -= 1
    # After these, IS would be a name.
    return start >= 1 and tokens[start] == "is" and tokens[start - 1] not in (".", "as")
