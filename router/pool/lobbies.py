"""Where clients of a pool wait for whom no server will do, as things are.

A lobby is a pool of connections to nowhere: it has what queues need, such as time limits and
pauses, and never a connection. Who waits there goes to a server as soon as one will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ServerUnavailable
from . import laggards, roles
from .address import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from .address_pool import AddressPool

# Why no server will do: the places of lobbies among the servers of a shard.
ROLELESS: Final = -1
LAGGING: Final = -2


class Lobbies:
    """The lobbies of one pool, which are made when they are needed for the first time."""

    def __init__(self, database: str, make: Callable[[Address], AddressPool]) -> None:
        self._database: Final = database
        self._make: Final = make
        self._places: Final[dict[tuple[int, int], AddressPool]] = {}

    def __iter__(self) -> Iterator[AddressPool]:
        return iter(self._places.values())

    def roleless(self, shard: int, autos: Sequence[AddressPool]) -> AddressPool:
        """For whom no server of a shard is known to have the role."""
        lobby = self._place(shard, ROLELESS)
        why = roles.unknown(shard, autos)
        lobby.last_error = ServerUnavailable(why, hint="SHOW HEALTH has what servers say.")
        return lobby

    def lagging(self, shard: int, parts: Sequence[AddressPool]) -> AddressPool:
        """For reads that only a replica may have, while those that are well lag."""
        lobby = self._place(shard, LAGGING)
        lobby.last_error = laggards.too_far(shard, parts)
        return lobby

    def refresh(self, shard: int, autos: Sequence[AddressPool]) -> None:
        """The servers of a shard have told something: who waits for a role is to know it."""
        if (shard, ROLELESS) in self._places:
            self.roleless(shard, autos)

    def _place(self, shard: int, number: int) -> AddressPool:
        lobby = self._places.get((shard, number))
        if lobby is None:
            is_auto = number == ROLELESS
            nowhere = Address(
                self._database, shard, number, 0, False, "", 0, "", is_auto=is_auto
            )
            lobby = self._places[shard, number] = self._make(nowhere)
            lobby.is_open = False
        return lobby
