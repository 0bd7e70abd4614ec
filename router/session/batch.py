"""The extended query protocol of one client: its batches, without a server and with one.

A message is first turned into an *operation*: names are resolved against what the client has
prepared at that point of its stream. While the client has no server, operations collect; what
they need decides the route. With a server, each goes on at once (see `Script`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import ForEveryShard, OutdatedPlan, RouterError
from ..protocol import codes, messages
from ..protocol.framing import message_end
from . import deferral
from .batch_for_all import BatchesForAll
from .batch_route import batch_route, only_prepares
from .deferral import ANSWERS
from .names import Names
from .operation import Operation, need_no_server
from .reader import Reader
from .script import Script
from .transaction import transaction_failed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..pool.server import ServerConnection
    from .client import Client
    from .client_routing import ClientRouting

log = logging.getLogger("router.session")

# So many bytes do not wait for the Sync.
BATCH_LIMIT: Final = 64 * 1024
# So many bytes of a segment are kept to be sent again.
MOST_KEPT: Final = 16 * 1024


class Batch:
    """What one client has prepared, and the batch that it is sending.

    Attributes:
        names: what it has prepared, by its own names.
        reader: what its messages mean.
        operations: the open batch of a client without a server, in the order of its messages.
        script: the open batch at a server.
        everywhere: what is brought to all shards.
        held: what waits for the server to tell whether the first of it, a Bind, returns what
            its client counts on.
        is_begun: the open batch has been answered so far, and is at no server.
        skipping: the batch has failed here; everything up to the Sync is ignored.
    """

    __slots__ = (
        "_client",
        "_is_preparing",
        "_kept",
        "_lease",
        "_routing",
        "_size",
        "everywhere",
        "held",
        "is_begun",
        "names",
        "operations",
        "reader",
        "script",
        "skipping",
    )

    def __init__(self, client: Client, routing: ClientRouting) -> None:
        self._client: Final = client
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self.names: Final = Names(routing)
        self.reader: Final = Reader(routing, self.names)
        self.script: Final = Script(routing, self.names)
        self.everywhere: Final = BatchesForAll(client, routing)
        self.operations: list[Operation] = []
        self.skipping = False
        self.held: list[Operation] = []
        self._size = 0
        self.is_begun = False
        # What is at the server of the open batch may go on elsewhere.
        self._is_preparing = False
        # The open batch at a server so far, as long as it may be sent again.
        self._kept: list[Operation] | None = None

    # --- facts

    @property
    def is_complete(self) -> bool:
        """Whether what is collected ends in its Sync."""
        return bool(self.operations) and self.operations[-1].kind == codes.SYNC

    @property
    def is_holding(self) -> bool:
        """Whether something waits here for more of its batch, though it could be sent."""
        if self.script.has_unsent:
            return True
        lease = self._lease
        if not self.operations or lease.waiter is not None:
            return False
        return lease.server is not None or not need_no_server(self.operations)

    # --- messages in

    def on_message(self, kind: int, data: bytes, start: int, end: int) -> bool:
        """Take a message of the extended protocol; False declines it for now.

        Raises:
            RouterError: there is no server for the batch; see `fail`.
        """
        if self.skipping:
            if kind == codes.SYNC:
                self.skipping = False
                self._client.reply(self._lease.ready)
            return True
        if self.names.is_changing and kind in b"PBDC" and not self._names_are_settled():
            return False
        server = self._lease.server
        if server is None:
            self._collect(kind, data, start, end)
            return True
        if self._routing.branches is not None:
            return self._collect_among_all(server, kind, data, start, end)
        return self._send(server, kind, data, start, end)

    def _names_are_settled(self) -> bool:
        """See to it that what SQL has changed about names is known."""
        if self.operations:
            self.dispatch()
            if self._lease.is_pending:
                return False
        server = self._lease.server
        if server is not None:
            segment = self.script.open_segment(server)
            if segment is not None and not (segment.failed or self.script.settle(server)):
                return False
        self.names.is_changing = False
        return True

    def _send(
        self, server: ServerConnection, kind: int, data: bytes, start: int, end: int
    ) -> bool:
        """Pass a message on to the server that the client has; False declines it for now."""
        script = self.script
        if not script.admits(server):
            return False
        if kind == codes.EXECUTE and self.reader.portals and script.must_wait(server):
            return False
        if script.segment is not None and script.segment.failed and kind != codes.SYNC:
            return True
        if self._is_preparing and kind in b"BE":
            left = self.leave(server)
            if left:
                self._collect(kind, data, start, end)
            if left is not None:
                return left
        if script.segment is None:
            # In a transaction it is not sent again, but whether it is traced is asked later.
            is_idle, figures = server.status == codes.IDLE, self._lease.engine.figures
            self._kept = [] if is_idle or figures.traces is not None else None
            self._size = 0
        if kind == codes.SYNC:
            script.sync(server)
            self._keep(Operation(kind, b""), end - start)
            server.queue[-1].request, self._kept = self._kept, None
        elif kind == codes.FLUSH:
            script.flush(server)
            self._kept = None
        else:
            was_altered = self._lease.is_altered
            operation = self.reader.operation(kind, data, start, end)
            self._keep(operation, end - start)
            if kind == codes.BIND and self._routing.router.finds_shards:
                taken = self._bind_elsewhere(server, operation, was_altered)
                if taken is not None:
                    return taken
            if operation.told is not None and self._waits(server, operation):
                self.held = [operation]
                return True
            script.apply(server, operation)
            if script.out_size > BATCH_LIMIT:
                script.send(server)
        return True

    def _keep(self, operation: Operation, size: int) -> None:
        """Keep an operation of the batch at the server, unless it becomes too long."""
        if self._kept is not None:
            self._size += size
            self._kept.append(operation)
            if self._size > MOST_KEPT:
                self._kept = None

    def send_held(self) -> None:
        """Send what there is of a batch: its errors may be what the client waits for.

        Raises:
            RouterError: there is no server for the batch; see `fail`.
        """
        if not self.is_holding:
            return
        server = self._lease.server
        if server is None:
            self.dispatch()
        elif not self._lease.is_pending:
            (self.dispatch() if self.operations else self.script.send(server))

    # --- without a server

    def _collect(self, kind: int, data: bytes, start: int, end: int) -> None:
        """Take a message; what ends the batch, or makes it too long, asks for a server."""
        operations, deferred = self.operations, self._lease.deferred
        is_well = deferred is None or not deferred.has_failed
        if kind == codes.SYNC and is_well and need_no_server(operations):
            self.is_begun = False
            replies = [ANSWERS[operation.kind] for operation in self.take()]
            self._client.reply(b"".join(replies) + self._lease.ready)
            return
        if not operations:
            if kind == codes.FLUSH:
                return
            if self.reader.portals and not self.is_begun:
                self.reader.portals.clear()  # they have ended with their transaction
        operation = self.reader.operation(kind, data, start, end)
        operations.append(operation)
        if kind == codes.PARSE and operation.statement is not None:
            self.script.fingerprint_of(
                operation.statement
            )  # or there are many to find at the end
        self._size += end - start
        if kind in (codes.SYNC, codes.FLUSH) or self._size > BATCH_LIMIT:
            self.dispatch()

    def collect_whole(self, data: bytes, start: int, end: int) -> None:
        """Take a batch that could not be sent in one piece, message by message."""
        pos = start
        while pos < end:
            after = message_end(data, pos)
            self.operations.append(self.reader.operation(data[pos], data, pos, after))
            pos = after
        self._size += end - start

    def dispatch(self, long: Operation | None = None) -> None:
        """Ask for a server, be it for a message that is too long to be among the operations.

        If there is one, what is collected is sent to it; else it waits for one.

        Raises:
            RouterError: there is none; see `fail`.
        """
        routing = self._routing
        if routing.epoch != routing.router.epoch:
            self.rebind()
        if (server := self._lease.server) is not None:
            return self._send_among_all(server)
        if deferral.has_failed(self._lease) and self._answer_in_failed(long):
            return
        if self.reader.has_answered and not deferral.has_failed(self._lease):
            if self._perform_first():
                return
            deferral.hand_over(self.operations, self.reader.portals)
        if routing.state.has_local and self._lease.deferred is None:
            self._note_local()
        self._is_preparing = (
            long is None and self.names.renames and only_prepares(self._lease, self.operations)
        )
        try:
            route = batch_route(
                routing.router,
                routing.state,
                self.operations if long is None else [*self.operations, long],
                complete=self.is_complete or self._is_preparing,
            )
        except ForEveryShard as error:
            if self._lease.deferred is not None:
                self.everywhere.open(error, self.dispatch)
                return
            if not self.is_complete:
                raise
            self.everywhere.begin_batch(self.operations, error, self.take)
            return
        server = self._lease.request(route)
        if server is not None:
            self.script.trust()
            self.replay(server)

    def _collect_among_all(
        self, server: ServerConnection, kind: int, data: bytes, start: int, end: int
    ) -> bool:
        """Take a message; what ends the batch has it sent. False declines it for now."""
        if not (script := self.script).admits(server):
            return False
        segment = script.segment
        if segment is None and kind == codes.FLUSH and not self.operations:
            return True
        if segment is not None and segment.failed and kind != codes.SYNC:
            return True
        self.operations.append(self.reader.operation(kind, data, start, end))
        self._size += end - start
        if kind in (codes.SYNC, codes.FLUSH) or self._size > BATCH_LIMIT:
            self.dispatch()
        return True

    def _send_among_all(self, server: ServerConnection) -> None:
        self.everywhere.send(
            server,
            self.operations,
            lambda: self.run(server, self.take()),
            self.take,
            self._skip,
            is_open=self.script.open_segment(server) is not None,
        )

    def _skip(self) -> None:
        self.skipping = True

    def _note_local(self) -> None:
        """SET LOCAL holds until something has been executed; to prepare it is not enough."""
        executes = any(operation.kind == codes.EXECUTE for operation in self.operations)
        self._routing.state.is_under_way = executes or not self.is_complete

    def _perform_first(self) -> bool:
        """Carry out the statements that are answered here as far as they come before others.

        So they have their effect on the route of those. Returns whether that was all, and has
        been answered.
        """
        replies, count, error = deferral.perform_first(self._routing, self.operations)
        if replies is None:
            return False
        if error is not None:
            self._answer_error(replies, count, error)
        else:
            self._answer(replies)
        return True

    def _answer(self, replies: list[bytes]) -> None:
        """The batch needs no server so far."""
        is_complete = self.is_complete
        self.take()
        self.is_begun = not is_complete
        self._client.reply(b"".join(replies) + (self._lease.ready if is_complete else b""))

    def _answer_in_failed(self, long: Operation | None) -> bool:
        """Answer what comes in a transaction that has failed without a server.

        Returns:
            False: what is left of the operations comes after its end, or is left to a server.
        """
        if deferral.is_left_to_server(self._lease, self.names.renames):
            return False
        if long is not None:
            raise transaction_failed()
        replies, count, error = deferral.answer_in_failed(self._routing, self.operations)
        if error is not None:
            self._answer_error(replies, count, error)
        elif deferral.has_failed(self._lease) or count == len(self.operations):
            self._answer(replies)
        else:
            self._client.reply(b"".join(replies))
            del self.operations[:count]
            self.is_begun = True
            return False
        return True

    def _answer_error(self, replies: list[bytes], number: int, error: RouterError) -> None:
        """Of the operations, the one of that number has failed, and the rest are skipped."""
        is_complete = self.is_complete
        for operation in reversed(self.take()[number:]):
            self.names.undo(operation)
        self.skipping = not is_complete
        self._lease.fail()
        self._client.reply(b"".join(replies))
        self._client.refuse(error, self._lease.ready if is_complete else b"")

    def take(self) -> list[Operation]:
        """The operations, which are then the caller's."""
        operations, self.operations = self.operations, []
        self._size = 0
        self.is_begun = self.reader.has_answered = False
        return operations

    def fail(self, error: RouterError) -> None:
        """There is no server for what is collected: answer so, and skip to the Sync."""
        # What the rest of an open batch would do with what is parsed here is skipped with it.
        kinds = (codes.BIND,) if self.is_complete else (codes.PARSE, codes.BIND)
        for operation in self.operations:
            if operation.kind in kinds and operation.statement is not None:
                deferral.fail(self._routing, operation.statement.text)
        self._answer_error([], 0, error)

    def rebind(self, others: Sequence[Operation] = ()) -> None:
        """Look all statements of the client up anew, those among the operations too."""
        self._routing.epoch = self._routing.router.epoch
        found = self.names.rebind()
        for operation in (*self.operations, *others):
            operation.rebind(found)

    # --- with a server

    def replay(self, server: ServerConnection) -> None:
        """Send what was collected."""
        is_kept = self.is_complete and self._size <= MOST_KEPT
        self.run(server, operations := self.take())
        if is_kept:
            server.queue[-1].request = operations
        if self._is_preparing:
            self.on_answered()  # perhaps all of it was ours to make up

    def run(self, server: ServerConnection, operations: list[Operation]) -> None:
        """Send operations, as far as they need not wait for what is asked ahead of one."""
        script = self.script
        for number, operation in enumerate(operations):
            if operation.told is not None and self._waits(
                server, operation, operations[number + 1 :]
            ):
                self.held = operations[number:]
                return
            if operation.kind == codes.SYNC:
                script.sync(server)
            elif operation.kind == codes.FLUSH:
                script.flush(server)
            else:
                script.apply(server, operation)
        script.send(server)

    # --- what clients have been told

    def _waits(
        self,
        server: ServerConnection,
        operation: Operation,
        following: Sequence[Operation] = (),
    ) -> bool:
        """Ask the server whether a Bind returns what its client was told, if that is not known.

        It has to wait for the answer, since what has been executed cannot be taken back: so it
        does once for each server connection, and not if the client asks for the columns anyhow.
        """
        statement = operation.statement
        if statement is None or operation.error is not None or operation.answered is not None:
            return False
        if not self.script.lacks(server, statement, operation.token):
            return False
        if following and following[0].kind == codes.DESCRIBE and following[0].statement is None:
            return False
        self.script.provide(server, statement, operation.token, operation.told)
        self.script.flush(server)
        self._lease.asks = True
        return True

    def on_answered(self) -> None:
        """What the server has of the batch is answered: send what is held, or let it go."""
        server = self._lease.server
        if server is None:
            return
        if not self.held:
            if self._is_preparing:
                self._let_go(server)
            return
        script, segment = self.script, self.script.begin(server)
        if not (segment.failed or segment.is_answered(server.queue)):
            return
        held, self.held = self.held, []
        self._lease.asks = False
        first, last = held[0], held[-1]
        if segment.failed:
            for operation in reversed(held):
                self.names.undo(operation)
            if last.kind == codes.SYNC:
                script.sync(server)
            return
        assert first.statement is not None
        if script.lacks(server, first.statement, first.token):
            first.error = OutdatedPlan()
        self.run(server, held)

    def _bind_elsewhere(
        self, server: ServerConnection, operation: Operation, was_altered: bool
    ) -> bool | None:
        """See to a Bind that belongs to another shard, or to all; None: it goes on here."""
        statement = operation.statement
        if operation.error is not None or operation.answered is not None or statement is None:
            return None
        error: RouterError | None = self._routing.bind_on_wrong_shard(
            server, statement, operation.data, is_whole=not operation.missing
        )
        if isinstance(error, ForEveryShard):
            error = self.everywhere.join(server, error, self.script.segment, was_altered)
            if error is None:
                return False
        left = None if error is None else self.leave(server)
        if left is None and error is not None:
            operation.error = error
            self._routing.router.tallies.refuse(error)
        elif left:
            self.operations.append(operation)
            self._size += len(operation.data)
        return left

    def _let_go(self, server: ServerConnection) -> None:
        """Leave the server, which has only prepared, if nothing has gone wrong there."""
        segment = self.script.segment
        if segment is not None and not segment.failed and segment.is_answered(server.queue):
            self.leave(server)

    def leave(self, server: ServerConnection) -> bool | None:
        """Go from the server in the middle of a batch, if that has only prepared so far.

        Its part of the batch ends in a Sync of our own, whose reply nobody hears.

        Returns:
            None: the batch has to stay. False: not yet, for not all of it is answered.
        """
        script = self.script
        segment = script.segment
        if segment is None or not self._routing.may_leave(segment):
            return None
        if not script.settle(server):
            return False
        segment.sync(keep_script=True)
        server.send(messages.SYNC)
        script.reset()
        self._lease.abandon(server, cancel=False)
        self.is_begun, self._is_preparing = True, False
        return True

    def refuse(self, error: RouterError, *, ends: bool) -> None:
        """Answer a message with an error that leaves the transaction as PostgreSQL's would.

        So with a server, something goes to it in the message's place that is bound to fail.
        `ends`: it is a Query, and so ends its batch; any other leaves it open.
        """
        self._client.log_refusal(log, error)
        self._routing.router.tallies.refuse(error)
        server = self._lease.server
        if server is None:
            self.skipping = not ends
            self._lease.fail()
            self._client.refuse(error, self._lease.ready if ends else b"")
            return
        self.operations.append(Operation(codes.PARSE, b"", error=error))
        if ends:
            self.operations.append(Operation(codes.SYNC, b""))
        self.replay(server)
