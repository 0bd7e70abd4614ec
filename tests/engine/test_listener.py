"""Where clients are accepted, and how that ends."""

from __future__ import annotations

import errno
import os
import socket
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine import listener
from router.engine.gate import Gate
from router.engine.wire import KeepAlive

from .peers import PATIENCE, running_engine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

KEEPALIVE = KeepAlive(idle=5, count=5, interval=5, user_timeout=10_000)


class Greeter:
    """Notes who has come, and says one byte to him."""

    def __init__(self) -> None:
        self.peers: list[tuple[str, str]] = []

    def __call__(self, sock: socket.socket, peer: str, ip: str, gate: Gate) -> None:
        self.peers.append((peer, ip))
        assert not sock.getblocking()
        sock.send(b"!")
        sock.close()


@asynccontextmanager
async def serving(
    greet: Callable[[socket.socket, str, str, Gate], None], listening: socket.socket
) -> AsyncIterator[listener.Door]:
    """A door that is open, and what it raises."""
    async with running_engine() as engine, trio.open_nursery() as nursery:
        gate = Gate(engine, lambda: 0)
        door = listener.Door(engine, listening, greet, lambda: KEEPALIVE, gate)
        nursery.start_soon(door.serve)
        with trio.fail_after(PATIENCE):
            yield door
        nursery.cancel_scope.cancel()
    listening.close()


async def greeted(listening: socket.socket) -> str:
    """Connect, and wait until it has been accepted; returns what to call the client."""
    stream = await trio.open_tcp_stream(*listening.getsockname()[:2])
    async with stream:
        assert await stream.receive_some(10) == b"!"
        assert await stream.receive_some(10) == b""
        host, port = stream.socket.getsockname()[:2]
        return f"{host}:{port}"


async def test_all_who_come_are_greeted() -> None:
    greet, listening = Greeter(), listener.listen("127.0.0.1", 0, 64)
    names: list[str] = []

    async def come() -> None:
        names.append(await greeted(listening))

    async with serving(greet, listening), trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(come)
    assert sorted(greet.peers) == sorted((name, "127.0.0.1") for name in names)


@pytest.mark.parametrize("number", range(20))  # in either order, by chance
async def test_it_may_end_at_the_moment_in_which_a_client_comes(number: int) -> None:
    listening = listener.listen("127.0.0.1", 0, 8)
    async with serving(Greeter(), listening) as door:
        await trio.testing.wait_all_tasks_blocked()
        with socket.create_connection(listening.getsockname()):
            await trio.lowlevel.checkpoint()  # now both of us are about to go on
            door.close()
            listening.close()
            await trio.testing.wait_all_tasks_blocked()


async def test_who_takes_over_gets_those_who_come_later() -> None:
    greet, listening = Greeter(), listener.listen("127.0.0.1", 0, 8)
    other = listening.dup()  # as in another process
    async with serving(greet, listening) as door:
        await greeted(listening)
        door.close()
        listening.close()
        with socket.create_connection(other.getsockname()):
            await trio.testing.wait_all_tasks_blocked()
            assert len(greet.peers) == 1
            sock, _ = other.accept()
            sock.close()
    other.close()


@pytest.mark.parametrize("is_shared", [True, False])
async def test_a_port_that_is_left_to_others_is_closed_and_who_has_come_by_it_is_kept(
    is_shared: bool,
) -> None:
    [listening] = listener.listen_all("127.0.0.1", 0, 16, is_shared=is_shared)
    assert listener.is_shared(listening) == is_shared
    greet = Greeter()
    with ExitStack() as stack:
        clients = [stack.enter_context(socket.socket()) for _ in range(3)]
        for client in clients:
            client.connect(listening.getsockname())  # they wait in the kernel
        async with running_engine() as engine:
            gate = Gate(engine, lambda: 1)
            gate.enter(lambda error: None)
            door = listener.Door(engine, listening, greet, lambda: KEEPALIVE, gate)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(door.serve)
                await trio.testing.wait_all_tasks_blocked()
                assert greet.peers == []
                door.leave()
        expected = [listener.peer(client.getsockname()) for client in clients]
        assert sorted(name for name, _ in greet.peers) == sorted(expected)
        assert listening.fileno() < 0


async def test_a_client_that_cannot_be_greeted_harms_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    greet, listening = Greeter(), listener.listen("127.0.0.1", 0, 8)
    broken = [ZeroDivisionError("a bug")]

    def attempt(sock: socket.socket, peer: str, ip: str, gate: Gate) -> None:
        if broken:
            raise broken.pop()
        greet(sock, peer, ip, gate)

    async with serving(attempt, listening):
        async with await trio.open_tcp_stream(*listening.getsockname()) as stream:
            assert await stream.receive_some(10) == b""
        await greeted(listening)
    assert [line.getMessage() for line in caplog.records] == [
        "internal error with a new client"
    ]


class Exhausted(socket.socket):
    """A listening socket for whose clients there are no files at first, or something worse."""

    errors: list[int]

    def accept(self) -> tuple[socket.socket, object]:
        if self.errors:
            number = self.errors.pop()
            raise OSError(number, os.strerror(number))
        return super().accept()


def exhausted(*errors: int) -> Exhausted:
    """A listening socket that fails so before it takes a client."""
    listening = Exhausted(fileno=listener.listen("127.0.0.1", 0, 8).detach())
    listening.setblocking(False)
    listening.errors = [*errors]
    return listening


async def test_a_door_that_is_out_of_files_goes_on_when_there_are_some(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listening = exhausted(errno.EMFILE, errno.ENFILE)
    async with serving(Greeter(), listening):
        await greeted(listening)
    assert [line.getMessage() for line in caplog.records] == [
        f"cannot accept clients: {os.strerror(number)}; raise the limit of open files"
        for number in (errno.ENFILE, errno.EMFILE)
    ]


async def test_a_door_whose_socket_is_of_no_use_does_not_go_on() -> None:
    listening = exhausted(errno.EINVAL)
    with (
        listening,
        pytest.RaisesGroup(
            pytest.RaisesExc(OSError, match="Invalid argument"), flatten_subgroups=True
        ),
    ):
        async with serving(Greeter(), listening):
            with socket.create_connection(listening.getsockname()):
                await trio.sleep_forever()
