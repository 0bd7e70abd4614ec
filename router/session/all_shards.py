"""What one client has done on all shards: it begins that, and tells what has come of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..pool.participant import Request
from ..protocol import codes, messages
from ..protocol.segments import Segment
from ..protocol.steps import EMIT, SWALLOW, Step
from ..queries import UNREAD
from ..routing.for_all import CopyForAll, CopyForShards, RowsForSeveral
from ..routing.tallies import EVERY_SHARD
from . import requests
from .copy_in import CopyIn
from .copy_same import SameCopy
from .copy_split import SplitCopy
from .everywhere import Everywhere
from .following import Part, part_of
from .split import Split

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..errors import ForEveryShard, RouterError
    from ..pool.server import ServerConnection
    from .client import Client
    from .client_routing import ClientRouting
    from .operation import Operation


class OnAllShards:
    """What one client has had brought to all shards, and what came of it.

    Attributes:
        current: what is under way, or over and not told yet.
        part: what it is to a transaction of the client's; None: it is a command by itself.
        copying: the COPY that was begun last, if its rows are split.
        has_failed: whether what was answered last is an error.
    """

    __slots__ = (
        "_bound",
        "_client",
        "_ending",
        "_objection",
        "_routing",
        "copying",
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
        self.copying: CopyIn | None = None
        self.has_failed = False

    # --- commands by themselves

    def begin(self, sql: bytes, error: ForEveryShard, done: Callable[[], None]) -> None:
        """Begin to bring a text to all shards; `done` is told when the client may go on."""
        fingerprint = self._fingerprint_of(sql)
        if isinstance(error, CopyForShards):
            self._begin(self.copy_of(sql, fingerprint, error), error, done)
        elif isinstance(error, RowsForSeveral):
            self._begin(requests.split_text(self._routing, sql, fingerprint), error, done)
        else:
            change = requests.change_in(error)
            self._begin(requests.of_text(sql, fingerprint, change), error, done)

    def _begin(
        self,
        request: Request | Split | CopyIn,
        error: ForEveryShard,
        done: Callable[[], None],
    ) -> None:
        self._count()
        lease = self._routing.lease
        everywhere = Everywhere(lease, self._routing.router.home)

        def over() -> None:
            everywhere.close()
            self._go_on(done)

        self._wait(everywhere, None)
        if lease.writes is not None:
            lease.writes.note_message(request.data, is_whole=True)
        if isinstance(request, CopyIn):
            everywhere.copy(request, over)
        elif isinstance(request, Split):
            everywhere.split(request, over)
        elif error.in_turn:
            everywhere.keep_up(request, over)
        else:
            everywhere.define(request, over)

    def copy_of(self, sql: bytes, fingerprint: object, error: CopyForShards) -> CopyIn:
        """Make what brings the rows of a COPY to their shards.

        Raises:
            RoutingError: that cannot be.
        """
        routing, request = self._routing, Request(sql, fingerprint)
        resume = routing.lease.holder.server_ready
        if isinstance(error, CopyForAll):
            self.copying = SameCopy(request, error.change, self._client, resume)
        else:
            text, key = routing.router.copied(sql, routing.state)
            sharder = routing.router.sharder
            self.copying = SplitCopy(request, text, key, sharder, self._client, resume)
        return self.copying

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
        if isinstance(error, CopyForShards) or not requests.is_single(operations):
            raise error.with_traceback(None)
        bound = requests.bound_in(operations)
        assert bound.statement is not None
        fingerprint = self._fingerprint_of(bound.statement.text)
        request: Request | Split
        if isinstance(error, RowsForSeveral):
            request = requests.split_bind(self._routing, operations, fingerprint)
        else:
            request = requests.of_bind(bound, fingerprint, requests.change_in(error))

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
        wanted: Sequence[Request] | Split | CopyIn,
        done: Callable[[], None],
    ) -> None:
        """Have the others do their part, or all; or end it on all. `done` may come at once.

        Then `failure` has what has gone wrong with the others, `answer` how it has ended.
        """
        routing, lease = self._routing, self._routing.lease
        everywhere = routing.branches
        assert everywhere is not None
        self._wait(everywhere, part)
        if part is not Part.COMMIT:
            self._count()
        if part is Part.ALL and not isinstance(wanted, (Split, CopyIn)):
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
                if part is Part.ROWS:
                    lease.note_begun()
            else:
                lease.lose()
                lease.xact, lease.xact_open = None, False
            if part is Part.COMMIT or left is None:
                routing.leave_others()
            self._over(everywhere, done)

        lease.server = None
        if isinstance(wanted, CopyIn):
            everywhere.copy_into(server, wanted, ended)
        elif isinstance(wanted, Split):
            everywhere.insert(server, wanted, ended)
        else:
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

    def tell_rows(self, replies: Callable[[bytes], bytes]) -> RouterError | None:
        """Tell the client, whose transaction goes on, that rows have been inserted.

        Returns:
            Why they have not, of which nobody has been told.
        """
        everywhere, server = self.current, self._routing.lease.server
        assert everywhere is not None
        if server is None:
            self.tell(replies(self.answer()))
            return None
        failure = self.failure()
        if failure is None:
            self.has_failed = False
            self._client.query_count += 1
            told = replies(everywhere.notices + everywhere.tag)
            self._client.reply(told + messages.ready_for_query(server.status))
        return failure

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
