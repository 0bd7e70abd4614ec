"""Where clients are accepted, and how that ends."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine import listener
from router.engine.wire import KeepAlive

if TYPE_CHECKING:
    from router.engine.wire import Wire

KEEPALIVE = KeepAlive(idle=5, count=5, interval=5, user_timeout=0)


@pytest.mark.parametrize("number", range(20))  # in either order, by chance
async def test_it_may_end_at_the_moment_in_which_a_client_comes(number: int) -> None:
    sock = listener.listen("127.0.0.1", 0, 8)
    accepting = trio.CancelScope()

    async def handle(wire: Wire) -> None:
        await trio.lowlevel.checkpoint()
        wire.close()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, sock, handle, lambda: KEEPALIVE, None, accepting)
        await trio.testing.wait_all_tasks_blocked()
        with socket.create_connection(sock.getsockname()):
            await trio.lowlevel.checkpoint()  # now both of us are about to go on
            accepting.cancel()
            sock.close()
