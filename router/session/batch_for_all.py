"""Batches of one client in a transaction that is on all shards."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import NoSingleShard, RouterError
from ..protocol import codes
from ..routing import refusals
from ..routing.for_all import CopyForShards
from . import requests
from .all_shards import OnAllShards
from .bound_keys import bound_values
from .following import Part, part_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..pool.participant import Request
    from ..pool.server import ServerConnection
    from .copy_in import CopyIn
    from .operation import Operation
    from .split import Split


class BatchesForAll(OnAllShards):
    """What one client has had brought to all shards, by batches as well."""

    __slots__ = ()

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
                    if part is Part.ROWS:
                        self._refuse_copy(operation)
                        self._insert(server, operations, go_on, take)
                        return
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
            raise requests.bound_before()
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
        elif part is Part.ROWS:
            del self._bound[operation.name]
            if is_open or operations[-1].kind != codes.SYNC:
                raise requests.not_alone()
        elif request is not None:
            if request.change is not None:
                self._check_change(server, operations, is_open=is_open)
            self._bound[operation.name] = request
        return part

    def _refuse_copy(self, operation: Operation) -> None:
        """See that what inserts rows is no COPY.

        Raises:
            NoSingleShard: it is.
        """
        statement = operation.statement
        analysis = None if statement is None else self._routing.router.analyse(statement.text)
        if analysis is not None and isinstance(analysis.obstacle, CopyForShards):
            raise analysis.obstacle.with_traceback(None)

    def _insert(
        self,
        server: ServerConnection,
        operations: Sequence[Operation],
        go_on: Callable[[], None],
        take: Callable[[], list[Operation]],
    ) -> None:
        """A batch inserts rows of several shards: the server is sent its part of them.

        Raises:
            RouterError: they cannot be split.
        """
        under_way = any(segment.sink is not None for segment in server.queue)
        if under_way or not requests.is_single(operations):
            raise requests.not_alone()
        bound = requests.bound_in(operations)
        assert bound.statement is not None
        fingerprint = self._fingerprint_of(bound.statement.text)
        split = requests.split_bind(self._routing, operations, fingerprint)

        def done() -> None:
            assert self.current is not None
            answer = self.current.answer
            failure = self.tell_rows(
                lambda executed: requests.replies_to(
                    take(), executed, has_failed=self.has_failed, answer=answer
                )
            )
            if failure is not None:
                # Where the server has failed itself, a Parse would get another error.
                has_failed = server.status == codes.IN_FAILED_TRANSACTION
                (operations[0] if has_failed else bound).error = failure
                go_on()
            self._routing.lease.holder.server_ready()

        self.act(server, Part.ROWS, split, done)

    # --- the COMMIT in a batch

    def _check_end(self, operations: Sequence[Operation], *, is_open: bool) -> None:
        """See that a COMMIT is alone in its batch.

        Raises:
            NoSingleShard: it is not.
        """
        runs = any(operation.kind == codes.EXECUTE for operation in operations)
        binds = sum(operation.kind == codes.BIND for operation in operations)
        if is_open or binds > 1 or (runs and not requests.is_single(operations)):
            raise requests.not_alone()

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
            first.error = requests.not_alone()
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

    def wanted(self, part: Part, sql: bytes) -> Sequence[Request] | Split | CopyIn:
        """What others are asked, or all, where the client sends a Query.

        Raises:
            RoutingError: it cannot be split, or nobody counts what is changed at home.
        """
        if part is Part.ROWS:
            fingerprint, analysis = self._fingerprint_of(sql), self._routing.router.analyse(sql)
            if analysis is not None and isinstance(analysis.obstacle, CopyForShards):
                return self.copy_of(sql, fingerprint, analysis.obstacle)
            return requests.split_text(self._routing, sql, fingerprint)
        if part is not Part.ALL:
            return ()
        analysis = self._routing.router.analyse(sql)
        change = None if analysis is None else requests.change_in(analysis.obstacle)
        if change is not None:
            self._check_counts()
        return (requests.of_text(sql, self._fingerprint_of(sql), change),)

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
            raise requests.not_alone()

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
        change = requests.change_in(analysis.obstacle)
        return part, requests.of_bind(operation, self._fingerprint_of(statement.text), change)
