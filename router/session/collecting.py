"""The batch of a client that has no server yet: what it needs decides the route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RouterError, RoutingError
from ..protocol import codes, messages
from .batch_route import batch_route

if TYPE_CHECKING:
    from .operations import Names, Operation
    from .session import Session

# So many bytes do not wait for the Sync.
BATCH_LIMIT: Final = 64 * 1024

_ANSWERS: Final = {
    codes.PARSE: messages.PARSE_COMPLETE,
    codes.CLOSE: messages.CLOSE_COMPLETE,
}


def _needs_no_server(operation: Operation) -> bool:
    """Whether it is a Close, or a Parse of what the servers are known to accept.

    A batch of these is answered at once. Not only because that is faster: a client that
    prepares its statements one by one, and does nothing else meanwhile, could otherwise wait
    for a server that is held by a transaction that waits for that very client.
    """
    statement = operation.statement
    if operation.error is not None or statement is None:
        return False
    return operation.kind == codes.CLOSE or (operation.kind == codes.PARSE and statement.proven)


def _need_no_server(operations: list[Operation]) -> bool:
    # A loop is what the compiler knows best.
    for operation in operations:  # noqa: SIM110
        if not _needs_no_server(operation):
            return False
    return True


class Collected:
    """Operations in the order of their messages.

    Attributes:
        operations: none if no batch is open, or if it is at a server.
    """

    __slots__ = ("_is_begun", "_names", "_session", "_size", "operations")

    def __init__(self, session: Session, names: Names) -> None:
        self._session: Final = session
        self._names: Final = names
        self.operations: list[Operation] = []
        self._size = 0
        # The open batch has been answered so far.
        self._is_begun = False

    def add(self, kind: int, data: bytes, start: int, end: int) -> None:
        """Take a message; what ends the batch, or makes it too long, asks for a server."""
        operations = self.operations
        if kind == codes.SYNC and _need_no_server(operations):
            self._is_begun = False
            replies = [_ANSWERS[operation.kind] for operation in self.take()]
            self._session.reply(b"".join(replies) + messages.READY_IDLE)
            return
        if not operations:
            if kind == codes.FLUSH:
                return
            if self._names.portals and not self._is_begun:
                self._names.portals.clear()  # they have ended with their transaction
        operations.append(self._names.operation(kind, data, start, end))
        self._size += end - start
        if kind in (codes.SYNC, codes.FLUSH) or self._size > BATCH_LIMIT:
            self.dispatch()

    def go_on(self, operation: Operation) -> None:
        """Take the next of a batch of which a server has answered what came before."""
        self._is_begun = True
        self.operations.append(operation)
        self._size += len(operation.data)

    @property
    def could_be_sent(self) -> bool:
        """Whether a server would have something to say of what is here."""
        operations = self.operations
        if (
            not operations
            or self._session.waiter is not None
            or self._session.server is not None
        ):
            return False
        return not _need_no_server(operations)

    @property
    def is_complete(self) -> bool:
        """Whether it ends in its Sync."""
        return bool(self.operations) and self.operations[-1].kind == codes.SYNC

    def dispatch(self, long: Operation | None = None) -> None:
        """Ask for a server, be it for a message that is too long to be among the operations."""
        session = self._session
        if session.pool.retired and not session.change_pool():
            return
        if session.epoch != session.pool.router.epoch:
            session.look_up_anew()
        if self._names.has_own and self._settle():
            return
        if session.routing.has_local:
            self._note_local()
        try:
            route = batch_route(
                session.pool.router,
                session.routing,
                self.operations if long is None else [*self.operations, long],
                complete=self.is_complete,
            )
        except RoutingError as error:
            session.checkout_failed(error)
            return
        session.checkout(route)

    def _note_local(self) -> None:
        """SET LOCAL holds until something has been executed; to prepare it is not enough."""
        executes = any(operation.kind == codes.EXECUTE for operation in self.operations)
        self._session.routing.is_under_way = executes or not self.is_complete

    def _settle(self) -> bool:
        """Carry out the router's own statements as far as they come before the others.

        So they have their effect on the route of those. Returns whether that was all, and has
        been answered.
        """
        session, replies, is_all = self._session, list[bytes](), True
        for number, operation in enumerate(self.operations):
            kind, own = operation.kind, operation.own
            if kind in (codes.SYNC, codes.FLUSH):
                continue
            if operation.error is None and own is not None:
                try:
                    replies.append(own.perform(session, kind, operation.data))
                except RouterError as error:
                    operation.error = error
            elif operation.error is None:
                is_all = is_all and _needs_no_server(operation)
                replies.append(_ANSWERS.get(kind, b""))
                if kind == codes.BIND:
                    break  # it may run before whatever comes behind it
            if operation.error is not None:
                if is_all:
                    self._answer_error(replies, number, operation.error)
                return is_all
        if is_all:
            self._answer(replies)
        return is_all

    def _answer(self, replies: list[bytes]) -> None:
        """The batch needs no server so far."""
        is_complete = self.is_complete
        self.take()
        self._is_begun = not is_complete
        self._session.reply(b"".join(replies) + (messages.READY_IDLE if is_complete else b""))

    def _answer_error(self, replies: list[bytes], number: int, error: RouterError) -> None:
        """Of the operations, the one of that number has failed, and the rest are skipped."""
        session, is_complete = self._session, self.is_complete
        session.error_count += 1
        for operation in reversed(self.take()[number:]):
            self._names.undo(operation)
        self._is_begun = False
        session.extended.skipping = not is_complete
        replies.append(messages.error_from(error))
        session.reply(b"".join(replies) + (messages.READY_IDLE if is_complete else b""))

    def take(self) -> list[Operation]:
        """The operations, which are then the caller's."""
        operations, self.operations = self.operations, []
        self._size = 0
        self._is_begun = self._names.has_own = False
        return operations

    def fail(self) -> bool:
        """Give the batch up; returns whether its Sync was among it."""
        synced = self.is_complete
        for operation in reversed(self.take()):
            self._names.undo(operation)
        return synced

    def rebind(self) -> None:
        """Look all statements of the client up anew, those among the operations too."""
        found = self._names.rebind()
        for operation in self.operations:
            if operation.statement is not None:
                operation.statement = found(operation.statement)
            if operation.previous is not None:
                operation.previous = found(operation.previous)
