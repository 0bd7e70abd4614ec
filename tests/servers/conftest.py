"""What the tests of failing servers share."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import Proxy
from tests.support.router import wait_until
from tests.support.wire import WireClient, query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.cluster.cluster import Cluster, Shard
    from tests.support.cluster.server import Server
    from tests.support.postgres import PostgresRun
    from tests.support.router import RouterProcess

# Checks are quick here, and yet not so quick that a busy machine fails them for long.
CHECKS = "healthcheck_delay = 300\nhealthcheck_timeout = 2000\nban_time = 1\n"


def _family(pid: int) -> list[int]:
    """A process and all its children."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Stop all processes of a server: it accepts connections, and nobody answers."""
    pid = server.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # so that it has no more children
    family = _family(pid)
    for each in family:
        _send(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in family:
            _send(each, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


@pytest.fixture(scope="module")
def cluster(postgres_run: PostgresRun) -> Iterator[Cluster]:
    """A primary and two replicas, which the tests of a module stop and start again."""
    cluster = postgres_run.private(replicas=2)
    cluster.wait_for_replication()
    yield cluster
    cluster.close()


@pytest.fixture
def shard(cluster: Cluster) -> Iterator[Shard]:
    """Its shard; all servers run."""
    [shard] = cluster.shards
    yield shard
    for server in shard.servers:
        if not server.is_running():
            server.start()


@pytest.fixture
def proxy_for() -> Iterator[Callable[[Server], Proxy]]:
    """Return a function that puts a proxy before a server."""
    made: list[Proxy] = []

    def make(server: Server) -> Proxy:
        made.append(Proxy(server.port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()


@contextmanager
def endless_queries(router: RouterProcess) -> Iterator[Callable[[], None]]:
    """A client of "db" that sends query behind query without waiting for answers.

    Yields:
        A function that waits until many more have been answered than when it is called.
    """
    with WireClient.login(router.port, "db") as client:
        stop = threading.Event()
        pieces = query("SELECT 1") * 200
        sent = answered = 0

        def send() -> None:
            nonlocal sent
            while not stop.is_set():
                client.send(pieces)
                sent += 200

        def receive() -> None:
            nonlocal answered
            while not stop.is_set() or answered < sent:
                client.read_until("Z")
                answered += 1

        def wait_for_more() -> None:
            seen = answered
            wait_until("it goes on", lambda: answered > seen + 1000)

        threads = [threading.Thread(target=each) for each in (send, receive)]
        for thread in threads:
            thread.start()
        wait_for_more()
        yield wait_for_more
        stop.set()
        for thread in threads:
            thread.join()
