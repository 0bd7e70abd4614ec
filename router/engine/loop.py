"""The engine: the sockets of logged-in clients and servers, in an epoll that one task drains.

Theory of operation
-------------------
Trio waits on the engine's epoll as on any descriptor. When something is ready, the engine takes
over: it calls the links that are ready, sends what those calls have queued (one `send` a link
and round), and looks again. Only when nothing has been ready for a millisecond, or when some
milliseconds have passed, does it give control back to trio, so that accepts, logins and timers
are not forgotten. Trio's cost of waking up a task is so paid once for many messages, and while
traffic lasts the process sleeps in the engine's epoll, one system call away from the next
message.

A link that has more to do than is one link's share of a round gets a *turn* in a later one,
behind what has become ready meanwhile. So a client that sends thousands of messages at once
makes nobody wait until they are all dealt with.

Nothing that the engine calls may await. Code that runs in trio tasks may call links at any
time: outside of a round, what it writes is sent at once.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
import select
import time
from collections import deque
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

import trio

from ..compiling import mypyc_attr
from ..figures import Figures

if TYPE_CHECKING:
    from collections.abc import Callable


log = logging.getLogger("router.engine")

# How long the engine may keep trio waiting while there is traffic, in seconds.
BUDGET: Final = 0.008
# How long it sleeps in its own epoll before it hands back to trio, in seconds. epoll counts in
# whole milliseconds, so this is the least there is.
LINGER: Final = 0.001
MAX_EVENTS: Final = 64
# How much of a round may go into turns, in seconds; at least one is given.
TURNS_BUDGET: Final = 0.001

# Looked up once: they are asked for every round.
_now: Final = time.monotonic
_yield: Final = os.sched_yield


class Timer:
    """A call that is due at a time; cancel it by `cancel`."""

    __slots__ = ("callback", "when")

    def __init__(self, when: float, callback: Callable[[], None]) -> None:
        self.when: Final = when
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Make sure that it is not called any more."""
        self.callback = None


