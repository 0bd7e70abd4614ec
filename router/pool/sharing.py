"""Statements of several clients on one connection: who goes behind whom, and who is moved away.

Theory of operation
-------------------
What a client asks for, if that is one read that leaves nothing behind, may be sent behind what
others have asked for (`Sharing.join`). From then on nobody has the connection alone
(`ServerConnection.client` is None) until nothing is on its way there; each client's lease ends
with its own answer. All that is shared can be run again: so whenever the head of the queue is
something that others had better not wait for or be hit with, the statements behind it are
*moved*. Here they are orphans from then on, which run for nobody, and each client sends its own
elsewhere. That is so

- when the head is to be cancelled: the request, however late it strikes, strikes an orphan;
- when a client leaves: what it has asked for is cancelled in its turn;
- when the head's client does not take its answer, or the head turns out to be slow.

What is cancelled before its turn becomes an orphan itself, and its client is answered at once.
Nothing is put behind an orphan, so that these come last in their queue.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..multiplexing import NO_ROOM, STATE
from ..protocol import codes
from ..queries import Fingerprint
from . import calls
from .contracts import PoolClient, Waiter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..protocol.segments import Segment
    from .address_pool import AddressPool
    from .contracts import Sharer
    from .server import ServerConnection

# So many connections are looked at for one with room.
_TRIES: Final = 8


# An idle connection is spared if those behind whom a statement goes take no longer, in seconds:
# about what it takes to wake its process up on a machine at work, and to hear from it.
_QUICK: Final = 0.0005


class Behind(Waiter):
    """A place behind others at a server, where what the client has to send goes at once."""

    __slots__ = ("server",)

    def __init__(self, client: PoolClient, server: ServerConnection, now: float) -> None:
        super().__init__(client, [], now, now)
        self.server: Final = server


def sharing_of(pool: AddressPool, before: Sharing | None) -> Sharing | None:
    """Who goes behind whom in a pool by its settings, if anybody does; `before` goes on."""
    settings = pool.settings
    if not settings.shares_reads:
        return None
    found = Sharing(pool) if before is None else before
    found.depth, found.slow = settings.multiplexing_depth, settings.multiplexing_slow
    found.busy = settings.multiplexing_connections
    return found


class Sharing:
    """What the clients of one address pool share.

    Attributes:
        depth: how many statements may be on their way at one connection.
        slow: nothing goes behind what takes longer than so many seconds.
        busy: connections at work from which on an idle one is spared, 0 if none is.
        shared: statements that were sent behind others'.
        moved: those that were then sent elsewhere.
        deepest: the longest queue that there has been.
        alone: statements that waited for a connection alone, by the reason.
    """

    def __init__(self, pool: AddressPool) -> None:
        self._pool: Final = pool
        self.depth = 1
        self.slow = 0.0
        self.busy = 0
        self.shared = self.moved = self.deepest = 0
        self.alone: Final[dict[str, int]] = {}
        self._ring: list[ServerConnection] = []
        self._place = 0
        self._is_watching = False

    # --- going behind others

    def join(self, client: PoolClient) -> Behind | None:
        """A place for what the client has to send behind what others have; None: it waits.

        Whoever waits for a connection comes first.
        """
        pool = self._pool
        if not pool.active or pool.waiters or pool.is_pressed or pool.oversized:
            return None
        if pool.is_closing:
            return None
        sharer = client.sharer
        reason = STATE if sharer is None else sharer.why_alone()
        if sharer is None or reason:
            self._note(reason)
            return None
        if pool.may_open_more and not pool.connecting:
            pool.open_another()  # an idle one is better
        place = self._behind(client, sharer)
        if place is None:
            self._note(NO_ROOM)
        return place

    def join_quick(self, client: PoolClient) -> Behind | None:
        """A place behind `busy` others that is as good as an idle connection, or better.

        What a server does in some microseconds is answered as soon behind others as by another
        process, which would have to be woken up first.
        """
        pool, sharer = self._pool, client.sharer
        if (
            not pool.idle
            or pool.waiters
            or pool.is_pressed
            or pool.is_closing
            or sharer is None
            or sharer.why_alone()
        ):
            return None
        return self._behind(client, sharer, _QUICK)

    def _behind(
        self, client: PoolClient, sharer: Sharer, longest: float | None = None
    ) -> Behind | None:
        """A place at one of the connections at work; for `longest` see `_admits`."""
        for _ in range(min(_TRIES, len(self._pool.active))):
            server = self._next()
            if self._admits(server, sharer, longest):
                self._let_in(server)
                return Behind(client, server, self._pool.engine.now)
            self._place += 1
        return None

    @property
    def under_way(self) -> int:
        """Statements that are on their way now, at connections that nobody has alone."""
        return sum(len(server.queue) for server in self._pool.active if server.client is None)

    def fill(self, server: ServerConnection) -> None:
        """Let those who wait in, in their order, as far as they may share the connection."""
        waiters = self._pool.waiters
        while waiters:
            client = waiters[0].client
            sharer = client.sharer
            if sharer is None or not self._admits(server, sharer, None) or sharer.why_alone():
                return
            waiter = waiters.popleft()
            waiter.pool = None
            self._pool.counters.wait_time += self._pool.engine.now - waiter.since
            self._let_in(server)
            calls.hand(client, server)

    def _let_in(self, server: ServerConnection) -> None:
        server.client = None
        self.shared += 1
        self.deepest = max(self.deepest, len(server.queue) + 1)
        if not self._is_watching:
            self._is_watching = True
            self._pool.engine.call_later(self.slow, self._look)

    def _look(self) -> None:
        """See that nobody waits for long behind what has turned out to be slow."""
        self._is_watching = False
        now = self._pool.engine.now
        for server in list(self._pool.active):
            queue = server.queue
            if server.client is not None or len(queue) < 2:
                continue
            if now - max(server.began_at, queue[0].started) > self.slow:
                move(server, 1)
            elif not self._is_watching:
                self._is_watching = True
                self._pool.engine.call_later(self.slow, self._look)

    def _next(self) -> ServerConnection:
        """One of the active connections: the same, until that has no room."""
        if self._place >= len(self._ring):
            self._ring = list(self._pool.active)
            self._place = 0
        return self._ring[self._place]

    def _admits(self, server: ServerConnection, sharer: Sharer, longest: float | None) -> bool:
        """Whether what a client has to send may go behind what the connection has to do.

        `longest` is how long all of that may take, in seconds, as far as can be known; without
        it each of them may be as slow as the last may be.
        """
        queue = server.queue
        if (
            server not in self._pool.active
            or not 0 < len(queue) < self.depth
            or server.variables is not sharer.variables
            or server.status != codes.IDLE
            or server.marks
            or server.named
            or not _takes_more(server)
            or server.expires_at <= (now := self._pool.engine.now)
        ):
            return False
        head, last = queue[0], queue[-1]
        if last.orphaned or last.is_open or last.steps is not None:
            return False
        slow = self.slow if longest is None else longest / len(queue)
        if now - max(server.began_at, head.started) > slow or not self._is_quick(last, slow):
            return False
        holder = server.client
        return holder is None or (
            len(queue) == 1 and last.sink is holder and calls.lets_in(holder, server)
        )

    def _is_quick(self, segment: Segment, slow: float) -> bool:
        """Whether statements of its fingerprint have been quicker lately."""
        place, fingerprint = self._pool.counters.place, segment.fingerprint
        if place is None or not isinstance(fingerprint, Fingerprint):
            return False
        table = place.table(is_primary=self._pool.is_primary)
        figures = None if table is None else table.rows.get(fingerprint.identifier)
        return figures is not None and figures.lately() <= slow

    def _note(self, reason: str) -> None:
        self.alone[reason] = self.alone.get(reason, 0) + 1


def _takes_more(server: ServerConnection) -> bool:
    """Whether more may be sent behind what a connection is doing, whoever asks."""
    head = client_of(server)
    return not (
        server.doomed
        or server.cancels
        or server.needs_barrier
        or server.is_cancelled
        or server.columns_changed
        or server.catalogue_changed
        or server.is_pinned
        or server.congested
        or (head is not None and head.congested)
    )


# --- leaving it


def settled(server: ServerConnection) -> None:
    """What a connection did is over: if those who shared it have gone, it is given back."""
    if server in server.pool.active and server.client is None and not server.queue:
        server.pool.release(server)


def parted(server: ServerConnection) -> None:
    """A client has had its answer, and those behind it have theirs to come."""
    if server.columns_changed:
        server.tell_changes()
    sharing = server.pool.sharing
    if server.queue[0].orphaned:
        if not server.cancels:
            server.pool.cancel(server)
    elif sharing is not None and server.pool.waiters:
        sharing.fill(server)


def cancel(server: ServerConnection, client: PoolClient) -> Segment | None:
    """A client wants cancelled what it has sent to a connection that it shares.

    Returns:
        What it has sent, if no server need be asked: it will run for nobody, and the client is
        to be answered at once.
    """
    if server.queue[0].sink is client:
        move(server, 1)
        server.pool.cancel(server)
        return None
    return _give_up(server, client)


def abandon(server: ServerConnection, client: PoolClient) -> None:
    """A client leaves that shares the connection."""
    is_head = server.queue[0].sink is client
    _give_up(server, client)
    if is_head:
        server.client_drained()
        server.pool.cancel(server)


def _give_up(server: ServerConnection, client: PoolClient) -> Segment | None:
    """What a client has sent runs for nobody; others do not wait for that."""
    for place, segment in enumerate(server.queue):
        if segment.sink is client:
            segment.orphan()
            move(server, place + 1)
            return segment
    return None


def move(server: ServerConnection, start: int) -> None:
    """Have what is behind that place in the queue sent elsewhere, by its clients."""
    found = list(_clients(server.queue[start:]))
    sharing = server.pool.sharing
    if sharing is not None:
        sharing.moved += len(found)
    for _, segment in found:
        segment.orphan()
    for client, segment in found:
        calls.send_elsewhere(client, segment)


def _clients(segments: list[Segment]) -> Iterator[tuple[PoolClient, Segment]]:
    for segment in segments:
        if isinstance(segment.sink, PoolClient):
            yield segment.sink, segment


def client_of(server: ServerConnection) -> PoolClient | None:
    """Who has a connection alone, or for whom it is at work, if they share it."""
    if server.client is not None or not server.queue:
        return server.client
    sink = server.queue[0].sink
    return sink if isinstance(sink, PoolClient) else None


def sent_for(server: ServerConnection, client: PoolClient) -> Segment:
    """What a connection that is at work does for a client: if all is for others, that."""
    queue = server.queue
    return next((segment for segment in queue if segment.sink is client), queue[0])


def fill(server: ServerConnection) -> None:
    """A client has been given a connection: let others in who wait and share."""
    sharing = server.pool.sharing
    if sharing is not None:
        sharing.fill(server)
