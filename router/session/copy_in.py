"""A COPY ... FROM STDIN that is split: its client's rows on their way to the shards.

The client is told to send when all servers read rows. From then on its CopyData is taken a
part at a time, dealt out, and sent on, as long as no server is slow to take what it has; so
what is held of it is a row that is not complete, whatever the client sends. What is wrong with
a row, or what a server refuses, ends the COPY on all of them: they are told so (CopyFail), and
of what they then say the first line counts, as it would on one server.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from ..errors import ClientProtocolError, RoutingError, RowRefused
from ..pool.participant import CopyListener
from ..protocol import codes
from ..protocol.framing import string_in
from ..routing.copy_formats import rows_of
from ..routing.copy_keys import Column, CopyKeys
from ..routing.refusals import copy_not_split
from ..turns import work

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..errors import RouterError
    from ..pool.participant import Participant, Request
    from ..protocol.frontend import ClientStream
    from ..routing.copy_rows import CopyRows
    from ..routing.copy_text import CopyText
    from ..routing.sharding import Sharder
    from .client import Client

# So much of what is here is dealt out at a time, in bytes.
_PART: Final = 16 * 1024
_STOPPED: Final = "another shard has refused a row"
_LEFT: Final = "the client has left"
_LINE: Final = re.compile(r"^(COPY .*?, line )([0-9]+)", re.MULTILINE)

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


class SplitCopy(CopyListener):
    """One of these, from its text to its end.

    Attributes:
        request: what each shard is asked.
        data: the same as a message.
        question: what is asked of each before.
        has_begun: the client has been told to send.
    """

    __slots__ = (
        "_client",
        "_has_stopped",
        "_head",
        "_home",
        "_is_ending",
        "_key",
        "_participants",
        "_refused",
        "_resume",
        "_rows",
        "_sharder",
        "_text",
        "_waits_for_query",
        "data",
        "has_begun",
        "question",
        "request",
    )

    def __init__(
        self,
        request: Request,
        text: CopyText,
        key: str,
        sharder: Sharder,
        client: Client,
        resume: Callable[[], None],
        *,
        head: bytes = b"",
    ) -> None:
        """Prepare it.

        Args:
            request: its text.
            text: what is read in that.
            key: the name of its key column.
            sharder: finds the shards of keys.
            client: who has asked for it.
            resume: has what the client sends found again that was declined.
            head: what is answered to its batch before it; b"" if it is a Query.
        """
        self.request: Final = request
        self.data: Final = request.data
        parts = [text.schema, text.table] if text.schema else [text.table]
        quoted = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
        literal = quoted.replace("\\", "\\\\").replace("'", "''")
        self.question: Final = _QUESTION.format(f"E'{literal}'").encode()
        self._text: Final = text
        self._key: Final = key
        self._sharder: Final = sharder
        self._client: Final = client
        self._resume: Final = resume
        self._head: Final = head
        self._waits_for_query = not head
        self._participants: Sequence[Participant] = ()
        self._home: Participant | None = None
        self._rows: CopyRows | None = None
        self._refused: RowRefused | None = None
        self._is_ending = self._has_stopped = False
        self.has_begun = False

    # --- before the first row

    def learn(self, participants: Sequence[Participant], home: Participant) -> None:
        """Take in what servers have answered to the question.

        Raises:
            RoutingError: the rows cannot be split.
        """
        self._participants, self._home = participants, home
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

    def begin(self) -> None:
        """All servers read rows: the client may send them."""
        home = self._home
        assert home is not None
        self.has_begun = True
        self._client.reply(self._head + bytes(home.answer))
        self._resume()

    # --- what the client sends

    def feed(self, stream: ClientStream) -> bool:
        """Act on what the stream has found; False declines it for now.

        Raises:
            ClientProtocolError: the connection cannot go on.
        """
        if not self.has_begun or self._is_ending or self._has_stopped:
            return False
        kind, data, start, end = stream.kind, stream.data, stream.start, stream.end
        if kind == codes.COPY_DATA:
            return self._take(stream)
        if self._waits_for_query:
            self._waits_for_query = False
            return True  # its own Query, at the head of the stream until now
        if kind == codes.COPY_DONE:
            self._is_ending = True
            self._end()
        elif kind == codes.COPY_FAIL:
            reason = string_in(data, start, end).decode("utf-8", "replace")
            self._refuse_all(f"COPY from stdin failed: {reason}")
        elif kind == codes.TERMINATE:
            self._refuse_all(_LEFT)
            return False  # when it is over
        elif kind not in (codes.SYNC, codes.FLUSH):
            what = f"unexpected message type 0x{kind:02X} during COPY from stdin"
            self._client.refuse(ClientProtocolError(what))
            raise ClientProtocolError(
                "terminating connection because protocol synchronization was lost"
            )
        return True

    def _take(self, stream: ClientStream) -> bool:
        """Deal out as much of what the stream has found as is a part."""
        rows = self._rows
        assert rows is not None
        for participant in self._participants:
            if participant.is_congested:
                return False
        before = rows.lines.total
        try:
            rows.feed(stream.copied(_PART))
        except RowRefused as error:
            self._refuse(error)
        self._send(rows)
        work.note_rows(rows.lines.total - before)
        return True

    def _end(self) -> None:
        rows = self._rows
        assert rows is not None
        try:
            rows.end()
        except RowRefused as error:
            self._refuse(error)
            return
        self._send(rows)
        for participant in self._participants:
            participant.end_rows()

    def _send(self, rows: CopyRows) -> None:
        for participant, data in zip(self._participants, rows.take(), strict=True):
            if data:
                participant.send_rows(data)

    # --- what ends it

    def _refuse(self, error: RowRefused) -> None:
        """A row is to be refused; those before it have been sent, and may be so as well."""
        self._refused = error
        if self._rows is not None:
            self._send(self._rows)
        self.stop()

    def _refuse_all(self, message: str) -> None:
        assert self._rows is not None
        line = self._rows.lines.total + 1
        where = f"COPY {self._text.table}, line {line}"
        self._refuse(RowRefused(message, sqlstate="57014", number=line, where=where))

    def stop(self) -> None:
        """None of the rows shall be there."""
        if not self._has_stopped:
            self._has_stopped = True
            for participant in self._participants:
                participant.end_rows(_STOPPED)

    def ended(self, participant: Participant) -> None:
        """A server does not read rows any more: nor shall others if it has refused."""
        if self.has_begun and participant.error is not None:
            self.stop()

    def drained(self) -> None:
        """A server takes input again."""
        if self.has_begun:
            self._resume()

    def failed(self) -> Participant | None:
        """Whose error is that of the COPY, after the end: that of the first line, with it."""
        first: Participant | None = None
        error: dict[str, str] | RouterError | None = self._refused
        least = math.inf if self._refused is None else float(self._refused.number)
        for participant in self._participants:
            found, line = participant.error, math.inf
            if isinstance(found, dict):
                if _STOPPED in found.get("M", ""):
                    continue
                found, line = self._placed(found, participant.shard)
            if found is not None and (error is None or line < least):
                first, error, least = participant, found, line
        if error is None:
            return None
        failed = first or self._home
        assert failed is not None
        failed.error = error
        return failed

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

        where = _LINE.sub(renumbered, error.get("W", ""))
        return {**error, "W": where}, found
