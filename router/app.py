"""The router as a whole: builds the parts, runs them, acts on signals and admin commands."""

from __future__ import annotations

import logging
import signal
import ssl
from collections import Counter
from dataclasses import dataclass
from socket import AF_UNIX
from typing import TYPE_CHECKING, Final

import trio

from .admin import console
from .admin.show_config import config_rows
from .admin.verbs import Verbs
from .config import loader
from .config.effective import in_force, restart_keys
from .ending import Ending, Mode
from .engine import liveness
from .engine.gate import Gate
from .engine.listener import Door
from .engine.loop import Engine
from .engine.tls import server_context
from .engine.wire import KeepAlive
from .errors import ConfigError
from .plugins.inspector import inspector_of
from .pool import checks, names
from .pool.connector import TaskConnector
from .pool.planning import Action, plan_reload
from .pool.registry import PoolRegistry
from .printable import printable
from .protocol import backend
from .reasons import reason
from .records import fields
from .session.clients import Clients
from .session.limits import limit_snapshots
from .session.login import AdminHandler, Login
from .session.view import RouterView
from .sockets import Sockets, first_of, name_of, opened
from .succession import Predecessor, Succession
from .supervisor import Supervisor
from .traces import Traces

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from .config.general import General
    from .config.model import Config
    from .pool.planning import PoolPlan, ReloadPlan
    from .snapshots import ClientSnapshot, LimitSnapshot

log = logging.getLogger("router.app")

_SIGNALS: Final = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGQUIT,
    signal.SIGUSR2,
)
# How often pools are looked after, in seconds.
_UPKEEP: Final = 1.0
# How long the end waits for cancel requests to be delivered, in seconds.
_CANCEL_PATIENCE: Final = 1.0


@dataclass(frozen=True, slots=True)
class ServeInfo:
    """Where the router listens; `metrics_port` is None without the exporter."""

    host: str
    port: int
    metrics_port: int | None


class Admins:
    """Sessions of the admin database, by a number of their own."""

    def __init__(self) -> None:
        self._sessions: dict[int, console.AdminSession] = {}

    def add(self, pid: int, session: console.AdminSession) -> None:
        """Note a session."""
        self._sessions[pid] = session

    def remove(self, pid: int) -> None:
        """Forget a session."""
        self._sessions.pop(pid, None)

    def expel(self) -> None:
        """Send all away."""
        for session in list(self._sessions.values()):
            session.expel()

    def snapshots(self) -> list[ClientSnapshot]:
        """Their rows of SHOW CLIENTS."""
        return [session.snapshot(pid) for pid, session in self._sessions.items()]


