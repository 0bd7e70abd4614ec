"""The rows of SHOW LIMITS: what is limited, and how much of it there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..pool.quotas import limit_of
from ..snapshots import LimitSnapshot
from .admission import BY_DATABASE, BY_USER, TOTAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..config.general import General
    from ..engine.gate import Gate
    from ..pool.pool import Pool
    from ..pool.registry import PoolRegistry
    from .admission import Admission


def limit_snapshots(
    general: General, gates: Sequence[Gate], admission: Admission, registry: PoolRegistry
) -> list[LimitSnapshot]:
    """All that is limited now, or has turned somebody away."""
    rows = [
        LimitSnapshot(
            TOTAL,
            "",
            general.max_client_conn,
            admission.count,
            refused=admission.refused[TOTAL, ""],
        ),
        LimitSnapshot(
            "max_logins_in_progress",
            "",
            general.max_logins_in_progress,
            sum(gate.used for gate in gates),
            waiting=sum(gate.is_waiting for gate in gates),
            refused=sum(gate.ended for gate in gates),
        ),
        *_clients(admission, registry),
        *_connections(registry),
    ]
    return [row for row in rows if row.name == "" or row.value or row.refused]


def _clients(admission: Admission, registry: PoolRegistry) -> Iterator[LimitSnapshot]:
    databases: dict[str, Pool] = {}
    users: dict[str, int] = {}
    for pool in registry:
        databases.setdefault(pool.database, pool)
        limit = pool.settings.max_user_client_connections
        users[pool.user] = max(users.get(pool.user, 0), limit)
    for name, pool in databases.items():
        limit, refused = pool.settings.max_db_client_connections, admission.refused
        used = admission.databases[name]
        yield LimitSnapshot(BY_DATABASE, name, limit, used, refused=refused[BY_DATABASE, name])
    for name, limit in users.items():
        refused, used = admission.refused, admission.users[name]
        yield LimitSnapshot(BY_USER, name, limit, used, refused=refused[BY_USER, name])
    for pool in registry:
        waiting = pool.waiting
        yield LimitSnapshot(
            "max_waiting_clients",
            f"{pool.database}/{pool.user}",
            pool.settings.max_waiting_clients,
            waiting,
            waiting=waiting,
            refused=pool.turned_away,
        )


def _connections(registry: PoolRegistry) -> Iterator[LimitSnapshot]:
    for quota in registry.quotas:
        yield LimitSnapshot(
            quota.key,
            quota.name,
            max((limit_of(part.settings, quota) for part in quota.parts), default=0),
            quota.used,
            waiting=len(quota.wanting),
            refused=quota.refused,
            evictions=quota.evictions,
        )
