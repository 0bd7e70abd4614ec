"""The simple protocol of one client: Query, FunctionCall and CopyData."""

from __future__ import annotations

import logging
import re
from collections import deque
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, ForEveryShard, RouterError, RoutingError
from ..protocol import codes, messages
from ..protocol.framing import HEADER_SIZE, string_in
from ..protocol.marks import HARMLESS, UNKNOWN, UNREAD, Glance, of_text
from ..protocol.segments import Segment
from ..protocol.steps import REPLACE_ERROR, Step
from ..queries import FUNCTION_CALL
from ..queries import UNREAD as UNREAD_FINGERPRINT
from ..routing import transactions
from ..routing.tags import without_tags
from . import deferral
from .answered import (
    ANSWERED_BEGINNINGS,
    ANSWERED_LEADS,
    answered_query,
    deallocation,
)
from .batch import MOST_KEPT
from .controls import control_in
from .deferral import has_failed
from .for_all import QueryForAll
from .inspection import text_objection
from .provisions import go_ahead, providing
from .transaction import transaction_failed

if TYPE_CHECKING:
    from ..pool.contracts import Inspector
    from ..pool.server import ServerConnection
    from ..protocol.frontend import ClientStream
    from ..protocol.naming import Naming
    from ..queries import Queries
    from .batch import Batch
    from .client import Client
    from .client_routing import ClientRouting
    from .long import LongMessages

log = logging.getLogger("router.session")


# How texts begin that may need no server.
_ANSWERED_BEGINNINGS: Final = ANSWERED_BEGINNINGS | transactions.BEGINNINGS
_S: Final = ord("s")
_L: Final = ord("l")


# So many texts that are so long are remembered of each kind; for all clients.
_MOST: Final = 2000
_SHORT_TEXT: Final = 500

_ZEROS: Final = bytes(ord("0") if code in b"0123456789" else code for code in range(256))
# Where it may matter which digits they are for how a text is cut into tokens: in the tags of
# dollar quotes, and in 0x1F, 0b11 and 0o17.
_TELLING: Final = re.compile(rb"\$|[0-9][xXbBoO]")
_DIGIT: Final = re.compile("[0-9]")


class Seen:
    """What is known of a text, or of all texts that differ from it in digits only.

    Attributes:
        glance: what a look has told.
        fingerprint: what it is counted by, if that is known.
    """

    __slots__ = ("_is_shared", "fingerprint", "glance")

    def __init__(self, glance: Glance, *, is_shared: bool) -> None:
        self.glance: Final = glance
        self.fingerprint: object = None
        self._is_shared: Final = is_shared

    def fingerprint_of(self, sql: bytes, queries: Queries) -> object:
        """The fingerprint of the text, which is remembered if it is that of all."""
        fingerprint = queries.fingerprint(sql)
        if not self._is_shared or (
            # With other digits it has other literals, and is the same besides.
            _DIGIT.search(fingerprint.text) is None and _TELLING.search(sql) is None
        ):
            self.fingerprint = fingerprint
        return fingerprint


# By the text with a 0 for each digit, if nothing is to be seen there: which digits they are
# matters to names only, and it has none of those that are looked for.
_harmless: Final[dict[bytes, Seen]] = {}
# Of all others, by the text.
_others: Final[dict[bytes, Seen]] = {}


def look_at(sql: bytes) -> Seen:
    """Look at a text, or remember what there was."""
    if len(sql) > _SHORT_TEXT:
        sql = without_tags(sql)
        if len(sql) > _SHORT_TEXT:
            return Seen(of_text(sql), is_shared=False)
    zeros = sql.translate(_ZEROS)
    found = _harmless.get(zeros)
    if found is None:
        found = _others.get(sql)
        if found is None:
            bare = without_tags(sql)
            found = _look(sql, zeros) if bare is sql else look_at(bare)
    return found


def _look(sql: bytes, zeros: bytes) -> Seen:
    glance = of_text(sql)
    known, key = (_harmless, zeros) if glance is HARMLESS else (_others, sql)
    if len(known) >= _MOST:
        known.clear()  # they are soon there again
    found = known[key] = Seen(glance, is_shared=known is _harmless)
    return found


