"""Statements that the router answers itself, as they come in the extended protocol.

A client prepares, binds, describes and executes them like any other. While it has no server,
they need none: `Collected` gives out the replies. With a server, each has a stand-in there, an
empty statement, whose replies are replaced by ours. So it is the server that says whether a
portal exists and whether the transaction has failed, and replies come in their order.

To servers the stand-in of all of them is the same statement of the router's own. In session
mode clients' names are the server's; there an empty statement takes the client's name as well,
so that the server knows it to be taken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..protocol import codes, messages
from ..protocol.binds import execution
from ..protocol.marks import HARMLESS
from ..protocol.portals import Answer, Portal, bound, described_statement
from ..protocol.prepared import Statement
from ..routing.types import Analysis

if TYPE_CHECKING:
    from ..routing.state import Choices
    from .session import Session

PreparedStatement = Statement[Analysis | None]

# What follows the name in the Parse of an empty statement.
EMPTY_BODY: Final = b"\0\0\0"
_STAND_IN: Final[PreparedStatement] = Statement(EMPTY_BODY, None, HARMLESS)


class OwnStatement(PreparedStatement):
    """A statement that the router answers itself; subclasses say what it is.

    Attributes:
        columns: name and type oid of each; empty for what returns no rows.
        types: type oids of the parameters.
        client_name: what the client calls it.
        size: bytes of its text and types.
        is_at_server: in session mode, whether a server has been told that name.
    """

    __slots__ = ("client_name", "columns", "is_at_server", "size", "types")

    def __init__(
        self, columns: tuple[tuple[str, int], ...] = (), types: tuple[int, ...] = ()
    ) -> None:
        super().__init__(EMPTY_BODY, None, HARMLESS, name=_STAND_IN.name)
        self.columns: Final = columns
        self.types: Final = types
        self.client_name = b""
        self.size = 0
        self.is_at_server = False

    def run(self, session: Session, portal: OwnPortal) -> Answer:
        """Carry it out.

        Raises:
            RouterError: it cannot be; nothing has changed.
        """
        raise NotImplementedError

    def bound(self, name: bytes, data: bytes) -> OwnPortal:
        """Bind values to it; `data` is what follows the names in the Bind.

        Raises:
            ClientProtocolError: they do not fit.
        """
        return bound(self, self.client_name, name, data)


OwnPortal = Portal[OwnStatement]


class Own:
    """What one message of a batch has to do with an own statement.

    Attributes:
        statement: which one.
        portal: the one that is bound, described, executed or closed; None if it is about the
            statement itself.
        dropped: statements of the client that executing it drops.
        reply: the answer, once it is known.
    """

    __slots__ = ("_before", "_progress", "_session", "dropped", "portal", "reply", "statement")

    def __init__(self, statement: OwnStatement, portal: OwnPortal | None = None) -> None:
        self.statement: Final = statement
        self.portal: Final = portal
        self.dropped: dict[bytes, PreparedStatement] | None = None
        self.reply: bytes | None = None
        self._session: Session | None = None
        self._before: Choices | None = None
        self._progress: tuple[Answer | None, int] | None = None

    def perform(self, session: Session, kind: int, data: bytes) -> bytes:
        """Do what the message asks for, unless it has been done; returns the reply.

        Raises:
            RouterError: it cannot be done; nothing has changed.
        """
        if self.reply is None:
            self.reply = self._perform(session, kind, data)
        return self.reply

    def _perform(self, session: Session, kind: int, data: bytes) -> bytes:
        statement, portal = self.statement, self.portal
        if kind == codes.PARSE:
            return messages.PARSE_COMPLETE
        if kind == codes.BIND:
            return messages.BIND_COMPLETE
        if kind == codes.CLOSE:
            return messages.CLOSE_COMPLETE
        if kind == codes.DESCRIBE:
            return described_statement(statement) if portal is None else portal.described()
        assert portal is not None
        _, limit = execution(data, 0, len(data))
        self._session, self._before = session, session.routing.choices
        self._progress = portal.progress
        return portal.execute(limit, lambda: statement.run(session, portal))

    def undo(self) -> None:
        """Take back what was done: it turns out that the server skips it."""
        if self._session is not None and self._before is not None:
            self._session.routing.restore(self._before)
            self._session.set_pipelining()
            if self.portal is not None and self._progress is not None:
                self.portal.restore(self._progress)
        self.reply = self._before = None


def transaction_failed() -> RoutingError:
    """What PostgreSQL says to anything but the end of a transaction that has failed."""
    return RoutingError(
        "current transaction is aborted, commands ignored until end of transaction block",
        sqlstate="25P02",
    )
