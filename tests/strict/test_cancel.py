"""Cancel requests: they stop what was meant, and never anything else."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.support.proxy import Proxy
from tests.support.router import HOST, PoolText, RouterProcess, wait_until
from tests.support.wire import (
    COPY_DONE,
    SYNC,
    WireClient,
    cancel,
    cancel_request,
    copy_data,
    kinds,
    query,
    rows,
    run,
    sqlstates,
    startup,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.cluster.server import Server
    from tests.support.postgres import Database

SLEEP = query("SELECT pg_sleep(60)")


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """With pools of one server."""
    return module_router({"one": pool_for(), "session": pool_for(mode="session")})


@pytest.fixture(scope="module")
def newer(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """One that asks its servers for protocol 3.2."""
    return module_router({"one": pool_for()}, 'server_max_protocol_version = "3.2"')


@pytest.fixture
def client(router: RouterProcess) -> Iterator[WireClient]:
    """Who asks."""
    with WireClient.login(router.port, "one") as made:
        yield made


@pytest.fixture
def other(router: RouterProcess) -> Iterator[WireClient]:
    """Who never asks, and must never see 57014."""
    with WireClient.login(router.port, "one") as made:
        yield made


def stop(router: RouterProcess, client: WireClient) -> None:
    """Cancel what a client is doing; the answer is nothing at all."""
    assert cancel(router.port, client.pid, client.secret) == b""


def wait_for_sleep(database: Database, count: int = 1) -> None:
    """Wait until so many backends of the module's database sleep."""
    wait_until(
        "a backend sleeps",
        lambda: (
            database.execute(
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event = 'PgSleep'"
            )
            == [(count,)]
        ),
    )


@pytest.mark.parametrize("pool", ["one", "session"])
@pytest.mark.parametrize("data", [SLEEP, run("SELECT pg_sleep(60)") + SYNC])
def test_a_running_statement_is_cancelled_any_number_of_times(
    router: RouterProcess, database: Database, pool: str, data: bytes
) -> None:
    with WireClient.login(router.port, pool) as client:
        for _ in range(3):
            client.send(data)
            wait_for_sleep(database)
            stop(router, client)
            answers = client.read_until("Z")
            assert sqlstates(answers) == ["57014"]
            assert answers[-1].body == b"I"
            assert client.value("SELECT 1") == "1"


@pytest.mark.parametrize(("minor", "size"), [(0, 4), (1, 4), (2, 32), (3, 32)])
@pytest.mark.parametrize("which", ["router", "newer"])
def test_a_key_is_as_long_as_the_version_of_the_protocol_allows(
    request: pytest.FixtureRequest, database: Database, which: str, minor: int, size: int
) -> None:
    router: RouterProcess = request.getfixturevalue(which)
    login = {"user": "postgres", "database": "one"}
    with WireClient(router.port) as client:
        client.send(startup(login, protocol=3 << 16 | minor))
        [key] = (each.body for each in client.read_until("Z") if each.kind == "K")
        pid, secret = int.from_bytes(key[:4], "big"), key[4:]
        assert len(secret) == size
        client.send(SLEEP)
        wait_for_sleep(database)
        for wrong in (secret[:-1], secret + b"x", secret[:-1] + bytes((secret[-1] ^ 1,))):
            cancel(router.port, pid, wrong)
        assert not client.has_input()
        cancel(router.port, pid, secret)
        assert sqlstates(client.read_until("Z")) == ["57014"]


def test_a_cancelled_transaction_fails_and_keeps_its_server(
    router: RouterProcess, database: Database, client: WireClient, other: WireClient
) -> None:
    client.query("BEGIN")
    client.send(SLEEP)
    wait_for_sleep(database)
    stop(router, client)
    assert client.read_until("Z")[-1].body == b"E"
    assert sqlstates(client.ask(query("SELECT 1"))) == ["25P02"]
    client.query("ROLLBACK")
    assert other.value("SELECT 1") == "1"


def test_to_cancel_an_idle_client_does_nothing(
    router: RouterProcess, client: WireClient, other: WireClient
) -> None:
    for _ in range(10):
        stop(router, client)
        assert client.value("SELECT 1") == "1"
        assert other.value("SELECT 1") == "1"
    client.query("BEGIN")
    stop(router, client)
    assert client.value("SELECT 1") == "1"
    client.query("COMMIT")


def test_a_wrong_key_does_nothing(
    router: RouterProcess, database: Database, client: WireClient
) -> None:
    client.send(query("SELECT pg_sleep(60)"))
    wait_for_sleep(database)
    for pid, secret in (
        (client.pid, b"\0\0\0\0"),
        (client.pid + 1, client.secret),
        (client.pid, client.secret + b"\0"),
        (client.pid, b"x" * 256),
    ):
        assert cancel(router.port, pid, secret) == b""
    wait_for_sleep(database)
    stop(router, client)
    assert sqlstates(client.read_until("Z")) == ["57014"]


