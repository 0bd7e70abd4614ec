"""A COPY ... FROM STDIN into a table that every shard has: all of them get the same rows.

What the client sends is passed on as it is, so each server counts its lines as the client does,
and says of them what one server would. What could make the rows differ is refused: what the
table does with them by itself (`alike`), and words for the time in columns of times. In the end
all must have taken the same number.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ..errors import NoSingleShard, RowRefused
from ..routing.copy_text import BINARY, CopyText, read_copy
from ..routing.copy_times import TOO_LONG, Times
from ..routing.refusals import only_one_copy
from . import alike
from .copy_in import LINE, CopyIn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..pool.participant import Participant, Request
    from ..routing.types import TableChange
    from .client import Client


class SameCopy(CopyIn):
    """One of these, from its text to its end."""

    __slots__ = ("_change", "_times")

    def __init__(
        self,
        request: Request,
        change: TableChange,
        client: Client,
        resume: Callable[[], None],
    ) -> None:
        """Prepare it; `change` is what it changes."""
        super().__init__(request, alike.question_of_rows(change), client, resume)
        self._change: Final = change
        self._times: Times | None = None

    def learn(self, participants: Sequence[Participant], home: Participant) -> None:
        """Take in what servers have answered to the question.

        Raises:
            RoutingError: the table might not stay the same.
        """
        super().learn(participants, home)
        change = self._change
        names: tuple[str, ...] = ()
        exposed: set[str] = set()
        for participant in participants:
            found = participant.rows
            objection = alike.objection(change, found)
            if objection is not None:
                raise objection
            order = next((str(row[1] or "") for row in found if row[0] == "order"), "")
            here = change.columns or tuple(order.split(","))
            if names and here != names:
                why = "its columns are not in the same order on all shards"
                raise only_one_copy(change.table, why)
            names = here
            exposed |= {str(row[1]) for row in found if row[0] == "time"}
        exposed &= set(names)
        if exposed:
            text = self._form()
            if text.format != BINARY:
                self._times = Times(text, {names.index(name) for name in exposed})

    def _form(self) -> CopyText:
        """The form of the rows, which matters as there are columns of times.

        Raises:
            NoSingleShard: it is not known.
        """
        try:
            return read_copy(self.request.sql)
        except NoSingleShard as error:
            why = f"it has columns of times, and {error.message.rpartition(': ')[2]}"
            raise only_one_copy(self._change.table, why) from None

    def _take(self, data: bytes) -> None:
        for participant in self._participants:
            participant.send_rows(data)
        if self._times is not None:
            self._see(self._times.look(data))

    def _end(self) -> None:
        if self._times is not None:
            self._see(self._times.end())
        if not self._has_stopped:
            super()._end()

    def _see(self, word: bytes) -> None:
        """Refuse what may be another time on each shard."""
        if word:
            what = word.decode("utf-8", "replace")
            if word is TOO_LONG:
                what = "what is in a long line"
            why = f"{what} may be another time on each shard"
            error = only_one_copy(self._change.table, why)
            where = f"COPY {self._change.table}"
            self._refused = RowRefused(
                error.message, sqlstate=error.sqlstate, hint=error.hint, number=0, where=where
            )
            self.stop()

    def _give_up(self, reason: str) -> None:
        self.stop(reason)  # of which the servers say where that was

    def failed(self) -> Participant | None:
        """Whose error is that of the COPY, after the end, with it."""
        found = super().failed()
        if found is None:
            error = alike.difference(self._change, self._participants)
            if error is not None:
                found = self._participants[-1]
                found.error = error
        return found

    def _placed(self, error: dict[str, str], shard: int) -> tuple[dict[str, str], float]:
        match = LINE.search(error.get("W", ""))
        return error, math.inf if match is None else float(match[2])

    @property
    def count(self) -> int:
        """How many rows the client is told of, after the end: those of one shard."""
        return self._participants[-1].affected
