"""Finds peers that have gone without a word while something was on its way to them.

TCP's keepalive probes go to peers that owe nothing. Where data is unacknowledged the kernel
retransmits for a quarter of an hour before it gives up, and TCP_USER_TIMEOUT, which would make
that shorter, also ends connections to peers that are well and merely do not read: it counts the
time in which the receive window is closed. The difference is known, since a peer that is alive
answers each probe of its window. So the kernel is asked what it has heard.
"""

from __future__ import annotations

import logging
import socket
import struct
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from .link import Link

if TYPE_CHECKING:
    from collections.abc import Callable

    from .loop import Engine
    from .wire import KeepAlive

log = logging.getLogger("router.engine")

# Of struct tcp_info: tcpi_retransmits, tcpi_probes (those without an answer), tcpi_rto in
# microseconds, tcpi_last_data_recv and tcpi_last_ack_recv in milliseconds.
_INFO: Final = struct.Struct("=2x2B4xI40x2I")

# Fewer unanswered packets may just have been lost.
_ENOUGH: Final = 3
# Retransmissions go on into a window that the peer has closed behind them, twice as far apart
# each time. If it lives, the silence is no longer than the time between two of them.
_OVERDUE: Final = 1.5

# So many looks for the time that a peer may be silent; so many links without a pause.
_LOOKS: Final = 6
_SLICE: Final = 200


async def watch(engine: Engine, keepalive: Callable[[], KeepAlive]) -> None:
    """Look for ever; a peer has as much time as it has to answer keepalive probes."""
    while True:
        settings = keepalive()
        limit = float(settings.idle + settings.interval * settings.count)
        await trio.sleep(limit / _LOOKS)
        await look(engine, limit)


async def look(engine: Engine, limit: float) -> None:
    """Look at all links once, and give up those whose peer is silent for too long."""
    for number, link in enumerate(engine.links()):
        if number % _SLICE == _SLICE - 1:
            await trio.lowlevel.checkpoint()
        if not isinstance(link, Link) or link.closed:
            continue
        silence = _silence(link.sock)
        if silence >= limit:
            reason = f"nothing has come from the peer for {silence:.0f} s, it counts as dead"
            log.warning("%s: %s", _peer(link.sock), reason)
            # Where an error in what the link's owner does about it harms nobody else.
            engine.call_later(0.0, partial(link.abort, reason))


def _silence(sock: socket.socket) -> float:
    """For how long the peer has not said what it has been asked for; 0 if it owes nothing."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return 0.0  # a Unix socket: the kernel knows when its peer is gone
    retransmits, probes, interval, data, acknowledgement = _INFO.unpack(info)
    silence: float = min(data, acknowledgement) / 1000
    is_overdue = retransmits >= _ENOUGH and silence >= interval / 1e6 * _OVERDUE
    return silence if is_overdue or probes >= _ENOUGH else 0.0


def _peer(sock: socket.socket) -> str:
    try:
        host, port, *_ = sock.getpeername()
    except OSError:
        return "a peer"
    return f"{host}:{port}"
