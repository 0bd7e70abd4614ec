"""Who is the primary of a shard whose servers have `role = "auto"`.

Servers tell by themselves whether they are in recovery. One that is not takes writes, and says
so even if another has been promoted meanwhile. So of several primaries only the one on the
highest timeline is believed, since each promotion begins a new one; if two are on the same,
nobody is. One that is down keeps its role until another server has it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..records import fields
from ..routing.types import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import RouterError
    from .address_pool import AddressPool

log = logging.getLogger("router.pool")


def fits(part: AddressPool, role: Role | None) -> bool:
    """Whether a server is what is asked for; None is any of those whose role is known."""
    return part.has_role and (role is None or part.is_primary is (role is Role.PRIMARY))


def settle(parts: Sequence[AddressPool]) -> list[AddressPool]:
    """Give the servers of a shard their roles; returns those that have lost theirs."""
    claims = [part for part in parts if _claims(part)]
    newest = max((_timeline(part) for part in claims), default=0)
    leaders = [part for part in claims if _timeline(part) == newest]
    if len(leaders) > 1:
        living = [part for part in leaders if part.health.is_up]
        leaders = living or leaders
    lost = []
    for part in parts:
        had, was_primary = part.has_role, part.is_primary
        problem = _problem(part, claims, leaders, newest)
        if problem and problem != part.health.role_problem:
            more = fields(server=part.health.name)
            log.warning("%s: %s", part.health.name, problem, extra=more)
        part.health.role_problem = problem
        part.has_role = part.health.facts is not None and not problem
        part.is_primary = part.has_role and _claims(part)
        if (had and not part.has_role) or (was_primary and not part.is_primary):
            lost.append(part)
    return lost


def _claims(part: AddressPool) -> bool:
    facts = part.health.facts
    return facts is not None and not facts.is_standby


def _timeline(part: AddressPool) -> int:
    facts = part.health.facts
    return 0 if facts is None else facts.timeline


def _problem(
    part: AddressPool, claims: list[AddressPool], leaders: list[AddressPool], newest: int
) -> str:
    """Why a server cannot be used, though it says what it is."""
    if part not in claims:
        return ""
    others = ", ".join(other.health.name for other in leaders if other is not part)
    if part not in leaders:
        timeline = _timeline(part)
        if timeline < newest:
            return (
                f"it is a primary on timeline {timeline}, but {others} on timeline {newest} "
                "has been promoted since: it gets no clients"
            )
        return f"it was a primary on timeline {timeline}, as {others} is: it gets no clients"
    if len(leaders) > 1:
        return f"it is a primary on timeline {newest}, and so is {others}: none gets clients"
    return ""


def unknown(shard: int, parts: Sequence[AddressPool]) -> str:
    """Why nobody is known to be the primary, or a replica."""
    told = []
    for part in parts:
        health = part.health
        if health.role_problem:
            told.append(f"{health.name}: {health.role_problem}")
        elif health.error is not None:
            told.append(f"{health.name} is {health.condition.value}: {health.error.message}")
        elif health.facts is None:
            told.append(f"{health.name} has not told yet what it is")
        else:
            told.append(f"{health.name} is a {health.facts.role}")
    return f"no server of shard {shard} has that role now; " + "; ".join(told)


def expel(part: AddressPool, error: RouterError) -> None:
    """Give up all connections to a server that is not what their clients take it for."""
    for server in part.servers():
        server.fail(error)
