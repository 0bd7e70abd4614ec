"""intercept: answers chosen statements without a server."""

from __future__ import annotations

import logging
import re
import struct
from typing import TYPE_CHECKING, Final

from ..protocol import codes, messages
from ..records import fields
from ..routing.fingerprint import UnknownLexeme, fingerprint_of
from ..routing.generations import Generations
from ..routing.limits import TooComplex
from ..routing.tokens import fold, statements_of
from .types import encoded, type_oid

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..config.plugins import InterceptedQuery

log = logging.getLogger("router.plugins")

# Longer texts are not compared; those that clients ask without end are short.
_LONGEST: Final = 16 << 10
_ENTRIES: Final = 2000
_BYTES: Final = 1 << 20
_INT16: Final = struct.Struct("!H")
_INT32: Final = struct.Struct("!i")
_PARAMETER: Final = re.compile(r"\$(\d{1,5})")

Normal = tuple[tuple[str, ...], tuple[bytes, ...]]


class CannedAnswer:
    """The answer to one statement.

    Attributes:
        columns: name and type oid of each.
        parameters: how many the statement has.
    """

    __slots__ = ("_values", "columns", "parameters")

    def __init__(
        self,
        columns: Iterable[tuple[str, str]],
        values: Iterable[Sequence[str | None]],
        parameters: int = 0,
    ) -> None:
        """Make an answer of columns, given as name and type, and rows."""
        self.columns: Final = tuple((name, type_oid(kind)) for name, kind in columns)
        self.parameters: Final = parameters
        self._values: Final = tuple(map(tuple, values))

    def rows(self, formats: Sequence[int]) -> list[bytes]:
        """The DataRows, each column in its format.

        Raises:
            RoutingError: a value has no binary format that the router knows.
        """
        return [self._row(values, formats) for values in self._values]

    def _row(self, values: Sequence[str | None], formats: Sequence[int]) -> bytes:
        parts = [_INT16.pack(len(values))]
        for value, (_, oid), form in zip(values, self.columns, formats, strict=True):
            if value is None:
                parts.append(_INT32.pack(-1))
            else:
                data = encoded(value, oid, binary=form == 1)
                parts += (_INT32.pack(len(data)), data)
        return messages.message(codes.DATA_ROW, b"".join(parts))


class _Known:
    """What has been found out about a text."""

    __slots__ = ("answer",)

    def __init__(self, answer: CannedAnswer | None) -> None:
        self.answer: Final = answer


_NOTHING: Final = _Known(None)


class Interceptor:
    """The statements of one pool that have an answer."""

    def __init__(self, answers: Iterable[InterceptedQuery], pool: str, user: str) -> None:
        self._known: Final[dict[Normal, _Known]] = {}
        self._texts: Final = Generations[_Known](_ENTRIES, _BYTES)
        for answer in answers:
            normal = normal_form(answer.query.encode())
            if normal is None:
                log.warning(
                    "[%s/%s] plugin intercept: this is not one statement that can be read: %s",
                    pool,
                    user,
                    answer.query,
                    extra=fields(database=pool, user=user),
                )
                continue
            rows = [[_filled(value, pool, user) for value in row] for row in answer.result]
            canned = CannedAnswer(answer.columns, rows, _parameters(normal))
            self._known.setdefault(normal, _Known(canned))

    def answer(self, sql: bytes) -> CannedAnswer | None:
        """The answer to a text, if it is one of the statements and nothing else."""
        if len(sql) > _LONGEST:
            return None
        found = self._texts.get(sql)
        if found is None:
            normal = normal_form(sql)
            found = _NOTHING if normal is None else self._known.get(normal, _NOTHING)
            self._texts.put(sql, found)
        return found.answer


def normal_form(sql: bytes) -> Normal | None:
    """What texts have in common that differ in blanks, comments and capitals only.

    None if it is not one statement, or cannot be cut into tokens.
    """
    try:
        fingerprint, literals = fingerprint_of(sql)
        pieces = statements_of(fold(fingerprint))
    except (UnknownLexeme, UnicodeDecodeError, TooComplex):
        return None
    if len(pieces) != 1:
        return None
    return tuple(pieces[0][1]), tuple(literals)


def _parameters(normal: Normal) -> int:
    """The highest number of a parameter."""
    found = (_PARAMETER.fullmatch(token) for token in normal[0])
    return max((int(match[1]) for match in found if match), default=0)


def _filled(value: str, pool: str, user: str) -> str | None:
    """A value of the configuration as clients of a pool get it."""
    return value.replace("${USER}", user).replace("${DATABASE}", pool) or None
