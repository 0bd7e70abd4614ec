"""A Query for all shards: a command by itself, or in a transaction that is on all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..routing.for_all import CopyForShards
from .following import Part
from .requests import not_alone

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import ForEveryShard
    from ..pool.server import ServerConnection
    from .batch import Batch
    from .client_routing import ClientRouting


class QueryForAll:
    """What becomes of the Queries of one client that concern all shards."""

    __slots__ = ("_batch", "_lease", "_routing", "_send")

    def __init__(
        self,
        routing: ClientRouting,
        batch: Batch,
        send: Callable[[ServerConnection, bytes, bytes], bool],
    ) -> None:
        """`send` sends a Query, of which it gets the text as well, to the client's server."""
        self._routing: Final = routing
        self._lease: Final = routing.lease
        self._batch: Final = batch
        self._send: Final = send

    def begin(self, message: bytes, sql: bytes, error: ForEveryShard) -> bool:
        """Have a Query run on all shards; False declines it until that is over.

        Raises:
            RouterError: it cannot be.
        """
        lease, everywhere = self._lease, self._batch.everywhere
        if lease.deferred is not None:
            everywhere.open(error, lease.holder.server_ready)
            return False
        everywhere.begin(sql, error, self._done)
        if isinstance(error, CopyForShards):
            return False
        return self._has_been_done(message, sql)

    def query(self, server: ServerConnection, message: bytes, sql: bytes) -> bool:
        """A Query of a transaction that is on all shards; False declines it for now."""
        everywhere = self._batch.everywhere
        try:
            part = everywhere.part_of(server, sql)
            wanted = everywhere.wanted(part, sql)
        except RoutingError as error:
            self._batch.refuse(error, ends=True)
            return True
        if part is Part.HOME:
            return self._send(server, message, sql)
        everywhere.act(server, part, wanted, self._done)
        return self._has_been_done(message, sql)

    def _done(self) -> None:
        copying = self._batch.everywhere.copying
        self._batch.everywhere.copying = None
        if copying is not None and copying.has_begun:
            self.answer(b"", b"")  # the Query has been taken since
            self._lease.holder.server_ready()
            return
        self._lease.has_come = True  # for the Query, which is there again if it was declined
        self._lease.holder.server_ready()

    def _has_been_done(self, message: bytes, sql: bytes) -> bool:
        """Go on with what was over at once; False declines all else."""
        if not self._lease.has_come:
            return False
        self._lease.has_come = False
        return self.answer(message, sql)

    def answer(self, message: bytes, sql: bytes) -> bool:
        """A Query has been run on all shards, or on those that go ahead of its server."""
        batch, server = self._batch, self._lease.server
        everywhere = batch.everywhere
        if everywhere.part is Part.ROWS:
            batch.names.drop_unnamed()
            answer = b"" if everywhere.current is None else everywhere.current.answer
            failure = everywhere.tell_rows(lambda told: answer + told)
            if failure is not None:
                batch.refuse(failure, ends=True)
            return True
        if everywhere.part is not Part.ALL or server is None:
            batch.names.drop_unnamed()  # as PostgreSQL does when a Query comes
            everywhere.tell(everywhere.answer(has_rows=True))
            return True
        failure = everywhere.failure()
        if failure is None:
            return self._send(server, message, sql)
        batch.refuse(failure, ends=True)
        return True

    def wrong_in_batch(self, server: ServerConnection, sql: bytes) -> RoutingError | None:
        """Why the text of a Query must not run before the Sync of a batch."""
        if self._routing.branches is None:
            return self._routing.query_on_wrong_shard(server, sql)
        try:
            part = self._batch.everywhere.part_of(server, sql)
        except RoutingError as error:
            return error
        return None if part is Part.HOME else not_alone()
