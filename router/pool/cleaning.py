"""Making a server connection fit for its next client, step by step, or giving it up.

Each step is a statement of the router's own, whose answer comes back here through
`AddressPool.settled`: first the late cancel requests are waited for, then a transaction that is
open is rolled back, then a barrier takes the blow of a cancel that may still be on its way, and
what the client may have left behind is removed. Last, if the client has changed the schema, the
catalogue is read.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from ..protocol import codes, marks
from .states import ServerState

if TYPE_CHECKING:
    from .address_pool import AddressPool
    from .server import ServerConnection

log = logging.getLogger("router.pool")

# How long a clean-up may take, in seconds.
_TIMEOUT: Final = 10.0
# After how many seconds an abandoned connection that is still at work is cancelled again.
_CANCEL_AGAIN: Final = 1.0


def clean(pool: AddressPool, server: ServerConnection) -> None:
    """Take the next step; a connection that is clean is given on."""
    server.tell_changes()
    if server.doomed or server.queue:
        server.close()
        return
    if server.state is not ServerState.TESTED:
        pool.move(server, ServerState.TESTED)
    if server.cancels:
        return  # `AddressPool.cancel_done` comes back here
    if server.status != codes.IDLE:
        server.send_query(b"ROLLBACK")
        return
    if server.needs_barrier:
        server.needs_barrier = server.is_cancelled = False
        server.send_query(b"")
        return
    found, server.marks = server.marks, 0
    server.may_reset_all = False
    if found & marks.HIDDEN and pool.settings.cleanup_server_connections:
        server.close()  # no command takes that away
        return
    if found and pool.settings.cleanup_server_connections:
        if marks.drops_statements(found):
            server.forget_statements()
        if found & (marks.SET | marks.UNKNOWN):
            server.forget_variables()
        server.send_query(marks.cleanup(found))
        return
    is_due, server.catalogue_changed = server.catalogue_changed, False
    if is_due and pool.catalogue is not None:
        pool.catalogue.ask(server)
    else:
        pool.give_on(server)


def hurry(pool: AddressPool, server: ServerConnection, now: float) -> None:
    """See that the clean-up of a connection comes to an end."""
    lasted = now - server.used_at
    if lasted > _TIMEOUT:
        more = server.fields()
        log.warning("%r: the clean-up took too long, closing it", server, extra=more)
        server.close()
    elif (
        lasted > _CANCEL_AGAIN
        and server.queue
        and server.queue[0].orphaned
        and not server.cancels
    ):
        pool.cancel(server)  # the last one came before what it was meant for
