"""Who listens to what in each shard of a pool; it outlives pools, which reloads replace."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError
from ..listeners import HubSnapshot, ListenerSnapshot
from ..printable import printable
from .hub import Hub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..engine.loop import Engine
    from .address_pool import AddressPool
    from .contracts import Connector


class Hubs:
    """The hubs of one (database, user) pair, made as somebody listens.

    Attributes:
        shards: the hubs by the numbers of their shards.
    """

    def __init__(self, engine: Engine, connector: Connector, name: str) -> None:
        self._engine: Final = engine
        self._connector: Final = connector
        self._name: Final = name
        self.shards: Final[dict[int, Hub]] = {}
        self._servers: list[list[AddressPool]] = []

    def use(self, servers: list[list[AddressPool]]) -> None:
        """Listen at the primaries among these from now on, which are given by shard."""
        self._servers = servers
        for shard in [shard for shard in self.shards if shard >= len(servers)]:
            text = f"shard {shard}, on which you listen, is not configured any more"
            self.shards.pop(shard).dismiss(RoutingError(text, sqlstate="57P01"))
        self.heed()

    def of(self, shard: int) -> Hub:
        """That of a shard."""
        found = self.shards.get(shard)
        if found is None:
            find = partial(self._primary, shard)
            found = Hub(self._engine, self._name, shard, self._connector, find)
            self.shards[shard] = found
        return found

    def _primary(self, shard: int) -> AddressPool | None:
        parts = self._servers[shard] if shard < len(self._servers) else []
        return next((part for part in parts if part.has_role and part.is_primary), None)

    def heed(self) -> None:
        """Something has changed with the servers."""
        for hub in self.shards.values():
            hub.heed()

    def maintain(self, now: float) -> None:
        """Periodic upkeep."""
        for hub in self.shards.values():
            hub.maintain(now)

    def let_go(self, part: AddressPool, is_old: Callable[[str], bool]) -> int:
        """Replace connections to certain addresses of a server; returns how many."""
        return sum(hub.let_go(part, is_old) for hub in self.shards.values())

    def reconnect(self, why: str) -> int:
        """Replace the connections; returns how many there were."""
        found = [hub for hub in self.shards.values() if hub.line is not None]
        for hub in found:
            hub.reconnect(why)
        return len(found)

    def snapshots(self, database: str, user: str) -> Iterator[ListenerSnapshot]:
        """The rows of SHOW LISTENERS, for the pool of this name."""
        for shard, hub in sorted(self.shards.items()):
            state, line = hub.state, hub.line
            for name, channel in sorted(hub.channels.items()):
                yield ListenerSnapshot(
                    database,
                    user,
                    shard,
                    printable(name.decode("utf-8", "replace")),
                    len(channel.ears),
                    channel.received,
                    channel.dropped,
                    state,
                    "" if line is None else line.label,
                    0 if line is None else line.pid,
                    hub.reconnects,
                )

    def totals(self, database: str, user: str) -> Iterator[HubSnapshot]:
        """What the metrics tell of each shard, for the pool of this name."""
        for shard, hub in sorted(self.shards.items()):
            yield HubSnapshot(
                database,
                user,
                shard,
                len(hub.channels),
                sum(len(channel.ears) for channel in hub.channels.values()),
                hub.received,
                hub.dropped,
                hub.line is not None,
                hub.reconnects,
            )

    def dismiss(self, error: RoutingError) -> None:
        """The pool is gone, and nobody can listen any more."""
        for hub in self.shards.values():
            hub.dismiss(error)

    def close(self) -> None:
        """Close all connections for good."""
        for hub in self.shards.values():
            hub.close()
