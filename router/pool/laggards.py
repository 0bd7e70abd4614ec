"""Replicas that are too far behind their primary to have reads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..records import fields

if TYPE_CHECKING:
    from collections.abc import Sequence

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
