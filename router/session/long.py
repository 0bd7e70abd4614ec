"""Messages that are too long to hold: passed on in pieces, only their heads are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, OutdatedPlan
from ..protocol import codes, marks
from ..protocol.binds import bind_ends
from ..protocol.framing import HEADER_SIZE
from ..protocol.prepared import NAME_PREFIX, is_reserved
from ..protocol.steps import FORWARD, FORWARD_BIND, FORWARD_PARSE, Step
from ..queries import UNREAD
from ..routing import refusals
from .inspection import use_objection
from .mistakes import unknown_statement
from .operation import Operation

if TYPE_CHECKING:
    from ..errors import RouterError
    from ..pool.server import ServerConnection
    from .answered import PreparedStatement
    from .batch import Batch
    from .client import Client
    from .client_routing import ClientRouting


class LongMessages:
    """The long message that a client is sending, if it is.

    Attributes:
        refused: the rest of it is to be ignored.
    """

    __slots__ = ("_batch", "_client", "_has_asked", "_lease", "_routing", "refused")

    def __init__(self, client: Client, routing: ClientRouting, batch: Batch) -> None:
        self._client: Final = client
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self._batch: Final = batch
        self.refused = False
        # The server is to tell whether a Bind returns what its client was told.
        self._has_asked = False

    # --- what follows the head

    def begun(self) -> None:
        """The head has been taken: a server waits for the rest, unless it is refused."""
        self._lease.mid_message = not self.refused

    def pass_on(self, data: bytes) -> bool:
        """Pass on more of it; False declines it for now."""
        server = self._lease.server
        if self.refused or server is None:
            return True
        if server.congested:
            return False
        server.send(data)
        return True

    def end(self) -> None:
        """It is complete."""
        self.refused = False
        self._lease.mid_message = False

    # --- refusing

    def refuse(self, kind: int, error: RouterError) -> None:
        """There is no server for it: answer with an error and ignore the rest."""
        self.refused = True
        ends = kind in b"QF"
        self._batch.skipping = not ends
        self._lease.fail()
        self._client.refuse(error, self._lease.ready if ends else b"")

    def refuses(self, kind: int, head: bytes) -> bool:
        """Refuse the message if plugins are against it, or if its shard cannot be found."""
        if self._plugins_refuse(kind, head):
            return True
        error = self._routing.too_long_to_place(kind)
        if error is not None:
            self._refuse_here(kind, error)
        return error is not None

    def _refuse_here(self, kind: int, error: RouterError) -> None:
        self.refused = True
        self._batch.refuse(error, ends=kind == codes.QUERY)

    def _plugins_refuse(self, kind: int, head: bytes) -> bool:
        """Refuse a message if the plugins are against it.

        Without a server, what is not refused comes here once more.
        """
        inspector = self._lease.pool.inspector
        if inspector is None:
            return False
        error: RouterError | None = None
        if kind == codes.BIND:
            portal_end, name_end = bind_ends(head, 0, len(head))
            statement = self._batch.names.get(head[portal_end + 1 : name_end])
            if statement is not None:
                error = use_objection(self._lease, statement)
        elif kind in (codes.QUERY, codes.PARSE):
            start = HEADER_SIZE if kind == codes.QUERY else head.find(b"\0", HEADER_SIZE) + 1
            error = inspector.objection_to_long()
            if error is not None or self._lease.server is not None:
                inspector.note(head[start:])
        if error is not None:
            self._refuse_here(kind, error)
        return error is not None

    # --- the head

    def begin(self, kind: int, head: bytes, missing: int) -> bool:
        """Pass on the head of a message of the extended protocol; False declines it for now.

        Raises:
            RouterError: there is no server for it; see `refuse`.
        """
        batch, server = self._batch, self._lease.server
        if self._routing.branches is not None:
            self._refuse_here(kind, refusals.too_long())
            return True
        bind = self._operation(head, missing) if kind == codes.BIND and server is None else None
        if server is None:
            if not batch.operations and self.refuses(kind, head):
                return True
            if batch.operations or bind is not None:
                batch.dispatch(bind)
            else:
                self._lease.request(self._routing.router.route_unknown(self._routing.state))
            if self._lease.is_pending:
                return False
            server = self._lease.server
            if server is None:  # what was collected has been answered here
                return self.begin(kind, head, missing)
        self._lease.has_come = False
        return self._pass_on(server, kind, head, missing)

    def _pass_on(self, server: ServerConnection, kind: int, head: bytes, missing: int) -> bool:
        script = self._batch.script
        segment = script.open_segment(server)
        if segment is not None and segment.failed:
            self._has_asked = False
            self.refused = True
            return True
        if not script.admits(server):
            return False
        script.send(server)
        if self.refuses(kind, head):
            return True
        if self._lease.writes is not None:
            self._lease.writes.note(None)
        if kind == codes.BIND:
            return self._bind(server, head, missing)
        self._parse(server, head)
        return True

    def _operation(self, head: bytes, missing: int) -> Operation | None:
        """What the head of a Bind says; None if it is of an unknown statement."""
        portal_end, name_end = bind_ends(head, 0, len(head))
        names, name = self._batch.names, head[portal_end + 1 : name_end]
        statement = names.get(name)
        if statement is None:
            return None
        portal = head[HEADER_SIZE:portal_end]
        operation = Operation(codes.BIND, head[name_end + 1 :], statement, portal)
        operation.token = names.token_of(name, statement)
        operation.missing = missing
        operation.told = statement.description if name in names.told else None
        return operation

    def _bind(self, server: ServerConnection, head: bytes, missing: int) -> bool:
        """Translate the head of a Bind; False: it must wait."""
        script, names = self._batch.script, self._batch.names
        operation = self._operation(head, missing)
        if operation is None or operation.statement is None:
            portal_end, name_end = bind_ends(head, 0, len(head))
            name = head[portal_end + 1 : name_end]
            if names.renames and is_reserved(name):
                self._refuse_here(codes.BIND, unknown_statement(name))
                return True
            if names.renames and not name:
                script.clear_unnamed(server)
                self._lease.bind_unnamed()
            script.forward(server, head, FORWARD_BIND)
            segment = script.begin(server)
            segment.has_bound = True
            segment.follow(UNREAD)
            return True
        error = self._routing.bind_on_wrong_shard(
            server, operation.statement, operation.data, is_whole=False
        )
        if error is not None:
            left = self._batch.leave(server)
            if left is None:
                self._refuse_here(codes.BIND, error)
                return True
            return left and self.begin(codes.BIND, head, missing)
        is_as_told = self._is_as_told(server, operation, operation.statement)
        if is_as_told:
            size = len(operation.data) + missing
            script.bind_long(server, operation, operation.statement, size)
        elif is_as_told is not None:
            self._refuse_here(codes.BIND, OutdatedPlan())
        return is_as_told is not None

    def _is_as_told(
        self, server: ServerConnection, operation: Operation, statement: PreparedStatement
    ) -> bool | None:
        """Whether a Bind returns what its client was told; None: that has yet to be said."""
        script = self._batch.script
        if not self._has_asked:
            if operation.told is None or not script.lacks(server, statement, operation.token):
                return True
            self._has_asked = True
            script.provide(server, statement, operation.token, operation.told)
        if not script.settle(server):
            return None
        self._has_asked = False
        return not script.lacks(server, statement, operation.token)

    def _parse(self, server: ServerConnection, head: bytes) -> None:
        """Forward the head of a Parse.

        It is the client's own on this server: a named one keeps the server for good, the
        unnamed one until there is another.
        """
        names = self._batch.names
        name = head[HEADER_SIZE : head.find(b"\0", HEADER_SIZE)]
        if names.renames and is_reserved(name):
            error = ClientProtocolError(
                f'the name of a long statement must not begin with "{NAME_PREFIX.decode()}"',
                sqlstate="42939",
                hint="Shorten the statement or give it another name.",
            )
            self._refuse_here(codes.PARSE, error)
            return
        server.marks |= marks.UNKNOWN
        if name or not names.renames:
            self._lease.pinned |= bool(name)
            self._batch.script.forward(server, head, FORWARD_PARSE)
        else:
            names.drop_unnamed()
            server.unnamed = 0  # none that another client could be given: see the marks
            self._parse_unnamed(server, head)

    def _parse_unnamed(self, server: ServerConnection, head: bytes) -> None:
        script, lease = self._batch.script, self._lease
        lease.unnamed_in = script.begin(server)

        def forget() -> None:
            lease.unnamed_in = None

        script.forward(server, head, Step(FORWARD, b"1", undo=forget))
