"""Messages that are too long to hold: passed on in pieces, only their heads are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError
from ..protocol import codes, marks, messages
from ..protocol.framing import HEADER_SIZE
from ..protocol.prepared import is_reserved
from ..protocol.segments import FORWARD_BIND, FORWARD_PARSE
from . import local, preparing, simple, straying
from .mistakes import unknown_statement
from .operations import Operation

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from .session import Session


class LongMessages:
    """The long message that a client is sending, if it is.

    Attributes:
        refused: the rest of it is to be ignored.
    """

    __slots__ = ("_kind", "_session", "refused")

    def __init__(self, session: Session) -> None:
        self._session: Final = session
        self._kind = 0
        self.refused = False

    def begin(self, kind: int, head: bytes, missing: int) -> bool:
        """Pass on the head; False declines it for now."""
        session = self._session
        if session.is_waiting:
            return False
        if self.refused:
            return True
        self._kind = kind
        extended, server = session.extended, session.server
        if extended.skipping and kind != codes.COPY_DATA:
            self.refused = True
            return True
        bind = self._operation(head, missing) if kind == codes.BIND and server is None else None
        if extended.collected.operations:
            extended.collected.dispatch(bind)
            return self.begin(kind, head, missing)
        if kind == codes.COPY_DATA:
            self.refused = server is None or not server.queue
            return self.refused or simple.on_copy(session, server, head)
        if server is None:
            if self._refuses(kind, head):
                return True
            if bind is None:
                session.dispatch(b"")
            else:
                extended.collected.dispatch(bind)
            return self.begin(kind, head, missing)
        if kind in b"QF":
            return self._query(server, head)
        if extended.segment is not None and extended.segment.failed:
            self.refused = True
            return True
        if not extended.admits(server):
            return False
        extended.send_pending(server)
        if self._refuses(kind, head):
            return True
        if session.writes is not None:
            session.writes.note(None)
        if kind == codes.BIND:
            return self._bind(server, head, missing)
        self._parse(server, head)
        return True

    def _query(self, server: ServerConnection, head: bytes) -> bool:
        session = self._session
        segment = session.extended.segment
        if segment is not None and segment.failed:
            self.refused = True
            return True
        if segment is not None:
            if not simple.query_in_batch(session, server, segment, head, is_whole=False):
                return False
            server.marks |= marks.UNKNOWN
            return True
        inspector = session.pool.inspector
        if server.queue and (not session.may_follow(server) or inspector is not None):
            return False
        if self._refuses(codes.QUERY, head):
            return True
        simple.send_query(session, server, head, marks.UNREAD)
        return True

    def _refuses(self, kind: int, head: bytes) -> bool:
        """Refuse the message if plugins are against it, or if its shard cannot be found."""
        session = self._session
        inspector = session.pool.inspector
        if inspector is not None and local.refuses_long(session, inspector, head):
            return True
        error = straying.long_objection(session, kind)
        if error is not None:
            self.refused = True
            local.refuse(session, kind, error)
        return error is not None

    def _operation(self, head: bytes, missing: int) -> Operation | None:
        """What the head of a Bind says; None if it is of an unknown statement."""
        fields = head[HEADER_SIZE:].split(b"\0", 2)
        names = self._session.extended.names
        statement = names.get(fields[1])
        if statement is None:
            return None
        operation = Operation(codes.BIND, fields[2], statement, fields[0])
        operation.token = names.token_of(fields[1], statement)
        operation.missing = missing
        return operation

    def _bind(self, server: ServerConnection, head: bytes, missing: int) -> bool:
        """Translate the head of a Bind; False: it must wait."""
        session, extended = self._session, self._session.extended
        fields = head[HEADER_SIZE:].split(b"\0", 2)
        operation = self._operation(head, missing)
        if operation is None or operation.statement is None:
            if extended.names.renames and is_reserved(fields[1]):
                raise unknown_statement(fields[1])
            if extended.names.renames and not fields[1]:
                preparing.clear_unnamed(extended, server)
            extended.forward(server, head, FORWARD_BIND)
            return True
        error = straying.bind_objection(session, server, operation)
        if error is not None:
            left = extended.leave(server)
            if left is None:
                self.refused = True
                local.refuse(session, codes.BIND, error)
                return True
            return left and self.begin(codes.BIND, head, missing)
        preparing.provide(extended, server, operation.statement, operation.token)
        server.marks |= operation.statement.glance.leaves
        rest = operation.data
        name = preparing.server_name(operation)
        data = messages.bind_head(operation.name, name, len(rest) + missing) + rest
        extended.forward(server, data, FORWARD_BIND)
        if extended.segment is not None:
            extended.segment.has_bound = True
        return True

    def _parse(self, server: ServerConnection, head: bytes) -> None:
        """Forward the head of a Parse.

        It is the client's own on this server: a named one keeps the server for good.
        """
        names = self._session.extended.names
        name = head[HEADER_SIZE : head.find(b"\0", HEADER_SIZE)]
        if names.renames and is_reserved(name):
            raise ClientProtocolError(
                f"prepared statement names must not begin with {name[:6]!r}"
            )
        if name:
            self._session.pinned = True
        else:
            names.drop_unnamed()
            server.unnamed = 0  # none that another client could be given: see the marks
        server.marks |= marks.UNKNOWN
        self._session.extended.forward(server, head, FORWARD_PARSE)

    def go_on(self, data: bytes) -> bool:
        """Pass on more of it; False declines it for now."""
        server = self._session.server
        if self.refused or server is None:
            return True
        if server.congested:
            return False
        server.send(data)
        return True

    @property
    def is_under_way(self) -> bool:
        """Whether a server waits for the rest of it."""
        return self._session.passing and not self.refused

    def end(self) -> None:
        """It is complete."""
        self.refused = False

    def refuse(self, answer: bytes) -> None:
        """There is no server for it: answer with an error and ignore the rest."""
        session = self._session
        self.refused = True
        if self._kind in b"QF":
            session.reply(answer + messages.READY_IDLE)
        else:
            session.extended.skipping = True
            session.reply(answer)
