"""What became of statements, fingerprint by fingerprint: the figures of SHOW QUERIES.

Theory of operation
-------------------
A text is reduced to its *fingerprint*, once, and that is remembered with whatever remembers the
text. It goes along with the segment that runs the text. When that has been answered, its
figures are added to a row: that of the fingerprint in the *table* of the database, user, shard
and role.

All tables together have so many rows. Beyond that those are taken out that have been used
longest ago, a tenth at a time, and what they have counted is added to their table's `others`:
so that sums stay what they are.

A fingerprint has nothing of a text's values: what is a literal for PostgreSQL is taken out,
comments too, and so is what may be a value without being a literal (see `shown`).
"""

from __future__ import annotations

import heapq
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from .errors import ClientProtocolError
from .histograms import Histogram, place_of
from .protocol.binds import bind_ends
from .protocol.framing import HEADER_SIZE
from .protocol.prepared import StatementCounts
from .routing.fingerprint import UnknownLexeme, short_fingerprint_of
from .routing.generations import Generations, Recent
from .routing.limits import TooComplex
from .routing.tags import without_tags
from .turns import work

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .protocol.segments import Segment

# Bounds on what is remembered of texts and of their forms, and on the bytes of that.
_REMEMBERED: Final = 4000
_REMEMBERED_BYTES: Final = 4 * 1024 * 1024
# A longer text is not reduced, and of its fingerprint so many characters are shown.
_LONGEST_TEXT: Final = 64 * 1024
# So many statements make up what is told of them lately.
_LATELY: Final = 20
_LONGEST_SHOWN: Final = 1000

# Of one client so many names are known for counting alone, and no longer ones, in bytes.
_MOST_NAMES: Final = 1000
_LONGEST_NAME: Final = 100

# In a fingerprint: quoted names stay; strings, numbers and space are each replaced.
_TOKEN: Final = re.compile(
    rb"""("(?:[^"]++|"")*")|((?:[uU]&|[bBxXeEnN])?'(?:[^']++|'')*')"""
    rb"""|((?<![\w$\x80-\xff"])[0-9][\w.]*+)|(\s++)"""
)
# A statement that may have values that are no literals: SET a = b, PASSWORD b.
_HAS_SETTING: Final = re.compile(r"(?:^|;)\s*+(?:set|alter|create)\b", re.IGNORECASE)
_SETTING: Final = re.compile(r"\bset\b[^;]*+", re.IGNORECASE)
_BEFORE_VALUE: Final = re.compile(r"=|\bto\b", re.IGNORECASE)
_PASSWORD: Final = re.compile(
    r'\bpassword\s++(?!\?|null\b)(?:"[^"]*+"?|[^\s;]++)', re.IGNORECASE
)
_FIRST_WORD: Final = re.compile(r"[\s(;]*+([A-Za-z]{1,20})\b")
_CHANGES: Final = frozenset(("INSERT", "UPDATE", "DELETE", "MERGE", "TRUNCATE"))
_WHOLE_SNAPSHOT: Final = re.compile(r"repeatable\s+read|serializable", re.IGNORECASE)

_DIVIDES: Final = ("SAVEPOINT", "RELEASE", "ROLLBACK")


class Fingerprint:
    """What statements with the same text, but for their values, are counted by.

    Attributes:
        identifier: the same for the same text, whatever router it is.
        text: for people.
        kind: its first word, in upper case; "" if nobody has read it.
        writes: whether it surely does, going by its first word.
        is_lasting: it asks for one snapshot for all of its transaction.
        divides: it sets a savepoint, or goes back to one, or forgets it.
        is_contained_read: it is one read that leaves nothing behind, and others may use its
            server with it; so says the router `judged_by`, as it was when `judged_in`.
    """

    __slots__ = (
        "divides",
        "identifier",
        "is_contained_read",
        "is_lasting",
        "judged_by",
        "judged_in",
        "kind",
        "text",
        "writes",
    )

    def __init__(self, text: str, kind: str | None = None) -> None:
        if kind is None:
            found = _FIRST_WORD.match(text)
            kind = "" if found is None else found[1].upper()
        self.identifier: Final = blake2b(text.encode(), digest_size=8).hexdigest()
        self.text: Final = text
        self.kind: Final = kind
        self.is_contained_read = False
        self.judged_by: object = None
        self.judged_in = 0
        self.writes: Final = kind in _CHANGES
        self.divides: Final = kind in _DIVIDES
        self.is_lasting: Final = (
            kind in ("BEGIN", "START", "SET") and _WHOLE_SNAPSHOT.search(text) is not None
        )

    def __repr__(self) -> str:
        return f"<Fingerprint {self.identifier} {self.kind}>"


