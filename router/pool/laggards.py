"""Replicas that are too far behind their primary to have reads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import ServerUnavailable
from ..records import fields

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import RouterError
    from .address_pool import AddressPool
    from .lag import Lag

log = logging.getLogger("router.pool")


def measure(parts: Sequence[AddressPool], told: AddressPool, now: float) -> bool:
    """A server of a shard has told where it is; returns whether it lags now or does no more."""
    primary = next((part for part in parts if part.is_primary), None)
    health, facts = told.health, told.health.facts
    if told is primary or primary is None or facts is None or not facts.is_standby:
        health.lag = None
    else:
        health.lag = primary.health.positions.behind(now, facts)
    if _is_too_far(told, health.lag) is told.lags:
        return False
    told.lags = not told.lags
    verdict = "too far" if told.lags else "not too far any more"
    settings = told.settings
    log.warning(
        "[%s/%s] %s is %s behind its primary: %s",
        settings.pool,
        settings.user,
        health.name,
        verdict,
        health.lag or "nobody knows",
        extra=fields(database=settings.pool, user=settings.user, server=health.name),
    )
    return True


def _is_too_far(part: AddressPool, lag: Lag | None) -> bool:
    """Whether a replica is to be left out; it has to catch up by half before it is back."""
    if lag is None:
        return False
    factor = 0.5 if part.lags else 1.0
    seconds, size = part.settings.max_replica_lag, part.settings.max_replica_lag_bytes
    return bool(
        (seconds and lag.seconds > seconds * factor) or (size and lag.size > size * factor)
    )


def without_laggards(
    parts: Sequence[AddressPool], wanted: list[AddressPool]
) -> list[AddressPool]:
    """Those of some replicas, of which none is ready, that one may wait for, or have, at once.

    One that lags is to catch up first. Without a primary it has nothing to catch up with: then
    what it has is the best that there is.
    """
    if not any(part.is_primary and part.health.is_up for part in parts):
        return wanted
    return [part for part in wanted if not part.lags]


def too_far(shard: int, parts: Sequence[AddressPool]) -> RouterError:
    """Why no replica of a shard has a read."""
    told = [f"{part.health.name} by {part.health.lag}" for part in parts if part.lags]
    return ServerUnavailable(
        f"each replica of shard {shard} is too far behind its primary: " + ", ".join(told),
        hint="Look why they lag, or raise max_replica_lag or max_replica_lag_bytes.",
    )
