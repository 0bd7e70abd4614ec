"""A client's hold on a server: it has none, it waits for one, or it has one."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..pool.server import ServerConnection, ServerState
from ..protocol import codes, marks
from .writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine
    from ..pool.contracts import PoolClient, Waiter
    from ..pool.pool import Pool
    from ..protocol.segments import Segment
    from ..routing.types import Route
    from .client_settings import ClientSettings


class ClientState(Enum):
    """What SHOW CLIENTS says."""

    IDLE = "idle"
    WAITING = "waiting"
    ACTIVE = "active"


class Activity(Enum):
    """What PostgreSQL calls the state of a session."""

    IDLE = "idle"
    WAITING = "waiting"
    ACTIVE = "active"
    IN_TRANSACTION = "idle in transaction"
    IN_FAILED_TRANSACTION = "idle in transaction (aborted)"


_BY_STATUS: Final = {
    codes.IN_TRANSACTION: Activity.IN_TRANSACTION,
    codes.IN_FAILED_TRANSACTION: Activity.IN_FAILED_TRANSACTION,
}


class Lease:
    """What one client has of its pool.

    The pool hands connections to the `holder`, its session; what it sends goes to `server`, one
    segment after another. Whose a reply is says the segment, never the lease: so a connection
    can work for several clients, each with a lease of its own, and only who has it alone is
    `ServerConnection.client`.

    Attributes:
        holder: the session, as the pool knows it.
        pool: whose servers it uses; looked up again when it is retired.
        settings: what the client has set, which goes with it from server to server.
        server: the one that it has.
        route: by which it was got, for one transaction.
        waiter: its place in the queue for one.
        has_come: the server has come for a message that waited for it, and has its place.
        awaits_settings: the server has been sent the settings, and may not accept them.
        pinned: it keeps its server until the client leaves.
        xact_started: when the transaction began, or the last one ended.
        xact_open: the last answer came from within a transaction.
        mid_message: the server waits for the rest of a long message.
        draining: the router is going away: the server is not kept for another transaction.
        max_wait: the longest time that it waited for a server, in seconds.
        writes: what the client writes, if that matters to others.
    """

    __slots__ = (
        "_find_pool",
        "_queued_since",
        "awaits_settings",
        "draining",
        "engine",
        "has_come",
        "holder",
        "max_wait",
        "mid_message",
        "pinned",
        "pool",
        "route",
        "server",
        "settings",
        "waiter",
        "writes",
        "xact_open",
        "xact_started",
    )

    def __init__(
        self,
        engine: Engine,
        holder: PoolClient,
        pool: Pool,
        settings: ClientSettings,
        find_pool: Callable[[str, str], Pool | None],
    ) -> None:
        self.engine: Final = engine
        self.holder: Final = holder
        self.pool = pool
        self.settings: Final = settings
        self._find_pool: Final = find_pool
        self.server: ServerConnection | None = None
        self.route: Route | None = None
        self.waiter: Waiter | None = None
        self.has_come = False
        self.awaits_settings = False
        self.pinned = False
        self.mid_message = False
        self.draining = False
        self.writes = Writes.of(pool)
        self.max_wait = 0.0
        self._queued_since = 0.0
        self.xact_started = 0.0
        self.xact_open = False

    # --- facts

    @property
    def state(self) -> ClientState:
        """What the client is doing."""
        if self.waiter is not None:
            return ClientState.WAITING
        return ClientState.IDLE if self.server is None else ClientState.ACTIVE

    @property
    def status(self) -> int:
        """The transaction status that a ReadyForQuery would have now."""
        return codes.IDLE if self.server is None else self.server.status

    @property
    def is_pending(self) -> bool:
        """Whether nothing can be done for the client before a server is there and ready."""
        return self.waiter is not None or self.awaits_settings

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a server, as time.monotonic()."""
        return None if self.waiter is None else self._queued_since

    def longest_wait(self, now: float) -> float:
        """The longest time that it waited for a server, in seconds; it may still be waiting."""
        if self.waiter is None:
            return self.max_wait
        return max(self.max_wait, now - self._queued_since)

    def transaction_time(self, segment: Segment, status: int) -> float:
        """A segment has been answered: how long the transaction took that has ended with it."""
        if not self.xact_open:
            self.xact_started = max(self.xact_started, segment.started)
        self.xact_open = status != codes.IDLE
        if self.xact_open:
            return 0.0
        began, self.xact_started = self.xact_started, self.engine.now
        return self.xact_started - began

    @property
    def activity(self) -> Activity:
        """What the client is doing, as PostgreSQL would say."""
        server = self.server
        if server is None:
            return Activity.IDLE if self.waiter is None else Activity.WAITING
        if server.queue:
            return Activity.ACTIVE
        return _BY_STATUS.get(server.status, Activity.IDLE)

    def transaction_age(self, now: float) -> float:
        """For how long the transaction has been open, in seconds; 0 without one."""
        server = self.server
        if self.xact_open:
            return now - self.xact_started
        if server is None or not server.queue:
            return 0.0
        return max(now - server.queue[0].started, 0.0)

    @property
    def keeps_server(self) -> bool:
        """Whether it keeps its server between transactions."""
        return (
            self.pinned or self.mid_message or (self.pool.is_session_mode and not self.draining)
        )

    @property
    def is_kept_for_good(self) -> bool:
        """Whether the client will have no other server than the one that it has."""
        return self.pinned or self.pool.is_session_mode

    def lets_follow(self, server: ServerConnection) -> bool:
        """Whether a statement may be sent behind one that is not answered.

        Not while others wait for a server that this client would give back after its answer:
        else a client that never lets the queue run dry would keep it from them for good.
        """
        return not server.pool.waiters or server.status != codes.IDLE or self.keeps_server

    # --- getting one

    def renew_pool(self) -> bool:
        """See to it that the pool is one that serves; returns whether it is another now.

        Raises:
            RoutingError: the configuration has none for the client any more.
        """
        old = self.pool
        if not old.retired:
            return False
        pool = self._find_pool(old.database, old.user)
        if pool is None:
            raise RoutingError(
                f'No pool configured for database: "{old.database}", user: "{old.user}"',
                sqlstate="3D000",
            )
        self.pool = pool
        self.writes = Writes.of(pool)
        return True

    def request(self, route: Route) -> ServerConnection | None:
        """Get a server for a route, ready for use; None if it must be waited for.

        Raises:
            RouterError: there is none.
        """
        self._queued_since = self.engine.now
        self.route = route
        route.tally.count += 1
        outcome = self.pool.checkout(self.holder, route.shard, route.role, route.is_read)
        if not isinstance(outcome, ServerConnection):
            self.waiter = outcome
            return None
        self.has_come = not self._attach(outcome)
        return None if self.has_come else outcome

    def take(self, server: ServerConnection) -> bool:
        """The server that was waited for is there; returns whether it is ready for use."""
        self.waiter = None
        self.has_come = True
        self.max_wait = max(self.max_wait, self.engine.now - self._queued_since)
        return self._attach(server)

    def _attach(self, server: ServerConnection) -> bool:
        """Take a server and give it the client's settings; returns whether it is ready."""
        self.server = server
        server.attach(self.holder)
        self.xact_started = self.engine.now
        self.xact_open = False
        settings = self.settings.variables
        if settings is not server.variables:
            self.awaits_settings = server.apply(settings)
        return not self.awaits_settings

    def stop_waiting(self) -> bool:
        """Leave the queue; returns whether it was in one."""
        waiter, self.waiter = self.waiter, None
        if waiter is not None:
            waiter.cancel()
        return waiter is not None

    # --- having it

    def adopt_settings(self, server: ServerConnection, *, is_kept: bool) -> bool:
        """The server has reported settings while it worked for the client, or reset them.

        Returns:
            Whether what decides about the meaning of texts has changed.
        """
        settings = self.settings
        by_client = bool(server.marks & (marks.SET | marks.UNKNOWN))
        context = settings.context
        settings.adopt(server.baseline, by_client=by_client)
        if settings.were_reset:
            if server.queue:
                settings.reset()  # until nothing is on its way
            else:
                settings.were_reset = False
                if is_kept and server.status != codes.IN_FAILED_TRANSACTION:
                    self.awaits_settings = server.apply(settings.variables)
        return settings.context != context

    # --- giving it back

    def release(self, server: ServerConnection) -> bool:
        """Give the server back if nothing is on its way any more; returns whether it is."""
        if server.queue or self.keeps_server:
            return False
        self.server = None
        server.pool.release(server)
        return True

    def abandon(self, server: ServerConnection, *, cancel: bool) -> None:
        """Leave the server to finish what was sent, which nobody hears."""
        self.server = None
        server.pool.abandon(server, cancel=cancel)

    def lose(self) -> None:
        """The server is gone."""
        self.server = None
        self.awaits_settings = False

    def end(self) -> ServerConnection | None:
        """The client leaves: give up all claims; returns the server that is to go back."""
        self.stop_waiting()
        server, self.server = self.server, None
        if server is None or server.state is ServerState.CLOSED:
            return None
        if self.is_kept_for_good:
            server.marks |= marks.UNKNOWN
        if self.mid_message or self.awaits_settings:
            # It waits for the rest of a message that will never come, or has not taken what
            # the next client would count on.
            server.close()
            return None
        return server
