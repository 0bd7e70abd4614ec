"""The data plane without sockets: sessions, pools and model servers, one step at a time.

Nothing moves by itself. `Harness.run` lets everything move until all is quiet; a test that is
about order calls the single steps instead. Time stands still but for `advance`.
"""

from __future__ import annotations

import heapq
import itertools
import math
import struct
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from router.config.effective import PoolSettings, pool_settings
from router.engine.link import Output
from router.engine.loop import Engine, Timer
from router.figures import Figures
from router.pool.address import Address
from router.pool.health import Healths
from router.pool.pool import Pool
from router.pool.quotas import Quotas
from router.pool.server import ServerConnection
from router.pool.states import ServerState
from router.protocol.variables import Variables
from router.routing.router import QueryRouter
from router.routing.types import RouterOptions
from router.session.client import Client
from router.session.session import Session
from tests.config import builders

from .model import DEFAULTS, ModelServer
from .wire import Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from router.errors import RouterError
    from router.pool.address_pool import AddressPool

START = 1000.0


class FakeEngine(Engine):
    """An engine without sockets, whose clock is set by hand."""

    now: float = START

    def __init__(self) -> None:
        self.now = START
        self.figures = Figures(lambda: self.now)
        self.figures.queries.use(1000)
        self._queue: list[tuple[float, int, Timer]] = []
        self._serial = itertools.count()
        self._in_round = True

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Note a timer."""
        timer = Timer(when, callback)
        heapq.heappush(self._queue, (when, next(self._serial), timer))
        return timer

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Note a timer."""
        return self.call_at(self.now + delay, callback)

    @property
    def timers(self) -> int:
        """How many timers are due some time."""
        return sum(timer.callback is not None for _, _, timer in self._queue)

    def advance(self, seconds: float) -> None:
        """Let time pass; what becomes due is called in its order and at its time."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            when, _, timer = heapq.heappop(self._queue)
            self.now = max(self.now, when)
            if timer.callback is not None:
                timer.callback()
        self.now = end


class FakeLink(Output):
    """A link that leads nowhere: what is written to it waits to be taken."""

    def __init__(self) -> None:
        super().__init__()
        self.paused = False
        self.deferred = False
        self.rests = 0
        self.written = b""

    def write(self, data: bytes) -> None:
        """Keep bytes."""
        if not self.closed:
            self.written += data

    def take(self, limit: int | None = None) -> bytes:
        """Take bytes that were written, at most so many."""
        taken = self.written[:limit]
        self.written = self.written[len(taken) :]
        self.sent += len(taken)
        return taken

    def pause(self) -> None:
        """Stop reading."""
        self.paused = True

    def resume(self) -> None:
        """Read again."""
        self.paused = False

    def defer(self) -> None:
        """Note that a turn is wanted."""
        self.deferred = True

    def rest(self) -> None:
        """Note that there will be more to read later."""
        self.rests += 1

    def take_turn(self) -> bool:
        """Whether a turn was wanted, which is the caller's to give."""
        wanted, self.deferred = self.deferred and not self.closed, False
        return wanted

    def close(self) -> None:
        """Close."""
        self.closed = True


class FakeServer:
    """A server connection of a pool, with the model of a server at its other end."""

    def __init__(
        self, pool: AddressPool, pid: int, now: float, startup: Variables | None = None
    ) -> None:
        self.model = ModelServer(None if startup is None else startup.values)
        self.link = FakeLink()
        self.connection = ServerConnection(
            pool,
            pid=pid,
            secret=b"key!",
            parameters=dict(self.model.defaults),
            statement_capacity=max(pool.settings.prepared_statements_cache_size, 1),
            now=now,
            startup=startup,
        )
        self.connection.link = self.link

    def work(self, limit: int | None = None) -> bool:
        """Let the model act on what the router has sent; returns whether there was anything."""
        data = self.link.take(limit)
        self.model.feed(data)
        return bool(data)

    def answer(self, limit: int | None = None) -> bool:
        """Let the model's answers reach the router; returns whether there were any."""
        if self.link.take_turn():
            self.connection.on_data(b"")
            return True
        if self.link.paused or self.link.closed:
            return False
        data = self.model.take_output(limit)
        if data:
            self.connection.on_data(data)
        elif self.model.is_closed:
            self.die()
        return bool(data)

    def die(self) -> None:
        """The connection breaks."""
        self.link.closed = True
        self.connection.on_closed("connection closed by peer")


