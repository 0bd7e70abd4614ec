"""Opening a connection to a server: TCP, TLS, login. Control plane: runs in a trio task."""

from __future__ import annotations

import ipaddress
import logging
import ssl
import struct
from collections import Counter
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from ..config.values import ProtocolVersion
from ..engine.tls import client_context
from ..engine.wire import KeepAlive, Wire, WireClosed, connect
from ..errors import (
    ClientProtocolError,
    LoginTimeout,
    RouterError,
    ServerProtocolError,
    ServerRefused,
    ServerTimeout,
    ServerUnavailable,
    StartupRefused,
)
from ..printable import printable
from ..protocol import codes, messages
from ..protocol.auth import ServerAuthenticator
from ..protocol.startup import startup_parameters
from ..reasons import reason
from ..records import fields
from . import refusals
from .line import Line
from .query import LoginQueries
from .replication import ReplicationConnection
from .server import ServerConnection
from .warming import warm

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
    from typing import Self

    from ..config.effective import PoolSettings
    from ..engine.loop import Engine
    from ..protocol.variables import Variables
    from .address_pool import AddressPool

log = logging.getLogger("router.server")

Opened = TypeVar("Opened")

# No message of a login is longer; PostgreSQL's own limit for them is 30,000 bytes.
_LOGIN_MESSAGE_LIMIT = 65536
# The process id and a secret of up to 256 bytes, as of protocol 3.2.
_KEY_LIMIT = 260
# Classes of errors that whoever logs in may get, whatever his start-up parameters are: of the
# connection, the login, the database, resources, and a server that stops.
_OF_ANYBODY: Final = frozenset(("08", "28", "3D", "53", "57"))
_PROTOCOLS = {
    ProtocolVersion.V3_0: codes.PROTOCOL_3_0,
    ProtocolVersion.V3_2: codes.PROTOCOL_3_2,
}


def keepalive_of(settings: PoolSettings) -> KeepAlive:
    """The TCP keepalive settings of a pool."""
    return KeepAlive(
        idle=settings.tcp_keepalives_idle,
        count=settings.tcp_keepalives_count,
        interval=settings.tcp_keepalives_interval,
        user_timeout=settings.tcp_user_timeout,
    )


def is_spread(pool: AddressPool) -> bool:
    """Whether connections go to all addresses of the server's host, and not to one of them.

    Where a server has to tell what it is, that is true of the address that it has told it at.
    """
    return pool.settings.server_round_robin and not pool.address.is_auto


class Guide:
    """Has one connection of a pool go to the right address of its host.

    Until the end of its block it counts at the address that it has been sent to, so that those
    which are opened at the same time go elsewhere.
    """

    def __init__(self, pool: AddressPool) -> None:
        self._pool: Final = pool
        self._at = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._go_to("")

    def found(self, addresses: Sequence[str]) -> None:
        """Note it."""
        self._pool.health.addresses.note(addresses)

    def known(self) -> Sequence[str]:
        """Those that it had, and say so once."""
        health = self._pool.health
        addresses = health.addresses
        if addresses.found and not addresses.is_stale:
            addresses.is_stale = True
            log.warning(
                "%s cannot be looked up now: connections go to the addresses that it had, %s",
                printable(health.host),
                ", ".join(addresses.found),
                extra=fields(host=printable(health.host)),
            )
        return addresses.found

    def pick(self, addresses: Sequence[str]) -> str:
        """The address where the pool has the fewest, or which has worked last."""
        pool, loads = self._pool, None
        self._go_to("")
        if is_spread(pool):
            loads = Counter(server.ip for server in pool.servers())
            loads.update(pool.underway)
        chosen = pool.health.addresses.pick(addresses, loads)
        self._go_to(chosen)
        return chosen

    def _go_to(self, address: str) -> None:
        underway = self._pool.underway
        if self._at:
            underway.remove(self._at)
        if address:
            underway.append(address)
        self._at = address

    def failed(self, address: str) -> bool:
        """Note it, and have it confirmed."""
        health = self._pool.health
        is_news = health.addresses.failed(address)
        if is_news and health.addresses.has_hope:
            health.doubt()
        return is_news


