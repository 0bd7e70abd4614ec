"""Bugs, made on purpose at all places where a client's code leaves it: they end that one alone.

What raises are links, which the code of a client calls wherever it writes, in whatever order.
The harness stands in for the engine, which gives up a link whose handler raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from router.session.clients import Clients
from tests.support.harness import FakeClient, FakeLink, FakeServer, Harness, read_messages
from tests.support.wire import SYNC, kinds, query, rows, run

from .test_departures import MOMENTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from router.pool.address_pool import AddressPool


class Fuse:
    """Raises when it has been asked so many times."""

    def __init__(self, length: int) -> None:
        self.left = length

    def burn(self) -> None:
        """Count."""
        self.left -= 1
        if self.left == 0:
            raise ZeroDivisionError("a bug")

    @property
    def is_blown(self) -> bool:
        """Whether it has raised."""
        return self.left <= 0


class FusedLink(FakeLink):
    """A link that raises when its fuse blows, which burns while it is `lit`."""

    def __init__(self, fuse: Fuse, lit: Callable[[], bool] = lambda: True) -> None:
        super().__init__()
        self._fuse = fuse
        self._lit = lit

    def _burn(self) -> None:
        if self._lit():
            self._fuse.burn()

    def write(self, data: bytes) -> None:
        self._burn()
        super().write(data)

    def pause(self) -> None:
        self._burn()
        super().pause()

    def resume(self) -> None:
        self._burn()
        super().resume()

    def defer(self) -> None:
        self._burn()
        super().defer()


class Engine:
    """Gives a link up whose handler raises, as the engine does.

    The fuse burns while the first client writes to its connection.
    """

    def __init__(self, harness: Harness, fuse: Fuse, *, with_servers: bool) -> None:
        self._harness = harness
        self._fuse = fuse
        self._with_servers = with_servers

    def run(self) -> None:
        """Let everything happen that can."""
        while self._step():
            pass
        for client in self._harness.clients:
            client.receive()

    def _step(self) -> bool:
        moved, harness = False, self._harness
        for client in harness.clients:
            moved |= self._guarded(client, client.deliver)
        while harness.opening:
            self._accept(harness.opening.pop(0))
            moved = True
        for server in harness.live_servers():
            moved |= server.work()
            moved |= self._guarded(server, server.answer)
        while harness.cancelling:
            harness.deliver_cancel()
            moved = True
        return moved

    def _accept(self, pool: AddressPool) -> None:
        server = FakeServer(pool, len(self._harness.servers) + 100, self._harness.engine.now)
        if self._with_servers:
            broken, connection = self._harness.clients[0].session, server.connection
            server.link = FusedLink(self._fuse, lambda: connection.client is broken)
            connection.link = server.link
        self._harness.servers.append(server)
        pool.opened(server.connection)

    @staticmethod
    def _guarded(end: FakeClient | FakeServer, work: Callable[[], bool]) -> bool:
        try:
            return work()
        except ZeroDivisionError:
            if not end.link.closed:
                end.link.closed = True
                handler = end.session if isinstance(end, FakeClient) else end.connection
                handler.on_closed("internal error")
            return True


def begin(
    moment: tuple[bytes, ...], fuse: Fuse, *, with_servers: bool
) -> tuple[Harness, Engine, FakeClient]:
    """Bring a client to a moment in the life of its session, unless the fuse blows before."""
    harness = Harness(pool_size=1)
    engine, client = Engine(harness, fuse, with_servers=with_servers), harness.connect()
    if not with_servers:
        client.link = client.session.client.link = FusedLink(fuse)
    for message in moment:
        client.unread += message
        engine.run()
    return harness, engine, client


@pytest.mark.parametrize("with_servers", [False, True], ids=["to it", "to servers"])
@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS)
def test_wherever_a_client_fails_the_next_one_is_served_and_finds_nothing_of_it(
    moment: tuple[bytes, ...], with_servers: bool
) -> None:
    length = 0
    while True:
        length += 1
        fuse = Fuse(length)
        harness, engine, client = begin(moment, fuse, with_servers=with_servers)
        heir = harness.connect()
        heir.unread += query("SHOW application_name")
        engine.run()
        client.unread += query("ROLLBACK") + query("SELECT more")
        engine.run()
        for server in harness.live_servers():
            server.model.wake()
        if not fuse.is_blown:
            break
        engine.run()
        # Or else what it was doing has been sent again.
        assert client.ended.endswith("internal error") or client.session.lease.is_free
        assert rows(read_messages(heir.got)) == [[b"SHOW application_name is "]], length
        assert kinds(harness.ask(heir, run("SELECT y") + SYNC)) == "12TDCZ"
        harness.check()
        heir.leave()
        harness.run()
        assert len(harness.part.active) == len(harness.part.tested) == 0
    assert length > 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_those_that_wait_behind_one_that_fails_are_served(count: int) -> None:
    harness = Harness(pool_size=1)
    holder = harness.connect()
    harness.ask(holder, query("BEGIN"))
    broken = [harness.connect() for _ in range(count)]
    heir = harness.connect()
    for client in broken:
        client.send(query("SELECT x"))
        client.link = client.session.client.link = FusedLink(Fuse(1))
    heir.send(query("SELECT y"))
    assert kinds(harness.ask(holder, query("COMMIT"))) == "CZ"
    assert [client.ended for client in broken] == ["internal error"] * count
    assert rows(read_messages(heir.got)) == [[b"SELECT y"]]
    assert kinds(harness.ask(holder, query("SELECT z"))) == "TDCZ"
    harness.check()


def test_those_that_time_out_behind_one_that_fails_are_told() -> None:
    harness = Harness(pool_size=1)
    holder = harness.connect()
    harness.ask(holder, query("BEGIN"))
    broken, other = harness.connect(), harness.connect()
    broken.send(query("SELECT x"))
    broken.link = broken.session.client.link = FusedLink(Fuse(1))
    other.send(query("SELECT y"))
    harness.engine.advance(60)
    assert broken.ended == "internal error"
    assert kinds(harness.read(other)) == "EZ"
    assert kinds(harness.ask(holder, query("COMMIT"))) == "CZ"
    harness.check()


def test_a_reload_moves_those_who_wait_behind_one_that_fails() -> None:
    harness = Harness(pool_size=1)
    holder = harness.connect()
    harness.ask(holder, query("BEGIN"))
    broken, other = harness.connect(), harness.connect()
    broken.send(query("SELECT x"))
    broken.link = broken.session.client.link = FusedLink(Fuse(1))
    other.send(query("SELECT y"))
    harness.replace_pool(harness.new_pool(pool_size=2))
    assert rows(harness.read(other)) == [[b"SELECT y"]]
    assert kinds(harness.ask(holder, query("COMMIT"))) == "CZ"
    assert broken.ended == "internal error"
    harness.check()


def test_a_batch_that_fails_when_it_has_been_held_for_long_enough_ends_its_client() -> None:
    harness = Harness(pool_size=1)
    client, heir = harness.connect(), harness.connect()
    harness.ask(client, query("SELECT x"))
    [server] = harness.servers
    server.link = server.connection.link = FusedLink(Fuse(1))
    client.send(run("SELECT y"))
    harness.engine.advance(1)
    assert client.ended == "internal error"
    assert rows(harness.ask(heir, query("SELECT z"))) == [[b"SELECT z"]]
    harness.check()


def test_a_connection_that_cannot_be_given_back_is_closed() -> None:
    harness = Harness(pool_size=1)
    client, heir = harness.connect(), harness.connect()
    harness.ask(client, query("BEGIN"))
    [server] = harness.servers
    server.link = server.connection.link = FusedLink(Fuse(1))
    heir.send(query("SELECT z"))
    client.leave()
    assert server.link.closed
    assert rows(harness.read(heir)) == [[b"SELECT z"]]
    harness.check()


@pytest.mark.parametrize("count", [1, 3])
def test_all_leave_in_a_shutdown_behind_those_that_fail(count: int) -> None:
    harness, clients = Harness(), Clients()
    for number in range(count + 1):
        client = harness.connect()
        if number < count:
            client.link = client.session.client.link = FusedLink(Fuse(1))
        clients.add(client.session)
    clients.drain()
    *broken, last = harness.clients
    assert {client.ended for client in broken} == {"internal error"}
    assert "terminating connection" in last.ended
