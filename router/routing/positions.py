"""Positions in the write-ahead log that reads need, and the tokens that they travel in.

A token names for each shard the timeline and the position that a client's reads must have
seen: ``0:1:0/16B3748,2:1:0/3000060``. ``1:unknown`` stands for a write of which nobody knows
where it is in the log: only the primary is sure to have it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the log: bytes from its beginning, of the history that a timeline ends.

    The timeline 0 stands for a position that is not known.
    """

    timeline: int
    offset: int

    @property
    def lsn(self) -> str:
        """As PostgreSQL writes it."""
        return f"{self.offset >> 32:X}/{self.offset & 0xFFFFFFFF:X}"

    def __str__(self) -> str:
        return f"{self.timeline}:{self.lsn}" if self.timeline else "unknown"


Positions = dict[int, Position]
"""What reads need, by shard."""

UNKNOWN: Final = Position(0, 0)

_ENTRY: Final = re.compile(
    r"(?P<shard>[0-9]{1,9}):"
    r"(?:(?P<timeline>[1-9][0-9]{0,9}):(?P<high>[0-9A-Fa-f]{1,8})/(?P<low>[0-9A-Fa-f]{1,8})"
    r"|unknown)"
)
_SHOWN: Final = 40


def token_of(positions: Mapping[int, Position]) -> str:
    """The token for positions; "" if there are none."""
    return ",".join(f"{shard}:{positions[shard]}" for shard in sorted(positions))


def positions_of(token: str, shards: int | None = None) -> Positions:
    """The positions in a token.

    Args:
        token: what `token_of` has returned; "" is none.
        shards: how many there are, if that is known.

    Raises:
        RoutingError: it is none, or of another pool (22023).
    """
    found: Positions = {}
    for entry in token.split(",") if token else ():
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise _bad(entry)
        shard = int(match["shard"])
        if shards is not None and shard >= shards:
            raise RoutingError(
                f"the read position is of another pool: it names shard {shard}, and there "
                f"are {shards}",
                sqlstate="22023",
                hint="Give back what SHOW READ POSITION has told for this pool.",
            )
        if match["timeline"] is None:
            position = UNKNOWN
        else:
            offset = int(match["high"], 16) << 32 | int(match["low"], 16)
            position = Position(int(match["timeline"]), offset)
        found[shard] = both(found.get(shard), position)
    return found


def both(one: Position | None, other: Position) -> Position:
    """The position that suffices for both."""
    if one is None:
        return other
    if not one.timeline or not other.timeline:
        return UNKNOWN
    return max(one, other, key=_order)


def after_write(before: Position | None, written: Position) -> Position:
    """What is needed after a write at a position, where one before was needed.

    The later position in a log has all that comes before it, be that known or not.
    """
    if before is None or not before.timeline or not written.timeline:
        return written
    return max(before, written, key=_order)


def _order(position: Position) -> tuple[int, int]:
    return position.timeline, position.offset


def _bad(entry: str) -> RoutingError:
    shown = entry if len(entry) <= _SHOWN else f"{entry[:_SHOWN]}..."
    return RoutingError(
        f'invalid read position: "{shown}"',
        sqlstate="22023",
        hint="It is SHARD:TIMELINE:LSN, as 0:1:0/16B3748, for each shard, with commas between: "
        "what SHOW READ POSITION tells.",
    )
