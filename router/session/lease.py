"""A client's hold on a server: it has none, it waits for one, or it has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..pool import sharing
from ..pool.replay import LateRead
from ..pool.server import ServerConnection
from ..pool.sharing import Behind
from ..pool.states import ServerState
from ..protocol import codes, marks, messages
from .causality import Causality
from .pins import Pins
from .states import BackendState, ClientState, backend_state
from .transaction import Deferred, Transaction
from .writes import Writes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine
    from ..pool.contracts import PoolClient, Waiter
    from ..pool.pool import Pool
    from ..protocol.frontend import ClientStream
    from ..protocol.marks import Glance
    from ..protocol.prepared import Statement
    from ..protocol.segments import Segment
    from ..routing.types import Analysis, Route
    from .client_settings import ClientSettings
    from .listening import Listening


class Lease:
    """What one client has of its pool.

    The pool hands connections to the `holder`, its session; what it sends goes to `server`, one
    segment after another. Whose a reply is says the segment, never the lease: so a connection
    can work for several clients, each with a lease of its own, and only who has it alone is
    `ServerConnection.client`.

    Attributes:
        holder: the session, as the pool knows it.
        pool: whose servers it uses; looked up again when it is retired.
        statements: what the client has prepared, by its own names; see `Names`.
        settings: what the client has set, which goes with it from server to server.
        server: the one that it has.
        route: by which it was got, for one transaction.
        waiter: its place in the queue for one.
        has_come: the server has come for a message that waited for it, and has its place.
        awaits_settings: the server has been sent the settings, and may not accept them.
        pinned, pins: it keeps its server until the client leaves; or for what it has there.
        unnamed_in: the batch in which the client has parsed an unnamed statement that is too
            long to be parsed again elsewhere: it keeps its server until there is another.
        asks: the server has been asked what the client has left, and the answer decides
            whether it is given back: until then the client's next statement has to wait.
        drops: what an ALL that the router has answered drops at the server as well, as marks.
        xact_started: when the transaction began, or the last one ended.
        is_altered: what its transaction has done may give texts another meaning than they
            have for others.
        xact, xact_open: what is known of it; the last answer came from within it.
        mid_message: the server waits for the rest of a long message.
        deferred: the transaction that it has begun, until a server has answered in it.
        compares: is told of what is answered in a transaction that is on all shards.
        draining: the router is going away: the server is not kept for another transaction.
        max_wait, waited: for a server at most, and for that of what it sends next; seconds.
        writes, causality, listening: what it writes, must see and hears, if that matters.
    """

    __slots__ = (
        "_find_pool",
        "_queued_since",
        "asks",
        "awaits_settings",
        "causality",
        "compares",
        "deferred",
        "draining",
        "drops",
        "engine",
        "has_come",
        "holder",
        "is_altered",
        "listening",
        "max_wait",
        "mid_message",
        "pinned",
        "pins",
        "pool",
        "route",
        "server",
        "settings",
        "statements",
        "unnamed_in",
        "waited",
        "waiter",
        "writes",
        "xact",
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
        self.statements: Final[dict[bytes, Statement[Analysis | None]]] = {}
        self._find_pool: Final = find_pool
        self.server: ServerConnection | None = None
        self.route: Route | None = None
        self.waiter: Waiter | None = None
        self.has_come = self.awaits_settings = self.asks = False
        self.is_altered = self.pinned = self.mid_message = self.draining = self.xact_open = (
            False
        )
        self.pins: Final = Pins(settings)
        self.unnamed_in: Segment | None = None
        self.drops = 0
        self.writes = Writes.of(pool)
        self.causality = Causality.of(pool)
        self.listening: Listening | None = None
        self.max_wait = self.waited = self._queued_since = self.xact_started = 0.0
        self.xact: Transaction | None = None
        self.deferred: Deferred | None = None
        self.compares: Callable[[Segment], None] | None = None

    # --- facts

    @property
    def state(self) -> ClientState:
        """What the client is doing."""
        if self.waiter is not None:
            return ClientState.ACTIVE if self.waiter.is_served else ClientState.WAITING
        return ClientState.IDLE if self.server is None else ClientState.ACTIVE

    @property
    def status(self) -> int:
        """The transaction status that a ReadyForQuery would have now."""
        if self.server is not None:
            return self.server.status
        return codes.IDLE if self.deferred is None else self.deferred.status

    @property
    def ready(self) -> bytes:
        """The ReadyForQuery of a client that has no server."""
        return messages.ready_for_query(self.status)

    @property
    def is_free(self) -> bool:
        """Whether no transaction is open, and nothing is on its way."""
        server = self.server
        if server is None:
            return self.deferred is None and self.waiter is None
        return not server.queue and server.status == codes.IDLE

    @property
    def is_busy(self) -> bool:
        """Whether there is something on its way, to a server or to the client."""
        return self.waiter is not None or (self.server is not None and bool(self.server.queue))

    @property
    def awaits_answers(self) -> bool:
        """Whether what is on its way is answered without more being sent."""
        if self.server is None or not self.server.queue:
            return False
        first = self.server.queue[0]
        return not (first.is_open or first.copying)

    def fail(self) -> None:
        """A statement has failed before any server knew of its transaction, if it has one."""
        if self.deferred is not None and self.server is None:
            self.deferred.has_failed = True

    @property
    def is_pending(self) -> bool:
        """Whether nothing can be done for the client before a server is there and ready."""
        if self.server is not None and self.server.client is not self.holder:
            return True  # it works for others, too: nothing can be sent until the answer
        return self.waiter is not None or self.awaits_settings or self.asks

    @property
    def waiting_since(self) -> float | None:
        """When it began to wait for a server, as time.monotonic()."""
        waiter = self.waiter
        return None if waiter is None or waiter.is_served else self._queued_since

    def longest_wait(self, now: float) -> float:
        """The longest time that it waited for a server, in seconds; it may still be waiting."""
        return max(self.max_wait, now - (self.waiting_since or now))

    def transaction_time(self, segment: Segment, status: int) -> float:
        """A segment has been answered: how long the transaction took that has ended with it."""
        if self.causality is not None and self.server is not None:
            self.causality.note(self.server, segment, self.route, is_later=self.xact_open)
        begun, self.deferred = self.deferred, None
        if begun is not None:
            self.xact_started = begun.since
        elif not self.xact_open:
            self.xact_started = max(self.xact_started, segment.started)
        self.xact_open = status != codes.IDLE
        if self.xact_open:
            if self.xact is None:
                self.xact = Transaction(begun)
            self.xact.note(segment)
            if self.compares is not None:
                self.compares(segment)
            return 0.0
        self.xact = None
        began, self.xact_started = self.xact_started, self.engine.now
        return self.xact_started - began

    def note_begun(self) -> None:
        """Others have done something at the server, in the transaction that was deferred."""
        begun, self.deferred = self.deferred, None
        if begun is not None:
            self.xact_started, self.xact_open = begun.since, True
            self.xact = Transaction(begun)

    @property
    def activity(self) -> BackendState:
        """What the client is doing, as PostgreSQL would say."""
        return backend_state(self.server, self.status, waits=self.waiter is not None)

    def transaction_age(self, now: float) -> float:
        """For how long the transaction has been open, in seconds; 0 without one."""
        server = self.server
        if self.deferred is not None:
            return now - self.deferred.since
        if self.xact_open:
            return now - self.xact_started
        if server is None or not server.queue:
            return 0.0
        started = sharing.sent_for(server, self.holder).started
        return max(now - started, 0.0) if started else 0.0  # the router's own have no time

    @property
    def last_kind(self) -> str:
        """The first word of the statement that was answered last in its transaction, or ""."""
        fingerprint = None if self.xact is None else self.xact.fingerprint
        return "" if fingerprint is None else fingerprint.kind

    @property
    def keeps_server(self) -> bool:
        """Whether it keeps its server between transactions."""
        return self.mid_message or (self.is_kept_for_good and not self.draining)

    @property
    def is_kept_for_good(self) -> bool:
        """Whether it keeps its server, until it leaves or has nothing there any more."""
        return (
            self.pinned
            or self.pins.pin is not None
            or self.unnamed_in is not None
            or self.pool.is_session_mode
        )

    def lets_follow(self, server: ServerConnection) -> bool:
        """Whether a statement may be sent behind one that is not answered.

        Not while others wait for a server that this client would give back after its answer:
        else a client that never lets the queue run dry would keep it from them for good.
        """
        if self.drops:
            return False  # that is done before anything else
        return not server.is_wanted or server.status != codes.IDLE or self.keeps_server

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
        self.causality = Causality.of(pool, self.causality)
        return True

    def request(self, route: Route) -> ServerConnection | None:
        """Get a server for a route, ready for use; None if it must be waited for.

        Raises:
            RouterError: there is none.
        """
        now = self.engine.now
        if self.deferred is not None:
            values = self.settings.variables.values
            route = self.deferred.route(route, self.pool.router, values)
        self.route = route
        causality = self.causality
        if causality is None:
            self._queued_since = now
            route.tally.count += 1
            outcome = self.pool.checkout(self.holder, route.shard, route.role, route.is_read)
        else:
            if causality.deadline is None:  # else it has been counted
                self._queued_since = now
                route.tally.count += 1
            outcome = causality.checkout(self.pool, self.holder, route, now)
        if not isinstance(outcome, ServerConnection):
            if isinstance(outcome, Behind):
                return self._join(outcome.server)
            self.waiter = outcome
            return None
        self.has_come = not self.attach(outcome)
        return None if self.has_come else outcome

    def admits(self, server: ServerConnection) -> bool:
        """Whether the server that has come has what the client must see; else it waits on."""
        causality, waiter = self.causality, self.waiter
        if causality is None or causality.admits(server):
            return True
        if waiter is not None:
            until = waiter.since + self.pool.settings.read_your_writes_timeout
            shard = server.pool.address.shard
            self.waiter = causality.wait(self.pool, self.holder, shard, waiter.since, until)
        return False

    def give_place_up(self) -> None:
        """The place in the queue is gone, and whoever had it asks for a server again."""
        waiter, self.waiter = self.waiter, None
        if self.causality is not None and isinstance(waiter, LateRead):
            self.causality.deadline = waiter.deadline

    def take(self, server: ServerConnection) -> bool:
        """The server that was waited for is there; returns whether it is ready for use."""
        self.waiter = None
        self.has_come = True
        self.waited = self.engine.now - self._queued_since
        self.max_wait = max(self.max_wait, self.waited)
        if server.queue:
            self._join(server)
            return True
        return self.attach(server)

    def _join(self, server: ServerConnection) -> ServerConnection:
        """Take a server for one statement, behind what others have sent there."""
        self.server, self.xact, self.xact_open = server, None, False
        self.xact_started = self.engine.now
        return server

    def attach(self, server: ServerConnection) -> bool:
        """Take a server and give it the client's settings; returns whether it is ready."""
        self.server = server
        server.attach(self.holder)
        self.xact_started = self.engine.now
        self.xact_open = False
        self.xact = None
        if server.named:
            self._part_names(server)
        settings = self.settings.variables
        if settings is not server.variables:
            self.awaits_settings = server.apply(settings)
        if settings.makes_temporary:
            server.marks |= marks.TEMP
        if self.listening is not None:
            self.listening.attach(server)
        if self.deferred is not None:
            self.deferred.begin(server, settings.values)
        return not self.awaits_settings

    def _part_names(self, server: ServerConnection) -> None:
        """What others have there by a name is not what the client means by it, if anything."""
        mine = self.statements
        gone = [name for name, held in server.named.items() if mine.get(name) is not held]
        if gone:
            server.forget_named(gone)

    def cancel(self) -> None:
        """Stop what the client has sent and what has no answer."""
        server = self.server
        if self.stop_waiting():
            text = "canceling statement due to user request"
            self.holder.checkout_failed(RoutingError(text, sqlstate="57014"))
        elif server is not None and server.queue and server.queue[-1].sink is self.holder:
            server.cancel()

    def stop_waiting(self) -> bool:
        """Leave the queue; returns whether it was in one."""
        if self.waiter is None or not self.waiter.cancel():
            return False
        self.waiter = None
        return True

    def wait_for(self, waiter: Waiter) -> None:
        """Wait for something else than a server of its own."""
        self.waiter, self._queued_since = waiter, self.engine.now

    def feed(self, stream: ClientStream) -> bool:
        """Have what a stream has found acted on by what is waited for; False declines it.

        What is left of a COPY that is over is dropped.
        """
        return stream.is_copied if self.waiter is None else self.waiter.feed(stream)

    # --- having it

    def note_parameter(self, name: str, value: str, *, swallowed: bool) -> bool:
        """The server has reported a setting; returns whether that is to be logged."""
        settings, pool = self.settings, self.pool
        if not swallowed:
            settings.changed(name, value)
            return pool.settings.log_client_parameter_status_changes
        if settings.told(name, pool) != value:
            settings.report(name, value)
        return False

    def adopt_settings(self, server: ServerConnection, *, is_kept: bool) -> bool:
        """The server has reported settings while it worked for the client, or reset them.

        Returns:
            Whether what decides about the meaning of texts has changed.
        """
        settings = self.settings
        by_client = bool(server.marks & (marks.SET | marks.UNKNOWN))
        context = settings.context
        is_native = server.first is settings.startup
        settings.adopt(server.baseline, by_client=by_client, is_native=is_native)
        if settings.were_reset:
            if server.queue:
                settings.has_reports = True  # until nothing is on its way
            elif not is_kept or is_native:
                settings.take_resets()
            else:
                begun_with = settings.take_resets()
                if server.status == codes.IN_FAILED_TRANSACTION:
                    pass  # nothing has been reset
                elif self.pool.is_session_mode:
                    self.awaits_settings = server.apply(settings.variables)
                elif server.status == codes.IN_TRANSACTION:
                    self.awaits_settings = server.apply(begun_with)
        return settings.context != context

    def note(self, server: ServerConnection, glance: Glance) -> None:
        """A statement is on its way of which this is to be seen."""
        server.marks |= glance.leaves
        if glance.uses:
            application = self.settings.application_name
            self.pool.features.note(application, glance.uses, self.engine.now)
        self.settings.note(glance)

    def bind_unnamed(self) -> None:
        """An unnamed statement is bound, of which only the server knows.

        Who parses and binds in one batch, as nearly all drivers do, is done with the statement:
        it does not keep the server then.
        """
        if self.unnamed_in is not None and self.unnamed_in.is_open:
            self.unnamed_in = None

    # --- giving it back

    def release(self, server: ServerConnection) -> bool:
        """Give the server back if nothing is on its way any more; returns whether it is.

        Whoever may have left something there goes by `Keeping.release`.
        """
        if server.queue:
            if server.client is not self.holder:
                self.server = None
                sharing.parted(server)
            return self.server is None
        return self.give_back(server)

    def give_back(self, server: ServerConnection) -> bool:
        """Give the server back, unless something keeps it; returns whether it is."""
        if self.keeps_server:
            if self.listening is not None:
                self.listening.flush()
            return False
        if self.is_kept_for_good:
            server.marks |= marks.UNKNOWN
        if len(server.named) > server.statements.capacity:
            server.marks |= marks.PARSE  # too many to be told apart one by one
        self.server = self.unnamed_in = None
        self._end_pin()
        server.pool.release(server)
        if self.listening is not None:
            self.listening.detach()
        return True

    def unpin(self, server: ServerConnection) -> None:
        """Nothing is there any more that would keep it."""
        if self.pins.pin is not None:
            self._end_pin()
            server.is_pinned = False

    def _end_pin(self) -> None:
        if self.pins.pin is not None:
            self.pins.end(self.pool.features, self.engine.now)

    def client_drained(self) -> None:
        """The client takes output again."""
        server, holder = self.server, self.holder
        if server is not None and (server.client is holder or server.queue[0].sink is holder):
            server.client_drained()
        if self.listening is not None:
            self.listening.flush()

    def abandon(self, server: ServerConnection, *, cancel: bool) -> None:
        """Leave the server to finish what was sent, which nobody hears."""
        self.server = self.unnamed_in = None
        self._end_pin()
        server.pool.abandon(server, cancel=cancel)

    def lose(self) -> None:
        """The server is gone."""
        self.server = self.unnamed_in = None
        self._end_pin()
        self.awaits_settings = self.asks = self.has_come = False
        if self.listening is not None:
            self.listening.detach()

    def end(self) -> ServerConnection | None:
        """The client leaves: give up all claims; returns the server that is to go back."""
        self.stop_waiting()
        self.deferred = None
        if self.listening is not None:
            self.listening.leave()
        server, self.server = self.server, None
        if server is None or server.state is ServerState.CLOSED:
            return None
        if server.client is not self.holder:
            sharing.abandon(server, self.holder)
            return None
        if self.is_kept_for_good:
            server.marks |= marks.UNKNOWN
        self._end_pin()
        if self.mid_message or self.awaits_settings:
            # It waits for the rest of a message that will never come, or has not taken what
            # the next client would count on.
            server.close()
            return None
        return server
