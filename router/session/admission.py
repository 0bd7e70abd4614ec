"""How many clients may be logged in, in all, of each database, and of each user."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ..errors import PoolError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..pool.pool import Pool

# So many of those who have the places are named to who gets none.
_MOST_NAMES: Final = 3

TOTAL: Final = "max_client_conn"
BY_DATABASE: Final = "max_db_client_connections"
BY_USER: Final = "max_user_client_connections"


class Admission:
    """The places of clients; administrators need none, so they can always log in.

    Attributes:
        pools: clients by their database and user.
        databases, users: the same, added up.
        refused: how many were turned away, by the setting and whom it limits.
    """

    def __init__(self) -> None:
        self.pools: Final[Counter[tuple[str, str]]] = Counter()
        self.databases: Final[Counter[str]] = Counter()
        self.users: Final[Counter[str]] = Counter()
        self.refused: Final[Counter[tuple[str, str]]] = Counter()
        self.count = 0

    def check(self, limit: int) -> None:
        """See whether there is a place at all, before it is known who the client is.

        Raises:
            PoolError: there is none.
        """
        if 0 < limit <= self.count:
            self.refused[TOTAL, ""] += 1
            # PostgreSQL's words. Who has the places is not for those who have proven nothing.
            raise PoolError(
                "sorry, too many clients already",
                detail=f"The router takes {limit} clients (max_client_conn).",
                hint="Try again later; administrators can still log in.",
            )

    def admit(self, pool: Pool, limit: int) -> None:
        """Give a client of a pool a place, which `leave` frees.

        Raises:
            PoolError: there is none.
        """
        self.check(limit)  # others may have come while it proved who it is
        settings, database, user = pool.settings, pool.database, pool.user
        if 0 < settings.max_db_client_connections <= self.databases[database]:
            held = {name: n for (of, name), n in self.pools.items() if of == database}
            raise self._refusal(
                BY_DATABASE, "database", database, settings.max_db_client_connections, held
            )
        if 0 < settings.max_user_client_connections <= self.users[user]:
            held = {name: n for (name, of), n in self.pools.items() if of == user}
            raise self._refusal(
                BY_USER, "role", user, settings.max_user_client_connections, held
            )
        self._add(database, user, 1)

    def leave(self, database: str, user: str) -> None:
        """A client is gone that was admitted."""
        self._add(database, user, -1)

    def _add(self, database: str, user: str, number: int) -> None:
        self.count += number
        for counter, key in ((self.databases, database), (self.users, user)):
            counter[key] += number
            if not counter[key]:
                del counter[key]
        self.pools[database, user] += number
        if not self.pools[database, user]:
            del self.pools[database, user]

    def _refusal(
        self, key: str, kind: str, name: str, limit: int, held: Mapping[str, int]
    ) -> PoolError:
        self.refused[key, name] += 1
        return PoolError(
            f'too many connections for {kind} "{name}"',
            detail=f"There are {sum(held.values())} of {limit} ({key}): {listed(held)}.",
            hint=f"Let clients share connections, or raise {key}.",
        )

    @property
    def holders(self) -> str:
        """Who has most of the places, for the log."""
        return listed({f"{name}/{user}": n for (name, user), n in self.pools.items()})


def listed(held: Mapping[str, int]) -> str:
    """Who has most of something, in words."""
    told = [f"{count} {name}" for name, count in Counter(held).most_common(_MOST_NAMES)]
    if len(held) > _MOST_NAMES:
        told.append("...")
    return ", ".join(told) or "nobody"
