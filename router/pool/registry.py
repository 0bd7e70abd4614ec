"""All pools, built from the configuration and rebuilt when it changes."""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

from ..config.effective import PoolSettings, pool_settings
from ..config.values import ServerRole
from ..routing.router import QueryRouter
from ..stats import AVERAGE_WINDOW
from .address import Address
from .control import Control
from .database import Database
from .health import Healths
from .pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..config.model import Config
    from ..config.plugins import Plugins
    from ..config.pools import PoolConfig
    from ..engine.loop import Engine
    from .contracts import Connector, Inspector

    InspectorMaker = Callable[[Plugins, str, str], Inspector | None]

log = logging.getLogger("router.pool")


class PoolRegistry:
    """The pools by (database, user).

    Attributes:
        healths: what is known about their servers.
        control: what an administrator has done to them.
    """

    def __init__(
        self, engine: Engine, connector: Connector, inspector_of: InspectorMaker
    ) -> None:
        """Make an empty registry; `inspector_of` makes of a pool's plugins what it needs."""
        self._engine: Final = engine
        self._connector: Final = connector
        self._inspector_of: Final = inspector_of
        self._pools: dict[tuple[str, str], Pool] = {}
        self._databases: dict[str, Database] = {}
        self.healths: Final = Healths(engine)
        # Replaced pools whose clients are still in a transaction.
        self._retired: list[Pool] = []
        self._window_started = engine.now
        self.control: Final = Control(self)

    def __iter__(self) -> Iterator[Pool]:
        return iter(self._pools.values())

    def __len__(self) -> int:
        return len(self._pools)

    def get(self, database: str, user: str) -> Pool | None:
        """The pool for what a client asked for."""
        return self._pools.get((database, user))

    def retired(self) -> list[Pool]:
        """Those that have been replaced, with connections that are not closed yet."""
        return list(self._retired)

    def apply(self, config: Config) -> None:
        """Make the pools what the configuration says.

        A pool that keeps its servers and its credentials keeps its connections and takes the
        new sizes and times; any other change replaces it. Nobody is cut off: transactions
        finish on the old one.
        """
        pools: dict[tuple[str, str], Pool] = {}
        replaced: list[Pool] = []
        for pool_config in config.pools.values():
            addresses = addresses_of(pool_config)
            for user in pool_config.users:
                key = pool_config.name, user.username
                settings = pool_settings(config, pool_config, user)
                old = self._pools.get(key)
                if old is not None and _is_compatible(old, settings, addresses):
                    if old.settings != settings:
                        old.reconfigure(settings)
                    pools[key] = old
                    continue
                if old is not None:
                    replaced.append(old)
                pools[key] = self._build(key, addresses, settings)
        gone = [pool for key, pool in self._pools.items() if key not in pools]
        self._pools = pools
        self._set_inspectors(config, replaced)
        # Clients that waited in the old ones look for their pool again: it must be there.
        for pool in (*replaced, *gone):
            log.info("[%s/%s] pool is replaced or gone", pool.database, pool.user)
            self._retired.append(pool)
            pool.retire()
        self._ask_servers()

    def _ask_servers(self) -> None:
        """What servers have told may not be true any more."""
        used = {pool.database for pool in self._pools.values()}
        self._databases = {name: self._databases[name] for name in used}
        for database in self._databases.values():
            if database.catalogue is not None:
                database.catalogue.refresh()
        for pool in self._pools.values():
            pool.ask_servers()

    def _set_inspectors(self, config: Config, replaced: list[Pool]) -> None:
        """Switch plugins, for those clients as well that are still at a pool of before."""
        made: dict[tuple[str, str], Inspector | None] = {}
        for pool in (*self._pools.values(), *replaced, *self._retired):
            key = pool.database, pool.user
            pool_config = config.pools.get(pool.database)
            if pool_config is None:
                continue
            if key not in made:
                made[key] = self._inspector_of(config.plugins_of(pool_config), *key)
            pool.inspector = made[key]

    def _build(
        self, key: tuple[str, str], addresses: list[list[Address]], settings: PoolSettings
    ) -> Pool:
        database = self._databases.setdefault(key[0], Database(key[0]))
        activity = database.activity_for(settings, lambda: self._engine.now)
        router = QueryRouter(settings.routing, activity)
        catalogue = database.catalogue_for(addresses, router, settings)
        pool = Pool(
            self._engine,
            *key,
            addresses,
            settings,
            router,
            self._connector,
            catalogue,
            self.healths,
        )
        if self.control.is_paused(*key):
            pool.pause()
        return pool

    def open_spares(self) -> None:
        """Open a connection to each server that has none: a bad one is found out early."""
        for pool in self._pools.values():
            for part in pool.address_pools():
                part.open_spare()

    def maintain(self) -> None:
        """Upkeep; call it about every second, inside a round of the engine."""
        now = self._engine.now
        for pool in self._pools.values():
            pool.maintain(now)
        for pool in self._retired:
            pool.maintain(now)
        for health in self.healths:
            health.look(now)
        done = [
            pool
            for pool in self._retired
            if not any(part.size for part in pool.address_pools())
        ]
        for pool in done:
            self._retired.remove(pool)
            pool.leave()
        self.healths.forget_unused()
        window = now - self._window_started
        if window >= AVERAGE_WINDOW:
            self._window_started = now
            for pool in self._pools.values():
                for part in pool.address_pools():
                    part.counters.close_window(window)

    def close(self) -> None:
        """Close all server connections."""
        for pool in (*self._pools.values(), *self._retired):
            pool.close()


def _is_compatible(old: Pool, new: PoolSettings, addresses: list[list[Address]]) -> bool:
    """Whether connections and routing of a pool can stay as they are."""
    was = old.settings
    same = (
        "server_username",
        "server_password",
        "server_tls",
        "verify_server_certificate",
        "server_tls_ca_file",
        "statement_timeout",
        "pool_mode",
        "prepared_statements_cache_size",
        "learn_functions",
        "db_activity_based_routing",
        "db_activity_init_delay",
        "db_activity_ttl",
        "table_mutation_cache_ttl",
        "routing",
    )
    return [[part.address for part in shard] for shard in old.shards] == addresses and all(
        getattr(was, name) == getattr(new, name) for name in same
    )


def addresses_of(pool: PoolConfig) -> list[list[Address]]:
    """The servers of each shard."""
    found = []
    for number, shard in enumerate(pool.shards):
        counts: Counter[ServerRole] = Counter()
        servers = []
        for index, server in enumerate(shard.servers):
            servers.append(
                Address(
                    pool=pool.name,
                    shard=number,
                    index=index,
                    number=counts[server.role],
                    is_primary=server.role is ServerRole.PRIMARY,
                    host=server.host,
                    port=server.port,
                    database=shard.database,
                    is_auto=server.role is ServerRole.AUTO,
                    weight=server.weight,
                )
            )
            counts[server.role] += 1
        found.append(servers)
    return found
