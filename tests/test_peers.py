"""Several processes on one port: each client's cancel requests find their way to its own."""

from __future__ import annotations

import os
import random
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Self

import psycopg
import pytest

from router.demo.server import free_port
from tests.support.attempts import attempting
from tests.support.postgres import Database
from tests.support.proxy import Proxy
from tests.support.router import (
    HOST,
    PATIENCE,
    PoolText,
    RouterProcess,
    config_text,
    primary_of,
    start,
    wait_until,
)
from tests.support.wire import WireClient, cancel, cancel_request, query, sqlstates, startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.certificates import Certificates
    from tests.support.cluster.server import Server

pytestmark = [pytest.mark.postgres, pytest.mark.slow]

SLEEP = query("SELECT pg_sleep(600)")
PROTOCOLS = (3 << 16, 3 << 16 | 2)


@dataclass
class Group:
    """Routers on one port, each with a Unix socket in a directory of its own.

    Attributes:
        routers: by their ids.
        directories: the same.
    """

    root: Path
    port: int
    pools: dict[str, PoolText]
    peers: dict[int, str] = field(default_factory=dict)
    routers: dict[int, RouterProcess] = field(default_factory=dict)
    directories: dict[int, str] = field(default_factory=dict)

    def add(self, peer_id: int, peers: str, general: str = "", port: int = 0) -> RouterProcess:
        """Start one more, with these [peers], on the port of the group or on another."""
        port = port or self.port
        directory = self.root / f"{peer_id}-{len(self.routers)}"
        directory.mkdir()
        text = config_text(
            port,
            self.pools,
            f"so_reuseport = true\npeer_id = {peer_id}\n"
            f'unix_socket_dir = "{directory}"\n{general}',
        )
        router = start(directory, lambda _: f"{text}\n{peers}", port=port)
        self.routers[peer_id] = router
        self.directories[peer_id] = str(directory)
        return router

    def shows(self, peer_id: int, command: str) -> list[dict[str, str]]:
        """The rows that one of them has, by column."""
        where = f"host={self.directories[peer_id]} port={self.port} dbname=pgcat"
        with psycopg.connect(
            f"{where} user=admin password=admin_secret",
            autocommit=True,
            cursor_factory=psycopg.ClientCursor,
        ) as connection:
            cursor = connection.execute(command)
            names = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall()
            return [dict(zip(names, map(str, row), strict=True)) for row in rows]

    def peer(self, peer_id: int, other: int) -> dict[str, str]:
        """What one of them knows of another."""
        for row in self.shows(peer_id, "SHOW PEERS"):
            if row["peer_id"] == str(other):
                pools = self.shows(peer_id, "SHOW PEER_POOLS")
                [more] = [each for each in pools if each["peer_id"] == str(other)]
                return row | more
        raise AssertionError(f"peer {peer_id} does not know {other}")

    def cancel(self, peer_id: int, pid: int, secret: bytes) -> None:
        """Send a cancel request to one of them; the answer is nothing at all."""
        assert cancel(self.port, pid, secret, self.directories[peer_id]) == b""

    def stop(self) -> None:
        """End all."""
        for router in self.routers.values():
            if router.process.poll() is None:
                router.stop()


@pytest.fixture
def database(private_primary: Callable[..., Server]) -> Database:
    """On a server with room for a hundred clients that hold a connection each."""
    return Database(private_primary(max_connections="200"), "postgres")


@pytest.fixture
def pools(database: Database) -> dict[str, PoolText]:
    """One of transaction mode, one of session mode; clients may all come to one process."""

    def pool(mode: str) -> PoolText:
        servers = [primary_of(database.server)]
        options = f'pool_mode = "{mode}"'
        return PoolText(servers, database=database.name, pool_size=60, options=options)

    return {"transaction": pool("transaction"), "session": pool("session")}


@pytest.fixture
def begin(tmp_path: Path, pools: dict[str, PoolText]) -> Iterator[Callable[[], Group]]:
    """Return a function that makes a group that is empty."""
    made: list[Group] = []

    def make() -> Group:
        root = tmp_path / str(len(made))
        root.mkdir()
        made.append(Group(root, free_port(), pools))
        return made[-1]

    yield make
    for group in made:
        group.stop()


def peer_text(peer_id: int, host: object, port: int | None = None, size: int = 20) -> str:
    """A [peers.ID] section."""
    more = "" if port is None else f"port = {port}\n"
    return f'[peers.{peer_id}]\nhost = "{host}"\n{more}pool_size = {size}\n'


