"""A command of one client, brought to all shards.

Theory of operation
-------------------
What defines something (a table, a right) is there on all shards or on none. It is run in a
transaction on each. If the servers have `max_prepared_transactions`, all but that of the first
shard are then prepared (PREPARE TRANSACTION), which promises that they can be committed
whatever happens. The COMMIT on the first shard is the decision, and its record, too: the names
of the prepared transactions tell the first one's id, and PostgreSQL says for good what became
of that. So whoever finds a prepared transaction knows what to do with it, however many routers
there are, and if this one is killed at any point (`pool/two_phase.py`). It needs no table and
no file.

Without prepared transactions, all are committed one after the other, once the command has
succeeded everywhere. Only then can it happen that some shards have it and others do not, if a
server is lost in that moment: the client is told which.

Upkeep (VACUUM, say) is run on one shard after the other, up to the first that refuses.

Connections are had in the order of the shards, and the first shard does its work before the
others: so two of these wait for each other there, and not in a circle that no server sees.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from ..errors import RouterError, RoutingError
from ..pool.contracts import Waiter
from ..pool.participant import Participant, Play
from ..pool.two_phase import Coordinator, is_gone
from ..protocol import codes, messages
from ..protocol.binds import PORTAL, Parameters
from ..protocol.framing import HEADER_SIZE
from ..queries import UNREAD
from ..routing.tallies import EVERY_SHARD

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..errors import ForEveryShard
    from .client import Client
    from .client_routing import ClientRouting
    from .lease import Lease
    from .operation import Operation

    Story = Generator[None, None, None]

log = logging.getLogger("router.session")

_NOTHING: Final = "Nothing has been changed on any shard."
_SAME_EVERYWHERE: Final = (
    "Whether it has been committed is not known; it will be the same on all shards once all of "
    "them can be reached (SHOW TWO_PHASE)."
)


class _Failed(Exception):
    """It will not be, for what a participant has to say."""

    def __init__(self, participant: Participant) -> None:
        super().__init__(participant.error)
        self.participant: Final = participant


class Everywhere(Waiter):
    """One of these, from its beginning to its end; to its client's lease it is a wait.

    Attributes:
        notices, tag: what the servers have said, as messages, once it is over.
        error: an ErrorResponse, if it has failed.
    """

    __slots__ = (
        "_is_cancelled",
        "_is_decided",
        "_is_in_turn",
        "_participants",
        "_play",
        "_pool",
        "_shape",
        "_sql",
        "error",
        "notices",
        "tag",
    )

    def __init__(
        self,
        lease: Lease,
        sql: bytes,
        shape: object,
        done: Callable[[], None],
        *,
        in_turn: bool,
    ) -> None:
        """Prepare it; `begin` begins it.

        Args:
            lease: the client's, which has no server.
            sql: the text.
            shape: under which it is counted.
            done: is told when it is over.
            in_turn: on one shard after the other, and not in a transaction.
        """
        super().__init__(lease.holder, [], lease.engine.now, math.inf)
        self._pool: Final = lease.pool
        self._sql: Final = sql
        self._shape: Final = shape
        variables, label = lease.settings.variables, lease.holder.label
        self._play: Final = Play(lease.pool, len(lease.pool.shards), variables, label, done)
        self._participants: Final = self._play.participants
        self._is_in_turn: Final = in_turn
        self._is_cancelled = self._is_decided = False
        self.notices = self.tag = self.error = b""

    def begin(self) -> None:
        """Begin."""
        self._play.begin(self._in_turn() if self._is_in_turn else self._together())

    def cancel(self) -> bool:
        """The client wants it stopped, or has left: it is told when that has happened."""
        if not self._is_cancelled and not self._is_decided:
            self._is_cancelled = True
            for participant in self._participants:
                participant.cancel()
        return False

    # --- the steps of the story

    def _check(self, participants: Sequence[Participant]) -> None:
        """See whether all is well so far."""
        for participant in participants:
            if participant.error is not None:
                raise _Failed(participant)
        if self._is_cancelled and not self._is_decided:
            text = "canceling statement due to user request"
            participants[0].error = RoutingError(text, sqlstate="57014")
            raise _Failed(participants[0])

    def _get(self, participant: Participant) -> Story:
        participant.get()
        yield
        self._check([participant])

    def _run(self, participants: Sequence[Participant], sql: bytes) -> Story:
        for participant in participants:
            participant.run(sql, self._shape if sql is self._sql else None)
        yield
        self._check(participants)

    # --- all or none

    def _together(self) -> Story:
        first, *others = parts = self._participants
        try:
            for participant in parts:
                yield from self._get(participant)
            for group in ([first], others):
                yield from self._run(group, b"BEGIN")
                yield from self._run(group, self._sql)
            self.tag = first.tag
            yield from self._run(parts, Coordinator.QUESTION)
            coordinator = Coordinator(first.rows[0])
            if all(Coordinator(each.rows[0]).can_prepare for each in others):
                yield from self._in_two_phases(coordinator)
            else:
                yield from self._one_by_one()
        except _Failed as failed:
            self._fail(failed.participant, _NOTHING)
        self.notices = first.notices

    def _in_two_phases(self, coordinator: Coordinator) -> Story:
        """Commit on all shards, or on none.

        Raises:
            _Failed: on none.
        """
        first, *others = self._participants
        names = {each: coordinator.name(each.shard) for each in others}
        failed: _Failed | None = None
        self._is_decided = True  # a cancel request may hit what must not fail now
        try:
            for participant, name in names.items():
                participant.run(b"PREPARE TRANSACTION '%s'" % name)
            yield
            self._check(others)
            yield from self._run([first], b"COMMIT")
        except _Failed as error:
            failed = error
        if first.is_lost:
            self._pool.two_phase.look_soon()
            self._fail(first, _SAME_EVERYWHERE)
            return
        if failed is not None:
            prepared = {each: name for each, name in names.items() if each.error is None}
            yield from self._finish(prepared, b"ROLLBACK PREPARED '%s'")
            raise failed
        left = yield from self._finish(names, b"COMMIT PREPARED '%s'")
        if left:
            text = f"the shards {left} will have it as soon as they can be reached"
            log.warning("[%s] committed on all shards: %s", self._pool.database, text)
            detail = "It has been committed. SHOW TWO_PHASE has what is left to do."
            self.tag = (
                messages.notice_response(text, "01000", severity="WARNING", detail=detail)
                + self.tag
            )

    def _finish(
        self, names: dict[Participant, bytes], sql: bytes
    ) -> Generator[None, None, str]:
        """Do what has been decided about those that are prepared.

        Returns:
            The numbers of the shards where that could not be done now.
        """
        for participant, name in names.items():
            participant.error = None
            participant.run(sql % name)
        yield
        left = [each for each in names if each.is_lost or not is_gone(each.error)]
        if left or any(each.is_lost for each in self._participants):
            self._pool.two_phase.look_soon()
        return ", ".join(str(each.shard) for each in left)

    def _one_by_one(self) -> Story:
        """Commit on one shard after the other, having no prepared transactions.

        Raises:
            _Failed: on none.
        """
        self._is_decided = True
        for participant in self._participants:
            participant.run(b"COMMIT")
            yield
            if participant.error is not None:
                if not participant.shard and not participant.is_lost:
                    raise _Failed(participant)
                self._fail(participant, self._how_far(participant, "committed"))
                return

    # --- one after the other

    def _in_turn(self) -> Story:
        for participant in self._participants:
            try:
                yield from self._get(participant)
                yield from self._run([participant], self._sql)
            except _Failed:
                self._fail(participant, self._how_far(participant, "done"))
                return
            finally:
                self.notices += participant.notices
            self.tag = self.tag or participant.tag
            participant.give_back()

    # --- what went wrong

    def _how_far(self, participant: Participant, done: str) -> str:
        """Say on which shards it is done, of which the given one is the first that failed."""
        number, count = participant.shard, len(self._participants)
        before = ", ".join(map(str, range(number)))
        told = f"It is {done} on the shards {before}." if before else ""
        rest = range(number + participant.is_lost, count)
        if participant.is_lost:
            told += f" Whether on shard {number} is not known."
        if rest:
            told += f" It is not {done} on the shards {', '.join(map(str, rest))}."
        return told.strip()

    def _fail(self, participant: Participant, outcome: str) -> None:
        """It has failed on a shard, with this outcome for all."""
        error = participant.error
        if isinstance(error, RouterError):
            fields = {"C": error.sqlstate, "M": error.message, "H": error.hint}
            fields["D"] = error.detail
        else:
            fields = dict(error or {})
        fields["S"] = fields["V"] = "ERROR"  # the session goes on, whatever the server's does
        told = f"This was the answer of shard {participant.shard}. {outcome}"
        fields["D"] = f"{fields.get('D', '')}\n{told}".strip()
        self.error = messages.error_of(fields)
        self.tag = b""


class OnAllShards:
    """What one client has had brought to all shards, and what came of it.

    Attributes:
        current: what is under way, or over and not told yet.
        has_failed: whether what was answered last is an error.
    """

    __slots__ = ("_client", "_routing", "current", "has_failed")

    def __init__(self, client: Client, routing: ClientRouting) -> None:
        self._client: Final = client
        self._routing: Final = routing
        self.current: Everywhere | None = None
        self.has_failed = False

    def begin(self, sql: bytes, error: ForEveryShard, done: Callable[[], None]) -> None:
        """Begin to bring a text to all shards; `done` is told when the client may go on.

        Raises:
            ForEveryShard: the client has a transaction open, whose place is yet to be found.
        """
        lease = self._routing.lease
        if lease.deferred is not None:
            raise error.with_traceback(None)
        self._routing.router.tallies.of_rule(EVERY_SHARD).count += 1
        queries = lease.engine.figures.queries
        shape = queries.shape(sql) if queries.limit else UNREAD

        def over() -> None:
            lease.waiter = None
            if not self._client.closed:
                done()

        self.current = Everywhere(lease, sql, shape, over, in_turn=error.in_turn)
        lease.wait_for(self.current)
        self.current.begin()

    def begin_batch(
        self,
        operations: Sequence[Operation],
        error: ForEveryShard,
        take: Callable[[], list[Operation]],
    ) -> None:
        """Do that with the one statement of a batch, whose operations `take` takes over.

        Raises:
            ForEveryShard: the batch does something else, or the client has a transaction open.
        """
        if not is_single(operations):
            raise error.with_traceback(None)
        lease = self._routing.lease

        def done() -> None:
            executed = self.answer()
            self._client.reply(replies_to(take(), executed, has_failed=self.has_failed))
            self._client.reply(lease.ready)
            lease.holder.server_ready()

        self.begin(text_of(operations), error, done)

    def answer(self) -> bytes:
        """What the client is told, up to the CommandComplete or the ErrorResponse."""
        everywhere, self.current = self.current, None
        assert everywhere is not None
        client = self._client
        client.query_count += 1
        client.error_count += bool(everywhere.error)
        client.transaction_count += not everywhere.error
        self._routing.end_transaction()
        self.has_failed = bool(everywhere.error)
        return everywhere.notices + (everywhere.error or everywhere.tag)


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
    return Parameters(bound[0].data).count == 0


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