class SimpleProtocol:
    """What becomes of a client's messages that are not those of the extended protocol.

    Each of these may come in the middle of a batch, and then ends it or is skipped with it.
    """

    __slots__ = ("_batch", "_client", "_for_all", "_lease", "_long", "_queries", "_routing")

    def __init__(
        self, client: Client, routing: ClientRouting, batch: Batch, long: LongMessages
    ) -> None:
        self._client: Final = client
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self._batch: Final = batch
        self._long: Final = long
        self._queries: Final = routing.lease.engine.figures.queries
        self._for_all: Final = QueryForAll(routing, batch, self._send)

    def query(self, data: bytes, start: int, end: int) -> bool:
        """Act on a whole Query; False declines it for now."""
        batch, lease, routing = self._batch, self._lease, self._routing
        if batch.skipping:
            return True
        if batch.operations:
            batch.dispatch()  # it ends the batch, like a Sync
            return not lease.is_pending and self.query(data, start, end)
        server = lease.server
        if server is not None and server.queue:
            segment = batch.script.open_segment(server)
            if segment is not None:
                return self._query_in_batch(server, segment, data[start:end])
        # By hand: this is done for every Query, and a call costs more.
        sql = data[start + HEADER_SIZE : max(end - 1, start + HEADER_SIZE)]
        if lease.has_come:
            lease.has_come = False  # all that follows has been done before it had to wait
            if batch.everywhere.current is not None:
                return self._for_all.answer(data[start:end], sql)
            assert server is not None
            return self._send(server, data[start:end], sql)
        # The most frequent one by hand, since a slice and a look-up cost more: SELECT.
        is_select = len(sql) > 2 and sql[0] | 32 == _S and sql[2] | 32 == _L
        if not is_select and (sql[:3] in _ANSWERED_BEGINNINGS or sql[:1] in ANSWERED_LEADS):
            answered = self._answer(sql)
            if answered is not None:
                return answered
        if lease.deferred is not None and has_failed(lease) and self._refuse_in_failed(sql):
            return True
        inspector = lease.pool.inspector
        if inspector is not None:
            if server is not None and server.queue:
                return False  # what is said to this one depends on what came before
            if self._is_for_plugins(inspector, sql):
                return True
        if server is None:
            router, state = lease.pool.router, routing.state
            route = router.static_route if state.is_default else None
            if route is None:
                try:
                    route = router.route(sql, state)
                except ForEveryShard as found:
                    return self._for_all.begin(data[start:end], sql, found)
            server = lease.request(route)
            if server is None:
                return False
        else:
            if server.queue and (not routing.lets_follow(server) or self._naming(sql)):
                return False
            if routing.branches is not None:
                return self._for_all.query(server, data[start:end], sql)
            error: RouterError | None = routing.query_on_wrong_shard(server, sql)
            if isinstance(error, ForEveryShard):
                error = batch.everywhere.join(server, error, None, routing.lease.is_altered)
                if error is None:
                    return False
            if error is not None:
                batch.refuse(error, ends=True)
                return True
        return self._send(server, data[start:end], sql)

    def fail(self, stream: ClientStream, error: RouterError) -> None:
        """There is no server for the message that the stream has found, or its head."""
        if stream.kind == codes.QUERY:
            deferral.fail(self._routing, stream.data[stream.start + HEADER_SIZE : stream.end])
        if stream.missing:
            self._long.refuse(stream.kind, error)
        else:
            self._client.refuse(error, self._lease.ready)
            stream.take()

    def _send(self, server: ServerConnection, message: bytes, sql: bytes) -> bool:
        """Send a whole Query with this text."""
        seen = look_at(sql)
        fingerprint = seen.fingerprint
        if fingerprint is None and self._queries.limit:
            fingerprint = seen.fingerprint_of(sql, self._queries)
        glance = seen.glance
        if glance is not HARMLESS and glance.naming is not None and self._batch.names.renames:
            self._send_naming(server, message, glance, glance.naming, fingerprint)
            return True
        kept = message if len(message) <= MOST_KEPT else None
        self._send_first(server, message, seen.glance, fingerprint, kept)
        return True

    def _naming(self, sql: bytes) -> Naming | None:
        """What a text says of prepared statements by their names."""
        return look_at(sql).glance.naming

    def _send_naming(
        self,
        server: ServerConnection,
        message: bytes,
        glance: Glance,
        naming: Naming,
        fingerprint: object,
    ) -> None:
        """Send a Query that says something of prepared statements.

        What it mentions goes ahead of it, if the server lacks that. If that fails, it is what
        would have become of the statement: tables have gone that it reads, say.
        """
        batch = self._batch
        names = batch.names
        error = names.objection(naming)
        if error is not None:
            batch.refuse(error, ends=True)
            return
        if self._routing.epoch != self._routing.router.epoch:
            batch.rebind()
        known = names.known_to(naming)
        names.note_uses(server, naming, known)
        has_failed = server.status == codes.IN_FAILED_TRANSACTION and not server.queue
        parts = [] if has_failed else providing(server, known)
        following: list[Segment] = []

        def done(error: bytes) -> None:
            if error and naming.is_lone and following[0].steps is None:
                payload = messages.message(codes.ERROR_RESPONSE, error)
                following[0].steps = [Step(REPLACE_ERROR, b"", payload)]

        if parts:
            go_ahead(server, parts, done)
        self._send_first(server, message, glance, fingerprint)
        following.append(server.queue[-1])
        if naming.changes:
            server.queue[-1].changes = deque(naming.changes)
        if parts or naming.changes:
            batch.script.distrust()

    def _send_first(
        self,
        server: ServerConnection,
        message: bytes,
        glance: Glance,
        fingerprint: object,
        kept: bytes | None = None,
    ) -> None:
        """Send a Query or FunctionCall, or the head of one, and expect its replies.

        `kept` is the same if it may be sent again.
        """
        lease = self._lease
        segment = Segment(lease.holder, lease.engine.now)
        segment.request = kept
        segment.fingerprint = fingerprint
        server.queue.append(segment)
        if glance is not HARMLESS:
            segment.is_set_local = glance.is_set_local
            self._note(server, segment, glance)
        self._end_unnamed(server, message)
        if lease.writes is not None:
            lease.writes.note_message(message, is_whole=glance is not UNREAD)
        server.send(message)

    def _note(self, server: ServerConnection, segment: Segment, glance: Glance) -> None:
        """A text is sent of which this is to be seen."""
        self._lease.note(server, glance)
        if glance.alters:
            self._lease.is_altered = True
        if glance.resets_all:
            self._routing.expect_reset(segment)
        if glance.may_copy:  # and then a Sync means nothing
            self._batch.script.distrust()

    def _end_unnamed(self, server: ServerConnection, message: bytes) -> None:
        """PostgreSQL drops the unnamed statement when a Query comes."""
        if message[0] == codes.QUERY:
            server.unnamed = 0
            self._lease.unnamed_in = None
            if b"" in self._batch.names.statements:
                self._batch.names.drop_unnamed()

    def _query_in_batch(
        self,
        server: ServerConnection,
        segment: Segment,
        message: bytes,
        *,
        is_whole: bool = True,
    ) -> bool:
        """A Query before the batch's Sync: it ends the batch, unless the batch has failed.

        Whether it has failed must be known first, because a failed batch makes the server skip
        it.
        """
        if segment.failed:
            return True
        if not self._batch.script.settle(server):
            return False
        sql = string_in(message, 0, len(message))
        if message[0] == codes.QUERY:
            inspector = self._lease.pool.inspector
            if not is_whole:
                if self._long.refuses(codes.QUERY, message):
                    return True
            elif inspector is not None and self._is_for_plugins(inspector, sql):
                return True
            elif (error := self._for_all.wrong_in_batch(server, sql)) is not None:
                self._batch.refuse(error, ends=True)
                return True
            naming = self._naming(sql)
            if naming is not None:
                objection = self._batch.names.objection(naming)
                if objection is not None:
                    self._batch.refuse(objection, ends=True)
                    return True
                known = self._batch.names.known_to(naming)
                self._batch.script.provide_names(server, naming, known)
                if not self._batch.script.settle(server):
                    return False
                if segment.failed:
                    return True
                if self._batch.names.renames and naming.changes:
                    segment.changes = deque(naming.changes)
                    self._batch.script.distrust()
        segment.end_with_query()
        segment.follow(self._queries.fingerprint(sql) if is_whole else UNREAD_FINGERPRINT)
        segment.is_set_local = False
        self._batch.script.reset()
        self._note(server, segment, of_text(message))
        self._end_unnamed(server, message)
        # PostgreSQL may say that the transaction is over, and fail the next statement: XX000.
        server.needs_barrier = True
        if self._lease.writes is not None:
            self._lease.writes.note(None)
        server.send(message)
        return True

    def function_call(self, message: bytes) -> bool:
        """Act on a whole FunctionCall; False declines it for now."""
        batch, lease = self._batch, self._lease
        if batch.skipping:
            return True
        if batch.operations:
            batch.dispatch()
            return not lease.is_pending and self.function_call(message)
        server = lease.server
        if server is not None:
            segment = batch.script.open_segment(server)
            if segment is not None:
                return self._query_in_batch(server, segment, message)
        if server is None:
            server = self._lease.request(
                self._routing.router.route_unknown(self._routing.state)
            )
            if server is None:
                return False
        elif server.queue and not self._routing.lets_follow(server):
            return False
        lease.has_come = False
        self._send_first(server, message, UNREAD, FUNCTION_CALL)
        return True

    def copy(self, message: bytes) -> bool:
        """CopyData, CopyDone or CopyFail: for the server if it is at work, else too late."""
        if self._batch.operations:
            self._batch.dispatch()
            return not self._lease.is_pending and self.copy(message)
        server = self._lease.server
        if server is not None and server.queue:
            self._batch.script.send(server)
            server.send(message)
            server.queue[-1].request = None  # which is not all of it now
            if message[0] != codes.COPY_DATA:
                server.queue[-1].end_copy()
        return True

    def interrupt_copy(self, server: ServerConnection, kind: int) -> None:
        """A message that has no place there comes while the server reads CopyData.

        None of these is passed on, for the COPY may have failed by itself already. PostgreSQL
        ignores Sync and Flush; any other makes it end the connection, because it does not read
        it to its end. That of the pool is kept from it.

        Raises:
            ClientProtocolError: the connection cannot go on.
        """
        if kind == codes.SYNC:
            server.queue[-1].hold_sync()
        elif kind != codes.FLUSH:
            what = f"unexpected message type 0x{kind:02X} during COPY from stdin"
            self._client.refuse(ClientProtocolError(what))
            raise ClientProtocolError(
                "terminating connection because protocol synchronization was lost"
            )

    def long_message(self, kind: int, head: bytes, missing: int) -> bool:
        """Pass on the head of a message that is too long to hold; False declines it for now.

        Raises:
            ClientProtocolError: the connection cannot go on.
            RouterError: there is no server for it.
        """
        lease, long, batch = self._lease, self._long, self._batch
        if lease.is_pending:
            return False
        if lease.server is not None and not lease.server.shield():
            return False
        if long.refused:
            return True
        if kind == codes.COPY_DATA:
            if not batch.operations:
                long.refused = lease.server is None or not lease.server.queue
            return long.refused or self.copy(head)
        server = lease.server
        if server is not None and server.queue and server.queue[-1].copying:
            self.interrupt_copy(server, kind)
        if batch.skipping:
            long.refused = True
            return True
        if kind in b"QF":
            return self._long_query(kind, head)
        return long.begin(kind, head, missing)

    def _long_query(self, kind: int, head: bytes) -> bool:
        """Pass on the head of a Query or FunctionCall that is too long to hold.

        Returns:
            False declines it for now.
        """
        batch, routing = self._batch, self._routing
        if batch.operations:
            batch.dispatch()
            return not self._lease.is_pending and self._long_query(kind, head)
        server = self._lease.server
        if server is None:
            if self._long.refuses(kind, head):
                return True
            server = self._lease.request(routing.router.route_unknown(routing.state))
            if server is None:
                return False
        segment = batch.script.open_segment(server)
        if segment is not None:
            self._long.refused = segment.failed
            if not self._query_in_batch(server, segment, head, is_whole=False):
                return False
            server.marks |= UNKNOWN
            return True
        has_inspector = self._lease.pool.inspector is not None
        if server.queue and (has_inspector or not routing.lets_follow(server)):
            return False
        if self._long.refuses(kind, head):
            return True
        self._lease.has_come = False
        fingerprint = UNREAD_FINGERPRINT if kind == codes.QUERY else FUNCTION_CALL
        self._send_first(server, head, UNREAD, fingerprint)
        return True

    # --- what needs no server

    def _answer(self, sql: bytes) -> bool | None:
        """Answer a routing command, EXPLAIN ROUTE, DEALLOCATE or DISCARD ALL.

        Returns:
            None: it is for the server. False: not before the replies of what was sent earlier.
        """
        lease, names = self._lease, self._batch.names
        busy = lease.server is not None and bool(lease.server.queue)
        try:
            control = control_in(self._routing, sql)
            if control is not None:
                if lease.pool.inspector is not None:
                    lease.pool.inspector.note(sql)
                reply = control.answer_query(self._routing)
                names.drop_unnamed()
                self._client.reply(reply + lease.ready)
                return True
            statement = answered_query(sql)
            if statement is not None:
                if busy:
                    return False
                if lease.status == codes.IN_FAILED_TRANSACTION:
                    raise transaction_failed()
                reply = statement.answer_query(self._routing)
                names.drop_unnamed()
                self._client.reply(reply + messages.ready_for_query(lease.status))
                return True
        except RoutingError as error:
            if busy:
                return False
            names.drop_unnamed()
            self._client.log_refusal(log, error)
            lease.fail()
            self._client.refuse(error, messages.ready_for_query(lease.status))
            return True
        wanted = deallocation(sql)
        if wanted is None or not (names.renames or names.statements):
            return None
        if busy:
            return False
        if lease.status == codes.IN_FAILED_TRANSACTION:
            return None  # the server refuses it
        if not names.deallocate(wanted):
            self._batch.script.distrust()
            return None
        names.drop_unnamed()
        tag = messages.command_complete(wanted.tag)
        self._client.reply(tag + messages.ready_for_query(lease.status))
        return True

    def _refuse_in_failed(self, sql: bytes) -> bool:
        """Answer a Query in a transaction that has failed without a server.

        Not if something follows behind its end: then a server has to fail as well.
        """
        deferred, ending = (
            self._lease.deferred,
            control_in(self._routing, sql.partition(b";")[0]),
        )
        if deferred is not None and ending is not None and ending.ends_failed:
            deferred.fails_at_server = True
            return False
        self._batch.names.drop_unnamed()
        self._client.refuse(transaction_failed(), self._lease.ready)
        return True

    def _is_for_plugins(self, inspector: Inspector, sql: bytes) -> bool:
        """Answer or refuse a Query if the plugins have something to say to it."""
        inspector.note(sql)
        answer = inspector.answer(sql)
        if answer is not None and self._lease.status != codes.IN_FAILED_TRANSACTION:
            rows = answer.rows((0,) * len(answer.columns))
            end = messages.command_complete(f"SELECT {len(rows)}")
            self._give(b"".join((messages.row_description(answer.columns), *rows, end)))
            return True
        error = text_objection(self._lease, inspector, sql)
        if error is not None:
            self._batch.refuse(error, ends=True)
        return error is not None

    def _give(self, reply: bytes) -> None:
        """Answer a Query, whose turn it is.

        In the middle of a batch an empty statement at the server lets that end as by a Query.
        """
        server, script = self._lease.server, self._batch.script
        segment = script.segment
        if server is None or segment is None or segment.steps is None:
            self._client.reply(reply + messages.ready_for_query(self._lease.status))
            return
        segment.end_with_answer(reply)
        script.reset()
        self._batch.names.drop_unnamed()
        server.unnamed = 0
        server.send(messages.query(b""))
