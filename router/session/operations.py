"""What the messages of an extended batch mean, and one client's names of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError
from ..protocol import codes
from ..protocol.prepared import UNCLEAR, is_reserved, new_token
from . import inspection, mistakes, straying
from .own import Own, OwnPortal, OwnStatement
from .own_statements import DroppingStatement, drops_all, own_statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from .attachment import Attachment
    from .intercept import Deallocation
    from .own import PreparedStatement

_STATEMENT: Final = 0x53


class Operation:
    """One message of a batch, with its names resolved.

    Attributes:
        kind: the message's type.
        data: the whole message if it is forwarded as it is; of a Bind, what follows the names.
        statement: the statement that it prepares, uses or closes.
        name: the client's name for it; of a Bind, the portal.
        previous: what the name meant before a Parse.
        error: the router's own objection.
        own: set if it is about a statement that the router answers itself.
        token: that of the unnamed statement, if it is about that one; UNCLEAR if the client
            has none.
        missing: bytes of the message that are still to come.
    """

    __slots__ = (
        "data",
        "error",
        "kind",
        "missing",
        "name",
        "own",
        "previous",
        "statement",
        "token",
    )

    def __init__(
        self,
        kind: int,
        data: bytes,
        statement: PreparedStatement | None = None,
        name: bytes = b"",
        previous: PreparedStatement | None = None,
        error: RouterError | None = None,
    ) -> None:
        self.kind = kind
        self.data = data
        self.statement = statement
        self.name = name
        self.previous = previous
        self.error = error
        self.own: Own | None = None
        self.token = 0
        self.missing = 0


class Names:
    """The statements of one client by its own names; b"" is the unnamed one.

    Attributes:
        renames: whether statements go by other names on servers; else messages are forwarded.
        statements: what each name means at this point of the client's stream; without
            renaming, the router's own statements only.
        portals: those of the router's own statements.
        token: what tells its unnamed statement from all others; see `protocol.prepared`.
        has_own: there has been an operation about one of these lately.
    """

    __slots__ = (
        "_bytes",
        "_find",
        "_session",
        "has_own",
        "portals",
        "renames",
        "statements",
        "token",
    )

    def __init__(self, session: Attachment, *, renames: bool) -> None:
        self._session: Final = session
        self._find: Final = session.shared_statement
        self.renames = renames
        self.statements: dict[bytes, PreparedStatement] = {}
        self._bytes = 0
        self.portals: dict[bytes, OwnPortal] = {}
        self.token = 0
        self.has_own = False

    def get(self, name: bytes) -> PreparedStatement | None:
        """What a name means now."""
        return self.statements.get(name)

    def operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """Read the message data[start:end]; what it prepares or closes is so from here on."""
        if kind == codes.EXECUTE and self.portals:
            return self._execute_operation(data[start:end])
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
        split = data.find(b"\0", start + 5, end)
        text_end = data.find(b"\0", split + 1, end) if split >= 0 else -1
        if text_end < 0 or text_end + 3 > end:
            return Operation(codes.PARSE, b"", error=mistakes.malformed())
        name = data[start + 5 : split]
        body = data[split + 1 : end]
        previous = self.statements.get(name)
        try:
            own = own_statement(body, self.statements, renames=self.renames)
            if own is None and self._session.pool.inspector is not None:
                own = inspection.inspected(self._session, body)
        except RouterError as error:
            if not name:
                self._drop(name)  # PostgreSQL drops it as well
            return Operation(codes.PARSE, b"", error=error)
        if own is None and not self.renames:
            return self._foreign_parse(name, previous, data[start:end])
        if name and previous is not None and not _is_at_server(previous):
            return Operation(codes.PARSE, b"", error=mistakes.exists(name))
        if (
            len(self.statements) >= mistakes.MAX_STATEMENTS
            or self._bytes + len(body) > mistakes.MAX_STATEMENT_BYTES
        ):
            return Operation(codes.PARSE, b"", error=mistakes.too_many())
        statement = self._find(body) if own is None else own
        self.statements[name] = statement
        self._bytes += _size(statement)
        if previous is not None:
            self._bytes -= _size(previous)
        operation = Operation(codes.PARSE, b"", statement, name, previous)
        if own is not None:
            own.client_name, own.size = name, len(body)
            self._note(operation, own)
        elif not name:
            self.token = operation.token = new_token()
        return operation

    def _foreign_parse(
        self, name: bytes, previous: PreparedStatement | None, message: bytes
    ) -> Operation:
        """A Parse for the server, by a name that may be that of one of the router's own."""
        sql = message[len(name) + 6 :]
        error = straying.foreign_objection(self._session, sql[: sql.index(b"\0")])
        if error is not None:
            self._session.pool.router.tallies.refuse(error)
            return Operation(codes.PARSE, b"", error=error)
        if previous is None:
            if self.statements and drops_all(sql):
                self._forget_untold()
            return Operation(codes.PARSE, message)
        if not name:
            self._drop(name)
            return Operation(codes.PARSE, message)
        if not isinstance(previous, OwnStatement) or not previous.is_at_server:
            return Operation(codes.PARSE, b"", error=mistakes.exists(name))
        # The server says what is wrong with that, unless it has been made to forget the name.
        self._drop(name)
        operation = Operation(codes.PARSE, message, None, name, previous)
        self._note(operation, previous)
        return operation

    def _forget_untold(self) -> None:
        """All statements are dropped, so those go that the server does not know of."""
        for name, statement in list(self.statements.items()):
            if not _is_at_server(statement):
                self._drop(name)

    def _bind_operation(self, data: bytes, start: int, end: int) -> Operation:
        portal_end = data.find(b"\0", start + 5, end)
        name_end = data.find(b"\0", portal_end + 1, end) if portal_end >= 0 else -1
        if name_end < 0:
            return Operation(codes.BIND, b"", error=mistakes.malformed())
        name = data[portal_end + 1 : name_end]
        portal = data[start + 5 : portal_end]
        statement = self.statements.get(name)
        if self.portals:
            self.portals.pop(portal, None)
        if statement is not None:
            operation = Operation(codes.BIND, data[name_end + 1 : end], statement, portal)
            if self._session.pool.inspector is not None:
                operation.error = inspection.use_objection(self._session, statement)
            if isinstance(statement, OwnStatement):
                self._bind_own(operation, statement)
            else:
                operation.token = self.token_of(name, statement)
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
        return operation

    def _bind_own(self, operation: Operation, statement: OwnStatement) -> None:
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
        self, operation: Operation, statement: OwnStatement, portal: OwnPortal | None = None
    ) -> None:
        operation.own = Own(statement, portal)
        self.has_own = True

    def _execute_operation(self, message: bytes) -> Operation:
        """An Execute, perhaps of one of the router's own statements."""
        name_end = message.find(b"\0", 5)
        if name_end < 0:
            return Operation(codes.EXECUTE, b"", error=mistakes.malformed())
        operation = Operation(codes.EXECUTE, message)
        portal = self.portals.get(message[5:name_end])
        if portal is None:
            return operation
        self._note(operation, portal.statement, portal)
        if isinstance(portal.statement, DroppingStatement) and not portal.has_run:
            self._execute_drop(operation, portal.statement.wanted)
        return operation

    def _execute_drop(self, operation: Operation, wanted: Deallocation) -> None:
        own = operation.own
        assert own is not None
        if wanted.name is None:
            own.dropped = dict(self.statements)
            self.forget_all()
        elif wanted.name in self.statements:
            own.dropped = {wanted.name: self.statements[wanted.name]}
            self._drop(wanted.name)
        else:
            operation.error = mistakes.unknown_statement(wanted.name)

    def _named_operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """A Describe or Close of a statement or portal."""
        if end - start < 7 or data[end - 1]:
            return Operation(kind, b"", error=mistakes.malformed())
        name = data[start + 6 : end - 1]
        if data[start + 5] != _STATEMENT:
            return self._portal_operation(kind, name, data[start:end])
        statement = self.statements.get(name)
        if statement is None:
            if self.renames and is_reserved(name):
                return Operation(
                    kind,
                    b"",
                    error=None if kind == codes.CLOSE else mistakes.unknown_statement(name),
                )
            return self._foreign_use(name, kind, data[start:end])
        if kind == codes.CLOSE:
            self._drop(name)
        operation = Operation(kind, b"", statement, name)
        if isinstance(statement, OwnStatement):
            operation.data = data[start:end]
            self._note(operation, statement)
        else:
            operation.token = self.token_of(name, statement)
        return operation

    def _portal_operation(self, kind: int, name: bytes, message: bytes) -> Operation:
        """A Describe or Close of a portal; forwarded but for those of own statements."""
        operation = Operation(kind, message)
        portal = self.portals.get(name) if self.portals else None
        if portal is not None:
            self._note(operation, portal.statement, portal)
            if kind == codes.CLOSE:
                del self.portals[name]
        return operation

    def rebind(self) -> Callable[[PreparedStatement], PreparedStatement]:
        """Look all statements up anew; returns what does that for those held elsewhere."""

        def found(statement: PreparedStatement) -> PreparedStatement:
            is_shared = not isinstance(statement, OwnStatement)
            return self._find(statement.body) if is_shared else statement

        self.statements = {name: found(old) for name, old in self.statements.items()}
        return found

    def _drop(self, name: bytes) -> None:
        statement = self.statements.pop(name, None)
        if statement is not None:
            self._bytes -= _size(statement)

    def forget(self, name: bytes) -> bool:
        """DEALLOCATE: returns whether the client had a statement of that name."""
        known = name in self.statements
        self._drop(name)
        return known

    def drop_unnamed(self) -> None:
        """A Query is on its way: PostgreSQL drops the unnamed statement for it."""
        if self.statements:
            self._drop(b"")

    def parse_failed(self, token: int) -> None:
        """The Parse of an unnamed statement has failed, after which there is none."""
        if token and token == self.token and not isinstance(self.get(b""), OwnStatement):
            self._drop(b"")

    def token_of(self, name: bytes, statement: PreparedStatement) -> int:
        """The token of a statement that a name stands for; 0 of all but the unnamed one."""
        return 0 if name or isinstance(statement, OwnStatement) else self.token

    def forget_all(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL."""
        self.statements.clear()
        self._bytes = 0

    def undo(self, operation: Operation) -> None:
        """Bring names back to what they were: the operation was skipped."""
        own, statement = operation.own, operation.statement
        if own is not None:
            own.undo()
            for name, dropped in (own.dropped or {}).items():
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


def _size(statement: PreparedStatement) -> int:
    return statement.size if isinstance(statement, OwnStatement) else len(statement.body)


def _is_at_server(statement: PreparedStatement) -> bool:
    """Whether the server knows the name, and says what is wrong with using it again."""
    return isinstance(statement, OwnStatement) and statement.is_at_server
