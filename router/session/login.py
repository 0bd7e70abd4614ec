"""From an accepted connection to a session: first packet, TLS, authentication."""

from __future__ import annotations

import contextlib
import logging
import math
import ssl
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ..engine.link import Handler, Output
from ..engine.listener import peer
from ..engine.proxy import is_from, networks, read_source
from ..engine.tls import ALPN
from ..engine.wire import Wire, WireClosed
from ..errors import (
    AuthenticationError,
    ClientError,
    ClientProtocolError,
    PoolError,
    RouterError,
    ServerUnavailable,
    ShuttingDown,
)
from ..pool.throttle import Throttle
from ..printable import printable
from ..protocol import codes, messages
from ..protocol.auth import ClientAuthenticator
from ..protocol.startup import (
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
    packet_length,
    parse_first_packet,
    settings_in,
)
from ..protocol.variables import TRACKED, Variables, as_reported
from ..reasons import reason
from ..records import fields
from .admission import Admission
from .client import Client
from .credentials import Credentials
from .peers import Peers
from .replication import ReplicationSession, check, refuse, replication_in
from .session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config.model import Config
    from ..engine.link import Link
    from ..engine.loop import Engine
    from ..pool.pool import Pool
    from ..pool.registry import PoolRegistry
    from ..pool.server import ServerConnection
    from .clients import Clients
    from .entrance import Entrance

log = logging.getLogger("router.login")

ADMIN_DATABASES: Final = frozenset(("pgcat", "pgbouncer"))

# SASL messages of real clients are a few hundred bytes; passwords may be longer.
_PASSWORD_LIMIT: Final = 4096
# Who has sent a cancel request waits no longer for its delivery, in seconds.
_CANCEL_PATIENCE: Final = 5.0

_UNENCRYPTED: Final = (
    "This could be either a client-software bug or evidence of an attempted "
    "man-in-the-middle attack."
)

# PostgreSQL cuts application_name here, in bytes.
_LONGEST_NAME: Final = 63

