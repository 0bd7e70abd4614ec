"""What a server tells of itself when it is checked: primary or standby, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .query import Row

# One row. Positions in the WAL are bytes; a standby's is what it has replayed, and the last
# column how old its last transaction is. A primary's timeline is the first part of the name of
# the file that it writes: that of pg_control is old until the first checkpoint.
QUESTION: Final = """\
SELECT r.r,
 CASE WHEN r.r THEN NULL ELSE pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()) END,
 pg_catalog.pg_wal_lsn_diff(CASE WHEN r.r THEN pg_catalog.pg_last_wal_replay_lsn()
 ELSE pg_catalog.pg_current_wal_lsn() END, '0/0'),
 EXTRACT(epoch FROM pg_catalog.clock_timestamp()
 - pg_catalog.pg_last_xact_replay_timestamp())
 FROM pg_catalog.pg_is_in_recovery() AS r(r)"""


@dataclass(frozen=True, slots=True)
class Facts:
    """The answer.

    Attributes:
        is_standby: it is in recovery and takes no writes.
        timeline: of a primary; each promotion begins a higher one. 0 for a standby.
        position: in the WAL, in bytes; what a standby has replayed.
        age: of the last transaction that a standby has replayed, in seconds, or None.
    """

    is_standby: bool
    timeline: int
    position: int
    age: float | None

    @property
    def role(self) -> str:
        """What it is, in words."""
        return "standby" if self.is_standby else f"primary on timeline {self.timeline}"


def facts_of(rows: tuple[Row, ...]) -> Facts | None:
    """Read the answer to QUESTION; None if it is none."""
    try:
        [(standby, file, position, age)] = rows
        if standby not in ("t", "f"):
            return None
        return Facts(
            is_standby=standby == "t",
            timeline=0 if file is None else int(file[:8], 16),
            position=0 if position is None else int(position),
            age=None if age is None else max(float(age), 0.0),
        )
    except ValueError:
        return None
