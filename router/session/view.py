"""What the admin database and the metrics read: snapshots of everything."""

from __future__ import annotations

import time
from itertools import chain
from typing import TYPE_CHECKING, Final

from ..config.values import Listen
from ..snapshots import TimeoutSnapshot
from .activity import (
    error_snapshots,
    histogram_snapshots,
    query_snapshots,
    transaction_snapshots,
)
from .snapshots import (
    address_snapshots,
    ban_snapshots,
    health_snapshots,
    host_snapshots,
    multiplexing_snapshots,
    patroni_snapshots,
    pool_snapshots,
    prepared_snapshot,
    routing_snapshots,
    server_snapshots,
    sharded_snapshots,
    two_phase_snapshots,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..engine.loop import Engine
    from ..hosts import HostSnapshot, PatroniSnapshot
    from ..listeners import HubSnapshot, ListenerSnapshot
    from ..multiplexing import MultiplexingSnapshot
    from ..pool.registry import PoolRegistry
    from ..protocol.features import FeatureSnapshot
    from ..protocol.prepared import PreparedSnapshot
    from ..snapshots import (
        AddressSnapshot,
        BanSnapshot,
        ClientSnapshot,
        ErrorSnapshot,
        HealthSnapshot,
        HistogramSnapshot,
        LimitSnapshot,
        PeerSnapshot,
        PoolSnapshot,
        QuerySnapshot,
        RoutingSnapshot,
        ServerSnapshot,
        ShardedSnapshot,
        TransactionSnapshot,
    )
    from ..traces import TracesSnapshot
    from ..two_phase import TwoPhaseSnapshot
    from .clients import Clients


class RouterView:
    """The running router as others see it."""

    def __init__(
        self,
        registry: PoolRegistry,
        clients: Clients,
        administrators: Callable[[], list[ClientSnapshot]],
        engine: Engine,
        limits: Callable[[], list[LimitSnapshot]],
        peers: Callable[[], list[PeerSnapshot]],
    ) -> None:
        self._registry: Final = registry
        self._clients: Final = clients
        self._administrators: Final = administrators
        self._engine: Final = engine
        self._limits: Final = limits
        self._peers: Final = peers
        self._listening: Callable[[], list[tuple[int, str, int]]] = list

    def listens(self, sockets: Callable[[], list[tuple[int, str, int]]]) -> None:
        """Clients come in by these: descriptor, address, port; 0 of a Unix socket."""
        self._listening = sockets

    def listening(self) -> list[tuple[int, str, int]]:
        """What the rows of SHOW FDS begin with."""
        return self._listening()

    def pools(self) -> list[PoolSnapshot]:
        """The rows of SHOW POOLS."""
        return pool_snapshots(self._registry, self._clients, time.monotonic())

    def addresses(self) -> list[AddressSnapshot]:
        """The rows of SHOW DATABASES and SHOW STATS."""
        return address_snapshots(self._registry)

    def servers(self) -> list[ServerSnapshot]:
        """The rows of SHOW SERVERS."""
        return server_snapshots(self._registry, self._clients, time.monotonic())

    def health(self) -> list[HealthSnapshot]:
        """The rows of SHOW HEALTH."""
        return health_snapshots(self._registry.healths, time.monotonic())

    def hosts(self) -> list[HostSnapshot]:
        """The rows of SHOW DNS_HOSTS."""
        return host_snapshots(self._registry.healths)

    def patroni(self) -> list[PatroniSnapshot]:
        """The rows of SHOW PATRONI."""
        return patroni_snapshots(self._registry.discovery.clusters(), time.monotonic())

    def two_phase(self) -> list[TwoPhaseSnapshot]:
        """The rows of SHOW TWO_PHASE."""
        return two_phase_snapshots(self._registry)

    def bans(self) -> list[BanSnapshot]:
        """The rows of SHOW BANS."""
        return ban_snapshots(self._registry, time.monotonic())

    def timeouts(self) -> list[TimeoutSnapshot]:
        """The rows of SHOW TIMEOUTS."""
        timeouts = self._engine.figures.timeouts
        return [
            TimeoutSnapshot(kind, key, sqlstate, timeouts.count(kind))
            for kind, key, sqlstate in timeouts.KINDS
        ]

    def prepared(self) -> list[PreparedSnapshot]:
        """The rows of SHOW PREPARED_STATEMENTS."""
        return [prepared_snapshot(pool) for pool in self._registry]

    def features(self) -> list[FeatureSnapshot]:
        """The rows of SHOW SESSION_FEATURES."""
        now = time.monotonic()
        return [
            row
            for pool in self._registry
            for row in pool.features.snapshots(
                pool.database,
                pool.user,
                now,
                is_listening=pool.settings.listen is Listen.SHARED,
            )
        ]

    def listeners(self) -> list[ListenerSnapshot]:
        """The rows of SHOW LISTENERS."""
        return [
            row
            for pool in self._registry
            for row in pool.hubs.snapshots(pool.database, pool.user)
        ]

    def hubs(self) -> list[HubSnapshot]:
        """What the metrics tell of the rows of SHOW LISTENERS."""
        return [
            row for pool in self._registry for row in pool.hubs.totals(pool.database, pool.user)
        ]

    def peers(self) -> list[PeerSnapshot]:
        """The rows of SHOW PEERS."""
        return self._peers()

    def limits(self) -> list[LimitSnapshot]:
        """The rows of SHOW LIMITS."""
        return self._limits()

    def sharded(self) -> list[ShardedSnapshot]:
        """The rows of SHOW SHARDED_TABLES."""
        return sharded_snapshots(self._registry)

    def transactions(self) -> list[TransactionSnapshot]:
        """The rows of SHOW TRANSACTIONS."""
        return transaction_snapshots(self._clients, time.monotonic())

    def traces(self) -> TracesSnapshot | None:
        """What has become of traced statements, if any are noted."""
        traces = self._engine.figures.traces
        return None if traces is None else traces.snapshot()

    def histograms(self) -> list[HistogramSnapshot]:
        """Those of the metrics."""
        return histogram_snapshots(self._engine)

    def errors(self) -> list[ErrorSnapshot]:
        """The rows of SHOW ERRORS."""
        return error_snapshots(self._engine.figures.faults, time.monotonic(), time.time())

    def queries(self) -> Iterator[QuerySnapshot]:
        """The rows of SHOW QUERIES."""
        return query_snapshots(self._engine.figures.queries)

    def multiplexing(self) -> list[MultiplexingSnapshot]:
        """The rows of SHOW MULTIPLEXING."""
        return multiplexing_snapshots(self._registry)

    def routing(self) -> list[RoutingSnapshot]:
        """The rows of SHOW ROUTING."""
        return routing_snapshots(self._registry)

    def each_client(self) -> Iterator[ClientSnapshot]:
        """The rows of SHOW CLIENTS, one by one, those of the admin database among them."""
        return chain(self._clients.snapshots(time.monotonic), self._administrators())
