"""The HTTP endpoint of the metrics: GET /metrics, and nothing else."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio
from hypercorn.config import Config
from hypercorn.trio import serve as serve_app

from ..engine import listener
from .exporter import Exporter

if TYPE_CHECKING:
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

CONTENT_TYPE: Final = b"text/plain; version=0.0.4"

_BACKLOG: Final = 128


class MetricsApp:
    """The ASGI application."""

    def __init__(self, exporter: Exporter) -> None:
        self._exporter: Final = exporter

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
        found = scope["method"] == "GET" and scope["path"] == "/metrics"
        body = self._exporter.render() if found else b""
        headers = [(b"content-length", b"%d" % len(body))]
        if found:
            headers.append((b"content-type", CONTENT_TYPE))
        await send(
            {"type": "http.response.start", "status": 200 if found else 404, "headers": headers}
        )
        await send({"type": "http.response.body", "body": body, "more_body": False})


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
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the metrics until cancelled; reports the port, which is any free one if it was 0.

    Raises:
        OSError: the address cannot be bound.
    """
    with listener.listen(host, port, _BACKLOG) as sock:
        bound: int = sock.getsockname()[1]
        config = Config()
        # The number of a descriptor that hypercorn then owns and closes.
        config.bind = [f"fd://{sock.detach()}"]
    config.errorlog = log
    config.accesslog = None
    config.include_server_header = False
    log.setLevel(logging.WARNING)
    app = MetricsApp(Exporter(view))
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
