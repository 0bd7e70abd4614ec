"""table_access: refuses statements in which the name of a certain table stands.

A guard rail against accidents, and no boundary: that is PostgreSQL's GRANT. So it knows no
grammar: a name counts wherever it stands outside of strings and comments, and what cannot be
cut into tokens is refused.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..routing.fingerprint import short_fingerprint_of
from ..routing.generations import Generations
from ..routing.limits import TooComplex
from ..routing.tokens import fold, is_word, statements_of, unescaped_name, unquoted
from .guarded import Guarded, cut

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENTRIES: Final = 5000
_BYTES: Final = 4 << 20
# What PostgreSQL converts before it reads it: a byte of a character may look like another.
_AMBIGUOUS: Final = re.compile(
    r"win(?:dows)?(?:932|936|949|950)|s(?:hift)?jis(?:2004)?|mskanji|big5|gbk|gb18030|johab|uhc"
)

_HINT: Final = (
    "The plugin table_access of the router refuses {} ask who runs the router for access."
)
_ANY_USE: Final = "every statement with this name in it, be it a column's:"

# --- statements that work on tables which they do not name

# Functions that run SQL from a string, or on tables that it names, as far as PostgreSQL and its
# extensions bring them along.
_RUN_SQL: Final = re.compile(
    r"(?:query|table|schema|database)_to_xml(?:schema|_and_xmlschema)?|ts_stat|ts_rewrite"
    r"|connectby|xpath_table|(?:dblink|crosstab).*",
    re.DOTALL,
)
# Whole statements, as their tokens with a blank between them.
_HIDING: Final = re.compile(
    r"(do) .*|(create (?:or replace )?(?:function|procedure)) .* as (?:e|u&)?'.*"
    r"|(drop (?:schema|owned)) .*|(?:grant|revoke) .* (all tables in) .*",
    re.DOTALL,
)
# What is looked for in a text before it is cut into statements.
_HINTS: Final = (
    'u&"',
    r"\bdo\b",
    "function|procedure",
    r"\bdrop\b|\btables\b",
    "_to_xml|ts_stat|ts_rewrite|connectby|xpath_table|dblink|crosstab",
)


class TextVerdict:
    """What was found out about a text: `error` is None if it may pass."""

    __slots__ = ("error",)

    def __init__(self, error: RoutingError | None) -> None:
        self.error: Final = error


def denied(table: str) -> RoutingError:
    """The error for a name that is out of bounds."""
    return RoutingError(
        f'permission denied for table "{table}"',
        sqlstate="42501",
        hint=_HINT.format(_ANY_USE),
    )


def unknown_tables(why: str) -> RoutingError:
    """The error for a statement whose tables nobody knows."""
    return RoutingError(
        f"permission denied: the statement's tables cannot be known ({why})",
        sqlstate="42501",
        hint=_HINT.format("it:"),
    )


class TableAccess:
    """Judges texts, and remembers them."""

    def __init__(self, tables: Iterable[str]) -> None:
        self._guarded: Final = Guarded(tables)
        names = (re.escape(name.replace('"', '""')) for name in self._guarded.names)
        # What has none of these need not be looked at any closer.
        self._suspicious: Final = re.compile("|".join((*_HINTS, *names)))
        self._texts: Final = Generations[TextVerdict](_ENTRIES, _BYTES)

    def objection(self, text: bytes, encoding: str) -> RoutingError | None:
        """Why a text may not pass, or None.

        Args:
            text: any number of statements.
            encoding: the client's, as the client or PostgreSQL spells it.
        """
        if not text.isascii() and _AMBIGUOUS.fullmatch(_plain(encoding)):
            return unknown_tables(f"not ASCII, in {encoding}")
        verdict = self._texts.get(text)
        if verdict is None:
            verdict = TextVerdict(self._judge(text))
            self._texts.put(text, verdict)
        # One exception is raised many times: it must not collect tracebacks.
        return None if verdict.error is None else verdict.error.with_traceback(None)

    def _judge(self, text: bytes) -> RoutingError | None:
        try:
            fingerprint, _ = short_fingerprint_of(text)
            folded = fold(fingerprint)
            if not self._suspicious.search(folded):
                return None
            for _, tokens in statements_of(folded):
                names = _unescaped(tokens)
                name = self._guarded.first_in(names)
                if name is not None:
                    return denied(name)
                hidden = _hidden_by(names)
                if hidden is not None:
                    return unknown_tables(hidden)
        except UnicodeDecodeError:
            return unknown_tables("it is not valid UTF-8")
        except TooComplex as error:
            return unknown_tables(f"it is too complex: {error}")
        except ValueError as error:
            return unknown_tables(f"it cannot be read: {error}")
        return None


def _plain(encoding: str) -> str:
    """The encoding's name as PostgreSQL compares it: case and punctuation do not matter."""
    return re.sub(r"[^a-z0-9]", "", encoding.lower())


def _unescaped(tokens: Sequence[str]) -> Sequence[str]:
    """Write U&"..." as the identifier that it stands for.

    Raises:
        ValueError: it has an escape character of its own, or an escape that is none.
    """
    if not any(token.startswith('u&"') for token in tokens):
        return tokens
    if "uescape" in tokens:
        raise ValueError("UESCAPE")
    try:
        return [unescaped_name(t[2:]) if t.startswith('u&"') else t for t in tokens]
    except ValueError:
        raise ValueError('U&"..." with a wrong escape') from None


def _hidden_by(tokens: Sequence[str]) -> str | None:
    """What in a statement keeps from knowing its tables, or None."""
    statement = _HIDING.fullmatch(" ".join(tokens))
    if statement is not None:
        return statement[statement.lastindex or 0].upper()
    for token, after in pairwise(tokens):
        if after == "(" and is_word(token):
            name = cut(unquoted(token))
            if _RUN_SQL.fullmatch(name):
                return f"function {name}, which runs SQL from a string"
    return None
