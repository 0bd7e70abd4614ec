"""An HTTP server that answers GET /cluster as Patroni's REST API does."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from router.demo.server import HOST

if TYPE_CHECKING:
    import ssl
    from types import TracebackType
    from typing import Self

    from tests.support.cluster.server import Server


def member(server: Server, role: str, **more: object) -> dict[str, object]:
    """A member as Patroni describes it."""
    return {
        "name": f"pg{server.port}",
        "role": role,
        "state": "running" if role == "leader" else "streaming",
        "api_url": f"http://{server.host}:8008/patroni",
        "host": server.host,
        "port": server.port,
        "timeline": 1,
        **({} if role == "leader" else {"lag": 0}),
        **more,
    }


class Http(ThreadingHTTPServer):
    """A server that shakes hands first where there is TLS, and says nothing of failures."""

    def __init__(
        self, tls: ssl.SSLContext | None, handler: type[BaseHTTPRequestHandler]
    ) -> None:
        super().__init__((HOST, 0), handler)
        self._tls = tls

    def finish_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Shake hands in the thread of the request, and answer it."""
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with self._tls.wrap_socket(request, server_side=True) as secured:
            super().finish_request(secured, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401
        """Say nothing."""


class Patroni:
    """The API of one node.

    Attributes:
        body: what it answers; None: nothing at all.
        status: of HTTP.
        asked: how often it has been asked, and answered or kept waiting.
    """

    def __init__(self, *members: dict[str, object], tls: ssl.SSLContext | None = None) -> None:
        """Listen, over TLS if there is a context for that, and tell of these members."""
        self.body: bytes | None = b""
        self.status = 200
        self.asked = 0
        self._over = threading.Event()
        self.tell(*members)
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                """Answer."""
                assert self.path == "/cluster"
                api.asked += 1
                body = api.body
                if body is None:
                    api._over.wait()
                    return
                self.send_response(api.status)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                with contextlib.suppress(OSError):  # it has had enough
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                """Say nothing."""

        self._server = Http(tls, Handler)
        scheme = "http" if tls is None else "https"
        self.url = f"{scheme}://{HOST}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def tell(self, *members: dict[str, object]) -> None:
        """Have these be the members."""
        self.body = json.dumps({"members": members, "scope": "test"}).encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
