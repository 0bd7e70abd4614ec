"""Texts that use tables of which every shard has a copy, and no others."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from .copy_text import copied_in
from .for_all import ChangeForAll, CopyForAll
from .refusals import only_one_copy
from .sameness import has_default, literals_vary, varies
from .types import TableChange, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..errors import RoutingError
    from .columns import ShardedTables
    from .sql.reader import Reading
    from .types import Analysis
    from .verdicts import Judgement


class Omnisharded:
    """Finds out about the statements of a text, one after the other.

    Attributes:
        error: why one of them must not be done on whatever shard.
    """

    def __init__(self, tables: ShardedTables | None) -> None:
        self._tables = tables if tables is not None and tables.omnisharded else None
        self._only = True
        self._some = False
        self.error: RoutingError | None = None

    @property
    def is_everywhere(self) -> bool:
        """Whether they have such tables and no others."""
        return self._some and self._only

    def add(
        self, judgement: Judgement, reading: Reading | None, tokens: list[str]
    ) -> TableChange | None:
        """Look at a statement; returns what it changes that can be changed everywhere alike."""
        if self._tables is None:
            return None
        names = judgement.tables + (() if reading is None else reading.tables)
        if not names:
            self._only = self._only and (reading is not None or not judgement.is_query)
            return None
        found = [name for name in names if self._is_everywhere(name)]
        self._some = self._some or bool(found)
        self._only = self._only and len(found) == len(names)
        is_write = judgement.statement.verdict is Verdict.WRITE
        if judgement.is_query and reading is not None:
            return self._changed(reading, tokens, is_alike=len(found) == len(names))
        # The changes inside of other statements are looked at elsewhere.
        if found and is_write and len(found) == len(names):
            return self._copied(found[0], tokens)
        return None

    def _copied(self, table: str, tokens: list[str]) -> TableChange | None:
        """What a COPY from the client changes; all other commands are in the way."""
        change = copied_in(tokens)
        why = ""
        if change is not None and "where" in tokens:
            why = varies(tokens[tokens.index("where") :])
        # Where nothing is brought to all shards, it would be made on one.
        self.error = self.error or only_one_copy(table, why)
        return None if why else change

    def _changed(
        self, reading: Reading, tokens: list[str], *, is_alike: bool
    ) -> TableChange | None:
        assert self._tables is not None
        changes = reading.keys.changes
        everywhere = [
            change
            for change in changes
            if self._tables.is_omnisharded(change.schema, change.table)
        ]
        if not everywhere:
            return None
        if len(changes) > 1:
            why = "several tables are changed"
        elif not is_alike:
            why = "a table is used that is not"
        else:
            why = varies(tokens)
        change = everywhere[0]
        if why:
            self.error = self.error or only_one_copy(change.table, why)
            return None
        return replace(change, has_default="default" in tokens)

    def _is_everywhere(self, name: str) -> bool:
        assert self._tables is not None
        schema, _, table = name.rpartition(".")
        return self._tables.is_omnisharded(schema, table)


def with_literals(analysis: Analysis, literals: Sequence[bytes]) -> Analysis:
    """Take into account what the literals of a text say of a change on all shards."""
    obstacle = analysis.obstacle
    if not isinstance(obstacle, (ChangeForAll, CopyForAll)):
        return analysis
    change = obstacle.change
    why = literals_vary(literals)
    if why:
        return replace(analysis, error=only_one_copy(change.table, why), obstacle=None)
    if isinstance(obstacle, ChangeForAll) and not change.has_default and has_default(literals):
        again = ChangeForAll(analysis.kinds[0], replace(change, has_default=True))
        return replace(analysis, obstacle=again)
    return analysis
