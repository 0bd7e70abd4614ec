"""What SHOW LISTENERS tells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListenerSnapshot:
    """A row of SHOW LISTENERS: one channel.

    Attributes:
        listeners: clients that listen to it.
        received: notifications that have come for them.
        dropped: how often a client was not told of one.
        state: of the connection that listens: "listening", "connecting", "failed" or "paused".
        server: to which it leads; "" for none.
        pid: of its process there; 0 for none.
        reconnects: how often it was lost while somebody listened.
    """

    database: str
    user: str
    shard: int
    channel: str
    listeners: int
    received: int
    dropped: int
    state: str
    server: str
    pid: int
    reconnects: int
