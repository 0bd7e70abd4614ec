"""Connections to a server that several pools have together, where that is limited.

A connection counts in three quotas: with all those to its server (max_server_connections), with
those of all users of its database (max_db_connections), and with those that its user has in all
databases (max_user_connections). A pool that needs one while a quota is full

- takes the place of the connection that has been idle for longest in another pool, or else
- is noted in `wanting`. Then others give connections up as they come back from their clients:
  those that nobody waits for, those of pools that have at least two more than the one that
  wants, and, to a pool that has none at all, the one whose own clients have not waited as long.

So among pools that all want more the connections spread evenly, and nobody waits for good, as
long as transactions end.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config.effective import PoolSettings
    from .address import Address
    from .address_pool import AddressPool

# So many pools are named to those who get no connection.
_MOST_NAMES: Final = 3


class Quota:
    """Connections that count together.

    Attributes:
        key: the setting that limits them.
        name: what they have in common.
        used: how many there are, those that are being opened among them.
        parts: the pools that have them.
        wanting: those of them that want more than there may be, the first first.
        evictions: connections that were closed to make room for another pool's.
        refused: clients that have got none because of it.
    """

    __slots__ = (
        "evictions",
        "is_busy",
        "key",
        "name",
        "parts",
        "refused",
        "used",
        "wanting",
    )

    def __init__(self, key: str, name: str) -> None:
        self.key: Final = key
        self.name: Final = name
        self.used = 0
        self.parts: Final[dict[AddressPool, None]] = {}
        self.wanting: Final[dict[AddressPool, None]] = {}
        self.evictions = 0
        self.refused = 0
        self.is_busy = False

    def __repr__(self) -> str:
        return f"<Quota {self.key} of {self.name} [{self.used} used]>"

    def want(self, part: AddressPool) -> None:
        """A pool wants more than there may be."""
        is_first = not self.wanting
        self.wanting[part] = None
        if is_first:
            self._tell()

    def stop_wanting(self, part: AddressPool) -> None:
        """A pool has what it wants, or wants it no more."""
        if part in self.wanting:
            del self.wanting[part]
            if not self.wanting:
                self._tell()

    def _tell(self) -> None:
        for part in self.parts:
            part.is_pressed = part.shares.is_wanted

    def longest_idle(self, besides: AddressPool) -> AddressPool | None:
        """Who has the connection that has been idle for longest; min_pool_size is spared."""
        found: AddressPool | None = None
        best = (True, 0.0)
        for part in self.parts:
            if part.idle and part is not besides:
                is_needed = part.size <= part.settings.min_pool_size
                rank = (is_needed, part.idle[0].used_at)
                if found is None or rank < best:
                    found, best = part, rank
        return found

    def offer(self) -> None:
        """There is room again: let those open who want to, the neediest first."""
        if self.is_busy or not self.wanting:
            return
        self.is_busy = True
        try:
            for part in sorted(self.wanting, key=_need):
                self.stop_wanting(part)
                part.shares.use()  # what is still too much is noted again
        finally:
            self.is_busy = False

    @property
    def holders(self) -> str:
        """Who has the connections, in words."""
        sizes = Counter({part: part.size for part in self.parts if part.size})
        told = [
            f"{size} {part.settings.pool}/{part.settings.user}"
            for part, size in sizes.most_common(_MOST_NAMES)
        ]
        if len(sizes) > _MOST_NAMES:
            told.append("...")
        return ", ".join(told) or "nobody"


def _need(part: AddressPool) -> tuple[int, float]:
    return part.size, part.shares.wanted_since


class Quotas:
    """All quotas, which outlive the pools that a reload replaces."""

    def __init__(self) -> None:
        self._quotas: Final[dict[tuple[str, str], Quota]] = {}

    def __iter__(self) -> Iterator[Quota]:
        return iter(self._quotas.values())

    def of(self, key: str, name: str) -> Quota:
        """The quota of that name."""
        found = self._quotas.get((key, name))
        if found is None:
            found = self._quotas[key, name] = Quota(key, name)
        return found

    def forget_unused(self) -> None:
        """Drop those that no pool is left of."""
        for key in [key for key, quota in self._quotas.items() if not quota.parts]:
            del self._quotas[key]


class Shares:
    """What one pool has of the quotas that it belongs to.

    Attributes:
        server, database, user: these.
        spare_since: since when the pool wants a connection that no client waits for, or None.
    """

    __slots__ = ("_part", "database", "server", "spare_since", "user")

    def __init__(self, part: AddressPool, quotas: Quotas) -> None:
        address: Address = part.address
        where = address.where
        settings = part.settings
        self._part: Final = part
        self.spare_since: float | None = None
        self.server: Final = quotas.of("max_server_connections", where)
        self.database: Final = quotas.of("max_db_connections", f"{settings.pool} {where}")
        self.user: Final = quotas.of("max_user_connections", f"{settings.user} {where}")
        for quota in self.all:
            quota.parts[part] = None
        part.is_pressed = self.is_wanted

    @property
    def all(self) -> tuple[Quota, Quota, Quota]:
        """The three of them."""
        return self.server, self.database, self.user

    def count(self, number: int) -> None:
        """So many connections more."""
        self.server.used += number
        self.database.used += number
        self.user.used += number

    def leave(self) -> None:
        """The pool is no more."""
        for quota in self.all:
            quota.stop_wanting(self._part)
            quota.parts.pop(self._part, None)

    @property
    def is_full(self) -> bool:
        """Whether one more would be one too many."""
        settings = self._part.settings
        return (
            0 < settings.max_server_connections <= self.server.used
            or 0 < settings.max_db_connections <= self.database.used
            or 0 < settings.max_user_connections <= self.user.used
        )

    def full(self) -> list[Quota]:
        """The quotas that have no room."""
        settings = self._part.settings
        return [quota for quota in self.all if 0 < limit_of(settings, quota) <= quota.used]

    @property
    def is_wanted(self) -> bool:
        """Whether some pool, maybe this one, waits for room."""
        return bool(self.server.wanting or self.database.wanting or self.user.wanting)

    @property
    def wants_room(self) -> bool:
        """Whether the pool would open a connection if others had fewer."""
        part = self._part
        return (part.in_vain is not None or self.spare_since is not None) and part.may_open

    @property
    def wanted_since(self) -> float:
        """Since when somebody waits for the pool, as time.monotonic()."""
        waiters = self._part.waiters
        if waiters:
            return waiters[0].since
        return math.inf if self.spare_since is None else self.spare_since

    def use(self) -> None:
        """Others have given something up: open what is wanted."""
        if self.spare_since is not None:
            self._part.open_spare()
        self._part.open_for_waiters()

    def claim(self) -> bool:
        """Make room for one more; where that cannot be, note that it is wanted."""
        part, full = self._part, self.full()
        for quota in full:
            if quota.longest_idle(besides=part) is None:
                for each in full:
                    each.want(part)
                return False
        busy = [quota for quota in self.all if not quota.is_busy]
        for quota in busy:
            quota.is_busy = True  # the room is nobody else's
        try:
            for quota in full:
                victim = quota.longest_idle(besides=part)
                if victim is not None and quota.used >= limit_of(part.settings, quota):
                    quota.evictions += 1
                    victim.idle[0].close()
        finally:
            for quota in busy:
                quota.is_busy = False
        return not self.is_full

    def offer(self) -> None:
        """A connection is gone: somebody may open one instead."""
        for quota in self.all:
            quota.offer()

    @property
    def is_due(self) -> bool:
        """Whether a connection that comes back now had better make room for another pool's."""
        part = self._part
        return any(self._has_heir(quota, part) for quota in self.all if quota.wanting)

    def _has_heir(self, quota: Quota, part: AddressPool) -> bool:
        for other in list(quota.wanting):
            if other is part:
                continue
            if not other.shares.wants_room:
                quota.stop_wanting(other)
                continue
            is_better_off = (
                not part.waiters
                or other.size + 1 < part.size
                or (not other.size and other.shares.wanted_since < self.wanted_since)
            )
            # It may need the place of yet another one, too.
            if is_better_off and all(part in full.parts for full in other.shares.full()):
                return True
        return False


def limit_of(settings: PoolSettings, quota: Quota) -> int:
    """What the setting of a quota is for a pool; 0 is no limit."""
    limit: int = getattr(settings, quota.key)
    return limit
