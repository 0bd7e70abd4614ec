"""Traced statements as spans of OpenTelemetry, sent to a collector: OTLP over HTTP, in JSON.

The spans are made and sent in a thread, a few at a time, so that the event loop has nothing to
do with it. What a collector does not take is counted and not tried again.
"""

from __future__ import annotations

import http.client
import json
import logging
import random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from .. import __version__
from ..reasons import reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ..traces import Traced, Traces

log = logging.getLogger("router.traces")

# How often it is looked whether there are any, in seconds.
_INTERVAL: Final = 1.0
# So many statements are sent at a time: a thread may keep others from running meanwhile.
_BATCH: Final = 32
# How long a collector may take, and how long the end of the router waits for it, in seconds.
_PATIENCE: Final = 5.0
_LAST_PATIENCE: Final = 1.0
# SPAN_KIND_INTERNAL, SPAN_KIND_CLIENT and STATUS_CODE_ERROR of the protocol.
_INTERNAL, _CLIENT, _ERROR = 1, 3, 2

Json = dict[str, object]


async def send_traces(traces: Traces, endpoint: str, service: str) -> None:
    """Send whatever there is, for ever, and what is left when this is cancelled."""
    sender = _Sender(traces, endpoint, service)
    try:
        while True:
            await trio.sleep(_INTERVAL)
            await sender.send_all()
    finally:
        with trio.move_on_after(_LAST_PATIENCE, shield=True):
            await sender.send_all()


class _Sender:
    def __init__(self, traces: Traces, endpoint: str, service: str) -> None:
        self._traces = traces
        self._endpoint = endpoint
        self._service = service
        self._is_failing = False

    async def send_all(self) -> None:
        """Send all that wait now."""
        while batch := self._traces.take(_BATCH):
            # Counted as lost until it is known that they are not: this may be cancelled.
            self._traces.failed += len(batch)
            try:
                await trio.to_thread.run_sync(
                    _send, self._endpoint, self._service, batch, abandon_on_cancel=True
                )
            except (OSError, http.client.HTTPException) as error:
                self._tell(reason(error) or type(error).__name__)
            else:
                self._traces.failed -= len(batch)
                self._traces.sent += len(batch)
                self._tell("")

    def _tell(self, why: str) -> None:
        """Log that it fails or works again, and nothing while that stays so."""
        if why and not self._is_failing:
            log.warning("cannot send traces, which are lost: %s", why)
        elif self._is_failing and not why:
            log.info("traces are sent again")
        self._is_failing = bool(why)


def _send(endpoint: str, service: str, batch: Sequence[Traced]) -> None:
    """Send them and wait for the answer.

    Raises:
        OSError, HTTPException: the collector has not taken them.
    """
    url = urlsplit(endpoint)
    is_encrypted = url.scheme == "https"
    kind = http.client.HTTPSConnection if is_encrypted else http.client.HTTPConnection
    connection = kind(url.hostname or "", url.port, timeout=_PATIENCE)
    body = json.dumps(request(service, batch)).encode()
    target = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    try:
        connection.request("POST", target, body, {"Content-Type": "application/json"})
        status = connection.getresponse().status
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise http.client.HTTPException(f"the collector answers {status}")


def request(service: str, batch: Sequence[Traced]) -> Json:
    """An ExportTraceServiceRequest with the spans of these statements."""
    spans = [span for traced in batch for span in _spans(traced)]
    scope = {"name": "pgcat-router", "version": __version__}
    resource = {"attributes": _attributes({"service.name": service})}
    scoped = [{"scope": scope, "spans": spans}]
    return {"resourceSpans": [{"resource": resource, "scopeSpans": scoped}]}


def _spans(traced: Traced) -> Iterator[Json]:
    """One for the statement, and below it those of the queue, the route and the server."""
    trace, ended = traced.parent.trace, traced.ended
    began = ended - traced.total
    sent = began + traced.waited
    own = _new_id()
    attributes: dict[str, object] = {
        "db.system.name": "postgresql",
        "db.namespace": traced.server_database,
        "db.operation.name": traced.kind,
        "db.query.text": traced.form,
        "server.address": traced.host,
        "server.port": traced.port,
        "pgcat.database": traced.database,
        "pgcat.user": traced.user,
        "pgcat.queryid": traced.queryid,
        "pgcat.stall_ms": round(traced.stalled * 1e3, 3),
    }
    if traced.sqlstate:
        attributes |= {
            "db.response.status_code": traced.sqlstate,
            "error.type": traced.sqlstate,
        }
    statement = _span(
        trace, own, traced.parent.span, traced.kind, _INTERNAL, began, ended, attributes
    )
    if traced.sqlstate:
        statement["status"] = {"code": _ERROR}
    yield statement
    if traced.waited:
        yield _span(trace, _new_id(), own, "queue", _INTERNAL, began, sent, {})
    way = {
        "pgcat.shard": traced.shard,
        "pgcat.role": traced.role,
        "pgcat.reason": traced.reason,
    }
    # It takes microseconds, which nobody measures.
    yield _span(trace, _new_id(), own, "route", _INTERNAL, sent, sent, way)
    served_from = max(ended - traced.served - traced.stalled, sent)
    pid = {"pgcat.server_pid": traced.server_pid}
    yield _span(trace, _new_id(), own, "server", _CLIENT, served_from, ended, pid)


def _span(
    trace: str,
    span: str,
    parent: str,
    name: str,
    kind: int,
    began: float,
    ended: float,
    attributes: Mapping[str, object],
) -> Json:
    return {
        "traceId": trace,
        "spanId": span,
        "parentSpanId": parent,
        "name": name,
        "kind": kind,
        "startTimeUnixNano": _nanoseconds(began),
        "endTimeUnixNano": _nanoseconds(ended),
        "attributes": _attributes(attributes),
    }


def _new_id() -> str:
    """Of a span: not a secret, and never 0."""
    return f"{random.getrandbits(64) or 1:016x}"


def _nanoseconds(seconds: float) -> str:
    # In JSON a 64-bit number is a string, and a float does not hold nanoseconds.
    return str(int(seconds * 1e6) * 1000)


def _attributes(found: Mapping[str, object]) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in found.items()]


def _value(value: object) -> Json:
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    return {"stringValue": value}