async def connect_to(pool: AddressPool, where: Guide | str) -> Wire:
    """Connect to the server's host as a guide says, or to one of its addresses.

    Raises:
        OSError: no address of the host could be reached.
    """
    keepalive, port = keepalive_of(pool.settings), pool.address.port
    if isinstance(where, str):
        return await connect(where, port, keepalive)
    return await connect(pool.address.host, port, keepalive, where)


async def open_server(
    engine: Engine, pool: AddressPool, startup: Variables | None = None
) -> ServerConnection:
    """Connect and log in.

    Args:
        engine: drives the connection.
        pool: whose it is to be.
        startup: the start-up parameters of the client that it is for, if it is for one.

    Raises:
        StartupRefused: these cannot be had.
        ServerUnavailable: the server cannot be reached, or not in time.
        ServerRefused: it answered with an error, whose code and text these are.
        ServerProtocolError: it does not speak the protocol, or failed to prove who it is.
    """
    asked_at = engine.now
    server = await _open(engine, pool, partial(_become_server, startup=startup))
    server.asked_at = asked_at
    return server


async def open_line(engine: Engine, pool: AddressPool) -> Line:
    """The same for a connection that is to listen, and that no pool has."""
    return await _open(engine, pool, _become_line)


async def _open(
    engine: Engine,
    pool: AddressPool,
    become: Callable[[Engine, AddressPool, Wire], Awaitable[Opened]],
) -> Opened:
    settings = pool.settings
    timeout = settings.server_login_timeout
    stage = "connect"
    with explained(pool), Guide(pool) as guide:
        try:
            with trio.fail_after(timeout):
                with trio.fail_after(min(timeout, settings.connect_timeout)):
                    wire = await connect_to(pool, guide)
                stage = "server_login"
                return await become(engine, pool, wire)
        except trio.TooSlowError:
            engine.figures.timeouts.note(stage)
            if stage == "server_login":
                text = f"{pool.address.label} did not answer in time"
                raise LoginTimeout(text) from None
            raise


async def _become_line(engine: Engine, pool: AddressPool, wire: Wire) -> Line:
    try:
        key, _ = await log_in(pool, wire, "pgcat listen")
        line = Line(pool.address.label, key[0], wire.ip)
        line.link = wire.into_link(engine, line)
        return line
    except BaseException:
        wire.close()
        raise


async def _become_server(
    engine: Engine, pool: AddressPool, wire: Wire, startup: Variables | None
) -> ServerConnection:
    settings = pool.settings
    try:
        key, reported = await log_in(pool, wire, "", startup)
        replicates = startup is not None and startup.replication
        if (settings.prewarmer or pool.catalogue is not None) and not replicates:
            queries = LoginQueries(
                wire,
                time_limit=settings.connect_timeout,
                cancel=partial(deliver_cancel, pool, *key, wire.ip),
            )
            reported.update(await _prepare(pool, queries, reported))
        return _hand_to_engine(engine, pool, wire, key, reported, startup)
    except BaseException:
        wire.close()
        raise


@contextmanager
def explained(pool: AddressPool) -> Iterator[None]:
    """Turn what goes wrong with a connection into an error that names the server.

    Raises:
        ServerError: see `open_server`.
    """
    address = pool.address
    try:
        yield
    except trio.TooSlowError:
        raise ServerTimeout(f"{address.label} did not answer in time") from None
    except WireClosed as error:
        raise ServerUnavailable(f"{address.label} closed the connection: {error}") from None
    except ssl.SSLError as error:
        raise ServerUnavailable(f"TLS with {address.label} failed: {reason(error)}") from None
    except OSError as error:
        raise ServerUnavailable(f"cannot connect to {address.label}: {reason(error)}") from None
    except ClientProtocolError as error:
        raise ServerProtocolError(f"{address.label}: {error.message}") from None
    except (struct.error, ValueError, IndexError):
        raise ServerProtocolError(
            f"{address.label} sent a message that cannot be read during login"
        ) from None


