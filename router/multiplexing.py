"""How clients share server connections: the words and the figures of SHOW MULTIPLEXING."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

NO_ROOM: Final = "no_room"
"""Why a statement is not shared: there is nothing that it could go behind."""
NOT_A_READ: Final = "not_a_read"
"""It is not known to be one read that leaves nothing behind."""
STATE: Final = "state"
"""Its client needs more of a server than its settings."""
UNCOUNTED: Final = "uncounted"
"""Nobody counts statements, so none is known to be quick."""

REASONS: Final = (NO_ROOM, NOT_A_READ, STATE, UNCOUNTED)


@dataclass(frozen=True, slots=True)
class MultiplexingSnapshot:
    """A row of SHOW MULTIPLEXING: what the clients of one pool share at one server.

    Attributes:
        is_on: whether anything is shared now.
        depth: how many statements may be on their way at one connection.
        shared: statements that were sent behind those of other clients.
        moved: those that were sent elsewhere afterwards, and so perhaps run twice.
        deepest: the longest queue that there has been.
        under_way: statements that are on their way now, at connections that are shared.
        alone: statements that found no idle connection and were not shared, by the reason.
    """

    database: str
    user: str
    address: str
    is_on: bool
    depth: int = 0
    shared: int = 0
    moved: int = 0
    deepest: int = 0
    under_way: int = 0
    alone: dict[str, int] = field(default_factory=dict)
