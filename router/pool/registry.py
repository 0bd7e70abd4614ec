"""All pools, built from the configuration and rebuilt when it changes."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..routing.router import QueryRouter
from ..stats import AVERAGE_WINDOW
from .control import Control
from .database import Database
from .discovery import Discovery, Site, site_of
from .health import Healths
from .hubs import Hubs
from .planning import Action, plan_pools, pools_of
from .pool import Pool
from .quotas import Quotas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ..config.effective import PoolSettings
    from ..config.model import Config
    from ..config.plugins import Plugins
    from ..engine.loop import Engine
    from .address import Address
    from .contracts import Connector, Inspector
    from .planning import Key, PoolPlan, Wanted

    InspectorMaker = Callable[[Plugins, str, str], Inspector | None]

log = logging.getLogger("router.pool")


class PoolRegistry:
    """The pools by (database, user).

    Attributes:
        healths: what is known about their servers.
        quotas: what they may have of these together.
        control: what an administrator has done to them.
        discovery: finds the servers of those that Patroni manages.
    """

    def __init__(
        self, engine: Engine, connector: Connector, inspector_of: InspectorMaker
    ) -> None:
        """Make an empty registry; `inspector_of` makes of a pool's plugins what it needs."""
        self._engine: Final = engine
        self._connector: Final = connector
        self._inspector_of: Final = inspector_of
        self._pools: dict[tuple[str, str], Pool] = {}
        self._wanted: dict[Key, Wanted] = {}
        self._databases: dict[str, Database] = {}
        self._hubs: dict[Key, Hubs] = {}
        self.healths: Final = Healths(engine)
        self.quotas: Final = Quotas()
        self.discovery: Final = Discovery(engine, self)
        # By database and shard: the servers that have been found there.
        self._found: dict[tuple[str, int], Sequence[Site]] = {}
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

    def apply(self, config: Config) -> tuple[PoolPlan, ...]:
        """Make the pools what the configuration says, as `planning` decides; returns that.

        Nobody is cut off: transactions finish on a pool that is replaced or gone.
        """
        wanted = pools_of(config)
        plans = plan_pools(self._wanted, wanted)
        self._wanted = wanted
        pools: dict[Key, Pool] = {}
        for plan in plans:
            if plan.wanted is None:
                continue
            settings, old = plan.wanted.settings, self._pools.get(plan.key)
            if old is None or plan.action is Action.REPLACE:
                pools[plan.key] = self._build(plan.key, plan.wanted.addresses, settings)
                continue
            if old.settings != settings:
                old.reconfigure(settings)
            pools[plan.key] = old
        replaced = [self._pools[plan.key] for plan in plans if plan.action is Action.REPLACE]
        gone = [self._pools[plan.key] for plan in plans if plan.action is Action.DROP]
        self._pools = pools
        self._set_inspectors(config, replaced)
        # Clients that waited in the old ones look for their pool again: it must be there.
        for pool in (*replaced, *gone):
            self._retired.append(pool)
            pool.retire()
        for pool in gone:
            hubs = self._hubs.pop((pool.database, pool.user))
            text = f'the pool "{pool.database}" of "{pool.user}" is not configured any more'
            hubs.dismiss(RoutingError(text, sqlstate="3D000"))
        self._ask_servers()
        self.discovery.use(config)
        return plans

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
            self.quotas,
            self._hubs.setdefault(key, Hubs(self._engine, self._connector, "/".join(key))),
        )
        for (name, shard), sites in self._found.items():
            if name == key[0] and shard < len(pool.shards):
                pool.change_servers(shard, sites)
        if self.control.is_paused(*key):
            pool.pause()
        return pool

    # --- servers that are found

    def change_servers(self, key: tuple[str, int], sites: Sequence[Site]) -> None:
        """A shard of a database has these servers from now on."""
        self._found[key] = sites
        for pool in self._with_shard(key):
            pool.change_servers(key[1], sites)

    def restore_servers(self, key: tuple[str, int]) -> None:
        """A shard has the servers of its configuration again."""
        if self._found.pop(key, None) is None:
            return
        for pool in self._with_shard(key):
            shard = self._wanted[pool.database, pool.user].addresses[key[1]]
            pool.change_servers(key[1], [site_of(address) for address in shard])

    def doubt_servers(self, key: tuple[str, int]) -> None:
        """The servers of a shard may have changed their roles."""
        for pool in self._with_shard(key):
            for part in pool.shards[key[1]]:
                part.health.doubt()

    def _with_shard(self, key: tuple[str, int]) -> list[Pool]:
        database, shard = key
        return [p for p in self if p.database == database and shard < len(p.shards)]

    def open_spares(self) -> None:
        """Open a connection to each server that has none: a bad one is found out early."""
        for pool in self._pools.values():
            for part in pool.address_pools():
                part.open_spare()

    def maintain(self) -> None:
        """Upkeep; call it about every second, inside a round of the engine."""
        now = self._engine.now
        for pool in (*self._pools.values(), *self._retired):
            self._engine.attempt(partial(pool.maintain, now))
        for health in self.healths:
            self._engine.attempt(partial(health.look, now))
        done = [
            pool for pool in self._retired if not any(part.size for part in pool.all_parts())
        ]
        for pool in done:
            self._retired.remove(pool)
            pool.leave()
        self.healths.forget_unused()
        self.quotas.forget_unused()
        window = now - self._window_started
        if window >= AVERAGE_WINDOW:
            self._window_started = now
            for pool in self._pools.values():
                for part in pool.address_pools():
                    part.counters.close_window(window)

    def close(self) -> None:
        """Close all server connections."""
        for hubs in self._hubs.values():
            hubs.close()
        for pool in (*self._pools.values(), *self._retired):
            pool.close()
