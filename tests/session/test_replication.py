"""Bytes of replication connections: passed on both ways, as the other side takes them."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config.values import PoolMode
from router.pool.replication import ReplicationConnection
from router.protocol import messages
from router.protocol.variables import Variables
from router.session.client import Client
from router.session.replication import ReplicationSession
from tests.support.harness import FakeLink, Harness

if TYPE_CHECKING:
    from router.pool.server import ServerConnection


class Replication:
    """One such connection: the links of either side, which are theirs who wait there.

    Attributes:
        let_in: whether the client has been.
    """

    def __init__(self) -> None:
        self.harness = harness = Harness(pool_mode=PoolMode.SESSION)
        assert harness.pool is not None
        client = Client(pid=1, secret=b"word", peer="client", tls="", opened_at=0.0)
        self.session = ReplicationSession(
            harness.engine,
            harness.pool,
            client,
            variables=Variables({}, "database"),
            overlay={},
            find_pool=lambda _database, _user: harness.pool,
            on_end=lambda _session, _reason: None,
        )
        self.session.prepare()
        self.let_in = False
        self.client = FakeLink()
        client.link = self.client
        self.session.entrance.shut(self._let_in)
        self.session.entrance.ask()
        self.server = FakeLink()

    def _let_in(self, server: ServerConnection) -> None:
        self.let_in = True

    def accept(self) -> ReplicationConnection:
        """The server is there."""
        [part] = self.harness.opening
        self.harness.opening.clear()
        made = ReplicationConnection(
            part,
            pid=7,
            secret=b"key!",
            parameters={},
            statement_capacity=1,
            now=self.harness.engine.now,
            startup=self.harness.startups[part].pop(0),
        )
        made.link = self.server
        part.opened(made)
        return made


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=4), max_size=12),
    marks=st.lists(st.booleans(), min_size=12, max_size=12),
    early=st.integers(0, 12),
)
def test_who_sends_is_paused_while_the_other_takes_nothing_and_nothing_is_lost(
    chunks: list[bytes], marks: list[bool], early: int
) -> None:
    """`early`: so many pieces come before there is a server."""
    stage = Replication()
    for chunk in chunks[:early]:
        stage.session.on_data(chunk)
        assert stage.client.paused
    server = stage.accept()
    assert stage.let_in
    assert not stage.client.paused
    assert stage.server.written == b"".join(chunks[:early])
    for chunk, is_congested in zip(chunks[early:], marks, strict=False):
        stage.server.congested = stage.client.congested = is_congested
        stage.session.on_data(chunk)
        server.on_data(chunk)
        assert stage.client.paused is stage.server.paused is is_congested
        if is_congested:
            # It is told as soon as there is room, and not before.
            server.on_drained()
            assert stage.client.paused
            stage.server.congested = stage.client.congested = False
            server.on_drained()
            stage.session.on_drained()
            assert not stage.client.paused
            assert not stage.server.paused
    assert stage.server.written == b"".join(chunks)
    assert stage.client.written == b"".join(chunks[early:])


@pytest.mark.parametrize(
    "chunks", [*itertools.permutations([b"early", b"data", b"COPY"], 2), (b"",)]
)
def test_a_server_without_room_when_it_comes_lets_the_client_wait(
    chunks: tuple[bytes, ...],
) -> None:
    stage = Replication()
    for chunk in chunks:
        stage.session.on_data(chunk)
    stage.server.congested = True
    server = stage.accept()
    assert stage.server.written == b"".join(chunks)
    assert stage.client.paused
    stage.server.congested = False
    server.on_drained()
    assert not stage.client.paused


def test_the_server_of_a_client_that_has_left_is_closed() -> None:
    stage = Replication()
    server = stage.accept()
    stage.session.on_data(messages.TERMINATE)
    stage.session.on_closed("closed by peer")
    assert stage.server.closed
    server.on_data(b"late")
    assert not stage.client.written
    assert not stage.harness.part.size
