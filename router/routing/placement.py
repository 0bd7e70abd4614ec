"""Which shard a statement goes to, and the rule that gives it."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from ..errors import AmbiguousShard, ForEveryShard, InvalidShard
from .decisions import UNBOUND, default_shard, shard_of_keys
from .for_all import RowsForSeveral
from .obstacles import obstacle_of_text
from .sharding import Sharder

if TYPE_CHECKING:
    from collections.abc import Collection

    from .columns import ShardedTables
    from .decisions import Parameters
    from .state import RoutingState
    from .types import Analysis, RouterOptions

STATEMENT_RULES: Final = ("shard_id_regex", "sharding_key_regex", "automatic_sharding_key")
"""The rules by which a statement itself names its shard."""
CHOSEN: Final = ("SET SHARD", "shard_id_regex", "sharding_key_regex")
"""The rules by which a client chooses a shard, whatever the statement is."""


class Placement:
    """Finds the shards of the statements of one pool.

    Attributes:
        sharder: reads sharding keys and finds their shards.
        default: the number of default_shard; None if one is to be drawn each time.
        is_sticky: whether a key makes its shard the client's.
        refuses: whether what has no single shard is refused.
    """

    __slots__ = ("_cautious", "_count", "default", "is_sticky", "refuses", "sharder")

    def __init__(self, options: RouterOptions) -> None:
        """Take in the options about sharding.

        Raises:
            ConfigError: one of them cannot be used.
        """
        self.sharder: Final = Sharder(options)
        self._cautious: Final = Sharder(options, is_cautious=True)
        self.default: Final = default_shard(options)
        self._count: Final = options.shard_count
        self.is_sticky: Final = (
            options.sharding_key_policy == "sticky" and options.shard_count > 1
        )
        self.refuses: Final = (
            options.refuses_without_key
            and options.query_parser_enabled
            and options.shard_count > 1
            and bool(options.automatic_sharding_key)
            and not self.is_sticky
        )

    def shard(
        self,
        analysis: Analysis,
        state: RoutingState,
        parameters: Parameters = UNBOUND,
    ) -> tuple[int | None, str]:
        """Find the shard of a statement, and the rule that gave it.

        Raises:
            RoutingError: there is none.
        """
        if analysis.comment_error is not None:
            # One exception is raised many times: it must not collect tracebacks.
            raise analysis.comment_error.with_traceback(None)
        if self._count == 1:
            return 0, "single shard"
        if analysis.comment_shard is not None:
            return self._checked(analysis.comment_shard), "shard_id_regex"
        if analysis.comment_key is not None:
            return self._sharder(state).shard(analysis.comment_key), "sharding_key_regex"
        if analysis.error is not None and (state.shard is None or state.is_stuck):
            if self.refuses and isinstance(analysis.obstacle, ForEveryShard):
                raise analysis.obstacle.with_traceback(None)
            raise analysis.error.with_traceback(None)
        if state.shard is not None:
            rule = "sharding_key_policy" if state.is_stuck else "SET SHARD"
            return self._checked(state.shard), rule
        if analysis.keys and not self.is_sticky:
            found = self._of_keys(analysis, state, parameters)
            if found is not None and not (self.refuses and analysis.obstacle is not None):
                return found, "automatic_sharding_key"
        elif analysis.is_everywhere:
            return None, "omnisharded_tables"
        if self.refuses and analysis.obstacle is not None:
            raise analysis.obstacle.with_traceback(None)
        return self.default, "default_shard"

    def _of_keys(
        self, analysis: Analysis, state: RoutingState, parameters: Parameters
    ) -> int | None:
        try:
            return shard_of_keys(
                analysis, parameters, self._sharder(state), refuses=self.refuses
            )
        except AmbiguousShard as error:
            if self.refuses and analysis.is_rows:
                raise RowsForSeveral(error) from None
            raise

    @staticmethod
    def differ(places: Collection[tuple[int | None, str]]) -> tuple[int | None, str]:
        """Choose among places of statements of one name, of which nobody knows which it is.

        Raises:
            AmbiguousShard: their keys belong to several shards.
        """
        keyed = {place for place in places if place[1] in STATEMENT_RULES}
        if len(keyed) > 1:
            shards = ", ".join(sorted(str(shard) for shard, _ in keyed))
            raise AmbiguousShard(
                f"the name has been given to statements of the shards {shards}",
                hint="Give each prepared statement a name of its own.",
            )
        return next(iter(keyed or places))

    def stick(self, analysis: Analysis, state: RoutingState, parameters: Parameters) -> None:
        """Make the shard that a comment or a key gives the client's, as sticky has it."""
        sharder = self._sharder(state)
        if analysis.comment_shard is not None:
            state.stick(self._checked(analysis.comment_shard))
        elif analysis.comment_key is not None:
            state.stick(sharder.shard(analysis.comment_key))
        elif analysis.keys:
            with contextlib.suppress(AmbiguousShard):
                found = shard_of_keys(replace(analysis, unkeyed=()), parameters, sharder)
                if found is not None:
                    state.stick(found)

    def unread(self, text: bytes, analysis: Analysis, tables: ShardedTables | None) -> Analysis:
        """Take into account that a text that nobody has read may use sharded tables."""
        if not self.refuses or tables is None or not tables.keys:
            return analysis
        return replace(analysis, obstacle=obstacle_of_text(tables, text, analysis.limit))

    def _sharder(self, state: RoutingState) -> Sharder:
        return self._cautious if state.has_odd_text else self.sharder

    def _checked(self, shard: int) -> int:
        if shard >= self._count:
            raise InvalidShard(
                f"shard {shard} is not configured",
                hint=f"Shards are numbered from 0 to {self._count - 1}.",
            )
        return shard
