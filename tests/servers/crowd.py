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
    from collections.abc import Sequence

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
        passed: how many answers others had meanwhile, whatever the machine does besides.
        turns: how many answers each client had when the first had all of its own.
    """

    waits: list[float]
    passed: list[int]
    turns: list[int]

    def lines(self) -> list[str]:
        """The figures."""
        return [
            f"{len(self.waits)} answers for {len(self.turns)} clients",
            "wait in ms: " + _figures([1000 * wait for wait in self.waits]),
            "wait in answers that others had meanwhile: " + _figures(self.passed),
            f"turns of a client: {dict(sorted(Counter(self.turns).items()))}",
        ]


def p99(numbers: Sequence[float]) -> float:
    """What 99 of 100 do not exceed."""
    return statistics.quantiles(numbers, n=100)[-1]


def _figures(numbers: Sequence[float]) -> str:
    mean = statistics.fmean(numbers)
    return (
        f"mean {mean:.0f}, p99 {p99(numbers):.0f}, longest {max(numbers):.0f}; "
        f"p99 is {p99(numbers) / mean:.2f} means"
    )


class Crowd:
    """Clients in one thread, which ask over and over."""

    def __init__(self, clients: list[WireClient], message: bytes) -> None:
        self._message = message
        self._by_fd = {client.sock.fileno(): client.sock for client in clients}
        self._asked: dict[int, tuple[float, int]] = {}
        self._answers = dict.fromkeys(self._by_fd, b"")
        self._turns = Counter(dict.fromkeys(self._by_fd, 0))
        self._waits: list[float] = []
        self._passed: list[int] = []
        self._answered = 0

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
        return Outcome(self._waits, self._passed, list(self._turns.values()))

    def _ask(self, fd: int) -> None:
        self._asked[fd] = time.monotonic(), self._answered
        self._by_fd[fd].sendall(self._message)

    def _read(self, fd: int) -> None:
        answer = self._answers[fd] + self._by_fd[fd].recv(_RECV)
        self._answers[fd] = answer
        if not answer.endswith(_READY):
            return
        assert b"C\0\0\0" in answer, answer
        self._answers[fd] = b""
        asked_at, answered = self._asked[fd]
        if self._turns[fd]:
            self._waits.append(time.monotonic() - asked_at)
            self._passed.append(self._answered - answered)
        self._turns[fd] += 1
        self._answered += 1
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
