"""Clients that write and then read what they have written, with a replica that is behind.

`python -m tests.servers.own_writes` runs ten thousand such pairs, with `read_your_writes` and
without, in both protocols, and says how many reads were stale and who has answered them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster.cluster import Cluster
from tests.support.router import PoolText, RouterProcess, config_text, servers_of, start
from tests.support.wire import SYNC, WireClient, query, rows, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.cluster.cluster import Shard

DELAY = 200
"""By how many milliseconds the replica is behind."""

SPLITTING = """\
query_parser_enabled = true
query_parser_read_write_splitting = true
"""
# By the name of the pool.
OPTIONS = {
    "off": SPLITTING,
    # Long enough for the replica, and too short for it.
    "patient": SPLITTING + 'read_your_writes = "session"\nread_your_writes_timeout = 10000\n',
    "hasty": SPLITTING + 'read_your_writes = "session"\nread_your_writes_timeout = 20\n',
}
TABLE = "CREATE TABLE own AS SELECT id, 0::bigint AS n FROM generate_series(0, 199) AS id"
_READ = "SELECT n, current_setting('port') FROM own WHERE id = "


@dataclass
class Seen:
    """What clients have seen.

    Attributes:
        stale: reads that returned less than their client had written.
        ports: who has answered how many reads after writes.
        rested: the same of reads that came when the replica had all, and of clients that do
            not write.
        times: of the reads after writes, in seconds.
        failures: reads that have failed, by what they were told.
    """

    pairs: int = 0
    stale: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    ports: Counter[int] = field(default_factory=Counter)
    rested: Counter[int] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)

    def add(self, other: Seen) -> None:
        """Take in what another client has seen."""
        self.pairs += other.pairs
        self.stale += other.stale
        self.ports += other.ports
        self.rested += other.rested
        self.times += other.times
        self.failures += other.failures

    def line(self, name: str, primary: int) -> str:
        """The figures."""
        count = max(self.ports.total(), 1)
        by_primary = self.ports[primary]
        ordered = sorted(self.times) or [0.0]
        middle, late = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        return (
            f"{name:>8}: {self.pairs} pairs, {self.stale} stale; reads after writes: "
            f"{by_primary} by the primary, {count - by_primary} by replicas, "
            f"median {middle * 1000:.1f} ms, 99 % within {late * 1000:.1f} ms; "
            f"other reads: {self.rested[primary]} by the primary, "
            f"{self.rested.total() - self.rested[primary]} by replicas; "
            f"failed: {dict(self.failures) or 'none'}"
        )


def configure(shard: Shard) -> None:
    """Make the table, and let the replicas be behind from now on."""
    shard.primary.execute(TABLE)
    shard.wait_for_replication()
    for replica in shard.replicas:
        replica.configure({"recovery_min_apply_delay": f"{DELAY}ms"})
        replica.reload()


def pools_for(shard: Shard, names: Sequence[str] = tuple(OPTIONS)) -> dict[str, PoolText]:
    """Pools of the shard, one for each way to read."""
    servers = servers_of(shard)
    return {name: PoolText([servers], options=OPTIONS[name], pool_size=10) for name in names}


def _read(client: WireClient, number: int, again: int, seen: Seen) -> tuple[int, int] | None:
    """Read a client's number, in the one protocol or the other; tells who has answered, too."""
    sql = f"{_READ}{number}"
    answer = client.ask(run(sql), SYNC) if again % 2 else client.ask(query(sql))
    for message in answer:
        if message.kind == "E":
            seen.failures[f"{message.sqlstate} {message.fields['M']}"] += 1
            return None
    [[found, by]] = rows(answer)
    assert found is not None
    assert by is not None
    return int(found), int(by)


def _pairs(port: int, pool: str, number: int, pairs: int, seen: Seen) -> None:
    """One client: it writes, and reads that."""
    with WireClient.login(port, pool) as client:
        for _ in range(pairs):
            written = int(
                client.value(f"UPDATE own SET n = n + 1 WHERE id = {number} RETURNING n")
            )
            seen.pairs += 1
            began = time.monotonic()
            found = _read(client, number, seen.pairs, seen)
            if found is not None:
                seen.times.append(time.monotonic() - began)
                seen.stale += found[0] < written
                seen.ports[found[1]] += 1
        time.sleep(3 * DELAY / 1000)  # so that the replica has all of it
        for again in range(10):
            found = _read(client, number, again, seen)
            if found is not None:
                seen.rested[found[1]] += 1


def _reads(port: int, pool: str, until: threading.Event, seen: Seen) -> None:
    """One client that only reads."""
    with WireClient.login(port, pool) as client:
        while not until.wait(0.01):
            seen.rested[int(client.value("SELECT current_setting('port')"))] += 1


def write_and_read(router: RouterProcess, pool: str, clients: int, pairs: int) -> Seen:
    """Have clients write and read, so many pairs in all, beside one that only reads."""
    found = [Seen() for _ in range(clients + 1)]
    over = threading.Event()
    threads = [
        threading.Thread(target=_pairs, args=(router.port, pool, n, pairs // clients, found[n]))
        for n in range(clients)
    ]
    reader = threading.Thread(target=_reads, args=(router.port, pool, over, found[-1]))
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    over.set()
    reader.join()
    total = Seen()
    for each in found:
        total.add(each)
    return total


def main() -> None:
    """Run it and print what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=10_000)
    arguments = parser.parse_args()
    clients, pairs = arguments.clients, arguments.pairs
    settings = {"max_connections": "200"}
    with (
        Cluster(shards=1, replicas=1, settings=settings) as cluster,
        tempfile.TemporaryDirectory() as directory,
    ):
        cluster.wait_for_replication()
        [shard] = cluster.shards
        configure(shard)
        router = start(Path(directory), lambda port: config_text(port, pools_for(shard)))
        try:
            for pool in OPTIONS:
                seen = write_and_read(router, pool, clients, pairs)
                [counted] = [
                    row for row in router.admin("SHOW ROUTING") if row["database"] == pool
                ]
                sys.stdout.write(seen.line(pool, shard.primary.port) + "\n")
                sys.stdout.write(
                    f"{'':>8}  reads_waited {counted['reads_waited']}, "
                    f"reads_to_primary {counted['reads_to_primary']}\n"
                )
                sys.stdout.flush()
        finally:
            router.stop()


if __name__ == "__main__":
    main()
