"""What the messages of an extended batch mean, and one client's names of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError
from ..protocol import binds, codes
from ..protocol.binds import declared_types
from ..protocol.framing import HEADER_SIZE
from ..protocol.marks import UNKNOWN
from ..protocol.naming import PREPARE, declared, quoted
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
from .operation import NOBODY, Operation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..pool.contracts import Inspector
    from ..pool.server import ServerConnection
    from ..protocol.columns import Description
    from ..protocol.naming import Change, Naming
    from .answered import AnsweredPortal, Deallocation, PreparedStatement
    from .client_routing import ClientRouting


class Names:
    """The statements of one client by its own names; b"" is the unnamed one.

    Attributes:
        renames: whether statements go by other names on servers; else messages are forwarded.
        statements: what each name means at this point of the client's stream; without
            renaming, the router's own statements only.
        portals: those of statements that the router answers.
        token: what tells its unnamed statement from all others; see `protocol.prepared`.
        has_answered: there has been an operation about one of these lately.
        is_altered: what this transaction has done may give texts another meaning than they
            have for others.
        told: the names of those that the client has been told the columns of.
        is_changing: SQL is on its way that changes what names mean: what is about them has to
            wait for its answer.
    """

    __slots__ = (
        "_bound",
        "_bytes",
        "_lease",
        "_routing",
        "has_answered",
        "is_altered",
        "is_changing",
        "portals",
        "renames",
        "statements",
        "token",
        "told",
    )

    def __init__(self, routing: ClientRouting) -> None:
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self.renames = routing.lease.pool.renames_statements
        self.statements: Final = routing.lease.statements
        self._bytes = 0
        self.portals: dict[bytes, AnsweredPortal] = {}
        self.token = 0
        self.has_answered = False
        self.is_altered = False
        self.is_changing = False
        self.told: Final[set[bytes]] = set()
        # What the unnamed portal is to change, if that is something.
        self._bound: Naming | None = None
        routing.state.prepared_as = self.prepared_as

    def get(self, name: bytes) -> PreparedStatement | None:
        """What a name means now."""
        return self.statements.get(name)

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
            not self.renames
            and kind != codes.PARSE
            and not self.statements
            and not self.portals
        ):
            return Operation(kind, data[start:end])
        if kind == codes.BIND:
            return self._bind_operation(data, start, end)
        if kind == codes.PARSE:
            return self._parse_operation(data, start, end)
        return self._named_operation(kind, data, start, end)

    def _parse_operation(self, data: bytes, start: int, end: int) -> Operation:
        name_end, _ = binds.parse_ends(data, start, end)
        name = data[start + HEADER_SIZE : name_end]
        body = data[name_end + 1 : end]
        previous = self.statements.get(name)
        if not name:
            self._lease.unnamed_in = None
        try:
            answered = answered_statement(body, self.statements, renames=self.renames)
            if answered is None and self._lease.pool.inspector is not None:
                answered = self._inspected(self._lease.pool.inspector, body)
        except RouterError as error:
            if not name:
                self._drop(name)  # PostgreSQL drops it as well
            return Operation(codes.PARSE, b"", error=error)
        if answered is None and not self.renames:
            return self._foreign_parse(name, previous, data[start:end])
        if name and previous is not None and not is_at_server(previous):
            return Operation(codes.PARSE, b"", error=mistakes.exists(name))
        if (
            len(self.statements) >= mistakes.MAX_STATEMENTS
            or self._bytes + len(body) > mistakes.MAX_STATEMENT_BYTES
        ):
            return Operation(codes.PARSE, b"", error=mistakes.too_many())
        statement = self._found(name, body) if answered is None else answered
        objection = self.objection(statement.glance.naming)
        if objection is not None:
            return Operation(codes.PARSE, b"", error=objection)
        operation = Operation(codes.PARSE, b"", statement, name, previous)
        operation.known = self.known_to(statement.glance.naming)
        self._hold(name, statement)
        if answered is not None:
            answered.client_name, answered.size = name, len(body)
            self._note(operation, answered)
        else:
            if not name:
                self.token = operation.token = new_token()
            if self._control(statement) is not None:
                statement.proven = self.has_answered = True  # by being one of those
        return operation

    def _control(self, statement: PreparedStatement) -> TransactionControl | None:
        """What the statement is if it need not have a server, which this client has not."""
        if not may_answer(self._lease):
            return None
        wanted = control_of(statement)
        return None if wanted is None else TransactionControl(wanted)

    def _find(self, body: bytes, rest: bytes = b"") -> PreparedStatement:
        """The statement that stands for the body of a Parse, for this client.

        Others share it, unless they would not mean the same by it. The `rest` is that of a
        PREPARE.
        """
        lease = self._lease
        if self._means_its_own:
            return lease.pool.statement_apart(body, rest)
        return lease.pool.statement(body, lease.settings.context, rest)

    @property
    def _means_its_own(self) -> bool:
        """Whether others may mean something else by a text now."""
        server = self._lease.server
        return self.is_altered or (server is not None and server.is_altered)

    def _described(
        self, statement: PreparedStatement, description: Description, *, is_news: bool = False
    ) -> PreparedStatement:
        """The statement of the same text of which that has been told."""
        pool = self._lease.pool
        if statement.glance.naming is None and not self._means_its_own:
            context = self._lease.settings.context
            return pool.statements.described(
                statement.body, context, statement.rest, description, is_news=is_news
            )
        found = pool.statement_apart(statement.body, statement.rest)
        found.description = description
        return found

    def tell(self, name: bytes, statement: PreparedStatement, description: Description) -> None:
        """The client is told of a statement that it has by this name, or had."""
        if self.statements.get(name) is not statement:
            held = self.statements.get(name)
            known = None if held is None else held.description
            if known is None or not known.is_same(description):
                return  # it is another one by now
        elif statement.description is None:
            statement.description = description
        elif not statement.description.is_same(description):
            self._hold(name, self._described(statement, description, is_news=True))
        self.told.add(name)

    def renew(self, statement: PreparedStatement, description: Description) -> None:
        """A server tells something else of a statement than others have.

        Who has been told that keeps it, and hears of it when it is used.
        """
        found = self._described(statement, description, is_news=True)
        for name, held in list(self.statements.items()):
            if held is statement and name not in self.told:
                self._hold(name, found)

    def _found(self, name: bytes, body: bytes) -> PreparedStatement:
        """The same for a Parse of that name; names in it mean what this client means."""
        if name:
            body = self._lease.pool.router.bare(body)  # tags differ: they are to be one
        found = self._find(body)
        if name and found.glance.naming is not None:
            return self._lease.pool.statement_apart(body)
        return found

    def _hold(self, name: bytes, statement: PreparedStatement) -> None:
        """A name means this from here on."""
        self._drop(name)
        self.statements[name] = statement
        self._bytes += _size(statement)

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
        sql = message[len(name) + 6 :]
        error = self._routing.prepared_out_of_sight(sql[: sql.index(b"\0")])
        if error is not None:
            self._routing.router.tallies.refuse(error)
            return Operation(codes.PARSE, b"", error=error)
        if previous is None:
            if self.statements and drops_all(sql):
                self._forget_untold()
            return Operation(codes.PARSE, message)
        if not name:
            self._drop(name)
            return Operation(codes.PARSE, message)
        if not isinstance(previous, AnsweredStatement) or not previous.is_at_server:
            return Operation(codes.PARSE, b"", error=mistakes.exists(name))
        # The server says what is wrong with that, unless it has been made to forget the name.
        self._drop(name)
        operation = Operation(codes.PARSE, message, None, name, previous)
        self._note(operation, previous)
        return operation

    def _forget_untold(self) -> None:
        """All statements are dropped, so those go that the server does not know of."""
        for name, statement in list(self.statements.items()):
            if not is_at_server(statement):
                self._drop(name)

    def _bind_operation(self, data: bytes, start: int, end: int) -> Operation:
        portal_end, name_end = binds.bind_ends(data, start, end)
        name = data[portal_end + 1 : name_end]
        portal = data[start + HEADER_SIZE : portal_end]
        statement = self.statements.get(name)
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
                operation.token = self.token_of(name, statement)
                if name in self.told:
                    operation.told = statement.description
                control = self._control(statement)
                if control is not None:
                    control.client_name = name
                    self._bind_answered(operation, control)
                self.is_altered |= statement.glance.alters
                if statement.glance.naming is not None:
                    operation.known = self.known_to(statement.glance.naming)
                    if not portal:
                        self._bound = statement.glance.naming
            return operation
        if self.renames and is_reserved(name):
            return Operation(codes.BIND, b"", error=mistakes.unknown_statement(name))
        return self._foreign_use(name, codes.BIND, data[start:end])

    def _foreign_use(self, name: bytes, kind: int, message: bytes) -> Operation:
        """A message about a statement that is not known here.

        The server says in its own words that it does not know it either, or it does: PREPARE.
        """
        operation = Operation(kind, message)
        if not name and self.renames:
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
            self.is_changing = True
        return operation

    def _execute_drop(self, operation: Operation, wanted: Deallocation) -> None:
        answered = operation.answered
        assert answered is not None
        if wanted.name is None:
            answered.dropped = dict(self.statements)
            self.forget_all()
        elif wanted.name in self.statements:
            answered.dropped = {wanted.name: self.statements[wanted.name]}
            self._drop(wanted.name)
        else:
            operation.error = mistakes.unknown_statement(wanted.name)

    def _named_operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """A Describe or Close of a statement or portal."""
        what, name = binds.target(data, start, end)
        if what == binds.PORTAL:
            return self._portal_operation(kind, name, data[start:end])
        if what != binds.STATEMENT:
            raise binds.no_target(kind, what)
        statement = self.statements.get(name)
        if statement is None:
            if self.renames and is_reserved(name):
                return Operation(
                    kind,
                    b"",
                    error=None if kind == codes.CLOSE else mistakes.unknown_statement(name),
                )
            if kind == codes.CLOSE and not name:
                self._lease.unnamed_in = None
            return self._foreign_use(name, kind, data[start:end])
        if kind == codes.CLOSE:
            self._drop(name)
        operation = Operation(kind, b"", statement, name)
        if isinstance(statement, AnsweredStatement):
            operation.data = data[start:end]
            self._note(operation, statement)
        else:
            operation.token = self.token_of(name, statement)
            operation.known = self.known_to(statement.glance.naming)
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

    def rebind(self) -> Callable[[PreparedStatement, bool], PreparedStatement]:
        """Look all statements up anew; returns what does that for those held elsewhere.

        It is to know whether the client may have been told of the statement.
        """

        def found(statement: PreparedStatement, is_told: bool) -> PreparedStatement:
            if isinstance(statement, AnsweredStatement):
                return statement
            if is_told and statement.description is not None:
                return self._described(statement, statement.description)
            if statement.glance.naming is not None:
                return self._lease.pool.statement_apart(statement.body, statement.rest)
            return self._find(statement.body, statement.rest)

        for name, old in self.statements.items():
            self.statements[name] = found(old, name in self.told)
        return found

    # --- SQL

    def objection(self, naming: Naming | None) -> RouterError | None:
        """What there is against a text because of the names in it.

        Those of the router's own do not exist for clients.
        """
        if naming is None or not self.renames:
            return None
        for name in naming.names:
            if is_reserved(name):
                return mistakes.unknown_statement(name)
            statement = self.statements.get(name)
            if statement is not None and not isinstance(statement, AnsweredStatement):
                error = inspection.use_objection(self._lease, statement)
                if error is not None:
                    return error
        return None

    def known_to(self, naming: Naming | None) -> Mapping[bytes, PreparedStatement]:
        """What the names mean now that a text mentions, as far as they are known."""
        if naming is None or not self.renames:
            return NOBODY
        statements = self.statements
        return {name: statements[name] for name in naming.names if name in statements}

    def note_uses(
        self,
        server: ServerConnection,
        naming: Naming,
        known: Mapping[bytes, PreparedStatement],
    ) -> None:
        """A text is on its way that may run statements."""
        for name in naming.runs:
            statement = known.get(name)
            if statement is None:
                server.marks |= UNKNOWN
                self.is_altered = True
            else:
                self._lease.note(server, statement.glance)
                self.is_altered |= statement.glance.alters

    def changed(self, change: Change) -> PreparedStatement | None:
        """SQL has changed what a name means; returns what it means now.

        None after a PREPARE: the statement cannot follow the client, so that it stays where the
        server is, with its client.
        """
        name = change.name
        if not name:
            self.forget_all()
        elif change.tag != PREPARE:
            self._drop(name)
        elif not (
            self._routing.state.has_odd_text
            or len(self.statements) >= mistakes.MAX_STATEMENTS
            or self._bytes + 2 * len(change.rest) > mistakes.MAX_STATEMENT_BYTES
        ):
            statement = self._find(change.body, change.rest)
            self._hold(name, statement)
            return statement
        return None

    def prepared_as(self, name: str) -> tuple[bytes, bytes] | None:
        """The PREPARE for what a name means, and the query in it."""
        key = name.encode()
        statement = self.statements.get(key)
        if statement is None or isinstance(statement, AnsweredStatement):
            return None
        if statement.rest:
            return b"PREPARE " + quoted(key) + statement.rest, statement.text
        try:
            types = declared_types(statement.body)
        except ClientProtocolError:
            return None  # the server says what is wrong with it
        return declared(key, statement.body, types), statement.text

    def _drop(self, name: bytes) -> None:
        statement = self.statements.pop(name, None)
        self.told.discard(name)
        if statement is not None:
            self._bytes -= _size(statement)

    def deallocate(self, wanted: Deallocation) -> bool:
        """A DEALLOCATE or DISCARD ALL comes as a Query; returns whether it needs no server.

        It does if the server has the statement, if it is the one to say that nobody has, or if
        it has to drop or refuse something itself.
        """
        lease = self._lease
        if wanted.name is not None:
            statement = self.get(wanted.name)
            if lease.server is not None and wanted.name in lease.server.named:
                return False  # with its tag the name goes here as well
            self._drop(wanted.name)
            return statement is not None and not is_at_server(statement)
        if wanted.discard and lease.status != codes.IDLE:
            return False
        self.forget_all()
        if lease.server is not None or not self.renames:
            return False
        if wanted.discard:
            self._routing.discard_all()
        return True

    def drop_unnamed(self) -> None:
        """A Query is on its way: PostgreSQL drops the unnamed statement for it."""
        self._lease.unnamed_in = None
        if self.statements:
            self._drop(b"")

    def parse_failed(self, token: int) -> None:
        """The Parse of an unnamed statement has failed, after which there is none."""
        if token and token == self.token and not isinstance(self.get(b""), AnsweredStatement):
            self._drop(b"")

    def token_of(self, name: bytes, statement: PreparedStatement) -> int:
        """The token of a statement that a name stands for; 0 of all but the unnamed one."""
        return 0 if name or isinstance(statement, AnsweredStatement) else self.token

    def forget_all(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL."""
        self.statements.clear()
        self.told.clear()
        self._bytes = 0

    def undo(self, operation: Operation) -> None:
        """Bring names back to what they were: the operation was skipped."""
        answered, statement = operation.answered, operation.statement
        if answered is not None:
            answered.undo()
            for name, dropped in (answered.dropped or {}).items():
                self._drop(name)
                self._restore(name, dropped)
        if operation.kind == codes.PARSE:
            self._drop(operation.name)
            if operation.previous is not None:
                self._restore(operation.name, operation.previous)
        elif operation.kind == codes.CLOSE and statement is not None:
            self._restore(operation.name, statement)

    def _restore(self, name: bytes, statement: PreparedStatement) -> None:
        if not name:
            self.token = new_token()  # servers may have lost it
        self.statements[name] = statement
        self._bytes += _size(statement)
        if statement.description is not None:
            self.told.add(name)  # it may have been


def _size(statement: PreparedStatement) -> int:
    if isinstance(statement, AnsweredStatement):
        return statement.size
    return len(statement.body) + len(statement.rest)
