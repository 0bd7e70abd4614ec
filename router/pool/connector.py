"""Does the I/O that pools ask for, each piece in a task: connections, and cancel requests."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from ..errors import RouterError, ServerLost
from . import connect

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..engine.loop import Engine
    from ..protocol.variables import Variables
    from .address_pool import AddressPool
    from .line import Line
    from .server import ServerConnection

log = logging.getLogger("router.pool")


class TaskConnector:
    """The connector of all pools, whose tasks are those of a nursery."""

    def __init__(self, engine: Engine, nursery: trio.Nursery) -> None:
        self._engine: Final = engine
        self._nursery: Final = nursery
        self._cancelling = 0
        self._delivered = trio.Event()  # replaced at each

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        """Open a connection in a task."""
        self._nursery.start_soon(self._open, pool, startup)

    async def _open(self, pool: AddressPool, startup: Variables | None) -> None:
        generation = pool.generation
        try:
            server = await connect.open_server(self._engine, pool, startup)
        except RouterError as error:
            failure = error
            self._engine.attempt(lambda: pool.open_failed(failure, startup))
        except Exception:
            log.exception("cannot connect to %s", pool.address.label)
            bug = RouterError("internal error", hint="The log of the router has more.")
            self._engine.attempt(lambda: pool.open_failed(bug, startup))
        else:
            self._engine.attempt(lambda: _hand_over(pool, server, generation))

    def listen(
        self,
        pool: AddressPool,
        opened: Callable[[Line], None],
        failed: Callable[[RouterError], None],
    ) -> None:
        """Open a connection that listens in a task."""
        self._nursery.start_soon(self._listen, pool, opened, failed)

    async def _listen(
        self,
        pool: AddressPool,
        opened: Callable[[Line], None],
        failed: Callable[[RouterError], None],
    ) -> None:
        try:
            line = await connect.open_line(self._engine, pool)
        except RouterError as error:
            failure = error
        except Exception:
            log.exception("cannot connect to %s", pool.address.label)
            failure = RouterError("internal error", hint="The log of the router has more.")
        else:
            self._engine.run_in_round(lambda: opened(line))
            return
        self._engine.run_in_round(lambda: failed(failure))

    def cancel(self, server: ServerConnection) -> None:
        """Send a cancel request in a task."""
        self._cancelling += 1
        self._nursery.start_soon(self._cancel, server)

    async def _cancel(self, server: ServerConnection) -> None:
        try:
            await connect.send_cancel(server)
        except Exception:
            log.exception("cannot send a cancel request to %s", server.pool.address.label)
        finally:
            self._cancelling -= 1
            self._delivered.set()
            self._delivered = trio.Event()
            self._engine.attempt(lambda: server.pool.cancel_done(server))

    async def settle(self) -> None:
        """Wait until all cancel requests have been delivered."""
        while self._cancelling:
            await self._delivered.wait()


def _hand_over(pool: AddressPool, server: ServerConnection, generation: int) -> None:
    """Give a pool the connection that it has asked for."""
    try:
        pool.opened(server, generation)
    except Exception:
        server.fail(ServerLost("internal error"))  # or it would be nobody's, and count
        raise
