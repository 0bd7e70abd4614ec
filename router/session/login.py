"""Who may log in, and what becomes of him: from a connection in the engine to a session."""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ..engine.link import Handler, Output
from ..engine.proxy import is_from, networks
from ..errors import (
    AuthenticationError,
    ClientError,
    PoolError,
    RouterError,
    ServerUnavailable,
    ShuttingDown,
)
from ..pool.throttle import Throttle
from ..printable import printable
from ..protocol import messages
from ..protocol.startup import settings_in
from ..protocol.variables import TRACKED, Variables, as_reported
from .admission import Admission
from .arrival import Arrival
from .client import Client
from .credentials import Credentials
from .peers import Peers
from .replication import ReplicationSession, check, refuse, replication_in
from .session import Session

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Awaitable, Callable

    from ..config.model import Config
    from ..engine.gate import Gate
    from ..engine.link import Link
    from ..engine.loop import Engine, Timer
    from ..pool.pool import Pool
    from ..pool.registry import PoolRegistry
    from ..pool.server import ServerConnection
    from ..protocol.startup import CancelRequest, StartupMessage
    from .clients import Clients
    from .entrance import Entrance

log = logging.getLogger("router.login")

ADMIN_DATABASES: Final = frozenset(("pgcat", "pgbouncer"))

# Who has sent a cancel request waits no longer for its delivery, in seconds.
_CANCEL_PATIENCE: Final = 5.0

# PostgreSQL cuts application_name here, in bytes.
_LONGEST_NAME: Final = 63


class AdminHandler(Handler, Protocol):
    """A session of the admin database."""

    link: Output | None


class AdminFactory(Protocol):
    """Makes sessions of the admin database, and says what they are told at login."""

    def parameters(self, application_name: str) -> dict[str, str]:
        """The ParameterStatus set."""

    def session(
        self,
        *,
        peer: str,
        tls: str,
        user: str,
        database: str,
        application_name: str,
        pid: int,
    ) -> AdminHandler:
        """A handler for the link."""