UNREAD: Final = Fingerprint("(not read)", "")
"""Of what nobody has read: its text is too long to hold, or it is not known which it is."""
UNREADABLE: Final = Fingerprint("(not readable)", "")
"""Of a text that cannot be cut into tokens with certainty."""
TOO_COMPLEX: Final = Fingerprint("(too complex)", "")
"""Of a text with more in it than anybody should wait for."""
FUNCTION_CALL: Final = Fingerprint("(function call)", "")
"""Of a FunctionCall."""


def shown(bare: bytes) -> str:
    """A text without literals, for people, with nothing in it that could be a value."""
    reduced = _TOKEN.sub(_replaced, bare).decode("utf-8", "replace").strip()
    if _HAS_SETTING.search(reduced) is not None:
        reduced = _PASSWORD.sub("password ?", reduced)
        for setting in _SETTING.finditer(reduced):
            found = _BEFORE_VALUE.search(reduced, setting.start(), setting.end())
            if found is not None:
                reduced = reduced[: found.end()] + " ?"
                break
    if not reduced.isprintable():
        reduced = "".join(char if char.isprintable() else "\ufffd" for char in reduced)
    return reduced if len(reduced) <= _LONGEST_SHOWN else f"{reduced[:_LONGEST_SHOWN]}..."


def _replaced(match: re.Match[bytes]) -> bytes:
    if match[1] is not None:
        return match[1]
    return b" " if match[4] is not None else b"?"


class StatementFigures:
    """What has been counted of one row. Times are seconds.

    Attributes:
        fingerprint: whose row it is; None of several.
        calls: statements that were answered.
        errors: how often which SQLSTATE was the answer.
        rows: as the tags of CommandComplete tell.
        size: bytes of answers.
        waits: for a server, of those that had to wait.
        times: at the server, less the stalls.
        stalls: while the client did not take what it had asked for, of those that had any.
        used_at: when it was last counted.
    """

    __slots__ = (
        "_lately",
        "_seen_calls",
        "_seen_time",
        "calls",
        "errors",
        "fingerprint",
        "rows",
        "size",
        "stalls",
        "times",
        "used_at",
        "waits",
    )

    def __init__(self, fingerprint: Fingerprint | None = None) -> None:
        self.fingerprint: Final = fingerprint
        self.calls = 0
        self.errors: dict[str, int] = {}
        self.rows = 0
        self.size = 0
        self.waits: Histogram | None = None
        self.times: Final = Histogram()
        self.stalls: Histogram | None = None
        self.used_at = 0.0
        self._lately = 0.0
        self._seen_calls = 0
        self._seen_time = 0.0

    def lately(self) -> float:
        """How long the statements have taken lately, in seconds: a moving average.

        It moves when somebody asks, by what has been counted since.
        """
        calls = self.calls - self._seen_calls
        if calls > 0:
            mean = max(self.times.total - self._seen_time, 0.0) / calls
            weight = 1.0 if not self._seen_calls else min(calls / _LATELY, 1.0)
            self._lately += (mean - self._lately) * weight
            self._seen_calls, self._seen_time = self.calls, self.times.total
        return self._lately

    def add_wait(self, seconds: float, count: int) -> None:
        """So many have waited for so long."""
        if self.waits is None:
            self.waits = Histogram()
        self.waits.add(seconds, count)

    def add_stall(self, seconds: float, count: int) -> None:
        """So many have been held up by their client for so long."""
        if self.stalls is None:
            self.stalls = Histogram()
        self.stalls.add(seconds, count)

    def add_error(self, sqlstate: str, count: int = 1) -> None:
        """So many have failed; functions can make up codes, so that not all are told apart."""
        if sqlstate not in self.errors and len(self.errors) >= _MOST_CODES:
            sqlstate = OTHER_CODE
        self.errors[sqlstate] = self.errors.get(sqlstate, 0) + count

    def take_in(self, other: StatementFigures) -> None:
        """Add all that another one has counted."""
        self.calls += other.calls
        self.rows += other.rows
        self.size += other.size
        self.times.take_in(other.times)
        if other.waits is not None:
            self.waits = _sum(self.waits, other.waits)
        if other.stalls is not None:
            self.stalls = _sum(self.stalls, other.stalls)
        for sqlstate, count in other.errors.items():
            self.add_error(sqlstate, count)


OTHERS: Final = "(others)"
"""What the rows are called for which there is no room."""
_MOST_CODES: Final = 20
OTHER_CODE: Final = "other"
"""Stands for the SQLSTATEs of a row beyond the first few."""


def _sum(one: Histogram | None, other: Histogram) -> Histogram:
    found = Histogram() if one is None else one
    found.take_in(other)
    return found


