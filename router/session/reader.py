"""What the messages of an extended batch mean: read into operations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError
from ..protocol import binds, codes
from ..protocol.framing import HEADER_SIZE
from ..protocol.portals import portal_exists
from ..protocol.prepared import UNCLEAR, is_reserved, new_token
from . import inspection, mistakes
from .answered import (
    AnsweredMessage,
    AnsweredStatement,
    Canned,
    Drop,
    answered_statement,
    drops_all,
    is_at_server,
)
from .controls import TransactionControl, control_of, may_answer
from .operation import Operation

if TYPE_CHECKING:
    from ..pool.contracts import Inspector
    from ..protocol.naming import Naming
    from .answered import AnsweredPortal, Deallocation, PreparedStatement
    from .client_routing import ClientRouting
    from .names import Names


class Reader:
    """Reads the messages of one client, in the order of its stream.

    Names are resolved at once: what a message prepares or closes is so for all that is behind
    it (`Names`), and is taken back if the message turns out to be skipped.

    Attributes:
        portals: those of statements that the router answers.
        has_answered: there has been an operation about one of these lately.
    """

    __slots__ = ("_bound", "_lease", "_names", "_routing", "has_answered", "portals")

    def __init__(self, routing: ClientRouting, names: Names) -> None:
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self._names: Final = names
        self.portals: dict[bytes, AnsweredPortal] = {}
        self.has_answered = False
        # What the unnamed portal is to change, if that is something.
        self._bound: Naming | None = None

    def operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """Read the message data[start:end]; what it prepares or closes is so from here on."""
        try:
            return self._read(kind, data, start, end)
        except ClientProtocolError as error:
            return Operation(kind, b"", error=error)

    def _read(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        if kind == codes.EXECUTE and self.portals:
            return self._execute_operation(data[start:end])
        if kind == codes.EXECUTE and self._bound is not None:
            return self._execute_changes(self._bound, data[start:end])
        if kind in (codes.EXECUTE, codes.SYNC, codes.FLUSH):
            return Operation(kind, data[start:end])
        if (
            not self._names.renames
            and kind != codes.PARSE
            and not self._names.statements
            and not self.portals
        ):
            return Operation(kind, data[start:end])
        if kind == codes.BIND:
            return self._bind_operation(data, start, end)
        if kind == codes.PARSE:
            return self._parse_operation(data, start, end)
        return self._named_operation(kind, data, start, end)

    def _parse_operation(self, data: bytes, start: int, end: int) -> Operation:
        names = self._names
        name_end, _ = binds.parse_ends(data, start, end)
        name = data[start + HEADER_SIZE : name_end]
        body = data[name_end + 1 : end]
        previous = names.statements.get(name)
        if not name:
            self._lease.unnamed_in = None
        try:
            answered = answered_statement(body, names.statements, renames=names.renames)
            if answered is None and self._lease.pool.inspector is not None:
                answered = self._inspected(self._lease.pool.inspector, body)
        except RouterError as error:
            if not name:
                names.drop(name)  # PostgreSQL drops it as well
            return Operation(codes.PARSE, b"", error=error)
        if answered is None and not names.renames:
            return self._foreign_parse(name, previous, data[start:end])
        if name and previous is not None and not is_at_server(previous):
            return Operation(codes.PARSE, b"", error=mistakes.exists(name))
        if not names.has_room(len(body)):
            return Operation(codes.PARSE, b"", error=mistakes.too_many())
        statement = names.statement_for(name, body) if answered is None else answered
        objection = names.objection(statement.glance.naming)
        if objection is not None:
            return Operation(codes.PARSE, b"", error=objection)
        operation = Operation(codes.PARSE, b"", statement, name, previous)
        operation.known = names.known_to(statement.glance.naming)
        names.hold(name, statement)
        if answered is not None:
            answered.client_name, answered.size = name, len(body)
            self._note(operation, answered)
        else:
            if not name:
                names.token = operation.token = new_token()
            if self._control(statement) is not None:
                statement.proven = self.has_answered = True  # by being one of those
        return operation

    def _control(self, statement: PreparedStatement) -> TransactionControl | None:
        """What the statement is if it need not have a server, which this client has not."""
        if not may_answer(self._lease):
            return None
        wanted = control_of(statement)
        return None if wanted is None else TransactionControl(wanted)

    def _inspected(self, inspector: Inspector, body: bytes) -> Canned | None:
        """Show plugins a text that is about to be prepared; returns their answer to it.

        Raises:
            RouterError: they are against it.
        """
        sql = body[: body.index(b"\0")]
        inspector.note(sql)
        answer = inspector.answer(sql)
        if answer is not None:
            return Canned(answer, body)
        error = inspection.text_objection(self._lease, inspector, sql)
        if error is not None:
            raise error
        return None

    def _foreign_parse(
        self, name: bytes, previous: PreparedStatement | None, message: bytes
    ) -> Operation:
        """A Parse for the server, by a name that may be that of one of the router's own."""
        names = self._names
        sql = message[len(name) + 6 :]
        error = self._routing.prepared_out_of_sight(sql[: sql.index(b"\0")])
        if error is not None:
            self._routing.router.tallies.refuse(error)
            return Operation(codes.PARSE, b"", error=error)
        if previous is None:
            if names.statements and drops_all(sql):
                names.forget_untold()
            return Operation(codes.PARSE, message)
        if not name:
            names.drop(name)
            return Operation(codes.PARSE, message)
        if not isinstance(previous, AnsweredStatement) or not previous.is_at_server:
            return Operation(codes.PARSE, b"", error=mistakes.exists(name))
        # The server says what is wrong with that, unless it has been made to forget the name.
        names.drop(name)
        operation = Operation(codes.PARSE, message, None, name, previous)
        self._note(operation, previous)
        return operation

    def _bind_operation(self, data: bytes, start: int, end: int) -> Operation:
        names = self._names
        portal_end, name_end = binds.bind_ends(data, start, end)
        name = data[portal_end + 1 : name_end]
        portal = data[start + HEADER_SIZE : portal_end]
        statement = names.statements.get(name)
        if not portal and self._bound is not None:
            self._bound = None
        if self.portals:
            previous = self.portals.pop(portal, None)
            if previous is not None and portal and self._lease.server is None:
                raise portal_exists(portal)  # else the server says so
        if statement is not None:
            operation = Operation(codes.BIND, data[name_end + 1 : end], statement, portal)
            operation.error = inspection.use_objection(self._lease, statement)
            if isinstance(statement, AnsweredStatement):
                self._bind_answered(operation, statement)
            else:
                operation.token = names.token_of(name, statement)
                if name in names.told:
                    operation.told = statement.description
                control = self._control(statement)
                if control is not None:
                    control.client_name = name
                    self._bind_answered(operation, control)
                self._lease.is_altered |= statement.glance.alters
                if statement.glance.naming is not None:
                    operation.known = names.known_to(statement.glance.naming)
                    if not portal:
                        self._bound = statement.glance.naming
            return operation
        if names.renames and is_reserved(name):
            return Operation(codes.BIND, b"", error=mistakes.unknown_statement(name))
        return self._foreign_use(name, codes.BIND, data[start:end])

    def _foreign_use(self, name: bytes, kind: int, message: bytes) -> Operation:
        """A message about a statement that is not known here.

        The server says in its own words that it does not know it either, or it does: PREPARE.
        """
        operation = Operation(kind, message)
        if not name and self._names.renames:
            operation.token = UNCLEAR
            if kind == codes.BIND:
                self._lease.bind_unnamed()
        return operation

    def _bind_answered(self, operation: Operation, statement: AnsweredStatement) -> None:
        if len(self.portals) >= mistakes.MAX_PORTALS:
            operation.error = mistakes.too_many_portals()
            return
        try:
            portal = statement.bound(operation.name, operation.data)
        except ClientProtocolError as error:
            operation.error = error
            return
        self.portals[operation.name] = portal
        self._note(operation, statement, portal)

    def _note(
        self,
        operation: Operation,
        statement: AnsweredStatement,
        portal: AnsweredPortal | None = None,
    ) -> None:
        operation.answered = AnsweredMessage(statement, portal)
        self.has_answered = True

    def _execute_operation(self, message: bytes) -> Operation:
        """An Execute, perhaps of a statement that the router answers."""
        name_end = binds.string_end(message, HEADER_SIZE, len(message))
        operation = Operation(codes.EXECUTE, message)
        portal = self.portals.get(message[HEADER_SIZE:name_end])
        if portal is None:
            return operation
        self._note(operation, portal.statement, portal)
        if isinstance(portal.statement, Drop) and not portal.has_run:
            self._execute_drop(operation, portal.statement.wanted)
        return operation

    def _execute_changes(self, naming: Naming, message: bytes) -> Operation:
        """An Execute, perhaps of the unnamed portal, whose SQL changes names.

        That of another portal is nobody's business here: what it prepares keeps the server.
        """
        operation = Operation(codes.EXECUTE, message)
        if message[HEADER_SIZE] == 0 and naming.changes:
            operation.changes = naming.changes
            self._bound = None
            self._names.is_changing = True
        return operation

    def _execute_drop(self, operation: Operation, wanted: Deallocation) -> None:
        answered = operation.answered
        assert answered is not None
        if wanted.name is None:
            answered.dropped = dict(self._names.statements)
            self._names.forget_all()
        elif wanted.name in self._names.statements:
            answered.dropped = {wanted.name: self._names.statements[wanted.name]}
            self._names.drop(wanted.name)
        else:
            operation.error = mistakes.unknown_statement(wanted.name)

    def _named_operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """A Describe or Close of a statement or portal."""
        names = self._names
        what, name = binds.target(data, start, end)
        if what == binds.PORTAL:
            return self._portal_operation(kind, name, data[start:end])
        if what != binds.STATEMENT:
            raise binds.no_target(kind, what)
        statement = names.statements.get(name)
        if statement is None:
            if names.renames and is_reserved(name):
                return Operation(
                    kind,
                    b"",
                    error=None if kind == codes.CLOSE else mistakes.unknown_statement(name),
                )
            if kind == codes.CLOSE and not name:
                self._lease.unnamed_in = None
            return self._foreign_use(name, kind, data[start:end])
        if kind == codes.CLOSE:
            names.drop(name)
        operation = Operation(kind, b"", statement, name)
        if isinstance(statement, AnsweredStatement):
            operation.data = data[start:end]
            self._note(operation, statement)
        else:
            operation.token = names.token_of(name, statement)
            operation.known = names.known_to(statement.glance.naming)
            control = self._control(statement) if kind == codes.DESCRIBE else None
            if control is not None:
                self._note(operation, control)
        return operation

    def _portal_operation(self, kind: int, name: bytes, message: bytes) -> Operation:
        """A Describe or Close of a portal; forwarded but for those that are answered here."""
        operation = Operation(kind, message)
        portal = self.portals.get(name) if self.portals else None
        if portal is not None:
            self._note(operation, portal.statement, portal)
            if kind == codes.CLOSE:
                del self.portals[name]
        return operation
