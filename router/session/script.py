"""The batch that a server is being sent: its messages, and what becomes of their replies.

An operation becomes messages for the server and steps of the segment's script, so that all
replies come in PostgreSQL's order.

What clients name they share, by a name of the router's own: a Parse of what the server has
becomes a made-up ParseComplete, and what it lacks is parsed ahead of its use. A Parse without a
name goes to the server as it stands, whose unnamed statement it becomes; if another one has
taken that place when it is used, it is parsed again.

Errors that the router finds have to fail in the server too, so that the transaction comes to
the state that PostgreSQL would be in. So such a message is sent as one that is bound to fail,
and the server's error is replaced by ours.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from ..errors import RouterError
from ..protocol import codes, marks, messages
from ..protocol.binds import bind_head
from ..protocol.segments import Segment
from ..protocol.steps import (
    EMIT,
    FORWARD,
    FORWARD_BIND,
    FORWARD_CLOSE,
    FORWARD_DESCRIBE,
    FORWARD_EXECUTE,
    FORWARD_PARSE,
    REPLACE_ERROR,
    SWALLOW,
    Step,
)
from ..queries import RawFingerprints
from .answered import EMPTY_BODY
from .provisions import describing, dropping, making, making_unnamed, providing, retiring
from .transaction import transaction_failed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.server import ServerConnection
    from ..protocol.columns import Description
    from ..protocol.naming import Change, Naming
    from .answered import AnsweredMessage, PreparedStatement
    from .client_routing import ClientRouting
    from .names import Names
    from .operation import Operation

log = logging.getLogger("router.session")

# A Bind to a statement that cannot exist: no serial number is 0.
POISON: Final = bind_head(b"", b"PGCAT_0", 6) + bytes(6)
# A Bind of no values, from behind its names.
_NOTHING_BOUND: Final = bytes(6)

_COPY_FAIL: Final = messages.copy_fail("client disconnected")

_RAW_STEPS: Final = {
    codes.PARSE: FORWARD_PARSE,
    codes.BIND: FORWARD_BIND,
    codes.DESCRIBE: FORWARD_DESCRIBE,
    codes.EXECUTE: FORWARD_EXECUTE,
    codes.CLOSE: FORWARD_CLOSE,
}


class Script:
    """One client's open batch at its server, if there is one.

    Attributes:
        segment: it, until its Sync.
        out_size: bytes of messages that are translated and not sent yet.
    """

    __slots__ = (
        "_has_altered",
        "_keep_script",
        "_names",
        "_out",
        "_queries",
        "_raw_fingerprints",
        "_routing",
        "_unproven",
        "out_size",
        "segment",
    )

    def __init__(self, routing: ClientRouting, names: Names) -> None:
        self._routing: Final = routing
        self._names: Final = names
        self.segment: Segment | None = None
        self._out: list[bytes] = []
        self.out_size = 0
        # Something in it is not simply forwarded, or something hangs on its reply.
        self._keep_script = False
        # Something in it may have changed what the texts behind it mean.
        self._has_altered = False
        # A Parse is on its way whose success nobody may count on yet.
        self._unproven = False
        self._queries: Final = routing.lease.engine.figures.queries
        self._raw_fingerprints: Final = RawFingerprints(self._queries)

    # --- what is counted

    def fingerprint_of(self, statement: PreparedStatement) -> object:
        """The fingerprint of a statement; None if that is not counted."""
        if statement.fingerprint is None and self._queries.limit:
            statement.fingerprint = self._queries.fingerprint(statement.text)
        return statement.fingerprint

    # --- the open batch

    @property
    def has_unsent(self) -> bool:
        """Whether messages wait here to be sent."""
        return bool(self._out)

    def open_segment(self, server: ServerConnection) -> Segment | None:
        """The batch that waits for its Sync; a COPY may have reopened the last one."""
        segment = self.segment
        if segment is None or not segment.is_open:
            last = server.queue[-1] if server.queue else None
            self.segment = segment = last if last is not None and last.is_open else None
        return segment

    def begin(self, server: ServerConnection) -> Segment:
        """The batch that is open, or a new one."""
        segment = self.open_segment(server)
        if segment is None:
            lease = self._routing.lease
            segment = self.segment = Segment.batch(lease.holder, lease.engine.now)
            self._keep_script = self._has_altered = False
            server.queue.append(segment)
        return segment

    def admits(self, server: ServerConnection) -> bool:
        """Whether the open batch may go on, or a new one begin behind what is unanswered."""
        if self.open_segment(server) is None:
            if server.queue and (self._unproven or not self._routing.lets_follow(server)):
                return False
            self._unproven = False
        return True

    def distrust(self) -> None:
        """Nobody may count on what is on its way: know how it goes before the next batch."""
        self._unproven = True

    def trust(self) -> None:
        """Nothing of this client is on its way."""
        self._unproven = False

    def settle(self, server: ServerConnection) -> bool:
        """Ask the server for what is missing of the open batch; whether nothing is any more.

        If not, `PoolClient.batch_answered` comes when nothing is.
        """
        segment = self.segment
        if segment is None or segment.is_answered(server.queue):
            return True
        self.flush(server)
        # Perhaps all that was missing was ours to make up.
        return segment.is_answered(server.queue)

    # --- sending

    def _add(self, data: bytes, step: Step) -> None:
        """Put a message into the open batch, and what becomes of its reply."""
        assert self.segment is not None
        self.segment.expect(step)
        if data:
            self._out.append(data)
            self.out_size += len(data)

    def _special(self, data: bytes, step: Step) -> None:
        """As `_add`, if the reply is not simply forwarded or something hangs on it."""
        self._keep_script = True
        self._add(data, step)

    def forward(self, server: ServerConnection, data: bytes, step: Step) -> None:
        """Send a message, or the head of one, that has been translated elsewhere."""
        self.begin(server)
        (self._add if step.undo is None else self._special)(data, step)
        self.send(server)

    def sync(self, server: ServerConnection) -> None:
        """End the batch."""
        self.begin(server).sync(keep_script=self._keep_script)
        self._out.append(messages.SYNC)
        self.segment = None
        self.send(server)

    def flush(self, server: ServerConnection) -> None:
        """Ask the server for the replies that it has so far."""
        segment = self.begin(server)
        segment.flush()
        self._out.append(messages.FLUSH)
        self._keep_script = True
        self.send(server)
        server.emit_due(segment)

    def send(self, server: ServerConnection) -> None:
        """Send what has been translated."""
        if not self._out:
            return
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self.out_size = 0
        server.send(data)

    def reset(self) -> None:
        """No batch is open any more."""
        self.segment = None
        self._out.clear()
        self.out_size = 0

    def give_back(self, server: ServerConnection, *, polite: bool) -> None:
        """Give the server back in whatever state it is."""
        try:
            self._give_back(server, polite=polite)
        except Exception:
            log.exception("internal error, closing %r", server)
            server.close()

    def _give_back(self, server: ServerConnection, *, polite: bool) -> None:
        if not server.queue:
            server.pool.release(server)
            return
        self.send(server)
        # See that no batch takes effect that the client has not ended by a Sync.
        last = server.queue[-1]
        if last.is_open:
            last.cut()
            server.send(_COPY_FAIL + POISON + messages.SYNC)
        elif last.copying:
            last.end_copy()
            server.send(_COPY_FAIL)
        server.pool.abandon(server, cancel=not polite)

    # --- operations

    def apply(self, server: ServerConnection, operation: Operation) -> None:
        """Turn an operation into messages and steps."""
        segment = self.begin(server)
        kind, statement = operation.kind, operation.statement
        writes = self._routing.lease.writes
        if kind == codes.BIND and writes is not None:
            writes.note_statement(statement)
        if operation.error is not None:
            payload = messages.error_from(operation.error)
            self._special(POISON, Step(REPLACE_ERROR, b"", payload))
        elif operation.answered is not None:
            self._apply_answered(server, segment, operation, operation.answered)
        elif statement is None:
            self._apply_raw(server, operation)
        elif kind == codes.BIND:
            self.provide_names(server, statement.glance.naming, operation.known)
            self.provide(server, statement, operation.token, operation.told)
            self._note_bind(server, segment, statement, operation.data)
            name = b"" if operation.token else statement.name
            head = bind_head(operation.name, name, len(operation.data))
            self._add(head + operation.data, FORWARD_BIND)
        elif kind == codes.PARSE:
            self.provide_names(server, statement.glance.naming, operation.known)
            self._parse(server, segment, operation, statement)
        elif kind == codes.DESCRIBE:
            self.provide_names(server, statement.glance.naming, operation.known)
            self.provide(server, statement, operation.token)
            name = b"" if operation.token else statement.name
            told = lambda it: self._names.tell(operation.name, statement, it)  # noqa: E731
            self._special(*describing(name, told, order=FORWARD))
        else:  # Close: the server keeps it for others
            undo = lambda: self._names.undo(operation)  # noqa: E731
            if operation.name in server.named:
                self._special(*dropping(server, operation.name))
            self._special(b"", Step(EMIT, b"", messages.CLOSE_COMPLETE, undo))

    def _note_bind(
        self,
        server: ServerConnection,
        segment: Segment,
        statement: PreparedStatement,
        values: bytes,
    ) -> None:
        """A statement may be executed from here on, with these values."""
        glance = statement.glance
        segment.follow(self.fingerprint_of(statement))
        segment.is_set_local = glance.is_set_local and (
            segment.is_set_local or not segment.has_bound
        )
        segment.has_bound = True
        if glance is marks.HARMLESS:
            return
        self._has_altered |= glance.alters
        self._routing.lease.note(server, glance)
        if glance.leaves & marks.SET:
            self._routing.lease.settings.note_values(values)
        if glance.resets_all:
            self._routing.expect_reset(segment)
        if glance.may_copy:
            # Nothing behind it before it is known which Sync will end it.
            self._keep_script = self._unproven = True

    def bind_long(
        self,
        server: ServerConnection,
        operation: Operation,
        statement: PreparedStatement,
        size: int,
    ) -> None:
        """Send the head of a Bind that is too long to hold, whose values take `size` bytes."""
        self.provide(server, statement, operation.token)
        self._note_bind(server, self.begin(server), statement, b"")
        name = b"" if operation.token else statement.name
        head = bind_head(operation.name, name, size)
        self.forward(server, head + operation.data, FORWARD_BIND)

    def _apply_raw(self, server: ServerConnection, operation: Operation) -> None:
        """Forward a message about what the router keeps no record of."""
        if not operation.data:  # a Close of a name that cannot exist is no error
            self._special(b"", Step(EMIT, b"", messages.CLOSE_COMPLETE))
            return
        if operation.token:
            self.clear_unnamed(server)
        if operation.kind == codes.PARSE:
            server.marks |= marks.PARSE
            text_start = operation.data.find(b"\0", 5) + 1
            glance = marks.of_text(operation.data[text_start:])
            self._routing.lease.note(server, glance)
            server.may_reset_all |= glance.resets_all
            if self._queries.limit:
                fingerprint = self._raw_fingerprints.parsed(operation.data, text_start)
                self.begin(server).parsed = fingerprint
        elif operation.kind == codes.BIND:
            segment = self.begin(server)
            segment.has_bound, segment.is_set_local = True, False
            if self._queries.limit:
                segment.follow(self._raw_fingerprints.bound(operation.data))
            self._has_altered = True
            if server.marks & marks.SET:
                self._routing.lease.settings.note_bind(operation.data)
        elif operation.changes:
            self._expect_changes(self.begin(server), operation.changes)
        self._add(operation.data, _RAW_STEPS[operation.kind])

    # --- prepared statements

    def _expect_changes(self, segment: Segment, changes: tuple[Change, ...]) -> None:
        if self._has_altered:
            return  # what has been read may not be what the server then reads
        if segment.changes is None:
            segment.changes = deque()
        segment.changes.extend(changes)
        self._keep_script = self._unproven = True

    def provide_names(
        self,
        server: ServerConnection,
        naming: Naming | None,
        known: Mapping[bytes, PreparedStatement],
    ) -> None:
        """See that the server has what a text mentions by the client's names."""
        if naming is None or not self._names.renames:
            return
        self._names.note_uses(server, naming, known)
        self.begin(server)
        for data, step in providing(server, known):
            self.distrust()
            self._special(data, step)

    def _parse(
        self,
        server: ServerConnection,
        segment: Segment,
        operation: Operation,
        statement: PreparedStatement,
    ) -> None:
        """Carry out a client's Parse."""
        names = self._names
        segment.parsed = self.fingerprint_of(statement)
        if operation.token:
            self._parse_unnamed(server, segment, operation, statement)
            return
        if server.statements.use(statement.name):
            if segment.is_blank:
                # Nothing before it can fail, so that it needs no script.
                segment.prefix = messages.PARSE_COMPLETE
            else:
                undo = lambda: names.undo(operation)  # noqa: E731
                self._special(b"", Step(EMIT, b"", messages.PARSE_COMPLETE, undo))
            return

        def undo_all() -> None:
            _forget(server, statement)
            names.undo(operation)

        self._make_room(server, statement)
        self._special(
            messages.parse(statement.name, statement.body),
            Step(FORWARD, b"1", undo=undo_all, done=statement.prove),
        )
        self._describe(server, statement)

    def _parse_unnamed(
        self,
        server: ServerConnection,
        segment: Segment,
        operation: Operation,
        statement: PreparedStatement,
    ) -> None:
        token, names = operation.token, self._names
        server.unnamed = token
        message = messages.parse(b"", statement.body)
        if statement.proven and segment.is_blank:
            # The first message is never skipped, so that it needs no script: the server itself
            # says what has become of it to those who use it.
            segment.opening = token
            self._add(message, FORWARD_PARSE)
            return

        def undo() -> None:
            server.lose_unnamed()
            names.undo(operation)

        def failed() -> None:
            server.lose_unnamed()
            statement.proven = False
            names.parse_failed(token)

        self.distrust()
        self._special(
            message, Step(FORWARD, b"1", undo=undo, done=statement.prove, failed=failed)
        )

    def _describe(self, server: ServerConnection, statement: PreparedStatement) -> None:
        """Ask what the server tells of a statement that it has been given, by its name.

        All that have it tell the same, or it is not to be used.
        """

        def told(description: Description) -> None:
            if statement.description is None:
                statement.description = description
            elif not statement.description.is_same(description):
                server.statements.retire(statement.name)
                self._names.renew(statement, description)

        undo = retiring(server, statement.name)
        self._special(*describing(statement.name, told, undo))

    def lacks(self, server: ServerConnection, statement: PreparedStatement, token: int) -> bool:
        """Whether the server has yet to be given the statement."""
        return server.unnamed != token if token else statement.name not in server.statements

    def provide(
        self,
        server: ServerConnection,
        statement: PreparedStatement,
        token: int = 0,
        told: Description | None = None,
    ) -> None:
        """See that the server has the statement by the time the next message reaches it.

        `told`: the client has been, of it; see `lacks` whether that still is so.
        """
        self.begin(server)
        if token:
            if server.unnamed != token:
                server.unnamed = token
                self.distrust()
                for data, step in making_unnamed(server, statement, told):
                    self._special(data, step)
            return
        if server.statements.use(statement.name):
            return

        def undo() -> None:
            _forget(server, statement)

        self._make_room(server, statement)
        types = b"" if told is None else told.types
        for data, step in making(statement.name, statement, undo, types):
            self._special(data, step)
        self._describe(server, statement)

    def clear_unnamed(self, server: ServerConnection) -> None:
        """The client has no unnamed statement: see that it does not get at that of another."""
        if not server.unnamed:
            return
        self.begin(server)
        server.unnamed = 0
        self.distrust()
        step = Step(SWALLOW, b"3", undo=server.lose_unnamed)
        self._special(messages.close_statement(b""), step)

    def _make_room(self, server: ServerConnection, statement: PreparedStatement) -> None:
        self.distrust()
        for name in list(server.statements.outdated):
            server.statements.discard(name)
            step = Step(SWALLOW, b"3", undo=retiring(server, name))
            self._special(messages.close_statement(name), step)
        evicted = server.statements.add(statement.name)
        if evicted is not None:
            undo = lambda: server.statements.restore(evicted)  # noqa: E731
            self._special(messages.close_statement(evicted), Step(SWALLOW, b"3", undo=undo))

    # --- statements that the router answers

    def _apply_answered(
        self,
        server: ServerConnection,
        segment: Segment,
        operation: Operation,
        answered: AnsweredMessage,
    ) -> None:
        """Answer a message about such a statement in its turn; its stand-in gets the like."""
        kind, data, statement = operation.kind, operation.data, answered.statement
        if kind == codes.BIND:
            self.provide(server, statement)
        undo = lambda: self._names.undo(operation)  # noqa: E731
        try:
            if _fails(server, segment, kind):
                raise transaction_failed()
            reply = answered.perform(self._routing, kind, data)
        except RouterError as error:
            self._special(POISON, Step(REPLACE_ERROR, b"", messages.error_from(error), undo))
            return
        if kind == codes.PARSE:
            self._parse_answered(server, segment, operation, answered)
        elif kind == codes.BIND:
            head = bind_head(operation.name, statement.name, len(_NOTHING_BOUND))
            self._special(head + _NOTHING_BOUND, FORWARD_BIND)
        elif kind == codes.EXECUTE:
            for name in answered.dropped or ():
                if name in server.named:
                    self._special(*dropping(server, name))
            self._special(data, Step(SWALLOW, b"I", undo=undo))
            self._special(b"", Step(EMIT, b"", reply))
        elif answered.portal is not None and kind == codes.DESCRIBE:
            self._special(data, Step(SWALLOW, b"n"))
            self._special(b"", Step(EMIT, b"", reply))
        elif answered.portal is not None or (kind == codes.CLOSE and statement.is_at_server):
            self._special(data, Step(FORWARD, b"3", undo=undo))
        else:
            self._special(b"", Step(EMIT, b"", reply, undo))

    def _parse_answered(
        self,
        server: ServerConnection,
        segment: Segment,
        operation: Operation,
        answered: AnsweredMessage,
    ) -> None:
        statement, lease = answered.statement, self._routing.lease
        undo = lambda: self._names.undo(operation)  # noqa: E731
        if operation.data:  # another statement, by the name of this one
            server.marks |= marks.PARSE
            self._routing.lease.note(server, marks.of_text(operation.data))
            self._special(operation.data, Step(FORWARD, b"1", undo=undo))
        elif statement.client_name and lease.pool.is_session_mode and not self._names.renames:
            statement.is_at_server = True
            server.marks |= marks.PARSE
            named = messages.parse(statement.client_name, EMPTY_BODY)
            self._special(named, Step(FORWARD, b"1", undo=undo))
        else:
            self._parse(server, segment, operation, statement)

    def must_wait(self, server: ServerConnection) -> bool:
        """Whether the status of the transaction is not known before earlier replies.

        What is executed here depends on it.
        """
        return bool(server.queue) and server.queue[0] is not self.segment


def _forget(server: ServerConnection, statement: PreparedStatement) -> None:
    server.statements.discard(statement.name)
    statement.proven = False


def _fails(server: ServerConnection, segment: Segment, kind: int) -> bool:
    """Whether the transaction has failed, which the server does not mind.

    For it lets an empty statement be parsed, described and executed even then.
    """
    return (
        server.status == codes.IN_FAILED_TRANSACTION
        and kind in (codes.PARSE, codes.DESCRIBE, codes.EXECUTE)
        and segment.is_blank
    )
