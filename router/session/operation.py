"""One message of an extended batch, with its names resolved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import codes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..errors import RouterError
    from ..protocol.columns import Description
    from ..protocol.naming import Change
    from .answered import AnsweredMessage, PreparedStatement

NOBODY: Final[Mapping[bytes, PreparedStatement]] = {}


class Operation:
    """One message of a batch, with its names resolved.

    Attributes:
        kind: the message's type.
        data: the whole message if it is forwarded as it is; of a Bind, what follows the names.
        statement: the statement that it prepares, uses or closes.
        name: the client's name for it; of a Bind, the portal.
        previous: what the name meant before a Parse.
        error: the router's own objection.
        answered: set if it is about a statement that the router answers itself.
        told: what the client has been told of a statement that it binds, if it has.
        token: that of the unnamed statement, if it is about that one; UNCLEAR if the client
            has none.
        missing: bytes of the message that are still to come.
        changes: what an Execute changes about names of statements, in SQL.
        known: what the names mean that its statement mentions, as far as they are known.
    """

    __slots__ = (
        "answered",
        "changes",
        "data",
        "error",
        "kind",
        "known",
        "missing",
        "name",
        "previous",
        "statement",
        "token",
        "told",
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
        self.answered: AnsweredMessage | None = None
        self.token = 0
        self.told: Description | None = None
        self.missing = 0
        self.changes: tuple[Change, ...] = ()
        self.known: Mapping[bytes, PreparedStatement] = NOBODY

    def rebind(self, found: Callable[[PreparedStatement, bool], PreparedStatement]) -> None:
        """Take what `found` finds for its statements; see `Names.rebind`."""
        if self.statement is not None:
            is_told = self.told is not None or self.kind == codes.DESCRIBE
            self.statement = found(self.statement, is_told)
        if self.previous is not None:
            self.previous = found(self.previous, True)


def needs_no_server(operation: Operation) -> bool:
    """Whether it is a Close, or a Parse of what the servers are known to accept.

    A batch of these is answered at once. Not only because that is faster: a client that
    prepares its statements one by one, and does nothing else meanwhile, could otherwise wait
    for a server that is held by a transaction that waits for that very client.
    """
    statement = operation.statement
    if operation.error is not None or statement is None:
        return False
    return operation.kind == codes.CLOSE or (operation.kind == codes.PARSE and statement.proven)


def need_no_server(operations: list[Operation]) -> bool:
    # A loop is what the compiler knows best.
    for operation in operations:  # noqa: SIM110
        if not needs_no_server(operation):
            return False
    return True
