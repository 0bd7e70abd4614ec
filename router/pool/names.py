"""Names of hosts that come to stand for other addresses: old connections are let go.

Each new connection looks its host up anyway. With `dns_cache_enabled` the names of all servers
are also looked up every `dns_max_ttl`, and connections to addresses that were in none of the
last two answers serve nobody any more: some name servers tell only a part each time.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from ..printable import printable
from ..reasons import reason
from ..records import fields
from . import upkeep

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ..engine.loop import Engine
    from .health import Healths

    LookUp = Callable[[str], Awaitable[frozenset[str] | None]]

log = logging.getLogger("router.pool")

# How often to see whether it is wanted, in seconds.
_PAUSE: Final = 1.0


async def look_up(host: str) -> frozenset[str] | None:
    """The addresses of a host; None if nobody knows now."""
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        name = printable(host)
        log.warning("%s cannot be looked up: %s", name, why, extra=fields(host=name))
        return None
    return frozenset(str(address[0]) for *_, address in found) or None


async def watch(
    engine: Engine,
    healths: Healths,
    interval: Callable[[], float | None],
    look_up: LookUp = look_up,
) -> None:
    """Look names up for ever, every `interval` seconds; not while that is None."""
    before: dict[str, frozenset[str]] = {}
    while True:
        seconds = interval()
        await trio.sleep(_PAUSE if seconds is None else max(seconds, _PAUSE))
        if seconds is None:
            before.clear()
            continue
        for host in sorted({health.host for health in healths if is_name(health.host)}):
            now = await look_up(host)
            if now is None:
                continue
            if host in before:
                engine.attempt(partial(_end_old, healths, host, before[host] | now))
            before[host] = now


def is_name(host: str) -> bool:
    """Whether a host has to be looked up."""
    if not host or host.startswith("/"):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return True
    return False


def _end_old(healths: Healths, host: str, addresses: frozenset[str]) -> None:
    count = sum(
        upkeep.let_go(part, lambda ip: ip not in addresses)
        for health in healths
        if health.host == host
        for part in health.parts
    )
    if count:
        log.info(
            "%s has other addresses now, %s: %d connections to the old ones end",
            printable(host),
            ", ".join(sorted(addresses)),
            count,
            extra=fields(host=printable(host)),
        )
