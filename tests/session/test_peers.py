"""Passing cancel requests on to other processes, with a clock of our own."""

from __future__ import annotations

import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from router.session.clients import Clients
from router.session.peers import Path, Peers, signed
from tests.config.builders import config

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = "127.0.0.1"


class Other:
    """A process that is asked: it hangs, answers, or closes.

    Attributes:
        asked: the process ids and secrets of the requests that it has had.
    """

    def __init__(self, sock: trio.socket.SocketType, answer: bytes | None) -> None:
        self.port = int(sock.getsockname()[1])
        self.asked: list[tuple[int, bytes]] = []
        self._sock = sock
        self._answer = answer

    async def serve(self) -> None:
        """Accept for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                nursery.start_soon(self._attend, (await self._sock.accept())[0])

    async def _attend(self, sock: trio.socket.SocketType) -> None:
        with sock:
            length, code, pid = struct.unpack("!III", await sock.recv(12))
            self.asked.append((pid, await sock.recv(length - 12)))
            assert code == 80877102
            if self._answer is None:
                await trio.sleep_forever()
            await sock.send(self._answer)


def peers_at(*others: tuple[int, int], own: int = 1, size: int = 20) -> Peers:
    """The peers of a process that knows these, by their ids and ports."""
    peers = Peers(own)
    table = {str(n): {"host": HOST, "port": p, "pool_size": size} for n, p in others}
    peers.use(config({"general/peer_id": own, "peers": table}), with_tls=False)
    return peers


@asynccontextmanager
async def other(answer: bytes | None) -> AsyncIterator[Other]:
    """A process at a port of its own; without an answer it hangs."""
    with trio.socket.socket() as sock:
        await sock.bind((HOST, 0))
        sock.listen(100)
        there = Other(sock, answer)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.serve)
            yield there
            nursery.cancel_scope.cancel()


async def test_a_request_is_marked_and_its_secret_stays() -> None:
    async with other(b"") as there:
        peers = peers_at((2, there.port))
        for secret in (b"abcd", bytes(range(256))):
            await peers.pass_on(signed(2, 77), secret)
        await peers.pass_on(signed(3, 77), b"abcd")
        await peers.pass_on(5, b"abcd")
        marked = 1 << 31 | 2 << 17 | 77
        assert there.asked == [(marked, b"abcd"), (marked, bytes(range(256)))]
        assert Peers(2).read(marked) == (signed(2, 77), True)
        assert Peers(2).read(signed(1, 77)) == (signed(1, 77), False)
        assert Peers(0).read(marked) == (marked, False), "in no group it is a number as any"
        assert peers.snapshots()[0].passed_on == 2


async def test_a_peer_that_hangs_is_given_up_and_others_get_its_place(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with other(None) as there:
        peers = peers_at((2, there.port), size=3)
        began = trio.current_time()
        async with trio.open_nursery() as requests:
            for number in range(7):
                requests.start_soon(peers.pass_on, signed(2, number), b"abcd")
        assert trio.current_time() == began + 10
        [found] = peers.snapshots()
        assert (found.failed, found.active, found.waiting, found.connecting) == (7, 0, 0, 0)
        assert len(there.asked) == 3, "the others had to wait for too long"


async def test_no_more_wait_than_a_thousand(
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with other(None) as there:
        peers = peers_at((2, there.port), size=1)
        async with trio.open_nursery() as requests:
            for number in range(1100):
                requests.start_soon(peers.pass_on, signed(2, number), b"abcd")
        [found] = peers.snapshots()
        assert (found.dropped, found.failed) == (99, 1001)


@pytest.mark.parametrize("answer", [b"E", b"N"])
async def test_an_answer_is_a_failure(
    answer: bytes,
) -> None:
    async with other(answer) as there:
        peers = peers_at((2, there.port))
        await peers.pass_on(signed(2, 1), b"abcd")
        assert peers.snapshots()[0].failed == 1


async def test_who_cannot_be_reached_is_a_failure() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        peers = peers_at((2, taken.getsockname()[1]))
        await peers.pass_on(signed(2, 1), b"abcd")
    assert peers.snapshots()[0].failed == 1


async def test_a_reload_keeps_the_counts_of_a_peer_that_stays() -> None:
    peers = peers_at((2, 1))
    await peers.pass_on(signed(2, 1), b"abcd")
    table = {"2": {"host": HOST, "port": 1, "pool_size": 9}, "1": {"host": HOST}}
    peers.use(config({"general/peer_id": 1, "peers": table}), with_tls=False)
    assert [(row.peer_id, row.pool_size, row.failed) for row in peers.snapshots()] == [
        (2, 9, 1)
    ]
    peers.use(config({"general/peer_id": 1, "general/port": 4711}), with_tls=False)
    assert peers.snapshots() == []


def test_keys_have_the_peer_and_all_bits_of_the_secret() -> None:
    clients = Clients(16383)
    for is_long, size in ((False, 4), (True, 32)):
        keys = [clients.new_key(clients.new_number(), is_long=is_long) for _ in range(50)]
        assert {pid >> 17 for pid, _ in keys} == {16383}
        assert all(0 < pid < 2**31 for pid, _ in keys)
        assert {len(secret) for _, secret in keys} == {size}
        assert len({secret for _, secret in keys}) == 50


def test_in_no_group_a_key_has_the_number_of_its_client() -> None:
    clients = Clients()
    for _ in range(50):
        number = clients.new_number()
        assert clients.new_key(number, is_long=False)[0] == number


def test_a_path_has_its_place_in_the_log() -> None:
    assert Path(2, "/run/\x07two", 6432, 1).place.isprintable()
