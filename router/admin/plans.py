"""RELOAD DRY RUN: what a reload would do, as rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..pool.planning import Action
from .show import int4, text

if TYPE_CHECKING:
    from ..pool.planning import ReloadPlan
    from ..snapshots import View
    from .show import Column


@dataclass(frozen=True, slots=True)
class PlanRow:
    """A row.

    Attributes:
        connections: that are closed as they come free; None if it is no pool.
    """

    subject: str
    action: str
    changes: str
    connections: int | None = None


COLUMNS: Final[tuple[Column[PlanRow], ...]] = (
    text("subject", lambda row: row.subject),
    text("action", lambda row: row.action),
    text("changes", lambda row: row.changes),
    int4("drained", lambda row: row.connections),
)


def rows(plan: ReloadPlan, view: View) -> list[PlanRow]:
    """What is said of a plan, and of the connections that there are now."""
    found = [PlanRow("general", "restart", name) for name in plan.restart]
    found += [PlanRow("general", "changed", change) for change in plan.general]
    found += [PlanRow(f"peers.{name}", "changed", change) for name, change in plan.peers]
    for pool in plan.pools:
        leaves = pool.action in (Action.REPLACE, Action.DROP)
        open_now = sum(
            address.current_connections
            for address in view.addresses()
            if (address.pool, address.user) == pool.key
        )
        changes = ", ".join(pool.changes)
        drained = open_now if leaves else 0
        found.append(PlanRow(pool.name, pool.action.value, changes, drained))
    return found