class Table:
    """The rows of one database, user, shard and role.

    Attributes:
        rows: by identifier, since there may be several Fingerprints of one text.
        others: what rows had counted that are no longer there.
        dropped: how many such rows there were.
        times, waits, stalls: those of all rows together.
        xacts: how long transactions took.
        is_closed: its pool is gone, and nothing is counted any more.
    """

    __slots__ = (
        "_queries",
        "database",
        "dropped",
        "is_closed",
        "is_primary",
        "others",
        "rows",
        "shard",
        "stalls",
        "times",
        "user",
        "waits",
        "xacts",
    )

    def __init__(
        self, queries: Queries, database: str, user: str, shard: int, *, is_primary: bool
    ) -> None:
        self._queries: Final = queries
        self.database: Final = database
        self.user: Final = user
        self.shard: Final = shard
        self.is_primary: Final = is_primary
        self.rows: Final[dict[str, StatementFigures]] = {}
        self.others = StatementFigures()
        self.dropped = 0
        self.times = Histogram()
        self.waits = Histogram()
        self.stalls = Histogram()
        self.xacts = Histogram()
        self.is_closed = False

    def row(self, fingerprint: Fingerprint, now: float) -> StatementFigures:
        """The row of a fingerprint, which is then the one that was used last."""
        found = self.rows.get(fingerprint.identifier)
        if found is None:
            self._queries.make_room()
            found = self.rows[fingerprint.identifier] = StatementFigures(fingerprint)
        found.used_at = now
        return found

    def drop(self, identifier: str) -> None:
        """Keep no row of a fingerprint; what it has counted is not lost."""
        self.others.take_in(self.rows.pop(identifier))
        self.dropped += 1

    def clear(self) -> None:
        """Begin anew."""
        self.rows.clear()
        self.others = StatementFigures()
        self.dropped = 0
        self.times, self.waits, self.stalls = Histogram(), Histogram(), Histogram()
        self.xacts = Histogram()

    def note(self, segment: Segment, served: float, now: float) -> None:
        """A segment has been answered, for which the server has taken so long."""
        fingerprint = segment.fingerprint if segment.fingerprint is not None else segment.parsed
        if not isinstance(fingerprint, Fingerprint):
            return
        if segment.behind is not None or segment.sqlstate or segment.waited or segment.stalled:
            self._note_unusual(segment, fingerprint, served, now)
            return
        found = self.rows.get(fingerprint.identifier)
        if found is None:
            found = self.row(fingerprint, now)
        found.calls += 1
        found.rows += segment.rows
        found.size += segment.size
        place = place_of(served)
        found.times.add_at(place, served)
        self.times.add_at(place, served)
        found.used_at = now

    def _note_unusual(
        self, segment: Segment, fingerprint: Fingerprint, served: float, now: float
    ) -> None:
        """The same, be it of several statements.

        Its times and its bytes are shared by them evenly, as nobody can tell them apart.
        """
        while segment.behind and not segment.sqlstate:
            segment.pass_over()  # they had no tag, as an empty one
        counted = [] if segment.done is None else list(segment.done.items())
        last = (
            segment.fingerprint if isinstance(segment.fingerprint, Fingerprint) else fingerprint
        )
        counted.append((last, [1, segment.rows]))
        count = sum(calls for _, (calls, _) in counted)
        size, rest = divmod(segment.size, count)
        for one, (calls, rows) in counted:
            if not isinstance(one, Fingerprint):
                continue
            found = self.row(one, now)
            found.calls += calls
            found.rows += rows
            found.size += size * calls + rest
            rest = 0
            found.times.add(served / count, calls)
            self.times.add(served / count, calls)
            if segment.waited:
                found.add_wait(segment.waited / count, calls)
                self.waits.add(segment.waited / count, calls)
            if segment.stalled:
                found.add_stall(segment.stalled / count, calls)
                self.stalls.add(segment.stalled / count, calls)
        if segment.sqlstate:
            self.row(last, now).add_error(segment.sqlstate.decode("ascii", "replace"))


class ServerTables:
    """Where the statements of one server are counted, whatever its role is just then."""

    __slots__ = ("_database", "_queries", "_shard", "_table", "_user", "closed")

    def __init__(self, queries: Queries, database: str, user: str, shard: int) -> None:
        self._queries: Final = queries
        self._database: Final = database
        self._user: Final = user
        self._shard: Final = shard
        self._table: Table | None = None
        # Of prepared statements, by connections that are no more.
        self.closed: Final = StatementCounts()

    def note(self, segment: Segment, served: float, now: float, *, is_primary: bool) -> None:
        """The server has answered a segment, after so many seconds, in that role."""
        table = self._table
        if table is None or table.is_primary is not is_primary or table.is_closed:
            table = self.table(is_primary=is_primary)
        if table is not None and self._queries.limit:
            table.note(segment, max(served - segment.stalled, 0.0), now)

    def note_transaction(self, seconds: float) -> None:
        """A transaction is over, whose last segment has been noted."""
        table = self._table
        if table is not None and self._queries.limit:
            table.xacts.add(seconds)

    def table(self, *, is_primary: bool) -> Table | None:
        """The table for a role; None if nothing is counted."""
        found = self._table
        if found is None or found.is_primary is not is_primary:
            found = self._table = self._queries.table(
                self._database, self._user, self._shard, is_primary=is_primary
            )
        return found if self._queries.limit and not found.is_closed else None