async def log_in(
    pool: AddressPool, wire: Wire, name: str, startup: Variables | None = None
) -> tuple[tuple[int, bytes], dict[str, str]]:
    """Log in as a client with these start-up parameters would, or without any.

    `name` is the application_name; with "" it is the client's, or the server's default.

    Returns:
        The key for cancel requests, and what the server reports.
    """
    addresses = pool.health.addresses
    try:
        outcome = await _log_in(pool, wire, name, startup)
    except BaseException as error:  # a time-out, too
        if not isinstance(error, ServerRefused) or refusals.is_of_server(error):
            addresses.failed(wire.ip)
        raise
    addresses.worked(wire.ip)
    return outcome


async def _log_in(
    pool: AddressPool, wire: Wire, name: str, startup: Variables | None
) -> tuple[tuple[int, bytes], dict[str, str]]:
    settings = pool.settings
    if settings.server_tls:
        await _start_tls(pool, wire)
    parameters = _parameters(pool, name, startup)
    asked = _PROTOCOLS[settings.server_max_protocol_version]
    await wire.send(messages.startup_message(parameters, asked))
    authenticator = ServerAuthenticator(
        settings.server_username,
        pool.secret,
        allow_cleartext=wire.tls is not None or _is_local(pool.address.host),
    )
    reported: dict[str, str] = {}
    key = (0, b"")
    while True:
        kind, body = await wire.read_message(_LOGIN_MESSAGE_LIMIT)
        if kind == codes.AUTHENTICATION:
            (code,) = struct.unpack_from("!i", body)
            answer = authenticator.receive(code, body[4:])
            if answer is not None:
                await wire.send(messages.password_message(answer))
        elif kind == codes.PARAMETER_STATUS:
            parameter, _, value = body[:-1].partition(b"\0")
            reported[parameter.decode()] = value.decode("utf-8", "surrogateescape")
        elif kind == codes.BACKEND_KEY_DATA:
            if len(body) > _KEY_LIMIT:
                raise ServerProtocolError(f"{pool.address.label} sent a key that is too long")
            key = (struct.unpack_from("!I", body)[0], body[4:])
        elif kind == codes.NEGOTIATE_PROTOCOL_VERSION:
            (version,) = struct.unpack_from("!I", body)
            if not codes.PROTOCOL_3_0 <= version <= asked:
                raise ServerProtocolError(
                    f"{pool.address.label} wants to speak the protocol {version >> 16}."
                    f"{version & 0xFFFF}, which nobody asked for"
                )
        elif kind == codes.NOTICE_RESPONSE:
            fields = messages.parse_error_fields(body)
            said, code = printable(fields.get("M", "")), printable(fields.get("C", ""), 5)
            more = pool.address.fields(pool.settings.user, sqlstate=code)
            log.info("%s says: %s", pool.address.label, said, extra=more)
        elif kind == codes.ERROR_RESPONSE:
            raise _refusal(pool, body, startup)
        elif kind == codes.READY_FOR_QUERY:
            break
        else:
            raise ServerProtocolError(
                f"unexpected message type {chr(kind)!r} from {pool.address.label} during login"
            )
    return key, reported


def _parameters(pool: AddressPool, name: str, startup: Variables | None) -> dict[str, str]:
    settings = pool.settings
    parameters = {"user": settings.server_username, "database": pool.address.database}
    if settings.statement_timeout:
        parameters["statement_timeout"] = str(round(settings.statement_timeout * 1000))
    if startup is None:
        parameters["client_encoding"] = "UTF8"
    else:
        parameters.update(startup_parameters(startup.values))
    if name:
        parameters["application_name"] = name
    if startup is not None and startup.replication:
        parameters["replication"] = startup.replication
    return parameters


