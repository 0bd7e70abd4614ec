"""Links over real sockets: back-pressure, and how they end."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

import pytest
import trio

from router.engine.link import HIGH_WATER, LOW_WATER, Link
from router.engine.loop import Engine, Timer

from .peers import Recorder, linked, receive, running_engine, socket_pair

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCK = b"x" * 65536


def fill(link: Link) -> int:
    """Write until the link is congested; returns how much."""
    size = 0
    while not link.congested:
        link.write(BLOCK)
        size += len(BLOCK)
    return size


async def test_what_arrives_is_given_to_the_handler() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        await peer.send(b"hello")
        await recorder.wait_until(lambda r: r.data == b"hello")
        assert link.received == 5


async def test_a_stream_of_any_length_arrives_whole() -> None:
    async with running_engine() as engine:
        _, recorder, peer = linked(engine)
        sent = bytes(range(256)) * 4096
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.SocketStream(peer).send_all, sent)
            await recorder.wait_until(lambda r: len(r.data) == len(sent))
        assert recorder.data == sent


async def test_the_kernel_need_not_tell_of_what_is_to_wait_for_a_turn() -> None:
    asked: list[int] = []

    class Noting(Engine):
        def modify(self, fd: int, events: int) -> None:
            asked.append(events)

    engine = Noting()
    link, _, _ = linked(engine)
    link.defer()
    for _ in range(2):
        link.on_ready(select.EPOLLIN)
    assert asked == [0]
    link.on_turn()
    assert asked[1:] == [select.EPOLLIN | select.EPOLLRDHUP]
    engine.close()


async def test_the_kernel_tells_of_room_for_output_only_while_there_is_some_left() -> None:
    asked: list[int] = []

    class Noting(Engine):
        def modify(self, fd: int, events: int) -> None:
            asked.append(events)

    engine = Noting()
    link, _, peer = linked(engine)
    sent = fill(link)
    link.flush()
    assert asked.pop() & select.EPOLLOUT
    got = 0
    while got < sent:
        got += len(await peer.recv(len(BLOCK)))
        link.flush()
    assert not asked.pop() & select.EPOLLOUT
    engine.close()


# --- resting


class Unhurried(Engine):
    """An engine whose timers are called by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.later: list[Callable[[], None]] = []

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        self.later.append(callback)
        return Timer(delay, callback)

    def come_to_it(self) -> None:
        """Call what is due later."""
        later, self.later = self.later, []
        for callback in later:
            self.run_in_round(callback)


