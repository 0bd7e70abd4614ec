"""Closing connections whose time is over, opening others in their place, checking idle ones."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from . import cleaning
from .states import ServerState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..stats import Timeouts
    from .address_pool import AddressPool
    from .server import ServerConnection

log = logging.getLogger("router.pool")


def check(pool: AddressPool, server: ServerConnection) -> None:
    """See whether a connection that is idle still leads to somebody."""
    pool.move(server, ServerState.TESTED)
    pool.checked.add(server)
    server.used_at = asked_at = pool.engine.now
    server.send_query(b"")

    def expire() -> None:
        if server in pool.checked and server.used_at == asked_at:
            more = server.fields()
            log.info("%r: no answer to a check, closing it", server, extra=more)
            pool.health.doubt()
            server.close()

    pool.engine.call_later(pool.settings.healthcheck_timeout, expire)


def check_idle(pool: AddressPool, ip: str | None = None) -> None:
    """See whether those that are idle still lead to somebody, or those to one address."""
    for server in [each for each in pool.idle if ip in (None, each.ip)]:
        check(pool, server)


def maintain(pool: AddressPool, now: float, timeouts: Timeouts) -> None:
    """Close what has been idle or has lived for too long, and look after clean-ups."""
    if pool.settings.min_pool_size:
        _replace(pool, now)
    for server in list(pool.idle):
        surplus = pool.size > pool.settings.min_pool_size
        if is_over(pool, server, now):
            if server.expires_at != -math.inf:
                timeouts.note("server_lifetime")
            server.close()
        elif surplus and now - server.used_at > pool.settings.idle_timeout > 0:
            timeouts.note("server_idle")
            server.close()
    for server in list(pool.tested):
        cleaning.hurry(pool, server, now)


def is_over(pool: AddressPool, server: ServerConnection, now: float) -> bool:
    """Whether a connection has lived for long enough, and need not wait for its successor.

    It waits if min_pool_size would be missed without it, and there is room for one more.
    """
    if server.expires_at > now:
        return False
    least = pool.settings.min_pool_size
    if server.expires_at == -math.inf or pool.size - pool.connecting > least:
        return True
    is_full = pool.shares.is_full and not pool.connecting
    return is_full or least >= pool.settings.pool_size


def phase_out(servers: Iterable[ServerConnection]) -> int:
    """End connections, at once or when their clients let go of them; how many it is new for."""
    count = 0
    for server in servers:
        count += server.expires_at > -math.inf
        server.expires_at = -math.inf
        if server.state is ServerState.IDLE:
            server.close()
    return count


def let_go(pool: AddressPool, is_old: Callable[[str], bool]) -> int:
    """End connections to certain addresses of the server's host once they are nobody's.

    The one that listens for clients ends as well, to be opened anew. Returns how many it is
    new for.
    """
    count = phase_out([each for each in pool.servers() if each.ip and is_old(each.ip)])
    if pool.on_let_go is not None:
        count += pool.on_let_go(pool, is_old)
    return count


def is_too_large(pool: AddressPool) -> bool:
    """Whether there are more than there may be; the reserve is for those who wait."""
    settings = pool.settings
    reserve = settings.reserve_pool_size if pool.waiters else 0
    return pool.size > settings.pool_size + reserve


def _replace(pool: AddressPool, now: float) -> None:
    """Open successors of those that are too old, as far as min_pool_size asks for them."""
    old = sum(-math.inf < server.expires_at <= now for server in pool.servers())
    missing = pool.settings.min_pool_size - (pool.size - old)
    while old and missing > 0 and pool.may_open_more:
        pool.open_another()
        missing -= 1
