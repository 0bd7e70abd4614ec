"""Timers and rounds of the engine."""

from __future__ import annotations

import os
import select
import time
from functools import partial

import pytest
import trio

from router.engine.loop import Driven
from tests.support.builds import Build, build

from .peers import PATIENCE, Recorder, Sharing, linked, receive, running_engine


async def test_the_engines_time_is_right_outside_of_a_round_and_stands_still_in_it() -> None:
    async with running_engine() as engine:
        for _ in range(3):
            before = time.monotonic()
            assert before <= engine.now <= time.monotonic()
        seen: list[float] = []

        def look() -> None:
            start = time.monotonic()
            seen.append(engine.now)
            while time.monotonic() == start:
                pass
            seen.append(engine.now)

        before = time.monotonic()
        engine.run_in_round(look)
        assert before <= seen[0] == seen[1] <= time.monotonic()


async def test_timers_are_called_in_the_order_of_their_times() -> None:
    called: list[str] = []
    done = trio.Event()
    async with running_engine() as engine:
        now = time.monotonic()
        engine.call_at(now + 0.02, lambda: called.append("third"))
        engine.call_at(now + 0.03, done.set)
        engine.call_at(now + 0.01, lambda: called.append("first"))
        engine.call_at(now + 0.01, lambda: called.append("second"))
        engine.call_at(now + 0.015, lambda: called.append("never")).cancel()
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert called == ["first", "second", "third"]


async def test_a_timer_is_not_called_before_its_time() -> None:
    called = trio.Event()
    async with running_engine() as engine:
        due = time.monotonic() + 0.02
        engine.call_at(due, called.set)
        with trio.fail_after(PATIENCE):
            await called.wait()
        assert time.monotonic() >= due


async def test_a_timer_that_is_set_while_the_engine_sleeps_wakes_it() -> None:
    async with running_engine() as engine:
        late, soon = trio.Event(), trio.Event()
        engine.call_later(3600, late.set)
        await trio.testing.wait_all_tasks_blocked()
        engine.call_later(0.001, soon.set)
        with trio.fail_after(PATIENCE):
            await soon.wait()
        assert not late.is_set()


async def test_a_timer_that_fails_takes_no_other_with_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    done = trio.Event()

    def fail() -> None:
        raise ValueError("a bug")

    async with running_engine() as engine:
        engine.call_later(0, fail)
        engine.call_later(0, done.set)
        with trio.fail_after(PATIENCE):
            await done.wait()
    assert "a bug" in caplog.text


async def test_what_a_round_writes_to_a_link_goes_out_together() -> None:
    async with running_engine() as engine:
        link, _, peer = linked(engine)

        def write() -> None:
            link.write(b"one ")
            link.write(b"two")
            assert link.sent == 0

        engine.run_in_round(write)
        assert link.sent == 7
        assert await receive(peer, 7) == b"one two"


async def test_what_is_written_outside_of_a_round_goes_out_at_once() -> None:
    async with running_engine() as engine:
        link, _, peer = linked(engine)
        link.write(b"now")
        assert link.sent == 3
        assert await receive(peer, 3) == b"now"


async def test_a_handler_that_fails_costs_its_own_link_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Recorder):
        def on_data(self, data: bytes) -> None:
            raise ValueError("a bug")

    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        broken, _, other = linked(engine, Failing())
        await other.send(b"x")
        assert await receive(other, 1) == b""
        await peer.send(b"y")
        await recorder.wait_until(lambda r: r.data == b"y")
        assert broken.closed
        assert not link.closed
    assert "a bug" in caplog.text


class Broken(Recorder):
    """Fails whatever it is told."""

    def on_data(self, data: bytes) -> None:
        super().on_data(data)
        raise ValueError("a bug")

    def on_closed(self, reason: str) -> None:
        super().on_closed(reason)
        raise ValueError("another bug")

    def on_drained(self) -> None:
        super().on_drained()
        raise ValueError("a third bug")


async def test_a_handler_that_fails_when_it_is_given_up_costs_its_own_link_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        broken, handler, other = linked(engine, Broken())
        await other.send(b"x")
        assert await receive(other, 1) == b""
        await peer.send(b"y")
        await recorder.wait_until(lambda r: r.data == b"y")
        assert (broken.closed, link.closed) == (True, False)
        assert handler.reasons == ["internal error"]
    assert "another bug" in caplog.text


