"""What one client has done on all shards: it begins that, and tells what has come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ForEveryShard, NoSingleShard, RouterError
from ..protocol import codes, messages
from ..protocol.segments import Segment
from ..protocol.steps import EMIT, SWALLOW, Step
from ..queries import UNREAD
from ..routing import refusals
from ..routing.for_all import ChangeForAll
from ..routing.tallies import EVERY_SHARD
from . import requests
from .bound_keys import bound_values
from .everywhere import Everywhere
from .following import Part, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..pool.participant import Request
    from ..pool.server import ServerConnection
    from ..routing.types import TableChange
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

    __slots__ = (
        "_bound",
        "_client",
        "_ending",
        "_objection",
        "_routing",
        "current",
        "has_failed",
        "part",
    )

    def __init__(self, client: Client, routing: ClientRouting) -> None:
        self._client: Final = client
        self._routing: Final = routing
        self._objection: RouterError | None = None
        # The portals of its transaction, as far as they were bound since it is on all shards;
        # those that concern all of them with what is to be asked, until they are executed.
        self._bound: Final[dict[bytes, Request | None]] = {}
        # That of the COMMIT.
        self._ending: bytes | None = None
        self.current: Everywhere | None = None
        self.part: Part | None = None
        self.has_failed = False

    # --- commands by themselves

    def begin(self, sql: bytes, error: ForEveryShard, done: Callable[[], None]) -> None:
        """Begin to bring a text to all shards; `done` is told when the client may go on."""
        change = change_in(error)
        self._begin(requests.of_text(sql, self._fingerprint_of(sql), change), error, done)

    def _begin(self, request: Request, error: ForEveryShard, done: Callable[[], None]) -> None:
        self._count()
        lease = self._routing.lease
        everywhere = Everywhere(lease, self._routing.router.home)

        def over() -> None:
            everywhere.close()
            self._go_on(done)

        self._wait(everywhere, None)
        if lease.writes is not None:
            lease.writes.note_message(request.data, is_whole=True)
        if error.in_turn:
            everywhere.keep_up(request, over)
        else:
            everywhere.define(request, over)

    def begin_batch(
        self,
        operations: Sequence[Operation],
        error: ForEveryShard,
        take: Callable[[], list[Operation]],
    ) -> None:
        """Do that with the one statement of a batch, whose operations `take` takes over.

        Raises:
            ForEveryShard: the batch does something else.
            RouterError: it cannot be done.
        """
        if not requests.is_single(operations):
            raise error.with_traceback(None)
        bound = requests.bound_in(operations)
        assert bound.statement is not None
        fingerprint = self._fingerprint_of(bound.statement.text)
        request = requests.of_bind(bound, fingerprint, change_in(error))

        def done() -> None:
            assert self.current is not None
            answer, executed = self.current.answer, self.answer()
            replies = requests.replies_to(
                take(), executed, has_failed=self.has_failed, answer=answer
            )
            self.tell(replies)
            self._routing.lease.holder.server_ready()

        self._begin(request, error, done)

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

    def _fingerprint_of(self, sql: bytes) -> object:
        queries = self._routing.lease.engine.figures.queries
        return queries.fingerprint(sql) if queries.limit else UNREAD

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
            self._begin_transaction(everywhere)
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
        objection = self._take_objection()
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
                self._begin_transaction(everywhere)
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
            objection = self._take_objection()
        return objection

    def _take_objection(self) -> RouterError | None:
        """Why what was begun last cannot be, which is told once."""
        objection = self._objection
        self._objection = None
        return objection

    def _begin_transaction(self, everywhere: Everywhere) -> None:
        self._bound.clear()
        self._ending = None
        self._routing.spread(everywhere)

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
        wanted: Sequence[Request],
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
            lease.compares = everywhere.compare
            everywhere.follow(wanted, lambda: self._over(everywhere, done))
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
        skip: Callable[[], None],
        *,
        is_open: bool,
    ) -> None:
        """Have the others do what concerns them of a batch; `go_on` sends it to the server.

        Args:
            server: the client's.
            operations: what is collected of the batch.
            go_on: sends that to the server.
            take: takes it over.
            skip: has all up to the Sync skipped.
            is_open: some of the batch is at the server already.
        """
        if self._ending is not None:
            self._send_ending(server, operations, go_on, take, skip)
            return
        wanted: list[Request] = []
        executed: list[Operation] = []
        for operation in operations:
            if operation.error is not None:
                break  # what is behind it will not be run
            try:
                if operation.kind == codes.EXECUTE:
                    request = self._executed(operation)
                    if request is not None:
                        wanted.append(request)
                        executed.append(operation)
                elif operation.kind == codes.BIND:
                    part = self._bind(server, operation, operations, is_open=is_open)
                    if part is Part.COMMIT:
                        self._end_batch(server, operation, take, skip)
                        return
            except RouterError as error:
                operation.error = error
                self._routing.router.tallies.refuse(error)
                break
        if not wanted:
            go_on()
            return

        def done() -> None:
            failure, branches = self.failure(), self._routing.branches
            if failure is not None and branches is not None:
                executed[branches.followed].error = failure
            go_on()
            self._routing.lease.holder.server_ready()

        self.act(server, Part.ALL, wanted, done)

    def _executed(self, operation: Operation) -> Request | None:
        """What the others are asked because of an Execute.

        Raises:
            NoSingleShard: nobody knows what it executes.
        """
        portal = requests.portal_of(operation)
        if portal not in self._bound:
            raise _bound_before()
        request = self._bound[portal]
        self._bound[portal] = None
        return request

    def _bind(
        self,
        server: ServerConnection,
        operation: Operation,
        operations: Sequence[Operation],
        *,
        is_open: bool,
    ) -> Part:
        """Note what a Bind is to the transaction; that of a COMMIT is not the server's.

        Raises:
            RouterError: it is to be refused.
        """
        self._bound[operation.name] = None
        if operation.answered is not None:
            return Part.HOME
        part, request = self._part_of_bind(server, operation)
        if part is Part.COMMIT:
            del self._bound[operation.name]
            self._check_end(operations, is_open=is_open)
        elif request is not None:
            if request.change is not None:
                self._check_change(server, operations, is_open=is_open)
            self._bound[operation.name] = request
        return part

    # --- the COMMIT in a batch

    def _check_end(self, operations: Sequence[Operation], *, is_open: bool) -> None:
        """See that a COMMIT is alone in its batch.

        Raises:
            NoSingleShard: it is not.
        """
        runs = any(operation.kind == codes.EXECUTE for operation in operations)
        binds = sum(operation.kind == codes.BIND for operation in operations)
        if is_open or binds > 1 or (runs and not requests.is_single(operations)):
            raise not_alone()

    def _end_batch(
        self,
        server: ServerConnection,
        bound: Operation,
        take: Callable[[], list[Operation]],
        skip: Callable[[], None],
    ) -> None:
        """A batch binds COMMIT, and executes it now or later: the server hears of neither."""
        operations = take()
        if any(operation.kind == codes.EXECUTE for operation in operations):
            self._commit(server, operations, skip)
            return
        replies = requests.replies_to(operations, b"", has_failed=False)
        is_complete = operations[-1].kind == codes.SYNC
        self._ending = None if is_complete else bound.name
        self._client.reply(replies + (self._routing.lease.ready if is_complete else b""))

    def _send_ending(
        self,
        server: ServerConnection,
        operations: Sequence[Operation],
        go_on: Callable[[], None],
        take: Callable[[], list[Operation]],
        skip: Callable[[], None],
    ) -> None:
        """What comes behind the Bind of a COMMIT: its Execute, or nothing of it will be."""
        first, portal = operations[0], self._ending
        self._ending = None
        is_alone = sum(operation.kind in b"PBDE" for operation in operations) == 1
        if first.kind == codes.EXECUTE and is_alone and requests.portal_of(first) == portal:
            self._commit(server, take(), skip)
        elif first.kind == codes.SYNC:
            take()
            self._client.reply(self._routing.lease.ready)
        else:
            first.error = not_alone()
            go_on()

    def _commit(
        self, server: ServerConnection, operations: list[Operation], skip: Callable[[], None]
    ) -> None:
        lease = self._routing.lease

        def done() -> None:
            executed = self.answer()
            replies = requests.replies_to(operations, executed, has_failed=self.has_failed)
            if operations[-1].kind == codes.SYNC:
                self.tell(replies)
            else:
                self._client.reply(replies)
                if self.has_failed:
                    self._give_up_home()
                    skip()
            lease.holder.server_ready()

        self.act(server, Part.COMMIT, (), done)

    def _give_up_home(self) -> None:
        """The transaction has failed, and the server would wait for a Sync."""
        lease = self._routing.lease
        server = lease.server
        if server is not None:
            lease.lose()
            server.pool.release(server)
        lease.xact, lease.xact_open = None, False
        self._routing.end_transaction()

    def request(self, sql: bytes) -> Request:
        """What the others are asked where the client's server is to be sent a Query.

        Raises:
            NoSingleShard: nobody counts the rows that are changed there.
        """
        analysis = self._routing.router.analyse(sql)
        change = None if analysis is None else change_in(analysis.obstacle)
        if change is not None:
            self._check_counts()
        return requests.of_text(sql, self._fingerprint_of(sql), change)

    def _check_counts(self) -> None:
        if not self._routing.lease.engine.figures.queries.limit:
            raise NoSingleShard(
                "without query_statistics a change of a table that is on every shard cannot be "
                "compared with that on others in a transaction",
                kind=refusals.EVERY_SHARD,
                hint="Send it outside of a transaction block.",
            )

    def _check_change(
        self, server: ServerConnection, operations: Sequence[Operation], *, is_open: bool
    ) -> None:
        """See that the rows that a change has at home can be told from those of others.

        Raises:
            NoSingleShard: they cannot.
        """
        self._check_counts()
        executed = sum(operation.kind == codes.EXECUTE for operation in operations)
        under_way = sum(segment.sink is not None for segment in server.queue)
        if executed > 1 or under_way > is_open:
            raise not_alone()

    def _part_of_bind(
        self, server: ServerConnection, operation: Operation
    ) -> tuple[Part, Request | None]:
        """The same for what is bound, and what is to be asked of the others.

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
        if part is not Part.ALL:
            return part, None
        change = change_in(analysis.obstacle)
        return part, requests.of_bind(operation, self._fingerprint_of(statement.text), change)

    # --- what comes of it

    def answer(self, *, has_rows: bool = False) -> bytes:
        """What the client is told, up to the CommandComplete or the ErrorResponse.

        `has_rows`: with the rows, and what describes them.
        """
        everywhere, self.current = self.current, None
        assert everywhere is not None
        client, error = self._client, everywhere.error
        client.error_count += error is not None
        if self._routing.lease.server is None:
            client.query_count += 1
            client.transaction_count += error is None
            self._routing.end_transaction()
        self.has_failed = error is not None
        if error is not None:
            return everywhere.notices + messages.error_from(error)
        return everywhere.notices + everywhere.answer * has_rows + everywhere.tag

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


def change_in(error: RouterError | None) -> TableChange | None:
    """What is changed of a table that every shard has, by what stands in the way."""
    return error.change if isinstance(error, ChangeForAll) else None


def _bound_before() -> NoSingleShard:
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
