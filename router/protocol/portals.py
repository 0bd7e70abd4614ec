"""Statements that are answered here, without a server: how they are bound, described and run.

Whoever has such statements says what their columns and parameters are, and runs them; what
clients see of it is the same for all, and what PostgreSQL would say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

from ..errors import ClientError, ClientProtocolError
from . import messages
from .binds import FORMATS, Parameters, unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Answered(Protocol):
    """What is to be known of a statement before it is run."""

    @property
    def columns(self) -> Sequence[tuple[str, int]]:
        """Name and type oid of each; none if it never returns rows."""

    @property
    def types(self) -> Sequence[int]:
        """Type oids of the parameters."""


S = TypeVar("S", bound=Answered)


@dataclass(frozen=True, slots=True)
class Answer:
    """What running a statement has come to.

    Attributes:
        rows: encoded DataRows; None if it returns none by nature.
        tag: of the CommandComplete; SELECT is followed by the number of rows, and "" stands for
            the empty query.
        notice: encoded NoticeResponses.
    """

    rows: Sequence[bytes] | None
    tag: str = "SELECT"
    notice: bytes = b""

    def completion(self, count: int) -> bytes:
        """What ends it after so many rows."""
        if not self.tag:
            return messages.EMPTY_QUERY_RESPONSE
        return messages.command_complete(
            f"SELECT {count}" if self.tag == "SELECT" else self.tag
        )


class Portal(Generic[S]):
    """A statement with values bound to it.

    Attributes:
        name: the client's.
        data: the Bind from behind its names.
        values: for each parameter its value, None being NULL, and whether that is binary.
        formats: one for each column.
    """

    __slots__ = ("_answer", "_taken", "data", "formats", "name", "statement", "values")

    def __init__(
        self,
        name: bytes,
        statement: S,
        data: bytes,
        values: tuple[tuple[bytes | None, bool], ...],
        formats: tuple[int, ...],
    ) -> None:
        self.name: Final = name
        self.statement: Final = statement
        self.data: Final = data
        self.values: Final = values
        self.formats: Final = formats
        self._answer: Answer | None = None
        self._taken = 0

    @property
    def has_run(self) -> bool:
        """Whether it has been executed, be it for a part of its rows."""
        return self._answer is not None

    @property
    def progress(self) -> tuple[Answer | None, int]:
        """How far it is, for `restore`."""
        return self._answer, self._taken

    def restore(self, progress: tuple[Answer | None, int]) -> None:
        """Go back to where it was."""
        self._answer, self._taken = progress

    def described(self) -> bytes:
        """The answer to its Describe."""
        return described(self.statement.columns, self.formats)

    def check_formats(self) -> None:
        """See that its columns can be encoded.

        Raises:
            RouterError: there is a format that nobody knows.
        """
        for fmt in self.formats:
            if fmt not in FORMATS:
                raise unsupported(fmt)

    def execute(self, limit: int, run: Callable[[], Answer]) -> bytes:
        """The answer to an Execute.

        Args:
            limit: so many rows are wanted at most; 0 or less is all.
            run: carries the statement out; is called the first time.

        Raises:
            RouterError: it cannot be; nothing has changed.
        """
        answer = self._answer
        notice = b""
        if answer is None:
            self.check_formats()
            self._answer = answer = run()
            notice = answer.notice
        elif answer.rows is None and answer.tag:
            shown = self.name.decode("utf-8", "replace")
            raise ClientProtocolError(f'portal "{shown}" cannot be run', sqlstate="55000")
        rows = answer.rows or ()
        first = self._taken
        last = min(first + limit, len(rows)) if limit > 0 else len(rows)
        self._taken = last
        count = last - first
        # As PostgreSQL does: who asks for as many rows as there are is not told that it is all.
        is_suspended = answer.rows is not None and 0 < limit <= count
        end = messages.PORTAL_SUSPENDED if is_suspended else answer.completion(count)
        return b"".join((notice, *rows[first:last], end))


def bound(statement: S, statement_name: bytes, name: bytes, data: bytes) -> Portal[S]:
    """Bind values to a statement.

    Args:
        statement: what they are bound to.
        statement_name: how the client calls that.
        name: that of the portal.
        data: the Bind from behind its names.

    Raises:
        ClientProtocolError: the Bind is malformed, or does not fit the statement.
    """
    parameters, types = Parameters(data), statement.types
    if parameters.count != len(types):
        shown = statement_name.decode("utf-8", "replace")
        raise ClientProtocolError(
            f"bind message supplies {parameters.count} parameters, "
            f'but prepared statement "{shown}" requires {len(types)}'
        )
    values: list[tuple[bytes | None, bool]] = []
    while parameters.advance():
        value = None if parameters.is_null else parameters.value
        values.append((value, parameters.is_binary))
    formats, width = parameters.result_formats(), len(statement.columns)
    if width and len(formats) > 1 and len(formats) != width:
        raise ClientProtocolError(
            f"bind message has {len(formats)} result formats but query has {width} columns"
        )
    if len(formats) != width:
        formats = (formats[:1] or (0,)) * width
    return Portal(name, statement, data, tuple(values), formats)


def described(columns: Sequence[tuple[str, int]], formats: Sequence[int]) -> bytes:
    """The RowDescription or NoData for columns."""
    return messages.row_description(columns, formats) if columns else messages.NO_DATA


def described_statement(statement: Answered) -> bytes:
    """The answer to the Describe of a statement."""
    columns = statement.columns
    return messages.parameter_description(statement.types) + described(
        columns, (0,) * len(columns)
    )


def portal_exists(name: bytes) -> ClientError:
    """What PostgreSQL says of a portal's name that is taken; to it portals are cursors."""
    shown = name.decode("utf-8", "replace")
    return ClientProtocolError(f'cursor "{shown}" already exists', sqlstate="42P03")


def too_many_portals(limit: int) -> ClientError:
    """There is no room for another portal."""
    return ClientProtocolError(
        f"too many portals: a client may have {limit} of statements that the router answers",
        sqlstate="54000",
        hint="Close portals that are not needed any more.",
    )


class Portals(Generic[S]):
    """The portals of one client, which end with its transaction.

    Attributes:
        limit: so many there may be.
    """

    __slots__ = ("_portals", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._portals: dict[bytes, Portal[S]] = {}

    def __len__(self) -> int:
        return len(self._portals)

    def check(self, name: bytes) -> None:
        """See that a portal of that name can be opened; the unnamed one is replaced.

        Raises:
            ClientError: the name is taken, or there are too many.
        """
        if name in self._portals:
            if name:
                raise portal_exists(name)
        elif len(self._portals) >= self.limit:
            raise too_many_portals(self.limit)

    def open(self, portal: Portal[S]) -> None:
        """Add one.

        Raises:
            ClientError: see `check`.
        """
        self.check(portal.name)
        self._portals[portal.name] = portal

    def find(self, name: bytes) -> Portal[S] | None:
        """The one of that name."""
        return self._portals.get(name)

    def get(self, name: bytes) -> Portal[S]:
        """The one of that name.

        Raises:
            ClientError: there is none.
        """
        portal = self._portals.get(name)
        if portal is None:
            shown = name.decode("utf-8", "replace")
            raise ClientError(f'portal "{shown}" does not exist', sqlstate="34000")
        return portal

    def close(self, name: bytes) -> None:
        """Forget the one of that name, if there is one."""
        self._portals.pop(name, None)

    def clear(self) -> None:
        """Forget them all: their transaction has ended."""
        self._portals.clear()
