"""Two connections hear the same for a client that listens: it is told of each thing once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from router.pool.contracts import PoolClient
from router.pool.hubs import Hubs
from router.protocol import codes, messages
from router.session.listening import MOST_HELD, Listening
from tests.pool.builders import opened
from tests.pool.test_hub import Lines
from tests.support.harness import Harness

if TYPE_CHECKING:
    from router.errors import RouterError
    from router.pool.server import ServerConnection

NEWS = frozenset([b"news", b"more"])


class Holder(PoolClient):
    """A client that listens.

    Attributes:
        told: of what, in order.
        is_free: it is in no transaction.
    """

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes] = []
        self.error: RouterError | None = None
        self.is_free = True

    def reply(self, data: bytes) -> None:
        self.told.append(data)

    @property
    def congested(self) -> bool:
        return False

    def server_ready(self) -> None:
        """It has nothing to send."""

    def expel(self, error: RouterError | None = None) -> None:
        self.error = error


class Stage:
    """A client that listens by the line of its pool, and a server for its transactions."""

    def __init__(self) -> None:
        harness = self.harness = Harness()
        self.lines = Lines()
        hubs = Hubs(harness.engine, self.lines, "app/ann")
        hubs.use([[harness.part]])
        [server] = opened(harness)
        self.server: ServerConnection = server.connection
        self.holder = Holder()
        self.listening = Listening(
            harness.engine, self.holder, hubs, lambda: self.holder.is_free, lambda: None
        )
        self.hub = hubs.of(0)

    def take_over(self) -> bytes:
        """In a transaction, the line is to speak for the client; returns the marker."""
        self.outcomes: list[bool] = []
        self.begin()
        self.listening.take_over(self.server, NEWS, self.outcomes.append)
        if self.hub.line is None:
            self.lines.accept()
        self.answer_line()
        [serial] = self.hub._expected
        return notification(self.hub.marker, serial)

    def listen(self, *said: bytes) -> None:
        """The line takes over in a transaction in which the server says something besides."""
        marker = self.take_over()
        self.hear_line(marker)
        self.hear_both([marker, *said], [], [])
        self.taken_over()

    def taken_over(self) -> None:
        """The server has sent the marker, and has had its answer."""
        self.answer()
        assert self.outcomes == [True]

    def answer_line(self) -> None:
        """The line's server does what it was asked for."""
        while self.lines.line.queue:
            self.lines.line.on_data(
                messages.command_complete("LISTEN") + messages.ready_for_query()
            )

    def begin(self, *early: bytes) -> None:
        """A transaction begins: the server listens to what the client listens to.

        `early` comes before it does.
        """
        self.holder.is_free = False
        self.listening.attach(self.server)
        for data in early:
            self.hear_line(data)
        if self.listening.mirrored:
            self.answer()

    def answer(self) -> None:
        """The server does what the router has asked it for."""
        self.server.on_data(messages.command_complete("LISTEN") + messages.ready_for_query())

    def end(self, *gone: bytes) -> None:
        """It is over, with UNLISTEN of some: the server is asked, and belongs to others."""
        there = frozenset(self.listening.mirrored.difference(gone))
        assert not self.listening.settle(self.server, there)
        self.server.ear = None
        self.holder.is_free = True
        self.listening.detach()

    def hear_server(self, data: bytes) -> None:
        """The server says something."""
        if self.listening.hears(self.server, data):
            self.holder.told.append(data)

    def hear_line(self, data: bytes) -> None:
        """The line says something."""
        self.lines.line.on_data(data)

    def hear_both(
        self, at_server: list[bytes], at_line: list[bytes], turns: list[bool]
    ) -> list[bytes]:
        """Both say the same, the one or the other first; returns what the line has yet to say.

        All that is at the server comes before the transaction ends.
        """
        at_server, at_line = list(at_server), list(at_line)
        for is_server in turns:
            if is_server and at_server:
                self.hear_server(at_server.pop(0))
            elif not is_server and at_line:
                self.hear_line(at_line.pop(0))
        for data in at_server:
            self.hear_server(data)
        return at_line


def notification(name: bytes, payload: bytes) -> bytes:
    """A NotificationResponse."""
    body = bytes(4) + name + b"\0" + payload + b"\0"
    return messages.message(codes.NOTIFICATION_RESPONSE, body)


