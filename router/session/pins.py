"""Why a client keeps its server between transactions, and why it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..config.values import PoolMode
from ..errors import PoolError

if TYPE_CHECKING:
    from ..pool.server import ServerConnection


class Pin:
    """A client is bound to its server, for what it has there and nowhere else.

    Attributes:
        reasons: what that is.
        since: as time.monotonic().
    """

    __slots__ = ("reasons", "since")

    def __init__(self, reasons: tuple[str, ...], since: float) -> None:
        self.reasons = reasons
        self.since: Final = since

    def __str__(self) -> str:
        return ", ".join(self.reasons)


def too_many(server: ServerConnection, reasons: tuple[str, ...]) -> PoolError:
    """Why what a client has left is not there any more."""
    pool = server.pool
    most, what = pool.settings.most_pinned, ", ".join(reasons)
    if pool.settings.pool_mode is PoolMode.STATEMENT:
        return PoolError(
            f"what the last statement has left is gone: {what}",
            sqlstate="0A000",
            hint='In pool_mode = "statement" no client keeps a server connection.',
        )
    return PoolError(
        f"what the last transaction has left is gone: {what}; clients may keep {most} of "
        f"{pool.settings.pool_size} connections to {pool.address.name} for such things, "
        f"and {pool.pinned} have",
        hint="Do it in one transaction, use session mode, or raise max_pinned.",
    )
