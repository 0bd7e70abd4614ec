"""Why a client keeps its server between transactions, and why it may not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..config.values import PoolMode
from ..errors import PoolError

if TYPE_CHECKING:
    from ..errors import RouterError
    from ..pool.server import ServerConnection
    from ..protocol.features import Features
    from .client_settings import ClientSettings

log = logging.getLogger("router.session")


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


class Pins:
    """What keeps one client at its server, if anything does.

    Attributes:
        pin: what that is.
        loss: what the client has left could not be kept, which it is to be told.
    """

    __slots__ = ("_settings", "loss", "pin")

    def __init__(self, settings: ClientSettings) -> None:
        self._settings: Final = settings
        self.pin: Pin | None = None
        self.loss: RouterError | None = None

    def keep(
        self,
        server: ServerConnection,
        features: Features,
        reasons: tuple[str, ...],
        now: float,
    ) -> None:
        """The client has these things there: it is bound to it, unless too many are already."""
        application = self._settings.application_name
        if self.pin is not None:
            self.pin.reasons = reasons
        elif server.pool.pinned >= server.pool.settings.most_pinned:
            self.loss = _too_many(server, reasons)
            features.refuse(application, reasons)
            return
        else:
            self.pin = Pin(reasons, now)
            log.info("%r is kept by its client: %s", server, self.pin, extra=server.fields())
            server.pin()
        features.pin(application, self.pin, reasons, self.pin.since)

    def end(self, features: Features, now: float) -> None:
        """Nothing keeps it there any more."""
        pin, self.pin = self.pin, None
        if pin is not None:
            features.unpin(pin, now)

    def tell_loss(self) -> RouterError:
        """Why what the client has left is not there: its next statement fails for that."""
        loss, self.loss = self.loss, None
        assert loss is not None
        return loss


def _too_many(server: ServerConnection, reasons: tuple[str, ...]) -> PoolError:
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
