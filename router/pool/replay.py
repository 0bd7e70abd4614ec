"""Reads that must see what their clients have written, and wait for replicas to replay it.

Theory of operation
-------------------
The position of a write is asked for on the connection that has made it, after its transaction
has ended (`ask_position`): the log's end then is behind it, whatever synchronous_commit says.

A read that needs a position goes to a replica that is known to have replayed it. If none is,
it waits in a `CatchUp`, without a connection, while each replica of the shard is asked how far
it is, by one `Probe` for all who wait, on a connection of the pool that is nobody's. An answer
wakes those for whom it suffices, and the end of their time wakes the others, who then go to the
primary. While nobody waits, nobody asks.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from ..printable import printable
from ..protocol import messages
from ..protocol.segments import Segment
from ..routing.positions import UNKNOWN, Position
from . import calls
from .answer import CollectedAnswer
from .contracts import PoolClient, Waiter
from .states import ServerState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..engine.loop import Engine, Timer
    from ..errors import RouterError
    from .address_pool import AddressPool
    from .answer import Row
    from .instances import Instance
    from .server import ServerConnection

log = logging.getLogger("router.pool")

# Where the log ends, and the name of its file there, which begins with the timeline.
WRITTEN: Final = b"""\
SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()),
 pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0'),
 pg_catalog.current_setting('wal_block_size')"""

# What a standby has replayed, and the latest timeline that is known to be a part of its
# history: what it receives, which not everybody may see, or what it last noted.
REPLAYED: Final = b"""\
SELECT pg_catalog.pg_is_in_recovery(),
 pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_last_wal_replay_lsn(), '0/0'),
 GREATEST((SELECT received_tli FROM pg_catalog.pg_stat_wal_receiver),
 (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()),
 (SELECT min_recovery_end_timeline FROM pg_catalog.pg_control_recovery()))"""

# Which standby it is. After a crash of one of its processes it replays some of the log anew,
# and all its processes but the first are others then; that which receives comes and goes. And
# whether the user may see what it receives.
WHO: Final = b""",
 pg_catalog.date_part('epoch', pg_catalog.pg_postmaster_start_time()),
 (SELECT pg_catalog.string_agg(pid::pg_catalog.text, ',' ORDER BY pid)
 FROM pg_catalog.pg_stat_activity WHERE usesysid IS NULL
 AND pid OPERATOR(pg_catalog.<>) ALL (SELECT pid FROM pg_catalog.pg_stat_wal_receiver
 WHERE pid IS NOT NULL)),
 pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')"""

# A question that a client's own statement_timeout or a late cancel request has stopped is asked
# again, so many times in all.
_ATTEMPTS: Final = 3
# How long to wait before a replica is asked again, in seconds: at first, and at most.
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.02
# The header of a page of the log that is not the first of its file.
_PAGE_HEADER: Final = 24


def ask_position(
    server: ServerConnection, now: float, take: Callable[[Position], None], attempt: int = 1
) -> None:
    """Ask a primary where its log ends, now that a transaction is over.

    `take` is given the answer, UNKNOWN if there is none; not if the connection is lost.
    """

    def answered(rows: list[Row], error: dict[str, str] | None, is_whole: bool) -> None:
        if error is not None and error.get("C") == "57014" and attempt < _ATTEMPTS:
            ask_position(server, now, take, attempt + 1)
            return
        if error is not None:
            said = printable(error.get("M", ""))
            text = "%r: where it is in the log is not known: %s"
            log.warning(text, server, said, extra=server.fields())
        take(_written(rows))

    server.queue.append(Segment(CollectedAnswer(answered, server.on_async), now))
    server.unnamed = 0
    server.send(messages.query(WRITTEN))


def _written(rows: list[Row]) -> Position:
    try:
        [(file, offset, block_size)] = rows
        end = int(offset or "")
        # The next record comes behind the header of its page. If there is none yet, the log
        # that can be replayed ends before that header.
        if end % int(block_size or "") == _PAGE_HEADER:
            end -= _PAGE_HEADER
        return Position(int((file or "")[:8], 16), end)
    except ValueError:
        return UNKNOWN


class LateRead(Waiter):
    """A read that waits for a replica to have replayed what it must see.

    Attributes:
        needed: how far that is.
    """

    __slots__ = ("_reads", "needed")

    def __init__(
        self,
        client: PoolClient,
        needed: Position,
        since: float,
        deadline: float,
        reads: dict[LateRead, None],
    ) -> None:
        super().__init__(client, [], since, deadline)
        self.needed: Final = needed
        self._reads: Final = reads

    def cancel(self) -> bool:
        """Do not wait any more."""
        self._reads.pop(self, None)
        return True


