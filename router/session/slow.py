"""Statements that took long, of which the log has a line, and those that are traced."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from ..printable import printable
from ..protocol.framing import string_in
from ..queries import UNREAD, Fingerprint
from ..routing.tags import trace_parent
from ..traces import Traced
from .whole_batch import WholeBatch

if TYPE_CHECKING:
    from ..protocol.segments import Segment
    from ..queries import Queries
    from ..traces import Traces
    from .answered import PreparedStatement
    from .client import Client
    from .lease import Lease
    from .names import Names
    from .operation import Operation

log = logging.getLogger("router.slow")

# Of a statement's text, or of all forms of a batch, so many characters are logged.
_LONGEST = 1000
# So many statements of a batch are told.
_MOST = 10


def heed(client: Client, lease: Lease, names: Names, segment: Segment, now: float) -> None:
    """A segment has been answered after a time after which it is to be looked at.

    It is not counted yet: `began_at` of its server is when what was before it was over.
    """
    traces = lease.engine.figures.traces
    if traces is not None:
        _trace(traces, lease, names, segment, now)
        if now - segment.started + segment.waited < lease.pool.settings.log_after:
            return
    _tell(client, lease, segment, now)


def _trace(traces: Traces, lease: Lease, names: Names, segment: Segment, now: float) -> None:
    """Note it if its client is traced, or the lot falls on it."""
    server, pool, route = lease.server, lease.pool, lease.route
    if server is None or segment.empty:
        return
    queries = lease.engine.figures.queries
    texts = texts_of(segment.request)
    fingerprints = _fingerprints(segment, texts, queries)
    unnamed = names.statements.get(b"")
    if not texts and unnamed is not None and unnamed.fingerprint is fingerprints[-1]:
        # It was prepared and described before it was bound, and so is not kept.
        texts = [unnamed.text]
    found = next(filter(None, map(trace_parent, texts)), b"")
    found = found or _parent_by_name(names, segment, fingerprints[-1])
    if not found and segment.extended and not segment.has_bound:
        return  # it was only prepared: it is not a statement that has been run
    parent = traces.parent(found.decode())
    if parent is None:
        return
    address, stalled = server.pool.address, segment.stalled
    traces.add(
        Traced(
            parent=parent,
            ended=time.time(),
            total=now - segment.started + segment.waited,
            waited=segment.waited,
            served=max(now - max(server.began_at, segment.started) - stalled, 0.0),
            stalled=stalled,
            database=pool.database,
            user=pool.user,
            kind=fingerprints[-1].kind,
            form=_joined([fingerprint.text for fingerprint in fingerprints]),
            queryid=fingerprints[-1].identifier,
            host=address.host,
            port=address.port,
            server_pid=server.pid,
            server_database=address.database,
            shard=address.shard,
            role="primary" if server.pool.is_primary else "replica",
            reason="" if route is None else printable(route.reason),
            sqlstate=printable(segment.sqlstate.decode("latin-1"), 5),
        )
    )


def _parent_by_name(names: Names, segment: Segment, last: Fingerprint) -> bytes:
    """The `traceparent` with which one of a segment's statements was prepared; b"" without."""
    parents = names.parents
    if parents is None or not segment.has_bound:
        return b""
    for statement in _statements_of(segment.request):
        if statement in parents:
            return parents[statement]
    newest = next(reversed(parents), None)
    if not _statements_of(segment.request) and newest is not None:
        # It was prepared and described before it was bound, and so is not kept.
        return parents[newest] if newest.fingerprint is last else b""
    return b""


def _tell(client: Client, lease: Lease, segment: Segment, now: float) -> None:
    """A segment has been answered after a time that is to be logged."""
    server, pool = lease.server, lease.pool
    if server is None or segment.empty:
        return
    texts = texts_of(segment.request)
    fingerprints = _fingerprints(segment, texts, lease.engine.figures.queries)
    more = pool.slow.admit(now)
    if more is None:
        return
    stalled = segment.stalled
    served = max(now - max(server.began_at, segment.started) - stalled, 0.0)
    total = now - segment.started + segment.waited
    sqlstate = printable(segment.sqlstate.decode("latin-1"), 5)
    form = _joined([fingerprint.text for fingerprint in fingerprints])
    address = server.pool.address
    is_verbatim = pool.settings.log_statement_text and bool(texts)
    text = _joined([text.decode("utf-8", "replace") for text in texts]) if is_verbatim else ""
    log.info(
        "client %s: %.1f ms, waited %.1f, at the server %.1f, taken by the client in %.1f: "
        "%s/%s on %s, pid %d%s: %s%s",
        client.peer,
        total * 1e3,
        segment.waited * 1e3,
        served * 1e3,
        stalled * 1e3,
        pool.database,
        pool.user,
        address.label,
        server.pid,
        f", error {sqlstate}" if sqlstate else "",
        text or form,
        more,
        extra=client.fields(
            application_name=lease.settings.application_name,
            server=address.where,
            server_pid=server.pid,
            shard=address.shard,
            role="primary" if server.pool.is_primary else "replica",
            sqlstate=sqlstate,
            duration_ms=round(total * 1e3, 3),
            wait_ms=round(segment.waited * 1e3, 3),
            server_ms=round(served * 1e3, 3),
            stall_ms=round(stalled * 1e3, 3),
            queryid=fingerprints[-1].identifier,
            kind=fingerprints[-1].kind,
            query=form,
            text=text,
        ),
    )


def texts_of(request: object) -> list[bytes]:
    """The texts of the statements in what a client has sent, if that is known."""
    if isinstance(request, bytes):
        return [string_in(request, 0, len(request))]
    return list(dict.fromkeys(each.text for each in _statements_of(request)))[:_MOST]


def _statements_of(request: object) -> list[PreparedStatement]:
    """The statements of the extended protocol in what a client has sent, if that is known."""
    if isinstance(request, WholeBatch):
        return [request.statement]
    if not isinstance(request, list):
        return []
    operations: list[Operation] = request[: 4 * _MOST]
    return [each.statement for each in operations if each.statement is not None]


def _fingerprints(segment: Segment, texts: list[bytes], queries: Queries) -> list[Fingerprint]:
    """The forms of the statements of a segment, the one that was answered last at the end."""
    found = dict[str, Fingerprint]()
    for one in (*(segment.done or ()), segment.parsed, segment.fingerprint):
        if isinstance(one, Fingerprint):
            found.pop(one.identifier, None)
            found[one.identifier] = one
    if not found:  # they are not counted
        for text in texts:
            fingerprint = queries.fingerprint(text)
            found[fingerprint.identifier] = fingerprint
    return list(found.values())[-_MOST:] or [UNREAD]


def _joined(texts: list[str]) -> str:
    return printable("; ".join(text[:_LONGEST] for text in texts), _LONGEST)
