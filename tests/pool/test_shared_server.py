"""A connection with segments of several clients: each hears of its own, and of nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

from router.protocol import messages
from router.protocol.segments import Segment
from tests.support.harness import FakeServer, Harness

from .builders import Client, opened

if TYPE_CHECKING:
    from router.errors import RouterError
    from router.pool.contracts import Loss

ROW = messages.data_row(("x",))
DONE = messages.command_complete("SELECT 1") + messages.READY_IDLE
TIME_ZONE = messages.parameter_status("TimeZone", "UTC")


class Listening(Client):
    """A client that notes all that it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.got = b""
        self.told: list[str] = []
        self.is_slow = False

    @property
    def congested(self) -> bool:
        return self.is_slow

    def reply(self, data: bytes) -> None:
        self.got += data

    def segment_done(self, segment: Segment, status: int) -> None:
        self.told.append("done")

    def server_parameter(self, name: str, value: str, swallowed: bool) -> None:
        self.told.append(name)

    def settings_reset(self, *, everything: bool) -> None:
        self.told.append("reset")

    def server_ready(self) -> None:
        self.told.append("ready")

    def batch_answered(self) -> None:
        self.told.append("answered")

    def server_lost(self, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
        self.told.append("lost" if can_tell else "lost in a message")


def shared(*clients: Listening) -> FakeServer:
    """A connection that nobody holds alone, with a segment of each."""
    harness = Harness()
    [server] = opened(harness)
    for client in clients:
        server.connection.queue.append(Segment(client))
    return server


def test_what_the_server_says_concerns_the_client_that_is_answered() -> None:
    one, two = Listening(), Listening()
    connection = shared(one, two).connection
    connection.on_data(ROW + TIME_ZONE + DONE)
    assert one.got == ROW + DONE
    assert one.told == ["TimeZone", "done"]
    assert (two.got, two.told) == (b"", [])
    connection.on_data(messages.command_complete("RESET") + messages.READY_IDLE)
    assert two.told == ["reset", "done"]
    assert one.told == ["TimeZone", "done"]


def test_only_the_client_that_is_answered_slows_the_server_down() -> None:
    one, two = Listening(), Listening()
    server = shared(one, two)
    two.is_slow = True
    server.connection.on_data(ROW)
    assert not server.link.paused
    server.connection.on_data(DONE + ROW)
    assert server.link.paused


def test_a_lost_connection_is_told_to_all_and_to_each_once() -> None:
    one, two = Listening(), Listening()
    server = shared(one, two, one)
    server.connection.on_data(ROW[:6])
    server.die()
    assert one.told == ["lost in a message"]
    assert two.told == ["lost"]


def test_who_leaves_takes_the_own_answers_along() -> None:
    one, two = Listening(), Listening()
    connection = shared(one, two, one).connection
    connection.orphan(one)
    connection.on_data((ROW + DONE) * 3)
    assert (one.got, one.told) == (b"", [])
    assert (two.got, two.told) == (ROW + DONE, ["done"])
