"""A pool: one user's connections to all servers of all shards of one database."""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING, Final

import trio

from ..config.values import PoolMode
from ..errors import InvalidShard, RouterError, ServerUnavailable
from ..protocol import marks
from ..protocol.passwords import UserSecret
from ..protocol.prepared import StatementRegistry
from ..routing.types import Analysis, Role
from . import balancer, cleaning, refusals
from .address_pool import AddressPool
from .bans import Bans
from .contracts import Waiter
from .failures import Failures
from .server import ServerState
from .throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
        parameters: what its servers report at login, for clients that log in.
        is_session_mode, is_statement_mode: pool_mode, quick to ask.
        failures: servers that could not be connected to, for random_healthy.
        unserved: holds back lines about clients that get no server.
        retired: replaced or gone; clients look for their pool again.
        inspector: the plugins that look at statements, if there are any.
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
    ) -> None:
        self._engine: Final = engine
        self._catalogue: Final = catalogue
        self._news = trio.Event()  # replaced at each outcome of opening a connection
        self.database: Final = database
        self.user: Final = user
        self._take_settings(settings)
        self.router: Final = router
        password = settings.server_password
        secret = UserSecret(
            settings.server_username,
            None if password is None else password.get_secret_value(),
        )
        self.shards: Final = [
            [AddressPool(engine, address, settings, secret, connector) for address in shard]
            for shard in addresses
        ]
        self.bans: Final = Bans()
        self.failures: Final = Failures()
        self.unserved: Final = Throttle()
        self.parameters: dict[str, str] = {}
        self.retired = False
        self.inspector: Inspector | None = None
        self.statements: Final[StatementRegistry[Analysis | None]] = StatementRegistry(
            settings.prepared_statements_cache_size, self._analyse
        )
        # Sets that the route decides alone, by (shard, role); shard None stands for all of
        # them.
        self._sets: dict[tuple[int | None, Role | None], list[AddressPool]] = {}
        self._roles: dict[Role | None, Callable[[AddressPool], bool]] = {
            None: lambda pool: True,
            Role.PRIMARY: lambda pool: pool.address.is_primary,
            Role.REPLICA: lambda pool: not pool.address.is_primary,
        }
        for address_pool in self.address_pools():
            address_pool.on_unreachable = self._unreachable
            address_pool.on_reached = self._reached
            address_pool.on_schema_change = self.statements.clear
            address_pool.catalogue = catalogue
        if catalogue is not None:
            catalogue.join(self)

    def _take_settings(self, settings: PoolSettings) -> None:
        self.settings = settings
        self.is_session_mode = settings.pool_mode is PoolMode.SESSION
        self.is_statement_mode = settings.pool_mode is PoolMode.STATEMENT

    def __repr__(self) -> str:
        return f"<Pool {self.database}/{self.user} {self.shards!r}>"

    @property
    def renames_statements(self) -> bool:
        """Whether prepared statements follow their text.

        Not so in session mode, unless their shards have to be known.
        """
        is_wanted = not self.is_session_mode or self.router.finds_shards
        return is_wanted and self.settings.prepared_statements_cache_size > 0

    def address_pools(self) -> list[AddressPool]:
        """All of them, shard by shard."""
        return [pool for shard in self.shards for pool in shard]

    def _analyse(self, text: bytes) -> tuple[Analysis | None, marks.Glance]:
        return self.router.analyse(text), marks.of_text(text)

    # --- checkout

    def _candidates(self, shard: int | None, role: Role | None) -> list[AddressPool]:
        found = self._sets.get((shard, role))
        if found is None:
            if shard is not None and not 0 <= shard < len(self.shards):
                raise InvalidShard(
                    f"shard {shard} is not configured, there are {len(self.shards)}",
                    hint=f"Shard numbers go from 0 to {len(self.shards) - 1}.",
                )
            pools = self.address_pools() if shard is None else self.shards[shard]
            found = self._sets[shard, role] = list(filter(self._roles[role], pools))
        return found

    def _healthy(self, candidates: list[AddressPool]) -> list[AddressPool]:
        if not self.bans:
            return candidates
        now = self._engine.now
        healthy = [pool for pool in candidates if not self.bans.is_banned(pool.address, now)]
        # When all are banned any is better than none: one of them may have come back.
        return healthy or candidates

    def checkout(
        self, client: PoolClient, shard: int | None, role: Role | None
    ) -> ServerConnection | Waiter:
        """A server connection for a route, or the client's place in the queue for one.

        Raises:
            RoutingError: there is no such shard.
            ServerUnavailable: no server with that role is configured.
        """
        candidates = self._candidates(shard, role)
        if len(candidates) == 1:
            chosen, others = candidates[0], []
        else:
            if not candidates:
                raise refusals.no_server(shard, role)
            elsewhere: list[AddressPool] = []
            if shard is None:
                number = random.choice(candidates).address.shard
                if self.settings.routing.default_shard == "random_healthy":
                    mixed = random.sample(candidates, len(candidates))
                    elsewhere = self.failures.by_health(mixed, self._engine.now)
                    number = elsewhere[0].address.shard
                    elsewhere = [part for part in elsewhere if part.address.shard != number]
                candidates = self._candidates(number, role)
            healthy = self._healthy(candidates)
            ordered = balancer.order(healthy, least_busy=self.settings.least_busy)
            chosen = balancer.choose(ordered)
            others = [pool for pool in ordered if pool is not chosen] + elsewhere
        server = chosen.take()
        if server is not None:
            return server
        now = self._engine.now
        waiter = Waiter(client, others, now, now + self.settings.connect_timeout)
        chosen.enqueue(waiter)
        return waiter

    def _unreachable(self, address_pool: AddressPool, error: RouterError) -> None:
        self._tell_news()
        address, now = address_pool.address, self._engine.now
        if self._catalogue is not None:
            self._catalogue.refresh(address.shard)
        duration = self.settings.ban_time
        is_banned = self.bans.ban(address, error.message, now, duration)
        if self.failures.note(address, now):
            # Once: it may be down for days, and is tried again all the time.
            left_out = f"; it is left out for {duration:g} s" if is_banned else ""
            log.warning(
                "[%s/%s] no connection: %s%s", self.database, self.user, error.line, left_out
            )

    def _reached(self, address_pool: AddressPool, server: ServerConnection) -> None:
        address = address_pool.address
        self.bans.lift(address)
        outage = self.failures.clear(address)
        if outage is not None:
            log.info(
                "[%s/%s] %s can be connected to again, after %.0f s and %d failed attempts",
                self.database,
                self.user,
                address.label,
                self._engine.now - outage.since,
                outage.attempts,
            )
        if address_pool.address.is_primary or not self.parameters:
            self.parameters = server.baseline
        self._tell_news()

    def _tell_news(self) -> None:
        self._news.set()
        self._news = trio.Event()

    async def wait_ready(self) -> None:
        """Wait until a server has told the parameters that clients get at login.

        Raises:
            ServerUnavailable: no server can be reached; the cause of the last attempt is in it.
        """
        pools, is_first = self.address_pools(), False
        if not self.parameters:
            for address_pool in pools:
                address_pool.open_spare()
            is_first = True
        with trio.move_on_after(self.settings.server_login_timeout):
            while (not self.parameters or (is_first and not self._is_told)) and any(
                pool.connecting for pool in pools
            ):
                await self._news.wait()
        if not self.parameters:
            causes = [pool.last_error.message for pool in pools if pool.last_error is not None]
            raise ServerUnavailable(
                f'Pool down for database: "{self.database}", user: "{self.user}": '
                + (causes[0] if causes else "no server answered in time")
            )

    @property
    def _is_told(self) -> bool:
        """Whether each shard has told about its tables, so that no statement is misjudged."""
        return self._catalogue is None or self._catalogue.is_complete

    def statement(self, body: bytes, context: str) -> Statement[Analysis | None]:
        """The shared statement for the body of a Parse; see `StatementRegistry.get`."""
        return self.statements.get(body, context)

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
            for server in (*part.active, *part.tested_set)
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
        for address_pool in self.address_pools():
            address_pool.settings = settings
            address_pool.complaints.clear()
            address_pool.oversized = address_pool.size > settings.pool_size
            address_pool.fill()

    def retire(self) -> None:
        """Make room for another pool; clients in a transaction finish here."""
        self.retired = True
        for address_pool in self.address_pools():
            address_pool.retire()

    def close(self) -> None:
        """Close all connections at once."""
        self.retired = True
        for address_pool in self.address_pools():
            address_pool.close()

    def maintain(self, now: float) -> None:
        """Periodic upkeep."""
        for address_pool in self.address_pools():
            address_pool.maintain(now)
        # Statements may be refused until a shard has told of its tables, and so never get to
        # a server that could.
        self.ask_servers()
