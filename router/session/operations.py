"""What the messages of an extended batch mean, and one client's names of statements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError
from ..protocol import codes
from ..protocol.prepared import is_reserved
from .dropping import DroppingStatement, PreparedStatement, dropping_statement

if TYPE_CHECKING:
    from collections.abc import Callable

    from .intercept import Deallocation

# What one client may have prepared at a time.
MAX_STATEMENTS: Final = 20_000
MAX_STATEMENT_BYTES: Final = 64 << 20

_NONE: Final[dict[bytes, PreparedStatement]] = {}


class Operation:
    """One message of a batch, with its names resolved.

    Attributes:
        kind: the message's type.
        data: the whole message if it is forwarded as it is; of a Bind, what follows the names.
        statement: the statement that it prepares, uses or closes.
        name: the client's name for it; of a Bind, the portal.
        previous: what the name meant before a Parse.
        error: the router's own objection.
        dropped: the statements that it drops, if it executes a DEALLOCATE or DISCARD ALL.
        wanted: that DEALLOCATE or DISCARD ALL.
    """

    __slots__ = (
        "data",
        "dropped",
        "error",
        "kind",
        "name",
        "previous",
        "statement",
        "wanted",
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
        self.dropped: dict[bytes, PreparedStatement] = _NONE
        self.wanted: Deallocation | None = None


class Names:
    """The statements of one client by its own names; b"" is the unnamed one.

    Attributes:
        renames: whether statements go by other names on servers; else messages are forwarded.
        statements: what each name means at this point of the client's stream.
    """

    __slots__ = ("_bytes", "_dropping", "_find", "renames", "statements")

    def __init__(self, find: Callable[[bytes], PreparedStatement], *, renames: bool) -> None:
        """`find` gives the shared statement for the body of a Parse."""
        self._find: Final = find
        self.renames = renames
        self.statements: dict[bytes, PreparedStatement] = {}
        self._bytes = 0
        # Portals that drop statements when they are executed.
        self._dropping: dict[bytes, Deallocation] = {}

    def get(self, name: bytes) -> PreparedStatement | None:
        """What a name means now."""
        return self.statements.get(name)

    def operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """Read the message data[start:end]; what it prepares or closes is so from here on."""
        if not self.renames or kind in (codes.EXECUTE, codes.SYNC, codes.FLUSH):
            if kind == codes.EXECUTE and self._dropping:
                return self._execute_operation(data[start:end])
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
            return Operation(codes.PARSE, b"", error=_malformed())
        name = data[start + 5 : split]
        body = data[split + 1 : end]
        previous = self.statements.get(name)
        if name and previous is not None:
            return Operation(codes.PARSE, b"", error=_exists(name))
        if (
            len(self.statements) >= MAX_STATEMENTS
            or self._bytes + len(body) > MAX_STATEMENT_BYTES
        ):
            return Operation(codes.PARSE, b"", error=_too_many())
        statement = dropping_statement(body, self.statements) or self._find(body)
        self.statements[name] = statement
        self._bytes += len(body)
        if previous is not None:
            self._bytes -= len(previous.body)
        return Operation(codes.PARSE, b"", statement, name, previous)

    def _bind_operation(self, data: bytes, start: int, end: int) -> Operation:
        portal_end = data.find(b"\0", start + 5, end)
        name_end = data.find(b"\0", portal_end + 1, end) if portal_end >= 0 else -1
        if name_end < 0:
            return Operation(codes.BIND, b"", error=_malformed())
        name = data[portal_end + 1 : name_end]
        portal = data[start + 5 : portal_end]
        statement = self.statements.get(name)
        if isinstance(statement, DroppingStatement):
            self._dropping[portal] = statement.wanted
        elif self._dropping:
            self._dropping.pop(portal, None)
        if statement is not None:
            return Operation(codes.BIND, data[name_end + 1 : end], statement, portal)
        if is_reserved(name):
            return Operation(codes.BIND, b"", error=unknown_statement(name))
        # The server says in its own words that it does not know it, or it does: PREPARE.
        return Operation(codes.BIND, data[start:end])

    def _execute_operation(self, message: bytes) -> Operation:
        """An Execute, perhaps of a statement that drops others."""
        operation = Operation(codes.EXECUTE, message)
        wanted = self._dropping.get(message[5 : message.find(b"\0", 5)])
        if wanted is None:
            return operation
        operation.wanted = wanted
        if wanted.name is None:
            operation.dropped = dict(self.statements)
            self.forget_all()
        elif wanted.name in self.statements:
            operation.dropped = {wanted.name: self.statements[wanted.name]}
            self._drop(wanted.name)
        else:
            operation.error = unknown_statement(wanted.name)
        return operation

    def _named_operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """A Describe or Close of a statement; those of a portal are forwarded."""
        if end - start < 7 or data[end - 1]:
            return Operation(kind, b"", error=_malformed())
        if data[start + 5] != 0x53:  # 'S'
            return Operation(kind, data[start:end])
        name = data[start + 6 : end - 1]
        statement = self.statements.get(name)
        if statement is None:
            if is_reserved(name):
                return Operation(
                    kind, b"", error=None if kind == codes.CLOSE else unknown_statement(name)
                )
            return Operation(kind, data[start:end])
        if kind == codes.CLOSE:
            self._drop(name)
        return Operation(kind, b"", statement, name)

    def rebind(self) -> Callable[[PreparedStatement], PreparedStatement]:
        """Look all statements up anew; returns what does that for those held elsewhere."""

        def found(statement: PreparedStatement) -> PreparedStatement:
            is_shared = not isinstance(statement, DroppingStatement)
            return self._find(statement.body) if is_shared else statement

        self.statements = {name: found(old) for name, old in self.statements.items()}
        return found

    def _drop(self, name: bytes) -> None:
        statement = self.statements.pop(name, None)
        if statement is not None:
            self._bytes -= len(statement.body)

    def forget(self, name: bytes) -> bool:
        """DEALLOCATE: returns whether the client had a statement of that name."""
        known = name in self.statements
        self._drop(name)
        return known

    def forget_all(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL."""
        self.statements.clear()
        self._bytes = 0

    def undo(self, operation: Operation) -> None:
        """Bring names back to what they were: the operation was skipped."""
        for name, dropped in operation.dropped.items():
            self._drop(name)
            self._restore(name, dropped)
        statement = operation.statement
        if statement is None:
            return
        if operation.kind == codes.PARSE:
            self._drop(operation.name)
            if operation.previous is not None:
                self._restore(operation.name, operation.previous)
        elif operation.kind == codes.CLOSE:
            self._restore(operation.name, statement)

    def _restore(self, name: bytes, statement: PreparedStatement) -> None:
        self.statements[name] = statement
        self._bytes += len(statement.body)


def _malformed() -> RouterError:
    return ClientProtocolError("invalid message format")


def _exists(name: bytes) -> RouterError:
    text = name.decode("utf-8", "replace")
    return ClientProtocolError(f'prepared statement "{text}" already exists', sqlstate="42P05")


def unknown_statement(name: bytes) -> ClientProtocolError:
    """What PostgreSQL says of a name that nobody has prepared."""
    text = name.decode("utf-8", "replace")
    return ClientProtocolError(f'prepared statement "{text}" does not exist', sqlstate="26000")


def _too_many() -> RouterError:
    return ClientProtocolError(
        f"too many prepared statements: a client may have {MAX_STATEMENTS} of them "
        f"and {MAX_STATEMENT_BYTES >> 20} MB of text",
        sqlstate="54000",
        hint="Close statements that are not needed any more.",
    )
