"""Which of several servers a client should have: a decision over the state of their pools."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .address_pool import AddressPool


def order(candidates: Sequence[AddressPool], *, least_busy: bool) -> list[AddressPool]:
    """The candidates in the order in which to try them.

    They come in random order; with `least_busy` those with fewer connections at work first
    (load_balancing_mode "loc").
    """
    ordered = random.sample(candidates, len(candidates))
    if least_busy:
        ordered.sort(key=lambda pool: len(pool.active) + len(pool.tested_set))
    return ordered


def choose(ordered: Sequence[AddressPool]) -> AddressPool:
    """The one to take a connection from, or to wait for.

    The first that can serve without waiting for another client, be it by opening a connection,
    so that all servers get their share; else the one with the fewest waiters.
    """
    for pool in ordered:
        if pool.idle and not pool.waiters:
            return pool
        if pool.has_room:
            return pool
    return min(ordered, key=lambda pool: len(pool.waiters))
