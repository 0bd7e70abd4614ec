"""Calls to clients by code that serves others as well: one that fails ends its client alone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from ..errors import ServerLost

if TYPE_CHECKING:
    from ..errors import RouterError
    from ..protocol.segments import Segment
    from .contracts import Loss, PoolClient
    from .server import ServerConnection

log = logging.getLogger("router.pool")


def hand(client: PoolClient, server: ServerConnection) -> bool:
    """Give a client the connection that it waits for; False if it does not want it any more."""
    try:
        return client.take_server(server)
    except Exception:
        close(server, client)  # nobody knows what it was about to be sent
        give_up(client)
        return True


def lets_in(client: PoolClient, server: ServerConnection) -> bool:
    """Ask a client that has a connection alone whether others may use it as well."""
    try:
        return client.sharer is not None and client.sharer.lets_in(server)
    except Exception:
        give_up(client)
        return False


def send_elsewhere(client: PoolClient, segment: Segment) -> None:
    """Tell a client that what it has sent runs for nobody, and is to be sent once more."""
    try:
        if client.sharer is not None:
            client.sharer.send_elsewhere(segment)
    except Exception:
        give_up(client)


def disappoint(client: PoolClient, error: RouterError) -> None:
    """Tell a client that waits that there will be no connection."""
    try:
        client.checkout_failed(error)
    except Exception:
        give_up(client)


def have_ask_anew(client: PoolClient) -> None:
    """Tell a client that waits that its place is gone."""
    try:
        client.ask_anew()
    except Exception:
        give_up(client)


def lose(client: PoolClient, error: RouterError, loss: Loss, *, can_tell: bool) -> None:
    """Tell a client that its connection to a server is gone."""
    try:
        client.server_lost(error, loss, can_tell=can_tell)
    except Exception:
        give_up(client)


def expel(client: PoolClient, error: RouterError | None = None) -> None:
    """Send a client away, by default for a shutdown."""
    try:
        client.expel(error)
    except Exception:
        log.exception("internal error, %r does not leave", client)


def close(server: ServerConnection, client: PoolClient) -> None:
    """Give a connection up that a client has or shares whose code has failed."""
    server.orphan(client)
    server.client = None
    server.fail(ServerLost(f"server connection to {server.pool.address.label} was given up"))


def give_up(client: PoolClient) -> None:
    """Called where something that a client must not raise has just been caught."""
    log.exception("internal error, ending %r", client)
    try:
        client.give_up()
    except Exception:
        log.exception("internal error, %r does not leave", client)
