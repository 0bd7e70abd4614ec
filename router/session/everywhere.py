"""What one client does on all shards: a command by itself, or a transaction.

Theory of operation
-------------------
What defines something (a table, a right) is there on all shards or on none. It is run in a
transaction on each. If the servers have `max_prepared_transactions`, all are then prepared
(PREPARE TRANSACTION), which promises that they can be committed whatever happens. To commit the
one on the shard that is its *home* is the decision, and its record, too: the names of the
prepared transactions tell its id, and PostgreSQL says for good what became of that. So whoever
finds a prepared transaction knows what to do with it, however many routers there are, and if
this one is killed at any point (`pool/two_phase.py`). It needs no table and no file. (Why home
is prepared as well: the id of a transaction of which nothing has been written to disk is given
to another one after a crash.)

Without prepared transactions, all are committed one after the other, once the command has
succeeded everywhere. Only then can it happen that some shards have it and others do not, if a
server is lost in that moment: the client is told which.

A transaction of the client's has its home where its own server is, on default_shard. There the
client says all that it has to say, as in any transaction, and has its answers. The others only
do what defines something, and they go ahead: what one of them refuses is made to fail at home
as well, and when home is asked the others have done it. So a failure at home is one of the
whole transaction, and as long as there is none, all have done the same.

Upkeep (VACUUM, say) is run on one shard after the other, up to the first that refuses.

Connections are had in the order of the shards. One shard, the first that is not home, does its
work before all others, and home behind them: so two of these wait for each other there, and not
in a circle that no server sees.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from ..errors import NoSingleShard, RefusedByShard, RouterError, RoutingError, RowRefused
from ..pool.contracts import Waiter
from ..pool.participant import Participant, Play, Request
from ..pool.two_phase import Coordinator, is_gone
from ..protocol import messages
from . import alike

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from ..pool.server import ServerConnection
    from ..protocol.frontend import ClientStream
    from ..protocol.segments import Segment
    from ..routing.types import TableChange
    from .copy_in import CopyIn
    from .lease import Lease
    from .split import Split

    Story = Generator[None, None, None]

log = logging.getLogger("router.session")

_NOTHING: Final = "Nothing has been changed on any shard."
_FAILED: Final = "The transaction has failed on all shards."
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
    """One of these, from its beginning to its end; to its client's lease each step is a wait.

    A command is told by `define` or `keep_up`. A transaction is one of `open` and `join`, then
    `follow` as often as is needed, and `commit`. Then comes `close`, which is also how a
    transaction is rolled back. Each tells `over` at its end, whatever that is.

    Attributes:
        notices, tag: what the servers have said, as messages, at the end of the last step.
        answer: descriptions and rows, if they were asked for, of the same.
        error: why that has failed, or None.
        followed: how many of the requests of the last `follow` have succeeded.
    """

    __slots__ = (
        "_copy",
        "_difference",
        "_expected",
        "_home",
        "_is_cancelled",
        "_is_decided",
        "_others",
        "_participants",
        "_play",
        "_pool",
        "answer",
        "error",
        "followed",
        "notices",
        "tag",
    )

    def __init__(self, lease: Lease, home: int) -> None:
        """Prepare it, for the client of a lease; `home` is the number of a shard."""
        super().__init__(lease.holder, [], lease.engine.now, math.inf)
        self._pool: Final = lease.pool
        variables, label = lease.settings.variables, lease.holder.label
        self._play: Final = Play(lease.pool, len(lease.pool.shards), variables, label)
        self._participants: Final = self._play.participants
        self._home: Final = self._participants[home]
        self._others: Final = [each for each in self._participants if each is not self._home]
        self._is_cancelled = self._is_decided = False
        self.notices = self.tag = self.answer = b""
        self.error: RefusedByShard | None = None
        self.followed = 0
        self._expected: TableChange | None = None
        self._difference: RouterError | None = None
        self._copy: CopyIn | None = None

    # --- what it is told to do

    def define(self, request: Request, over: Callable[[], None]) -> None:
        """Run what is asked in one transaction."""
        self._begin(self._together(request), over)

    def split(self, split: Split, over: Callable[[], None]) -> None:
        """Insert rows on their shards, in one transaction."""
        self._begin(self._split(split), over)

    def insert(self, server: ServerConnection, split: Split, over: Callable[[], None]) -> None:
        """Insert rows on their shards in a transaction; `server` is that at home, as above."""
        self._home.borrow(server, self.client)
        self._begin(self._insert(split), over)

    def copy(self, copy: CopyIn, over: Callable[[], None]) -> None:
        """Copy rows of the client to their shards, in one transaction."""
        self._copy = copy
        self._begin(self._copied(copy), over)

    def copy_into(
        self, server: ServerConnection, copy: CopyIn, over: Callable[[], None]
    ) -> None:
        """The same in a transaction; `server` is that at home, as above."""
        self._copy = copy
        self._home.borrow(server, self.client)
        self._begin(self._copied_into(copy), over)

    def feed(self, stream: ClientStream) -> bool:
        """The client sends something while it is waited for: rows of a COPY, or it waits."""
        return self._copy is not None and self._copy.feed(stream)

    def keep_up(self, request: Request, over: Callable[[], None]) -> None:
        """Run what is asked on one shard after the other."""
        self._begin(self._in_turn(request), over)

    def open(self, begin: bytes, over: Callable[[], None]) -> None:
        """Begin a transaction, at home by getting a connection; see `hand_over`."""
        self._begin(self._open(self._participants, begin), over)

    def join(self, begin: bytes, over: Callable[[], None]) -> None:
        """Have the others begin a transaction that its client has begun at home."""
        self._begin(self._open(self._others, begin), over)

    def follow(self, requests: Sequence[Request], over: Callable[[], None]) -> None:
        """Have the others run what is asked before home does."""
        self._begin(self._follow(requests), over)

    def compare(self, segment: Segment) -> None:
        """Home has answered to a change of a table that every shard has: see to the number.

        If it has changed another number of rows than the others, it is not committed.
        """
        change, self._expected = self._expected, None
        first = self._others[0]
        if change is not None and not segment.failed and segment.rows != first.affected:
            counts = f"{segment.rows} on shard {self._home.shard}, {first.affected} on others"
            self._difference = alike.differs(change.table, counts)

    def commit(self, server: ServerConnection, over: Callable[[], None]) -> None:
        """End the transaction on all shards; `server` is that at home, see `hand_over`."""
        self._home.borrow(server, self.client)
        self._begin(self._commit(), over)

    def hand_over(self) -> ServerConnection | None:
        """The connection at home, for the client; None if it is lost."""
        return self._home.hand_over()

    def close(self) -> None:
        """Give all connections back, as soon as nothing is under way any more."""
        if self._play.is_under_way:
            self.cancel()
        else:
            self._play.end()

    def cancel(self) -> bool:
        """The client wants it stopped, or has left: it is told when that has happened."""
        if not self._is_cancelled and not self._is_decided and self._play.is_under_way:
            self._is_cancelled = True
            if self._copy is not None:
                self._copy.stop()
            for participant in self._participants:
                participant.cancel()
        return False

    # --- the steps of the story

    def _begin(self, story: Story, over: Callable[[], None]) -> None:
        self._is_cancelled = self._is_decided = False
        self.notices = self.tag = self.answer = b""
        self.error = None
        self._play.begin(story, over)

    @property
    def _ahead(self) -> list[list[Participant]]:
        """Those that go ahead of home: one, and then the others."""
        return [group for group in (self._others[:1], self._others[1:]) if group]

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
        yield from self._ask(participants, Request(sql))

    def _ask(self, participants: Sequence[Participant], request: Request) -> Story:
        for participant in participants:
            participant.ask(request)
        yield
        self._check(participants)

    def _see_alike(self, participant: Participant, change: TableChange) -> Story:
        """See whether a change may leave a table the same on all shards, by asking one."""
        yield from self._run([participant], alike.question(change))
        participant.error = alike.objection(change, participant.rows)
        self._check([participant])

    def _compare(self, participants: Sequence[Participant], change: TableChange) -> None:
        """See whether it has."""
        participants[-1].error = alike.difference(change, participants)
        self._check(participants)

    # --- all or none

    def _together(self, request: Request) -> Story:
        change = request.change
        try:
            for participant in self._participants:
                yield from self._get(participant)
            for group in (*self._ahead, [self._home]):
                yield from self._run(group, b"BEGIN")
                if change is not None:
                    yield from self._see_alike(group[0], change)
                yield from self._ask(group, request)
            if change is not None:
                self._compare(self._participants, change)
            self.tag, self.answer = self._home.tag, bytes(self._home.answer)
            yield from self._end()
        except _Failed as failed:
            self._fail(failed.participant, _NOTHING)
        self.notices = self._home.notices

    def _split(self, split: Split) -> Story:
        try:
            for participant in self._participants:
                yield from self._get(participant)
            yield from self._run(self._participants, b"BEGIN")
            yield from self._rows(split)
            yield from self._end()
        except _Failed as failed:
            self._fail(failed.participant, _NOTHING)

    def _copied(self, copy: CopyIn) -> Story:
        try:
            for participant in self._participants:
                yield from self._get(participant)
            yield from self._run(self._participants, b"BEGIN")
            yield from self._copy_rows(copy)
            yield from self._end()
        except _Failed as failed:
            self._fail(failed.participant, _NOTHING)

    def _copy_rows(self, copy: CopyIn) -> Story:
        """Copy rows to their shards.

        Raises:
            _Failed: one of them refuses, or the router does.
        """
        yield from self._run(self._participants, copy.question)
        try:
            copy.learn(self._participants, self._home)
        except RouterError as error:
            self._home.error = error
            raise _Failed(self._home) from None
        try:
            for group in (*self._ahead, [self._home]):
                for participant in group:
                    participant.copy_in(copy.request, copy)
                yield
                self._check(group)
            self._check(self._participants)
        except _Failed as failed:
            error_before = failed.participant.error
            copy.stop()
            yield
            failed.participant.error = error_before
            raise
        self.is_served = True
        for participant in self._participants:
            participant.read_on()
        copy.begin()
        yield
        self.is_served = False
        refused = copy.failed()
        if self._is_cancelled:
            self._home.error = None
            self._check([self._home])
        if refused is not None:
            raise _Failed(refused)
        self.tag = messages.command_complete(f"COPY {copy.count}")

    def _rows(self, split: Split) -> Story:
        """Insert rows on their shards.

        Raises:
            _Failed: one of them refuses, or the rows that are returned cannot be told apart.
        """
        asked = []
        for group in (*self._ahead, [self._home]):
            some = [each for each in group if each.shard in split.requests]
            for participant in some:
                participant.ask(split.requests[participant.shard])
            asked += some
            yield
            for participant in some:
                if isinstance(participant.error, dict):
                    participant.error.pop("P", None)  # it is one in another text
            self._check(some)
        answers = {each.shard: (each.affected, bytes(each.answer)) for each in asked}
        try:
            self.answer, self.tag = split.merged(answers)
        except RouterError as error:
            self._home.error = error
            raise _Failed(self._home) from None

    def _end(self) -> Story:
        """End the transactions, on all shards alike.

        Raises:
            _Failed: nothing has been committed.
        """
        yield from self._run(self._participants, Coordinator.QUESTION)
        coordinator = Coordinator(self._home.shard, self._home.rows[0])
        if all(Coordinator(0, each.rows[0]).can_prepare for each in self._participants):
            yield from self._in_two_phases(coordinator)
        else:
            yield from self._one_by_one()

    def _in_two_phases(self, coordinator: Coordinator) -> Story:
        """Commit on all shards, or on none.

        Raises:
            _Failed: on none.
        """
        home, parts = self._home, [*self._others, self._home]
        names = {each: coordinator.name(each.shard) for each in parts}
        prepared: dict[Participant, bytes] = {}
        self._is_decided = True  # a cancel request may hit what must not fail now
        try:
            for participant, name in names.items():
                participant.run(b"PREPARE TRANSACTION '%s'" % name)
            yield
            prepared = {each: name for each, name in names.items() if each.error is None}
            self._check(parts)
            yield from self._run([home], b"COMMIT PREPARED '%s'" % names.pop(home))
        except _Failed:
            if home in prepared and home.is_lost:
                self._pool.two_phase.look_soon()
                self._fail(home, _SAME_EVERYWHERE)
                return
            yield from self._finish(prepared, b"ROLLBACK PREPARED '%s'")
            raise
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
        parts = [self._home, *self._others]  # home has what alone may still fail
        for participant in parts:
            participant.run(b"COMMIT")
            yield
            if participant.error is not None:
                if participant is self._home and not participant.is_lost:
                    raise _Failed(participant)
                self._fail(participant, _how_far(parts, participant, "committed"))
                return

    # --- a transaction of the client's

    def _open(self, participants: Sequence[Participant], begin: bytes) -> Story:
        try:
            for participant in participants:
                yield from self._get(participant)
                if participant is not self._home:
                    yield from self._run([participant], begin)
            self._check(participants)
        except _Failed as failed:
            self._fail(failed.participant, _FAILED)

    def _follow(self, requests: Sequence[Request]) -> Story:
        self.followed = 0
        try:
            for request in requests:
                if request.change is not None:
                    yield from self._see_alike(self._others[0], request.change)
                for group in self._ahead:
                    yield from self._ask(group, request)
                if request.change is not None:
                    self._compare(self._others, request.change)
                    self._expected = request.change
                self.followed += 1
        except _Failed as failed:
            self._fail(failed.participant, _FAILED)

    def _insert(self, split: Split) -> Story:
        try:
            yield from self._rows(split)
            if self._home.shard not in split.requests:
                # It says what the state of the transaction is, and its BEGIN may be under way.
                yield from self._run([self._home], b"")
        except _Failed as failed:
            self._fail(failed.participant, _FAILED)

    def _copied_into(self, copy: CopyIn) -> Story:
        try:
            yield from self._copy_rows(copy)
        except _Failed as failed:
            self._fail(failed.participant, _FAILED)
        self._copy = None
        if self._is_cancelled:
            # No request may hit what comes next in the transaction.
            for participant in self._participants:
                participant.settle()
            yield
            for participant in self._participants:
                participant.run(b"")
            yield

    def _commit(self) -> Story:
        try:
            self.tag = messages.command_complete("COMMIT")
            self._home.error = self._difference
            self._check([self._home])
            yield from self._end()
        except _Failed as failed:
            self._fail(failed.participant, _NOTHING)

    # --- one after the other

    def _in_turn(self, request: Request) -> Story:
        for participant in self._participants:
            try:
                yield from self._get(participant)
                yield from self._ask([participant], request)
            except _Failed:
                self._fail(participant, _how_far(self._participants, participant, "done"))
                return
            finally:
                self.notices += participant.notices
            self.tag = self.tag or participant.tag
            participant.give_back()

    # --- what went wrong

    def _fail(self, participant: Participant, outcome: str) -> None:
        """It has failed on a shard, with this outcome for all."""
        error = participant.error
        if isinstance(error, RouterError):
            fields = {"C": error.sqlstate, "M": error.message, "H": error.hint}
            fields["D"] = error.detail
            if isinstance(error, RowRefused):
                fields["W"] = error.where
        else:
            fields = dict(error or {})
        fields["S"] = fields["V"] = "ERROR"  # the session goes on, whatever the server's does
        told = outcome
        if not isinstance(error, (NoSingleShard, RowRefused)):
            told = f"This was the answer of shard {participant.shard}. {outcome}"
        fields["D"] = f"{fields.get('D', '')}\n{told}".strip()
        self.error = RefusedByShard(fields)
        self.tag = b""


def _how_far(parts: Sequence[Participant], failed: Participant, done: str) -> str:
    """Say on which shards it is done, of which the given one is the first that failed."""
    pos = parts.index(failed)
    before, rest = parts[:pos], parts[pos + failed.is_lost :]
    told = f"It is {done} on the shards {_listed(before)}." if before else ""
    if failed.is_lost:
        told += f" Whether on shard {failed.shard} is not known."
    if rest:
        told += f" It is not {done} on the shards {_listed(rest)}."
    return told.strip()


def _listed(parts: Sequence[Participant]) -> str:
    return ", ".join(str(number) for number in sorted(each.shard for each in parts))
