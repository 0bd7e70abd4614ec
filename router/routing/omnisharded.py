"""Texts that use tables of which every shard has a copy, and no others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .refusals import only_one_copy
from .types import Verdict

if TYPE_CHECKING:
    from ..errors import RoutingError
    from .columns import ShardedTables
    from .sql.reader import Reading
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

    def add(self, judgement: Judgement, reading: Reading | None) -> None:
        """Look at a statement."""
        if self._tables is None:
            return
        names = judgement.tables + (() if reading is None else reading.tables)
        if not names:
            self._only = self._only and (reading is not None or not judgement.is_query)
            return
        found = [name for name in names if self._is_everywhere(name)]
        self._some = self._some or bool(found)
        self._only = self._only and len(found) == len(names)
        # The changes among queries are looked at elsewhere, each with its own table.
        is_other = judgement.statement.verdict is Verdict.WRITE and not judgement.is_query
        if found and is_other and len(found) == len(names):
            self.error = self.error or only_one_copy(found[0])

    def _is_everywhere(self, name: str) -> bool:
        assert self._tables is not None
        schema, _, table = name.rpartition(".")
        return self._tables.is_omnisharded(schema, table)
