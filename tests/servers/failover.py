"""A failover under load: the primary is killed, a replica promoted, the old primary comes back.

`python -m tests.servers.failover` runs it and prints a timeline. Half of the clients write,
half read. What was acknowledged and what has failed is kept, so that in the end the new primary
can be asked for the one, and the old one for what it has taken since.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from router.demo.server import HOST
from tests.support.cluster.cluster import Cluster
from tests.support.cluster.server import StopMode
from tests.support.router import PoolText, RouterProcess, config_text, start, wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.rows import TupleRow

    from tests.support.cluster.cluster import Shard
    from tests.support.cluster.server import Server

    Link = psycopg.Connection[TupleRow]

SETTINGS = {
    "max_connections": "200",
    # What is acknowledged is on a replica, too.
    "synchronous_standby_names": "ANY 1 (*)",
}
OPTIONS = """\
query_parser_enabled = true
query_parser_read_write_splitting = true
query_wait_timeout = 60000
"""
GENERAL = "healthcheck_delay = 500\nhealthcheck_timeout = 2000\n"
TABLES = """\
CREATE TABLE written (n bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE few AS SELECT generate_series(1, 10) AS n
"""


@dataclass
class Record:
    """What one client has seen.

    Attributes:
        done: when each call began and ended that succeeded.
        acknowledged: the numbers of the writes among them.
        failures: when each call began that failed, and its SQLSTATE.
    """

    done: list[tuple[float, float]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    failures: list[tuple[float, str]] = field(default_factory=list)

    @classmethod
    def of_all(cls, records: Sequence[Record]) -> Record:
        """What all clients have seen."""
        joined = cls()
        for record in records:
            joined.done += record.done
            joined.acknowledged += record.acknowledged
            joined.failures += record.failures
        return joined

    @property
    def longest(self) -> float:
        """The longest time that a call took which succeeded."""
        return max((end - begin for begin, end in self.done), default=0.0)

    @property
    def failed(self) -> dict[str, int]:
        """How many calls have failed, by SQLSTATE."""
        return dict(Counter(sqlstate for _, sqlstate in self.failures))


@dataclass
class Outcome:
    """What came of it all.

    Attributes:
        events: when what happened, in seconds since the primary was killed.
        lost: acknowledged writes that the new primary does not have.
        strays: writes that the old primary has taken since the new one was promoted.
    """

    events: list[tuple[float, str]]
    writes: Record
    reads: Record
    lost: int
    strays: int

    def lines(self) -> list[str]:
        """The timeline and the figures."""
        told = [f"{when:7.2f} s  {what}" for when, what in sorted(self.events)]
        for name, record in (("writes", self.writes), ("reads", self.reads)):
            told.append(
                f"{name}: {len(record.done)} done, the longest in {record.longest:.2f} s; "
                f"failed: {record.failed or 'none'}"
            )
        told.append(f"acknowledged writes that are lost: {self.lost}")
        told.append(f"writes that the old primary has taken since: {self.strays}")
        return told


class Clients:
    """Clients in threads, which connect again when they are cut off."""

    def __init__(self, dsn: str, count: int) -> None:
        self._dsn = dsn
        self._stop = threading.Event()
        self.writes = [Record() for _ in range(count // 2)]
        self.reads = [Record() for _ in range(count - count // 2)]
        self._threads = [
            threading.Thread(target=self._run, args=(record, number))
            for number, record in enumerate([*self.writes, *self.reads])
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after the calls that are under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_calls(self) -> None:
        """Wait until each client has had an answer to something that it has asked from now."""
        now = time.monotonic()
        for record in (*self.writes, *self.reads):
            wait_until("all go on", lambda: record.done and record.done[-1][0] > now)  # noqa: B023

    def first_write_after(self, moment: float) -> float:
        """When the first write was acknowledged that has begun later."""
        done = [each for record in self.writes for each in record.done if each[0] > moment]
        return min((end for _, end in done), default=0.0)

    def _run(self, record: Record, client: int) -> None:
        serial = client * 1_000_000
        while not self._stop.is_set():
            with suppress(psycopg.Error), psycopg.connect(self._dsn, autocommit=True) as link:
                while not self._stop.is_set() and not link.closed:
                    serial += 1
                    self._call(record, link, serial if client < len(self.writes) else 0)

    @staticmethod
    def _call(record: Record, link: Link, serial: int) -> None:
        """Write that number, or read if it is 0."""
        began = time.monotonic()
        try:
            if serial:
                link.execute("INSERT INTO written VALUES (%s)", (serial,))
            else:
                link.execute("SELECT count(*) FROM few")
        except psycopg.Error as error:
            record.failures.append((began, error.sqlstate or "connection"))
            return
        record.done.append((began, time.monotonic()))
        if serial:
            record.acknowledged.append(serial)


class Failover:
    """One run."""

    def __init__(self, shard: Shard, router: RouterProcess, clients: int) -> None:
        self._old = shard.primary
        self._shard = shard
        self._router = router
        self._clients = Clients(router.dsn("db"), clients)
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
        wait_until("it is known", lambda: self._health(self._old)["condition"] == "down")
        self._note("the router knows that it is down")
        new, *others = sorted(self._shard.replicas, key=_received, reverse=True)
        for other in others:
            other.follow(new)
            other.reload()
        self._note("a replica is to be promoted")
        new.promote()
        promoted = time.monotonic()
        self._note("it is promoted")
        first = wait_until("writes go on", lambda: self._clients.first_write_after(self._began))
        self._note("the first write is acknowledged", first)
        wait_until("all write", lambda: self._clients.first_write_after(promoted))
        return new

    def _bring_back(self) -> None:
        # It would wait for replicas that have left it, and so prove nothing.
        self._old.configure({"synchronous_standby_names": ""})
        self._old.start()
        self._note("the old primary is back, and says that it is a primary")
        wait_until("it is seen", lambda: self._health(self._old)["condition"] == "up")
        self._note("the router: " + self._health(self._old)["cause"])

    def _health(self, server: Server) -> dict[str, str]:
        rows = self._router.admin("SHOW HEALTH")
        [row] = [row for row in rows if row["port"] == str(server.port)]
        return row

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
    arguments = parser.parse_args()
    with (
        Cluster(shards=1, replicas=2, settings=SETTINGS) as cluster,
        tempfile.TemporaryDirectory() as directory,
    ):
        cluster.wait_for_replication()
        outcome = fail_over(cluster, Path(directory), arguments.clients)
    sys.stdout.write("\n".join([*outcome.lines(), ""]))


if __name__ == "__main__":
    main()
