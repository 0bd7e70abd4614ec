"""Clients that come by a load balancer, and what servers are told of where they are."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import errors
from psycopg.rows import dict_row

from tests.support.proxy import Proxy
from tests.support.router import ADMIN, ADMIN_PASSWORD, HOST, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.strict.conftest import PoolFor
    from tests.support.router import RouterProcess

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
SOURCE = socket.inet_aton("192.0.2.7") + socket.inet_aton(HOST) + struct.pack("!HH", 4711, 5432)
HEADER = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, len(SOURCE)) + SOURCE
Client = psycopg.Connection[tuple[object, ...]]
TRUSTING = f'proxy_protocol_networks = ["{HOST}/32"]'


@pytest.fixture
def balanced(
    start_router: Callable[..., RouterProcess], pool_for: PoolFor
) -> Iterator[tuple[RouterProcess, Proxy]]:
    general = TRUSTING + "\napplication_name_add_host = true"
    router = start_router({"db": pool_for(size=2)}, general)
    with Proxy(router.port, header=HEADER) as proxy:
        yield router, proxy


def connect(port: int, name: str = "", sslmode: str = "prefer") -> Client:
    return psycopg.connect(
        host=HOST,
        port=port,
        dbname="db",
        user="postgres",
        application_name=name,
        sslmode=sslmode,
        autocommit=True,
    )


def addresses(port: int) -> list[str]:
    """What SHOW CLIENTS has of those of the pool."""
    login = f"host={HOST} port={port} dbname=pgcat user={ADMIN} password={ADMIN_PASSWORD}"
    with psycopg.connect(login, autocommit=True, row_factory=dict_row) as admin:
        rows = admin.execute("SHOW CLIENTS").fetchall()
    return [row["addr"] for row in rows if row["database"] == "db"]


def test_the_client_is_known_by_its_own_address_everywhere(
    balanced: tuple[RouterProcess, Proxy],
) -> None:
    _, proxy = balanced
    known = "shop - 192.0.2.7:4711"
    with connect(proxy.port, "shop") as client:
        seen = "SELECT pid FROM pg_stat_activity WHERE application_name = %s"
        told = client.execute(seen, (known,)).fetchone()
        assert told == client.execute("SELECT pg_backend_pid()").fetchone()
        assert client.info.parameter_status("application_name") == known
        assert addresses(proxy.port) == ["192.0.2.7:4711"]
        client.execute("SET application_name TO mine")
        assert client.execute("SHOW application_name").fetchone() == ("mine",)
        client.execute("RESET application_name")
        assert client.execute("SHOW application_name").fetchone() == (known,)


def test_a_cancel_request_comes_by_the_load_balancer_as_well(
    balanced: tuple[RouterProcess, Proxy],
) -> None:
    _, proxy = balanced
    with ExitStack() as stack:
        client = stack.enter_context(connect(proxy.port))
        watcher = stack.enter_context(connect(proxy.port))
        failed: list[Exception] = []

        def sleep() -> None:
            try:
                client.execute("SELECT pg_sleep(600)")
            except psycopg.Error as error:
                failed.append(error)

        thread = threading.Thread(target=sleep)
        thread.start()
        text = "SELECT 1 FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(600)'"
        wait_until("it sleeps", lambda: watcher.execute(text).fetchone())
        client.cancel_safe()  # it lets the proxy, a thread of ours, go on
        thread.join()
        assert isinstance(failed[0], errors.QueryCanceled)


def test_without_the_header_or_with_one_from_elsewhere_nobody_gets_in(
    balanced: tuple[RouterProcess, Proxy],
    start_router: Callable[..., RouterProcess],
    pool_for: PoolFor,
) -> None:
    router, _ = balanced
    with pytest.raises(psycopg.OperationalError, match="the PROXY protocol header is missing"):
        connect(router.port, sslmode="disable")
    with pytest.raises(psycopg.OperationalError, match="error response during SSL exchange"):
        connect(router.port, sslmode="prefer")  # old libpqs do not show it
    assert "the PROXY protocol header is missing" in router.log()
    other = start_router({"db": pool_for()}, 'proxy_protocol_networks = ["192.0.2.0/24"]')
    connect(other.port).close()
    with Proxy(other.port, header=HEADER) as proxy:
        with pytest.raises(psycopg.OperationalError, match="invalid length of startup packet"):
            connect(proxy.port, sslmode="disable")


@pytest.mark.parametrize("length", [0, 1, 30, 45, 46, 47, 63, 64, 200])
def test_a_long_name_leaves_room_for_the_address(
    balanced: tuple[RouterProcess, Proxy], length: int
) -> None:
    _, proxy = balanced
    with connect(proxy.port, "n" * length) as client:
        [shown] = client.execute("SHOW application_name").fetchone() or ()
    # 63 bytes is what PostgreSQL keeps.
    assert shown == ("n" * min(length, 46) or "app") + " - 192.0.2.7:4711"
