"""What is known of transactions on several shards, as snapshots."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TwoPhaseSnapshot:
    """A row of SHOW TWO_PHASE: a prepared transaction that was left.

    Attributes:
        gid: its name.
        age_seconds: how long ago it was prepared.
        state: why it is still there.
    """

    pool: str
    user: str
    shard: int
    gid: str
    age_seconds: int
    state: str
