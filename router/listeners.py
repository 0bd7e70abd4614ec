"""What SHOW LISTENERS and the metrics of it tell."""

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


@dataclass(frozen=True, slots=True)
class HubSnapshot:
    """All channels of one shard of a pool together, for the metrics: channels come and go.

    Attributes:
        channels: those that somebody listens to.
        listeners: for each channel the clients that listen to it, in all.
        received: notifications that have come for somebody, since the pool began.
        dropped: how often a client was not told of one.
        is_up: whether there is a connection that listens.
        reconnects: how often it was lost while somebody listened.
    """

    database: str
    user: str
    shard: int
    channels: int
    listeners: int
    received: int
    dropped: int
    is_up: bool
    reconnects: int