class Resting(Recorder):
    """A handler whose link rests after each read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[bytes] = []
        self.link: Link | None = None

    def on_data(self, data: bytes) -> None:
        self.reads.append(data)
        assert self.link is not None
        self.link.rest()
        self.link.rest()
        super().on_data(data)


async def test_while_a_link_rests_others_are_served_and_its_peer_fills_one_read() -> None:
    engine = Unhurried()
    async with running_engine(engine):
        resting = Resting()
        resting.link, _, peer = linked(engine, resting)
        _, other, other_peer = linked(engine)
        await peer.send(b"first")
        await resting.wait_until(lambda r: r.data == b"first")
        for number in range(1, 4):
            await peer.send(b"more")
            await other_peer.send(b"x")
            await other.wait_until(lambda r, n=number: len(r.data) == n)  # type: ignore[misc]
        assert resting.reads == [b"first"]
        engine.come_to_it()
        await resting.wait_until(lambda r: len(r.data) == 17)
        assert resting.reads == [b"first", b"moremoremore"]


async def test_that_the_peer_has_left_is_told_after_the_rest_and_what_came_before() -> None:
    engine = Unhurried()
    async with running_engine(engine):
        resting = Resting()
        resting.link, _, peer = linked(engine, resting)
        for part in (b"first", b"last"):
            await peer.send(part)
            await resting.wait_until(lambda r, p=part: r.data.endswith(p))  # type: ignore[misc]
            peer.shutdown(trio.socket.SHUT_WR) if part == b"last" else engine.come_to_it()
        await trio.testing.wait_all_tasks_blocked()
        assert resting.reasons == []
        engine.come_to_it()
        await resting.wait_until(lambda r: bool(r.reasons))
        assert resting.reads == [b"first", b"last"]


async def test_a_link_that_is_closed_while_it_rests_is_left_alone() -> None:
    engine = Unhurried()
    async with running_engine(engine):
        resting = Resting()
        resting.link, _, peer = linked(engine, resting)
        await peer.send(b"first")
        await resting.wait_until(lambda r: r.data == b"first")
        await peer.send(b"more")  # of which the kernel need not tell any more
        await trio.testing.wait_all_tasks_blocked()
        resting.link.abort("gone")
        for callback in engine.later:
            callback()
        engine.later.clear()
        assert resting.reasons == ["gone"]
        resting.link.rest()
        assert engine.later == []


# --- back-pressure


async def test_a_paused_link_reads_nothing_until_it_is_resumed() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        link.pause()
        await peer.send(b"later")
        await trio.testing.wait_all_tasks_blocked()
        assert recorder.data == b""
        link.resume()
        await recorder.wait_until(lambda r: r.data == b"later")


async def test_a_link_is_congested_when_its_peer_takes_nothing() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, buffer=8192)
        size = fill(link)
        assert size >= HIGH_WATER
        assert recorder.drained == 0
        received = await receive(peer, size - LOW_WATER // 2)
        await recorder.wait_until(lambda r: r.drained == 1)
        assert not link.congested
        received += await receive(peer, size - len(received))
        assert received == b"x" * size
        assert link.sent == size


async def test_a_link_can_be_congested_again() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, buffer=8192)
        for times in (1, 2):
            await receive(peer, fill(link))
            await recorder.wait_until(lambda r, n=times: r.drained == n)  # type: ignore[misc]


async def test_a_paused_link_still_sends() -> None:
    async with running_engine() as engine:
        link, _, peer = linked(engine, buffer=8192)
        link.pause()
        size = fill(link)
        assert len(await receive(peer, size)) == size


# --- ending


async def test_the_peers_leaving_is_told_once() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        await peer.send(b"last words")
        peer.close()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert recorder.data == b"last words"
        assert recorder.reasons == ["connection closed by peer"]
        assert link.closed
        link.write(b"nobody is there")
        link.close()
        link.abort("again")
        assert recorder.reasons == ["connection closed by peer"]


@pytest.mark.parametrize("is_paused", [False, True])
async def test_a_peer_that_sends_no_more_may_be_answered_and_is_told_of_once(
    is_paused: bool,
) -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, Recorder(stays=True), buffer=4096)
        await peer.send(b"question")
        peer.shutdown(trio.socket.SHUT_WR)
        await recorder.wait_until(lambda r: r.ends == 1)
        if is_paused:
            link.pause()
            link.resume()
        answer = b"y" * 100_000
        link.write(answer)
        assert await receive(peer, len(answer)) == answer
        await trio.testing.wait_all_tasks_blocked()
        assert (recorder.data, recorder.ends, recorder.reasons) == (b"question", 1, [])
        link.write(b"more")
        link.close()
        assert await receive(peer, 100) == b"more"


async def test_a_peer_that_leaves_after_it_has_sent_its_last_is_noticed() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, Recorder(stays=True))
        peer.shutdown(trio.socket.SHUT_WR)
        await recorder.wait_until(lambda r: r.ends == 1)
        peer.close()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert link.closed


async def test_the_peers_leaving_is_noticed_while_paused() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        link.pause()
        await peer.send(b"unread")
        peer.close()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert recorder.data == b""


async def test_a_patient_link_keeps_what_the_peer_sent_before_it_left() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, patient=True)
        link.pause()
        await peer.send(b"unread")
        peer.shutdown(trio.socket.SHUT_WR)
        await trio.testing.wait_all_tasks_blocked()
        assert not link.closed
        link.resume()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert recorder.data == b"unread"


async def test_closing_sends_what_is_queued_and_says_nothing() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, buffer=8192)
        size = fill(link)
        link.close()
        link.write(b"too late")
        assert not link.closed
        assert await receive(peer, size + 1) == b"x" * size
        assert link.closed
        assert recorder.reasons == []


async def test_a_closing_link_hears_nothing_more() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, buffer=8192)
        size = fill(link)
        link.close()
        await peer.send(b"a question")
        assert len(await receive(peer, size)) == size
        assert recorder.data == b""


async def test_a_peer_that_breaks_off_ends_a_link_that_has_something_to_send() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, buffer=8192)
        fill(link)
        peer.close()
        await recorder.wait_until(lambda r: bool(r.reasons))
        assert link.closed


async def test_aborting_closes_at_once_and_tells_why() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, buffer=8192)
        size = fill(link)
        link.abort("enough")
        assert link.closed
        assert recorder.reasons == ["enough"]
        assert len(await receive(peer, size)) < size


async def test_a_handler_may_close_its_link_when_it_gets_data() -> None:
    async with running_engine() as engine:
        sock, peer = socket_pair()

        class Curt:
            link: Link

            def on_data(self, data: bytes) -> None:
                self.link.write(b"goodbye")
                self.link.close()

            def on_drained(self) -> None: ...

            def on_eof(self) -> bool:
                return False

            def on_closed(self, reason: str) -> None:
                raise AssertionError(reason)

        handler = Curt()
        handler.link = Link(engine, sock, handler)
        await peer.send(b"hello")
        assert await receive(peer, 100) == b"goodbye"
        peer.close()