@mypyc_attr(allow_interpreted_subclasses=True)
class Driven:
    """What the engine drives: a link, as the engine knows it.

    A class and not a Protocol, so that compiled code calls it directly.
    """

    __slots__ = ()

    def on_ready(self, mask: int) -> None:
        """The socket is ready for what `mask` says."""
        raise NotImplementedError

    def on_turn(self) -> None:
        """This is the turn that was asked for by `Engine.give_turn`."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what can be sent without waiting."""
        raise NotImplementedError

    def abort(self, reason: str) -> None:
        """Close at once, and tell the handler."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Engine:
    """The nested epoll, its links and its timers.

    Attributes:
        figures: what is counted of all that goes on.
    """

    def __init__(self) -> None:
        self.figures = Figures(lambda: self.now)
        self._epoll = select.epoll()
        # By their descriptors, of which the system always gives the least that is free.
        self._links: list[Driven | None] = []
        self._dirty: list[Driven] = []
        self._turns: deque[Driven] = deque()
        self._timers: list[tuple[float, int, Timer]] = []
        self._due = math.inf  # when the first timer is
        self._timer_serial = count()
        self._in_round = False
        self._waiting: trio.CancelScope | None = None
        self._now = _now()

    def __repr__(self) -> str:
        return f"<Engine [{len(self.links())} links, {len(self._timers)} timers]>"

    @property
    def now(self) -> float:
        """The time.monotonic() of this round; read it instead of asking the clock again."""
        return self._now if self._in_round else _now()

    # --- links

    def links(self) -> list[Driven]:
        """Those there are now."""
        return [link for link in self._links if link is not None]

    def register(self, link: Driven, fd: int, events: int) -> None:
        """Watch a link's socket."""
        self._epoll.register(fd, events)
        missing = fd + 1 - len(self._links)
        if missing > 0:
            self._links += [None] * missing
        self._links[fd] = link

    def modify(self, fd: int, events: int) -> None:
        """Change what a link's socket is watched for."""
        self._epoll.modify(fd, events)

    def unregister(self, fd: int) -> None:
        """Stop watching, before the socket is closed."""
        self._links[fd] = None
        self._epoll.unregister(fd)

    def flush_soon(self, link: Driven) -> None:
        """A link has output: send it at the end of the round, or now if there is none."""
        self._dirty.append(link)
        if not self._in_round:
            self._round(_nothing)

    def give_turn(self, link: Driven) -> None:
        """Call a link's `on_turn` in a round to come."""
        self._turns.append(link)
        if self._waiting is not None:
            self._waiting.cancel()  # the task sleeps: it has something to do

    # --- timers

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call something at a time of time.monotonic()."""
        timer = Timer(when, callback)
        heapq.heappush(self._timers, (when, next(self._timer_serial), timer))
        self._due = self._timers[0][0]
        if self._waiting is not None:
            # The task sleeps: it must not sleep past this.
            due = trio.current_time() + when - _now()
            self._waiting.deadline = min(self._waiting.deadline, due)
        return timer

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call something after so many seconds."""
        return self.call_at(_now() + delay, callback)

    def _run_timers(self) -> None:
        timers = self._timers
        while timers and timers[0][0] <= self._now:
            when, _, timer = heapq.heappop(timers)
            callback = timer.callback
            if callback is not None:
                self.figures.delays.add(self._now - when)
                _attempt(callback)
        self._due = timers[0][0] if timers else math.inf

    # --- the task

    async def run(self) -> None:
        """Serve until cancelled."""
        fd = self._epoll.fileno()
        try:
            while True:
                self._now = _now()
                due = trio.current_time() + self._due - self._now
                with trio.CancelScope(deadline=due) as self._waiting:
                    await trio.lowlevel.wait_readable(fd)
                self._waiting = None
                busy = False
                while self._serve():
                    if not busy:
                        busy = True
                        # Not to be watched from outside meanwhile saves the kernel two locks
                        # an event.
                        trio.lowlevel.notify_closing(fd)
                    # In the thick of it, and not asleep: a turn for the others costs less.
                    await trio.lowlevel.checkpoint()
        finally:
            self._waiting = None

    def _serve(self) -> bool:
        """Go round until nothing is ready for a while, or the budget is spent: that is True."""
        poll = self._epoll.poll
        started = self._now = _now()
        events = poll(0, MAX_EVENTS)
        self._in_round = True
        try:
            while True:
                self._dispatch(events)
                if self._turns:
                    # What the others wait for is not to wait for these, nor are those who have
                    # just been woken: the kernel tends to queue them on this processor.
                    self._flush_dirty()
                    _yield()
                    self._give_turns()
                self._flush_dirty()
                if self._now - started > BUDGET:
                    return True
                events = poll(0 if self._turns else LINGER, MAX_EVENTS)
                if not events and not self._turns:
                    self._now = _now()
                    self._run_timers()
                    self._flush_dirty()
                    return bool(self._turns)
        finally:
            self._in_round = False

    def _dispatch(self, events: list[tuple[int, int]]) -> None:
        self._now = _now()
        if self._due <= self._now:
            self._run_timers()
        links = self._links
        for fd, mask in events:
            link = links[fd]
            if link is not None:  # else it was closed earlier in this round
                try:
                    link.on_ready(mask)
                except Exception:
                    _give_up(link)

    def _give_turns(self) -> None:
        """Let those go on that have had to stop, first come first served."""
        turns = self._turns
        end = _now() + TURNS_BUDGET
        for _ in range(len(turns)):
            link = turns.popleft()
            try:
                link.on_turn()
            except Exception:
                _give_up(link)
            if _now() >= end:
                break

    def _round(self, work: Callable[..., None], *args: object) -> None:
        """Do some work, then send all that it has queued."""
        if self._in_round:
            work(*args)
            return
        self._in_round = True
        self._now = _now()
        try:
            work(*args)
            self._flush_dirty()
        finally:
            self._in_round = False

    def _flush_dirty(self) -> None:
        """Send what has been queued, and what that makes others queue."""
        dirty = self._dirty
        while dirty:
            self._dirty = []
            for link in dirty:
                try:
                    link.flush()
                except Exception:
                    _give_up(link)
            dirty = self._dirty

    def run_in_round(self, work: Callable[[], None]) -> None:
        """Do some work from a trio task; what it writes to one link goes out together."""
        self._round(work)

    def run_for(self, link: Driven, work: Callable[[], None]) -> None:
        """Do what `run_in_round` does, for a link that is closed if the work has a bug."""
        self._round(_run_for, link, work)

    def attempt(self, work: Callable[[], None]) -> None:
        """Do the same for what nobody can act on if it has a bug: that is logged."""
        self._round(_attempt, work)

    def close(self) -> None:
        """Close every link and the epoll."""
        self._turns.clear()
        for link in self.links():
            _attempt(partial(link.abort, "shutting down"))
        self._epoll.close()


def _attempt(work: Callable[[], None]) -> None:
    # One client's bug must not take the others down.
    try:
        work()
    except Exception:
        log.exception("internal error")


def _run_for(link: Driven, work: Callable[[], None]) -> None:
    try:
        work()
    except Exception:
        _give_up(link)


def _give_up(link: Driven) -> None:
    """Close a link that has failed, whose handler may fail to hear of it, too."""
    log.exception("internal error, closing %r", link)
    _attempt(partial(link.abort, "internal error"))


def _nothing() -> None:
    """What there is to do in a round that only sends."""
