"""table_access: refuses statements that name certain tables.

It goes by tokens, whatever the settings of the query parser, and refuses what it cannot read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..routing.cache import Generations
from ..routing.limits import TooComplex
from ..routing.shape import UnknownLexeme, short_shape_of
from ..routing.tokens import fold, statements_of, unescaped_name
from .guarded import Guarded
from .statements import HINTS, guarded_relation, hidden_by

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_ENTRIES: Final = 5000
_BYTES: Final = 4 << 20
# What PostgreSQL converts before it reads it: a byte of a character may look like another.
_AMBIGUOUS: Final = frozenset(
    [
        "sjis",
        "shiftjis",
        "mskanji",
        "win932",
        "windows932",
        "shiftjis2004",
        "big5",
        "win950",
        "windows950",
        "gbk",
        "win936",
        "windows936",
        "gb18030",
        "johab",
        "uhc",
        "win949",
        "windows949",
    ]
)
_UNICODE: Final = re.compile(r'u&("(?:[^"]|"")*")')

HINT: Final = (
    "The plugin table_access of the router refuses it; ask who runs the router for access."
)


class _Unreadable(Exception):
    """Nobody can tell which tables the text names; says why."""


class Verdict:
    """What was found out about a text: `error` is None if it may pass."""

    __slots__ = ("error",)

    def __init__(self, error: RoutingError | None) -> None:
        self.error: Final = error


_PASSES: Final = Verdict(None)


def denied(table: str) -> RoutingError:
    """The error for a table that is out of bounds."""
    return RoutingError(f'permission denied for table "{table}"', sqlstate="42501", hint=HINT)


def unknown_tables(why: str) -> RoutingError:
    """The error for a statement whose tables nobody knows."""
    return RoutingError(
        f"permission denied: the statement's tables cannot be known ({why})",
        sqlstate="42501",
        hint=HINT,
    )


class TableAccess:
    """Judges texts, and remembers them and their shapes."""

    def __init__(self, tables: Iterable[str]) -> None:
        self._guarded: Final = Guarded(tables)
        names = (re.escape(name.replace('"', '""')) for name in self._guarded.names)
        # What has none of these need not be looked at any closer.
        self._suspicious: Final = re.compile("|".join(('u&"', *HINTS, *names)))
        self._texts: Final = Generations[Verdict](_ENTRIES, _BYTES)
        self._shapes: Final = Generations[Verdict](_ENTRIES, _BYTES)

    def objection(self, text: bytes, encoding: str) -> RoutingError | None:
        """Why a text may not pass, or None.

        Args:
            text: any number of statements.
            encoding: the client's, as the client or PostgreSQL spells it.
        """
        if not text.isascii() and _plain(encoding) in _AMBIGUOUS:
            return unknown_tables(f"not ASCII, in {encoding}")
        verdict = self._texts.get(text)
        if verdict is None:
            verdict = self._judge(text)
            self._texts.put(text, verdict)
        # One exception is raised many times: it must not collect tracebacks.
        return None if verdict.error is None else verdict.error.with_traceback(None)

    def _judge(self, text: bytes) -> Verdict:
        try:
            shape, _ = short_shape_of(text)
        except UnknownLexeme as error:
            return Verdict(unknown_tables(f"it cannot be read: {error}"))
        except TooComplex as error:
            return Verdict(unknown_tables(f"it is too complex: {error}"))
        verdict = self._shapes.get(shape)
        if verdict is None:
            verdict = self._judge_shape(shape)
            self._shapes.put(shape, verdict)
        return verdict

    def _judge_shape(self, shape: bytes) -> Verdict:
        try:
            folded = fold(shape)
        except UnicodeDecodeError:
            return Verdict(unknown_tables("it is not valid UTF-8"))
        if not self._suspicious.search(folded):
            return _PASSES
        try:
            folded = _without_unicode_escapes(folded)
        except _Unreadable as error:
            return Verdict(unknown_tables(str(error)))
        try:
            pieces = statements_of(folded)
        except TooComplex as error:
            return Verdict(unknown_tables(f"it is too complex: {error}"))
        for _, tokens in pieces:
            found = self._judge_statement(tokens)
            if found is not None:
                return Verdict(found)
        return _PASSES

    def _judge_statement(self, tokens: Sequence[str]) -> RoutingError | None:
        hidden = hidden_by(tokens)
        if hidden is not None:
            return unknown_tables(hidden)
        found = guarded_relation(tokens, self._guarded)
        return None if found is None else denied(found)


def _plain(encoding: str) -> str:
    """The encoding's name as PostgreSQL compares it: case and punctuation do not matter."""
    return re.sub(r"[^a-z0-9]", "", encoding.lower())


def _without_unicode_escapes(folded: str) -> str:
    """Write U&"..." as the identifier that it stands for.

    Raises:
        _Unreadable: it has an escape character of its own, or an escape that is none.
    """
    if 'u&"' not in folded:
        return folded
    if re.search(r"\buescape\b", folded):
        raise _Unreadable("UESCAPE")
    try:
        return _UNICODE.sub(lambda match: " " + unescaped_name(match[1]), folded)
    except ValueError as error:
        raise _Unreadable('U&"..." with a wrong escape') from error
