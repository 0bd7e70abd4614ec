"""Clients that wait for a connection, and connections for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.pool.contracts import PoolClient, Waiter

if TYPE_CHECKING:
    from router.errors import RouterError
    from router.pool.address_pool import AddressPool
    from router.pool.contracts import Loss
    from router.pool.server import ServerConnection
    from tests.support.harness import FakeServer, Harness


class Client(PoolClient):
    """A client that waits, and takes what it is given unless it is `gone`."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False
        self.server: ServerConnection | None = None
        self.error: RouterError | None = None
        self.lost: RouterError | None = None
        self.was_retired = False

    def take_server(self, server: ServerConnection) -> bool:
        if not self.gone:
            self.server = server
        return not self.gone

    @property
    def congested(self) -> bool:
        return False

    def server_lost(self, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
        self.lost = error

    def checkout_failed(self, error: RouterError) -> None:
        self.error = error

    def ask_anew(self) -> None:
        self.was_retired = True


def wait(harness: Harness, *others: AddressPool, timeout: float = 5.0) -> Client:
    """Make a client wait in the first address pool."""
    client, now = Client(), harness.engine.now
    harness.part.enqueue(Waiter(client, list(others), now, now + timeout))
    return client


def opened(harness: Harness, count: int = 1) -> list[FakeServer]:
    """Open connections that become idle."""
    clients = [wait(harness) for _ in range(count)]
    servers = [harness.accept() for _ in range(count)]
    for client in clients:
        assert client.server is not None
        harness.part.release(client.server)
    return servers
