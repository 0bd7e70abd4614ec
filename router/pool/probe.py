"""Asking every server, as every user, whether it would take what the configuration sends it.

Nothing is kept: each probe connects, logs in, asks and leaves. This is for those who check a
configuration; a router that runs has `checks`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ..engine.loop import Engine
from ..errors import RouterError
from ..protocol import messages
from .connect import Guide, connect_to, deliver_cancel, explained, log_in
from .facts import QUESTION, facts_of
from .query import LoginQueries
from .registry import PoolRegistry

if TYPE_CHECKING:
    from ..config.model import Config
    from ..protocol.variables import Variables
    from .address import Address
    from .address_pool import AddressPool
    from .facts import Facts
    from .query import Row
    from .server import ServerConnection

# What servers see in pg_stat_activity.
NAME: Final = "pgcat check"
# So many servers and users at a time.
_AT_ONCE: Final = 8
# What is asked besides: connections that there may be, and those that are not for everybody.
# reserved_connections is there since PostgreSQL 16.
_LIMITS: Final = """\
SELECT name, setting FROM pg_catalog.pg_settings
 WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections')"""


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one login.

    Attributes:
        user: the pool's; on the server it may have another name.
        pool_size: connections that the pool may have there, with its reserve.
        database_limit, server_limit: what all users of the database, and all pools, may have
            there together; 0 is any number.
        error: why it was in vain, or None.
        version: of PostgreSQL.
        connections: how many users without privileges may have there in all, or 0.
    """

    address: Address
    user: str
    pool_size: int
    database_limit: int = 0
    server_limit: int = 0
    error: RouterError | None = None
    version: str = ""
    facts: Facts | None = None
    connections: int = 0


class _Nobody:
    """A connector for pools that are never used."""

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        """Open nothing."""

    def listen(self, *_: object) -> None:
        """Listen to nothing."""

    def cancel(self, server: ServerConnection) -> None:
        """Cancel nothing."""


async def probe_all(config: Config) -> list[Probe]:
    """Probe all servers of all pools, in the order of the configuration."""
    engine = Engine()
    registry = PoolRegistry(engine, _Nobody(), lambda *_: None)
    registry.apply(config)
    parts = [(pool.user, part) for pool in registry for part in pool.address_pools()]
    found: list[Probe | None] = [None] * len(parts)
    limiter = trio.CapacityLimiter(_AT_ONCE)

    async def run(index: int, user: str, part: AddressPool) -> None:
        async with limiter:
            found[index] = await _probe(user, part)

    try:
        async with trio.open_nursery() as nursery:
            for index, (user, part) in enumerate(parts):
                nursery.start_soon(run, index, user, part)
    finally:
        engine.close()
    return [probe for probe in found if probe is not None]


async def _probe(user: str, part: AddressPool) -> Probe:
    settings = part.settings
    probe = Probe(
        part.address,
        user,
        settings.pool_size + settings.reserve_pool_size,
        settings.max_db_connections,
        settings.max_server_connections,
    )
    try:
        return await _ask(probe, part)
    except RouterError as error:
        return replace(probe, error=error)


async def _ask(probe: Probe, part: AddressPool) -> Probe:
    """Connect, log in, ask, leave; complete the probe.

    Raises:
        ServerError: see `open_server`.
    """
    settings = part.settings
    limit = settings.server_login_timeout
    with explained(part), Guide(part) as guide, trio.fail_after(limit):
        with trio.fail_after(min(limit, settings.connect_timeout)):
            wire = await connect_to(part, guide)
        try:
            key, reported = await log_in(part, wire, NAME)
            cancel = partial(deliver_cancel, part, *key, wire.ip)
            queries = LoginQueries(wire, time_limit=limit, cancel=cancel)
            facts = facts_of((await queries.run(QUESTION)).rows)
            limits = (await queries.run(_LIMITS)).rows
            wire.send_at_once(messages.TERMINATE)
        finally:
            wire.close()
    return replace(
        probe,
        version=reported.get("server_version", ""),
        facts=facts,
        connections=_connections(limits),
    )


def _connections(rows: tuple[Row, ...]) -> int:
    """How many there may be, less those that are reserved; 0 if the server has not told."""
    limits = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1]}
    most = limits.pop("max_connections", 0)
    return max(most - sum(limits.values()), 0)
