"""The extended query protocol of one client: names translated, batches built and matched to replies.

Theory of operation
-------------------
A message is first turned into an *operation*: names are resolved against what the client has
prepared at that point of its stream. While the client has no server, operations collect; what they
need decides the route. With a server, each operation becomes messages for it and steps of the
segment's script. A Parse that the server does not need becomes a made-up ParseComplete, a statement
that the server lacks is parsed before it is used, and all replies come in PostgreSQL's order.

Errors that the router finds have to fail in the server too, so that the transaction comes to the
state that PostgreSQL would be in. So such a message is sent as one that is bound to fail,
and the server's error is replaced by ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RouterError
from ..protocol import codes, marks, messages
from ..protocol.segments import (
    EMIT,
    FORWARD,
    FORWARD_BIND,
    FORWARD_CLOSE,
    FORWARD_DESCRIBE,
    FORWARD_EXECUTE,
    FORWARD_PARSE,
    REPLACE_ERROR,
    SWALLOW,
    Segment,
    Step,
)
from ..protocol.prepared import Statement, is_reserved
from ..routing.types import Analysis

if TYPE_CHECKING:
    from ..pool.server import ServerConnection
    from .session import Session

# Operations are sent on without waiting for a Sync when they hold so many bytes.
_BATCH_LIMIT: Final = 64 * 1024

# What one client may have prepared at a time.
MAX_STATEMENTS: Final = 20_000
MAX_STATEMENT_BYTES: Final = 64 << 20

# A Bind to a statement that cannot exist: no serial number is 0.
_POISON: Final = messages.bind_head(b"", b"PGCAT_0", 6) + bytes(6)
_COPY_FAIL: Final = messages.copy_fail("client disconnected")

_RAW_STEPS: Final = {
    codes.PARSE: FORWARD_PARSE,
    codes.BIND: FORWARD_BIND,
    codes.DESCRIBE: FORWARD_DESCRIBE,
    codes.EXECUTE: FORWARD_EXECUTE,
    codes.CLOSE: FORWARD_CLOSE,
}

PreparedStatement = Statement[Analysis | None]


class Operation:
    """One message of a batch, with its names resolved.

    Attributes:
        kind: the message's type.
        data: the whole message if it is forwarded as it is; of a Bind, what follows the names.
        statement: the statement that it prepares, uses or closes.
        name: the client's name for it; of a Bind, the portal.
        previous: what the name meant before a Parse.
        error: the router's own objection.
    """

    __slots__ = ("data", "error", "kind", "name", "previous", "statement")

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


class Extended:
    """What one client has prepared, and the batch that it is sending.

    Attributes:
        statements: by the client's names; b"" is the unnamed one.
        operations: collected while there is no server.
        segment: the batch that the server is being sent, until its Sync.
        skipping: the batch has failed here; everything up to the Sync is ignored.
    """

    __slots__ = (
        "_keep_script",
        "_out",
        "_out_size",
        "_renames",
        "_session",
        "_size",
        "_statement_bytes",
        "_unproven",
        "operations",
        "segment",
        "skipping",
        "statements",
    )

    def __init__(self, session: Session, *, renames: bool) -> None:
        self._session: Final = session
        self._renames: Final = renames
        self.statements: dict[bytes, PreparedStatement] = {}
        self._statement_bytes = 0
        self.operations: list[Operation] = []
        self._size = 0
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
        return bool(self.skipping or self.operations or self.segment is not None)

    # --- messages in

    def on_message(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take Parse, Bind, Describe, Execute, Close, Sync or Flush; False declines it for now."""
        session = self._session
        if self.skipping:
            if kind == codes.SYNC:
                self.skipping = False
                session.reply(messages.READY_IDLE)
            return True
        server = session.server
        if server is None:
            return self._collect(kind, data, start, end)
        last = server.queue[-1] if server.queue else None
        if last is not None and last.copying and kind in b"SH":
            server.send(data[start:end])  # means nothing to a server that reads CopyData
            return True
        if not self.admits(server):
            return False
        if self.segment is not None and self.segment.failed and kind != codes.SYNC:
            return True
        if kind == codes.SYNC:
            self._sync(server)
        elif kind == codes.FLUSH:
            self.flush(server)
        else:
            self._apply(server, self._operation(kind, data, start, end))
            if self._out_size > _BATCH_LIMIT:
                self._send(server)
        return True

    def admits(self, server: ServerConnection) -> bool:
        """Whether the open batch may go on, or a new one begin behind what is not answered yet."""
        if self._open_segment(server) is None:
            if server.queue and (self._unproven or not self._session.may_pipeline):
                return False
            self._unproven = False
        return True

    def _collect(self, kind: int, data: bytes, start: int, end: int) -> bool:
        if kind == codes.SYNC and not self.operations:
            self._session.reply(messages.READY_IDLE)
            return True
        if kind == codes.FLUSH and not self.operations:
            return True
        self.operations.append(self._operation(kind, data, start, end))
        self._size += end - start
        if kind in (codes.SYNC, codes.FLUSH) or self._size > _BATCH_LIMIT:
            self._session.dispatch_batch(complete=kind == codes.SYNC)
        return True

    def on_long_bind(self, server: ServerConnection, head: bytes, missing: int) -> bool:
        """Translate the head of a Bind that is too long to hold; False: the head is too short."""
        fields = head[5:].split(b"\0", 2)
        if len(fields) < 3:
            return False
        portal, name, rest = fields
        statement = self.statements.get(name)
        if statement is None:
            if self._renames and is_reserved(name):
                raise _unknown(name)
            self._begin(server)
            self._add(head, FORWARD_BIND)
        else:
            self._prepare(server, statement)
            server.marks |= statement.marks & ~marks.MAY_COPY
            data = messages.bind_head(portal, statement.name, len(rest) + missing) + rest
            self._add(data, FORWARD_BIND)
        self._send(server)
        return True

    def on_long_parse(self, server: ServerConnection, head: bytes) -> bool:
        """Forward a Parse that is too long to hold; False: the head is too short.

        It is the client's own on this server: a named one keeps the server for good.
        """
        split = head.find(b"\0", 5)
        if split < 0:
            return False
        name = head[5:split]
        if self._renames and is_reserved(name):
            raise ClientProtocolError(
                f"prepared statement names must not begin with {name[:6]!r}"
            )
        if name:
            self._session.pinned = True
        else:
            self._forget(b"")
        server.marks |= marks.UNKNOWN
        self._begin(server)
        self._add(head, FORWARD_PARSE)
        self._send(server)
        return True

    # --- operations

    def _operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        if not self._renames or kind in (codes.EXECUTE, codes.SYNC, codes.FLUSH):
            return Operation(kind, data[start:end])
        if kind == codes.BIND:
            return self._bind_operation(data, start, end)
        if kind == codes.PARSE:
            return self._parse_operation(data, start, end)
        return self._named_operation(kind, data, start, end)

    def _parse_operation(self, data: bytes, start: int, end: int) -> Operation:
        split = data.find(b"\0", start + 5, end)
        text_end = data.find(b"\0", split + 1, end) if split >= 0 else -1
        if text_end < 0 or text_end + 3 > end:
            return Operation(codes.PARSE, b"", error=_malformed())
        name = data[start + 5 : split]
        body = data[split + 1 : end]
        previous = self.statements.get(name)
        if name and previous is not None:
            return Operation(codes.PARSE, b"", error=_exists(name))
        if (
            len(self.statements) >= MAX_STATEMENTS
            or self._statement_bytes + len(body) > MAX_STATEMENT_BYTES
        ):
            return Operation(codes.PARSE, b"", error=_too_many())
        session = self._session
        statement = session.pool.statement(body, session.statement_context)
        self.statements[name] = statement
        self._statement_bytes += len(body)
        if previous is not None:
            self._statement_bytes -= len(previous.body)
        return Operation(codes.PARSE, b"", statement, name, previous)

    def _bind_operation(self, data: bytes, start: int, end: int) -> Operation:
        portal_end = data.find(b"\0", start + 5, end)
        name_end = data.find(b"\0", portal_end + 1, end) if portal_end >= 0 else -1
        if name_end < 0:
            return Operation(codes.BIND, b"", error=_malformed())
        name = data[portal_end + 1 : name_end]
        statement = self.statements.get(name)
        if statement is not None:
            portal = data[start + 5 : portal_end]
            return Operation(codes.BIND, data[name_end + 1 : end], statement, portal)
        if is_reserved(name):
            return Operation(codes.BIND, b"", error=_unknown(name))
        # The server says in its own words that it does not know it, or it does: PREPARE.
        return Operation(codes.BIND, data[start:end])

    def _named_operation(self, kind: int, data: bytes, start: int, end: int) -> Operation:
        """A Describe or Close of a statement; those of a portal are forwarded."""
        if end - start < 7 or data[end - 1]:
            return Operation(kind, b"", error=_malformed())
        if data[start + 5] != 0x53:  # 'S'
            return Operation(kind, data[start:end])
        name = data[start + 6 : end - 1]
        statement = self.statements.get(name)
        if statement is None:
            if is_reserved(name):
                return Operation(
                    kind, b"", error=None if kind == codes.CLOSE else _unknown(name)
                )
            return Operation(kind, data[start:end])
        if kind == codes.CLOSE:
            self._forget(name)
        return Operation(kind, b"", statement, name)

    def _forget(self, name: bytes) -> None:
        statement = self.statements.pop(name, None)
        if statement is not None:
            self._statement_bytes -= len(statement.body)

    def forget(self, name: bytes) -> bool:
        """DEALLOCATE: returns whether the client had a statement of that name."""
        known = name in self.statements
        self._forget(name)
        return known

    def forget_all(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL."""
        self.statements.clear()
        self._statement_bytes = 0

    def _undo(self, operation: Operation) -> None:
        """Bring names back to what they were: the operation was skipped."""
        statement = operation.statement
        if statement is None:
            return
        if operation.kind == codes.PARSE:
            self._forget(operation.name)
            if operation.previous is not None:
                self._restore(operation.name, operation.previous)
        elif operation.kind == codes.CLOSE:
            self._restore(operation.name, statement)

    def _restore(self, name: bytes, statement: PreparedStatement) -> None:
        self.statements[name] = statement
        self._statement_bytes += len(statement.body)

    # --- without a server

    def take_operations(self) -> list[Operation]:
        """The collected operations, which are then the caller's."""
        operations, self.operations = self.operations, []
        self._size = 0
        return operations

    def fail_collected(self) -> bool:
        """Give the collected batch up; returns whether its Sync was among it."""
        operations = self.take_operations()
        for operation in reversed(operations):
            self._undo(operation)
        synced = bool(operations) and operations[-1].kind == codes.SYNC
        self.skipping = not synced
        return synced

    def replay(self, server: ServerConnection) -> None:
        """Send what was collected."""
        for operation in self.take_operations():
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
        if self.segment is None and server.queue and not server.queue[-1].synced:
            self.segment = server.queue[-1]
        return self.segment

    def _begin(self, server: ServerConnection) -> Segment:
        if self._open_segment(server) is None:
            segment = Segment.batch(self._session)
            segment.started = self._session.engine.now
            self.segment = segment
            self._keep_script = False
            server.queue.append(segment)
        assert self.segment is not None
        return self.segment

    def _add(self, data: bytes, step: Step) -> None:
        segment = self.segment
        assert segment is not None
        if segment.steps is not None:
            segment.steps.append(step)
        if data:
            self._out.append(data)
            self._out_size += len(data)

    def _special(self, data: bytes, step: Step) -> None:
        self._keep_script = True
        self._add(data, step)

    def _apply(self, server: ServerConnection, operation: Operation) -> None:
        """Turn an operation into messages and steps."""
        segment = self._begin(server)
        kind, statement = operation.kind, operation.statement
        if operation.error is not None:
            payload = messages.error_from(operation.error)
            self._special(_POISON, Step(REPLACE_ERROR, b"", payload))
        elif statement is None:
            self._apply_raw(server, operation)
        elif kind == codes.BIND:
            self._prepare(server, statement)
            server.marks |= statement.marks & ~marks.MAY_COPY
            if statement.marks & marks.MAY_COPY:
                self._keep_script = True
            rest = operation.data
            head = messages.bind_head(operation.name, statement.name, len(rest))
            self._add(head + rest, FORWARD_BIND)
        elif kind == codes.PARSE:
            self._apply_parse(server, segment, operation, statement)
        elif kind == codes.DESCRIBE:
            self._prepare(server, statement)
            self._add(messages.describe_statement(statement.name), FORWARD_DESCRIBE)
        else:  # Close: the server keeps it for others
            self._special(
                b"", Step(EMIT, b"", messages.CLOSE_COMPLETE, lambda: self._undo(operation))
            )

    def _apply_raw(self, server: ServerConnection, operation: Operation) -> None:
        if not operation.data:  # a Close of a name that cannot exist is no error
            self._special(b"", Step(EMIT, b"", messages.CLOSE_COMPLETE))
            return
        if operation.kind == codes.PARSE:
            server.marks |= marks.PREPARE
            text_start = operation.data.find(b"\0", 5) + 1
            server.marks |= marks.of_text(operation.data[text_start:]) & ~marks.MAY_COPY
        self._add(operation.data, _RAW_STEPS[operation.kind])

    def _apply_parse(
        self,
        server: ServerConnection,
        segment: Segment,
        operation: Operation,
        statement: PreparedStatement,
    ) -> None:
        if server.statements.use(statement.name):
            if not segment.steps and not segment.prefix:
                # Nothing before it can fail, so that it needs no script.
                segment.prefix = messages.PARSE_COMPLETE
            else:
                undo = lambda: self._undo(operation)  # noqa: E731
                self._special(b"", Step(EMIT, b"", messages.PARSE_COMPLETE, undo))
            return

        def undo_all() -> None:
            server.statements.discard(statement.name)
            self._undo(operation)

        self._make_room(server, statement)
        self._special(
            messages.parse(statement.name, statement.body),
            Step(FORWARD, b"1", undo=undo_all),
        )

    def _prepare(self, server: ServerConnection, statement: PreparedStatement) -> None:
        """See that the server has the statement by the time the next message reaches it."""
        self._begin(server)
        if server.statements.use(statement.name):
            return
        self._make_room(server, statement)
        self._special(
            messages.parse(statement.name, statement.body),
            Step(SWALLOW, b"1", undo=lambda: server.statements.discard(statement.name)),
        )

    def _make_room(self, server: ServerConnection, statement: PreparedStatement) -> None:
        self._unproven = True
        evicted = server.statements.add(statement.name)
        if evicted is not None:
            undo = lambda: server.statements.restore(evicted)  # noqa: E731
            self._special(messages.close_statement(evicted), Step(SWALLOW, b"3", undo=undo))

    def _sync(self, server: ServerConnection) -> None:
        segment = self._begin(server)
        if not segment.steps and not segment.prefix and not segment.copying:
            segment.empty = True
        segment.synced = True
        segment.dones_at_sync = segment.dones
        # A batch that has begun to be answered keeps its script: it counts from the start.
        if not self._keep_script and segment.step == 0 and segment.steps is not None:
            if not segment.failed:
                segment.steps = None
        self._out.append(messages.SYNC)
        self.segment = None
        self._send(server)

    def flush(self, server: ServerConnection) -> None:
        """Ask the server for the replies that it has so far."""
        segment = self._begin(server)
        self._open_prefix(segment)
        self._out.append(messages.FLUSH)
        self._keep_script = True
        self._send(server)
        server.emit_due(segment)

    @staticmethod
    def _open_prefix(segment: Segment) -> None:
        """Make the prefix a step like others: the client waits for it now."""
        if segment.prefix and segment.steps is not None:
            segment.steps.insert(0, Step(EMIT, b"", segment.prefix))
            segment.prefix = b""

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

    def give_up(self, server: ServerConnection) -> None:
        """The client leaves: no batch may take effect that it has not ended by a Sync."""
        self.send_pending(server)
        last = server.queue[-1]
        if not last.synced:
            last.synced = True
            last.dones += 1
            last.dones_at_sync = last.dones
            # The one fails a copy that is under way, or about to be; the other fails anything else.
            server.send(_COPY_FAIL + _POISON + messages.SYNC)
        elif last.copying:
            server.send(_COPY_FAIL)

    def reset(self) -> None:
        """The server is gone or given back: no batch is open any more."""
        self.segment = None
        self._out.clear()
        self._out_size = 0


def _malformed() -> RouterError:
    return ClientProtocolError("invalid message format")


def _exists(name: bytes) -> RouterError:
    text = name.decode("utf-8", "replace")
    return ClientProtocolError(f'prepared statement "{text}" already exists', sqlstate="42P05")


def _unknown(name: bytes) -> RouterError:
    text = name.decode("utf-8", "replace")
    return ClientProtocolError(f'prepared statement "{text}" does not exist', sqlstate="26000")


def _too_many() -> RouterError:
    return ClientProtocolError(
        f"too many prepared statements: a client may have {MAX_STATEMENTS} of them "
        f"and {MAX_STATEMENT_BYTES >> 20} MB of text",
        sqlstate="54000",
        hint="Close statements that are not needed any more.",
    )
