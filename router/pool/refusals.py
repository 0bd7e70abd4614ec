"""What clients are told when there is no server for them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..errors import PoolError, PoolTimeout, RouterError, ServerRefused, ServerUnavailable
from .holders import holders
from .quotas import limit_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..routing.types import Role
    from .address_pool import AddressPool
    from .quotas import Quota

log = logging.getLogger("router.pool")

# Refusals of a server that pass by themselves: 57P03 starting up or in recovery, 53300 too many
# connections, 08006 the connection broke.
_TEMPORARY: Final = frozenset(("57P03", "53300", "08006", "57P01"))


# Those of them with which a server refuses everybody.
_SERVER_WIDE: Final = frozenset(("57P03", "57P01", "57P02"))


def may_pass(error: RouterError) -> bool:
    """Whether a replica that refuses a user now may take it soon.

    A database or a user that has just been made may not have come to a replica yet.
    """
    return is_temporary(error) or error.sqlstate in ("3D000", "28000")


def is_of_server(error: RouterError) -> bool:
    """Whether the whole server is in trouble, and not only this user of it."""
    if isinstance(error, ServerRefused):
        return error.sqlstate in _SERVER_WIDE
    return isinstance(error, ServerUnavailable)


def is_temporary(error: RouterError) -> bool:
    """Whether opening a connection may succeed where this has happened."""
    return not isinstance(error, ServerRefused) or error.sqlstate in _TEMPORARY


def timeout(pool: AddressPool, since: float, now: float) -> RouterError:
    """No connection became free in time, and why."""
    waited = now - since
    settings, health = pool.settings, pool.health
    head = (
        f'could not get connection from the pool "{settings.pool}" of user "{settings.user}" - '
        f"waited {waited:.1f} s for "
    )
    cause = health.error if health.error is not None else pool.last_error
    if health.error is not None or (cause is not None and not pool.active):
        assert cause is not None
        return ServerUnavailable(
            f"{head}{pool.address.label}: {cause.message}",
            sqlstate=cause.sqlstate,
            hint=cause.hint
            or "Look at that server and the network between; raising pool_size does not help.",
        )
    if pool.connecting and pool.connecting == pool.size:
        # Nobody has one: the first that are opened take longer than clients wait.
        return ServerUnavailable(
            f"{head}{pool.address.label}: it has not let a connection in yet",
            hint="Look at that server and the network between, or raise query_wait_timeout; "
            "raising pool_size does not help.",
        )
    full = pool.shares.full()
    if full and pool.size < settings.pool_size:
        for quota in full:
            quota.refused += 1
        return _exhausted(pool, full[0], head)
    found = holders(pool, now)
    if found.is_new:
        log.warning(
            "[%s/%s] no connection to %s is free, in use are %s",
            settings.pool,
            settings.user,
            pool.address.label,
            found.text,
            extra=pool.address.fields(settings.user, sqlstate=PoolTimeout.default_sqlstate),
        )
    hint, silence = found.hint, health.silence(now)
    if silence > 0:
        hint += (
            f" Or the server hangs: nothing has come from it for {silence:.1f} s. It is asked "
            "now, and SHOW HEALTH has the answer."
        )
    return PoolTimeout(
        f"{head}one of {settings.pool_size} connections to {pool.address.label}",
        hint=hint,
        detail=f"In use are {found.text}.",
    )


def _exhausted(pool: AddressPool, quota: Quota, head: str) -> RouterError:
    """Other pools have what there may be of a server."""
    limit = limit_of(pool.settings, quota)
    return PoolTimeout(
        f"{head}a connection to {pool.address.label}, which {quota.key} = {limit} limits",
        hint=f"Raise {quota.key} or connect_timeout, or shorten the transactions of those "
        "who have the connections: the others get theirs when these end.",
        detail=f"In use are {quota.used} of {limit}: {quota.holders}.",
    )


def no_place(parts: Sequence[AddressPool], limit: int, now: float) -> RouterError:
    """Too many clients wait already for the connections of one pool."""
    busiest = max(parts, key=lambda part: len(part.waiters))
    settings, found = busiest.settings, holders(busiest, now)
    return PoolError(
        f'too many clients wait for a connection from the pool "{settings.pool}" of user '
        f'"{settings.user}" (max_waiting_clients = {limit})',
        hint=found.hint,
        detail=f"In use of {busiest.address.label} are {found.text}.",
    )


def down(parts: Sequence[AddressPool], now: float) -> RouterError:
    """Nobody can log in, since no server has told what clients are told at login."""
    settings = parts[0].settings
    for part in parts:
        full = part.shares.full()
        if part.shares.spare_since is not None and full:
            waited = now - part.shares.spare_since
            full[0].refused += 1
            name = f'could not log in to the pool "{settings.pool}" of user "{settings.user}"'
            return _exhausted(part, full[0], f"{name} - waited {waited:.1f} s for ")
    causes = [part.last_error.message for part in parts if part.last_error is not None]
    return ServerUnavailable(
        f'Pool down for database: "{settings.pool}", user: "{settings.user}": '
        + (causes[0] if causes else "no server answered in time")
    )


def no_server(shard: int | None, role: Role | None) -> RouterError:
    """Nothing is configured that could run the statement."""
    wanted = "server" if role is None else role.value
    where = "" if shard is None else f" of shard {shard}"
    return ServerUnavailable(
        f"could not get connection from the pool - no {wanted}{where} is configured",
        hint="Check the servers of the shard, default_role and primary_reads_enabled.",
    )


def all_banned(shard: int, role: Role | None) -> RouterError:
    """What is configured is banned, and not to be used whatever happens."""
    wanted = "server" if role is None else role.value
    return ServerUnavailable(
        f"could not get connection from the pool - each {wanted} of shard {shard} is banned by "
        "an administrator",
        hint="UNBAN one of them in the admin database.",
    )
