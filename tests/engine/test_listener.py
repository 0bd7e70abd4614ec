"""Where clients are accepted, and how that ends."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest
import trio

from router.engine import listener
from router.engine.gate import Gate
from router.engine.wire import KeepAlive, Wire

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


@pytest.mark.parametrize("is_shared", [True, False])
async def test_a_port_that_is_left_to_others_is_closed_and_who_has_come_by_it_is_kept(
    is_shared: bool,
) -> None:
    [listening] = listener.listen_all("127.0.0.1", 0, 16, is_shared=is_shared)
    came: list[str] = []

    async def handle(wire: Wire) -> None:
        came.append(wire.peer)
        wire.close()

    with ExitStack() as stack:
        stack.enter_context(listening)
        clients = [stack.enter_context(socket.socket()) for _ in range(3)]
        for client in clients:
            client.connect(listening.getsockname())
        ended = trio.CancelScope()
        ended.cancel()
        gate = Gate(lambda: 1)  # so that they wait in the kernel
        gate.enter(Wire(stack.enter_context(socket.socket()), "somebody"))
        await listener.serve(listening, handle, lambda: KEEPALIVE, gate, ended)
        expected = (
            [listener.peer(client.getsockname()) for client in clients] if is_shared else []
        )
        assert sorted(came) == sorted(expected)
        assert (listening.fileno() < 0) == is_shared
