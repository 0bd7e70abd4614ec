"""What administrators do to pools, clients and servers."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Final

from ..errors import ClientError
from ..pool import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..engine.loop import Engine
    from ..pool.control import Selection
    from ..pool.health import ServerHealth
    from ..pool.pool import Pool
    from ..pool.registry import PoolRegistry
    from ..session.clients import Clients
    from ..session.session import Session

log = logging.getLogger("router.admin")

# How often to look whether what a command waits for has come to pass, in seconds.
_PATIENCE: Final = 0.02


class Verbs:
    """The commands that change what runs; call it inside a round of the engine.

    Attributes:
        control: what they have done to pools.
    """

    def __init__(self, engine: Engine, registry: PoolRegistry, clients: Clients) -> None:
        self._engine: Final = engine
        self._registry: Final = registry
        self._clients: Final = clients
        self.control: Final = registry.control

    def look_later(self, callback: Callable[[], None]) -> None:
        """Call something in a moment."""
        self._engine.call_later(_PATIENCE, callback)

    def kill(self, selection: Selection) -> tuple[int, int]:
        """End all clients and all connections, and let nobody on until RESUME.

        Returns:
            How many clients and how many connections there were.
        """
        pools = self.control.with_retired(selection)
        self.control.pause(selection)
        sessions = [
            session
            for session in self._clients
            if selection.has(session.lease.pool.database, session.lease.pool.user)
        ]
        self._end(sessions)
        return len(sessions), self.control.close_servers(pools)

    def kill_client(self, pid: int) -> None:
        """End one client; what its server is doing is cancelled, and rolled back.

        Raises:
            ClientError: there is no such client.
        """
        session = self._clients.find(pid)
        if session is None:
            raise ClientError(
                f"client not found: {pid}",
                sqlstate="22023",
                hint="SHOW CLIENTS has the column client_id.",
            )
        self._end([session])

    @staticmethod
    def _end(sessions: Iterable[Session]) -> None:
        for session in list(sessions):
            client = session.client
            more = client.fields(sqlstate="57P01")
            log.info("client %s: ended by an administrator", client.peer, extra=more)
            calls.expel(session)

    def ban(self, server: str, seconds: float) -> list[ServerHealth]:
        """Leave out a server as a replica; returns those which an administrator had not.

        Raises:
            ClientError: there is no such server, or it is nobody's replica.
        """
        found = self._servers(server)
        replicas = [health for health in found if health.has_replica]
        if not replicas:
            raise ClientError(
                f"{found[0].name} is a primary, and those are never banned",
                sqlstate="22023",
                hint="PAUSE SERVER takes any server out of service.",
            )
        news = [health for health in replicas if health.admin_ban is None]
        for health in replicas:
            health.ban_by_admin(seconds, _ban_reason(seconds))
        return news

    def pause_server(self, server: str) -> list[ServerHealth]:
        """Take a server out of service; returns those of that name.

        Raises:
            ClientError: there is no such server.
        """
        found = self._servers(server)
        for health in found:
            health.take_out()
        return found

    def resume_server(self, server: str) -> list[ServerHealth]:
        """Take a server into service again; returns those that were paused.

        Raises:
            ClientError: there is no such server.
        """
        return [health for health in self._servers(server) if health.take_in()]

    def resume_servers(self) -> list[ServerHealth]:
        """Take all servers into service again; returns those that were paused."""
        return [health for health in self._registry.healths if health.take_in()]

    def unban(self, server: str) -> list[ServerHealth]:
        """End all bans of a server, which is checked before it is used.

        Raises:
            ClientError: there is no such server.
        """
        return [health for health in self._servers(server) if health.unban()]

    def banned(self, server: str) -> list[ServerHealth]:
        """The servers of that name that are banned, by whomever.

        Raises:
            ClientError: there is no such server.
        """
        return [health for health in self._servers(server) if health.ban or health.admin_ban]

    def _servers(self, server: str) -> list[ServerHealth]:
        """Those at a host, or the one at a host and port."""
        known = [health for health in self._registry.healths if health.parts]
        found = [health for health in known if server == health.host]
        if not found:
            host, _, port = server.rpartition(":")
            wanted = host.removeprefix("[").removesuffix("]"), port
            found = [health for health in known if (health.host, str(health.port)) == wanted]
        if not found:
            raise ClientError(
                f"no such server: {server}",
                sqlstate="22023",
                hint="SHOW HEALTH has the hosts and ports as they are configured.",
            )
        return found

    def reset_stats(self) -> None:
        """Begin to count anew."""
        for pool in self._registry:
            for part in pool.address_pools():
                part.counters.reset()
        self._engine.figures.queries.reset()
        self._engine.figures.faults.reset()


def _ban_reason(seconds: float) -> str:
    """In the words of PgCat."""
    return "AdminBan(forever)" if seconds == math.inf else f"AdminBan({seconds:.0f})"


def named(servers: Iterable[ServerHealth]) -> str:
    """Names of servers, for people."""
    return ", ".join(health.name for health in servers) or "none"


def listed(pools: Iterable[Pool]) -> str:
    """Names of pools, for people."""
    return ", ".join(f"{pool.database}/{pool.user}" for pool in pools) or "none"