class Login:
    """Takes connections from the listeners, and makes sessions of them.

    All of it is done in the engine. Tasks of trio do only what has to be waited for: that keys
    have been derived, and that a pool has reached a server.

    Attributes:
        config: replaced by a reload.
        admission: the places of clients.
        tls: the context towards clients, or None without TLS; replaced by a reload.
        draining: only administrators may log in.
        on_stranger: gets the keys of cancel requests that are no client's here.
        peers: the other processes of the group, who may have that client.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        pools: PoolRegistry,
        clients: Clients,
        admin: AdminFactory,
        nursery: trio.Nursery,
    ) -> None:
        self._engine: Final = engine
        self._pools: Final = pools
        self._clients: Final = clients
        self._admin: Final = admin
        self._nursery: Final = nursery
        self.config = config
        self._load_balancers = networks(config.general.proxy_protocol_networks)
        self.tls: ssl.SSLContext | None = None
        self._credentials = Credentials(config)
        self._unserved: Final = Throttle()
        self._crowded: Final = Throttle()
        self.admission: Final = Admission()
        self.peers: Final = Peers(config.general.peer_id)
        self.draining = False
        self._underway: Final[dict[Arrival, None]] = {}
        self._waits: Final[dict[Arrival, trio.CancelScope]] = {}
        self._timer: Timer | None = None  # when the first of them has to be over
        self._settled: trio.Event | None = None
        self.on_stranger: Callable[[int, bytes], None] | None = None

    def greet(self, sock: socket.socket, peer: str, ip: str, gate: Gate) -> None:
        """Begin to log a client in, by the place that it gets."""
        timeout = self.config.general.client_login_timeout / 1000
        deadline = self._engine.now + timeout
        arrival = Arrival(
            self,
            self._engine,
            sock,
            peer,
            gate,
            deadline=deadline,
            by_load_balancer=is_from(ip, self._load_balancers),
        )
        self._underway[arrival] = None
        self._look_at(deadline)

    def over(self, arrival: Arrival) -> None:
        """A login has ended, one way or another."""
        self._underway.pop(arrival, None)
        scope = self._waits.pop(arrival, None)
        if scope is not None:
            scope.cancel()
        if arrival.admitted is not None:
            self.admission.leave(*arrival.admitted)
            arrival.admitted = None
        if self._settled is not None and not self._underway:
            self._settled.set()

    def _look_at_time(self) -> None:
        now, self._timer = self._engine.now, None
        for arrival in [each for each in self._underway if each.deadline <= now]:
            more = arrival.fields(sqlstate="57014")
            log.warning("client %s: login timed out", arrival.peer, extra=more)
            self._engine.figures.timeouts.note("client_login")
            # As PostgreSQL with its authentication_timeout.
            text = "canceling authentication due to timeout"
            error = ClientError(text, sqlstate="57014")
            self._engine.figures.faults.strangers.note_own(error)
            arrival.leave(error)
        self._look_at(min((arrival.deadline for arrival in self._underway), default=math.inf))

    def _look_at(self, deadline: float) -> None:
        """See to it that somebody looks by then; a reload can make later logins end earlier."""
        if self._timer is not None:
            if self._timer.when <= deadline:
                return
            self._timer.cancel()
        is_ever = deadline < math.inf
        self._timer = self._engine.call_at(deadline, self._look_at_time) if is_ever else None

    def failed(self, arrival: Arrival, error: RouterError) -> None:
        """Log why a login has failed; of those that fail for all of them at once, a few."""
        self._engine.figures.faults.strangers.note_own(error)
        others: str | None = ""
        if isinstance(error, ServerUnavailable):
            others = self._unserved.admit(self._engine.now)
        elif isinstance(error, PoolError):
            others = self._crowded.admit(self._engine.now)
        if others is None:
            return
        why = error.line
        if isinstance(error, PoolError) and error.sqlstate == "53300":
            why += f" (there are {self.admission.holders})"
        more = arrival.fields(sqlstate=error.sqlstate)
        log.warning("client %s: login failed: %s%s", arrival.peer, why, others, extra=more)

    def dismiss(self) -> None:
        """The router is going away: log nobody in any more, and tell those who are at it."""
        self.draining = True
        for arrival in list(self._underway):
            arrival.leave(ShuttingDown() if arrival.names else None)

    @property
    def is_busy(self) -> bool:
        """Whether anybody is logging in."""
        return bool(self._underway)

    async def settle(self) -> None:
        """Wait until nobody is logging in."""
        while self._underway:
            self._settled = trio.Event()
            await self._settled.wait()

    def _wait(
        self,
        arrival: Arrival,
        work: Callable[[], Awaitable[object]],
        then: Callable[[], None],
        *,
        ends_with_it: bool = True,
    ) -> None:
        """Have a login go on with `then` when a task has done some work, or fail with it."""
        arrival.wait()
        scope = trio.CancelScope()
        if ends_with_it:
            self._waits[arrival] = scope
        self._nursery.start_soon(self._work, arrival, scope, work, then)

    async def _work(
        self,
        arrival: Arrival,
        scope: trio.CancelScope,
        work: Callable[[], Awaitable[object]],
        then: Callable[[], None],
    ) -> None:
        def go_on() -> None:
            if failure is not None:
                raise failure
            then()

        failure: Exception | None = None
        with scope:
            try:
                await work()
            except Exception as error:
                failure = error
        if not arrival.is_over:
            self._engine.run_for(arrival.link, lambda: arrival.go_on(go_on))

    # --- cancel requests

    def cancels(self, arrival: Arrival, request: CancelRequest) -> None:
        """Act on a cancel request, and end its connection when the server has it.

        For clients take the end of this connection for a sign that what they send next is safe.
        """
        arrival.deadline = math.inf  # what it waits for has a limit of its own
        pid, is_passed_on = self.peers.read(request.pid)
        self.cancel(pid, request.secret)
        session = self._clients.find_by_key(pid, request.secret)
        if session is None and not is_passed_on and self.peers.has(pid):
            pass_on = partial(self.peers.pass_on, pid, request.secret)
            # Who has asked need not stay for it.
            self._wait(arrival, pass_on, arrival.leave, ends_with_it=False)
            return
        server = None if session is None else session.lease.server
        if server is not None and server.is_cancelling:
            server.told_of_cancels.append(arrival.leave)
            self._engine.call_later(_CANCEL_PATIENCE, arrival.leave)
        else:
            arrival.leave()

    def cancel(self, pid: int, secret: bytes) -> None:
        """Act on a cancel request, or have somebody else see whether it is for him."""
        self._engine.attempt(lambda: self._cancel(pid, secret))

    def _cancel(self, pid: int, secret: bytes) -> None:
        if self._clients.cancel(pid, secret):
            return
        log.debug("cancel request for %d: no client has this key", pid)
        if self.on_stranger is not None:
            self.on_stranger(pid, secret)

    # --- configuration

    def use(self, config: Config, tls: ssl.SSLContext | None) -> None:
        """Take a new configuration; logins that have begun go on with the old one."""
        self.config = config
        self._load_balancers = networks(config.general.proxy_protocol_networks)
        self.tls = tls
        self.peers.use(config, with_tls=tls is not None)
        self._credentials = Credentials(config, self._credentials)

    async def derive_keys(self) -> None:
        """Do what takes long about passwords before somebody waits for it."""
        await self._credentials.derive()

    # --- authentication

    def introduced(self, arrival: Arrival, packet: StartupMessage) -> None:
        """A client has said who it is: ask for a proof."""
        is_admin = packet.database in ADMIN_DATABASES
        if is_admin and replication_in(packet.parameters.get("replication")):
            raise refuse()
        if not is_admin:
            if self.draining:
                raise ShuttingDown
            self.admission.check(self.config.general.max_client_conn)
        credentials = self._credentials
        ask = partial(_ask, arrival, credentials, packet, is_admin=is_admin)
        if credentials.is_derived:
            ask()
        else:
            self._wait(arrival, credentials.derive, ask)

    def proven(self, arrival: Arrival) -> None:
        """A client is who it says: let it in."""
        packet = arrival.packet
        assert packet is not None
        if packet.database in ADMIN_DATABASES:
            self._begin_admin(arrival, packet)
            return
        pool = self._pool_for(packet)
        self._pools.control.check_enabled(packet.database)
        self.admission.admit(pool, self.config.general.max_client_conn)
        arrival.admitted = pool.database, pool.user
        self._begin(arrival, packet, pool)

    def _begin_admin(self, arrival: Arrival, packet: StartupMessage) -> None:
        name = packet.parameters.get("application_name", "")
        number = self._clients.new_number()
        pid, secret = self._clients.new_key(number, is_long=packet.takes_long_keys)
        session = self._admin.session(
            peer=arrival.peer,
            tls=arrival.tls,
            user=packet.user,
            database=packet.database,
            application_name=name,
            pid=number,
        )
        session.link = arrival.link
        arrival.link.write(
            messages.AUTHENTICATION_OK + _welcome(self._admin.parameters(name), pid, secret)
        )
        _start(arrival.link, self._hand_over(arrival, session))

    def _hand_over(self, arrival: Arrival, session: Handler) -> bytes:
        self._engine.figures.logins.add(self._engine.now - arrival.began)
        arrival.admitted = None  # the place is the session's
        return arrival.hand_over(session)

    def _pool_for(self, packet: StartupMessage) -> Pool:
        pool = self._pools.get(packet.database, packet.user)
        if pool is None:  # gone while the client was proving who it is, or waited
            raise AuthenticationError(
                f'password authentication failed for user "{packet.user}"'
            )
        return pool

    def _begin(self, arrival: Arrival, packet: StartupMessage, pool: Pool) -> None:
        settings = settings_in(packet.parameters)
        if self.config.general.application_name_add_host:
            settings["application_name"] = _with_host(settings, arrival.peer)
        replication = replication_in(packet.parameters.get("replication"))
        if replication:
            check(pool)
        waits = bool(replication) or _has_one_server(pool)
        if not waits and not pool.is_ready:
            # There may be another one then.
            again = lambda: self._begin(arrival, packet, self._pool_for(packet))  # noqa: E731
            self._wait(arrival, pool.wait_ready, again)
            return
        kind, variables = Session, Variables.of(settings)
        if replication:
            kind, variables = ReplicationSession, Variables(settings, replication)
        number = self._clients.new_number()
        pid, secret = self._clients.new_key(number, is_long=packet.takes_long_keys)
        overlay = {
            TRACKED[name]: as_reported(name, value, pool.parameters)
            for name, value in settings.items()
            if name in TRACKED
        }
        session = kind(
            self._engine,
            pool,
            Client(
                pid=pid,
                secret=secret,
                peer=arrival.peer,
                tls=arrival.tls,
                opened_at=self._engine.now,
                number=number,
            ),
            variables=variables,
            overlay=overlay,
            find_pool=self._pools.get,
            on_end=self._ended,
        )
        if isinstance(session, ReplicationSession):
            session.prepare()
        link = session.client.link = arrival.link
        if waits:
            session.entrance.shut(partial(self._open, session))
            link.write(messages.AUTHENTICATION_OK)
        else:
            told = {**pool.parameters, **overlay}
            link.write(messages.AUTHENTICATION_OK + _welcome(told, pid, secret))
            self._log_connected(session)
        self._clients.add(session)
        data = self._hand_over(arrival, session)
        if waits:
            self._engine.run_for(link, partial(_enter, session.entrance))
        _start(link, data)
        if self.draining:
            self._engine.run_for(link, session.drain)

    def _open(self, session: Session, server: ServerConnection) -> None:
        """A client has its server: let it in."""
        client = session.client
        self._clients.take_pid(session, server.pid)
        told = session.settings.all_told(session.lease.pool)
        session.reply(_welcome(told, client.pid, client.secret))
        self._log_connected(session)

    def _log_connected(self, session: Session) -> None:
        level = logging.INFO if self.config.general.log_client_connections else logging.DEBUG
        text = "client %s: connected to %s as %s"
        client, pool = session.client, session.lease.pool
        name = session.startup.values.get("application_name")
        more = client.fields(application_name=name, tls=client.tls)
        log.log(level, text, client.peer, pool.database, pool.user, extra=more)

    def _ended(self, session: Session, reason: str) -> None:
        self._clients.remove(session)
        self.admission.leave(session.lease.pool.database, session.lease.pool.user)
        general = self.config.general
        level = logging.INFO if general.log_client_disconnections else logging.DEBUG
        client = session.client
        more = client.fields(
            duration_ms=round((self._engine.now - client.opened_at) * 1e3),
            transactions=client.transaction_count,
            queries=client.query_count,
            errors=client.error_count,
        )
        text = "client %s: disconnected: %s"
        log.log(level, text, client.peer, printable(reason), extra=more)


def _start(link: Link, data: bytes) -> None:
    """A client may have sent its first query behind the password."""
    if data:
        link.feed(data)


def _ask(
    arrival: Arrival, credentials: Credentials, packet: StartupMessage, *, is_admin: bool
) -> None:
    if is_admin:
        arrival.ask(credentials.admin(packet.user))
    else:
        arrival.ask(credentials.client(packet.user, packet.database))


def _enter(entrance: Entrance) -> None:
    entrance.ask()


def _has_one_server(pool: Pool) -> bool:
    """Whether a session belongs to one server, whatever its client may ask for."""
    parts = pool.address_pools() if pool.is_session_mode else []
    return len(parts) == 1 and not parts[0].address.is_auto


def _with_host(settings: dict[str, str], peer: str) -> str:
    """The client's application_name with its address; of one that is too long, the address."""
    name = settings.get("application_name") or "app"  # as PgBouncer
    suffix = f" - {peer}"
    room = _LONGEST_NAME - len(suffix)
    return name.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore") + suffix


def _welcome(parameters: dict[str, str], pid: int, secret: bytes) -> bytes:
    return b"".join(
        (
            *(messages.parameter_status(name, value) for name, value in parameters.items()),
            messages.backend_key_data(pid, secret),
            messages.READY_IDLE,
        )
    )