@pytest.mark.parametrize("data", [query("SELECT 1"), run("SELECT 1") + SYNC])
def test_a_waiting_client_is_answered_at_once(
    router: RouterProcess, client: WireClient, other: WireClient, data: bytes
) -> None:
    other.query("BEGIN")
    client.send(data)
    wait_until("it waits", lambda: router.pool("one")["cl_waiting"] == "1")
    begun = time.monotonic()
    stop(router, client)
    answers = client.read_until("Z")
    assert time.monotonic() - begun < 5
    assert kinds(answers) == "EZ"
    assert sqlstates(answers) == ["57014"]
    other.query("COMMIT")
    assert client.value("SELECT 1") == "1"


def test_a_copy_is_cancelled(
    router: RouterProcess, client: WireClient, other: WireClient
) -> None:
    client.ask(query("COPY t FROM STDIN"), until="G")
    stop(router, client)
    # PostgreSQL heeds it when it reads the next row.
    rows_sent = 0

    def has_heeded() -> bool:
        nonlocal rows_sent
        rows_sent += 1
        client.send(copy_data(b"%d\ta\n" % rows_sent))
        return client.has_input()

    wait_until("the copy is cancelled", has_heeded)
    answers = client.read_until("Z")
    assert sqlstates(answers) == ["57014"]
    client.send(copy_data(b"0\tb\n") + COPY_DONE)
    assert client.value("SELECT count(*) FROM t") == "0"
    assert other.value("SELECT 1") == "1"


def test_a_late_cancel_never_hits_the_next_client_of_the_server(
    router: RouterProcess, client: WireClient, other: WireClient
) -> None:
    with ThreadPoolExecutor(4) as threads:
        requests = []
        for _ in range(100):
            requests.append(threads.submit(stop, router, client))
            client.send(query("SELECT 'client', pg_sleep(0.001)"))
            other.send(query("SELECT 'other', pg_sleep(0.001)"))
            answers = other.read_until("Z")
            assert not sqlstates(answers), answers
            assert rows(answers) == [[b"other", b""]]
            answers = client.read_until("Z")
            assert sqlstates(answers) in ([], ["57014"])
        for request in requests:
            request.result()
    assert client.value("SELECT 1") == "1"


def test_clients_that_cancel_and_leave_at_once_do_no_harm(
    router: RouterProcess, other: WireClient
) -> None:
    for _ in range(50):
        with WireClient.login(router.port, "one") as client:
            client.send(SLEEP)
            client.wait_consumed()
            with WireClient(router.port) as hasty:
                hasty.send(cancel_request(client.pid, client.secret))
            client.reset()
        assert other.value("SELECT 1") == "1"
    wait_until("all are gone", lambda: router.pool("one")["cl_active"] == "0")
    wait_until("no request is open", lambda: router.pool("one")["cl_cancel_req"] == "0")


@pytest.mark.parametrize("pool", ["one", "session"])
@pytest.mark.parametrize("begins", [False, True])
def test_who_waits_for_the_end_of_a_cancel_request_can_send_the_next_statement(
    router: RouterProcess, pool: str, *, begins: bool
) -> None:
    """The request comes as its statement ends: it hits that one, or none."""
    with WireClient.login(router.port, pool) as client:
        for number in range(200):
            if begins:
                client.query("BEGIN")
            client.send(query("SELECT pg_sleep(0.0005)"))
            if number % 2:
                client.read_until("Z")
                was_hit = False
                stop(router, client)
            else:
                stop(router, client)
                was_hit = bool(sqlstates(client.read_until("Z")))
            answer = sqlstates(
                client.ask(query("SELECT count(*) FROM generate_series(1, 20000)"))
            )
            assert answer == (["25P02"] if begins and was_hit else [])
            if begins:
                client.query("ROLLBACK")


def test_who_cancels_at_a_server_that_hangs_keeps_nobody_from_logging_in(
    start_router: Callable[..., RouterProcess], postgres: Server
) -> None:
    with Proxy(postgres.port) as proxy, ExitStack() as stack:
        pool = PoolText([[(HOST, proxy.port, "primary")]])
        router = start_router({"hung": pool}, "max_logins_in_progress = 2")
        clients = [stack.enter_context(WireClient.login(router.port, "hung")) for _ in range(3)]
        for client in clients:
            client.send(SLEEP)
        wait_until("they run", lambda: router.pool("hung")["sv_active"] == "3")
        proxy.stall()
        for client in clients:
            hasty = stack.enter_context(WireClient(router.port))
            hasty.send(cancel_request(client.pid, client.secret))
        wait_until("it is asked", lambda: router.pool("hung")["cl_cancel_req"] == "3")
        [row] = [
            row
            for row in router.admin("SHOW LIMITS")
            if row["limit"] == "max_logins_in_progress"
        ]
        assert (row["waiting"], row["refused"]) == ("0", "0")
