"""What the pools of all users of one database have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..routing.activity import Activity
from .catalogue import Catalogue, Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..config.effective import PoolSettings
    from ..routing.router import QueryRouter
    from .address import Address


class Database:
    """One [pools.NAME].

    Attributes:
        catalogue: what is learned from its servers; None if nothing is.
        activity: what has been written to it lately; None if that does not matter.
    """

    def __init__(self, name: str) -> None:
        self._name: Final = name
        self._addresses: list[list[Address]] = []
        self.catalogue: Catalogue | None = None
        self.activity: Activity | None = None
        self._times: tuple[float, float, float] | None = None

    def activity_for(
        self, settings: PoolSettings, clock: Callable[[], float]
    ) -> Activity | None:
        """The activity for a pool: that of the others, unless its times have changed."""
        times = (
            settings.db_activity_init_delay,
            settings.db_activity_ttl,
            settings.table_mutation_cache_ttl,
        )
        if not settings.db_activity_based_routing:
            self.activity = None
        elif self.activity is None or self._times != times:
            delay, ttl, table_ttl = times
            self.activity = Activity(clock, init_delay=delay, ttl=ttl, table_ttl=table_ttl)
        self._times = times
        return self.activity

    def catalogue_for(
        self,
        addresses: Sequence[Sequence[Address]],
        router: QueryRouter,
        settings: PoolSettings,
    ) -> Catalogue | None:
        """The catalogue for a pool: that of the others, unless other things are wanted."""
        wanted = Wanted(
            router.wanted_tables, settings.learn_functions, router.omnisharded_tables
        )
        servers = [list(shard) for shard in addresses]
        old, is_same = self.catalogue, self._addresses == servers
        if old is None or old.wanted != wanted or not is_same:
            made = Catalogue(self._name, servers, wanted) if wanted else None
            if made is not None and old is not None and is_same:
                made.inherit(old)
            self.catalogue, self._addresses = made, servers
        return self.catalogue