# The first byte of a TLS record with a handshake; no packet of PostgreSQL is so long.
TLS_HANDSHAKE: Final = b"\x16"


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
    """Takes connections from the listener to the engine.

    Attributes:
        config: replaced by a reload.
        admission: the places of clients.
        tls: the context towards clients, or None without TLS; replaced by a reload.
        draining: only administrators may log in.
        closing: nobody may, and logins that have begun are cancelled.
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
    ) -> None:
        self._engine: Final = engine
        self._pools: Final = pools
        self._clients: Final = clients
        self._admin: Final = admin
        self.config = config
        self._load_balancers = networks(config.general.proxy_protocol_networks)
        self.tls: ssl.SSLContext | None = None
        self._credentials = Credentials(config)
        self._unserved: Final = Throttle()
        self._crowded: Final = Throttle()
        self.admission: Final = Admission()
        self.peers: Final = Peers(config.general.peer_id)
        self.draining = False
        self.closing = False
        self._in_progress = 0
        self._over = trio.Event()  # replaced at each
        self.on_stranger: Callable[[int, bytes], None] | None = None

    async def __call__(self, wire: Wire) -> None:
        """Log a client in. Never raises: whatever goes wrong ends this one connection."""
        handed_over, began = False, self._engine.now
        self._in_progress += 1
        try:
            with trio.fail_after(self.config.general.client_login_timeout / 1000) as limit:
                handed_over = await self._log_in(wire, limit)
            if handed_over:
                self._engine.figures.logins.add(self._engine.now - began)
        except trio.TooSlowError:
            more = _fields(wire, sqlstate="57014")
            log.warning("client %s: login timed out", wire.peer, extra=more)
            self._engine.figures.timeouts.note("client_login")
            # As PostgreSQL with its authentication_timeout.
            text = "canceling authentication due to timeout"
            error = ClientError(text, sqlstate="57014")
            self._engine.figures.faults.strangers.note_own(error)
            await self._say(wire, error)
        except WireClosed as error:
            text = "client %s: left during login: %s"
            log.debug(text, wire.peer, error, extra=_fields(wire))
        except ssl.SSLError as error:
            text = "client %s: TLS failed: %s"
            log.warning(text, wire.peer, reason(error), extra=_fields(wire))
        except RouterError as error:
            self._engine.figures.faults.strangers.note_own(error)
            self._tell(wire, error)
            await self._say(wire, error)
        except Exception:
            text = "client %s: internal error during login"
            log.exception(text, wire.peer, extra=_fields(wire))
        finally:
            self._in_progress -= 1
            self._over.set()
            self._over = trio.Event()
            if not handed_over:
                wire.close()

    def _tell(self, wire: Wire, error: RouterError) -> None:
        """Log why a login has failed; of those that fail for all of them at once, a few."""
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
        more = _fields(wire, sqlstate=error.sqlstate)
        log.warning("client %s: login failed: %s%s", wire.peer, why, others, extra=more)

    @property
    def is_busy(self) -> bool:
        """Whether anybody is logging in."""
        return self._in_progress > 0

    async def settle(self) -> None:
        """Wait until nobody is logging in."""
        while self._in_progress:
            await self._over.wait()

    @staticmethod
    async def _say(wire: Wire, error: RouterError) -> None:
        with trio.move_on_after(1):
            with contextlib.suppress(WireClosed):
                await wire.send(messages.error_from(error, severity="FATAL"))

    # --- first packets

    async def _log_in(self, wire: Wire, limit: trio.CancelScope) -> bool:
        if is_from(wire.ip, self._load_balancers):
            source = await read_source(wire)
            if source is not None:
                text, more = "client %s: comes by %s", fields(client=peer(source))
                log.debug(text, peer(source), wire.peer, extra=more)
                wire.peer = peer(source)
        asked: set[type] = set()
        if await wire.begins_with(TLS_HANDSHAKE):
            asked.add(SSLRequest)
            await self._start_direct_tls(wire)
        packet = await self._first_packet(wire)
        while isinstance(packet, SSLRequest | GSSENCRequest):
            if type(packet) in asked:
                raise ClientProtocolError("encryption was asked for twice")
            asked.add(type(packet))
            await self._answer_encryption(wire, packet)
            packet = await self._first_packet(wire)
        if isinstance(packet, CancelRequest):
            limit.deadline = math.inf  # what it waits for has a limit of its own
            await self._heed(wire, packet)
            return False
        wire.names = {
            "database": printable(packet.database, _LONGEST_NAME),
            "user": printable(packet.user, _LONGEST_NAME),
        }
        if packet.needs_negotiation:
            answer = messages.negotiate_protocol_version(packet.version, packet.options)
            await wire.send(answer)
        replication = replication_in(packet.parameters.get("replication"))
        if replication and packet.database in ADMIN_DATABASES:
            raise refuse()
        try:
            if packet.database in ADMIN_DATABASES:
                return await self._log_in_admin(wire, packet)
            return await self._log_in_client(wire, packet)
        except trio.Cancelled:
            if self.closing:  # or else its time is up, which is told elsewhere
                wire.send_at_once(messages.error_from(ShuttingDown(), severity="FATAL"))
            raise

    @staticmethod
    async def _first_packet(
        wire: Wire,
    ) -> SSLRequest | GSSENCRequest | CancelRequest | StartupMessage:
        length = packet_length(await wire.read_exactly(4))
        return parse_first_packet(await wire.read_exactly(length - 4))

    async def _answer_encryption(self, wire: Wire, packet: SSLRequest | GSSENCRequest) -> None:
        is_gss = isinstance(packet, GSSENCRequest)
        is_refused = is_gss or self.tls is None or wire.tls is not None
        if is_refused:
            await wire.send(b"N")
        if wire.has_input():
            # Somebody between us may have put it there, to be taken for the client's own words.
            what = "GSSAPI encryption" if is_gss else "SSL"
            raise ClientProtocolError(
                f"received unencrypted data after {what} request", detail=_UNENCRYPTED
            )
        if is_refused or self.tls is None:
            return
        await wire.send(b"S")
        await wire.start_tls(self.tls, server_side=True)

    async def _start_direct_tls(self, wire: Wire) -> None:
        """TLS without asking for it, as PostgreSQL 17 takes it.

        Since nobody has said that PostgreSQL is spoken here, the handshake must, or the client
        may have been brought here from elsewhere.
        """
        if self.tls is None:
            raise WireClosed("it began with TLS, which is off")  # it could not read an answer
        await wire.start_tls(self.tls, server_side=True, is_direct=True)
        if wire.tls is None or wire.tls.application_protocol != ALPN:
            raise ClientProtocolError(
                "received direct SSL connection request without ALPN protocol negotiation "
                "extension"
            )

    async def _heed(self, wire: Wire, request: CancelRequest) -> None:
        """Act on a cancel request, and wait until its server has it, as PostgreSQL does.

        For clients take the end of this connection for a sign that what they send next is safe.
        """
        text = "client %s: cancel request for %d"
        log.debug(text, wire.peer, request.pid, extra=_fields(wire))
        pid, is_passed_on = self.peers.read(request.pid)
        self.cancel(pid, request.secret)
        _is_known(wire)  # a server that hangs may keep all who cancel there for long
        session = self._clients.find_by_key(pid, request.secret)
        if session is None and not is_passed_on:
            await self.peers.pass_on(pid, request.secret)
        server = None if session is None else session.lease.server
        if server is not None and server.is_cancelling:
            told = trio.Event()
            server.told_of_cancels.append(told.set)
            with trio.move_on_after(_CANCEL_PATIENCE):
                await told.wait()

    def cancel(self, pid: int, secret: bytes) -> None:
        """Act on a cancel request, or have somebody else see whether it is for him."""
        self._engine.attempt(lambda: self._cancel(pid, secret))

    def _cancel(self, pid: int, secret: bytes) -> None:
        if self._clients.cancel(pid, secret):
            return
        log.debug("cancel request for %d: no client has this key", pid)
        if self.on_stranger is not None:
            self.on_stranger(pid, secret)

    # --- authentication

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

    async def _authenticate(self, wire: Wire, user: str, database: str | None) -> None:
        """Have the client prove who it is; without a database, for the admin database."""
        credentials = self._credentials
        await credentials.derive()
        if database is None:
            found = credentials.admin(user)
        else:
            found = credentials.client(user, database)
        try:
            await self._exchange(
                wire, ClientAuthenticator(found.method.value, user, found.secret)
            )
        except AuthenticationError as error:
            error.flaw = found.flaw
            raise
        _is_known(wire)
        if found.refusal is not None:
            raise found.refusal

    @staticmethod
    async def _exchange(wire: Wire, authenticator: ClientAuthenticator) -> None:
        challenge = authenticator.first()
        if challenge is None:
            return
        await wire.send(messages.authentication(challenge))
        while True:
            kind, body = await wire.read_message(_PASSWORD_LIMIT)
            if kind != codes.PASSWORD:
                raise ClientProtocolError(
                    f"expected password response, got message type {kind}"
                )
            step = authenticator.receive(body)
            if step.send is not None:
                await wire.send(messages.authentication(step.send))
            if step.done:
                return

    async def _log_in_admin(self, wire: Wire, packet: StartupMessage) -> bool:
        await self._authenticate(wire, packet.user, None)
        name = packet.parameters.get("application_name", "")
        number = self._clients.new_number()
        pid, secret = self._clients.new_key(number, is_long=packet.takes_long_keys)
        session = self._admin.session(
            peer=wire.peer,
            tls=wire.tls.version if wire.tls is not None else "",
            user=packet.user,
            database=packet.database,
            application_name=name,
            pid=number,
        )
        await wire.send(
            messages.AUTHENTICATION_OK + _welcome(self._admin.parameters(name), pid, secret)
        )
        session.link = link = wire.into_link(self._engine, session)
        _start(link, wire)
        return True

    async def _log_in_client(self, wire: Wire, packet: StartupMessage) -> bool:
        if self.draining:
            raise ShuttingDown
        self.admission.check(self.config.general.max_client_conn)
        await self._authenticate(wire, packet.user, packet.database)
        pool = self._pool_for(packet)
        self._pools.control.check_enabled(packet.database)
        self.admission.admit(pool, self.config.general.max_client_conn)
        try:
            return await self._begin(wire, packet, pool)
        except BaseException:
            self.admission.leave(pool.database, pool.user)
            raise

    def _pool_for(self, packet: StartupMessage) -> Pool:
        pool = self._pools.get(packet.database, packet.user)
        if pool is None:  # gone while the client was proving who it is, or waited
            raise AuthenticationError(
                f'password authentication failed for user "{packet.user}"'
            )
        return pool

    async def _begin(self, wire: Wire, packet: StartupMessage, pool: Pool) -> bool:
        settings = settings_in(packet.parameters)
        if self.config.general.application_name_add_host:
            settings["application_name"] = _with_host(settings, wire.peer)
        replication = replication_in(packet.parameters.get("replication"))
        if replication:
            check(pool)
        while not (replication or _has_one_server(pool) or await pool.wait_ready()):
            pool = self._pool_for(packet)
        waits = bool(replication) or _has_one_server(pool)
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
                peer=wire.peer,
                tls=wire.tls.version if wire.tls is not None else "",
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
        if waits:
            session.entrance.shut(partial(self._let_in, session))
            await wire.send(messages.AUTHENTICATION_OK)
        else:
            await wire.send(
                messages.AUTHENTICATION_OK
                + _welcome({**pool.parameters, **overlay}, pid, secret)
            )
            self._log_connected(session)
        session.client.link = link = wire.into_link(self._engine, session)
        self._clients.add(session)
        if waits:
            self._engine.run_for(link, partial(_enter, session.entrance))
        _start(link, wire)
        if self.draining:
            self._engine.run_for(link, session.drain)
        return True

    def _let_in(self, session: Session, server: ServerConnection) -> None:
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


def _fields(wire: Wire, **more: object) -> dict[str, object]:
    """Who logs in, and `more`, for the `extra` of a log call."""
    return fields(client=wire.peer, **wire.names, **more)


def _start(link: Link, wire: Wire) -> None:
    """A client may have sent its first query behind the password."""
    data = wire.take_input()
    if data:
        link.feed(data)


def _enter(entrance: Entrance) -> None:
    entrance.ask()


def _is_known(wire: Wire) -> None:
    """Let somebody else log in."""
    if wire.on_known is not None:
        wire.on_known()


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
