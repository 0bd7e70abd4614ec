"""Which of several servers a client should have: a decision over the state of their pools."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing.types import Role
    from .address_pool import AddressPool

# Numerical Recipes' linear congruential generator; its upper bits are good enough to spread.
_FACTOR: Final = 1664525
_ADDEND: Final = 1013904223
_MASK: Final = 0xFFFFFFFF


class Candidates:
    """The servers that a route may use, as things are: made anew when their health changes.

    Attributes:
        ready: those that get clients.
        all: these, and those that would do if the former fail.
        fallback: who else would do if none of these is well, or None.
    """

    __slots__ = ("_seed", "_total", "all", "fallback", "least_busy", "ready")

    def __init__(
        self,
        ready: Sequence[AddressPool],
        others: Sequence[AddressPool] = (),
        fallback: AddressPool | None = None,
        *,
        least_busy: bool = False,
    ) -> None:
        # Whose weight is 0 stands in for others only.
        weighty = [part for part in ready if part.address.weight]
        self.ready: Final = weighty or list(ready)
        self.all: Final = [
            *self.ready,
            *(each for each in (*ready, *others) if each not in self.ready),
        ]
        weights = {part.address.weight for part in weighty}
        self._total: Final = (
            sum(part.address.weight for part in weighty) if len(weights) > 1 else 0
        )
        self.fallback: Final = fallback
        self.least_busy: Final = least_busy
        self._seed = random.getrandbits(32)

    def _start(self, count: int) -> int:
        """The place of one of `count`, another one each time, by their weights."""
        self._seed = (self._seed * _FACTOR + _ADDEND) & _MASK
        number = self._seed >> 8
        if not self._total:
            return number % count
        ticket = number % self._total
        place = 0
        for part in self.ready:
            ticket -= part.address.weight
            if ticket < 0:
                break
            place += 1
        return place

    def pick(self) -> AddressPool:
        """The one to take a connection from, or to wait for.

        Beginning anywhere, the first that can serve without waiting for another client, be it
        by opening a connection, so that all servers get their share; else the one with the
        fewest waiters. With `least_busy` (load_balancing_mode "loc") the one with the fewest
        connections at work for its weight.
        """
        ready = self.ready
        count = len(ready)
        start = self._start(count)
        best: AddressPool | None = None
        least = 0.0
        for place in range(start, start + count):
            part = ready[place if place < count else place - count]
            if not part.serves_at_once:
                continue
            if not self.least_busy:
                return part
            load = (part.load + 1) / max(part.address.weight, 1)
            if best is None or load < least:
                best, least = part, load
        return self._shortest_queue() if best is None else best

    def _shortest_queue(self) -> AddressPool:
        shortest = self.ready[0]
        for part in self.ready:
            if len(part.waiters) < len(shortest.waiters):
                shortest = part
        return shortest


class Routes:
    """Where routes lead to, as far as that has been found out.

    Forgotten when the health of a server changes.

    Attributes:
        last: of the route that was asked for last, most often the next one as well.
        shard, role, is_read: that route.
    """

    __slots__ = ("_for_reads", "_known", "is_read", "last", "role", "shard")

    def __init__(self) -> None:
        # By shard and role, and those for reads that the primary may have, too; shard None
        # stands for all of them.
        self._known: dict[tuple[int | None, Role | None], Candidates] = {}
        self._for_reads: dict[tuple[int | None, Role | None], Candidates] = {}
        self.last: Candidates | None = None
        self.shard: int | None = None
        self.role: Role | None = None
        self.is_read = False

    def get(self, shard: int | None, role: Role | None, is_read: bool) -> Candidates | None:
        """What is known of a route."""
        found = (self._for_reads if is_read else self._known).get((shard, role))
        if found is not None:
            self._note(shard, role, is_read, found)
        return found

    def put(
        self, shard: int | None, role: Role | None, is_read: bool, found: Candidates
    ) -> None:
        """Remember where a route leads to."""
        (self._for_reads if is_read else self._known)[shard, role] = found
        self._note(shard, role, is_read, found)

    def _note(
        self, shard: int | None, role: Role | None, is_read: bool, found: Candidates
    ) -> None:
        self.last, self.shard, self.role, self.is_read = found, shard, role, is_read

    def forget(self) -> None:
        """Have all found out anew."""
        self._known.clear()
        self._for_reads.clear()
        self.last = None


def ready_among(parts: list[AddressPool], fallback: AddressPool | None) -> list[AddressPool]:
    """Those that are well; if none is, those whose bans can be ended, or who stands in."""
    found = [part for part in parts if part.is_ready]
    if not found:
        for part in parts:
            part.health.lift("no other replica is left")
        found = [part for part in parts if part.is_ready]
    if not found and fallback is not None and fallback.is_ready:
        found = [fallback]
    return found
