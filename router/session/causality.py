"""What one client has written, and so must see in what it reads, on whichever server.

A transaction at a primary counts as a write unless it was one statement, or one batch, that is
known to only read. After it the server tells where its log ends, before it is given back and
before the client's next statement. From then on the client gets no replica of that shard that
is not known to have replayed as much: `admits` is asked of each server that it is to have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ServerUnavailable
from ..pool.balancer import Candidates
from ..pool.replay import ask_position
from ..pool.server import ServerConnection
from ..routing.positions import UNKNOWN, after_write, both, token_of
from ..routing.types import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..pool.address_pool import AddressPool
    from ..pool.contracts import PoolClient, Waiter
    from ..pool.pool import Pool
    from ..protocol.segments import Segment
    from ..routing.positions import Position, Positions
    from ..routing.types import Route


class Causality:
    """What reads of one client must see.

    Attributes:
        needed: the position in the log, by shard; never changed in place.
        is_due: something may have been written, and nobody has asked where that is.
        asks: that is being asked.
        has_told: the server has just answered that, and can be given back.
        deadline: until when the statement may wait that asks for a server again, or None.
    """

    __slots__ = ("asks", "deadline", "has_told", "is_due", "needed")

    def __init__(self, needed: Positions) -> None:
        self.needed: Positions = needed
        self.is_due = False
        self.asks = False
        self.has_told = False
        self.deadline: float | None = None

    @classmethod
    def of(cls, pool: Pool, before: Causality | None = None) -> Causality | None:
        """What is known of a client of the pool, if that is wanted."""
        if not pool.settings.sees_own_writes:
            return None
        return cls({} if before is None else before.needed)

    # --- writes

    def note(
        self, server: ServerConnection, segment: Segment, route: Route | None, *, is_later: bool
    ) -> None:
        """A segment has been answered; `is_later`: it was not the first of its transaction."""
        if not server.pool.is_primary or (segment.extended and not segment.has_bound):
            return
        if is_later or route is None or not route.is_proven:
            self.is_due = True

    def ask(self, server: ServerConnection, now: float, told: Callable[[], None]) -> None:
        """Ask where in the log the client's writes end at the latest."""
        self.is_due, self.asks = False, True
        shard = server.pool.address.shard

        def take(position: Position) -> None:
            self._written(shard, position)
            told()

        ask_position(server, now, take)

    def lose(self, shard: int) -> None:
        """Nobody will tell where the client's last write is."""
        self._written(shard, UNKNOWN)

    def _written(self, shard: int, position: Position) -> None:
        self.is_due = self.asks = False
        position = after_write(self.needed.get(shard), position)
        self.needed = {**self.needed, shard: position}

    # --- the token

    @property
    def token(self) -> str:
        """What another client needs to see as much."""
        return token_of(self.needed)

    def need(self, positions: Positions) -> None:
        """See at least as much as that from now on."""
        more = {shard: both(self.needed.get(shard), each) for shard, each in positions.items()}
        self.needed = {**self.needed, **more}

    # --- reads

    def admits(self, server: ServerConnection) -> bool:
        """Whether the client may have a server, for whatever it needs."""
        part, needed = server.pool, self.needed
        if not needed or part.is_primary:
            return True
        position = needed.get(part.address.shard)
        if position is None:
            return True
        return server.instance is not None and server.instance.has(position)

    def checkout(
        self, pool: Pool, client: PoolClient, route: Route, now: float
    ) -> ServerConnection | Waiter:
        """Do what `Pool.checkout` does, with a server that has what the client must see.

        Raises:
            RouterError: there is none.
        """
        deadline, self.deadline = self.deadline, None
        shard, role, is_read = route.shard, route.role, route.is_read
        if not self.needed or role is Role.PRIMARY:
            return pool.checkout(client, shard, role, is_read)
        if shard is None:
            shard = pool.draw_shard(role, is_read=is_read)
        position = self.needed.get(shard)
        if position is None:
            return pool.checkout(client, shard, role, is_read)
        candidates = pool.candidates_for(shard, role, is_read)
        well = [part for part in candidates.ready if part.is_ready]
        if not well:  # as without us: `admits` is asked when one of them comes
            return pool.checkout_from(client, candidates, role, is_read)
        good = _having(well, position)
        if good:
            if len(good) < len(well):
                candidates = Candidates(good, least_busy=candidates.least_busy)
            outcome = pool.checkout_from(client, candidates, role, is_read)
            if len(good) < len(well):
                pool.catch_up(shard).glance(now)  # others may have it by now
            if not isinstance(outcome, ServerConnection) or self.admits(outcome):
                return outcome
            outcome.pool.give_on(outcome)  # it leads to another server at the same address
        is_first = deadline is None
        if deadline is None:
            deadline = now + pool.settings.read_your_writes_timeout
        if now < deadline and _may_get(well, position):
            pool.reads_waited += is_first
            return self.wait(pool, client, shard, now, deadline)
        if position.timeline:
            pool.catch_up(shard).glance(now)
        return self._late(pool, client, shard, route, position)

    def wait(
        self, pool: Pool, client: PoolClient, shard: int, since: float, deadline: float
    ) -> Waiter:
        """Wait for a replica of the shard to have what the client must see."""
        return pool.catch_up(shard).wait(client, self.needed[shard], since, deadline)

    def _late(
        self, pool: Pool, client: PoolClient, shard: int, route: Route, position: Position
    ) -> ServerConnection | Waiter:
        """No replica has it in time: go to the primary, if that may have the statement."""
        if route.role is None or (route.is_read and pool.settings.falls_back):
            pool.reads_to_primary += 1
            return pool.checkout(client, shard, Role.PRIMARY)
        why = f"no replica of shard {shard} has what the client has written, {position}"
        raise ServerUnavailable(
            why,
            hint="Raise read_your_writes_timeout, or let the primary read: SET SERVER ROLE TO "
            'AUTO and replica_fallback = "primary".',
        )

    def outlook(self, pool: Pool, route: Route) -> tuple[Role | None, str]:
        """For people: to whom a route leads now, and why, if that is for what was written."""
        shard = route.shard
        position = None if shard is None else self.needed.get(shard)
        if position is None or shard is None or route.role is Role.PRIMARY:
            return route.role, ""
        candidates = pool.candidates_for(shard, route.role, route.is_read)
        well = [part for part in candidates.ready if part.is_ready]
        if not well or _having(well, position):
            return route.role, ""
        falls_back = route.role is None or (route.is_read and pool.settings.falls_back)
        if not position.timeline:
            why = "where the client's last write is in the log is not known"
        elif not _may_get(well, position):
            why = f"no replica is known to be on timeline {position.timeline} of {position.lsn}"
        else:
            limit = round(pool.settings.read_your_writes_timeout * 1000)
            then = "then goes to the primary" if falls_back else "then fails"
            why = f"no replica is known to have replayed {position.lsn} yet"
            return route.role, f"{why}: it waits for that up to {limit} ms, {then}"
        return (Role.PRIMARY if falls_back else route.role), why


def _having(parts: list[AddressPool], position: Position) -> list[AddressPool]:
    """Those that are the primary, or known to have replayed that much."""
    return [part for part in parts if part.is_primary or part.health.instances.have(position)]


def _may_get(parts: list[AddressPool], position: Position) -> bool:
    """Whether one of these may have that before long."""
    return position.timeline > 0 and any(
        part.health.instances.may_get(position) for part in parts
    )