@pytest.fixture
def two(begin: Callable[[], Group]) -> Group:
    """Two that know each other, and themselves."""
    group = begin()
    text = peer_text(1, group.root / "1-0") + peer_text(16383, group.root / "16383-1")
    group.add(1, text)
    group.add(16383, text)
    return group


def sleeping(database: Database) -> int:
    """How many backends sleep."""
    [(count,)] = database.execute(
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )
    return int(str(count))


class Sleepers:
    """A hundred clients that sleep, of both modes, with short keys and long ones."""

    def __init__(self, group: Group, database: Database) -> None:
        self.database = database
        self._stack = ExitStack()
        kinds = cycle((name, version) for name in group.pools for version in PROTOCOLS)
        self.clients = [
            self._stack.enter_context(WireClient.login(group.port, name, protocol=version))
            for _, (name, version) in zip(range(100), kinds, strict=False)
        ]
        for client in self.clients:
            client.send(SLEEP)
        wait_until("all of them sleep", lambda: sleeping(database) == len(self.clients))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def owners(sleepers: Sleepers) -> set[int]:
    """The peers whose clients these are, by their keys."""
    return {client.pid >> 17 for client in sleepers.clients}


def test_each_of_a_hundred_clients_cancels_its_own_statement_by_whichever_process(
    two: Group, database: Database
) -> None:
    ids = cycle(two.routers)
    with Sleepers(two, database) as sleepers:
        assert owners(sleepers) == set(two.routers)
        assert {len(client.secret) for client in sleepers.clients} == {4, 32}
        left = list(sleepers.clients)
        random.Random(7).shuffle(left)
        while left:
            client = left.pop()
            two.cancel(next(ids), client.pid, client.secret)
            answers = client.read_until("Z")
            assert sqlstates(answers) == ["57014"]
            assert not any(other.has_input() for other in left)
            assert client.value("SELECT 1") == "1"
            assert sleeping(database) == len(left)
    passed = [int(two.peer(1, 16383)["passed_on"]), int(two.peer(16383, 1)["passed_on"])]
    assert min(passed) > 0


def test_all_of_them_cancel_at_once(two: Group, database: Database) -> None:
    with Sleepers(two, database) as sleepers:
        kept = sleepers.clients[::10]
        gone = [client for client in sleepers.clients if client not in kept]
        with ThreadPoolExecutor(len(gone)) as threads:
            requests = [
                threads.submit(cancel, two.port, client.pid, client.secret) for client in gone
            ]
            assert [request.result() for request in requests] == [b""] * len(gone)
        for client in gone:
            assert sqlstates(client.read_until("Z")) == ["57014"]
        assert not any(client.has_input() for client in kept)
        assert sleeping(database) == len(kept)
        for client in kept:
            two.cancel(1, client.pid, client.secret)
            assert sqlstates(client.read_until("Z")) == ["57014"]


@pytest.mark.parametrize("closes", [False, True])
@pytest.mark.parametrize("is_unix", [False, True])
def test_who_does_not_stay_has_its_request_passed_on(
    two: Group, database: Database, is_unix: bool, closes: bool
) -> None:
    for _ in range(10):
        with WireClient.login(two.port, "transaction", host=two.directories[1]) as client:
            client.send(SLEEP)
            wait_until("it sleeps", lambda: sleeping(database) == 1)
            # By TCP any of them may get it.
            host = two.directories[16383] if is_unix else HOST
            with WireClient(two.port, host=host) as other:
                other.send(cancel_request(client.pid, client.secret))
                if not closes:
                    other.sock.shutdown(socket.SHUT_WR)
                    assert other.sock.recv(1) == b""
            assert sqlstates(client.read_until("Z")) == ["57014"]


def test_keys_that_are_nobodys_reach_nobody(two: Group, database: Database) -> None:
    chance = random.Random(3)
    with WireClient.login(two.port, "transaction", host=two.directories[1]) as client:
        client.send(SLEEP)
        wait_until("it sleeps", lambda: sleeping(database) == 1)
        wrong = bytes((client.secret[0] ^ 1,)) + client.secret[1:]
        for peer_id in two.routers:
            for pid in (
                0,
                client.pid,
                client.pid | 1 << 31,
                *map(chance.getrandbits, [32] * 20),
            ):
                two.cancel(peer_id, pid, wrong)
            # Of the right number, and of another peer.
            two.cancel(peer_id, client.pid ^ 3 << 17, client.secret)
            two.cancel(peer_id, 16383 << 17 | client.pid & 0x1FFFF, client.secret)
        assert not client.has_input()
        # As if it had been passed on, and so not once more.
        two.cancel(16383, client.pid | 1 << 31, client.secret)
        assert not client.has_input()
        two.cancel(1, client.pid | 1 << 31, client.secret)
        assert sqlstates(client.read_until("Z")) == ["57014"]


