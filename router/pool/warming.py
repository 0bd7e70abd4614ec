"""The prewarmer: queries that each new server connection runs before its first use."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import trio

from ..errors import ServerProtocolError
from ..printable import printable
from ..protocol import codes

if TYPE_CHECKING:
    from .address_pool import AddressPool
    from .query import LoginQueries, QueryResult

log = logging.getLogger("router.pool")


async def warm(pool: AddressPool, queries: LoginQueries) -> dict[str, str]:
    """Run the prewarmer's queries in their order; their errors do no harm.

    Returns:
        The settings that the server reported on the way.

    Raises:
        ServerProtocolError: the connection cannot be brought out of a transaction.
        WireClosed: the server has gone.
    """
    reported: dict[str, str] = {}
    status = codes.IDLE
    for number, sql in enumerate(pool.settings.prewarmer, 1):
        # Twice: the last query must not run into the time limit of the whole login.
        if trio.current_effective_deadline() - trio.current_time() < 2 * queries.time_limit:
            complain(pool, f"prewarmer query {number}", "skipped: the login takes too long")
            break
        result = await queries.run(sql)
        reported.update(result.parameters)
        status = result.status
        if result.error is not None:
            complain(pool, f"prewarmer query {number}", reason_of(result))
    if status != codes.IDLE:
        complain(pool, "prewarmer", "left a transaction open, which is rolled back")
        result = await queries.run("ROLLBACK")
        reported.update(result.parameters)
        if result.status != codes.IDLE:
            raise ServerProtocolError(f"{pool.address.label} does not end its transaction")
    return reported


def reason_of(result: QueryResult) -> str:
    """The server's words for what went wrong."""
    error = result.error or {}
    return f"{error.get('M', 'no reason given')} ({error.get('C', 'XX000')})"


def complain(pool: AddressPool, what: str, why: str) -> None:
    """Log what goes wrong with each new connection, but once."""
    if what not in pool.complaints:
        pool.complaints.add(what)
        more = pool.address.fields(pool.settings.user)
        log.warning("%s: %s: %s", pool.address.label, what, printable(why), extra=more)