class Router:
    """The parts and what is done to them as a whole.

    Implements the actions of the admin database.
    """

    def __init__(
        self,
        config: Config,
        config_path: Path | None,
        value_files: Sequence[Path],
        nursery: trio.Nursery,
    ) -> None:
        self.config = config
        self._config_path: Final = config_path
        self._value_files = value_files
        self._nursery: Final = nursery
        self.engine: Final = Engine()
        if config.general.opentelemetry_endpoint is not None:
            self.engine.figures.traces = Traces()
        self._connector: Final = TaskConnector(self.engine, nursery)
        self.registry: Final = PoolRegistry(self.engine, self._connector, inspector_of)
        self.clients: Final = Clients(config.general.peer_id)
        self.verbs: Final = Verbs(self.engine, self.registry, self.clients)
        self.admins: Final = Admins()
        # Of TCP, and of the Unix socket, whose clients are let in whatever happens over TCP.
        self._gates: Final = tuple(Gate(self.engine, self._most_logins) for _ in range(2))
        self.login: Final = Login(
            self.engine, config, self.registry, self.clients, self, nursery
        )
        self.view: Final = RouterView(
            self.registry,
            self.clients,
            self.admins.snapshots,
            self.engine,
            self._limits,
            self.login.peers.snapshots,
        )
        self.supervisor: Final = Supervisor()
        self.ending: Final = Ending(
            self.engine,
            self.login,
            self.clients,
            self.supervisor,
            lambda: self.config.general.shutdown_timeout / 1000,
        )
        self._started = False

    # --- limits

    def gate(self, sock: socket.socket) -> Gate:
        """The places of those who come by a socket and have not logged in yet."""
        return self._gates[sock.family == AF_UNIX]

    def _most_logins(self) -> int:
        return self.config.general.max_logins_in_progress

    def _limits(self) -> list[LimitSnapshot]:
        return limit_snapshots(
            self.config.general, self._gates, self.login.admission, self.registry
        )

    # --- configuration

    def apply(self, config: Config) -> list[PoolPlan]:
        """Make everything what the configuration says; returns what became of each pool.

        Raises:
            ConfigError: the TLS files cannot be used; nothing has changed then.
        """
        context = _tls_context(config.general)
        if self._started:
            for key in restart_keys(self.config.general, config.general):
                log.warning("general.%s has changed: restart the router to apply it", key)
            config = in_force(self.config, config)
        self._started = True
        self.config = config
        self.login.use(config, context)
        self._nursery.start_soon(self.login.derive_keys)
        general = config.general
        self.engine.figures.queries.use(general.query_statistics_max * general.query_statistics)
        if self.engine.figures.traces is not None:
            self.engine.figures.traces.ratio = general.opentelemetry_sampling_ratio
        plans: list[PoolPlan] = []
        self.engine.run_in_round(lambda: plans.extend(self.registry.apply(config)))
        names = [(pool.database, pool.user) for pool in self.registry]
        self.engine.figures.queries.keep(names)
        self.engine.figures.faults.keep(names)
        if config.general.validate_config:
            self.engine.run_in_round(self.registry.open_spares)
        self.engine.run_in_round(self.registry.maintain)
        return plans

    def reload(self) -> None:
        """Read the configuration file again; on an error everything stays as it is.

        Raises:
            ConfigError: the file cannot be used.
        """
        self.supervisor.reloading()
        try:
            self._reload()
        finally:
            self.supervisor.ready("serving" if self.ending.is_ready else "stopping")

    def _reload(self) -> None:
        loaded = self._load()
        log_warnings(loaded)
        found = plan_reload(self.config, loaded.config)
        plans = self.apply(loaded.config)
        self._value_files = loaded.files
        for change in found.general:
            log.info("general.%s", printable(change))
        for peer, change in found.peers:
            log.info("peers.%s: %s", peer, printable(change))
        for plan in plans:
            if plan.action is not Action.KEEP:
                more = fields(database=plan.key[0], user=plan.key[1], action=plan.action.value)
                name, line = printable(plan.name), printable(plan.line)
                log.info("[%s] pool is %s", name, line, extra=more)
        counts = Counter(plan.action for plan in plans)
        told = ", ".join(f"{counts[action]} {action.value}" for action in Action)
        log.info("configuration reloaded from %s; pools: %s", self._config_path, told)

    def plan(self) -> ReloadPlan:
        """What a reload would do now.

        Raises:
            ConfigError: the file cannot be used.
        """
        return plan_reload(self.config, self._load().config)

    def _load(self) -> loader.Loaded:
        if self._config_path is None:
            raise ConfigError("the router was started without a configuration file")
        return loader.load(self._config_path)

    def keepalive(self) -> KeepAlive:
        """The TCP settings of clients."""
        general = self.config.general
        return KeepAlive(
            idle=general.tcp_keepalives_idle,
            count=general.tcp_keepalives_count,
            interval=general.tcp_keepalives_interval,
            user_timeout=general.tcp_user_timeout,
        )

    def names_interval(self) -> float | None:
        """How often names of servers are looked up, in seconds; None is never."""
        general = self.config.general
        return general.dns_max_ttl if general.dns_cache_enabled else None

    # --- life cycle

    def shutdown(self, wait_for: str = "") -> None:
        """Stop; what is waited for is named as in SHUTDOWN."""
        mode = {"WAIT_FOR_CLIENTS": Mode.CLIENTS, "IMMEDIATE": Mode.NOW}.get(
            wait_for, Mode.TRANSACTIONS
        )
        self.ending.begin(mode, f"SHUTDOWN {wait_for}".strip())

    async def dismiss(self) -> None:
        """Tell everybody who is still here that it is over, and cancel their statements.

        Or else servers would finish what nobody waits for.
        """
        self.engine.attempt(self.login.dismiss)
        self.engine.attempt(self.clients.expel)
        self.engine.attempt(self.admins.expel)
        with trio.move_on_after(_CANCEL_PATIENCE):
            await self._connector.settle()

    async def upkeep(self) -> None:
        """Look after the pools, for ever."""
        while True:
            due = trio.current_time() + _UPKEEP
            await trio.sleep_until(due)
            self.engine.figures.delays.add(max(trio.current_time() - due, 0.0))
            self.engine.attempt(self.registry.maintain)
            self.supervisor.alive()

    async def watch_config(self) -> None:
        """Reload whenever a file of the configuration has changed, as `autoreload` asks."""
        seen = self._stamps()
        while True:
            interval = self.config.general.autoreload or 0  # milliseconds
            # Whether it is wanted may change with a reload.
            await trio.sleep(interval / 1000 or _UPKEEP)
            stamps = self._stamps()
            if None in stamps.values():
                continue  # being replaced: the next look finds it
            if interval and stamps != seen:
                reload_logged(self.reload)
                # There may be other files now. What changed while they were read is seen next.
                stamps = {path: stamps.get(path, now) for path, now in self._stamps().items()}
            seen = stamps

    def _stamps(self) -> dict[Path, tuple[int, int, int] | None]:
        """What tells that a file has changed, of each that a reload would read."""
        general = self.config.general
        paths = (
            self._config_path,
            *self._value_files,
            general.tls_certificate,
            general.tls_private_key,
        )
        return {path: _stamp(path) for path in paths if path is not None}

    def close(self) -> None:
        """Close all connections."""
        self.engine.attempt(self.registry.close)
        self.engine.close()

    # --- the admin database

    def parameters(self, application_name: str) -> dict[str, str]:
        """What an administrator is told at login."""
        return console.parameters(application_name)

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
        """A session of the admin database."""
        session = console.AdminSession(
            self.view,
            self,
            settings=lambda: config_rows(self.config),
            peer=peer,
            tls=tls,
            user=user,
            database=database,
            application_name=application_name,
            may_act=user != self.config.general.stats_username,
            on_end=lambda _session, _reason: self.admins.remove(pid),
        )
        self.admins.add(pid, session)
        return session


