"""What holds the connections of a pool that has none left, in words.

Looked at once a second at most, however many clients get none: it goes through all connections.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from ..printable import printable
from ..protocol import codes
from ..queries import Fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .address_pool import AddressPool
    from .server import ServerConnection

# For so long an answer is good, in seconds.
_GOOD_FOR: Final = 1.0
# So many names are told of each kind, and so much of each.
_MOST_NAMES: Final = 3
_NAME_LIMIT: Final = 40

_RUNNING: Final = "running"
_IDLE_IN_TRANSACTION: Final = "idle in transaction"


class Holders:
    """The answer for one pool of connections.

    Attributes:
        text: how many connections are at what, for how long at most, for whom, and what these
            run or have run last, by the first word of the statement.
        hint: what to do about it.
        is_new: it has been found now, and is not that of a moment ago.
    """

    def __init__(self, pool: AddressPool, now: float) -> None:
        self._at = now
        self.is_new = True
        kinds: dict[str, list[ServerConnection]] = {}
        for server in pool.active:
            kinds.setdefault(_kind(server), []).append(server)
        told = [
            _told(kind, servers, now)
            for kind, servers in sorted(
                kinds.items(), key=lambda kind: (-len(kind[1]), kind[0])
            )
        ]
        if pool.tested:
            told.append(f"{len(pool.tested)} being cleaned")
        if pool.connecting:
            told.append(f"{pool.connecting} being opened")
        self.text = f"{pool.size} of {pool.settings.pool_size}: " + ", ".join(told or ["none"])
        idle = len(kinds.get(_IDLE_IN_TRANSACTION, ()))
        self.hint = "Raise pool_size or connect_timeout, or shorten the transactions."
        if idle * 2 > pool.size:
            self.hint = (
                "Look why these clients leave their transactions open; "
                "idle_client_in_transaction_timeout ends them."
            )

    def is_good(self, now: float) -> bool:
        """Whether it can be told once more."""
        return now - self._at < _GOOD_FOR


def holders(pool: AddressPool, now: float) -> Holders:
    """What holds the connections of a pool, as of a moment ago."""
    found = pool.holders
    if found is not None and found.is_good(now):
        found.is_new = False
        return found
    found = pool.holders = Holders(pool, now)
    return found


def holding(parts: Iterable[AddressPool], now: float) -> str:
    """What holds the connections of those pools that clients wait for, or ""."""
    found = []
    for part in parts:
        if part.waiters and part.address.index >= 0:
            known = part.holders
            is_known = known is not None and known.is_good(now)
            told = known if known is not None and is_known else Holders(part, now)
            found.append(f"{part.address.label}: {told.text}")
    return "; ".join(found)


def _kind(server: ServerConnection) -> str:
    if server.queue:
        return _RUNNING
    if server.status != codes.IDLE:
        return _IDLE_IN_TRANSACTION
    return "pinned" if server.is_pinned else "idle in session"


def _told(kind: str, servers: list[ServerConnection], now: float) -> str:
    longest = max(now - server.used_at for server in servers)
    names = ["" if server.client is None else server.client.label for server in servers]
    parts = [
        f"held for up to {longest:.0f} s",
        _counted([f'"{printable(name, _NAME_LIMIT)}"' for name in names]),
    ]
    statements = [found for found in (_statement(server, now) for server in servers) if found]
    if statements:
        parts.append(("" if kind == _RUNNING else "last ") + _counted(statements))
    return f"{len(servers)} {kind} ({'; '.join(parts)})"


def _statement(server: ServerConnection, now: float) -> str:
    """The first word of what a connection runs, or of what its client has run last there."""
    for segment in server.queue:
        if isinstance(segment.fingerprint, Fingerprint):
            return segment.fingerprint.kind
    if server.queue:
        return ""
    return "" if server.client is None else server.client.transaction(now)[1]


def _counted(words: list[str]) -> str:
    # In an order of their own, for the connections have none.
    counts = Counter(sorted(words))
    told = [f"{count} {word}" for word, count in counts.most_common(_MOST_NAMES)]
    return ", ".join([*told, "..."] if len(counts) > _MOST_NAMES else told)
