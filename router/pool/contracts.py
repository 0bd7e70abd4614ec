"""What an address pool needs of others: clients that wait, and whoever does its I/O."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from ..errors import RouterError
    from .address_pool import AddressPool
    from .server import ServerConnection


class WaitingClient(Protocol):
    """What the pool needs of a client that waits."""

    def take_server(self, server: ServerConnection) -> bool:
        """Take a connection, or refuse it because it is not wanted any more."""

    def checkout_failed(self, error: RouterError) -> None:
        """There will be no connection."""

    def pool_retired(self) -> None:
        """The configuration has changed: ask the pool that there is now."""


class Connector(Protocol):
    """Who does the I/O, in tasks of its own."""

    def open(self, pool: AddressPool) -> None:
        """Open a connection, then call `opened` or `open_failed`."""

    def cancel(self, server: ServerConnection) -> None:
        """Send a cancel request for what the connection is doing, then call `cancel_done`."""


class Inspector(Protocol):
    """Looks at the texts of statements before anything is done with them: plugins."""

    def note(self, sql: bytes) -> None:
        """A text is about to be run or prepared, or refused."""

    def objection(self, sql: bytes, encoding: str) -> RouterError | None:
        """Why a text in the client's encoding must not reach a server, or None."""

    def objection_to_long(self) -> RouterError | None:
        """The same for a text that is too long to be looked at."""


class Waiter:
    """A client's place in the queue.

    Attributes:
        others: address pools to try if this one's server cannot be reached.
        since, deadline: time.monotonic().
    """

    __slots__ = ("client", "deadline", "others", "pool", "since")

    def __init__(
        self, client: WaitingClient, others: list[AddressPool], since: float, deadline: float
    ) -> None:
        self.client: Final = client
        self.others: Final = others
        self.since: Final = since
        self.deadline = deadline
        self.pool: AddressPool | None = None

    def cancel(self) -> None:
        """Leave the queue."""
        if self.pool is not None:
            self.pool.waiters.remove(self)
            self.pool = None
