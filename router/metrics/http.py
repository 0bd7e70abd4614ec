"""The HTTP endpoint: GET /metrics, /health and /ready, and nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_app

from ..engine import listener
from .exporter import Exporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        HTTPScope,
        LifespanScope,
        Scope,
    )

    from ..stats import View

# Hypercorn announces itself at level info; only what goes wrong is of interest.
log = logging.getLogger("router.metrics.http")

PLAIN: Final = b"text/plain; charset=utf-8"
CONTENT_TYPE: Final = b"text/plain; version=0.0.4"

_BACKLOG: Final = 128


class MetricsApp:
    """The ASGI application."""

    def __init__(self, exporter: Exporter, is_ready: Callable[[], bool]) -> None:
        self._exporter: Final = exporter
        self._is_ready: Final = is_ready

    async def __call__(
        self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable
    ) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            await self._respond(scope, send)
        elif scope["type"] == "lifespan":
            await _live(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000, "reason": None})

    async def _respond(self, scope: HTTPScope, send: ASGISendCallable) -> None:
        status, kind, body = 404, PLAIN, b""
        if scope["method"] in ("GET", "HEAD"):
            status, kind, body = self._answer(scope["path"])
        headers = [(b"content-length", b"%d" % len(body))]
        if status != 404:
            headers.append((b"content-type", kind))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _answer(self, path: str) -> tuple[int, bytes, bytes]:
        """Status, type and body."""
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._exporter.render()
        if path == "/health":
            return 200, PLAIN, b"ok\n"
        if path == "/ready":
            is_ready = self._is_ready()
            return (200, PLAIN, b"ready\n") if is_ready else (503, PLAIN, b"stopping\n")
        return 404, PLAIN, b""


async def _live(
    _scope: LifespanScope, receive: ASGIReceiveCallable, send: ASGISendCallable
) -> None:
    """Agree to start and to stop."""
    while True:
        event = await receive()
        if event["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        elif event["type"] == "lifespan.shutdown":
            await send({"type": "lifespan.shutdown.complete"})
            return


async def serve(
    host: str,
    port: int,
    view: View,
    is_ready: Callable[[], bool] = lambda: True,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; reports the port, which is any free one if it was 0.

    Args:
        host, port: where.
        view: what the metrics are taken from.
        is_ready: whether clients should come to this router.
        task_status: told the port.

    Raises:
        OSError: the address cannot be bound.
    """
    socks = listener.listen_all(host, port, _BACKLOG)
    bound: int = socks[0].getsockname()[1]
    config = Config()
    # The numbers of descriptors that hypercorn then owns and closes.
    config.bind = [f"fd://{sock.detach()}" for sock in socks]
    config.errorlog = log
    config.accesslog = None
    config.include_server_header = False
    log.setLevel(logging.WARNING)
    app = MetricsApp(Exporter(view), is_ready)
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve, app, config)
        task_status.started(bound)


async def _serve(
    app: MetricsApp,
    config: Config,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    # Without a trigger hypercorn would not touch signals either; this one says so.
    await serve_app(app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)
