"""All servers are restarted one after the other under load, the primary last.

`python -m tests.servers.failover --restart fast` runs it. Whatever was not yet sent to a server
has to wait for it, and clients that have no transaction open must not notice anything. Nobody
must notice anything if they are restarted with `smart`, or if each is taken out of service
before, with `--pause`.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from tests.support.router import (
    PoolText,
    RouterProcess,
    config_text,
    servers_of,
    start,
    wait_until,
)

from .load import GENERAL, IN_FLIGHT, OPTIONS, TABLES, Clients, Record, health_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.support.cluster.cluster import Cluster, Shard
    from tests.support.cluster.server import Server, StopMode

    from .load import Failure

POOL_SIZE = 10
_IDLE = 10


@dataclass(frozen=True, slots=True)
class Restart:
    """One server's, by time.monotonic(): told to stop, gone, and known to the router to be."""

    server: Server
    told: float
    gone: float
    known: float


@dataclass
class Outcome:
    """What came of it.

    Attributes:
        began: when the first server was told to stop, by time.monotonic().
        events: when what happened, in seconds since.
        records: what was seen, by what was done.
        cut_off: clients that were idle and whose connection did not live.
        lost: acknowledged writes that the primary does not have.
    """

    began: float
    events: list[tuple[float, str]]
    restarts: list[Restart]
    records: dict[str, Record]
    cut_off: int
    lost: int

    @property
    def unsent(self) -> dict[str, int]:
        """Failures of what no server had been sent, by what they say or by when they were."""
        return _count(each for each in self._failures() if not self._is_of_a_restart(each))

    @property
    def late(self) -> int:
        """How many failed that were sent to a server that had gone, and the router knew not."""
        return sum(
            self._is_of_a_restart(each)
            and not any(each.began <= restart.gone <= each.ended for restart in self.restarts)
            and not any(restart.told <= each.ended <= restart.gone for restart in self.restarts)
            for each in self._failures()
        )

    def _failures(self) -> list[Failure]:
        return [each for record in self.records.values() for each in record.failures]

    def _is_of_a_restart(self, failure: Failure) -> bool:
        return failure.sqlstate in IN_FLIGHT and any(
            restart.told <= failure.ended and failure.began <= restart.known
            for restart in self.restarts
        )

    def lines(self) -> list[str]:
        """The figures."""
        told = [f"{when:7.2f} s  {what}" for when, what in sorted(self.events)]
        told += [record.line(name) for name, record in self.records.items()]
        told.append(f"failed that no server had been sent: {self.unsent or 'none'}")
        told.append(f"failed that were sent when the server had just gone: {self.late}")
        told.append(f"idle clients that were cut off: {self.cut_off} of {_IDLE}")
        told.append(f"acknowledged writes that are lost: {self.lost}")
        return told


class Rolling:
    """One run."""

    def __init__(self, shard: Shard, router: RouterProcess, clients: int) -> None:
        self._shard = shard
        self._router = router
        part = clients // 4
        self._clients = Clients(
            router.dsn("db"),
            writers=part,
            readers=clients - 3 * part,
            transactions=part,
            preparers=part,
        )
        self._began = 0.0
        self._events: list[tuple[float, str]] = []
        self._restarts: list[Restart] = []

    def run(self, mode: StopMode, *, is_paused: bool) -> Outcome:
        """Do it; with a pause, or as if the router were not there."""
        primary = self._shard.primary
        primary.execute(TABLES)
        self._shard.wait_for_replication()
        idle = [self._router.connect("db") for _ in range(_IDLE)]
        for link in idle:
            link.execute("SELECT 1")
        self._clients.start()
        try:
            self._clients.wait_for_calls()
            for server in (*self._shard.replicas, primary):
                if is_paused:
                    self._restart_in_pause(server, mode)
                else:
                    self._restart(server, mode)
        finally:
            self._clients.stop()
        cut_off = 0
        for link in idle:
            cut_off += not _lives(link)
            link.close()
        records = {name: Record.of_all(each) for name, each in self._clients.by_kind.items()}
        kept = {n for (n,) in primary.execute("SELECT n FROM written")}
        acknowledged = {n for record in records.values() for n in record.acknowledged}
        return Outcome(
            self._began,
            self._events,
            self._restarts,
            records,
            cut_off=cut_off,
            lost=len(acknowledged - kept),
        )

    def _restart_in_pause(self, server: Server, mode: StopMode) -> None:
        name, where = self._name(server), f"{server.host}:{server.port}"
        told = time.monotonic()
        self._began = self._began or told
        self._note(f"{name} is to be paused")
        self._router.admin(f"PAUSE SERVER {where}")
        self._note(f"{name} is paused")
        server.restart(mode)
        self._note(f"{name} has been restarted")
        self._router.admin(f"RESUME SERVER {where}")
        self._restarts.append(Restart(server, told, told, time.monotonic()))
        self._clients.wait_for_calls()

    def _name(self, server: Server) -> str:
        return "the primary" if server is self._shard.primary else f"replica {server.port}"

    def _restart(self, server: Server, mode: StopMode) -> None:
        name = self._name(server)
        told = time.monotonic()
        self._began = self._began or told
        self._note(f"{name} is told to stop")
        server.stop(mode)
        gone = time.monotonic()
        self._note(f"{name} is gone")
        wait_until(
            "it is known", lambda: health_of(self._router, server)["condition"] == "down"
        )
        self._note(f"the router: {name} is down")
        self._restarts.append(Restart(server, told, gone, time.monotonic()))
        server.start()
        self._note(f"{name} takes connections")
        wait_until("it is up", lambda: health_of(self._router, server)["condition"] == "up")
        self._note(f"the router: {name} is up")
        self._clients.wait_for_calls()

    def _note(self, what: str) -> None:
        self._events.append((time.monotonic() - self._began, what))


def _count(failures: Iterable[Failure]) -> dict[str, int]:
    return dict(Counter(failure.sqlstate for failure in failures))


def _lives(link: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        link.execute("SELECT count(*) FROM few")
        link.execute("INSERT INTO written VALUES (-pg_backend_pid()) ON CONFLICT DO NOTHING")
    except psycopg.Error:
        return False
    return True


def restart_all(
    cluster: Cluster,
    directory: Path,
    clients: int,
    mode: StopMode,
    role: str = "",
    *,
    is_paused: bool = False,
) -> Outcome:
    """Restart the servers of a cluster of one shard; they have that role, or their own."""
    [shard] = cluster.shards
    entries = [(host, port, role or own) for host, port, own in servers_of(shard)]
    pool = PoolText([entries], options=OPTIONS, pool_size=POOL_SIZE)
    router = start(directory, lambda port: config_text(port, {"db": pool}, GENERAL))
    try:
        return Rolling(shard, router, clients).run(mode, is_paused=is_paused)
    finally:
        router.stop()
