"""What becomes of a batch while no server knows of its client's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RouterError
from ..protocol import codes, messages
from ..routing import transactions
from ..routing.transactions import TransactionKind, TransactionStatement
from .controls import ENDS, TransactionControl, control_of
from .operation import needs_no_server
from .transaction import Deferred, transaction_failed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ..pool.server import ServerConnection
    from ..protocol.segments import Segment
    from .answered import AnsweredPortal
    from .client_routing import ClientRouting
    from .lease import Lease
    from .operation import Operation


_BEGIN: Final = TransactionStatement(TransactionKind.BEGIN, "BEGIN")


def fail(routing: ClientRouting, text: bytes) -> None:
    """What was to run this text has got no server: the transaction that it begins has failed.

    PostgreSQL hardly ever fails a BEGIN, so clients send what belongs to its transaction behind
    it and do not wait. Outside of one that would be committed at once, statement by statement;
    so it is refused until the client ends its transaction.
    """
    lease = routing.lease
    if lease.server is None and lease.deferred is None and transactions.opens(text):
        lease.deferred = Deferred(_BEGIN, routing.state, lease.engine.now)
        routing.state.is_under_way = True
    lease.fail()


def hand_over(operations: Iterable[Operation], portals: dict[bytes, AnsweredPortal]) -> None:
    """What has not been done here about transactions is for the server, like all else."""
    for operation in operations:
        answered = operation.answered
        if answered is None or not isinstance(answered.statement, TransactionControl):
            continue
        portal = answered.portal
        if portal is None or not portal.has_run:
            operation.answered = None
            if portal is not None and portals.get(portal.name) is portal:
                del portals[portal.name]


def leave(lease: Lease, server: ServerConnection, segment: Segment) -> bool:
    """Give the server back if nothing but preparing has been done in the transaction there.

    Its next statement may call for another one. Returns whether it has been given back.
    """
    has_run = segment.has_bound or segment.failed or not segment.extended
    if has_run or server.queue or lease.drops or lease.keeps_server:
        return False
    lease.server = None
    server.pool.release(server)
    if lease.listening is not None:
        lease.listening.detach()
    return True


def perform_first(
    routing: ClientRouting, operations: Sequence[Operation]
) -> tuple[list[bytes] | None, int, RouterError | None]:
    """Carry out the statements that are answered here as far as they come before others.

    Returns:
        The replies, if that was all, or all up to an error, else None; and which operation
        that is of, and the error.
    """
    replies, is_all = list[bytes](), True
    for number, operation in enumerate(operations):
        kind, answered = operation.kind, operation.answered
        if kind in (codes.SYNC, codes.FLUSH):
            continue
        if answered is not None and isinstance(answered.statement, TransactionControl):
            done = answered.reply is not None
            if not done and not (is_all and answered.statement.applies(routing)):
                return None, 0, None  # it is the server's
        if operation.error is None and answered is not None:
            try:
                replies.append(answered.perform(routing, kind, operation.data))
            except RouterError as error:
                operation.error = error
        elif operation.error is None:
            is_all = is_all and needs_no_server(operation)
            replies.append(ANSWERS.get(kind, b""))
            if kind == codes.BIND:
                break  # it may run before whatever comes behind it
        if operation.error is not None:
            return (replies if is_all else None), number, operation.error
    return (replies if is_all else None), len(operations), None


# --- in a transaction that has failed without a server


def has_failed(lease: Lease) -> bool:
    """Whether the client is in one."""
    return lease.server is None and lease.status == codes.IN_FAILED_TRANSACTION


def is_left_to_server(lease: Lease, renames: bool) -> bool:
    """Have a server fail as well, if statements are known to servers alone."""
    if lease.deferred is None or renames:
        return False
    lease.deferred.fails_at_server = True
    return True


def answer_in_failed(
    routing: ClientRouting, operations: Sequence[Operation]
) -> tuple[list[bytes], int, RouterError | None]:
    """Carry out what is allowed in such a transaction, as long as it stays one.

    Returns:
        The replies, and for how many of the operations they are; and what the next one has
        come to, if that is an error.
    """
    replies = list[bytes]()
    for number, operation in enumerate(operations):
        kind, answered, error = operation.kind, operation.answered, operation.error
        if kind in (codes.SYNC, codes.FLUSH):
            continue
        if not has_failed(routing.lease):
            return replies, number, None
        if error is None and kind != codes.CLOSE and not _ends_failed(operation):
            error = transaction_failed()
        if error is None:
            try:
                replies.append(
                    ANSWERS[kind]
                    if answered is None
                    else answered.perform(routing, kind, operation.data)
                )
            except RouterError as found:
                error = found
        if error is not None:
            return replies, number, error
    return replies, len(operations), None


ANSWERS: Final = {
    codes.PARSE: messages.PARSE_COMPLETE,
    codes.CLOSE: messages.CLOSE_COMPLETE,
}


def _ends_failed(operation: Operation) -> bool:
    """Whether it is about a statement that is allowed there."""
    answered = operation.answered
    if answered is not None:
        statement = answered.statement
        if not isinstance(statement, TransactionControl):
            return False
        return statement.ends_failed or (statement.is_empty and answered.portal is None)
    if operation.kind != codes.PARSE or operation.statement is None:
        return False
    wanted = control_of(operation.statement)
    return wanted is not None and wanted.control in ENDS
