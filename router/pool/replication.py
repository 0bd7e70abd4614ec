"""A connection to a server for replication: what is said on it is between it and its client."""

from __future__ import annotations

from ..errors import ServerLost
from .server import ServerConnection


class ReplicationConnection(ServerConnection):
    """A connection whose bytes nobody reads on the way, and that has one client only."""

    def on_data(self, data: bytes) -> None:
        """Pass on what the server sends."""
        self.pool.counters.received += len(data)
        client = self.client
        if client is None:
            self.close()
            return
        client.reply(data)
        if client.congested and self.link is not None:
            self.link.pause()

    def on_closed(self, reason: str) -> None:
        """The server or the network ended the connection; its words have been passed on."""
        self.fail(
            ServerLost(f"server connection to {self.pool.address.label} was lost: {reason}")
        )
