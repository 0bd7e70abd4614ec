"""When clients of a pool may log in: as soon as a server has told what they are to be told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from ..protocol.variables import EMPTY
from . import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .address_pool import AddressPool
    from .server import ServerConnection


class Readiness:
    """What the servers of one pool have told so far, and who waits to hear of it.

    Attributes:
        parameters: those that clients get at login; empty until a server has been reached.
        is_over: the pool has been retired, and nobody need wait any more.
    """

    def __init__(self) -> None:
        self.parameters: dict[str, str] = {}
        self.is_over = False
        self._news = trio.Event()  # replaced each time that there is something to look at

    def tell(self) -> None:
        """Have those look again who wait: an attempt has ended, or a server goes on."""
        self._news.set()
        self._news = trio.Event()

    def reached(self, server: ServerConnection, *, is_primary: bool) -> None:
        """A connection has been opened; for a client, it may tell what that has asked for."""
        if server.first is EMPTY and (is_primary or not self.parameters):
            self.parameters = server.baseline
        self.tell()

    def end(self) -> None:
        """The pool is retired."""
        self.is_over = True
        self.tell()

    async def wait(
        self, pools: Sequence[AddressPool], timeout: float, is_told: Callable[[], bool]
    ) -> bool:
        """Wait until a server has told its parameters.

        Args:
            pools: of its servers.
            timeout: for as many seconds, once one of them is being opened.
            is_told: whether their tables are known, which the first client waits for as well.

        Returns:
            False if the pool has been retired meanwhile: another one may be there now.

        Raises:
            ServerUnavailable: no server can be reached; the cause of the last attempt is in it.
            PoolError: other pools have all connections that there may be.
        """
        is_first = False
        while not (self.parameters or self.is_over) and all(pool.paused for pool in pools):
            await self._news.wait()
        if not (self.parameters or self.is_over):
            for pool in pools:
                pool.open_spare()
            is_first = True
        with trio.move_on_after(timeout):
            while (
                not self.is_over
                and (not self.parameters or (is_first and not is_told()))
                and any(
                    pool.connecting or pool.shares.spare_since is not None for pool in pools
                )
            ):
                await self._news.wait()
                for pool in pools:
                    if not self.parameters and _has_another_address(pool):
                        pool.open_spare()
        if not (self.parameters or self.is_over):
            raise refusals.down(pools, pools[0].engine.now)
        return not self.is_over


def _has_another_address(pool: AddressPool) -> bool:
    """Whether another address of its host may do where one has not."""
    addresses, error = pool.health.addresses, pool.last_error
    if error is None or not refusals.is_of_server(error):
        return False
    return len(addresses.found) > 1 and addresses.has_hope
