"""A COPY ... FROM STDIN that is split: its client's rows on their way to the shards.

Of what the client sends each part is dealt out by the keys of its rows; what is held of it is a
row that is not complete, whatever the client sends. What is wrong with a row ends the COPY on
all shards, as what a server refuses does.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ..errors import RoutingError, RowRefused
from ..protocol.variables import quote_relation
from ..routing.copy_formats import rows_of
from ..routing.copy_keys import Column, CopyKeys
from ..routing.refusals import copy_not_split
from ..turns import work
from .copy_in import LINE, CopyIn

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Sequence

    from ..pool.participant import Participant, Request
    from ..routing.copy_rows import CopyRows
    from ..routing.copy_text import CopyText
    from ..routing.sharding import Sharder
    from .client import Client

# The version of the server and the kind of the relation; then its columns, but for those that
# are generated, which COPY leaves out: name, type, modifier, and whether it is NOT NULL.
_QUESTION: Final = """\
WITH it AS (SELECT oid, relkind FROM pg_catalog.pg_class
 WHERE oid = pg_catalog.to_regclass({}))
SELECT '', pg_catalog.current_setting('server_version_num'), relkind::text, '' FROM it
UNION ALL (SELECT attname, atttypid::text, atttypmod::text, attnotnull::text
 FROM it JOIN pg_catalog.pg_attribute ON attrelid = it.oid
 WHERE attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum)"""
_TABLES: Final = ("r", "p")


class SplitCopy(CopyIn):
    """One of these, from its text to its end."""

    __slots__ = ("_key", "_rows", "_sharder", "_text")

    def __init__(
        self,
        request: Request,
        text: CopyText,
        key: str,
        sharder: Sharder,
        client: Client,
        resume: Callable[[], None],
    ) -> None:
        """Prepare it.

        Args:
            request, client, resume: see `CopyIn`.
            text: what is read in its text.
            key: the name of its key column.
            sharder: finds the shards of keys.
        """
        question = _QUESTION.format(quote_relation(text.schema, text.table)).encode()
        super().__init__(request, question, client, resume)
        self._text: Final = text
        self._key: Final = key
        self._sharder: Final = sharder
        self._rows: CopyRows | None = None

    def learn(self, participants: Sequence[Participant], home: Participant) -> None:
        """Take in what servers have answered to the question.

        Raises:
            RoutingError: the rows cannot be split.
        """
        super().learn(participants, home)
        answers = [participant.rows for participant in participants]
        if not all(answers):
            raise RoutingError(
                f'relation "{self._text.table}" does not exist', sqlstate="42P01"
            )
        if any(rows[0][2] not in _TABLES for rows in answers):
            raise copy_not_split("it is none of the kind that has rows itself")
        columns = [
            [Column(str(name), int(kind or 0), int(modifier or 0), required == "true")
             for name, kind, modifier, required in rows[1:]]
            for rows in answers
        ]  # fmt: skip
        names = self._text.columns
        if names is None:
            names = tuple(column.name for column in columns[0])
            if any([column.name for column in each] != list(names) for each in columns):
                raise copy_not_split("the columns of its table are not the same on all shards")
        if self._key not in names:
            raise copy_not_split(f'the key "{self._key}" is none of its columns')
        found = {column for each in columns for column in each if column.name == self._key}
        if len({(column.type, column.modifier) for column in found}) != 1:
            raise copy_not_split(f'the key "{self._key}" is not the same on all shards')
        version = min(int(rows[0][1] or 0) for rows in answers)
        self._rows = rows_of(
            self._text,
            CopyKeys(self._sharder, next(iter(found)), version),
            names.index(self._key),
            columns=len(names),
            shards=len(participants),
            home=home.shard,
            version=version,
        )

    def _take(self, data: bytes) -> None:
        rows = self._rows
        assert rows is not None
        before = rows.lines.total
        try:
            rows.feed(data)
        except RowRefused as error:
            self._refuse(error)
        self._send(rows)
        work.note_rows(rows.lines.total - before)

    def _end(self) -> None:
        rows = self._rows
        assert rows is not None
        try:
            rows.end()
        except RowRefused as error:
            self._refuse(error)
            return
        self._send(rows)
        super()._end()

    def _send(self, rows: CopyRows) -> None:
        for participant, data in zip(self._participants, rows.take(), strict=True):
            if data:
                participant.send_rows(data)

    def _refuse(self, error: RowRefused) -> None:
        """A row is to be refused; those before it have been sent, and may be so as well."""
        self._refused = error
        if self._rows is not None:
            self._send(self._rows)
        self.stop()

    def _give_up(self, reason: str) -> None:
        assert self._rows is not None
        line = self._rows.lines.total + 1
        where = f"COPY {self._text.table}, line {line}"
        message = f"COPY from stdin failed: {reason}"
        self._refuse(RowRefused(message, sqlstate="57014", number=line, where=where))

    def _placed(self, error: dict[str, str], shard: int) -> tuple[dict[str, str], float]:
        """A server's error with the client's number of the line in it, and that number."""
        assert self._rows is not None
        lines, found = self._rows.lines, math.inf

        def renumbered(match: re.Match[str]) -> str:
            nonlocal found
            number = lines.line_of(shard, int(match[2]))
            if not number:
                return f"{match[0]} of those of shard {shard}"
            found = min(found, number)
            return f"{match[1]}{number}"

        where = LINE.sub(renumbered, error.get("W", ""))
        return {**error, "W": where}, found

    @property
    def count(self) -> int:
        """How many rows the client is told of, after the end."""
        return sum(participant.affected for participant in self._participants)
