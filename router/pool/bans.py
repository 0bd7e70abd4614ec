"""Servers that are left out for a while because they did not answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .address import Address


@dataclass(frozen=True, slots=True)
class Ban:
    """Why and until when an address is left out; times are those of time.monotonic()."""

    reason: str
    since: float
    until: float


class Bans:
    """The bans of one pool. Primaries are never banned: there is nobody to take their place."""

    def __init__(self) -> None:
        self._bans: dict[Address, Ban] = {}

    def __len__(self) -> int:
        return len(self._bans)

    def ban(self, address: Address, reason: str, now: float, duration: float) -> bool:
        """Leave a replica out for `duration` seconds; returns whether that is news."""
        if address.is_primary or duration <= 0:
            return False
        news = not self.is_banned(address, now)
        self._bans[address] = Ban(reason, now, now + duration)
        return news

    def is_banned(self, address: Address, now: float) -> bool:
        """Whether to leave the address out; a ban that is over is forgotten here."""
        ban = self._bans.get(address)
        if ban is None:
            return False
        if now < ban.until:
            return True
        del self._bans[address]
        return False

    def lift(self, address: Address) -> bool:
        """End a ban early; returns whether there was one."""
        return self._bans.pop(address, None) is not None