# Few of them, for what is said twice must be told twice.
SAID = st.lists(
    st.builds(notification, st.sampled_from([b"news", b"more"]), st.sampled_from([b"a", b"b"])),
    max_size=8,
)
TURNS = st.lists(st.booleans(), max_size=16)
# Of each transaction: how much is said before its server listens, and what then; how much of
# that the server says before it ends; and who is ahead of whom. Were the first the same as the
# others, nobody could tell which of them the server says.
TRANSACTIONS = st.lists(
    st.tuples(st.integers(0, 2), SAID, st.integers(0, 8), TURNS), max_size=4
)
EARLY = notification(b"news", b"early")


@given(SAID, TURNS, TRANSACTIONS, SAID)
def test_each_thing_is_told_once_and_in_its_order_whoever_hears_it_first(
    first: list[bytes],
    turns: list[bool],
    transactions: list[tuple[int, list[bytes], int, list[bool]]],
    rest: list[bytes],
) -> None:
    stage, expected = Stage(), list(first)
    heard = [stage.take_over(), *first]
    behind = stage.hear_both(heard, heard, turns)
    stage.taken_over()
    stage.end()
    for early, said, most, turns in transactions:
        for data in behind:
            stage.hear_line(data)
        expected += [EARLY] * early + said
        stage.begin(*[EARLY] * early)
        behind = stage.hear_both(said[:most], said, turns)
        stage.end()
    for data in [*behind, *rest]:
        stage.hear_line(data)
    # What was counted for one transaction has no effect on what is said afterwards.
    assert stage.holder.told == expected + rest


def listening() -> Stage:
    """A client that listens, outside of a transaction."""
    stage = Stage()
    stage.listen()
    stage.end()
    return stage


@given(SAID, st.integers(0, 8))
def test_what_a_lost_line_has_not_said_is_not_kept_from_the_client_later(
    said: list[bytes], count: int
) -> None:
    """What only the server has told, no line will say any more."""
    stage = listening()
    stage.begin()
    for data in said[:count]:
        stage.hear_server(data)
    stage.lines.line.on_closed("it is gone")
    for data in said[count:]:
        stage.hear_server(data)
    stage.end()
    stage.harness.engine.advance(60)
    stage.lines.accept()
    stage.answer_line()
    told = [data for data in stage.holder.told if data[0] == codes.NOTIFICATION_RESPONSE]
    assert told == said
    for data in said:
        stage.hear_line(data)
    assert stage.holder.told[-len(said) or len(stage.holder.told) :] == said


@given(SAID, SAID)
def test_of_channels_that_are_left_nothing_is_told_or_counted_any_more(
    at_line: list[bytes], at_server: list[bytes]
) -> None:
    stage = listening()
    stage.begin()
    for data in at_line:
        stage.hear_line(data)  # and waits
    stage.end(*NEWS)
    assert stage.holder.told == []
    assert not stage.listening.notified(0, b"news", notification(b"news", b"a"))
    # Again: now only the server has said something when the client leaves.
    stage.listen(*at_server)
    stage.end(*NEWS)
    stage.listen()
    stage.end()
    for data in at_server:
        stage.hear_line(data)
    assert stage.holder.told == at_server * 2


@given(st.lists(st.sampled_from([b"a", b"b"]), min_size=1, max_size=4), SAID)
def test_what_waits_of_a_channel_that_may_have_been_left_waits_on(
    payloads: list[bytes], said: list[bytes]
) -> None:
    """After an UNLISTEN the server is silent about the channel, and the line is not."""
    stage = listening()
    stage.begin()
    for payload in payloads:
        stage.hear_line(notification(b"news", payload))
    rest = [data for data in said if b"more" in data]
    stage.hear_both(rest, rest, [False, True] * len(rest))
    assert stage.holder.told == rest
    stage.end(b"news")
    assert stage.holder.told == rest


@given(st.integers(1, MOST_HELD // 2))
def test_so_much_may_wait_and_not_a_byte_more(size: int) -> None:
    stage = listening()
    stage.begin()
    overhead = 100
    data = notification(b"news", b"x" * size)
    most = MOST_HELD // (len(data) + overhead)
    for _ in range(min(most, 50)):
        stage.hear_line(data)
    last = MOST_HELD - min(most, 50) * (len(data) + overhead) - overhead
    if last < len(notification(b"news", b"")):
        return
    stage.hear_line(notification(b"news", b"x" * (last - len(notification(b"news", b"")))))
    stage.harness.engine.advance(0.1)
    assert stage.holder.error is None
    stage.hear_line(notification(b"news", b""))
    stage.harness.engine.advance(0.1)
    assert stage.holder.error is not None
