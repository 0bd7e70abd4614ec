"""The addresses of a host that has several: which to try first, and which do not do.

What has failed comes last until somebody has logged in there, which checks try again and again.
So an address that is dead costs time once, and not at each connect.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    # Bytes received on each connection, by its serial.
    Heard = Mapping[int, int]

# More that have failed are not remembered of a host that no longer has them.
_MOST_FAILED = 64


class Addresses:
    """What is known of the addresses of one server's host.

    Attributes:
        found: those that the resolver has told last, in its order.
        is_stale: the resolver has not answered since; the log says so.
        heard: of one that has not answered a check, what had been received there before.
        reported: those of which the log says that they have failed.
    """

    __slots__ = (
        "_best",
        "_failures",
        "_ranks",
        "_turn",
        "_turns",
        "found",
        "heard",
        "is_stale",
        "reported",
    )

    def __init__(self) -> None:
        self.found: tuple[str, ...] = ()
        self.is_stale = False
        self.heard: dict[str, Heard] = {}
        self.reported: set[str] = set()
        self._best = ""
        # The higher the later it has failed.
        self._ranks: dict[str, int] = {}
        self._failures = 0
        # The higher the later it was the first to be tried.
        self._turns: dict[str, int] = {}
        self._turn = 0

    @property
    def failed_ones(self) -> list[str]:
        """Those that the host has, and that are tried last."""
        return [address for address in self.found if address in self._ranks]

    @property
    def has_hope(self) -> bool:
        """Whether another one may do where one has not."""
        return len(self.failed_ones) < len(self.found)

    def note(self, found: Sequence[str]) -> None:
        """The resolver has told of these."""
        self.found = tuple(found)
        self.is_stale = False
        self._turns = {address: self._turns.get(address, 0) for address in found}
        self.reported.intersection_update(found)
        self.heard = {one: heard for one, heard in self.heard.items() if one in found}
        if len(self._ranks) > _MOST_FAILED:
            self._ranks = {one: rank for one, rank in self._ranks.items() if one in found}

    def pick(self, among: Sequence[str], loads: Mapping[str, int] | None = None) -> str:
        """The one to try first among some that have been noted.

        Without `loads` that is the one that has worked last. With them, which are the numbers
        of connections to each, the one with the fewest, in turn: so all get their share.
        """
        ranks, turns = self._ranks, self._turns
        if loads is None:
            return min(among, key=lambda one: (ranks.get(one, 0), one != self._best))
        chosen = min(
            among, key=lambda one: (ranks.get(one, 0), loads.get(one, 0), turns.get(one, 0))
        )
        self._turn += 1
        turns[chosen] = self._turn
        return chosen

    def worked(self, address: str) -> None:
        """Somebody has logged in there."""
        self._best = address
        self._ranks.pop(address, None)
        self.heard.pop(address, None)

    def failed(self, address: str) -> bool:
        """It was connected to, and then did not do; returns whether that is news."""
        is_news = address not in self._ranks
        self._failures += 1
        self._ranks[address] = self._failures
        return is_news
