"""A failover under load: the primary is killed, a replica promoted, the old primary comes back.

`python -m tests.servers.failover` runs it and plots what clients got done when. Half of the
clients write, half read. What was acknowledged and what has failed is kept, so that in the end
the new primary can be asked for the one, and the old one for what it has taken since.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from router.demo.server import HOST
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.server import StopMode
from tests.support.router import PoolText, RouterProcess, config_text, start, wait_until

from . import rolling
from .load import GENERAL, OPTIONS, TABLES, Clients, Record, health_of
from .timeline import picture, plot

if TYPE_CHECKING:
    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server

SETTINGS = {
    "max_connections": "200",
    # What is acknowledged is on a replica, too.
    "synchronous_standby_names": "ANY 1 (*)",
}


@dataclass
class Outcome:
    """What came of it all.

    Attributes:
        began: when the primary was killed, by time.monotonic().
        events: when what happened, in seconds since.
        lost: acknowledged writes that the new primary does not have.
        strays: writes that the old primary has taken since the new one was promoted.
    """

    began: float
    events: list[tuple[float, str]]
    writes: Record
    reads: Record
    lost: int
    strays: int

    @property
    def records(self) -> dict[str, Record]:
        """What was seen, by what was done."""
        return {"writes": self.writes, "reads": self.reads}

    def lines(self) -> list[str]:
        """The timeline and the figures."""
        told = [f"{when:7.2f} s  {what}" for when, what in sorted(self.events)]
        told += [record.line(name) for name, record in self.records.items()]
        told.append(f"acknowledged writes that are lost: {self.lost}")
        told.append(f"writes that the old primary has taken since: {self.strays}")
        return told


class Failover:
    """One run."""

    def __init__(self, shard: Shard, router: RouterProcess, clients: int) -> None:
        self._old = shard.primary
        self._shard = shard
        self._router = router
        half = clients // 2
        self._clients = Clients(router.dsn("db"), writers=half, readers=clients - half)
        self._events: list[tuple[float, str]] = []
        self._began = 0.0

    def run(self) -> Outcome:
        """Do it."""
        self._old.execute(TABLES)
        self._shard.wait_for_replication()
        self._clients.start()
        try:
            self._clients.wait_for_calls()
            new = self._fail_over()
            [(switched,)] = new.execute("SELECT clock_timestamp()")
            self._clients.wait_for_calls()
            self._bring_back()
            self._clients.wait_for_calls()
        finally:
            self._clients.stop()
        writes = Record.of_all(self._clients.writes)
        kept = {n for (n,) in new.execute("SELECT n FROM written")}
        count = "SELECT count(*)::int FROM written WHERE at > %s"
        [(strays,)] = self._old.execute(count, [switched])
        return Outcome(
            self._began,
            self._events,
            writes,
            Record.of_all(self._clients.reads),
            lost=len(set(writes.acknowledged) - kept),
            strays=strays,
        )

    def _fail_over(self) -> Server:
        self._began = time.monotonic()
        self._old.stop(StopMode.KILL)
        self._note("the primary is killed")
        wait_until(
            "it is known", lambda: health_of(self._router, self._old)["condition"] == "down"
        )
        self._note("the router knows that it is down")
        new, *others = sorted(self._shard.replicas, key=_received, reverse=True)
        for other in others:
            other.follow(new)
            other.reload()
        self._note("a replica is to be promoted")
        told = time.monotonic()
        new.promote()
        promoted = time.monotonic()
        self._note("it is promoted")
        first = wait_until("writes go on", lambda: self._clients.acknowledged_after(told))
        self._note("the first write is acknowledged", first)
        wait_until("all write", lambda: self._clients.first_write_after(promoted))
        return new

    def _bring_back(self) -> None:
        # It would wait for replicas that have left it, and so prove nothing.
        self._old.configure({"synchronous_standby_names": ""})
        self._old.start()
        self._note("the old primary is back, and says that it is a primary")
        wait_until(
            "it is seen", lambda: health_of(self._router, self._old)["condition"] == "up"
        )
        self._note("the router: " + health_of(self._router, self._old)["cause"])

    def _note(self, what: str, when: float = 0.0) -> None:
        self._events.append(((when or time.monotonic()) - self._began, what))


def _received(replica: Server) -> int:
    """How much of the WAL a replica has."""
    sql = "SELECT pg_wal_lsn_diff(pg_last_wal_receive_lsn(), '0/0')::bigint"
    [(position,)] = replica.execute(sql)
    return int(position)


def fail_over(cluster: Cluster, directory: Path, clients: int) -> Outcome:
    """Run a failover of a cluster of one shard with two replicas, started with SETTINGS."""
    [shard] = cluster.shards
    entries = [(HOST, server.port, "auto") for server in shard.servers]
    pool = PoolText([entries], options=OPTIONS, pool_size=10)
    router = start(directory, lambda port: config_text(port, {"db": pool}, GENERAL))
    try:
        return Failover(shard, router, clients).run()
    finally:
        router.stop()


def main() -> None:
    """Run one and print what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument(
        "--restart",
        choices=("smart", "fast", "immediate"),
        help="no failover: restart one server after the other, in this way",
    )
    parser.add_argument(
        "--pause", action="store_true", help="take each out of service before: PAUSE SERVER"
    )
    parser.add_argument("--picture", type=Path, help="write the plot there, too, as a PNG")
    arguments = parser.parse_args()
    settings = None if arguments.restart else SETTINGS
    with (
        Cluster(shards=1, replicas=2, settings=settings) as cluster,
        tempfile.TemporaryDirectory() as directory,
    ):
        cluster.wait_for_replication()
        place, clients = Path(directory), arguments.clients
        outcome: Outcome | rolling.Outcome
        if arguments.restart:
            mode = StopMode[arguments.restart.upper()]
            outcome = rolling.restart_all(
                cluster, place, clients, mode, is_paused=arguments.pause
            )
        else:
            outcome = fail_over(cluster, place, clients)
    seen = (outcome.began, outcome.records, outcome.events)
    sys.stdout.write("\n".join([*plot(*seen), "", *outcome.lines(), ""]))
    if arguments.picture is not None and not picture(arguments.picture, *seen):
        sys.exit("no picture: matplotlib is not installed")


if __name__ == "__main__":
    main()