def log_warnings(loaded: loader.Loaded) -> None:
    """Tell the operator what is hardly meant so, and what has no effect."""
    for warning in loaded.warnings:
        log.warning("configuration: %s", warning)


def _tls_context(general: General) -> ssl.SSLContext | None:
    if general.tls_certificate is None or general.tls_private_key is None:
        return None
    try:
        return server_context(general.tls_certificate, general.tls_private_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            "TLS towards clients cannot be set up",
            [f"general.tls_certificate, general.tls_private_key: {reason(error)}"],
        ) from None


def _build() -> str:
    """Which build this is; the compiled one takes half of the CPU time."""
    return "plain" if str(backend.__file__).endswith(".py") else "compiled"


async def serve(
    config: Config,
    *,
    config_path: Path | None = None,
    value_files: Sequence[Path] = (),
    handle_signals: bool = False,
    task_status: trio.TaskStatus[ServeInfo] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run the router until it is told to stop, or is cancelled.

    Args:
        config: what to serve.
        config_path: where a reload reads it again.
        value_files: what else it has been read from.
        handle_signals: act on SIGHUP, SIGINT, SIGTERM, SIGQUIT and SIGUSR2.
        task_status: told where the router listens, once it does.

    Raises:
        ConfigError: the address cannot be bound, or the TLS files cannot be used.
    """
    router: Router | None = None
    predecessor = Predecessor.find()
    inherited = None if predecessor is None else predecessor.sockets
    with opened(config.general, inherited) as sockets:
        try:
            async with trio.open_nursery() as nursery:
                router = Router(config, config_path, value_files, nursery)
                router.apply(config)
                if predecessor is not None:
                    router.login.on_stranger = predecessor.cancel
                info = await _begin(router, nursery, sockets)
                if handle_signals:
                    succession = Succession(
                        sockets, predecessor, router.login, router.ending, router.supervisor
                    )
                    # Who is told that the router serves may send one at once.
                    await nursery.start(_act_on_signals, router, succession, nursery)
                for sock in sockets.clients:
                    log.info("listening on %s (%s data plane)", name_of(sock), _build())
                if predecessor is not None:
                    predecessor.take_over()
                where = ", ".join(map(name_of, sockets.clients))
                router.supervisor.ready(f"listening on {where}")
                task_status.started(info)
                await router.ending.wait()
                await router.dismiss()
                nursery.cancel_scope.cancel()
        finally:
            # No task is left that could still want the engine.
            if router is not None:
                router.close()
        router.ending.tell()


async def _begin(router: Router, nursery: trio.Nursery, sockets: Sockets) -> ServeInfo:
    """Start all that goes on for as long as the router does."""
    router.view.listens(sockets.open)
    metrics_port = await _start_metrics(router, nursery, sockets)
    engine, registry = router.engine, router.registry
    nursery.start_soon(engine.run)
    nursery.start_soon(router.upkeep)
    nursery.start_soon(checks.watch, engine, registry.healths)
    nursery.start_soon(registry.discovery.watch)
    nursery.start_soon(names.watch, engine, registry.healths, router.names_interval)
    nursery.start_soon(router.watch_config)
    nursery.start_soon(liveness.watch, engine, router.keepalive)
    general, traces = router.config.general, engine.figures.traces
    if traces is not None and general.opentelemetry_endpoint is not None:
        from .metrics import otlp  # HTTP takes a while to load

        nursery.start_soon(
            otlp.send_traces,
            traces,
            general.opentelemetry_endpoint,
            general.opentelemetry_service_name,
        )
    for sock in sockets.clients:
        door = Door(engine, sock, router.login.greet, router.keepalive, router.gate(sock))
        sockets.doors.append(door)
        nursery.start_soon(door.serve)
    router.ending.sockets = sockets
    host, port = first_of(sockets.clients)
    return ServeInfo(host, port, metrics_port)


async def _start_metrics(router: Router, nursery: trio.Nursery, sockets: Sockets) -> int | None:
    general = router.config.general
    if not general.enable_prometheus_exporter:
        for sock in sockets.metrics:
            sock.close()
        sockets.metrics.clear()
        return None
    from .metrics import http  # with its web server a good part of the time that a start takes

    if not sockets.metrics:
        try:
            sockets.metrics += http.listen(general.host, general.prometheus_exporter_port)
        except OSError as error:
            # As PgCat: clients matter more than metrics.
            log.error(
                "metrics: cannot listen on port %d: %s",
                general.prometheus_exporter_port,
                reason(error),
            )
            return None

    async def export(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        with sockets.exporting:
            await http.serve(
                sockets.metrics,
                router.view,
                lambda: router.ending.is_ready,
                task_status=task_status,
            )

    await nursery.start(export)
    port: int = sockets.metrics[0].getsockname()[1]
    log.info("metrics on http://%s:%d/metrics", general.host, port)
    return port


async def _act_on_signals(
    router: Router,
    succession: Succession,
    nursery: trio.Nursery,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """SIGTERM and SIGINT let transactions end, and stop at once when they come again."""
    seen: set[int] = set()
    with trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            if number == signal.SIGHUP:
                reload_logged(router.reload)
                continue
            if number == signal.SIGUSR2:
                nursery.start_soon(succession.run)
                continue
            again = number in seen
            seen.add(number)
            mode = Mode.NOW if again or number == signal.SIGQUIT else Mode.TRANSACTIONS
            router.ending.begin(mode, signal.Signals(number).name)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def reload_logged(reload: Callable[[], None]) -> None:
    """Reload where nobody waits for the outcome: an error goes to the log."""
    try:
        reload()
    except ConfigError as error:
        log.error("reload failed, the old configuration stays: %s", error.line)
    except Exception:
        log.exception("internal error during a reload")
