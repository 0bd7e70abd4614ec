"""What a client does at a server that works for others as well.

What it asks for there is one read that leaves nothing behind, whole, outside of a transaction.
Until that is answered the client sends nothing else: so its own order is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..multiplexing import NOT_A_READ, STATE, UNCOUNTED
from ..pool import sharing
from ..pool.contracts import Sharer
from ..protocol import codes
from ..protocol.binds import bind_ends
from ..protocol.framing import HEADER_SIZE
from ..protocol.marks import HARMLESS
from ..queries import Fingerprint
from .answered import AnsweredStatement
from .batch import MOST_KEPT
from .simple import look_at

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..pool.server import ServerConnection
    from ..protocol.frontend import ClientStream
    from ..protocol.segments import Segment
    from ..protocol.variables import Variables
    from .answered import PreparedStatement
    from .batch import Batch
    from .lease import Lease
    from .operation import Operation
    from .resend import Resend

# A batch of more messages is looked at by nobody.
_MOST: Final = 8


class SharedReads(Sharer):
    """The reads of one client at servers that it does not have alone.

    `send_again` has its session ask for a server for what is to be sent again.
    """

    __slots__ = ("_batch", "_lease", "_resend", "_send_again", "_settings", "_stream")

    def __init__(
        self,
        stream: ClientStream,
        lease: Lease,
        batch: Batch,
        resend: Resend,
        send_again: Callable[[], None],
    ) -> None:
        self._stream: Final = stream
        self._lease: Final = lease
        self._settings: Final = lease.settings
        self._batch: Final = batch
        self._resend: Final = resend
        self._send_again: Final = send_again

    @property
    def variables(self) -> Variables:
        """The settings that a server must have for it."""
        return self._settings.variables

    # --- what it has to send

    def why_alone(self) -> str:
        """Why what it has to send needs a server alone; "" if it does not."""
        lease, batch, stream = self._lease, self._batch, self._stream
        if (
            not self._is_plain
            or lease.pins.loss is not None
            or batch.skipping
            or batch.reader.portals
            or batch.names.is_changing
            or not batch.names.renames
        ):
            return STATE
        if self._resend.waiting:
            if len(self._resend.waiting) > 1:
                return STATE
            segment = self._resend.waiting[0]
            return (
                "" if self._is_known_read(segment.fingerprint, segment.request) else NOT_A_READ
            )
        is_whole = not stream.missing and stream.end - stream.start <= MOST_KEPT
        operations = batch.operations
        # A batch that is taken in one piece may have its Parse there.
        if operations and (stream.kind != codes.BIND or operations[-1].kind != codes.PARSE):
            return self._why_batch_alone(operations)
        if not is_whole:
            return NOT_A_READ
        if stream.kind == codes.QUERY:
            return self._why_query_alone(
                stream.data[stream.start + HEADER_SIZE : max(stream.end - 1, HEADER_SIZE)]
            )
        if stream.kind != codes.BIND:
            return NOT_A_READ
        portal_end, name_end = bind_ends(stream.data, stream.start, stream.end)
        name = stream.data[portal_end + 1 : name_end]
        return self._why_statement_alone(batch.names.statements.get(name))

    @property
    def _is_plain(self) -> bool:
        """Whether nothing but its settings makes a difference between servers for it."""
        lease = self._lease
        return not (
            lease.is_kept_for_good
            or lease.mid_message
            or lease.deferred is not None
            or lease.causality is not None
            or lease.listening is not None
            or lease.drops
            or lease.asks
            or lease.awaits_settings
            or lease.draining
            or self._lease.is_altered
            or self._settings.has_reports
            or self._settings.variables.makes_temporary
        )

    def _why_query_alone(self, sql: bytes) -> str:
        seen, queries = look_at(sql), self._lease.engine.figures.queries
        if seen.glance is not HARMLESS:
            return NOT_A_READ
        if not queries.limit:
            return UNCOUNTED
        fingerprint = (
            seen.fingerprint
            if seen.fingerprint is not None
            else seen.fingerprint_of(sql, queries)
        )
        return "" if self._is_read(fingerprint, sql) else NOT_A_READ

    def _why_batch_alone(self, operations: Sequence[Operation]) -> str:
        """The same of a batch; it has to be complete, and to execute one statement."""
        if len(operations) > _MOST or operations[-1].kind != codes.SYNC:
            return NOT_A_READ
        size, bound, statement = 0, 0, None
        for operation in operations:
            kind = operation.kind
            size += len(operation.data)
            if (
                operation.error is not None
                or operation.answered is not None
                or operation.missing
                or (kind == codes.BIND and operation.name)
                or (kind == codes.DESCRIBE and operation.statement is not None)
                or kind not in b"PBDES"
            ):
                return NOT_A_READ
            if kind == codes.BIND:
                bound += 1
            if operation.statement is not None:
                if statement not in (None, operation.statement):
                    return NOT_A_READ
                statement = operation.statement
        if bound != 1 or size > MOST_KEPT:
            return NOT_A_READ
        return self._why_statement_alone(statement)

    def _why_statement_alone(self, statement: PreparedStatement | None) -> str:
        if (
            statement is None
            or isinstance(statement, AnsweredStatement)
            or statement.glance is not HARMLESS
        ):
            return NOT_A_READ
        fingerprint = self._batch.script.fingerprint_of(statement)
        if fingerprint is None:
            return UNCOUNTED
        return "" if self._is_read(fingerprint, statement.text) else NOT_A_READ

    def _is_read(self, fingerprint: object, text: bytes) -> bool:
        """Whether a text of this fingerprint is one read that leaves nothing behind."""
        router = self._lease.pool.router
        if not isinstance(fingerprint, Fingerprint) or not fingerprint.kind:
            return False
        if fingerprint.judged_by is not router or fingerprint.judged_in != router.epoch:
            analysis = router.classify(text)
            fingerprint.is_contained_read = analysis.is_read and analysis.self_contained
            fingerprint.judged_by, fingerprint.judged_in = router, router.epoch
        return fingerprint.is_contained_read

    def _is_known_read(self, fingerprint: object, request: object) -> bool:
        """The same of what has been sent, if that is all there."""
        router = self._lease.pool.router
        if not isinstance(fingerprint, Fingerprint) or request is None:
            return False
        if fingerprint.judged_by is router and fingerprint.judged_in == router.epoch:
            return fingerprint.is_contained_read
        text = self._resend.text_of(request)
        return text is not None and self._is_read(fingerprint, text)

    # --- at a server

    def lets_in(self, server: ServerConnection) -> bool:
        """Whether others may go behind what it has sent to the server that it has alone."""
        batch, segment = self._batch, server.queue[0]
        return (
            self._lease.server is server
            and self._is_plain
            and not self._lease.has_come
            and not self._lease.xact_open
            and not batch.operations
            and not batch.script.has_unsent
            and not self._resend.waiting
            and segment.behind is None
            and self._is_known_read(segment.fingerprint, segment.request)
        )

    def send_elsewhere(self, segment: Segment) -> None:
        """What it has sent there runs for nobody: another server has to run it."""
        self._lease.lose()
        self._resend.waiting = [segment]
        self._send_again()

    def cancel(self) -> None:
        """The client wants cancelled what it has sent, wherever that is."""
        server, holder = self._lease.server, self._lease.holder
        if server is None or server.client is holder:
            self._lease.cancel()
            return
        segment = sharing.cancel(server, holder)
        if segment is not None:
            self._lease.lose()
            self._resend.waiting = [segment]
            self._resend.refuse(
                RoutingError("canceling statement due to user request", sqlstate="57014")
            )
            self._send_again()
