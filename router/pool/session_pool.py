"""The connections of a pool in session mode, which are like those of their clients' own.

Each is opened with the start-up parameters of the client that it is for, so that these are what
RESET goes back to. It is kept, when that client has left, for another with the same ones. Where
there is no room for a connection with others, one that is idle makes room.

Clients are served in their order all the same: what becomes free goes to the first in the queue
who can use it, unless somebody before him waits for whom nothing is on its way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import LoginTimeout, StartupRefused
from ..protocol.variables import EMPTY
from . import calls
from .address_pool import AddressPool

if TYPE_CHECKING:
    from ..config.effective import PoolSettings
    from ..engine.loop import Engine
    from ..errors import RouterError
    from ..protocol.passwords import UserSecret
    from ..protocol.variables import Variables
    from .address import Address
    from .contracts import Connector, PoolClient, Waiter
    from .health import ServerHealth
    from .quotas import Quotas
    from .server import ServerConnection


class SessionAddressPool(AddressPool):
    """All connections of one user to one server, in session mode."""

    def __init__(
        self,
        engine: Engine,
        address: Address,
        settings: PoolSettings,
        secret: UserSecret,
        connector: Connector,
        health: ServerHealth | None = None,
        quotas: Quotas | None = None,
    ) -> None:
        # The start-up parameters of the connections that are being opened.
        self._opening: Final[list[Variables]] = []
        super().__init__(engine, address, settings, secret, connector, health, quotas)

    def take(self, client: PoolClient | None = None) -> ServerConnection | None:
        """An idle connection with the client's start-up parameters, the last one that was used.

        Nobody waits for such a one, for he would have got it.
        """
        startup = EMPTY if client is None else client.startup
        for idle in reversed(self.idle):
            if idle.first is startup:
                server = self.lend(idle)
                if server is not None and client is not None:
                    _introduce(server, client)
                return server
        return None

    @property
    def in_vain(self) -> Waiter | None:
        """The first client that waits and that no connection is on its way for."""
        coming = self._coming()
        for waiter in self.waiters:
            if waiter.client.startup not in coming:
                return waiter
            coming.remove(waiter.client.startup)
        return None

    def _coming(self) -> list[Variables]:
        """The start-up parameters of all connections that are on their way."""
        return [*self._opening, *(server.first for server in self.checked)]

    def hand_over(self, server: ServerConnection) -> bool:
        """Give an active connection to the first waiter that can use it and takes it.

        It is closed if it is in the way of somebody who waits for another one.
        """
        coming = self._coming()
        for waiter in list(self.waiters):
            if waiter.pool is not self:
                continue
            client = waiter.client
            if client.startup is server.first:
                self.waiters.remove(waiter)
                waiter.pool = None
                self.counters.wait_time += self.engine.now - waiter.since
                _introduce(server, client)
                if calls.hand(client, server):
                    return True
            elif client.startup in coming:
                coming.remove(client.startup)
            elif not self.has_room:
                server.close()
                return False
        if server.first.replication:
            server.close()  # its client has left, and it is of no use to others
        return False

    # --- opening

    def open_for_waiters(self) -> None:
        """Open what clients wait for, in the place of what is idle if there is no room."""
        while self.idle and self.in_vain is not None and self._is_full:
            self.idle[0].close()  # which opens another
        super().open_for_waiters()

    @property
    def _is_full(self) -> bool:
        """Whether connections might be opened if there were fewer."""
        is_held_back = bool(self.connecting) and self.last_error is not None
        return self.is_open and not (self.is_closing or is_held_back or self.has_room)

    def next_startup(self) -> Variables | None:
        """The start-up parameters of what is opened now: those of whoever waits in vain."""
        waiter = self.in_vain
        startup = EMPTY if waiter is None else waiter.client.startup
        self._opening.append(startup)
        return startup

    def opened(self, server: ServerConnection, generation: int | None = None) -> None:
        """A connection that was asked for, in that generation, is there."""
        self._opening.remove(server.first)
        super().opened(server, generation)

    def open_failed(self, error: RouterError, startup: Variables | None = None) -> None:
        """A connection that was asked for, with those parameters, could not be had.

        If it is these that the server does not take, or falls silent over, that concerns the
        client who has asked for them.
        """
        startup = EMPTY if startup is None else startup
        self._opening.remove(startup)
        is_slow = isinstance(error, LoginTimeout) and startup is not EMPTY
        if not is_slow and not isinstance(error, StartupRefused):
            super().open_failed(error, startup)
            return
        self.connecting -= 1
        self.shares.count(-1)
        self.counters.errors += 1
        if is_slow:
            self.health.doubt()
        for waiter in self.waiters:
            if waiter.client.startup is startup:
                waiter.cancel()
                calls.disappoint(waiter.client, error)
                break
        self.shares.offer()
        self.open_for_waiters()


def _introduce(server: ServerConnection, client: PoolClient) -> None:
    """Tell a client what the server makes of the settings that it has asked for."""
    for name, value in server.parameters.items():
        client.server_parameter(name, value, True)
