"""Statements that can be brought to all shards: what they are told where that cannot be now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import AmbiguousShard, ForEveryShard
from .refusals import CHOOSE, COPY, EVERY_SHARD

if TYPE_CHECKING:
    from .types import TableChange


class ChangeForAll(ForEveryShard):
    """A change of a table that every shard has, where it cannot be brought to all now.

    Attributes:
        change: what it changes.
    """

    def __init__(self, kind: str, change: TableChange) -> None:
        super().__init__(
            f'{kind} changes table "{change.table}", which is on every shard',
            kind=EVERY_SHARD,
            hint="By itself it is brought to all shards, outside of a transaction block or in "
            f"one that no statement has brought to a shard before. Or {CHOOSE}, and do the "
            "same on each of them.",
            in_turn=False,
            is_of_sharded=True,
        )
        self.change = change


class RowsForSeveral(ForEveryShard):
    """An INSERT of rows of several shards, where it cannot be split now."""

    def __init__(self, error: AmbiguousShard) -> None:
        super().__init__(
            error.message,
            kind=AmbiguousShard.default_kind,
            hint="By itself an INSERT ... VALUES is split by its rows, outside of a "
            "transaction block or in one that no statement has brought to a shard before. "
            "Or send one for each shard.",
            in_turn=False,
            is_of_sharded=True,
        )


class CopyForShards(ForEveryShard):
    """A COPY from the client that is one of several shards, where it cannot be that now."""

    def __init__(self, message: str, done: str, else_: str) -> None:
        """Say what it is, what is done with it by itself, and what to do else."""
        super().__init__(
            message,
            kind=COPY,
            hint=f"By itself COPY ... FROM STDIN is {done}, in the simple protocol, outside of "
            "a transaction block or in one that no statement has brought to a shard before. "
            f"Or {CHOOSE}, and {else_}.",
            in_turn=False,
            is_of_sharded=True,
        )


class CopyForSeveral(CopyForShards):
    """A COPY of a sharded table from the client, where it cannot be split by its keys now."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f'COPY concerns the sharded table "{table}", on every shard',
            "split by its keys",
            "send each of them its rows",
        )


class CopyForAll(CopyForShards):
    """A COPY from the client into a table that every shard has, where that cannot be now.

    Attributes:
        change: what it changes.
    """

    def __init__(self, change: TableChange) -> None:
        super().__init__(
            f'COPY changes table "{change.table}", which is on every shard',
            "brought to all shards",
            "do the same on each of them",
        )
        self.change = change
