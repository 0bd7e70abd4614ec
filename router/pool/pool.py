"""A pool: one user's connections to all servers of all shards of one database."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Final

from ..config.values import Listen, PoolMode
from ..errors import InvalidShard, RouterError, ServerLost
from ..protocol import marks
from ..protocol.features import Features
from ..protocol.passwords import UserSecret
from ..protocol.prepared import StatementRegistry
from ..queries import ServerTables
from ..routing.types import Analysis, Role
from . import cleaning, laggards, moving, refusals, roles
from .address_pool import AddressPool
from .balancer import Candidates, Routes, ready_among
from .contracts import Waiter
from .discovery import Site, address_of, site_of
from .health import Healths
from .hubs import Hubs
from .lobbies import Lobbies
from .quotas import Quotas
from .readiness import Readiness
from .replay import CatchUp
from .session_pool import SessionAddressPool
from .states import ServerState
from .throttle import Throttle
from .two_phase import TwoPhase

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..config.effective import PoolSettings
    from ..engine.loop import Engine
    from ..protocol.prepared import Statement
    from ..routing.derived import Relation
    from ..routing.learned import Bodies
    from ..routing.router import QueryRouter
    from .address import Address
    from .catalogue import Catalogue
    from .contracts import Connector, Inspector, PoolClient
    from .server import ServerConnection

log = logging.getLogger("router.pool")


class Pool:
    """One (database, user) pair.

    Attributes:
        database, user: its name, as clients ask for it.
        shards: the address pools of each shard.
        router: where statements go.
        statements: prepared statements shared by its clients.
        readiness: what its servers have told that clients need to log in.
        is_session_mode, is_statement_mode, deferring: of its settings, quick to ask.
        follows_state: what a client leaves behind follows it, or keeps it where it is.
        unserved, slow: hold back lines about clients without a server, and slow statements.
        heed_after: statements are looked at that take so long, in seconds: to be logged, or all
            of them where some are traced.
        paused: clients have to wait until it is resumed.
        turned_away: clients that found max_waiting_clients before them.
        retired: replaced or gone; clients look for their pool again.
        retried_reads, prepared_anew: statements sent again: server lost, or columns others.
        reads_waited: reads that waited for a replica to have what their client has written.
        reads_to_primary: reads that went to the primary for that.
        features: which features of a session its clients use.
        hubs, is_listening: channels that one connection hears for all, and if there is one.
        inspector: the plugins that look at statements, if there are any.
        two_phase: its transactions on several shards that were left.
        ledger: the errors that its clients were answered with.
    """

    def __init__(
        self,
        engine: Engine,
        database: str,
        user: str,
        addresses: Sequence[Sequence[Address]],
        settings: PoolSettings,
        router: QueryRouter,
        connector: Connector,
        catalogue: Catalogue | None = None,
        healths: Healths | None = None,
        quotas: Quotas | None = None,
        hubs: Hubs | None = None,
    ) -> None:
        self.hubs: Final = hubs or Hubs(engine, connector, f"{database}/{user}")
        healths, quotas = healths or Healths(engine), quotas or Quotas()
        self._engine: Final = engine
        self._catalogue: Final = catalogue
        self.readiness: Final = Readiness()
        self.database: Final = database
        self.user: Final = user
        self.ledger: Final = engine.figures.faults.ledger(database, user)
        self._take_settings(settings)
        self.router: Final = router
        secret = UserSecret.of(settings.server_username, settings.server_password)
        make = SessionAddressPool if self.is_session_mode else AddressPool

        def new_part(address: Address) -> AddressPool:
            known = self.settings, secret, connector, healths.of(address), quotas
            return make(engine, address, *known)

        def new_lobby(nowhere: Address) -> AddressPool:
            lobby = AddressPool(engine, nowhere, self.settings, secret, connector)
            lobby.paused = self.paused
            return lobby

        self._new_part: Final = new_part
        self.shards: Final = [[new_part(address) for address in shard] for shard in addresses]
        # Those of servers that a shard has no more, with connections that are in use.
        self._leaving: list[AddressPool] = []
        self._lobbies: Final = Lobbies(database, new_lobby)
        self.unserved: Final = Throttle()
        self.slow: Final = Throttle(10)  # lines a second
        self.paused = self.retired = False
        self.turned_away = self.retried_reads = self.prepared_anew = 0
        self.reads_waited = self.reads_to_primary = 0
        self.features: Final = Features()
        self.inspector: Inspector | None = None
        self.two_phase: Final = TwoPhase(self)
        self.statements: Final[StatementRegistry[Analysis | None]] = StatementRegistry(
            settings.prepared_statements_cache_size, self._analyse, router.bare
        )
        self._routes: Final = Routes()
        self._catch_ups: Final[dict[int, CatchUp]] = {}
        for address_pool in self.address_pools():
            self._listen(address_pool)
        self.hubs.use(self.shards)
        if catalogue is not None:
            catalogue.join(self)

    def _listen(self, address_pool: AddressPool) -> None:
        """Be told what happens to a server."""
        address_pool.on_unreachable = self._unreachable
        address_pool.on_reached = self._reached
        address_pool.on_change = self._health_changed
        address_pool.on_told = self._told
        address_pool.on_let_go = self.hubs.let_go
        address_pool.on_schema_change = self.statements.clear
        address_pool.catalogue = self._catalogue
        counters, shard = address_pool.counters, address_pool.address.shard
        queries = self._engine.figures.queries
        counters.place = ServerTables(queries, self.database, self.user, shard)
        counters.ledger = self.ledger
        self._heed_pause(address_pool)

    def _take_settings(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.is_session_mode = settings.pool_mode is PoolMode.SESSION
        self.is_statement_mode = settings.pool_mode is PoolMode.STATEMENT
        self.follows_state = (
            settings.pin_session_state
            and settings.cleanup_server_connections
            and not self.is_session_mode
        )
        self.deferring = settings.deferring
        is_traced = self._engine.figures.traces is not None
        self.heed_after = 0.0 if is_traced else settings.log_after
        self.is_listening = self.follows_state and settings.listen is Listen.SHARED

    def __repr__(self) -> str:
        return f"<Pool {self.database}/{self.user} {self.shards!r}>"

    @property
    def renames_statements(self) -> bool:
        """Whether prepared statements follow their text.

        Not so in session mode, unless their shards have to be known.
        """
        is_wanted = not self.is_session_mode or self.router.finds_shards
        return is_wanted and self.settings.prepared_statements_cache_size > 0

    @property
    def waiting(self) -> int:
        """Clients that wait for a connection."""
        return sum(len(part.waiters) for part in (*self.address_pools(), *self._lobbies)) + sum(
            catch_up.waiting for catch_up in self._catch_ups.values()
        )

    def address_pools(self) -> list[AddressPool]:
        """All of them, shard by shard."""
        return [pool for shard in self.shards for pool in shard]

    def all_parts(self) -> list[AddressPool]:
        """Those, and those of servers that a shard has no more."""
        return [*self.address_pools(), *self._leaving]

    def change_servers(self, shard: int, sites: Sequence[Site]) -> None:
        """A shard has these servers now, all of them with the role "auto".

        Who was there keeps its connections. Transactions end on those that go.
        """
        parts = self.shards[shard]
        template = parts[0].address
        known = {site_of(part.address): part for part in parts}
        stay = [known.pop(site) for site in sites if site in known]
        come = [site for site in sites if all(site_of(part.address) != site for part in stay)]
        numbers = {part.address.index for part in (*stay, *self._leaving)}
        for site in come:
            number = min(set(range(len(numbers) + 1)) - numbers)
            numbers.add(number)
            part = self._new_part(address_of(site, template, number))
            stay.append(part)
            self._listen(part)
        parts[:] = sorted(stay, key=lambda part: part.address.index)
        self._routes.forget()
        for part in known.values():
            part.on_change = part.on_told = part.on_schema_change = None
            part.has_role = part.is_primary = False
            self._leaving.append(part)
        self._settle(shard)
        for part in known.values():
            part.retire()

    def _analyse(self, text: bytes) -> tuple[Analysis | None, marks.Glance]:
        return self.router.analyse(text), marks.of_text(text)

    # --- checkout

    def _find(self, shard: int | None, role: Role | None, *, is_read: bool) -> Candidates:
        """The servers for a route, as things are now."""
        if shard is not None and not 0 <= shard < len(self.shards):
            raise InvalidShard(
                f"shard {shard} is not configured, there are {len(self.shards)}",
                hint=f"Shard numbers go from 0 to {len(self.shards) - 1}.",
            )
        parts = self.address_pools() if shard is None else self.shards[shard]
        wanted = [part for part in parts if roles.fits(part, role)]
        is_auto = any(part.address.is_auto for part in parts)
        fallback: AddressPool | None = None
        if role is Role.REPLICA and self.settings.falls_back and is_read:
            fallback = next((part for part in parts if part.is_primary), None)
        if not wanted:
            if fallback is None and is_auto:
                number = parts[0].address.shard
                return Candidates([self._lobbies.roleless(number, self._autos(number))])
            if fallback is None:
                raise refusals.no_server(shard, role)
            wanted, fallback = [fallback], None
        usable = wanted
        if shard is not None:
            usable = [part for part in wanted if part.is_primary or not part.health.admin_ban]
        if not usable and fallback is None:
            raise refusals.all_banned(shard or 0, role)
        ready = ready_among(usable, fallback)
        if not ready:
            ready = [*usable, *([] if fallback is None else [fallback])]
            if shard is not None and is_read and fallback is None:
                ready = laggards.without_laggards(parts, ready)
                ready = ready or [self._lobbies.lagging(shard, usable)]
        return Candidates(
            ready,
            usable,
            fallback,
            least_busy=self.settings.least_busy,
        )

    def candidates_for(self, shard: int | None, role: Role | None, is_read: bool) -> Candidates:
        """The servers for a route; arguments and errors are those of `checkout`."""
        routes = self._routes
        last = routes.last
        if (
            last is not None
            and shard is routes.shard
            and role is routes.role
            and is_read is routes.is_read
        ):
            return last
        found = routes.get(shard, role, is_read)
        if found is None:
            found = self._find(shard, role, is_read=is_read)
            routes.put(shard, role, is_read, found)
        return found

    def checkout(
        self, client: PoolClient, shard: int | None, role: Role | None, is_read: bool = False
    ) -> ServerConnection | Waiter:
        """A server connection for a route, or the client's place behind others or in a queue.

        Args:
            client: who is to have it.
            shard: None is any.
            role: None is any.
            is_read: the primary would do for it as well as a replica, if that is allowed.

        Raises:
            RoutingError: there is no such shard.
            ServerUnavailable: no server with that role is configured.
            PoolError: max_waiting_clients are waiting.
        """
        candidates = self.candidates_for(shard, role, is_read)
        elsewhere: list[AddressPool] = []
        if shard is None and len(candidates.all) > 1:
            number = self._any_shard(candidates.all, elsewhere)
            candidates = self.candidates_for(number, role, is_read)
        return self.checkout_from(client, candidates, role, is_read, elsewhere)

    def checkout_from(
        self,
        client: PoolClient,
        candidates: Candidates,
        role: Role | None,
        is_read: bool,
        elsewhere: Sequence[AddressPool] = (),
    ) -> ServerConnection | Waiter:
        """The same among certain servers; `elsewhere` are others that would do if these fail.

        Raises:
            PoolError: max_waiting_clients are waiting.
        """
        ready = candidates.ready
        chosen = ready[0] if len(ready) == 1 else candidates.pick()
        sharing = chosen.sharing
        if sharing is not None and 0 < sharing.busy <= len(chosen.active):
            place = sharing.join_quick(client)
            if place is not None:
                return place
        server = chosen.take(client)
        if server is not None:
            return server
        if sharing is not None and (place := sharing.join(client)) is not None:
            return place
        settings, now = self.settings, self._engine.now
        limit = settings.max_waiting_clients
        if limit and self.waiting >= limit:
            self.turned_away += 1
            raise refusals.no_place(self.address_pools(), limit, now)
        until = now + (settings.query_wait_timeout or settings.connect_timeout)
        others = [*(part for part in candidates.all if part is not chosen), *elsewhere]
        waiter = Waiter(client, others, now, until)
        waiter.fallback, waiter.role, waiter.is_read = candidates.fallback, role, is_read
        chosen.enqueue(waiter)
        return waiter

    def draw_shard(self, role: Role | None, *, is_read: bool) -> int:
        """One of the shards, where any will do; errors are those of `checkout`."""
        return self._any_shard(self.candidates_for(None, role, is_read).all, [])

    def catch_up(self, shard: int) -> CatchUp:
        """Where reads of a shard wait for its replicas."""
        found = self._catch_ups.get(shard)
        if found is None:
            found = self._catch_ups[shard] = CatchUp(self._engine, self.shards[shard])
        return found

    def _any_shard(self, parts: list[AddressPool], elsewhere: list[AddressPool]) -> int:
        """One of the shards of some servers; `elsewhere` gets those that would do as well."""
        if self.settings.routing.default_shard != "random_healthy":
            return random.choice(parts).address.shard
        now = self._engine.now
        mixed = random.sample(parts, len(parts))
        mixed.sort(key=lambda part: part.health.recent_failures(now))
        number = mixed[0].address.shard
        elsewhere.extend(part for part in mixed if part.address.shard != number)
        return number

    def _health_changed(self, changed: AddressPool) -> None:
        """Choose candidates anew, and have those who wait wait where it is worth it."""
        self._routes.forget()
        self._heed_pause(changed)
        if changed.address.is_auto:
            self._settle(changed.address.shard)
        for part in self.address_pools():
            if part.waiters and part is not changed and not part.is_ready:
                moving.move_waiters(part, self._engine.now)
        if not changed.is_ready:
            moving.move_waiters(changed, self._engine.now)
        for part in (changed, *self._lobbies):
            for waiter in list(part.waiters) if part.lags or part.address.index < 0 else ():
                self._wait_elsewhere(waiter, part)
        self.hubs.heed()

    def _told(self, part: AddressPool) -> None:
        """A server has told how far it is."""
        if laggards.measure(self.shards[part.address.shard], part, self._engine.now):
            self._health_changed(part)

    # --- roles

    def _autos(self, shard: int) -> list[AddressPool]:
        return [part for part in self.shards[shard] if part.address.is_auto]

    def _settle(self, shard: int) -> None:
        """Find out who is what in a shard, and have those who wait wait for the right one."""
        parts = self._autos(shard)
        before = [(part.has_role, part.is_primary) for part in parts]
        lost = roles.settle(parts)
        self._lobbies.refresh(shard, parts)
        if before == [(part.has_role, part.is_primary) for part in parts]:
            return
        for part in lost:
            problem = part.health.role_problem or "it is a primary no more"
            lost_role = ServerLost(
                f"server connection to {part.address.label} was given up: {problem}",
                hint="Connect again: another server is the primary, or will be.",
            )
            roles.expel(part, lost_role)
        for part in (*parts, *self._lobbies):
            for waiter in list(part.waiters):
                if part.address.index < 0 or not roles.fits(part, waiter.role):
                    self._wait_elsewhere(waiter, part)

    def _wait_elsewhere(self, waiter: Waiter, part: AddressPool) -> None:
        """The server that a client waits for is none that it could have."""
        if waiter.pool is not part:
            return
        shard = part.address.shard
        candidates = self.candidates_for(shard, waiter.role, waiter.is_read)
        chosen = candidates.pick()
        if chosen is not part:
            waiter.others = [other for other in candidates.all if other is not chosen]
            waiter.fallback = candidates.fallback
            moving.send_on(part, waiter, chosen, self._engine.now)

    def _ask_for_news(self) -> None:
        """Ask the servers of shards that have no primary, and those that clients wait for."""
        for lobby in self._lobbies:
            for part in self.shards[lobby.address.shard] if lobby.waiters else ():
                part.health.doubt()
        for shard in range(len(self.shards)):
            parts = self._autos(shard)
            if parts and not any(part.is_primary and part.health.is_up for part in parts):
                for part in parts:
                    part.health.doubt()

    def _unreachable(self, address_pool: AddressPool, error: RouterError) -> None:
        self.readiness.tell()
        if self._catalogue is not None:
            self._catalogue.refresh(address_pool.address.shard)
        if not refusals.is_of_server(error) and error.line not in address_pool.complaints:
            # Once: it may be so for days, and is tried again all the time.
            address_pool.complaints.add(error.line)
            more = address_pool.address.fields(self.user, sqlstate=error.sqlstate)
            names = (self.database, self.user)
            log.warning("[%s/%s] no connection: %s", *names, error.line, extra=more)

    def _reached(self, address_pool: AddressPool, server: ServerConnection) -> None:
        self.readiness.reached(server, is_primary=address_pool.is_primary)

    @property
    def parameters(self) -> dict[str, str]:
        """What clients are told at login; empty until a server has told that."""
        return self.readiness.parameters

    @property
    def is_ready(self) -> bool:
        """Whether clients may log in at once."""
        return bool(self.readiness.parameters) and not self.readiness.is_over

    async def wait_ready(self) -> bool:
        """Wait until clients may log in; see `Readiness.wait`."""
        timeout = self.settings.server_login_timeout
        return await self.readiness.wait(self.address_pools(), timeout, self._is_told)

    def _is_told(self) -> bool:
        """Whether each shard has told about its tables, so that no statement is misjudged."""
        return self._catalogue is None or self._catalogue.is_complete

    def statement(
        self, body: bytes, context: str, rest: bytes = b""
    ) -> Statement[Analysis | None]:
        """The shared statement for the body of a Parse; see `StatementRegistry.get`."""
        return self.statements.get(body, context, rest)

    def statement_apart(self, body: bytes, rest: bytes = b"") -> Statement[Analysis | None]:
        """A statement for the body of a Parse that nobody else gets."""
        return self.statements.made(body, rest)

    # --- what servers know

    def learn(
        self, columns: Mapping[str, tuple[str, ...]], functions: Mapping[str, Bodies]
    ) -> None:
        """Route by the columns of tables, and by what is known of functions."""
        epoch = self.router.epoch
        self.router.learn_columns(columns)
        self.router.learn_functions(functions)
        if self.router.epoch != epoch:
            self.statements.clear()

    def learn_relations(self, relations: frozenset[Relation]) -> None:
        """Route by what is made of sharded tables."""
        epoch = self.router.epoch
        self.router.learn_relations(relations)
        if self.router.epoch != epoch:
            self.statements.clear()

    def is_changing(self, shard: int) -> bool:
        """Whether a client may be about to change the schema of a shard."""
        return any(
            server.catalogue_changed
            for part in self.shards[shard]
            for server in (*part.active, *part.tested)
        )

    def ask_servers(self) -> None:
        """Have idle connections tell what the catalogue wants to know."""
        if self._catalogue is None:
            return
        for part in self.address_pools():
            if part.idle and self._catalogue.is_due(part.address):
                server = part.idle[-1]
                part.move(server, ServerState.ACTIVE)
                server.used_at = self._engine.now
                server.catalogue_changed = True
                cleaning.clean(part, server)

    # --- life cycle

    def reconfigure(self, settings: PoolSettings) -> None:
        """Take new sizes and times; servers and credentials must be the same."""
        self._take_settings(settings)
        self._routes.forget()
        for lobby in self._lobbies:
            lobby.take_settings(settings)
        for address_pool in self.address_pools():
            address_pool.take_settings(settings)
            address_pool.complaints.clear()
            address_pool.oversized = address_pool.size > settings.pool_size
            address_pool.stopwatch.restart()
            address_pool.open_for_waiters()
            address_pool.fill()

    def leave(self) -> None:
        """Nothing is left of it: the health of its servers is others' affair."""
        for address_pool in self.all_parts():
            address_pool.leave()

    def pause(self) -> None:
        """Give no servers to clients, and close them as they come back."""
        self.paused = True
        for address_pool in (*self.address_pools(), *self._lobbies):
            self._heed_pause(address_pool)

    def resume(self) -> None:
        """Give servers to clients again, those excepted that are paused themselves."""
        self.paused = False
        for address_pool in (*self.address_pools(), *self._lobbies):
            self._heed_pause(address_pool)

    def _heed_pause(self, part: AddressPool) -> None:
        """Pause a server, or let it go on, as the pool and the server itself are paused."""
        is_paused = self.paused or part.health.is_paused
        if is_paused is part.paused:
            return
        part.paused = is_paused
        for server in list(part.idle) if is_paused else ():
            server.close()
        if not is_paused:
            part.resume()
            self.readiness.tell()
        self.hubs.heed()

    def retire(self) -> None:
        """Make room for another pool; clients in a transaction finish here."""
        self.retired = True
        for address_pool in (*self.address_pools(), *self._lobbies):
            address_pool.retire()
        for catch_up in self._catch_ups.values():
            catch_up.dismiss()
        self.readiness.end()

    def close(self) -> None:
        """Close all connections at once."""
        self.retired = self.readiness.is_over = True
        for address_pool in self.all_parts():
            address_pool.close()

    def maintain(self, now: float) -> None:
        """Periodic upkeep."""
        for address_pool in self.all_parts():
            address_pool.maintain(now)
        for part in [each for each in self._leaving if not each.size]:
            self._leaving.remove(part)
            part.leave()
        self._ask_for_news()
        self.hubs.maintain(now)
        # Statements that are refused until a shard has told of its tables get to no server.
        self.ask_servers()
        if self.router.refuses:
            self.two_phase.maintain(now)