class FakeClient:
    """A client that is logged in.

    Attributes:
        got: all that it was sent.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.link = FakeLink()
        session.client.link = self.link
        self.unread = b""
        self.got = b""
        self.ended = ""

    def send(self, *data: bytes) -> None:
        """Send bytes; the router reads them at once unless it has paused the link."""
        self.unread += b"".join(data)
        self.deliver()

    def deliver(self, limit: int | None = None) -> bool:
        """Let the router read; returns whether it did."""
        if self.link.take_turn():
            self.session.on_data(b"")
            return True
        if self.link.paused or self.link.closed or not self.unread:
            return False
        data = self.unread[:limit]
        self.unread = self.unread[len(data) :]
        self.session.on_data(data)
        return True

    def receive(self) -> bytes:
        """Take what has been sent to the client since the last call."""
        data = self.link.take()
        self.got += data
        return data

    def leave(self) -> None:
        """The connection breaks."""
        if not self.link.closed:
            self.link.closed = True
            self.session.on_closed("connection closed by peer")


class Harness:
    """A pool and its servers and clients.

    Attributes:
        opening: pools that have asked for a connection.
        startups: the start-up parameters of those, by pool.
        cancelling: connections for which a cancel request is on its way.
        healths, quotas: of the servers of all pools.
    """

    def __init__(
        self,
        *,
        servers: Sequence[Sequence[bool | None]] = ((True,),),
        options: RouterOptions | None = None,
        **settings: object,
    ) -> None:
        """Make a pool.

        Args:
            servers: for each shard, whether each of its servers is a primary; None: it tells.
            options: the router's.
            settings: fields of PoolSettings to replace.
        """
        self.engine = FakeEngine()
        self.healths = Healths(self.engine)
        self.quotas = Quotas()
        self.opening: list[AddressPool] = []
        self.startups: dict[AddressPool, list[Variables | None]] = {}
        self.cancelling: list[ServerConnection] = []
        self.servers: list[FakeServer] = []
        self.clients: list[FakeClient] = []
        self._pids = itertools.count(1)
        self.pool: Pool | None = self.new_pool(servers=servers, options=options, **settings)

    def new_pool(
        self,
        *,
        servers: Sequence[Sequence[bool | None]] = ((True,),),
        options: RouterOptions | None = None,
        **settings: object,
    ) -> Pool:
        """Make another pool, for `replace_pool`."""
        chosen = replace(base_settings(), **settings)  # type: ignore[arg-type]
        router = QueryRouter(options or RouterOptions(shard_count=len(servers)))
        pool = Pool(
            self.engine,
            chosen.pool,
            chosen.user,
            _addresses(servers),
            chosen,
            router,
            self,
            healths=self.healths,
            quotas=self.quotas,
        )
        pool.readiness.parameters = dict(DEFAULTS)
        return pool

    def replace_pool(self, pool: Pool | None) -> None:
        """Do what a reload does with a pool that has changed."""
        old, self.pool = self.pool, pool
        assert old is not None
        old.retire()

    @property
    def part(self) -> AddressPool:
        """The first address pool."""
        assert self.pool is not None
        return self.pool.address_pools()[0]

    # --- the connector

    def open(self, pool: AddressPool, startup: Variables | None) -> None:
        """A pool asks for a connection."""
        self.opening.append(pool)
        self.startups.setdefault(pool, []).append(startup)

    def listen(self, *_: object) -> None:
        """Nobody listens."""

    def cancel(self, server: ServerConnection) -> None:
        """A pool asks for a cancel request."""
        self.cancelling.append(server)

    # --- steps

    def connect(self, **settings: str) -> FakeClient:
        """Log a client in that has asked for settings."""
        assert self.pool is not None
        return self.connect_to(self.pool, **settings)

    def connect_to(self, pool: Pool, **settings: str) -> FakeClient:
        """The same for another pool than the one that a reload would replace."""
        number = next(self._pids)
        reported = {name: value for name, value in settings.items() if name in DEFAULTS}
        client = FakeClient(
            Session(
                self.engine,
                pool,
                Client(
                    pid=number,
                    secret=b"word",
                    peer=f"client:{number}",
                    tls="",
                    opened_at=self.engine.now,
                ),
                variables=Variables.of(settings),
                overlay=reported,
                find_pool=lambda _database, _user: self.pool if pool.retired else pool,
                on_end=self._ended,
            )
        )
        self.clients.append(client)
        return client

    def _ended(self, session: Session, reason: str) -> None:
        for client in self.clients:
            if client.session is session:
                client.ended = reason

    def accept(self) -> FakeServer:
        """The connection that was asked for first is there."""
        pool = self.opening.pop(0)
        startup = self.startups[pool].pop(0)
        server = FakeServer(pool, next(self._pids), self.engine.now, startup)
        self.servers.append(server)
        pool.opened(server.connection)
        return server

    def refuse(self, error: RouterError) -> None:
        """The connection that was asked for first cannot be had."""
        pool = self.opening.pop(0)
        pool.open_failed(error, self.startups[pool].pop(0))

    def deliver_cancel(self, *, is_late: bool = False) -> None:
        """The cancel request that was asked for first arrives; it may act late."""
        connection = self.cancelling.pop(0)
        for server in self.servers:
            if server.connection is connection:
                server.model.cancel(is_late=is_late)
        connection.pool.cancel_done(connection)

    def run(self) -> None:
        """Let everything happen that can, until all is quiet."""
        while self._step():
            pass
        for client in self.clients:
            client.receive()

    def _step(self) -> bool:
        moved = False
        for client in self.clients:
            moved |= client.deliver()
        while self.opening:
            self.accept()
            moved = True
        for server in self.live_servers():
            moved |= server.work()
            moved |= server.answer()
        while self.cancelling:
            self.deliver_cancel()
            moved = True
        return moved

    def live_servers(self) -> Iterator[FakeServer]:
        """The servers whose connection is open, as of now."""
        return iter([server for server in self.servers if not server.link.closed])

    def ask(self, client: FakeClient, *data: bytes) -> list[Message]:
        """Send bytes, let everything come to rest, and read what the client got."""
        client.send(*data)
        return self.read(client)

    def read(self, client: FakeClient) -> list[Message]:
        """Let everything come to rest, and read what the client got since the last time."""
        seen = len(client.got)
        self.run()
        return read_messages(client.got[seen:])

    def check(self) -> None:
        """All is quiet: nobody has what is not his."""
        assert self.pool is not None
        for part in self.pool.address_pools():
            assert part.size <= part.settings.pool_size
            assert all(connection.state is ServerState.TESTED for connection in part.tested)
            for connection in part.idle:
                assert connection.state is ServerState.IDLE
                assert connection.is_clean
                assert connection.client is None
            for connection in part.active:
                assert connection.state is ServerState.ACTIVE
                assert isinstance(connection.client, Session)
                assert connection.client.lease.server is connection
            if part.waiters:
                assert part.size == part.settings.pool_size
                assert not part.idle


def read_messages(data: bytes) -> list[Message]:
    """Cut a server's output into messages; a piece of one at the end is left out."""
    found = []
    while len(data) >= 5:
        size = struct.unpack_from("!I", data, 1)[0] + 1
        if len(data) >= size:
            found.append(Message(chr(data[0]), data[5:size]))
        data = data[size:]
    return found


@lru_cache(maxsize=1)
def base_settings() -> PoolSettings:
    """Settings of a pool that differ from the defaults where a fake clock needs it."""
    config = builders.config()
    pool = config.pools["app"]
    settings = pool_settings(config, pool, pool.users[0])
    return replace(settings, pool_size=2, connect_timeout=5.0, server_lifetime=math.inf)


def _addresses(servers: Sequence[Sequence[bool | None]]) -> list[list[Address]]:
    return [
        [
            Address(
                pool="app",
                shard=shard,
                index=index,
                number=0 if is_primary else index,
                is_primary=bool(is_primary),
                is_auto=is_primary is None,
                host=f"host{shard}{index}",
                port=5432,
                database="app",
            )
            for index, is_primary in enumerate(parts)
        ]
        for shard, parts in enumerate(servers)
    ]