def test_a_request_is_passed_on_once_even_if_peers_point_at_each_other(
    begin: Callable[[], Group],
) -> None:
    group = begin()
    group.add(1, peer_text(3, group.root / "2-1"))
    second = group.add(2, peer_text(3, group.root / "1-0"))
    group.cancel(1, 3 << 17 | 5, b"abcd")
    assert group.peer(1, 3)["passed_on"] == "1"
    assert group.peer(2, 3)["passed_on"] == group.peer(2, 3)["failed"] == "0"
    second.log_with("a cancel request for peer 3 has come to peer 2: look at [peers]")


def test_a_peer_that_is_down_is_told_of_and_found_again(two: Group, database: Database) -> None:
    with WireClient.login(two.port, "transaction", host=two.directories[1]) as client:
        two.routers[16383].stop()
        two.cancel(1, 16383 << 17 | 5, b"abcd")
        assert two.peer(1, 16383)["failed"] == "1"
        two.routers[1].log_with("cannot pass on a cancel request to peer 16383 at ")
        again = start(
            two.root / "16383-1",
            lambda _: two.routers[16383].config_path.read_text(),
            port=two.port,
        )
        two.routers[16383] = again
        client.send(SLEEP)
        wait_until("it sleeps", lambda: sleeping(database) == 1)
        two.cancel(16383, client.pid, client.secret)
        assert sqlstates(client.read_until("Z")) == ["57014"]


def test_a_flood_for_a_peer_that_hangs_is_bounded_and_keeps_nobody_out(
    begin: Callable[[], Group],
) -> None:
    group = begin()
    with socket.create_server((HOST, 0)) as hangs, ExitStack() as stack:
        port = int(hangs.getsockname()[1])
        general = "max_logins_in_progress = 5"
        group.add(1, peer_text(2, HOST, port, size=4), general)
        for number in range(60):
            client = stack.enter_context(WireClient(group.port))
            client.send(cancel_packet(2 << 17 | number))

        def counts() -> tuple[str, str]:
            row = group.peer(1, 2)
            return row["cl_waiting_cancel_req"], row["sv_active_cancel"]

        # The four are counted as soon as they are connected.
        wait_until("all wait", lambda: counts() == ("56", "4"))
        with group.routers[1].connect("transaction") as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_who_waits_for_a_peer_that_hangs_is_told_nothing(begin: Callable[[], Group]) -> None:
    group = begin()
    with socket.create_server((HOST, 0)) as hangs:
        port = int(hangs.getsockname()[1])
        group.add(1, peer_text(2, HOST, port), "client_login_timeout = 300")
        with WireClient(group.port) as waits, WireClient(group.port) as silent:
            waits.send(cancel_packet(2 << 17))
            there, _ = hangs.accept()
            assert sqlstates(silent.read_until("E")) == ["57014"], "its time to log in is over"
            there.close()
            assert waits.sock.recv(1) == b""


def cancel_packet(pid: int) -> bytes:
    """A cancel request with some secret."""
    return cancel_request(pid, b"some")


def test_over_tcp_a_peer_has_to_speak_tls_if_this_process_does(
    begin: Callable[[], Group], database: Database, certificates: Certificates
) -> None:
    group, port = begin(), free_port()
    tls = (
        f'tls_certificate = "{certificates.certificate}"\n'
        f'tls_private_key = "{certificates.key}"\n'
    )
    with Proxy(port) as between:
        group.add(1, peer_text(2, HOST, between.port) + peer_text(3, HOST, between.port), tls)
        second = group.add(2, "", tls, port=port)
        with WireClient.login(port, "transaction") as client:
            client.send(SLEEP)
            wait_until("it sleeps", lambda: sleeping(database) == 1)
            group.cancel(1, client.pid, client.secret)
            assert sqlstates(client.read_until("Z")) == ["57014"]
        second.stop()
        group.add(2, "", port=port)
        group.cancel(1, 2 << 17 | 5, b"abcd")
        assert group.peer(1, 2)["failed"] == "1"
        group.routers[1].log_with("it does not speak TLS, and this process does")


