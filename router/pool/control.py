"""What an administrator has done to pools: it outlives the pools, which a reload replaces."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import ClientError, RouterError
from . import upkeep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .address_pool import AddressPool
    from .pool import Pool


class Pools(Protocol):
    """All pools, as the registry has them."""

    def __iter__(self) -> Iterator[Pool]:
        """Those that serve clients."""

    def retired(self) -> list[Pool]:
        """Those that have been replaced, with connections that are not closed yet."""


class Selection:
    """The pools that a command is about: all of them, those of a database, or one.

    Attributes:
        database, user: None stands for any.
    """

    __slots__ = ("database", "user")

    def __init__(self, database: str | None = None, user: str | None = None) -> None:
        self.database: Final = database
        self.user: Final = user

    @property
    def is_all(self) -> bool:
        """Whether all pools are meant, and those to come."""
        return self.database is None

    def has(self, database: str, user: str) -> bool:
        """Whether a pool is among them."""
        return self.database in (None, database) and self.user in (None, user)


class Control:
    """Pauses pools and lets them go on, renews and ends their connections.

    Nothing here waits: whether it has come to pass is to be asked.
    """

    def __init__(self, pools: Pools) -> None:
        self._pools: Final = pools
        self._all_paused = False
        self._paused: set[tuple[str, str]] = set()
        self._disabled: set[str] = set()

    def select(self, selection: Selection) -> list[Pool]:
        """The pools in question.

        Raises:
            ClientError: there are none.
        """
        found = [pool for pool in self._pools if selection.has(pool.database, pool.user)]
        if not found and not selection.is_all:
            if selection.user is None:
                raise ClientError(f"no such database: {selection.database}", sqlstate="3D000")
            # In the words of PgCat.
            raise ClientError(
                f"No pool configured for database: {selection.database}, "
                f"user: {selection.user}",
                sqlstate="3D000",
            )
        return found

    def with_retired(self, selection: Selection) -> list[Pool]:
        """And those that a reload has replaced, where transactions may still be open."""
        retired = self._pools.retired()
        return [
            *self.select(selection),
            *(pool for pool in retired if selection.has(pool.database, pool.user)),
        ]

    # --- pausing

    def is_paused(self, database: str, user: str) -> bool:
        """Whether a pool that is made now begins its life paused."""
        return self._all_paused or (database, user) in self._paused

    def pause(self, selection: Selection) -> list[Pool]:
        """Give no servers to clients any more; returns those that did until now."""
        found = self.select(selection)
        news = [pool for pool in found if not pool.paused]
        self._all_paused |= selection.is_all
        self._paused.update((pool.database, pool.user) for pool in found)
        for pool in news:
            pool.pause()
        return news

    def is_drained(self, selection: Selection) -> bool:
        """Whether no connection to a server is left; also if they have been resumed since."""
        try:
            found = self.with_retired(selection)
        except RouterError:
            return True  # a reload has removed them
        return all(_is_empty(pool) for pool in found if pool.paused or pool.retired)

    def resume(self, selection: Selection) -> list[Pool]:
        """Give servers to clients again; returns those that did not until now."""
        found = self.select(selection)
        news = [pool for pool in found if pool.paused]
        if selection.is_all:
            self._all_paused = False
            self._paused.clear()
        elif self._all_paused:
            # All but these stay as they are.
            self._all_paused = False
            self._paused = {(pool.database, pool.user) for pool in self._pools}
        self._paused.difference_update((pool.database, pool.user) for pool in found)
        for pool in news:
            pool.resume()
        return news

    # --- renewing

    def reconnect(self, selection: Selection) -> list[Pool]:
        """Replace each connection as soon as its client lets go of it."""
        found = self.select(selection)
        for pool in found:
            for part in pool.address_pools():
                reconnect(part)
            pool.hubs.reconnect("RECONNECT")
        return found

    def is_renewed(self, selection: Selection) -> bool:
        """Whether none is left that is to be replaced, by RECONNECT or a reload."""
        try:
            found = self.with_retired(selection)
        except RouterError:
            return True
        return not any(
            is_retiring(part) or (part.retired and part.size)
            for pool in found
            for part in pool.all_parts()
        )

    def close_servers(self, pools: Iterable[Pool]) -> int:
        """Close all connections at once, whoever has them; returns how many."""
        count = 0
        for pool in pools:
            for part in pool.all_parts():
                for server in part.servers():
                    server.close()
                    count += 1
            if not pool.retired:
                count += pool.hubs.reconnect("its connections were closed by a command")
        return count

    # --- new clients

    def disable(self, database: str) -> bool:
        """Let no new clients of a database log in; returns whether that is news."""
        self.select(Selection(database))
        is_news = database not in self._disabled
        self._disabled.add(database)
        return is_news

    def enable(self, database: str) -> bool:
        """Let them log in again; returns whether that is news."""
        self.select(Selection(database))
        is_news = database in self._disabled
        self._disabled.discard(database)
        return is_news

    def is_disabled(self, database: str) -> bool:
        """Whether new clients are refused."""
        return database in self._disabled

    def check_enabled(self, database: str) -> None:
        """See whether somebody may log in.

        Raises:
            ClientError: nobody may.
        """
        if database in self._disabled:
            # What PostgreSQL says of a database that does not allow connections.
            raise ClientError(
                f'database "{database}" is not currently accepting connections',
                sqlstate="55000",
                hint="An administrator has disabled it: ENABLE lets clients in again.",
            )


def _is_empty(pool: Pool) -> bool:
    return not any(part.size for part in pool.all_parts())


def reconnect(part: AddressPool) -> None:
    """Replace each connection to a server, at once or as soon as it is released."""
    part.generation += 1
    upkeep.phase_out(part.servers())
    part.resume()


def is_retiring(part: AddressPool) -> bool:
    """Whether a connection is left that is to be replaced."""
    return any(server.expires_at == -math.inf for server in part.servers())
