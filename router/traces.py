"""Statements whose clients are traced: what is noted of them until it is sent to a collector.

A client says so by the `traceparent` of W3C Trace Context, in the comment that sqlcommenter
puts behind a statement. Where there is one its flag decides whether the statement is noted, and
of the others a share is, by lot.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from typing import Final

_SAMPLED: Final = 1
_ANY_VERSION_BUT: Final = "ff"
# So many statements wait to be sent, at most.
MOST: Final = 2048


@dataclass(frozen=True, slots=True)
class Parent:
    """The span of the client's that a statement belongs to, by hexadecimal numbers.

    Without one of the client's the statement begins a trace, and `span` is "".
    """

    trace: str
    span: str


@dataclass(frozen=True, slots=True)
class Traced:
    """A statement that has been answered.

    Attributes:
        ended: when, in seconds since the epoch.
        total, waited, served, stalled: how long it took in all, waited for a server, was at
            the server, and was not taken by its client, in seconds.
        kind, form: the first word, and the text without literals.
        shard, role, reason: where it went, and why.
        sqlstate: of its error; "" without.
    """

    parent: Parent
    ended: float
    total: float
    waited: float
    served: float
    stalled: float
    database: str
    user: str
    kind: str
    form: str
    queryid: str
    host: str
    port: int
    server_pid: int
    server_database: str
    shard: int
    role: str
    reason: str
    sqlstate: str


@dataclass(frozen=True, slots=True)
class TracesSnapshot:
    """What has become of traced statements: sent, lost on the way, or never tried."""

    sent: int
    failed: int
    dropped: int


class Traces:
    """Those that have not been sent yet; when there are too many the newest are dropped.

    Attributes:
        ratio: the share of statements that are traced though their clients say nothing.
        sent: statements that a collector has taken.
        failed: those that it has not.
        dropped: those that there was no room for.
    """

    def __init__(self) -> None:
        self._waiting: deque[Traced] = deque()
        self.sent = self.failed = self.dropped = 0
        self.ratio = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    def parent(self, trace_parent: str) -> Parent | None:
        """What a statement belongs to by its `traceparent`, "" without; None: not traced."""
        if trace_parent:
            return parent_of(trace_parent)
        if random.random() >= self.ratio:
            return None
        return Parent(f"{random.getrandbits(128) or 1:032x}", "")

    def add(self, traced: Traced) -> None:
        """Note one."""
        if len(self._waiting) >= MOST:
            self.dropped += 1
        else:
            self._waiting.append(traced)

    def take(self, most: int) -> list[Traced]:
        """The oldest, as many as that, which are to be sent now."""
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]

    def snapshot(self) -> TracesSnapshot:
        """The counts."""
        return TracesSnapshot(self.sent, self.failed, self.dropped)


def parent_of(trace_parent: str) -> Parent | None:
    """What a `traceparent` names, if that is sampled; None if it is not, or is none."""
    version, _, rest = trace_parent.partition("-")
    trace, _, rest = rest.partition("-")
    span, _, flags = rest.partition("-")
    if version == _ANY_VERSION_BUT or not flags or not int(flags, 16) & _SAMPLED:
        return None
    if not int(trace, 16) or not int(span, 16):
        return None
    return Parent(trace, span)
