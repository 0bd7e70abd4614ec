"""Which servers cannot be connected to, since when, and how often running."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .address import Address
    from .address_pool import AddressPool

# A failure is forgotten after so many seconds, or else nobody would find out that the server is
# well again.
_MEMORY: Final = 60.0


@dataclass(slots=True)
class Outage:
    """The time in which a server could not be connected to; times are time.monotonic().

    Attributes:
        attempts: how many have failed in all.
        running: how many of them lately.
    """

    since: float
    last: float
    attempts: int = 0
    running: int = 0


class Failures:
    """The servers of one pool that could not be connected to, since they last could."""

    def __init__(self) -> None:
        self._outages: dict[Address, Outage] = {}

    def note(self, address: Address, now: float) -> bool:
        """A server could not be connected to; returns whether that is news."""
        running = self.count(address, now) + 1
        outage = self._outages.get(address)
        is_news = outage is None
        if outage is None:
            outage = self._outages[address] = Outage(now, now)
        outage.attempts += 1
        outage.running = running
        outage.last = now
        return is_news

    def clear(self, address: Address) -> Outage | None:
        """A server has been connected to; returns what is over by that."""
        return self._outages.pop(address, None)

    def count(self, address: Address, now: float) -> int:
        """How many times running it has failed lately."""
        outage = self._outages.get(address)
        return outage.running if outage is not None and now - outage.last < _MEMORY else 0

    def by_health(self, pools: Iterable[AddressPool], now: float) -> list[AddressPool]:
        """The pools, those with the fewest failures first; else in the order that they have."""
        if not self._outages:
            return list(pools)
        return sorted(pools, key=lambda pool: self.count(pool.address, now))
