"""The metrics over real HTTP."""

from __future__ import annotations

import logging
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from http import client

import pytest
import trio

from router.metrics import http
from tests.admin.builders import POOL, FakeView

HOST = "127.0.0.1"


def fetch(port: int, path: str, method: str = "GET") -> tuple[int, str, bytes]:
    """Status, content type and body."""
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            return response.status, response.headers["content-type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers.get("content-type", ""), error.read()


async def started(nursery: trio.Nursery, view: FakeView | None = None) -> int:
    """Serve; returns the port."""
    socks = http.listen(HOST, 0)
    await nursery.start(http.serve, socks, view or FakeView())
    port: int = socks[0].getsockname()[1]
    for sock in socks:
        sock.close()  # the server has its own
    return port


async def test_get_metrics_gives_the_snapshots_of_now() -> None:
    view = FakeView()
    async with trio.open_nursery() as nursery:
        port = await started(nursery, view)
        status, content_type, body = await trio.to_thread.run_sync(fetch, port, "/metrics")
        assert (status, content_type) == (200, "text/plain; version=0.0.4")
        assert b'pgcat_pools_cl_waiting{pool="app",user="ann"} 3\n' in body
        view.pool_rows = [replace(POOL, cl_waiting=7)]
        _, _, body = await trio.to_thread.run_sync(fetch, port, "/metrics")
        assert b'pgcat_pools_cl_waiting{pool="app",user="ann"} 7\n' in body
        nursery.cancel_scope.cancel()


PLAIN = "text/plain; version=0.0.4"
OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/plain;version=0.0.4", PLAIN),
        ("application/openmetrics-text", OPEN),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", OPEN),
        ("Application/OpenMetrics-Text;q=0.5,*/*;q=0.1", OPEN),
        ("application/openmetrics-text;q=0.3,text/plain;q=0.5", PLAIN),
        ("application/openmetrics-text;q=0", PLAIN),
        ("application/openmetrics-text;q=x", PLAIN),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,"
            "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3",
            OPEN,
        ),
        (";;,q=;", PLAIN),
    ],
)
async def test_who_asks_for_open_metrics_gets_that(accept: str, content_type: str) -> None:
    def ask(port: int) -> tuple[str, bytes]:
        url = f"http://{HOST}:{port}/metrics"
        headers = {"accept": accept} if accept else {}
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=headers), timeout=30
        ) as response:
            return response.headers["content-type"], response.read()

    async with trio.open_nursery() as nursery:
        port = await started(nursery)
        found, body = await trio.to_thread.run_sync(ask, port)
        assert found == content_type
        assert body.endswith(b"# EOF\n") is (content_type == OPEN)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("path", "method"),
    [
        ("/", "GET"),
        ("/ready/", "GET"),
        ("/ready", "POST"),
        ("/metrics/x", "GET"),
        ("/metrics", "POST"),
    ],
)
async def test_anything_else_is_not_found(path: str, method: str) -> None:
    async with trio.open_nursery() as nursery:
        port = await started(nursery)
        assert await trio.to_thread.run_sync(fetch, port, path, method) == (404, "", b"")
        nursery.cancel_scope.cancel()


async def test_a_connection_serves_one_request_after_the_other() -> None:
    def fetch_twice(port: int) -> list[tuple[int, bool]]:
        connection = client.HTTPConnection(HOST, port, timeout=30)
        found = []
        for _ in range(2):
            connection.request("GET", "/metrics")
            response = connection.getresponse()
            found.append((response.status, b"pgcat_pools" in response.read()))
            connection.auto_open = 0
        connection.close()
        return found

    async with trio.open_nursery() as nursery:
        port = await started(nursery)
        assert await trio.to_thread.run_sync(fetch_twice, port) == [(200, True)] * 2
        nursery.cancel_scope.cancel()


async def test_cancelling_frees_the_port() -> None:
    async with trio.open_nursery() as nursery:
        port = await started(nursery)
        nursery.cancel_scope.cancel()
    with socket.socket() as probe:
        assert probe.connect_ex((HOST, port)) != 0


def test_an_address_in_use_is_an_os_error() -> None:
    with socket.create_server((HOST, 0)) as taken:
        with pytest.raises(OSError, match="in use"):
            http.listen(HOST, taken.getsockname()[1])


async def test_serving_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with trio.open_nursery() as nursery:
        port = await started(nursery)
        await trio.to_thread.run_sync(fetch, port, "/metrics")
        nursery.cancel_scope.cancel()
    assert caplog.messages == []