class CatchUp:
    """The reads of one shard of a pool that wait for its replicas."""

    __slots__ = ("_engine", "_looked_at", "_parts", "_pause", "_probes", "_reads", "_timer")

    def __init__(self, engine: Engine, parts: Sequence[AddressPool]) -> None:
        self._engine: Final = engine
        self._parts: Final = parts
        self._reads: Final[dict[LateRead, None]] = {}
        self._probes: Final[dict[AddressPool, Probe]] = {}
        self._pause = _FIRST_PAUSE
        self._timer: Timer | None = None
        self._looked_at = -math.inf

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._reads)

    def wait(self, client: PoolClient, needed: Position, since: float, until: float) -> Waiter:
        """Have a read wait; its client is told to `ask_anew`, at the latest when time is up."""
        if not self._reads:
            self._pause = _FIRST_PAUSE
        late = LateRead(client, needed, since, until, self._reads)
        self._reads[late] = None
        # What one standby has told may be of no use to a client that gets another one at the
        # same address: then it waits, too, and does not ask over and over.
        if self._engine.now - self._looked_at >= _FIRST_PAUSE:
            self.look()
        self._watch()
        return late

    def glance(self, now: float) -> None:
        """Find out how far the replicas are, for reads to come, unless that has just been."""
        if now - self._looked_at >= _LONGEST_PAUSE:
            self.look()

    def look(self) -> None:
        """Ask the replicas how far they are."""
        self._looked_at = self._engine.now
        for part in self._parts:
            if part.is_ready and not part.is_primary:
                probe = self._probes.get(part)
                if probe is None:
                    probe = self._probes[part] = Probe(self._engine, part, self._told)
                probe.ask()

    def dismiss(self) -> None:
        """Have all of them ask anew, for the pool is replaced."""
        for late in list(self._reads):
            self._wake(late)

    def _told(self, instance: Instance) -> None:
        """A replica has answered."""
        for late in list(self._reads):
            if instance.has(late.needed):
                self._wake(late)

    def _wake(self, late: LateRead) -> None:
        if late in self._reads:
            del self._reads[late]
            calls.have_ask_anew(late.client)

    def _watch(self) -> None:
        if self._timer is not None or not self._reads:
            return
        now = self._engine.now
        due = min(late.deadline for late in self._reads)
        self._timer = self._engine.call_at(min(due, now + self._pause), self._go_on)

    def _go_on(self) -> None:
        """Wake those whose time is over, and ask again for the others."""
        self._timer = None
        now = self._engine.now
        for late in list(self._reads):
            if late.deadline <= now:
                self._wake(late)
        if self._reads:
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)
            self.look()
        self._watch()


class Probe(PoolClient):
    """Asks one replica how far it is, on a connection that is nobody's."""

    __slots__ = ("_engine", "_part", "_server", "_told", "_waiter")

    def __init__(
        self, engine: Engine, part: AddressPool, told: Callable[[Instance], None]
    ) -> None:
        self._engine: Final = engine
        self._part: Final = part
        self._told: Final = told
        self._waiter: Waiter | None = None
        self._server: ServerConnection | None = None

    def ask(self) -> None:
        """Ask, unless that is under way."""
        if self._waiter is not None:
            return
        server = self._server
        if server is not None and server.state is ServerState.TESTED:
            return
        part = self._part
        server = self._unknown() or part.take(self)
        if server is not None:
            self._send(server)
            return
        # With no connection to be had at once it waits for its turn, as clients do.
        now = self._engine.now
        self._waiter = Waiter(self, [], now, now + part.settings.connect_timeout)
        part.enqueue(self._waiter)

    def _unknown(self) -> ServerConnection | None:
        """An idle connection of which nobody knows which standby it leads to."""
        for server in self._part.idle:
            if server.instance is None:
                return server
        return None

    def _send(self, server: ServerConnection) -> None:
        self._part.move(server, ServerState.TESTED)
        self._server = server
        server.used_at = self._engine.now

        def answered(rows: list[Row], error: dict[str, str] | None, is_whole: bool) -> None:
            self._server = None
            self._note(server, rows, error)
            server.pool.settled(server)
            if server.instance is not None:
                self._told(server.instance)

        server.queue.append(Segment(CollectedAnswer(answered), self._engine.now))
        server.unnamed = 0
        is_known = server.instance is not None
        server.send(messages.query(REPLAYED if is_known else REPLAYED + WHO))

    def _note(
        self, server: ServerConnection, rows: list[Row], error: dict[str, str] | None
    ) -> None:
        if error is not None:
            said = printable(error.get("M", ""))
            text = "%r: what it has replayed is not known: %s"
            log.info(text, server, said, extra=server.fields())
        try:
            [(standby, offset, timeline, *who)] = rows
            if standby != "t" or not offset or not timeline:
                return
            *who, may_see = who or (None,)
            if may_see == "f":
                self._complain()
            if who and all(who):
                server.instance = self._part.health.instances.of(" ".join(map(str, who)))
            if server.instance is not None:
                server.instance.told(int(timeline), int(offset))
        except ValueError:
            text = "%r: what it has replayed is not known: it makes no sense"
            log.info(text, server, extra=server.fields())

    def _complain(self) -> None:
        """Say once what it costs that its user may not see what the server receives."""
        part = self._part
        what = (
            f"the user {printable(part.settings.server_username)} may not see which timeline "
            f"{part.health.name} follows: after a promotion, reads of what was written go to "
            "the primary until that server's next restart point; GRANT pg_read_all_stats"
        )
        if what not in part.complaints:
            part.complaints.add(what)
            user, more = part.settings.user, part.address.fields(part.settings.user)
            log.warning("[%s/%s] %s", part.settings.pool, user, what, extra=more)

    # --- while it waits

    def take_server(self, server: ServerConnection) -> bool:
        """Ask on the connection that has become free."""
        self._waiter = None
        self._send(server)
        return True

    def checkout_failed(self, error: RouterError) -> None:
        """There is none: those who wait have their own limit."""
        self._waiter = None

    def ask_anew(self) -> None:
        """The pool is replaced."""
        self._waiter = None
