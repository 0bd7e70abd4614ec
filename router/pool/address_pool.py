"""The connections of one user to one server: their states, who waits, who may have them.

Theory of operation
-------------------
State is membership: a server connection that is logged in is in exactly one of `idle`, `active`
and `tested`; `move` is the only function that changes that, and SHOW POOLS prints the lengths.
Connections that are being opened are a number, since there is nothing yet to put anywhere.

A client that finds nothing idle waits in `waiters`, first come first served. Whatever becomes
free goes to the first of them that takes it. Connections are opened on demand: never more of
them in the making than there are waiters, and never more in all than pool_size.

Nothing here does I/O: the `connector` opens, and tells by `opened` or `open_failed`.
"""

from __future__ import annotations

import logging
import math
import random
from collections import deque
from typing import TYPE_CHECKING, Final

from ..stats import Counters
from . import calls, cleaning, moving, refusals, sharing, upkeep
from .expiry import Expiry
from .health import Ban, ServerHealth
from .quotas import Quotas, Shares
from .reserve import Reserve
from .retry import Retry
from .states import ServerState
from .stopwatch import Stopwatch

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.effective import PoolSettings
    from ..engine.loop import Engine
    from ..errors import RouterError
    from ..protocol.passwords import UserSecret
    from ..protocol.variables import Variables
    from .address import Address
    from .catalogue import Catalogue
    from .contracts import Connector, PoolClient, Waiter
    from .holders import Holders
    from .server import ServerConnection
    from .sharing import Sharing

log = logging.getLogger("router.pool")

# A connection lives up to so much shorter than server_lifetime, so that not all end together.
_LIFETIME_JITTER: Final = 0.1

# Members of an Enum are slow to look up.
_IDLE: Final = ServerState.IDLE
_ACTIVE: Final = ServerState.ACTIVE
_TESTED: Final = ServerState.TESTED
_CLOSED: Final = ServerState.CLOSED


