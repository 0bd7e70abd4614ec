"""What one client has done on all shards: it begins that, and tells what has come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ForEveryShard, NoSingleShard, RouterError
from ..protocol import codes, messages
from ..protocol.binds import PORTAL, Parameters
from ..protocol.framing import HEADER_SIZE
from ..protocol.segments import Segment
from ..protocol.steps import EMIT, SWALLOW, Step
from ..queries import UNREAD
from ..routing import refusals
from ..routing.tallies import EVERY_SHARD
from .bound_keys import bound_values
from .everywhere import Everywhere
from .following import Part, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..pool.server import ServerConnection
    from .client import Client
    from .client_routing import ClientRouting
    from .operation import Operation


class OnAllShards:
    """What one client has had brought to all shards, and what came of it.

    Attributes:
        current: what is under way, or over and not told yet.
        part: what it is to a transaction of the client's; None: it is a command by itself.
        has_failed: whether what was answered last is an error.
    """

    __slots__ = ("_client", "_objection", "_routing", "current", "has_failed", "part")

    def __init__(self, client: Client, routing: ClientRouting) -> None:
        self._client: Final = client
        self._routing: Final = routing
        self._objection: RouterError | None = None
        self.current: Everywhere | None = None
        self.part: Part | None = None
        self.has_failed = False

    # --- commands by themselves

    def begin(self, sql: bytes, error: ForEveryShard, done: Callable[[], None]) -> None:
        """Begin to bring a text to all shards; `done` is told when the client may go on."""
        self._count()
        everywhere = Everywhere(self._routing.lease, self._routing.router.home)

        def over() -> None:
            everywhere.close()
            self._go_on(done)

        self._wait(everywhere, None)
        if error.in_turn:
            everywhere.keep_up(sql, self._shape_of(sql), over)
        else:
            everywhere.define(sql, self._shape_of(sql), over)

    def begin_batch(
        self,
        operations: Sequence[Operation],
        error: ForEveryShard,
        take: Callable[[], list[Operation]],
    ) -> None:
        """Do that with the one statement of a batch, whose operations `take` takes over.

        Raises:
            ForEveryShard: the batch does something else.
        """
        if not is_single(operations):
            raise error.with_traceback(None)

        def done() -> None:
            executed = self.answer()
            self.tell(replies_to(take(), executed, has_failed=self.has_failed))
            self._routing.lease.holder.server_ready()

        self.begin(text_of(operations), error, done)

    def _wait(self, everywhere: Everywhere, part: Part | None) -> None:
        self.current, self.part = everywhere, part
        self._routing.lease.wait_for(everywhere)

    def _go_on(self, done: Callable[[], None]) -> None:
        """What was waited for is over."""
        self._routing.lease.waiter = None
        if not self._client.closed:
            done()

    def _count(self) -> None:
        self._routing.router.tallies.of_rule(EVERY_SHARD).count += 1

    def _shape_of(self, sql: bytes) -> object:
        queries = self._routing.lease.engine.figures.queries
        return queries.shape(sql) if queries.limit else UNREAD

    # --- transactions

    def open(self, error: ForEveryShard, go_on: Callable[[], None]) -> None:
        """Begin a transaction on all shards of which no server knows yet, and then `go_on`.

        Raises:
            RouterError: it cannot be; so if that is known at once.
        """
        routing, lease = self._routing, self._routing.lease
        deferred = lease.deferred
        if deferred is None or error.in_turn or deferred.has_failed:
            raise error.with_traceback(None)
        everywhere = Everywhere(lease, routing.router.home)
        is_at_once = True

        def begun() -> None:
            failure = everywhere.error
            server = None if failure is not None else everywhere.hand_over()
            if server is None:
                everywhere.close()
                if failure is not None and not is_at_once:
                    lease.holder.checkout_failed(failure)
                return
            routing.spread(everywhere)
            lease.route = routing.router.route_unknown(routing.state)
            lease.attach(server)
            go_on()

        def over() -> None:
            if self._client.closed:
                everywhere.close()
            self._go_on(begun)

        lease.wait_for(everywhere)
        everywhere.open(deferred.sql(lease.settings.variables.values), over)
        is_at_once = False
        if lease.waiter is None and everywhere.error is not None:
            raise everywhere.error

    def join(
        self,
        server: ServerConnection,
        error: ForEveryShard,
        segment: Segment | None,
        is_altered: bool,
    ) -> RouterError | None:
        """Have a transaction that is at the client's server go on on all shards.

        Args:
            server: that.
            error: why its statement cannot be run there alone.
            segment: the open batch that it is in, if it is.
            is_altered: the transaction has changed what texts mean, for which others would
                have to do the same.

        Returns:
            Why that cannot be. None: as soon as it is so, the statement is to be found again.
        """
        routing, lease = self._routing, self._routing.lease
        objection: RouterError | None = self._objection
        self._objection = None
        if objection is not None:
            return objection
        is_altered |= segment is not None and segment.has_bound
        xact = lease.xact
        if xact is None or error.in_turn or is_altered or not routing.may_join(server):
            return error
        everywhere = Everywhere(lease, routing.router.home)

        def joined() -> None:
            self._objection = everywhere.error
            if everywhere.error is None:
                routing.spread(everywhere)
            else:
                everywhere.close()
            lease.holder.server_ready()

        def over() -> None:
            if self._client.closed:
                everywhere.close()
            self._go_on(joined)

        lease.wait_for(everywhere)
        everywhere.join(xact.again(lease.settings.variables.values), over)
        if lease.waiter is None:
            objection = self._objection
            self._objection = None
        return objection

    def part_of(self, server: ServerConnection, sql: bytes) -> Part:
        """What a text is to the transaction.

        Raises:
            RoutingError: it is to be refused.
        """
        routing = self._routing
        has_failed = server.status == codes.IN_FAILED_TRANSACTION
        return part_of(routing.router, routing.state, sql, has_failed=has_failed)

    def act(
        self,
        server: ServerConnection,
        part: Part,
        texts: Sequence[bytes],
        done: Callable[[], None],
    ) -> None:
        """Have the others do their part, or end it on all shards; `done` may come at once.

        Then `failure` has what has gone wrong with the others, `answer` how it has ended.
        """
        routing, lease = self._routing, self._routing.lease
        everywhere = routing.branches
        assert everywhere is not None
        self._wait(everywhere, part)
        if part is Part.ALL:
            self._count()
            shapes = [(sql, self._shape_of(sql)) for sql in texts]
            over = lambda: self._over(everywhere, done)  # noqa: E731
            everywhere.follow(shapes, over)
            return

        def ended() -> None:
            left = everywhere.hand_over()
            if self._client.closed and left is not None:
                left.pool.release(left)
            elif left is not None:
                lease.server = left
                left.attach(lease.holder)
            else:
                lease.lose()
                lease.xact, lease.xact_open = None, False
            routing.leave_others()
            self._over(everywhere, done)

        lease.server = None
        everywhere.commit(server, ended)

    def _over(self, everywhere: Everywhere, done: Callable[[], None]) -> None:
        if self._client.closed:
            everywhere.close()
        self._go_on(done)

    def failure(self) -> RouterError | None:
        """What has gone wrong with the others, as long as nobody has been told."""
        everywhere, self.current = self.current, None
        assert everywhere is not None
        return everywhere.error

    # --- a transaction in batches

    def send(
        self,
        server: ServerConnection,
        operations: Sequence[Operation],
        go_on: Callable[[], None],
        take: Callable[[], list[Operation]],
        *,
        is_open: bool,
    ) -> None:
        """Have the others do what concerns them of a batch; `go_on` sends it to the server.

        `is_open`: some of it is at the server already.
        """
        texts: list[bytes] = []
        binds: list[Operation] = []
        for operation in operations:
            is_bind = operation.kind == codes.BIND
            if not is_bind or operation.answered is not None or operation.error is not None:
                continue
            try:
                part = self._part_of_bind(server, operation)
                if part is Part.COMMIT and not (is_single(operations) and not is_open):
                    raise not_alone()
                if part is Part.ALL and not _is_run(operation, operations):
                    raise _not_run()
            except RouterError as error:
                operation.error = error
                self._routing.router.tallies.refuse(error)
                break  # what is behind it will not be run
            if part is Part.COMMIT:
                self._commit_batch(server, take)
                return
            if part is Part.ALL:
                assert operation.statement is not None
                texts.append(operation.statement.text)
                binds.append(operation)
        if not texts:
            go_on()
            return

        def done() -> None:
            failure, branches = self.failure(), self._routing.branches
            if failure is not None and branches is not None:
                binds[branches.followed].error = failure
            go_on()
            self._routing.lease.holder.server_ready()

        self.act(server, Part.ALL, texts, done)

    def _part_of_bind(self, server: ServerConnection, operation: Operation) -> Part:
        """The same for what is bound.

        Raises:
            RouterError: it is to be refused.
        """
        routing, statement = self._routing, operation.statement
        if statement is None:
            raise refusals.unprepared()
        router, state = routing.router, routing.state
        analysis = router.analyse(statement.text)
        assert analysis is not None
        router.note_prepared(analysis, statement.text, state)
        has_failed = server.status == codes.IN_FAILED_TRANSACTION
        keys = bound_values(router, state, statement, analysis, operation.data, is_whole=True)
        part = part_of(router, state, statement.text, keys, has_failed=has_failed)
        if part is Part.ALL and Parameters(operation.data).count:
            raise NoSingleShard(
                "the statement concerns all shards, and has parameters",
                kind=refusals.EVERY_SHARD,
                hint="Write its values as literals.",
            )
        return part

    def _commit_batch(
        self, server: ServerConnection, take: Callable[[], list[Operation]]
    ) -> None:
        def done() -> None:
            executed = self.answer()
            self.tell(replies_to(take(), executed, has_failed=self.has_failed))
            self._routing.lease.holder.server_ready()

        self.act(server, Part.COMMIT, (), done)

    # --- what comes of it

    def answer(self) -> bytes:
        """What the client is told, up to the CommandComplete or the ErrorResponse."""
        everywhere, self.current = self.current, None
        assert everywhere is not None
        client, error = self._client, everywhere.error
        client.error_count += error is not None
        if self._routing.lease.server is None:
            client.query_count += 1
            client.transaction_count += error is None
            self._routing.end_transaction()
        self.has_failed = error is not None
        return everywhere.notices + (
            everywhere.tag if error is None else messages.error_from(error)
        )

    def tell(self, replies: bytes) -> None:
        """Tell the client that, and that it may go on.

        Does it have its server again, that is given an empty statement in the place of what
        has ended the transaction, or a ROLLBACK if nothing has: so all that hangs on the end of
        a transaction there is done as ever.
        """
        lease = self._routing.lease
        server = lease.server
        if server is None:
            self._client.reply(replies + lease.ready)
            return
        is_over = server.status == codes.IDLE
        segment = Segment(lease.holder, lease.engine.now)
        tag = Step(SWALLOW, b"I" if is_over else b"C")
        segment.steps = [tag, Step(EMIT, b"", replies)]
        server.queue.append(segment)
        server.unnamed = 0
        server.send(messages.query(b"" if is_over else b"ROLLBACK"))


def not_alone() -> NoSingleShard:
    """Why what concerns all shards cannot be run behind what is not answered yet."""
    return NoSingleShard(
        "in a transaction that is on all shards this must be a batch of its own",
        kind=refusals.EVERY_SHARD,
        hint="Send a Sync before it.",
    )


def _not_run() -> NoSingleShard:
    return NoSingleShard(
        "what concerns all shards must be executed in the batch that binds it",
        kind=refusals.EVERY_SHARD,
        hint="Send the Execute before the Sync.",
    )


# --- in an extended batch


def is_single(operations: Sequence[Operation]) -> bool:
    """Whether a batch runs one statement, which has no parameters, and nothing else."""
    bound = [operation for operation in operations if operation.kind == codes.BIND]
    executed = sum(operation.kind == codes.EXECUTE for operation in operations)
    if len(bound) != 1 or executed != 1 or bound[0].statement is None:
        return False
    if any(
        operation.error is not None or operation.answered is not None or operation.missing
        for operation in operations
    ):
        return False
    if not _is_run(bound[0], operations):
        return False
    return Parameters(bound[0].data).count == 0


def _is_run(bound: Operation, operations: Sequence[Operation]) -> bool:
    """Whether what is bound is also executed in its batch."""
    after = operations[operations.index(bound) + 1 :]
    return any(
        operation.kind == codes.EXECUTE
        and operation.data[HEADER_SIZE:].partition(b"\0")[0] == bound.name
        for operation in after
    )


def text_of(operations: Sequence[Operation]) -> bytes:
    """The statement that such a batch runs."""
    bound = next(operation for operation in operations if operation.kind == codes.BIND)
    assert bound.statement is not None
    return bound.statement.text


def replies_to(operations: Sequence[Operation], executed: bytes, *, has_failed: bool) -> bytes:
    """The replies to such a batch but its last; `executed` is that to its Execute."""
    replies = []
    for operation in operations:
        if operation.kind == codes.EXECUTE:
            replies.append(executed)
            if has_failed:
                break
        elif operation.kind == codes.DESCRIBE:
            is_portal = operation.data[HEADER_SIZE : HEADER_SIZE + 1] == bytes((PORTAL,))
            parameters = b"" if is_portal else messages.parameter_description(())
            replies.append(parameters + messages.NO_DATA)
        elif operation.kind != codes.FLUSH:
            replies.append(_REPLIES.get(operation.kind, b""))
    return b"".join(replies)


_REPLIES: Final = {
    codes.PARSE: messages.PARSE_COMPLETE,
    codes.BIND: messages.BIND_COMPLETE,
    codes.CLOSE: messages.CLOSE_COMPLETE,
}
