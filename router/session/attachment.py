"""A client's hold on a server: asking the pool for one, waiting for it, taking it."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from ..errors import RouterError, RoutingError
from ..pool.contracts import PoolClient
from ..pool.server import ServerConnection
from ..protocol import codes, marks
from ..routing.state import PLAIN_SETTINGS, RoutingState
from ..routing.types import RoleChoice
from .writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine
    from ..pool.contracts import Waiter
    from ..pool.pool import Pool
    from ..protocol.segments import Segment
    from ..routing.types import Route
    from .own import PreparedStatement
    from .settings import ClientSettings


class ClientState(Enum):
    """What SHOW CLIENTS says."""

    IDLE = "idle"
    WAITING = "waiting"
    ACTIVE = "active"


class Attachment(PoolClient):
    """What a session has to do with its pool.

    Attributes:
        pool: whose servers it uses; looked up again when it is retired.
        server: the one that it holds.
        routing: shard and role that it asked for.
        settings: what it has set, which goes with it from server to server.
        may_pipeline: whether a statement may be sent behind one that is not answered.
        is_moving: with this transaction ends what binds the next one to the same server.
        max_wait: the longest time that it waited for a server, in seconds.
        writes: what it writes, if that matters to others.
        epoch: the router's when it looked the client's statements up.
        has_chosen: the client has chosen the shard of the transaction, by command or comment.
    """

    __slots__ = (
        "_find_pool",
        "_pending",
        "_queued_since",
        "_was_reset",
        "_xact_started",
        "awaits_settings",
        "closed",
        "engine",
        "epoch",
        "has_chosen",
        "is_moving",
        "max_wait",
        "may_pipeline",
        "pool",
        "routing",
        "server",
        "settings",
        "waiter",
        "writes",
    )

    def __init__(
        self,
        engine: Engine,
        pool: Pool,
        settings: ClientSettings,
        find_pool: Callable[[str, str], Pool | None],
    ) -> None:
        super().__init__()
        self.engine: Final = engine
        self.pool = pool
        self.settings: Final = settings
        self._find_pool: Final = find_pool
        self.server: ServerConnection | None = None
        self.routing = RoutingState()
        for name in PLAIN_SETTINGS:
            self.routing.note_setting(name, settings.told(name, pool) or "")
        self.may_pipeline = pool.router.is_static
        self.is_moving = False
        self.epoch = pool.router.epoch
        self.has_chosen = False
        self.writes = Writes.of(pool)
        self.closed = False
        self.max_wait = 0.0
        self.waiter: Waiter | None = None
        self._queued_since = 0.0
        self._xact_started = 0.0
        # A whole Query or FunctionCall that waits for a server.
        self._pending = b""
        # The server has been sent the settings, and may not accept them.
        self.awaits_settings = False
        # All settings have been reset, by a segment that may still fail.
        self._was_reset = False

    # --- what the session does about it

    def attached(self, server: ServerConnection) -> None:
        """There is a server: be its client."""
        raise NotImplementedError

    def pool_changed(self) -> None:
        """The configuration has changed: what was found out about statements may be wrong."""
        raise NotImplementedError

    def start_work(self, server: ServerConnection) -> None:
        """The server has the client's settings: send it what waited for it."""
        raise NotImplementedError

    def end_with(self, error: RouterError) -> None:
        """The session cannot go on."""
        raise NotImplementedError

    # --- facts

    @property
    def state(self) -> ClientState:
        """What it is doing."""
        if self.waiter is not None:
            return ClientState.WAITING
        return ClientState.IDLE if self.server is None else ClientState.ACTIVE

    @property
    def label(self) -> str:
        """For SHOW SERVERS."""
        return self.settings.application_name

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a server, as time.monotonic()."""
        return None if self.waiter is None else self._queued_since

    def longest_wait(self, now: float) -> float:
        """The longest time that it waited for a server, in seconds; it may still be waiting."""
        if self.waiter is None:
            return self.max_wait
        return max(self.max_wait, now - self._queued_since)

    @property
    def is_waiting(self) -> bool:
        """Whether nothing can be done for the client now."""
        return self.closed or self.waiter is not None or self.awaits_settings

    @property
    def status(self) -> int:
        """The transaction status that a ReadyForQuery would have now."""
        return codes.IDLE if self.server is None else self.server.status

    def shared_statement(self, body: bytes) -> PreparedStatement:
        """The statement that stands for the body of a Parse, for this client."""
        return self.pool.statement(body, self.settings.context)

    # --- checkout

    def set_pipelining(self) -> None:
        """Statements may follow each other unanswered if their text has no say in the route."""
        self.may_pipeline = (
            self.pool.router.is_static
            and self.routing.choice is not RoleChoice.AUTO
            and not self.routing.has_local
            and not self.is_moving
        )

    def end_transaction(self) -> None:
        """A transaction is over, and with it what SET LOCAL chose for it."""
        self.has_chosen = False
        if self.routing.has_local or self.is_moving:
            self.is_moving = False
            self.routing.end_transaction()
            self.set_pipelining()
        if self.writes is not None:
            self.writes.settle()

    def dispatch(self, message: bytes, sql: bytes | None = None) -> None:
        """Ask for a server for a Query or FunctionCall, which is sent to it then.

        Args:
            message: all of it; b"" if it is too long to hold.
            sql: the text, which may have a say in where it goes.
        """
        self._pending = message
        if self.pool.retired and not self.change_pool():
            return
        router = self.pool.router
        try:
            if sql is None:
                route = router.route_unknown(self.routing)
            else:
                route = router.route(sql, self.routing)
        except RoutingError as error:
            self.checkout_failed(error)
            return
        self.checkout(route)

    def checkout(self, route: Route) -> None:
        """Get a server for a route, or wait for one, or fail."""
        self._queued_since = self.engine.now
        self.has_chosen = route.is_chosen
        route.tally.count += 1
        try:
            outcome = self.pool.checkout(self, route.shard, route.role)
        except RouterError as error:
            self.checkout_failed(error)
            return
        if isinstance(outcome, ServerConnection):
            self._attach(outcome)
        else:
            self.waiter = outcome

    def change_pool(self) -> bool:
        """The configuration has changed; returns whether there still is a pool."""
        pool = self._find_pool(self.pool.database, self.pool.user)
        if pool is None:
            error = RoutingError(
                f'No pool configured for database: "{self.pool.database}", '
                f'user: "{self.pool.user}"',
                sqlstate="3D000",
            )
            self.end_with(error)
            return False
        self.pool = pool
        self.writes = Writes.of(pool)
        self.set_pipelining()
        self.look_up_anew()
        return True

    def look_up_anew(self) -> None:
        """The router has another view of statements than when they were looked up."""
        self.epoch = self.pool.router.epoch
        self.pool_changed()

    def take_server(self, server: ServerConnection) -> bool:
        """A server is free for us; False if we do not want it any more."""
        if self.closed:
            return False
        self.waiter = None
        self.max_wait = max(self.max_wait, self.engine.now - self._queued_since)
        self._attach(server)
        return True

    def expect_reset(self, segment: Segment) -> None:
        """A RESET ALL is on its way, after which the next statement may go elsewhere."""
        segment.resets_all = True
        if not self.routing.is_default:
            self.is_moving = True
            self.may_pipeline = False

    def settings_reset(self, *, everything: bool) -> None:
        self.settings.reset()
        self._was_reset = everything

    def _end_reset(self, *, failed: bool) -> None:
        """The segment with a RESET ALL or DISCARD ALL is over: so are the client's choices."""
        is_due, self._was_reset = self._was_reset and not failed, False
        if is_due:
            self.forget_choices()

    def forget_choices(self) -> None:
        """Go back to automatic routing."""
        self.routing.reset()
        self.set_pipelining()

    def _adopt_settings(self, server: ServerConnection, *, is_kept: bool) -> None:
        """The server has reported settings while it worked for the client, or reset them."""
        settings = self.settings
        by_client = bool(server.marks & (marks.SET | marks.UNKNOWN))
        context = settings.context
        settings.adopt(server.baseline, by_client=by_client)
        if settings.context != context:
            self.look_up_anew()
        if not settings.were_reset:
            return
        if server.queue:
            settings.reset()  # until nothing is on its way
            return
        settings.were_reset = False
        if is_kept and server.status != codes.IN_FAILED_TRANSACTION:
            self.awaits_settings = server.apply(settings.variables)

    def _attach(self, server: ServerConnection) -> None:
        self.server = server
        self.attached(server)
        self._xact_started = self.engine.now
        if self.settings.variables is not server.variables and server.apply(
            self.settings.variables
        ):
            self.awaits_settings = True
            return
        self.start_work(server)
