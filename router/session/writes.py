"""What a client writes, told to whoever keeps reads of it away from replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import codes
from ..protocol.framing import string_in
from ..routing.activity import Written, written_by

if TYPE_CHECKING:
    from ..pool.pool import Pool
    from ..protocol.prepared import Statement
    from ..routing.activity import Activity
    from ..routing.router import QueryRouter
    from ..routing.types import Analysis

_MOST_TABLES: Final = 100


class Writes:
    """What has been written in the transaction that a client is in."""

    __slots__ = ("_activity", "_router", "_written")

    def __init__(self, router: QueryRouter, activity: Activity) -> None:
        self._router: Final = router
        self._activity: Final = activity
        self._written: set[str] | None = set()

    @classmethod
    def of(cls, pool: Pool) -> Writes | None:
        """Watch a client of the pool, if that is wanted."""
        activity = pool.router.activity
        return None if activity is None else cls(pool.router, activity)

    def note_message(self, message: bytes, *, is_whole: bool = True) -> None:
        """A Query or FunctionCall is sent, or the head of one."""
        if is_whole and message[0] == codes.QUERY:
            self.note(self._router.analyse(string_in(message, 0, len(message))))
        else:
            self.note(None)

    def note_statement(self, statement: Statement[Analysis | None] | None) -> None:
        """A prepared statement is bound, or one that nobody has looked at."""
        if statement is None:
            self.note(None)
        elif statement.analysis is not None:  # else it is not for the server
            self.note(statement.analysis)

    def note(self, analysis: Analysis | None) -> None:
        """A statement is sent; None: nobody has looked at it."""
        written = written_by(analysis)
        self._activity.note(written)
        if written is None or self._written is None:
            self._written = None
        elif written:
            self._written.update(written)
            if len(self._written) > _MOST_TABLES:
                self._written = None

    def settle(self) -> None:
        """The transaction is over: only now can a replica begin to learn of it."""
        if self._written is None or self._written:
            written: Written = None if self._written is None else tuple(self._written)
            self._activity.note(written)
            self._written = set()
