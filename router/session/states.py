"""What a client is doing, in the words of SHOW CLIENTS and of PostgreSQL."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from ..protocol import codes

if TYPE_CHECKING:
    from ..pool.server import ServerConnection


class ClientState(Enum):
    """What SHOW CLIENTS says."""

    IDLE = "idle"
    WAITING = "waiting"
    ACTIVE = "active"


class BackendState(Enum):
    """What PostgreSQL calls the state of a session."""

    IDLE = "idle"
    WAITING = "waiting"
    ACTIVE = "active"
    IN_TRANSACTION = "idle in transaction"
    IN_FAILED_TRANSACTION = "idle in transaction (aborted)"


_BY_STATUS: Final = {
    codes.IN_TRANSACTION: BackendState.IN_TRANSACTION,
    codes.IN_FAILED_TRANSACTION: BackendState.IN_FAILED_TRANSACTION,
}


def backend_state(server: ServerConnection | None, status: int, *, waits: bool) -> BackendState:
    """Return what PostgreSQL would say of a client.

    Args:
        server: the one that it has.
        status: that of its transaction.
        waits: it waits for a server.
    """
    if server is None and waits:
        return BackendState.WAITING
    if server is not None and server.queue:
        return BackendState.ACTIVE
    return _BY_STATUS.get(status, BackendState.IDLE)