async def test_who_writes_is_not_concerned_by_a_handler_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_engine() as engine:
        broken, handler, _ = linked(engine, Broken())
        broken.congested = True
        broken.write(b"x")
        assert broken.closed
        assert (handler.drained, handler.reasons) == (1, ["internal error"])
    assert "a third bug" in caplog.text


async def test_work_for_a_link_that_fails_costs_that_link_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_engine() as engine:
        link, _, peer = linked(engine)
        broken, handler, _ = linked(engine)

        def work() -> None:
            link.write(b"y")
            raise ValueError("a bug")

        engine.run_for(broken, work)
        assert (broken.closed, handler.reasons) == (True, ["internal error"])
        assert await receive(peer, 1) == b"y"
    assert "a bug" in caplog.text


async def test_an_attempt_that_fails_is_logged_and_what_it_wrote_is_sent(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running_engine() as engine:
        link, _, peer = linked(engine)

        def work() -> None:
            link.write(b"y")
            raise ValueError("a bug")

        engine.attempt(work)
        assert await receive(peer, 1) == b"y"
    assert "a bug" in caplog.text


async def test_links_are_closed_with_the_engine_whatever_their_handlers_do() -> None:
    async with running_engine() as engine:
        links = [linked(engine, handler)[0] for handler in (Broken(), None, Broken())]
        engine.close()
        assert all(link.closed for link in links)
        assert engine.links() == []


async def test_trio_gets_its_turn_while_traffic_lasts() -> None:
    class Answering(Recorder):
        def on_data(self, data: bytes) -> None:
            self.data += data
            link.write(b"ping")

    turns = 0
    async with running_engine() as engine:
        link, recorder, peer = linked(engine, Answering())

        async def echo() -> None:
            while True:
                await peer.send(await peer.recv(100))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            link.write(b"ping")
            with trio.fail_after(PATIENCE):
                while len(recorder.data) < 400:
                    await trio.lowlevel.checkpoint()
                    turns += 1
            nursery.cancel_scope.cancel()
    assert turns > 1


async def test_closing_the_engine_tells_every_handler() -> None:
    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        engine.close()
        assert link.closed
        assert recorder.reasons == ["shutting down"]
        assert await receive(peer, 1) == b""


# --- turns


async def test_links_that_have_much_to_do_take_turns() -> None:
    log: list[str] = []
    async with running_engine() as engine:
        handlers = [Sharing(name, log) for name in "ab"]
        peers = []
        for handler in handlers:
            handler.link, _, peer = linked(engine, handler)
            peers.append(peer)
        for peer in peers:
            os.write(peer.fileno(), b"x" * 100)
        for handler in handlers:
            await handler.wait_until(lambda r: len(r.data) == 100)
        assert handlers[0].data == b"x" * 100
    # Whoever was first, they alternate while both have something to do.
    both = "".join(log)
    assert "abababab" in both
    assert len(log) == 200


async def test_whoever_is_ready_comes_before_the_next_turn() -> None:
    log: list[str] = []

    class Brief(Recorder):
        def on_data(self, data: bytes) -> None:
            log.append("brief")
            self.data += data

    class Flooded(Sharing):
        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            if len(log) == 10:
                os.write(brief_peer.fileno(), b"y")

    async with running_engine() as engine:
        _, brief, brief_peer = linked(engine, Brief())
        flooded = Flooded("flooded", log)
        flooded.link, _, peer = linked(engine, flooded)
        await peer.send(b"x" * 500)
        await flooded.wait_until(lambda r: len(r.data) == 500)
        assert brief.data == b"y"
    # It had to wait for the turns of one round, not for all that was there.
    assert log.index("brief") < 400


async def test_what_others_wait_for_is_sent_before_the_turns() -> None:
    log: list[str] = []

    class Brief(Recorder):
        def on_data(self, data: bytes) -> None:
            self.data += data
            brief_link.write(b"answer")

    class Flooded(Sharing):
        def on_data(self, data: bytes) -> None:
            super().on_data(data)
            if len(log) == 10:
                os.write(brief_peer.fileno(), b"question")
            elif brief.data and not seen:
                seen.append(select.select([brief_peer.fileno()], [], [], 0)[0] != [])

    seen: list[bool] = []
    async with running_engine() as engine:
        brief_link, brief, brief_peer = linked(engine, Brief())
        flooded = Flooded("flooded", log)
        flooded.link, _, peer = linked(engine, flooded)
        await peer.send(b"x" * 500)
        await flooded.wait_until(lambda r: len(r.data) == 500)
    assert seen == [True]


@pytest.mark.skipif(build() is not Build.PLAIN, reason="compiled code cannot be watched")
async def test_others_get_the_processor_before_a_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    log: list[str] = []
    monkeypatch.setattr("router.engine.loop._yield", partial(log.append, "others"))
    async with running_engine() as engine:
        one = Sharing("one", log)
        one.link, _, peer = linked(engine, one)
        await peer.send(b"x" * 3)
        await one.wait_until(lambda r: len(r.data) == 3)
    assert log == ["one", "others", "one", "others", "one"]


async def test_a_link_reads_nothing_before_its_turn() -> None:
    async with running_engine() as engine:
        handler = Sharing("a", [])
        handler.link, _, peer = linked(engine, handler)
        await peer.send(b"x" * 50)
        await handler.wait_until(lambda r: len(r.data) > 0)
        await peer.send(b"y" * 50)
        peer.shutdown(trio.socket.SHUT_WR)
        # What came before the end is dealt with first, though the end is known.
        await handler.wait_until(lambda r: bool(r.reasons))
        assert handler.data.startswith(b"x" * 50)


async def test_a_turn_that_is_asked_for_twice_is_given_once() -> None:
    async with running_engine() as engine:
        turns: list[bytes] = []

        class Counting(Recorder):
            def on_data(self, data: bytes) -> None:
                turns.append(data)

        link, _, _ = linked(engine, Counting())
        link.defer()
        link.defer()
        await trio.testing.wait_all_tasks_blocked()
        assert turns == [b""]


async def test_a_turn_that_is_asked_for_while_the_engine_sleeps_wakes_it() -> None:
    async with running_engine() as engine:
        turns = trio.Event()

        class Waking(Recorder):
            def on_data(self, data: bytes) -> None:
                turns.set()

        link, _, _ = linked(engine, Waking())
        await trio.testing.wait_all_tasks_blocked()
        link.defer()
        with trio.fail_after(PATIENCE):
            await turns.wait()


async def test_a_turn_that_a_timer_asks_for_is_given() -> None:
    async with running_engine() as engine:
        turns = trio.Event()

        class Waking(Recorder):
            def on_data(self, data: bytes) -> None:
                turns.set()

        link, _, _ = linked(engine, Waking())
        engine.call_later(0.001, link.defer)
        with trio.fail_after(PATIENCE):
            await turns.wait()


async def test_a_turn_of_a_link_that_has_closed_is_nobodys() -> None:
    async with running_engine() as engine:
        handler = Recorder()
        link, _, _ = linked(engine, handler)
        link.defer()
        link.close()
        await trio.testing.wait_all_tasks_blocked()
        assert handler.data == b""
        assert handler.reasons == []


async def test_how_late_a_timer_is_called_is_noted() -> None:
    async with running_engine() as engine:
        done, due = trio.Event(), time.monotonic() - 1.0
        engine.call_at(due, done.set)
        engine.call_at(due, lambda: None).cancel()
        with trio.fail_after(PATIENCE):
            await done.wait()
        assert engine.figures.delays.count == 1
        assert engine.figures.delays.total >= 1.0


async def test_a_handler_that_fails_at_its_end_too_costs_its_own_link_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Recorder):
        def on_data(self, data: bytes) -> None:
            raise ValueError("a bug")

        def on_closed(self, reason: str) -> None:
            raise ValueError("another bug")

    async with running_engine() as engine:
        link, recorder, peer = linked(engine)
        broken, _, other = linked(engine, Failing())
        await other.send(b"x")
        assert await receive(other, 1) == b""
        broken, _, other = linked(engine, Failing())
        broken.feed(b"x")
        assert await receive(other, 1) == b""
        await peer.send(b"y")
        await recorder.wait_until(lambda r: r.data == b"y")
        assert broken.closed
        assert not link.closed
    assert "another bug" in caplog.text


async def test_a_send_that_fails_outside_of_a_round_does_not_reach_who_wrote(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Driven):
        reasons: tuple[str, ...] = ()

        def flush(self) -> None:
            raise ValueError("a bug")

        def abort(self, reason: str) -> None:
            self.reasons += (reason,)

    async with running_engine() as engine:
        broken = Broken()
        engine.flush_soon(broken)
        assert broken.reasons == ("internal error",)
    assert "a bug" in caplog.text
