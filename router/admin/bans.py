"""BAN, UNBAN and SHOW BANS: what they are given, and what they answer."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from .show import int4, text
from .statements import keyword, name

if TYPE_CHECKING:
    from ..snapshots import BanSnapshot
    from .show import Column
    from .statements import Words

BAN_USAGE: Final = "BAN host[:port] seconds|FOREVER"
UNBAN_USAGE: Final = "UNBAN host[:port]"

_LONGEST: Final = 2**31 - 1
_FOREVER: Final = "FOREVER"

# What BAN and UNBAN answer, and the first columns of SHOW BANS, are PgCat's.
ADDRESSES: Final[tuple[Column[BanSnapshot], ...]] = (
    text("db", lambda ban: ban.pool),
    text("user", lambda ban: ban.user),
    text("role", lambda ban: ban.role),
    text("host", lambda ban: ban.host),
)

BANS: Final[tuple[Column[BanSnapshot], ...]] = (
    *ADDRESSES,
    text("reason", lambda ban: ban.reason),
    text("ban_time", lambda ban: _time(ban.since)),
    text("ban_duration_seconds", lambda ban: _seconds(ban.duration)),
    text("ban_remaining_seconds", lambda ban: _seconds(ban.remaining)),
    int4("port", lambda ban: ban.port),
    text("kind", lambda ban: ban.kind),
    text("ban_until", lambda ban: _time(ban.since + ban.duration)),
)


def _time(moment: float) -> str:
    if moment == math.inf:
        return "infinity"
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _seconds(seconds: float) -> str:
    # The difference of two times may be longer by a little that nobody has asked for.
    return "infinity" if seconds == math.inf else str(math.ceil(round(seconds, 3)))


def is_ban(arguments: Words) -> bool:
    """Whether it is a server and for how long."""
    return len(arguments) == 2 and is_server(arguments[:1]) and _duration(arguments[1]) > 0


def is_server(arguments: Words) -> bool:
    """Whether it is one server."""
    return len(arguments) == 1 and bool(name(arguments[0]))


def server(arguments: Words) -> str:
    """The server."""
    return name(arguments[0]) or ""


def duration(arguments: Words) -> float:
    """For how long it is to be banned, in seconds."""
    return _duration(arguments[1])


def _duration(word: str) -> float:
    """So many seconds; 0 if the word says nothing sensible."""
    if keyword(word) == _FOREVER:
        return math.inf
    if not (word.isascii() and word.isdecimal()) or len(word) > len(str(_LONGEST)):
        return 0
    seconds = int(word)
    return seconds if seconds <= _LONGEST else 0
