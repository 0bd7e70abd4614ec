"""Peers that are dead, and peers that only do not read."""

from __future__ import annotations

import errno
import socket
import struct
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, cast

import pytest
import trio

from router.engine import liveness
from router.engine.link import Link
from router.engine.loop import Driven, Engine
from router.engine.wire import KeepAlive, configure
from router.pool.connect import keepalive_of
from tests.config import builders
from tests.support.harness import base_settings

from .peers import PATIENCE, Recorder, running_engine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.testing import MockClock

    from tests.support.network import CutNetwork

# More than the kernel takes from us for a peer that does not read.
MUCH = b"x" * 20_000_000


@contextmanager
def listening(host: str) -> Iterator[socket.socket]:
    """A listening socket."""
    with socket.create_server((host, 0)) as sock:
        sock.settimeout(PATIENCE)
        yield sock


@contextmanager
def lazy_peer() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Our end of a connection, and that of somebody who does not read."""
    with listening("127.0.0.1") as server, closing(socket.socket()) as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(server.getsockname())
        ours, _ = server.accept()
        ours.setblocking(False)
        yield ours, peer


def backoff(link: Link) -> int:
    """How many times the kernel has made the time between its probes longer."""
    return link.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 5)[4]


async def wait_for_backoff(engine: Engine, link: Link, times: int) -> None:
    """Look at the links until the peer has answered so many probes, ever further apart."""
    with trio.fail_after(PATIENCE):
        while backoff(link) < times:
            await liveness.look(engine, 0.1)
            await trio.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("unsent", [b"x", MUCH], ids=["in flight", "behind a closed window"])
async def test_a_peer_that_vanishes_is_found(cut_network: CutNetwork, unsent: bytes) -> None:
    with listening(cut_network.host) as server:
        cut_network.connect(server.getsockname()[1])
        ours, _ = server.accept()
    async with running_engine() as engine:
        ours.setblocking(False)
        recorder = Recorder()
        link = Link(engine, ours, recorder)
        if unsent == MUCH:
            link.write(unsent)
            await wait_for_backoff(engine, link, 1)
        cut_network.cut()
        link.write(unsent)
        with trio.fail_after(PATIENCE):
            while not recorder.reasons:
                await liveness.look(engine, 0.5)
                await trio.sleep(0.02)
    [reason] = recorder.reasons
    assert reason.startswith("nothing has come from the peer for ")
    assert link.closed


@pytest.mark.slow
async def test_a_peer_that_does_not_read_is_left_alone() -> None:
    async with running_engine() as engine:
        with lazy_peer() as (ours, peer):
            recorder = Recorder()
            link = Link(engine, ours, recorder)
            link.write(MUCH)
            await wait_for_backoff(engine, link, 4)
            assert recorder.reasons == []
            size = 0
            with trio.fail_after(PATIENCE):
                while size < len(MUCH):
                    size += len(await trio.to_thread.run_sync(peer.recv, 1 << 20))
            assert not link.closed


async def test_links_without_tcp_are_left_alone() -> None:
    async with running_engine() as engine:
        ours, theirs = socket.socketpair()
        with theirs:
            ours.setblocking(False)
            recorder = Recorder()
            link = Link(engine, ours, recorder)
            link.write(MUCH)
            await liveness.look(engine, 0.1)
            assert not link.closed


async def test_links_are_looked_at_six_times_in_the_time_that_a_peer_has(
    autojump_clock: MockClock,
) -> None:
    times: list[float] = []

    class Noting(Engine):
        def links(self) -> list[Driven]:
            times.append(trio.current_time() - begun)
            return []

    engine = Noting()
    begun = trio.current_time()
    settings = KeepAlive(idle=10, count=5, interval=4, user_timeout=0)
    with trio.move_on_after(16):
        await liveness.watch(engine, lambda: settings)
    assert times == pytest.approx([5, 10, 15])
    engine.close()


def time_out(sock: socket.socket) -> int:
    """The user timeout that a socket has."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


@pytest.mark.slow
def test_a_user_timeout_counts_the_time_in_which_the_peer_does_not_read() -> None:
    """Why there is none by default."""
    default = keepalive_of(base_settings())
    assert builders.config().general.tcp_user_timeout == default.user_timeout == 0
    short = KeepAlive(idle=5, count=5, interval=5, user_timeout=300)
    with lazy_peer() as (ours, _peer), lazy_peer() as (other, _other_peer):
        configure(ours, default)
        configure(other, short)
        assert (time_out(ours), time_out(other)) == (0, 300)
        for sock in (ours, other):
            sock.send(MUCH)
            sock.settimeout(PATIENCE)
        with pytest.raises(OSError, match="timed out") as caught:
            other.recv(1)
        assert caught.value.errno == errno.ETIMEDOUT
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        other.close()
        ours.close()


class _Told:
    """A socket of which the kernel says what a test wants."""

    def __init__(self, **told: int) -> None:
        names = ("retransmits", "probes", "interval", "data", "acknowledgement")
        self._packed = struct.pack("=2x2B4xI40x2I", *(told.get(name, 0) for name in names))

    def getsockopt(self, *_option: int) -> bytes:
        return self._packed


@pytest.mark.parametrize("count", range(6))
def test_a_peer_owes_an_answer_from_the_third_packet_on(count: int) -> None:
    told = {"data": 9_000, "acknowledgement": 8_000, "interval": 1_000_000}
    wanted = 8.0 if count >= 3 else 0.0
    for name in ("probes", "retransmits"):
        assert (
            liveness._silence(cast("socket.socket", _Told(**{name: count}, **told))) == wanted
        )


@pytest.mark.parametrize(("silent", "is_overdue"), [(2_999, False), (3_000, True)])
def test_retransmissions_count_once_the_kernel_would_have_sent_another(
    silent: int, is_overdue: bool
) -> None:
    told = _Told(retransmits=9, data=silent, acknowledgement=silent, interval=2_000_000)
    assert bool(liveness._silence(cast("socket.socket", told))) is is_overdue
