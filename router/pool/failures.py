"""Which servers have failed lately, and how often running."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .address import Address
    from .address_pool import AddressPool

# A failure is forgotten after so many seconds, or else nobody would find out that the server is
# well again.
_MEMORY: Final = 60.0


class Failures:
    """The servers of one pool that could not be connected to, since they last could."""

    def __init__(self) -> None:
        # How many times running, and when last, as time.monotonic().
        self._failed: dict[Address, tuple[int, float]] = {}

    def note(self, address: Address, now: float) -> None:
        """A server could not be connected to."""
        self._failed[address] = (self.count(address, now) + 1, now)

    def clear(self, address: Address) -> None:
        """A server has been connected to."""
        self._failed.pop(address, None)

    def count(self, address: Address, now: float) -> int:
        """How many times running it has failed lately."""
        count, last = self._failed.get(address, (0, now))
        if now - last < _MEMORY:
            return count
        self.clear(address)
        return 0

    def by_health(self, pools: Iterable[AddressPool], now: float) -> list[AddressPool]:
        """The pools, those with the fewest failures first; else in the order that they have."""
        if not self._failed:
            return list(pools)
        return sorted(pools, key=lambda pool: self.count(pool.address, now))
