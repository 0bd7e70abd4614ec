"""What one client listens to by the connection that listens for all, and what it is told.

What the client does about channels is done at the server that it has, by PostgreSQL's rules for
transactions and savepoints. Before a server works for it, it is made to listen to what the
client listens to, so that UNLISTEN finds it there; after the transaction it is asked what has
become of that. So for as long as the client has a server, two connections hear the same: both
have all notifications in the same order, and those of the one are counted against those of the
other. What the server says comes before the ReadyForQuery, as the client is used to it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import RouterError
from ..pool.answer import CollectedAnswer
from ..pool.contracts import Ear
from ..pool.hub import listen
from ..printable import printable
from ..protocol import messages
from ..protocol.segments import Segment

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine
    from ..pool.answer import Row, Taker
    from ..pool.contracts import PoolClient
    from ..pool.hub import Hub
    from ..pool.hubs import Hubs
    from ..pool.server import ServerConnection

log = logging.getLogger("router.session")

# Each of a client's transactions begins with so many LISTENs; with more it keeps its server.
MOST_SHARED: Final = 100
# What waits for a client that does not read, or is in a transaction, may be so long, in bytes.
MOST_HELD: Final = 1 << 20
# For each that waits, besides its bytes, which all clients share.
_OVERHEAD: Final = 100
# In these the client reads the same bytes as the router. SQL_ASCII is whatever it likes.
_ENCODINGS: Final = ("UTF8", "UNICODE", "SQLASCII")

# The client's own limit is not for these.
_MIRROR: Final = b"SET LOCAL statement_timeout TO 0;%b"
_MARK: Final = _MIRROR % b"SET LOCAL synchronous_commit TO off;LISTEN %b;NOTIFY %b,'%b'"


def too_slow() -> RouterError:
    """Why a client is sent away that does not take its notifications."""
    return RouterError(
        f"more than {MOST_HELD} bytes of notifications wait for you",
        sqlstate="53400",
        hint="Read what comes, and end transactions soon: nothing is told before that.",
    )


def _send(server: ServerConnection, sql: bytes, answered: Taker) -> None:
    """Send a Query of the router's own, what is SET in which is for its transaction only."""
    segment = Segment(CollectedAnswer(answered, server.on_async))
    segment.is_set_local = True
    server.queue.append(segment)
    server.unnamed = 0
    server.send(messages.query(sql))


class _Held:
    """Something that the client is to be told: a notification, or a notice for name=b"".

    `is_late`: it came when the client's server was listening as well.
    """

    __slots__ = ("data", "is_late", "name", "shard")

    def __init__(self, shard: int, name: bytes, data: bytes, *, is_late: bool) -> None:
        self.is_late: Final = is_late
        self.shard: Final = shard
        self.name: Final = name
        self.data: Final = data


