"""Which of a host's addresses to try first: the one that has worked, those that failed last."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Addresses:
    """What is known of the addresses of one server's host.

    So an address that is dead costs time once, and not at each connect.
    """

    __slots__ = ("_failures", "_ranks")

    def __init__(self) -> None:
        # The lower the sooner; 0 if nothing is known.
        self._ranks: dict[str, int] = {}
        self._failures = 0

    def order(self, found: Sequence[str]) -> list[str]:
        """Those that the resolver has returned, the most promising first."""
        return sorted(found, key=lambda address: self._ranks.get(address, 0))

    def worked(self, address: str) -> None:
        """Somebody has logged in there. What has failed before may be well again."""
        self._ranks = {address: -1}

    def failed(self, address: str) -> None:
        """It was connected to, and then did not do; whoever failed last is tried last."""
        self._failures += 1
        self._ranks[address] = self._failures
