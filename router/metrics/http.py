"""The HTTP endpoint: GET /metrics, /health and /ready, and nothing else."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_app

from ..engine import listener
from .exporter import Exporter

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterable

    from hypercorn.typing import (
        ASGIReceiveCallable,
        ASGISendCallable,
        HTTPScope,
        LifespanScope,
        Scope,
    )

    from ..snapshots import View

# Hypercorn announces itself at level info; only what goes wrong is of interest.
log = logging.getLogger("router.metrics.http")

PLAIN: Final = b"text/plain; charset=utf-8"
CONTENT_TYPE: Final = b"text/plain; version=0.0.4"
OPEN_METRICS: Final = b"application/openmetrics-text; version=1.0.0; charset=utf-8"

_BACKLOG: Final = 128
# As RFC 9110 has them.
_Q_VALUE: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


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
            status, kind, body = self._answer(scope["path"], scope["headers"])
        headers = [(b"content-length", b"%d" % len(body))]
        if status != 404:
            headers.append((b"content-type", kind))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.body", "body": body, "more_body": False})

    def _answer(
        self, path: str, headers: Iterable[tuple[bytes, bytes]]
    ) -> tuple[int, bytes, bytes]:
        """Status, type and body."""
        if path == "/metrics" and _wants_open_metrics(headers):
            return 200, OPEN_METRICS, self._exporter.render_open()
        if path == "/metrics":
            return 200, CONTENT_TYPE, self._exporter.render()
        if path == "/health":
            return 200, PLAIN, b"ok\n"
        if path == "/ready":
            is_ready = self._is_ready()
            return (200, PLAIN, b"ready\n") if is_ready else (503, PLAIN, b"stopping\n")
        return 404, PLAIN, b""


def _wants_open_metrics(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether the format of OpenMetrics is asked for, and no other one rather than that."""
    weights: dict[str, float] = {}
    for name, value in headers:
        if name.lower() == b"accept":
            for each in value.decode("latin-1").lower().split(","):
                kind, *parameters = (part.strip() for part in each.split(";"))
                weights[kind] = max(weights.get(kind, 0.0), _weight(parameters))
    wanted = weights.get("application/openmetrics-text", 0.0)
    return wanted > 0.0 and wanted >= weights.get("text/plain", 0.0)


def _weight(parameters: Iterable[str]) -> float:
    """The q of a media range: 1 if it has none, 0 if that is no number."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            found = _Q_VALUE.fullmatch(value.strip())
            return float(value) if found is not None else 0.0
    return 1.0


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


def listen(host: str, port: int) -> list[socket.socket]:
    """Open the listening sockets.

    Raises:
        OSError: the address cannot be bound.
    """
    return listener.listen_all(host, port, _BACKLOG)


async def serve(
    socks: Iterable[socket.socket],
    view: View,
    is_ready: Callable[[], bool] = lambda: True,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled.

    Args:
        socks: where; they stay open.
        view: what the metrics are taken from.
        is_ready: whether clients should come to this router.
        task_status: told when it does.
    """
    config = Config()
    # The numbers of descriptors that hypercorn then owns and closes.
    config.bind = [f"fd://{sock.dup().detach()}" for sock in socks]
    config.errorlog = log
    config.accesslog = None
    config.include_server_header = False
    log.setLevel(logging.WARNING)
    app = MetricsApp(Exporter(view), is_ready)
    async with trio.open_nursery() as nursery:
        await nursery.start(_serve, app, config)
        task_status.started()


async def _serve(
    app: MetricsApp,
    config: Config,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    # Without a trigger hypercorn would not touch signals either; this one says so.
    await serve_app(app, config, shutdown_trigger=trio.sleep_forever, task_status=task_status)