def test_a_reload_changes_peers_at_once_and_says_so(two: Group, database: Database) -> None:
    router = two.routers[1]
    text = router.config_path.read_text()
    before, _, _ = text.partition("[peers.16383]")
    router.config_path.write_text(before)
    rows = two.shows(1, "RELOAD DRY RUN")
    assert [(row["subject"], row["changes"]) for row in rows if row["action"] == "changed"] == [
        ("peers.16383", "gone")
    ]
    router.signal(signal.SIGHUP)
    wait_until("it is gone", lambda: not two.shows(1, "SHOW PEERS"))
    router.log_with("peers.16383: gone")
    router.config_path.write_text(text.replace("pool_size = 20\n", "pool_size = 3\n"))
    router.signal(signal.SIGHUP)
    wait_until("it is back", lambda: two.shows(1, "SHOW PEERS"))
    assert two.peer(1, 16383)["pool_size"] == "3"
    with WireClient.login(two.port, "session", host=two.directories[16383]) as client:
        client.send(SLEEP)
        wait_until("it sleeps", lambda: sleeping(database) == 1)
        two.cancel(1, client.pid, client.secret)
        assert sqlstates(client.read_until("Z")) == ["57014"]


def test_processes_of_a_group_follow_each_other_and_lose_no_connection_attempt(
    two: Group, database: Database
) -> None:
    pids: list[int] = []
    with WireClient.login(two.port, "transaction", host=two.directories[1]) as client:
        client.send(SLEEP)
        wait_until("it sleeps", lambda: sleeping(database) == 1)
        try:
            with attempting(two.routers[1], "transaction", 4) as wait_for_more:
                for router in two.routers.values():
                    router.signal(signal.SIGUSR2)
                    log = router.log_with(" has taken over")
                    pids.append(int(log.partition(" has taken over")[0].rpartition(" ")[2]))
                    wait_for_more(3)
                # By the new process of the other to the new one of its own, which passes it on.
                two.cancel(16383, client.pid, client.secret)
                assert sqlstates(client.read_until("Z")) == ["57014"]
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGQUIT)


@pytest.mark.parametrize("command", ["SHUTDOWN WAIT_FOR_CLIENTS", "SHUTDOWN"])
def test_a_process_that_stops_leaves_the_port_to_the_others(
    two: Group, database: Database, command: str
) -> None:
    first = two.routers[1]
    with (
        WireClient.login(two.port, "transaction", host=two.directories[1]) as client,
        ExitStack() as stack,
    ):
        client.query("BEGIN")
        # They have connected, and have said nothing yet: some of them to the first.
        early = [stack.enter_context(WireClient(two.port)) for _ in range(20)]
        two.shows(1, command)
        first.log_with(f"not listening on {HOST}:{two.port} any more: it is left to others")
        for _ in range(20):
            with WireClient.login(two.port, "transaction") as late:
                assert late.pid >> 17 == 16383
        # Its clients go on, and are cancelled by the other one.
        client.send(SLEEP)
        wait_until("it sleeps", lambda: sleeping(database) == 1)
        two.cancel(16383, client.pid, client.secret)
        assert sqlstates(client.read_until("Z")) == ["57014"]
        came = []
        for other in early if command.endswith("CLIENTS") else ():
            other.send(startup({"user": "postgres", "database": "transaction"}))
            [key] = (each.body for each in other.read_until("Z") if each.kind == "K")
            came.append(int.from_bytes(key[:4], "big") >> 17)
            assert other.value("SELECT 1") == "1"
        assert not came or set(came) == {1, 16383}
    assert first.process.wait(PATIENCE) == 0
    assert "drained, nobody was cut off" in first.log()


def test_an_old_process_and_a_new_one_are_on_the_port_and_no_attempt_is_lost(
    begin: Callable[[], Group],
) -> None:
    group = begin()
    router = group.add(1, peer_text(2, group.root / "2-1"))
    with attempting(router, "transaction", 4) as wait_for_more:
        group.add(2, peer_text(1, group.root / "1-0"))
        wait_for_more(3)
        group.shows(1, "SHUTDOWN WAIT_FOR_CLIENTS")
        assert router.process.wait(PATIENCE) == 0
        wait_for_more(3)
