"""Servers that die, restart, hang or refuse: an error to whom it concerns, and to no other."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from router.demo.server import HOST, free_port
from router.protocol import messages
from tests.support.cluster.server import StopMode
from tests.support.router import (
    PATIENCE,
    PoolText,
    RouterProcess,
    primary_of,
    servers_of,
    wait_until,
)
from tests.support.wire import Ended, Message, WireClient, kinds, query, sqlstates, startup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.cluster.server import Server
    from tests.support.postgres import Database, PostgresRun, PrivateCluster

LONG_RESULT = "SELECT repeat('x', 1000) FROM generate_series(1, 1000000)"


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """In front of the shared server, of which single backends are ended."""
    return module_router({"one": pool_for()})


@pytest.fixture(scope="module")
def mortal(postgres_run: PostgresRun) -> Iterator[Server]:
    """A server for those tests here that kill it."""
    cluster = postgres_run.private()
    yield cluster.primary
    cluster.close()


@pytest.fixture(scope="module")
def mortal_router(module_router: ModuleRouter, mortal: Server) -> RouterProcess:
    """In front of the server that is killed."""
    return module_router({"two": PoolText([primary_of(mortal)], pool_size=2)})


@pytest.fixture
def deaf() -> Iterator[int]:
    """The port of a server that accepts connections and never says a word."""
    with socket.socket() as sock:
        sock.bind((HOST, 0))
        sock.listen(64)
        yield int(sock.getsockname()[1])


def backend_of(client: WireClient) -> int:
    """The process that serves a client now."""
    return int(client.value("SELECT pg_backend_pid()"))


def last_words(client: WireClient) -> Message:
    """The error with which the connection ends."""
    answers = client.read_to_end()
    assert kinds(answers)[-1] == "E", kinds(answers)[-20:]
    assert answers[-1].fields["S"] == "FATAL"
    return answers[-1]


def is_served(router: RouterProcess, pool: str) -> bool:
    """Whether a new client gets an answer."""
    try:
        with WireClient.login(router.port, pool) as client:
            return client.value("SELECT 1") == "1"
    except (Ended, AssertionError):
        return False


def test_a_backend_that_ends_while_idle_is_not_noticed(
    router: RouterProcess, database: Database
) -> None:
    with WireClient.login(router.port, "one") as client:
        for _ in range(3):
            pid = backend_of(client)
            database.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            wait_until("the router knows", lambda: router.pool("one")["sv_idle"] == "0")
            assert backend_of(client) != pid


class DyingServer:
    """A server whose first connection says that it is ended, and does not end.

    Each connection answers every query with its own number.
    """

    def __init__(self) -> None:
        self._listening = socket.create_server((HOST, 0))
        self.port = int(self._listening.getsockname()[1])
        self._connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """End everything."""
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for sock in (*self._connections, self._listening):
            sock.close()

    def _serve(self) -> None:
        with suppress(OSError):
            for number in itertools.count(1):
                sock, _ = self._listening.accept()
                sock.settimeout(PATIENCE)
                self._connections.append(sock)
                self._talk(sock, number)

    @staticmethod
    def _talk(sock: socket.socket, number: int) -> None:
        sock.recv(4096)  # the StartupMessage
        login = messages.AUTHENTICATION_OK + messages.parameter_status("server_version", "18")
        login += messages.backend_key_data(number, b"abcd")
        sock.sendall(login + messages.READY_IDLE)
        sock.recv(4096)  # a Query
        answer = messages.row_description([("number", messages.TEXT_OID)])
        answer += messages.data_row([number]) + messages.command_complete("SELECT 1")
        sock.sendall(answer + messages.READY_IDLE)
        if number == 1:
            sock.sendall(messages.error_response("goodbye", "57P01", severity="FATAL"))


@pytest.fixture
def dying() -> Iterator[DyingServer]:
    """A server that is ended."""
    server = DyingServer()
    yield server
    server.close()


def test_an_idle_connection_that_is_said_to_end_is_used_no_more(
    start_router: Callable[..., RouterProcess], dying: DyingServer
) -> None:
    router = start_router({"db": PoolText([[(HOST, dying.port, "primary")]], pool_size=1)})
    with WireClient.login(router.port, "db") as client:
        assert client.value("SELECT 1") == "1"
        wait_until("it is closed", lambda: router.pool("db")["sv_idle"] == "0")
        assert int(client.value("SELECT 1")) > 1


def test_a_client_whose_backend_is_terminated_gets_the_servers_own_words(
    router: RouterProcess, database: Database
) -> None:
    with (
        WireClient.login(router.port, "one") as client,
        closing(database.server.connect()) as own,
    ):
        client.query("BEGIN")
        pid = backend_of(client)
        client.send(query("SELECT pg_sleep(60)"))
        client.wait_consumed()
        own.execute("SELECT pg_terminate_backend(%s)", [pid])
        words = last_words(client)
        assert words.sqlstate == "57P01"
        assert words.fields["M"] == "terminating connection due to administrator command"
        assert "F" in words.fields, "the message is not the server's"
    assert is_served(router, "one")


def test_a_client_whose_backend_is_terminated_between_statements_is_told(
    router: RouterProcess, database: Database
) -> None:
    with WireClient.login(router.port, "one") as client:
        client.query("BEGIN")
        database.execute("SELECT pg_terminate_backend(%s, 5000)", [backend_of(client)])
        assert last_words(client).sqlstate == "57P01"
    assert is_served(router, "one")


def test_a_killed_backend_never_leaves_half_a_result_that_looks_whole(
    mortal_router: RouterProcess, mortal: Server
) -> None:
    with WireClient.login(mortal_router.port, "two", receive_buffer=4096) as client:
        client.query("BEGIN")
        pid = backend_of(client)
        client.send(query(LONG_RESULT))
        client.read_until("D")
        os.kill(pid, signal.SIGKILL)
        answers = client.read_to_end()
        assert set(kinds(answers)) <= set("DE")
    wait_until("the server has recovered", lambda: is_served(mortal_router, "two"))


def test_a_killed_backend_ends_its_client_with_an_error(
    mortal_router: RouterProcess, mortal: Server
) -> None:
    with (
        WireClient.login(mortal_router.port, "two") as client,
        WireClient.login(mortal_router.port, "two") as idle,
    ):
        assert idle.value("SELECT 1") == "1"
        client.query("BEGIN")
        os.kill(backend_of(client), signal.SIGKILL)
        assert last_words(client).sqlstate in ("08006", "57P02")
        wait_until("the server has recovered", lambda: is_served(mortal_router, "two"))
        assert idle.value("SELECT 1") == "1"


@pytest.mark.parametrize("mode", [StopMode.FAST, StopMode.IMMEDIATE, StopMode.KILL])
def test_a_restart_is_noticed_only_by_those_in_a_transaction(
    mortal_router: RouterProcess, mortal: Server, mode: StopMode
) -> None:
    clients = [WireClient.login(mortal_router.port, "two") for _ in range(10)]
    active, *idle = clients
    assert {client.value("SELECT 1") for client in idle} == {"1"}
    active.query("BEGIN")
    mortal.stop(mode)
    assert last_words(active).sqlstate in ("57P01", "57P02", "08006")
    # Backends outlive a killed postmaster for a moment.
    wait_until("all are lost", lambda: mortal_router.pool("two")["sv_idle"] == "0")
    for client in idle[:5]:
        client.send(query("SELECT 2"))  # they wait
    mortal.start()
    assert [client.read_until("Z")[1].row for client in idle[:5]] == [[b"2"]] * 5
    assert {client.value("SELECT 3") for client in idle} == {"3"}
    for client in clients:
        client.close()


def test_a_server_that_never_answers_is_an_error_in_time(
    start_router: Callable[..., RouterProcess], deaf: int
) -> None:
    pool = PoolText([[(HOST, deaf, "primary")]])
    router = start_router({"deaf": pool}, "server_login_timeout = 300")
    with WireClient(router.port) as client:
        client.send(startup({"user": "postgres", "database": "deaf"}))
        assert sqlstates(client.read_to_end()) == ["57P03"]


def test_a_server_that_stops_answering_is_an_error_in_time_and_the_session_goes_on(
    start_router: Callable[..., RouterProcess], mortal: Server
) -> None:
    pool = PoolText([primary_of(mortal)], options="connect_timeout = 300")
    router = start_router({"db": pool}, "server_login_timeout = 300")
    with (
        WireClient.login(router.port, "db") as client,
        WireClient.login(router.port, "db") as other,
    ):
        client.query("BEGIN")
        mortal.signal(signal.SIGSTOP)
        try:
            answers = other.ask(query("SELECT 1"))
        finally:
            mortal.signal(signal.SIGCONT)
        assert sqlstates(answers) in (["57P03"], ["53300"])
        assert kinds(answers) == "EZ"
        wait_until("it is served again", lambda: not sqlstates(other.ask(query("SELECT 1"))))
        assert client.value("SELECT 2") == "2"


def test_too_many_connections_at_the_server_are_waited_for(
    start_router: Callable[..., RouterProcess], private_primary: Callable[..., Server]
) -> None:
    server = private_primary(max_connections="6", superuser_reserved_connections="0")
    router = start_router({"db": PoolText([primary_of(server)], pool_size=5)})
    with WireClient.login(router.port, "db") as client:
        assert client.value("SELECT 1") == "1"
        others = [server.connect() for _ in range(5)]
        with WireClient.login(router.port, "db") as other:
            client.query("BEGIN")
            other.send(query("SELECT 2"))
            wait_until("it waits", lambda: router.pool("db")["cl_waiting"] == "1")
            client.query("COMMIT")
            assert other.read_until("Z")[1].row == [b"2"]
        for connection in others:
            connection.close()


def replica_reads(client: WireClient, count: int) -> set[str]:
    """The ports that answered so many reads on replicas."""
    return {client.value("SELECT current_setting('port')") for _ in range(count)}


def test_reads_go_on_when_a_replica_dies_and_come_back_to_it(
    start_router: Callable[..., RouterProcess], private_cluster: PrivateCluster
) -> None:
    cluster = private_cluster(replicas=2)
    cluster.wait_for_replication()
    shard = cluster.shards[0]
    first, second = shard.replicas
    router = start_router({"db": PoolText([servers_of(shard)])}, "ban_time = 1")
    with WireClient.login(router.port, "db") as client:
        client.query("SET SERVER ROLE TO 'replica'")
        ports = {str(first.port), str(second.port)}
        wait_until("both answer", lambda: replica_reads(client, 5) == ports)
        servers = len(router.admin("SHOW SERVERS"))
        first.stop(StopMode.KILL)
        wait_until("it is missed", lambda: len(router.admin("SHOW SERVERS")) < servers)
        assert replica_reads(client, 50) == {str(second.port)}
        first.start()
        wait_until("both answer again", lambda: replica_reads(client, 5) == ports)


@pytest.mark.parametrize("kind", ["closed", "deaf"])
def test_a_replica_that_never_was_there_is_skipped(
    start_router: Callable[..., RouterProcess], database: Database, deaf: int, kind: str
) -> None:
    real = database.server.port
    port = deaf if kind == "deaf" else free_port()
    servers = [(HOST, port, "replica"), (HOST, real, "replica"), (HOST, real, "primary")]
    pool = PoolText([servers], database=database.name, options="connect_timeout = 300")
    router = start_router({"db": pool}, "server_login_timeout = 300")
    with WireClient.login(router.port, "db") as client:
        client.query("SET SERVER ROLE TO 'replica'")
        assert replica_reads(client, 20) == {str(real)}
