"""What clients are told when there is no server for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import PoolTimeout, RouterError, ServerRefused, ServerUnavailable

if TYPE_CHECKING:
    from ..routing.types import Role
    from .address_pool import AddressPool

# Refusals of a server that pass by themselves: 57P03 starting up or in recovery, 53300 too many
# connections, 08006 the connection broke.
_TEMPORARY: Final = frozenset(("57P03", "53300", "08006", "57P01"))


def is_temporary(error: RouterError) -> bool:
    """Whether opening a connection may succeed where this has happened."""
    return not isinstance(error, ServerRefused) or error.sqlstate in _TEMPORARY


def timeout(pool: AddressPool, waited: float) -> RouterError:
    """No connection became free in time; or none could be opened, which is then the cause."""
    if pool.last_error is not None and not pool.active:
        return pool.last_error
    return PoolTimeout(
        "could not get connection from the pool - "
        f"waited {waited:.1f} s for one of {pool.settings.pool_size} connections "
        f"to {pool.address.label}",
        hint="Raise pool_size or connect_timeout, or shorten the transactions.",
    )


def no_server(shard: int | None, role: Role | None) -> RouterError:
    """Nothing is configured that could run the statement."""
    wanted = "server" if role is None else role.value
    where = "" if shard is None else f" of shard {shard}"
    return ServerUnavailable(
        f"could not get connection from the pool - no {wanted}{where} is configured",
        hint="Check the servers of the shard, default_role and primary_reads_enabled.",
    )
