"""What one client wants on all shards: as these are asked for it, and as it is answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import NoSingleShard
from ..pool.participant import Request
from ..protocol import codes, messages
from ..protocol.binds import PORTAL, Parameters
from ..protocol.framing import HEADER, HEADER_SIZE
from ..routing import refusals
from . import alike

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing.types import TableChange
    from .operation import Operation


def of_text(sql: bytes, fingerprint: object, change: TableChange | None = None) -> Request:
    """Ask for a text, as a Query."""
    request = Request(sql, fingerprint)
    request.change, request.keeps_answer = change, change is not None
    return request


def of_bind(bound: Operation, fingerprint: object, change: TableChange | None) -> Request:
    """Ask for what a Bind binds.

    Raises:
        NoSingleShard: it has parameters, and what it does cannot have any.
        RouterError: its values need not be the same on all shards.
    """
    statement = bound.statement
    assert statement is not None
    if change is None:
        if Parameters(bound.data).count:
            raise NoSingleShard(
                "the statement concerns all shards, and has parameters",
                kind=refusals.EVERY_SHARD,
                hint="Write its values as literals.",
            )
        return of_text(statement.text, fingerprint)
    objection = alike.values_vary(change, bound.data)
    if objection is not None:
        raise objection
    request = of_text(statement.text, fingerprint, change)
    request.is_batch = True
    request.data = b"".join(
        (
            messages.parse(b"", statement.body),
            messages.describe_statement(b""),
            messages.message(codes.BIND, b"\0\0" + bound.data),
            messages.message(codes.DESCRIBE, b"P\0"),
            messages.execute(b""),
            messages.SYNC,
        )
    )
    return request


# --- in an extended batch


def is_single(operations: Sequence[Operation]) -> bool:
    """Whether a batch runs one statement, and nothing else."""
    bound = [operation for operation in operations if operation.kind == codes.BIND]
    executed = [operation for operation in operations if operation.kind == codes.EXECUTE]
    if len(bound) != 1 or len(executed) != 1 or bound[0].statement is None:
        return False
    if any(
        operation.error is not None or operation.answered is not None or operation.missing
        for operation in operations
    ):
        return False
    return portal_of(executed[0]) == bound[0].name


def portal_of(operation: Operation) -> bytes:
    """The name of the portal that an Execute is about."""
    return operation.data[HEADER_SIZE:].partition(b"\0")[0]


def bound_in(operations: Sequence[Operation]) -> Operation:
    """The Bind of such a batch."""
    return next(operation for operation in operations if operation.kind == codes.BIND)


def replies_to(
    operations: Sequence[Operation], executed: bytes, *, has_failed: bool, answer: bytes = b""
) -> bytes:
    """The replies to such a batch but its last.

    Args:
        operations: it.
        executed: what its Execute has come to: a tag, or an error.
        has_failed: it is an error.
        answer: descriptions and rows, as a shard has given them.
    """
    replies = []
    statement, portal, rows = _parts_of(answer)
    for operation in operations:
        if operation.kind == codes.EXECUTE:
            replies += [rows, executed]
            if has_failed:
                break
        elif operation.kind == codes.DESCRIBE:
            is_portal = operation.data[HEADER_SIZE : HEADER_SIZE + 1] == bytes((PORTAL,))
            replies.append(portal if is_portal else statement)
        elif operation.kind != codes.FLUSH:
            replies.append(_REPLIES.get(operation.kind, b""))
    return b"".join(replies)


def _parts_of(answer: bytes) -> tuple[bytes, bytes, bytes]:
    """What an answer has about the statement, about the portal, and of rows."""
    ends = [0]
    while ends[-1] < len(answer) and len(ends) <= len("tTT"):
        ends.append(ends[-1] + 1 + HEADER.unpack_from(answer, ends[-1])[1])
    if len(ends) < len("tTT"):
        return messages.parameter_description(()) + messages.NO_DATA, messages.NO_DATA, b""
    return answer[: ends[2]], answer[ends[2] : ends[3]], answer[ends[3] :]


_REPLIES: Final = {
    codes.PARSE: messages.PARSE_COMPLETE,
    codes.BIND: messages.BIND_COMPLETE,
    codes.CLOSE: messages.CLOSE_COMPLETE,
}