async def _prepare(
    pool: AddressPool, queries: LoginQueries, reported: Mapping[str, str]
) -> dict[str, str]:
    """Do what is done before the first use; returns the settings that were reported."""
    is_utf8 = reported.get("client_encoding") == "UTF8"
    catalogue, address = pool.catalogue, pool.address
    is_first = pool.size == pool.connecting
    if catalogue is not None and is_utf8 and catalogue.is_due(address, is_first=is_first):
        await catalogue.ask_during_login(address, queries)
    return await warm(pool, queries)


def _is_local(host: str) -> bool:
    """Whether a password in plain text would not leave this machine."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_of(startup: Variables, sqlstate: str) -> bool:
    """Whether a refusal is of these start-up parameters; replication has rules of its own."""
    if startup.replication:
        return sqlstate[:2] != "57"
    return bool(startup.values) and sqlstate[:2] not in _OF_ANYBODY


def _refusal(pool: AddressPool, body: bytes, startup: Variables | None) -> RouterError:
    fields = messages.parse_error_fields(body)
    text, sqlstate = fields.get("M", "no reason given"), fields.get("C", "08006")
    if startup is not None and _is_of(startup, sqlstate):
        more = {"hint": fields.get("H", ""), "detail": fields.get("D", "")}
        return StartupRefused(text, sqlstate=sqlstate, **more)
    return ServerRefused(f"{pool.address.label} refused the login: {text}", sqlstate=sqlstate)


def _hand_to_engine(
    engine: Engine,
    pool: AddressPool,
    wire: Wire,
    key: tuple[int, bytes],
    reported: dict[str, str],
    startup: Variables | None,
) -> ServerConnection:
    replicates = startup is not None and startup.replication
    kind = ReplicationConnection if replicates else ServerConnection
    server = kind(
        pool,
        pid=key[0],
        secret=key[1],
        parameters=reported,
        statement_capacity=max(pool.settings.prepared_statements_cache_size, 1),
        now=engine.now,
        startup=startup,
    )
    server.ip = wire.ip
    server.tls = wire.tls.version if wire.tls is not None else ""
    server.put_first(wire.take_input())  # it may be told to go as soon as it is there
    server.link = wire.into_link(engine, server, patient=True)
    return server


async def _start_tls(pool: AddressPool, wire: Wire) -> None:
    settings = pool.settings
    await wire.send(messages.ssl_request())
    answer = await wire.read_exactly(1)
    if answer != b"S":
        # Going on in plain text would let anyone between us and the server undo the operator's
        # wish.
        raise ServerUnavailable(
            f"{pool.address.label} refused TLS, which server_tls asks for",
            sqlstate="08001",
            hint="Set ssl = on in its postgresql.conf, or server_tls = false.",
        )
    ca_file = settings.server_tls_ca_file
    context = client_context(
        verify=settings.verify_server_certificate,
        ca_file=None if ca_file is None else Path(ca_file),
    )
    await wire.start_tls(context, server_side=False, server_hostname=pool.address.host)


async def send_cancel(server: ServerConnection) -> None:
    """Deliver a cancel request for what a server connection is doing.

    Returns when the server has closed that connection, which is after it has sent the signal.
    """
    await deliver_cancel(server.pool, server.pid, server.secret, server.ip)


async def deliver_cancel(pool: AddressPool, pid: int, secret: bytes, ip: str) -> None:
    """Do what `send_cancel` does, for a backend by its key.

    It goes to the address `ip` that the backend was reached at: another one of its host's may
    lead to another server.
    """
    with trio.move_on_after(pool.settings.server_login_timeout):
        try:
            wire = await connect(
                ip or pool.address.host, pool.address.port, keepalive_of(pool.settings)
            )
        except OSError as error:
            log.warning(
                "cannot send a cancel request to %s: %s",
                pool.address.label,
                reason(error),
                extra=pool.address.fields(pool.settings.user),
            )
            return
        try:
            if pool.settings.server_tls:
                await _start_tls(pool, wire)
            await wire.send(messages.cancel_request(pid, secret))
            await wire.read_exactly(1)
        except (WireClosed, OSError, RouterError):
            pass  # the end of the connection is the only answer there is
        finally:
            wire.close()
