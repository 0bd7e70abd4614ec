"""What one client wants on all shards: as these are asked for it, and as it is answered."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, NoSingleShard, RouterError
from ..pool.participant import Request
from ..protocol import codes, messages
from ..protocol.binds import PORTAL, Parameters, declared_types
from ..protocol.framing import HEADER_SIZE
from ..routing import refusals
from ..routing.for_all import ChangeForAll
from . import alike
from .bound_keys import bound_values
from .split import Split, messages_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing.types import TableChange
    from .client_routing import ClientRouting
    from .operation import Operation


def split_text(routing: ClientRouting, sql: bytes, fingerprint: object) -> Split:
    """Ask each shard for its rows, as a Query.

    Raises:
        RoutingError: they cannot be split.
    """
    rows, shards = routing.router.shards_of_rows(sql, routing.state)
    split = Split(sql, shards)
    for shard, numbers in _by_shard(shards).items():
        split.requests[shard] = Request(rows.some(numbers)[0], fingerprint)
        split.requests[shard].keeps_answer = True
    return split


def split_bind(
    routing: ClientRouting, operations: Sequence[Operation], fingerprint: object
) -> Split:
    """Ask each shard for its rows, with its part of the values of the Bind in a batch.

    Raises:
        RouterError: they cannot be split.
    """
    bound = bound_in(operations)
    router, state, statement = routing.router, routing.state, bound.statement
    assert statement is not None
    if any(
        operation.kind == codes.DESCRIBE and operation.statement is not None
        for operation in operations
    ):
        raise refusals.not_to_be_split("their statement is described in the same batch")
    analysis = router.analyse(statement.text)
    assert analysis is not None
    keys = bound_values(router, state, statement, analysis, bound.data, is_whole=True)
    rows, shards = router.shards_of_rows(statement.text, state, keys)
    types = declared_types(statement.body)
    split = Split(statement.text, shards)
    for shard, numbers in _by_shard(shards).items():
        sql, kept = rows.some(numbers)
        request = Request(sql, fingerprint)
        oids = [types[number - 1] if number <= len(types) else 0 for number in kept]
        body = sql + b"\0" + struct.pack(f"!H{len(oids)}I", len(oids), *oids)
        _make_batch(request, body, _some_values(bound.data, kept))
        split.requests[shard] = request
    return split


def _by_shard(shards: Sequence[int]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for number, shard in enumerate(shards):
        found.setdefault(shard, []).append(number)
    return found


def _some_values(bind: bytes, kept: Sequence[int]) -> bytes:
    """What follows the names in a Bind of some of the values, in this order."""
    parameters = Parameters(bind)
    values: list[tuple[int, bytes]] = []
    while parameters.advance():
        value = parameters.value
        size = -1 if parameters.is_null else len(value)
        values.append((parameters.is_binary, struct.pack("!i", size) + value))
    formats = parameters.result_formats()
    if any(number > len(values) for number in kept):
        raise ClientProtocolError("bind message supplies too few parameters")
    some = [values[number - 1] for number in kept]
    return b"".join(
        (
            struct.pack(f"!H{len(some)}H", len(some), *(is_binary for is_binary, _ in some)),
            struct.pack("!H", len(some)),
            *(value for _, value in some),
            struct.pack(f"!H{len(formats)}H", len(formats), *formats),
        )
    )


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
    _make_batch(request, statement.body, bound.data)
    return request


def _make_batch(request: Request, body: bytes, bind: bytes) -> None:
    request.is_batch = request.keeps_answer = True
    request.data = b"".join(
        (
            messages.parse(b"", body),
            messages.describe_statement(b""),
            messages.message(codes.BIND, b"\0\0" + bind),
            messages.message(codes.DESCRIBE, b"P\0"),
            messages.execute(b""),
            messages.SYNC,
        )
    )


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
    found = messages_of(answer)
    if len(found) < len("tTT"):
        return messages.parameter_description(()) + messages.NO_DATA, messages.NO_DATA, b""
    return found[0] + found[1], found[2], b"".join(found[3:])


_REPLIES: Final = {
    codes.PARSE: messages.PARSE_COMPLETE,
    codes.BIND: messages.BIND_COMPLETE,
    codes.CLOSE: messages.CLOSE_COMPLETE,
}


# --- what stands in the way


def change_in(error: RouterError | None) -> TableChange | None:
    """What is changed of a table that every shard has, by what stands in the way."""
    return error.change if isinstance(error, ChangeForAll) else None


def bound_before() -> NoSingleShard:
    """Why what was bound in a transaction that was on one shard yet is not executed on all.

    It may end it, or go back to a savepoint, and would do so on that shard alone.
    """
    return NoSingleShard(
        "the portal was bound before its transaction was on all shards",
        kind=refusals.EVERY_SHARD,
        hint="Bind it anew, or execute it before anything is defined.",
    )


def not_alone() -> NoSingleShard:
    """Why what concerns all shards cannot be run behind what is not answered yet."""
    return NoSingleShard(
        "in a transaction that is on all shards this must be a batch of its own",
        kind=refusals.EVERY_SHARD,
        hint="Send a Sync before it.",
    )
