"""A collector of OpenTelemetry for tests: it takes what is sent to it by OTLP over HTTP."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Span:
    """One span, with its attributes by name."""

    trace: str
    own: str
    parent: str
    name: str
    began: int
    ended: int
    is_error: bool
    attributes: dict[str, object]


@dataclass
class Collector:
    """What has been sent so far.

    Attributes:
        status: what it answers with.
        may_answer: it does not as long as this is not set.
    """

    port: int = 0
    status: int = 200
    may_answer: threading.Event = field(default_factory=threading.Event)
    requests: list[dict[str, Any]] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def spans(self) -> list[Span]:
        """All of them."""
        return [span for request in list(self.requests) for span in spans_in(request)]


def spans_in(request: dict[str, Any]) -> list[Span]:
    """The spans of an ExportTraceServiceRequest."""
    return [
        Span(
            span["traceId"],
            span["spanId"],
            span["parentSpanId"],
            span["name"],
            int(span["startTimeUnixNano"]),
            int(span["endTimeUnixNano"]),
            span.get("status") == {"code": 2},
            {one["key"]: _value(one["value"]) for one in span["attributes"]},
        )
        for resource in request["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def _value(value: dict[str, Any]) -> object:
    [(kind, found)] = value.items()
    return int(found) if kind == "intValue" else found


@contextmanager
def collecting() -> Iterator[Collector]:
    """Run one."""
    collector = Collector()
    collector.may_answer.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.may_answer.wait()
            if collector.status == 200:
                assert self.path == "/v1/traces"
                assert self.headers["Content-Type"] == "application/json"
                collector.requests.append(json.loads(body))
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        collector.port = server.server_port
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield collector
        finally:
            collector.may_answer.set()
            server.shutdown()
            thread.join()
