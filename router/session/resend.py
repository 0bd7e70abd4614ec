"""What a lost server has not answered, sent again elsewhere where that can do no harm.

Theory of operation
-------------------
A segment keeps what its client has sent for it (`Segment.request`) until it is answered. Is the
server lost before that, all that the client has on its way there is sent to another, in its
order, if each of it

- is whole, outside of a transaction in which the client has been answered, and the first try
  (a server that ends all its connections does so one after the other: what has met one of these
  may meet the next);
- has not been answered in part to the client;
- is a read that leaves nothing behind, or begins or ends a transaction in which nothing but
  these has been; or the bytes have never left the router.

The first error of a segment is therefore withheld (`ReplySink.withholds`) if it is the last
word of a server, or if it says that a prepared statement has other columns than before: then
nothing has been executed, and the statement is prepared anew, if the client asks for columns
in the same batch.

What was sent and cannot be repeated fails: nobody knows what has become of it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import ServerLost
from ..pool import upkeep
from ..pool.server import ServerConnection
from ..protocol import codes, marks, messages
from ..protocol.binds import PORTAL
from ..protocol.framing import HEADER_SIZE, string_in
from ..protocol.segments import Segment
from ..routing import transactions
from .batch_route import batch_route
from .operation import Operation
from .whole_batch import WholeBatch

if TYPE_CHECKING:
    from ..errors import RouterError
    from ..pool.contracts import Loss
    from ..routing.types import Route
    from .batch import Batch
    from .client import Client
    from .client_routing import ClientRouting

log = logging.getLogger("router.session")

UNKNOWN_OUTCOME: Final = "Whether the server has carried out what it was sent is not known."


class Resend:
    """What one client has had on its way, while it waits for another server.

    Attributes:
        waiting: the segments that were lost, the first first.
    """

    __slots__ = ("_batch", "_client", "_lease", "_lost_at", "_routing", "waiting")

    def __init__(self, client: Client, routing: ClientRouting, batch: Batch) -> None:
        self._client: Final = client
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self._batch: Final = batch
        self.waiting: list[Segment] = []
        # How many queries had been answered when one was lost that had not been sent.
        self._lost_at = -1

    # --- whether

    def take(self, error: RouterError, loss: Loss) -> bool:
        """See whether what was lost can be sent again; it is then `waiting`.

        It is not if nothing of it was sent at all because it waited for the server: then the
        client's input is where it was.
        """
        lease, server = self._lease, loss.server
        if (
            not isinstance(error, ServerLost)
            or not lease.pool.settings.retry_reads
            or self._client.closed
            or lease.mid_message
            # In one that is deferred nothing of the client's has been answered.
            or (server.status != codes.IDLE and lease.deferred is None)
        ):
            return False
        is_first = server.query_count == server.answered_before
        if lease.is_kept_for_good and not is_first:
            return False
        if not loss.segments:
            waits = lease.has_come or bool(self._batch.operations)
            if not waits or not is_first or self._lost_at == self._client.query_count:
                return False
            self._lost_at = self._client.query_count
            self._check_others(server)
            return True
        for segment in loss.segments:
            if segment.request is None or segment.is_heard or segment.is_open:
                return False
            if not _is_first_try(segment, server):
                return False
            if not (_is_whole(segment) if loss.is_unsent else self._is_read(segment)):
                return False
        self.waiting = loss.segments
        server.used_at = lease.engine.now
        for segment in self.waiting:
            segment.lost_with = server
        if not loss.is_unsent:
            lease.pool.retried_reads += len(self.waiting)
        text = "client %s: %s; sending it again"
        more = server.fields(**self._client.names(), sqlstate=error.sqlstate)
        log.info(text, self._client.peer, error.line, extra=more)
        self._check_others(server)
        return True

    def _check_others(self, server: ServerConnection) -> None:
        """Other connections may be as dead as the one that was lost."""
        for part in self._lease.pool.shards[server.pool.address.shard]:
            upkeep.check_idle(part)

    def withholds(self, segment: Segment, error: bytes) -> bool:
        """Whether the client is not told of the first error of its segment, for now."""
        if messages.is_last(error):
            return True
        lease, server = self._lease, self._lease.server
        if (
            server is None
            or lease.keeps_server
            or not lease.pool.settings.retry_reads
            or server.status != codes.IDLE
            or (len(server.queue) > 1 and server.client is lease.holder)
            or segment.is_open
            or segment.lost_with is not None
            or not messages.is_of_stale_plan(_sqlstate(error), error)
        ):
            return False
        texts = _texts(segment)
        return (
            texts is not None
            and len(texts) == 1
            and lease.pool.router.classify(texts[0]).self_contained
            # Who does not ask would read the new columns as those that it was told of once.
            and any(operation.kind == codes.DESCRIBE for operation in _operations(segment))
        )

    def _is_read(self, segment: Segment) -> bool:
        """Whether all that it runs is known to read, and to leave nothing behind.

        No transaction was open before the first of all that was lost, so one that began since
        has been lost whole, and has done nothing but read.
        """
        texts = _texts(segment)
        return texts is not None and all(
            transactions.read(text) is not None or self._reads(text) for text in texts
        )

    def _reads(self, text: bytes) -> bool:
        analysis = self._lease.pool.router.classify(text)
        return analysis.is_read and analysis.self_contained

    def text_of(self, request: object) -> bytes | None:
        """The text that a request runs, if it is that of one statement."""
        if isinstance(request, bytes):
            return string_in(request, 0, len(request))
        if isinstance(request, WholeBatch):
            return request.statement.text
        bound = [each for each in _requested(request) if each.kind == codes.BIND]
        if len(bound) != 1 or bound[0].statement is None:
            return None
        return bound[0].statement.text

    # --- again

    def ask(self) -> None:
        """Ask for a server for the first that waits, and send it if there is one.

        Raises:
            RouterError: there is none; see `refuse`.
        """
        server = self._lease.server or self._lease.request(self._route())
        if server is not None:
            self.send(server)

    def _route(self) -> Route:
        operations = _operations(self.waiting[0])
        router, state = self._lease.pool.router, self._routing.state
        first = operations[0]
        if first.kind == codes.QUERY:
            return router.route(string_in(first.data, 0, len(first.data)), state)
        return batch_route(router, state, operations, complete=True)

    def send(self, server: ServerConnection) -> None:
        """Send the first that waits."""
        lost = self.waiting.pop(0)
        operations, script = _operations(lost), self._batch.script
        self._lease.has_come = False
        script.trust()
        if operations[0].kind == codes.QUERY:
            message = operations[0].data
            server.queue.append(Segment(self._lease.holder))
            server.unnamed = 0
            server.marks |= marks.of_text(message).leaves
            server.send(message)
        else:
            self._batch.run(server, operations)
        segment = server.queue[-1]
        segment.started, segment.resets_all = lost.started, lost.resets_all
        segment.request, segment.lost_with = lost.request, lost.lost_with
        segment.fingerprint = (
            lost.fingerprint if segment.fingerprint is None else segment.fingerprint
        )

    def prepare_anew(self, server: ServerConnection, segment: Segment) -> None:
        """The server has statements that are out of date: have the client's made anew."""
        self.waiting = [segment]
        segment.request = operations = _operations(segment)
        segment.lost_with = server
        self._batch.rebind(operations)
        self._lease.pool.prepared_anew += 1

    def refuse(self, error: RouterError) -> RouterError | None:
        """There is no server for the first that waits.

        Returns:
            Why the session has to end, for which all that waits is dropped: it would have begun
            a transaction, and what belongs to that is perhaps on its way.
        """
        lost = self.waiting.pop(0)
        if any(transactions.opens(text) for text in _texts(lost) or ()):
            self.waiting.clear()
            return error
        for operation in reversed(_operations(lost)):
            self._batch.names.undo(operation)
        self._client.refuse(error, self._lease.ready)
        return None