class Listening(Ear):
    """What one client listens to.

    Attributes:
        channels: that the lines of the pool speak for, by shard; those that are on their way
            to them included.
        mirrored: those of these that its server listens to as well.
    """

    __slots__ = (
        "_balance",
        "_engine",
        "_held",
        "_held_size",
        "_holder",
        "_hubs",
        "_is_free",
        "_is_gone",
        "_is_known",
        "_is_mirrored",
        "_marker",
        "_passing",
        "_share",
        "channels",
        "mirrored",
    )

    def __init__(
        self,
        engine: Engine,
        holder: PoolClient,
        hubs: Hubs,
        is_free: Callable[[], bool],
        share: Callable[[], None],
    ) -> None:
        """Begin with nothing.

        Args:
            engine: calls later.
            holder: the client's session.
            hubs: of its pool.
            is_free: whether the client can be told something now.
            share: tries again what `take_over` could not do.
        """
        self._engine: Final = engine
        self._holder: Final = holder
        self._hubs: Final = hubs
        self._is_free: Final = is_free
        self._share: Final = share
        self.channels: Final[dict[int, set[bytes]]] = {}
        self.mirrored: set[bytes] = set()
        self._is_known = True  # what is mirrored is there, or will be
        self._is_mirrored = False  # it is there
        # By what was said, how often the line has said it and the server has not, or less than
        # 0. Never 0.
        self._balance: dict[bytes, int] = {}
        self._held: list[_Held] = []
        self._held_size = 0
        self._is_gone = False  # it is being sent away
        # What is taken over when the marker with this payload comes; b"" if none is awaited.
        self._marker = b""
        self._passing: frozenset[bytes] = frozenset()

    # --- with a server

    def attach(self, server: ServerConnection) -> None:
        """Have a server listen to what the client listens to, ahead of all else."""
        server.ear = self
        part = server.pool
        names = self.channels.get(part.address.shard)
        if not names or not part.is_primary:
            return
        self.mirrored = set(names)

        def answered(rows: list[Row], error: dict[str, str] | None, is_whole: bool) -> None:
            server.end_own()
            if server.ear is self:
                self._is_mirrored = error is None
                if error is not None:
                    said = printable(error.get("M", ""))
                    text = "%r: an UNLISTEN there will not be seen: %s"
                    log.warning(text, server, said, extra=server.fields())
                    self.mirrored, self._is_known = set(), False
                self._holder.server_ready()

        _send(server, _MIRROR % listen(names), answered)

    def detach(self) -> None:
        """The server is not the client's any more."""
        self.mirrored = set()
        self._is_known, self._is_mirrored = True, False
        self._marker, self._passing = b"", frozenset()
        if self._balance:
            self._balance = {data: count for data, count in self._balance.items() if count < 0}
        self.flush()

    def settle(self, server: ServerConnection, there: frozenset[bytes]) -> frozenset[bytes]:
        """The transaction is over, and the server listens to these.

        Returns:
            Those that only the server listens to.
        """
        if not self._is_known:
            return there
        gone = self.mirrored - there
        if gone:
            self._forget(server.pool.address.shard, gone)
        return there - self.mirrored

    def _forget(self, shard: int, gone: set[bytes]) -> None:
        """The client does not listen to these any more."""
        self.mirrored -= gone
        mine = self.channels.get(shard, set())
        mine -= gone
        self._hubs.of(shard).leave(self, gone)
        held = [one for one in self._held if one.shard != shard or one.name not in gone]
        self._hold_these(held)
        self._balance = {
            data: count
            for data, count in self._balance.items()
            if messages.notification_parts(data)[0] not in gone
        }

    def leave(self) -> None:
        """The client listens to nothing any more: it has left, or said DISCARD ALL."""
        for shard in self.channels:
            self._hubs.of(shard).leave(self)
        self.channels.clear()
        self.mirrored = set()
        self._balance.clear()
        self._hold_these([one for one in self._held if not one.name])

    # --- taking over

    def may_take(
        self, server: ServerConnection, names: frozenset[bytes], encoding: str
    ) -> bool:
        """Whether a line can speak for the client, which reads this encoding."""
        plain = encoding.upper().replace("-", "").replace("_", "")
        mine = self.channels.get(server.pool.address.shard, ())
        return (
            plain in _ENCODINGS
            and len(mine) + len(names) <= MOST_SHARED
            and self._is_known
            and server.pool.is_primary
            and self._hubs.of(server.pool.address.shard).serves(server.pool)
        )

    def take_over(
        self, server: ServerConnection, names: frozenset[bytes], done: Callable[[bool], None]
    ) -> None:
        """Have the line speak for channels that only the server listens to.

        `done` is told whether it does, not before this has returned.
        """
        hub = self._hubs.of(server.pool.address.shard)

        def ready(is_heard: bool) -> None:
            if not is_heard or server.ear is not self:
                hub.release(names)
                if not is_heard:
                    hub.hope(self)
                done(False)
            else:
                self._pass(server, hub, names, done)

        hub.listen(names, ready)

    def _pass(
        self,
        server: ServerConnection,
        hub: Hub,
        names: frozenset[bytes],
        done: Callable[[bool], None],
    ) -> None:
        """The line listens: mark the place from which on it speaks for the client."""
        serial = hub.expect(self, names)
        self._marker, self._passing = serial, names
        mine = self.channels.setdefault(hub.shard, set())
        mine |= names

        def answered(rows: list[Row], error: dict[str, str] | None, is_whole: bool) -> None:
            server.end_own()
            is_done = error is None and not self._marker
            if not is_done:
                hub.forget(serial)
                if server.ear is self:
                    self._marker = b""
                    self._forget(hub.shard, set(names))
                    hub.hope(self)
            done(is_done)

        _send(server, _MARK % (hub.marker, hub.marker, serial), answered)

    # --- what is heard

    def hears(self, server: ServerConnection, data: bytes) -> bool:
        """The client's server has a NotificationResponse: whether to pass it on."""
        name, payload = messages.notification_parts(data)
        shard = server.pool.address.shard
        hub = self._hubs.of(shard)
        if name == hub.marker:  # of this client, or of another one
            if payload == self._marker:
                self._marker = b""
                self.mirrored |= self._passing
            return False
        if name not in self.mirrored:
            return True
        if self._balance.get(data, 0) > 0:
            self._count(data, -1)
            self._tell_held(data)  # the line has told it
            return False
        if hub.line is not None:
            self._count(data, -1)
        self._tell_held()
        return True

    def _tell_held(self, last: bytes = b"") -> None:
        """The server is about to say something: what waits comes before, up to `last`.

        Whatever state the client is in, one message is over now, and no other has begun. What
        has come since the server listens as well, and the server does not say, waits on: the
        client may have said UNLISTEN.
        """
        end = len(self._held)
        if last:
            end = next((n for n, one in enumerate(self._held) if one.data == last), -1) + 1
        if not end:
            return
        told, kept = list[_Held](), list[_Held]()
        for one in self._held[:end]:
            (kept if one.is_late and one.data != last else told).append(one)
        self._hold_these(kept + self._held[end:])
        for one in told:
            self._holder.reply(one.data)

    def notified(self, shard: int, name: bytes, data: bytes) -> bool:
        """The line of a shard has one; returns False if the client is not told."""
        if self._is_gone or name not in self.channels.get(shard, ()):
            return False
        if name in self.mirrored or name in self._passing:
            before = self._count(data, 1)
        else:
            before = self._balance.get(data, 0)
            if before < 0:
                self._count(data, 1)
        if before < 0:
            return True  # the server has told it
        self._tell(shard, name, data)
        return not self._is_gone

    def _count(self, data: bytes, step: int) -> int:
        """Count one more of the line's, or of the server's; returns what was before."""
        before = self._balance.get(data, 0)
        if before + step:
            self._balance[data] = before + step
        else:
            del self._balance[data]
        return before

    def missed(self, shard: int, notice: bytes) -> None:
        """The line is there again."""
        self._tell(shard, b"", notice)

    def line_lost(self, shard: int) -> None:
        """The line hears nothing any more: what it has not told yet, it never will."""
        self._balance = {data: count for data, count in self._balance.items() if count > 0}

    def may_share(self) -> None:
        """The line is there, for what could not be taken over."""
        self._share()

    def dismissed(self, error: RouterError) -> None:
        """There is nothing to listen to any more."""
        self._holder.expel(error)

    def _tell(self, shard: int, name: bytes, data: bytes) -> None:
        if self._held or self._holder.congested or not self._is_free():
            self._hold(shard, name, data)
        else:
            self._holder.reply(data)

    def _hold(self, shard: int, name: bytes, data: bytes) -> None:
        is_late = self._is_mirrored and name in self.mirrored
        self._held.append(_Held(shard, name, data, is_late=is_late))
        self._held_size += len(data) + _OVERHEAD
        if self._held_size > MOST_HELD and not self._is_gone:
            self._is_gone = True
            self._hold_these([])
            # Not in the middle of what a server says.
            self._engine.call_later(0.0, self._expel)

    def _hold_these(self, held: list[_Held]) -> None:
        self._held = held
        self._held_size = sum(len(one.data) + _OVERHEAD for one in held)

    def _expel(self) -> None:
        self._holder.expel(too_slow())

    def flush(self) -> None:
        """Tell what has had to wait, if the client can be told now."""
        if self._held and self._is_free() and not self._holder.congested:
            held = self._held
            self._hold_these([])
            for one in held:
                self._holder.reply(one.data)