class AddressPool:
    """All connections of one user to one server.

    Attributes:
        engine: drives its connections.
        secret: proves to the server who we are.
        connecting: how many are being opened.
        underway: the addresses that they have been sent to, as far as that is known.
        idle: nobody's, the longest unused first.
        active: attached to a client.
        tested: being cleaned before the next client may have them.
        waiters: clients that wait, the first first.
        oversized: pool_size has been lowered, there may be too many.
        is_primary, has_role: what it is now; whether that is known, and it can be used.
        lags: as a replica, it is further behind than it may be.
        is_open: whether connections may be opened.
        health: of its server, shared with the pools of other users.
        refused: the server is well and does not want this user now, which concerns no other.
        checked: those of `tested` that nobody has had for long, and that are asked whether
            they are still there before somebody gets them.
        on_reached, on_unreachable: told of the outcome of opening a connection.
        on_change: told when `is_ready` may have changed.
        on_told: told when the server has been asked how far it is.
        on_let_go: told which addresses of the server's host to leave; returns how many
            connections beside the pool's were to one of these.
        on_schema_change: told when prepared statements may have other columns than before.
        paused: nobody gets a connection, and what is released is closed.
        generation: of the connections; those of earlier ones are to be replaced.
        shares: what it has of what all pools may have of the server.
        is_pressed: some pool waits for it or others to have fewer connections.
        stopwatch: ends what takes too long.
        retired: the configuration has no place for it any more; what is released is closed.
        catalogue: what to learn from its connections, if anything.
        holders: what held its connections when somebody last got none.
        complaints: what has been logged of new connections, so that it is logged once.
        sharing: who goes behind whom, if clients share connections.
    """

    def __init__(
        self,
        engine: Engine,
        address: Address,
        settings: PoolSettings,
        secret: UserSecret,
        connector: Connector,
        health: ServerHealth | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        self.engine: Final = engine
        self._connector: Final = connector
        self.address: Final = address
        self.secret: Final = secret
        self.sharing: Sharing | None = None
        self.take_settings(settings)
        self.is_primary = address.is_primary
        self.has_role = not address.is_auto
        self.lags = False
        self.is_open = True
        self.health: Final = health or ServerHealth(engine, address.host, address.port)
        self.refused: Ban | None = None
        self.connecting = 0
        self.underway: Final[list[str]] = []
        self.idle: Final[list[ServerConnection]] = []
        self.active: Final[set[ServerConnection]] = set()
        self.tested: Final[set[ServerConnection]] = set()
        self.checked: Final[set[ServerConnection]] = set()
        self.waiters: Final[deque[Waiter]] = deque()
        self.counters = Counters()
        self.retired = self.paused = self.oversized = False
        self.generation = 0
        self.catalogue: Catalogue | None = None
        self.complaints: Final[set[str]] = set()
        self.on_unreachable: Callable[[AddressPool, RouterError], None] | None = None
        self.on_reached: Callable[[AddressPool, ServerConnection], None] | None = None
        self.on_schema_change: Callable[[], None] | None = None
        self.on_change: Callable[[AddressPool], None] | None = None
        self.on_told: Callable[[AddressPool], None] | None = None
        self.on_let_go: Callable[[AddressPool, Callable[[str], bool]], int] | None = None
        self.last_error: RouterError | None = None
        self.holders: Holders | None = None
        self._retry: Final = Retry(engine, self._try_again)
        self._expiry: Final = Expiry(engine, self)
        self._reserve: Final = Reserve(engine, self, self.open_for_waiters)
        self.is_pressed = False
        self.shares: Final = Shares(self, Quotas() if quotas is None else quotas)
        self.stopwatch: Final = Stopwatch(engine, self)
        self.health.join(self)

    def take_settings(self, settings: PoolSettings) -> None:
        """Go by these from now on."""
        self.settings = settings
        # Asked for every transaction: this is quicker.
        self._is_round_robin = settings.server_round_robin
        self._check_after = settings.healthcheck_delay
        self._is_timed = bool(settings.query_timeout or settings.transaction_timeout)
        self.sharing = sharing.sharing_of(self, self.sharing)

    def __repr__(self) -> str:
        return (
            f"<AddressPool {self.address.name} [{len(self.idle)} idle, "
            f"{len(self.active)} active, {len(self.tested)} tested, "
            f"{self.connecting} connecting, {len(self.waiters)} waiting]>"
        )

    @property
    def size(self) -> int:
        """Connections that exist or are being opened."""
        return self.connecting + len(self.idle) + len(self.active) + len(self.tested)

    @property
    def has_room(self) -> bool:
        """Whether another connection may be opened."""
        return self._has_own_room and not self.shares.is_full

    @property
    def _has_own_room(self) -> bool:
        """The same, whatever other pools have of the server."""
        if self.is_closing or not self.is_open:
            return False
        surplus = self.size - self.settings.pool_size
        return surplus < 0 or self._reserve.has_room(surplus)

    @property
    def is_wanted(self) -> bool:
        """Whether somebody waits for a connection that is given back."""
        return bool(self.waiters) or self.is_pressed or self.paused or self.retired

    @property
    def in_vain(self) -> Waiter | None:
        """The first client that waits and that no connection is on its way for."""
        coming = self.connecting + len(self.checked)
        return self.waiters[coming] if coming < len(self.waiters) else None

    @property
    def serves_at_once(self) -> bool:
        """Whether a client need not wait for another one's connection."""
        return bool(self.idle and not self.waiters) or self.has_room

    @property
    def load(self) -> int:
        """How many connections are at work, or will be."""
        return len(self.active) + len(self.tested) + len(self.waiters)

    @property
    def is_ready(self) -> bool:
        """Whether to give it clients that another server would do for."""
        if self.refused or self.health.is_paused or not (self.has_role and self.is_open):
            return False
        if self.is_primary:
            return self.health.is_up
        return self.health.serves_reads and not self.lags

    @property
    def role(self) -> str:
        """What the server is now: "primary", "replica", or "auto" if nobody knows."""
        if not self.has_role:
            return "auto"
        return "primary" if self.is_primary else "replica"

    @property
    def is_banned(self) -> bool:
        """Whether it is left out, which never happens to a primary."""
        return not self.is_primary and not self.is_ready

    @property
    def pinned(self) -> int:
        """How many are kept by clients for what they have there."""
        return sum(server.is_pinned for server in self.active)

    @property
    def is_closing(self) -> bool:
        """Whether connections are closed and not opened."""
        return self.retired or self.paused

    def servers(self) -> list[ServerConnection]:
        """All connections that are logged in."""
        return [*self.idle, *self.active, *self.tested]

    # --- states

    def move(self, server: ServerConnection, to: ServerState) -> None:
        """The one place where a connection changes its state."""
        was = server.state
        # The two moves of every transaction are legal, which is quickly seen.
        usual = (was is _IDLE and to is _ACTIVE) or (was is _ACTIVE and to is _IDLE)
        if not usual and to not in was.successors:
            raise AssertionError(f"illegal move of {server!r} to {to.value}")
        if was is _ACTIVE:
            self.active.remove(server)
        elif was is _IDLE:
            if self.idle[-1] is server:
                self.idle.pop()
            elif self.idle[0] is server:
                del self.idle[0]
            else:
                self.idle.remove(server)
        elif was is _TESTED:
            self.tested.remove(server)
            self.checked.discard(server)
        server.state = to
        if to is _ACTIVE:
            self.active.add(server)
            if self._is_timed:
                self.stopwatch.start()
        elif to is _IDLE:
            self.idle.append(server)
        elif to is _TESTED:
            self.tested.add(server)

    # --- checkout

    def take(self, client: PoolClient | None = None) -> ServerConnection | None:
        """An idle connection for a client, if there is one and nobody waits for it."""
        if not self.idle or self.waiters:
            return None
        return self.lend(self.idle[0] if self._is_round_robin else self.idle[-1])

    def lend(self, server: ServerConnection) -> ServerConnection | None:
        """Take a connection that is idle.

        One that nobody has had for healthcheck_delay is checked first: whoever then waits gets
        it if it is well, and a new one if not.
        """
        now = self.engine.now
        if now - server.used_at >= self._check_after:
            upkeep.check(self, server)
            return None
        server.used_at = now
        self.move(server, _ACTIVE)
        return server

    def enqueue(self, waiter: Waiter) -> None:
        """Make a client wait here."""
        waiter.pool = self
        place = len(self.waiters)
        while place and self.waiters[place - 1].deadline > waiter.deadline:
            place -= 1  # it has waited elsewhere before
        self.waiters.insert(place, waiter)
        self._expiry.watch()
        if not self.is_ready:
            self._look_again(waiter)
        self.open_for_waiters()

    def _look_again(self, waiter: Waiter) -> None:
        """Somebody waits for servers that are not well, which may have changed."""
        self._retry.hurry()
        for part in (self, *waiter.others):
            if not part.health.is_up:
                part.health.doubt()

    def hand_over(self, server: ServerConnection) -> bool:
        """Give an active connection to the first waiter that takes it."""
        while self.waiters:
            waiter = self.waiters.popleft()
            waiter.pool = None
            self.counters.wait_time += self.engine.now - waiter.since
            if calls.hand(waiter.client, server):
                sharing.fill(server)
                return True
        return False

    # --- opening

    @property
    def may_open(self) -> bool:
        """Whether to open another: where the last could not be had, one at a time."""
        if self._retry.is_pending or (self.connecting and self.last_error is not None):
            return False
        return self._has_own_room

    @property
    def may_open_more(self) -> bool:
        """Whether another may be opened that nobody waits for."""
        return self.may_open and not (self.is_pressed or self.shares.is_full)

    def open_for_waiters(self) -> None:
        """Open what clients wait for, as far as that is possible."""
        while self.in_vain is not None and self.may_open:
            if self.shares.is_full and not self.shares.claim():
                break
            self.open_another()
        if self.settings.reserve_pool_size:
            self._reserve.watch()

    def open_another(self) -> None:
        """Open a connection, which there has to be room for."""
        self.shares.spare_since = None
        self.connecting += 1
        self.shares.count(1)
        self.oversized |= self.size > self.settings.pool_size
        self._connector.open(self, self.next_startup())

    def next_startup(self) -> Variables | None:
        """The start-up parameters of what is opened now; None: the router's own."""
        return None

    def open_spare(self) -> None:
        """Open a connection that nobody waits for, if there is none at all."""
        if self.size or self.is_closing or not self.is_open:
            self.shares.spare_since = None
        elif not self.shares.is_full or self.shares.claim():
            self.open_another()
        elif self.shares.spare_since is None:
            self.shares.spare_since = self.engine.now

    def fill(self) -> None:
        """Open what is missing to min_pool_size."""
        while self.size < self.settings.min_pool_size and self.may_open_more:
            self.open_another()

    def opened(self, server: ServerConnection, generation: int | None = None) -> None:
        """A connection that was asked for, in that generation, is there."""
        self.connecting -= 1
        self.last_error = None
        if self.on_reached is not None:
            self.on_reached(self, server)
        self._retry.reset()
        if self.is_closing or generation not in (None, self.generation):
            self.health.reached(server.asked_at)
            link, server.link = server.link, None
            if link is not None:
                link.close()
            self._gone()
            self.fill()
            return
        jitter = 1 - random.random() * _LIFETIME_JITTER
        server.expires_at = server.opened_at + self.settings.server_lifetime * jitter
        server.used_at = self.engine.now
        self.move(server, ServerState.ACTIVE)
        self.health.reached(server.asked_at)
        self._set_refused(None)
        self.give_on(server)
        self._try_again()  # others may have been held back for this one

    def open_failed(self, error: RouterError, startup: Variables | None = None) -> None:
        """A connection that was asked for, with those parameters, could not be had."""
        self.connecting -= 1
        self.shares.count(-1)
        self.counters.errors += 1
        self.last_error = error
        if refusals.is_of_server(error):
            self.health.unreachable(error)
        elif self.size == 0 and self.settings.ban_time > 0:
            now = self.engine.now
            until = now + self.settings.ban_time
            self._set_refused(Ban(error.message, now, until, is_firm=False))
        if self.on_unreachable is not None:
            self.on_unreachable(self, error)
        if not self.paused:  # else who waits does so until it is resumed
            self._give_up(error)
        self.shares.offer()

    def _give_up(self, error: RouterError) -> None:
        """See who need not wait for a server that has not taken a connection, and try again."""
        if self.size == 0 or not self.waiters:
            told = None if refusals.is_temporary(error) else error
            moving.disappoint(self, told, self.engine.now)
        is_wanted = self.waiters or self.settings.min_pool_size
        if is_wanted or (self.refused is not None and refusals.may_pass(error)):
            self._retry.schedule(is_wanted=bool(self.waiters))

    def _try_again(self) -> None:
        self.open_for_waiters()
        self.fill()
        if self.refused is not None and self.may_open:
            self.open_spare()

    # --- health

    def on_health(self) -> None:
        """Something has changed with the server."""
        if self.address.is_auto:
            self.is_open = self.health.is_up  # it may come back as something else
        if self.on_change is not None:
            self.on_change(self)
        if self.is_ready and not self.retired:
            self._retry.reset()
            self._try_again()

    def on_facts(self) -> None:
        """The server has told something of itself."""
        if self.on_told is not None:
            self.on_told(self)

    def _set_refused(self, ban: Ban | None) -> None:
        is_news = (ban is None) is not (self.refused is None)
        self.refused = ban
        if is_news and self.on_change is not None:
            self.on_change(self)

    # --- return

    def release(self, server: ServerConnection) -> None:
        """Take a connection back from its client, clean it, and give it to the next."""
        if server.state is _CLOSED:
            return
        server.detach()
        server.used_at = self.engine.now
        if server.is_clean:
            if (
                self.waiters
                or self.is_closing
                or self.oversized
                or server.expires_at <= server.used_at
                or self.is_pressed
            ):
                self.give_on(server)
            else:
                self.move(server, _IDLE)
        else:
            cleaning.clean(self, server)

    def give_on(self, server: ServerConnection) -> None:
        """Give a clean connection to whoever waits, or keep it idle, or close it."""
        if (
            self.is_closing
            or upkeep.is_over(self, server, self.engine.now)
            or (self.oversized and upkeep.is_too_large(self))
            or (self.is_pressed and self.shares.is_due)
        ):
            server.close()
            self.oversized = self.size > self.settings.pool_size
        else:
            if server.state is not ServerState.ACTIVE:
                self.move(server, ServerState.ACTIVE)
            if not self.hand_over(server) and server.state is ServerState.ACTIVE:
                server.client = None
                self.move(server, ServerState.IDLE)

    def settled(self, server: ServerConnection) -> None:
        """A clean-up that was sent, or what an abandoned connection did, is over."""
        if server.state is not ServerState.TESTED or server.queue:
            sharing.settled(server)
            return
        server.used_at = self.engine.now
        if server.is_clean:
            self.give_on(server)
        else:
            cleaning.clean(self, server)

    def abandon(self, server: ServerConnection, *, cancel: bool) -> None:
        """Take back a connection that is at work for a client that has left.

        It finishes, unheard; `cancel` asks the server to hurry, and gives it a limited time.
        """
        if server.state is ServerState.CLOSED:
            return
        if server.client is not None:
            server.orphan(server.client)
        server.detach()
        self.move(server, ServerState.TESTED)
        server.used_at = self.engine.now if cancel else math.inf
        if cancel:
            self.cancel(server)

    def cancel(self, server: ServerConnection) -> None:
        """Ask the server to cancel what the connection is doing."""
        server.cancels += 1
        server.is_cancelled = True
        self._connector.cancel(server)

    def cancel_done(self, server: ServerConnection) -> None:
        """A cancel request for the connection has been delivered, or never will be."""
        server.cancels -= 1
        # PostgreSQL may act on it late: an empty query of our own takes the blow.
        server.needs_barrier = True
        if server.cancels:
            return
        server.cancel_done()
        if server.state is ServerState.TESTED and not server.queue:
            cleaning.clean(self, server)

    def remove(self, server: ServerConnection) -> None:
        """Forget a connection that is closed."""
        if server.state is not ServerState.CLOSED:
            self.move(server, ServerState.CLOSED)
            self._gone()

    def _gone(self) -> None:
        """There is one connection fewer."""
        self.shares.count(-1)
        if self.is_pressed:
            self.shares.offer()  # others may have been waiting for longer
        self.open_for_waiters()

    # --- upkeep

    def maintain(self, now: float) -> None:
        """Close what has been idle or has lived too long, and open up to min_pool_size."""
        upkeep.maintain(self, now, self.engine.figures.timeouts)
        if self.refused is not None and self.refused.until <= now:
            self._set_refused(None)
        self.fill()

    def resume(self) -> None:
        """Open what is wanted at once, and count the time of those who wait anew."""
        settings = self.settings
        deadline = self.engine.now + (settings.query_wait_timeout or settings.connect_timeout)
        for waiter in self.waiters:
            waiter.deadline = deadline
        self._expiry.watch()
        self._retry.reset()
        self._try_again()

    def retire(self) -> None:
        """Close what is idle; what is in use is closed when it is released."""
        self.retired = True
        for server in list(self.idle):
            server.close()
        for waiter in list(self.waiters):
            waiter.cancel()
            calls.have_ask_anew(waiter.client)

    def leave(self) -> None:
        """Nothing of it is left: what it shares with others is their affair."""
        self.health.leave(self)
        self.shares.leave()

    def close(self) -> None:
        """Close everything at once."""
        self.retired = True
        self.leave()
        for server in self.servers():
            server.close()
