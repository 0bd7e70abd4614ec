"""What becomes of what a client has left at its server, once the server has told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..pool.leftovers import LISTEN
from ..protocol import marks, messages
from ..protocol.variables import Variables

if TYPE_CHECKING:
    from ..pool.leftovers import Leftovers
    from ..pool.server import ServerConnection
    from .lease import Lease


def told(lease: Lease, server: ServerConnection, found: Leftovers | None) -> bool:
    """The server has told what the client has left there.

    Settings are the client's from here on, wherever it goes, and channels are heard by a
    connection for all, if that may be. Anything else keeps it here, unless too many are kept
    already. Whoever calls this settles with the server then.

    Returns:
        Whether what decides about the meaning of texts has changed.
    """
    if found is None:
        return False  # the marks are there still: all of it is removed
    is_other = found.settings is not None and lease.settings.found(found.settings)
    server.marks |= found.marks
    if not server.queue:
        lease.settings.take_resets()
        server.marks &= found.marks | ~marks.ASKED
    # Else the marks may be those of what the client has sent behind the question.
    reasons, new = found.reasons, frozenset[bytes]()
    if lease.listening is not None and found.channels is not None:
        new = lease.listening.settle(server, found.channels)
        if not new or _can_pass_on(lease, server, reasons, new):
            reasons = tuple(reason for reason in reasons if reason != LISTEN)
    if reasons:
        lease.pins.keep(server, lease.pool.features, reasons, lease.engine.now)
    else:
        lease.unpin(server)
        if new:
            _pass_on(lease, server, new)
    return is_other


def settle(lease: Lease, server: ServerConnection, found: Leftovers | None) -> bool:
    """Give the server back after that, if nothing keeps it; returns whether it is."""
    if lease.asks:
        return False
    if lease.causality is not None and lease.causality.has_told:
        lease.causality.has_told = False
        return lease.release(server)  # which asks what the client has left
    if server.queue or lease.give_back(server):
        return lease.server is None
    if lease.pins.pin is not None and found is not None and found.settings is not None:
        # It has what it has told; what has been reset is to be as it was at the start.
        server.variables = Variables.of(found.settings)
        lease.awaits_settings = server.apply(lease.settings.variables)
    return False


def _can_pass_on(
    lease: Lease, server: ServerConnection, reasons: tuple[str, ...], names: frozenset[bytes]
) -> bool:
    """Whether the connection for all can hear what the client listens to there."""
    listening, encoding = lease.listening, lease.settings.told("client_encoding", lease.pool)
    return (
        listening is not None
        and lease.pool.is_listening
        and reasons == (LISTEN,)
        and not server.queue
        and listening.may_take(server, names, encoding or "")
    )


def _pass_on(lease: Lease, server: ServerConnection, names: frozenset[bytes]) -> None:
    """Have it hear them; the client's next statement waits for that."""
    lease.asks = True

    def done(is_passed: bool) -> None:
        if lease.server is not server:
            server.pool.settled(server)
            return
        lease.asks = False
        options = lease.pool.settings.routing
        is_drawn = options.shard_count > 1 and options.default_shard.startswith("random")
        if is_passed and is_drawn:
            shard = server.pool.address.shard
            detail = "Choose the shard with SET SHARD before you LISTEN and NOTIFY."
            lease.holder.reply(
                messages.notice_response(f"you listen on shard {shard} only", detail=detail)
            )
        if not is_passed:
            lease.pins.keep(server, lease.pool.features, (LISTEN,), lease.engine.now)
        lease.holder.leftovers_told(server, None)

    assert lease.listening is not None
    lease.listening.take_over(server, names, done)
