"""Connections to servers while they log in."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine import listener
from router.engine.wire import KeepAlive, Wire, WireClosed, connect
from router.errors import ClientProtocolError

from .peers import PATIENCE, Recorder, receive, running_engine, socket_pair

if TYPE_CHECKING:
    from pathlib import Path

KEEPALIVE = KeepAlive(idle=5, count=5, interval=5, user_timeout=10_000)


async def test_packets_are_read_however_they_arrive() -> None:
    sock, peer = socket_pair()
    wire = Wire(sock, "peer")
    data = b"p" + struct.pack("!I", 10) + b"secret" + b"rest"

    async def send() -> None:
        for byte in data:
            await peer.send(bytes((byte,)))
            await trio.testing.wait_all_tasks_blocked()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            assert await wire.read_message(100) == (ord("p"), b"secret")
            assert await wire.read_exactly(4) == b"rest"
    wire.close()
    peer.close()


@pytest.mark.parametrize("length", [0, 3, 101, 0xFFFFFFFF])
async def test_a_message_is_refused_by_its_length(length: int) -> None:
    sock, peer = socket_pair()
    wire = Wire(sock, "peer")
    with trio.fail_after(PATIENCE):
        await peer.send(b"p" + struct.pack("!I", length))
        with pytest.raises(ClientProtocolError, match="invalid message length"):
            await wire.read_message(100)
    wire.close()
    peer.close()


async def test_a_peer_that_leaves_is_noticed() -> None:
    sock, peer = socket_pair()
    wire = Wire(sock, "peer")
    with trio.fail_after(PATIENCE):
        await peer.send(b"ab")
        peer.close()
        with pytest.raises(WireClosed):
            await wire.read_exactly(3)
        with pytest.raises(WireClosed):
            await wire.send(b"x")
    wire.close()


async def test_sending_waits_for_a_slow_peer() -> None:
    sock, peer = socket_pair(buffer=4096)
    wire = Wire(sock, "peer")
    data = b"z" * 1_000_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wire.send, data)
        assert await receive(peer, len(data)) == data
    wire.close()
    peer.close()


async def test_what_was_read_too_much_is_handed_on_with_the_socket() -> None:
    async with running_engine() as engine:
        sock, peer = socket_pair()
        wire = Wire(sock, "peer")
        with trio.fail_after(PATIENCE):
            await peer.send(b"loginquery")
            await wire.read_exactly(5)
        assert wire.take_input() == b"query"
        assert wire.take_input() == b""
        recorder = Recorder()
        link = wire.into_link(engine, recorder)
        await peer.send(b"more")
        await recorder.wait_until(lambda r: r.data == b"more")
        link.write(b"answer")
        assert await receive(peer, 6) == b"answer"
        peer.close()


async def test_a_wire_has_nothing_of_a_link_that_it_became() -> None:
    async with running_engine() as engine:
        sock, peer = socket_pair()
        wire = Wire(sock, "peer")
        recorder = Recorder()
        link = wire.into_link(engine, recorder)
        wire.send_at_once(b"lost")
        with pytest.raises(WireClosed):
            await wire.send(b"lost")
        with pytest.raises(WireClosed):
            await wire.read_exactly(1)
        wire.close()
        # Who opens something now would get the descriptor that was set free.
        others = [socket.socketpair() for _ in range(3)]
        assert link.fd not in [sock.fileno() for pair in others for sock in pair]
        link.write(b"answer")
        assert await receive(peer, 6) == b"answer"
        await peer.send(b"more")
        await recorder.wait_until(lambda r: r.data == b"more")
        for pair in others:
            for sock in pair:
                sock.close()
        peer.close()


async def test_a_server_can_be_reached_by_the_directory_of_its_unix_socket(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / ".s.PGSQL.5433"))
        listening.listen()
        with trio.fail_after(PATIENCE):
            wire = await connect(str(tmp_path), 5433, KEEPALIVE)
            await wire.send(b"hello")
            peer, _ = listening.accept()
            assert peer.recv(5) == b"hello"
            peer.close()
            assert wire.peer == f"{tmp_path}:5433"
            wire.close()
            with pytest.raises(FileNotFoundError):
                await connect(str(tmp_path), 5434, None)


async def test_a_port_that_is_taken_is_an_error() -> None:
    listening = listener.listen("127.0.0.1", 0, 8)
    other = listener.listen("127.0.0.1", 0, 8)
    assert listening.getsockname() != other.getsockname()
    with pytest.raises(OSError, match="Address already in use"):
        listener.listen("127.0.0.1", listening.getsockname()[1], 8)
    listening.close()
    other.close()


async def test_a_server_that_does_not_listen_is_an_error() -> None:
    listening = listener.listen("127.0.0.1", 0, 8)
    port = listening.getsockname()[1]
    listening.close()
    with pytest.raises(OSError, match=r"refused|failed"):
        await connect("127.0.0.1", port, None)
