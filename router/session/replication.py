"""Replication connections: from its login on a client speaks with a server of its own.

The session is one of session mode whose start-up parameters nobody else has: so it waits for
its server in the queue of the pool, counts as all others do, and is shown with them. From then
on what either side sends is passed on as it comes, CopyBoth and all, and nobody looks at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..errors import ClientError, RouterError
from ..protocol import messages
from ..routing.types import Role, Route
from .session import Session

if TYPE_CHECKING:
    from ..pool.contracts import Loss
    from ..pool.pool import Pool
    from ..pool.server import ServerConnection

# What the boolean values of PostgreSQL begin with, and may be cut to.
_TRUE: Final = ("true", "yes")
_FALSE: Final = ("false", "no")


def replication_in(value: str | None) -> str:
    """What a start-up parameter `replication` asks for: "" for nothing, "true" or "database".

    Raises:
        ClientError: 22023, as PostgreSQL, for any other value.
    """
    if value is None:
        return ""
    if value == "database":
        return value
    word = value.lower()
    if word in ("on", "1") or (word and any(full.startswith(word) for full in _TRUE)):
        return "true"
    if word in ("of", "off", "0") or (word and any(full.startswith(word) for full in _FALSE)):
        return ""
    raise ClientError(
        f'invalid value for parameter "replication": "{value}"',
        sqlstate="22023",
        hint='Valid values are: "false", 0, "true", 1, "database".',
    )


def refuse() -> ClientError:
    """What a client is told that asks for replication where that is not to be had."""
    return ClientError(
        "replication connections are not supported",
        sqlstate="0A000",
        hint='Connect to the server directly, or by a pool with pool_mode = "session" '
        "and one shard.",
    )


def check(pool: Pool) -> None:
    """See whether a pool takes replication connections.

    Raises:
        ClientError: it does not.
    """
    if not pool.is_session_mode or len(pool.shards) > 1:
        raise refuse()


class ReplicationSession(Session):
    """The session of one client that replicates."""

    __slots__ = ("_early", "_is_leaving")

    _early: bytes
    _is_leaving: bool

    def prepare(self) -> None:
        """Have it go to the primary; a client that replicates may be silent for long."""
        self._early, self._is_leaving = b"", False
        if self._client_watch is not None:
            self._client_watch.stop()
        parts = self.lease.pool.address_pools()
        has_primary = any(part.is_primary or part.address.is_auto for part in parts)
        role = Role.PRIMARY if has_primary else None
        self.entrance.route = Route(role, 0, "replication")

    # --- from the client's link

    def on_data(self, data: bytes) -> None:
        """Pass on what the client sends, once there is somebody to send it to."""
        server, link = self.lease.server, self.client.link
        if server is None or self.entrance.is_shut:
            self._early += data
            if link is not None:
                link.pause()
            return
        self._is_leaving = data.endswith(messages.TERMINATE)
        server.send(data)
        if server.congested and link is not None:
            link.pause()

    def _resume(self) -> None:
        """The server is there, or takes more."""
        early, self._early = self._early, b""
        if early:
            self.on_data(early)
        server, link = self.lease.server, self.client.link
        if link is not None and server is not None and not server.congested:
            link.resume()

    # --- from the pool and the server

    def ask_anew(self) -> None:
        """The pool in whose queue it waited is gone."""
        self.lease.give_place_up()
        self.expel()

    def server_lost(self, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
        """The server is gone; whatever it has said has been passed on."""
        if self._is_leaving:
            self.lease.lose()
            self._leave("client terminated", polite=True)
        else:
            super().server_lost(error, loss, can_tell=False)

    # --- cancel and drain

    def cancel(self) -> None:
        """The client asks, on another connection, to stop what it is doing."""
        server: ServerConnection | None = self.lease.server
        if server is None:
            self.lease.cancel()
        else:
            server.pool.cancel(server)

    def drain(self) -> None:
        """The router is going away, and replication has no end to wait for."""
        self.lease.draining = True
        self.expel()
