"""A crowd that waits for few connections: how long each waits, and whether all get their turn.

`python -m tests.servers.crowd` runs it and prints the figures: 500 clients, of which each asks
again as soon as it has its answer, and a pool of 5 connections.
"""

from __future__ import annotations

import argparse
import select
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.cluster.cluster import Cluster
from tests.support.router import PoolText, config_text, primary_of, start
from tests.support.wire import SYNC, WireClient, query, run

if TYPE_CHECKING:
    from tests.support.cluster.server import Server

POOL_SIZE = 5
# So that the connections are what is scarce, and not the processor.
_STATEMENT = "SELECT pg_sleep(0.002)"
_READY = b"Z\0\0\0\5I"
_RECV = 65536


@dataclass(frozen=True)
class Outcome:
    """What came of it.

    Attributes:
        waits: how long each answer took, in seconds.
        turns: how many answers each client had when the first had all of its own.
    """

    waits: list[float]
    turns: list[int]

    @property
    def mean(self) -> float:
        """Of the waits, in seconds."""
        return statistics.fmean(self.waits)

    @property
    def p99(self) -> float:
        """What 99 of 100 waits do not exceed, in seconds."""
        return statistics.quantiles(self.waits, n=100)[-1]

    def lines(self) -> list[str]:
        """The figures."""
        return [
            f"{len(self.waits)} answers for {len(self.turns)} clients",
            f"wait: mean {self.mean * 1000:.0f} ms, p99 {self.p99 * 1000:.0f} ms, "
            f"longest {max(self.waits) * 1000:.0f} ms; p99 is {self.p99 / self.mean:.2f} means",
            f"turns of a client: {dict(sorted(Counter(self.turns).items()))}",
        ]


class Crowd:
    """Clients in one thread, which ask over and over."""

    def __init__(self, clients: list[WireClient], message: bytes) -> None:
        self._message = message
        self._by_fd = {client.sock.fileno(): client.sock for client in clients}
        self._asked: dict[int, float] = {}
        self._answers = dict.fromkeys(self._by_fd, b"")
        self._turns = Counter(dict.fromkeys(self._by_fd, 0))
        self._waits: list[float] = []

    def run(self, rounds: int) -> Outcome:
        """Go on until one client has had so many answers; the first of each does not count.

        All begin at the same moment, so their first waits tell of their places only.
        """
        poll = select.epoll()
        for fd in self._by_fd:
            poll.register(fd, select.EPOLLIN)
            self._ask(fd)
        try:
            while max(self._turns.values()) < rounds:
                for fd, _ in poll.poll():
                    self._read(fd)
        finally:
            poll.close()
        return Outcome(self._waits, list(self._turns.values()))

    def _ask(self, fd: int) -> None:
        self._asked[fd] = time.monotonic()
        self._by_fd[fd].sendall(self._message)

    def _read(self, fd: int) -> None:
        answer = self._answers[fd] + self._by_fd[fd].recv(_RECV)
        self._answers[fd] = answer
        if not answer.endswith(_READY):
            return
        assert b"C\0\0\0" in answer, answer
        self._answers[fd] = b""
        if self._turns[fd]:
            self._waits.append(time.monotonic() - self._asked[fd])
        self._turns[fd] += 1
        self._ask(fd)


def gather(
    server: Server, directory: Path, clients: int, rounds: int, *, extended: bool
) -> Outcome:
    """Have a crowd ask a router before a server."""
    options = "connect_timeout = 600000\n"
    pool = PoolText([primary_of(server)], options=options, pool_size=POOL_SIZE)
    router = start(directory, lambda port: config_text(port, {"db": pool}))
    message = run(_STATEMENT) + SYNC if extended else query(_STATEMENT)
    try:
        with ExitStack() as stack:
            made = [
                stack.enter_context(WireClient.login(router.port, "db")) for _ in range(clients)
            ]
            return Crowd(made, message).run(rounds)
    finally:
        router.stop()


def main() -> None:
    """Run it in both protocols and print what was seen."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=20)
    arguments = parser.parse_args()
    with Cluster(shards=1, replicas=0) as cluster, tempfile.TemporaryDirectory() as directory:
        for extended in (False, True):
            outcome = gather(
                cluster.primary,
                Path(directory),
                arguments.clients,
                arguments.rounds,
                extended=extended,
            )
            name = "extended protocol" if extended else "simple protocol"
            sys.stdout.write("\n".join([name, *outcome.lines(), "", ""]))


if __name__ == "__main__":
    main()