class Queries:
    """All tables, and what is known of texts.

    Attributes:
        limit: how many rows there may be; 0 if nothing is counted.
    """

    def __init__(self) -> None:
        self.limit = 0
        self._tables: dict[tuple[str, str, int, bool], Table] = {}
        self._texts: Final = Generations[Fingerprint](_REMEMBERED, _REMEMBERED_BYTES)
        self._fingerprints: Final = Generations[Fingerprint](_REMEMBERED, _REMEMBERED_BYTES)
        self._recent: Final = Recent()

    def use(self, limit: int) -> None:
        """Have so many rows from now on; with 0 all that was counted is forgotten."""
        self.limit = limit
        if not limit:
            self.reset()
        while len(self) > limit:
            self.make_room()

    def reset(self) -> None:
        """Begin anew."""
        for table in self._tables.values():
            table.clear()

    def keep(self, pools: Iterable[tuple[str, str]]) -> None:
        """Forget the tables of all pools but these."""
        kept = set(pools)
        for key, table in list(self._tables.items()):
            if (table.database, table.user) not in kept:
                table.is_closed = True
                del self._tables[key]

    def __len__(self) -> int:
        return sum(len(table.rows) for table in self._tables.values())

    def tables(self) -> Iterator[Table]:
        """All of them."""
        return iter(self._tables.values())

    def table(self, database: str, user: str, shard: int, *, is_primary: bool) -> Table:
        """That of a role."""
        key = (database, user, shard, is_primary)
        found = self._tables.get(key)
        if found is None:
            found = Table(self, database, user, shard, is_primary=is_primary)
            self._tables[key] = found
        return found

    def make_room(self) -> None:
        """See that there may be another row."""
        surplus = len(self) - self.limit + 1
        if surplus <= 0:
            return
        rows = (
            (figures.used_at, identifier, table)
            for table in self._tables.values()
            for identifier, figures in table.rows.items()
        )
        wanted = surplus + self.limit // 10
        for _, identifier, table in heapq.nsmallest(wanted, rows, key=lambda row: row[0]):
            table.drop(identifier)

    # --- fingerprints

    def fingerprint(self, text: bytes) -> Fingerprint:
        """The fingerprint of a text."""
        found = self._texts.get(text)
        if found is not None:
            return found
        if len(text) > _LONGEST_TEXT:
            return UNREAD
        bare = without_tags(text)
        if bare is not text:
            return self.fingerprint(bare)
        try:
            reduced, literals = short_fingerprint_of(text)
        except UnknownLexeme:
            return UNREADABLE
        except TooComplex:
            return TOO_COMPLEX
        found = self._fingerprints.get(reduced)
        if found is None:
            work.note_shown(len(reduced))
            found = Fingerprint(shown(reduced))
            self._fingerprints.put(reduced, found)
        if not literals or self._recent.note(text):
            self._texts.put(text, found)
        return found


class RawFingerprints:
    """Fingerprints of a client's statements that the router keeps no record of, by name."""

    __slots__ = ("_by_name", "_queries")

    def __init__(self, queries: Queries) -> None:
        self._queries: Final = queries
        self._by_name: dict[bytes, Fingerprint] = {}

    def parsed(self, message: bytes, text_start: int) -> Fingerprint:
        """The fingerprint of a Parse, whose name is then known unless there are too many."""
        name = message[HEADER_SIZE : max(text_start - 1, HEADER_SIZE)]
        text_end = max(message.find(b"\0", text_start), text_start)
        fingerprint = self._queries.fingerprint(message[text_start:text_end])
        known = self._by_name
        if len(name) <= _LONGEST_NAME and (name in known or len(known) < _MOST_NAMES):
            known[name] = fingerprint
        return fingerprint

    def bound(self, message: bytes) -> Fingerprint:
        """The fingerprint of what a Bind names."""
        try:
            portal_end, name_end = bind_ends(message, 0, len(message))
        except ClientProtocolError:
            return UNREAD  # the server says what is wrong with it
        return self._by_name.get(message[portal_end + 1 : name_end], UNREAD)
