"""Clients that wait for one server, and go to another that would do for them as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import calls

if TYPE_CHECKING:
    from ..errors import RouterError
    from .address_pool import AddressPool
    from .contracts import Waiter


def move_waiters(pool: AddressPool, now: float) -> None:
    """Let those who wait go to another server that is well, if one would do."""
    for waiter in list(pool.waiters):
        found = following(pool, waiter)
        if found is not None and waiter.pool is pool:
            send_on(pool, waiter, found, now)


def send_on(pool: AddressPool, waiter: Waiter, to: AddressPool, now: float) -> None:
    """Have one who waits here wait for another server."""
    pool.waiters.remove(waiter)
    waiter.pool = None
    move_on(pool, waiter, to, now)


def disappoint(pool: AddressPool, error: RouterError | None, now: float) -> None:
    """Send waiters elsewhere; with nowhere to go they fail if there is an error."""
    move_waiters(pool, now)
    if error is None:
        return
    waiting = list(pool.waiters)
    pool.waiters.clear()
    for waiter in waiting:
        waiter.pool = None
    for waiter in waiting:
        calls.disappoint(waiter.client, error)


def following(pool: AddressPool, waiter: Waiter) -> AddressPool | None:
    """Where a waiter might have more luck."""
    found: AddressPool | None = None
    for part in waiter.others:
        if part is not pool and part.is_ready:
            if part.serves_at_once:
                return part
            if found is None:
                found = part
    fallback = waiter.fallback
    if found is None and not pool.is_ready and fallback is not None and fallback.is_ready:
        return fallback if fallback is not pool else None
    return found


def last_moment(pool: AddressPool, waiter: Waiter) -> float:
    """Until when one waits at most, whatever servers are tried."""
    settings = pool.settings
    if settings.query_wait_timeout:
        return waiter.since + settings.query_wait_timeout
    return waiter.since + settings.connect_timeout * len({pool, *waiter.others})


def move_on(pool: AddressPool, waiter: Waiter, to: AddressPool, now: float) -> None:
    """Let a waiter try another server, with as much time again, but not for ever."""
    is_lobby = pool.address.index < 0
    if pool not in waiter.others and pool is not waiter.fallback and not is_lobby:
        waiter.others.append(pool)
    server = to.take(waiter.client)
    if server is None:
        last, settings = last_moment(pool, waiter), pool.settings
        patience = settings.query_wait_timeout or settings.connect_timeout
        waiter.deadline = min(now + patience, last)
        to.enqueue(waiter)
    elif not calls.hand(waiter.client, server):
        to.release(server)