def last_words(error: RouterError, loss: Loss, *, can_tell: bool) -> bytes:
    """What a client is told whose session ends with its server: that server's words, or ours.

    `can_tell`: it is not in the middle of a message, nor has it been told.
    """
    if loss.segments and loss.segments[0].withheld:
        return loss.segments[0].withheld
    if not can_tell:
        return b""
    first = loss.segments[0] if loss.segments else None
    farewell = b"" if first is None or first.is_heard else first.farewell
    return farewell + messages.error_response(
        error.message,
        error.sqlstate,
        severity="FATAL",
        detail=error.detail or (UNKNOWN_OUTCOME if loss.segments else ""),
        hint=error.hint,
    )


def _operations(segment: Segment) -> list[Operation]:
    """What its client has sent for it."""
    return _requested(segment.request)


def _requested(request: object) -> list[Operation]:
    if isinstance(request, bytes):
        return [Operation(codes.QUERY, request)]
    if isinstance(request, WholeBatch):
        return request.operations()
    assert isinstance(request, list)
    return request


def _texts(segment: Segment) -> list[bytes] | None:
    """The texts of what it runs; None if that is not all that is to be known of it."""
    if not _is_whole(segment):
        return None
    found: list[bytes] = []
    for operation in _operations(segment):
        kind, statement = operation.kind, operation.statement
        if kind == codes.QUERY:
            found.append(string_in(operation.data, 0, len(operation.data)))
        elif statement is not None:
            if kind == codes.BIND:
                found.append(statement.text)
        elif kind not in (codes.EXECUTE, codes.SYNC) and not _is_of_portal(operation):
            return None
    return found


def _is_whole(segment: Segment) -> bool:
    """Whether what it was asked does the same if it is sent to a server once more."""
    return segment.request is not None and all(
        operation.error is None and operation.answered is None and not operation.missing
        for operation in _operations(segment)
    )


def _is_first_try(segment: Segment, server: ServerConnection) -> bool:
    """Whether it may be sent again, having been lost with the server.

    A statement that makes servers crash must not be taken from one to the next.
    """
    before = segment.lost_with
    return before is None or (
        isinstance(before, ServerConnection)
        and before.pool is server.pool
        and server.asked_at < before.used_at
    )


def _is_of_portal(operation: Operation) -> bool:
    """Whether it is a Describe or Close of what the same batch has bound."""
    is_one = operation.kind in (codes.DESCRIBE, codes.CLOSE)
    return is_one and operation.data[HEADER_SIZE : HEADER_SIZE + 1] == bytes((PORTAL,))


def _sqlstate(error: bytes) -> bytes:
    start = error.find(b"\0C") + 2
    return error[start : start + 5]
