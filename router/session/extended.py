"""The extended query protocol of one client: batches built, and matched to their replies.

Theory of operation
-------------------
A message is first turned into an *operation*: names are resolved against what the client has
prepared at that point of its stream. While the client has no server, operations collect; what
they need decides the route. With a server, each operation becomes messages for it and steps of
the segment's script. A Parse that the server does not need becomes a made-up ParseComplete, a
statement that the server lacks is parsed before it is used, and all replies come in
PostgreSQL's order.

Errors that the router finds have to fail in the server too, so that the transaction comes to
the state that PostgreSQL would be in. So such a message is sent as one that is bound to fail,
and the server's error is replaced by ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..protocol import codes, marks, messages
from ..protocol.segments import (
    EMIT,
    FORWARD_BIND,
    FORWARD_CLOSE,
    FORWARD_DESCRIBE,
    FORWARD_EXECUTE,
    FORWARD_PARSE,
    REPLACE_ERROR,
    Segment,
    Step,
)
from . import own_batch, preparing, straying
from .collecting import BATCH_LIMIT, Collected
from .operations import Names
from .own_batch import POISON

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from .operations import Operation
    from .own import Own
    from .session import Session


_RAW_STEPS: Final = {
    codes.PARSE: FORWARD_PARSE,
    codes.BIND: FORWARD_BIND,
    codes.DESCRIBE: FORWARD_DESCRIBE,
    codes.EXECUTE: FORWARD_EXECUTE,
    codes.CLOSE: FORWARD_CLOSE,
}


class Extended:
    """What one client has prepared, and the batch that it is sending.

    Attributes:
        names: what it has prepared, by its own names.
        collected: the batch of a client without a server.
        segment: the batch that the server is being sent, until its Sync.
        skipping: the batch has failed here; everything up to the Sync is ignored.
    """

    __slots__ = (
        "_keep_script",
        "_out",
        "_out_size",
        "_session",
        "_unproven",
        "collected",
        "names",
        "segment",
        "skipping",
    )

    def __init__(self, session: Session, *, renames: bool) -> None:
        self._session: Final = session
        self.names: Final = Names(session, renames=renames)
        self.collected: Final = Collected(session, self.names)
        self.segment: Segment | None = None
        self.skipping = False
        self._out: list[bytes] = []
        self._out_size = 0
        self._keep_script = False
        # A Parse is on its way whose success nobody may count on yet.
        self._unproven = False

    @property
    def is_busy(self) -> bool:
        """Whether a batch is open, here or at the server."""
        return bool(self.skipping or self.collected.operations or self.segment is not None)

    @property
    def is_holding(self) -> bool:
        """Whether something waits here for more of its batch, though it could be sent."""
        return bool(self._out) or self.collected.could_be_sent

    # --- messages in

    def on_message(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take a message of the extended protocol; False declines it for now."""
        session = self._session
        if self.skipping:
            if kind == codes.SYNC:
                self.skipping = False
                session.reply(messages.READY_IDLE)
            return True
        server = session.server
        if server is None:
            self.collected.add(kind, data, start, end)
            return True
        last = server.queue[-1] if server.queue else None
        if last is not None and last.copying and kind in b"SH":
            server.send(data[start:end])  # means nothing to a server that reads CopyData
            return True
        if not self.admits(server):
            return False
        if (
            kind == codes.EXECUTE
            and self.names.portals
            and own_batch.must_wait(server, self.segment)
        ):
            return False
        if self.segment is not None and self.segment.failed and kind != codes.SYNC:
            return True
        if kind == codes.SYNC:
            self._sync(server)
        elif kind == codes.FLUSH:
            self.flush(server)
        else:
            operation = self.names.operation(kind, data, start, end)
            if kind == codes.BIND and session.pool.router.finds_shards:
                taken = self._bind_elsewhere(server, operation)
                if taken is not None:
                    return taken
            self._apply(server, operation)
            if self._out_size > BATCH_LIMIT:
                self._send(server)
        return True

    def _bind_elsewhere(self, server: ServerConnection, operation: Operation) -> bool | None:
        """See to a Bind that belongs to another shard; None: it goes on here."""
        if operation.error is not None:
            return None
        error = straying.bind_objection(self._session, server, operation)
        left = None if error is None else self.leave(server)
        if left is None and error is not None:
            operation.error = error
            self._session.pool.router.tallies.refuse(error)
        elif left:
            self.collected.go_on(operation)
        return left

    def leave(self, server: ServerConnection) -> bool | None:
        """Go from the server in the middle of a batch, if that has only prepared so far.

        Its part of the batch ends in a Sync of our own, whose reply nobody hears.

        Returns:
            None: the batch has to stay. False: not yet, for not all of it is answered.
        """
        session, segment = self._session, self.segment
        if segment is None or not straying.may_leave(session, segment):
            return None
        if not segment.is_answered(server.queue):
            self.flush(server)
            if not segment.is_answered(server.queue):
                return False  # `script_done` comes back here
        segment.sync(keep_script=True)
        server.send(messages.SYNC)
        self.reset()
        session.server = None
        server.pool.abandon(server, cancel=False)
        return True

    def admits(self, server: ServerConnection) -> bool:
        """Whether the open batch may go on, or a new one begin behind what is unanswered."""
        if self._open_segment(server) is None:
            if server.queue and (self._unproven or not self._session.may_follow(server)):
                return False
            self._unproven = False
        return True

    def forward(self, server: ServerConnection, data: bytes, step: Step) -> None:
        """Send a message, or the head of one, that has been translated elsewhere."""
        self.begin(server)
        self.add(data, step)
        self._send(server)

    # --- without a server

    def fail_collected(self) -> bool:
        """Give the collected batch up; returns whether its Sync was among it."""
        synced = self.collected.fail()
        self.skipping = not synced
        return synced

    def attached(self) -> None:
        """There is a server, to which nothing of this client is on its way."""
        self._unproven = False

    def replay(self, server: ServerConnection) -> None:
        """Send what was collected."""
        for operation in self.collected.take():
            if operation.kind == codes.SYNC:
                self._sync(server)
            elif operation.kind == codes.FLUSH:
                self.flush(server)
            else:
                self._apply(server, operation)
        if self._out:
            self._send(server)

    # --- with a server

    def _open_segment(self, server: ServerConnection) -> Segment | None:
        """The batch that waits for its Sync; a COPY may have reopened the last one."""
        if self.segment is None and server.queue and server.queue[-1].is_open:
            self.segment = server.queue[-1]
        return self.segment

    def begin(self, server: ServerConnection) -> Segment:
        """The batch that is open, or a new one."""
        if self._open_segment(server) is None:
            segment = Segment.batch(self._session, self._session.engine.now)
            self.segment = segment
            self._keep_script = False
            server.queue.append(segment)
        assert self.segment is not None
        return self.segment

    def add(self, data: bytes, step: Step) -> None:
        """Put a message into the open batch, and what becomes of its reply."""
        segment = self.segment
        assert segment is not None
        segment.expect(step)
        if data:
            self._out.append(data)
            self._out_size += len(data)

    def special(self, data: bytes, step: Step) -> None:
        """As `add`, if the reply is not simply forwarded or something hangs on it."""
        self._keep_script = True
        self.add(data, step)

    def _apply(self, server: ServerConnection, operation: Operation) -> None:
        """Turn an operation into messages and steps."""
        segment = self.begin(server)
        kind, statement = operation.kind, operation.statement
        if kind == codes.BIND and self._session.writes is not None:
            self._session.writes.note_statement(statement)
        if operation.error is not None:
            payload = messages.error_from(operation.error)
            self.special(POISON, Step(REPLACE_ERROR, b"", payload))
        elif operation.own is not None:
            self._apply_own(server, segment, operation, operation.own)
        elif statement is None:
            self._apply_raw(server, operation)
        elif kind == codes.BIND:
            preparing.provide(self, server, statement, operation.token)
            segment.has_bound = True
            server.marks |= statement.glance.leaves
            if statement.glance.resets_all:
                self._session.expect_reset(segment)
            if statement.glance.may_copy:
                # Nothing behind it before it is known which Sync will end it.
                self._keep_script = self._unproven = True
            name = preparing.server_name(operation)
            head = messages.bind_head(operation.name, name, len(operation.data))
            self.add(head + operation.data, FORWARD_BIND)
        elif kind == codes.PARSE:
            preparing.parse(self, server, segment, operation)
        elif kind == codes.DESCRIBE:
            preparing.provide(self, server, statement, operation.token)
            name = preparing.server_name(operation)
            self.add(messages.describe_statement(name), FORWARD_DESCRIBE)
        else:  # Close: the server keeps it for others
            self.special(
                b"",
                Step(EMIT, b"", messages.CLOSE_COMPLETE, lambda: self.names.undo(operation)),
            )

    def _apply_raw(self, server: ServerConnection, operation: Operation) -> None:
        if not operation.data:  # a Close of a name that cannot exist is no error
            self.special(b"", Step(EMIT, b"", messages.CLOSE_COMPLETE))
            return
        if operation.token:
            preparing.clear_unnamed(self, server)
        if operation.kind == codes.PARSE:
            server.marks |= marks.PREPARE
            text_start = operation.data.find(b"\0", 5) + 1
            glance = marks.of_text(operation.data[text_start:])
            server.marks |= glance.leaves
            server.may_reset_all |= glance.resets_all
        self.add(operation.data, _RAW_STEPS[operation.kind])

    def _apply_own(
        self, server: ServerConnection, segment: Segment, operation: Operation, own: Own
    ) -> None:
        """Answer a message about a statement of the router's own in its turn."""
        if operation.kind == codes.BIND:
            preparing.provide(self, server, own.statement)
        steps = own_batch.steps(self._session, server, segment, operation, own)
        for data, step in steps:
            self.special(data, step)
        if not steps:
            preparing.parse(self, server, segment, operation)

    def distrust(self) -> None:
        """Nobody may count on what is on its way: know how it goes before the next batch."""
        self._unproven = True

    def _sync(self, server: ServerConnection) -> None:
        self.begin(server).sync(keep_script=self._keep_script)
        self._out.append(messages.SYNC)
        self.segment = None
        self._send(server)

    def flush(self, server: ServerConnection) -> None:
        """Ask the server for the replies that it has so far."""
        segment = self.begin(server)
        segment.flush()
        self._out.append(messages.FLUSH)
        self._keep_script = True
        self._send(server)
        server.emit_due(segment)

    def _send(self, server: ServerConnection) -> None:
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        self._out_size = 0
        if data:
            server.send(data)

    def send_pending(self, server: ServerConnection) -> None:
        """Send what has been translated and not sent yet."""
        if self._out:
            self._send(server)

    def reset(self) -> None:
        """The server is gone: no batch is open any more."""
        self.segment = None
        self._out.clear()
        self._out_size = 0
