"""Transactions on several shards: how they are named, and how those that were left are ended.

The name of a prepared transaction tells the one on another shard that decides about it: which
cluster, database and timeline it is of, its id, and the number of its shard, by which clusters
are told apart that were made by copying files. What became of that one PostgreSQL knows.
It is prepared, too, and so named by itself: as long as it is, nothing has been decided, and who
finds it after a while rolls it back. Whoever wanted to commit it then cannot any more.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ..errors import RouterError
from ..protocol.variables import EMPTY
from ..records import fields
from .participant import Participant, Play, Source

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from .address_pool import AddressPool

    Row = tuple[str | None, ...]
    Story = Generator[None, None, None]

log = logging.getLogger("router.pool")

# How often it is looked for such that were left, in seconds: if there is no reason to think
# that there are any, while there are, and as soon as that becomes known.
_RARELY: Final = 60.0
_OFTEN: Final = 10.0
_SOON: Final = 1.0
# How long a transaction may be prepared and not be decided about, in seconds.
_LONGEST: Final = 5
_UNDECIDED: Final = "in progress"

_IDENTITY: Final = """\
(SELECT system_identifier FROM pg_catalog.pg_control_system()),
(SELECT oid FROM pg_catalog.pg_database
 WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()),
pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8)"""
_LEFT: Final = f"""\
SELECT NULL, 0, {_IDENTITY}
UNION ALL
SELECT gid,
pg_catalog.date_part('epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) prepared)
::pg_catalog.int8, NULL, NULL, NULL
FROM pg_catalog.pg_prepared_xacts
WHERE database OPERATOR(pg_catalog.=) pg_catalog.current_database()
AND owner OPERATOR(pg_catalog.=) current_user AND pg_catalog.starts_with(gid, 'pgcat_')
ORDER BY 1 NULLS FIRST LIMIT 500""".encode()
_STATUS: Final = "SELECT pg_catalog.txid_status({})"
_NAME: Final = re.compile(
    r"pgcat_([0-9]{1,20})_([0-9]{1,10})_([0-9A-F]{8})_([0-9]{1,20})_([0-9]{1,6})_[0-9]{1,6}"
)


class Coordinator:
    """The transaction on one shard that decides about those on the others.

    Attributes:
        can_prepare: whether its server has prepared transactions.
    """

    # A COMMIT that is told before it lasts would not be a decision.
    QUESTION: Final = f"""\
SELECT {_IDENTITY}, pg_catalog.txid_current(),
pg_catalog.current_setting('max_prepared_transactions'),
CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off'
THEN pg_catalog.set_config('synchronous_commit', 'on', true) END""".encode()

    def __init__(self, shard: int, row: Row) -> None:
        """Take the answer of a shard to QUESTION."""
        self._shard: Final = shard
        self._system, self._database, self._timeline, self._xid, most, _ = row
        self.can_prepare: Final = most not in (None, "0")

    def name(self, shard: int) -> bytes:
        """The name of the transaction that is prepared on a shard."""
        own = (self._system, self._database, self._timeline, self._xid, self._shard)
        parts = (*own, shard)
        return "_".join(("pgcat", *map(str, parts))).encode("ascii")


def is_gone(error: Mapping[str, str] | RouterError | None) -> bool:
    """Whether a prepared transaction was ended, be it by somebody else."""
    return error is None or (not isinstance(error, RouterError) and error.get("C") == "42704")


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prepared transaction that was found.

    Attributes:
        gid: its name.
        shard: where it is.
        seconds: how old it is.
        state: what is known of the transaction that decides about it, and why it is still here.
    """

    gid: str
    shard: int
    seconds: int
    state: str


class Shards(Source, Protocol):
    """Whose transactions they are; a `Pool`."""

    @property
    def database(self) -> str:
        """Its name."""

    @property
    def user(self) -> str:
        """Whose connections it has."""

    @property
    def paused(self) -> bool:
        """It gives no connections now."""

    @property
    def retired(self) -> bool:
        """It never will again."""

    @property
    def shards(self) -> list[list[AddressPool]]:
        """The servers of each shard."""


class Places:
    """Which cluster, database and timeline each shard is."""

    def __init__(self, rows: Mapping[Participant, Row]) -> None:
        self._rows: Final = rows

    def deciding(self, name: re.Match[str]) -> Participant | None:
        """The shard that decides about a transaction of that name, as far as it is known."""
        found = [each for each, row in self._rows.items() if row == name.groups()[:3]]
        if len(found) > 1:
            found = [each for each in found if each.shard == int(name[5])]
        return found[0] if found else None

    def has_moved(self, name: re.Match[str]) -> bool:
        """Whether that shard is on another timeline now."""
        return any(row[:2] == name.groups()[:2] for row in self._rows.values())


class TwoPhase:
    """Looks after the prepared transactions of one pool.

    Attributes:
        found: those that were there at the last look, and could not be ended.
    """

    def __init__(self, pool: Shards) -> None:
        self._pool: Final = pool
        self._due = 0.0
        self._play: Play | None = None
        self._is_certain = False
        self.found: tuple[Prepared, ...] = ()

    def look_soon(self) -> None:
        """Something was left: look for it."""
        self._is_certain = True
        self._due = min(self._due, self._pool.shards[0][0].engine.now + _SOON)

    def maintain(self, now: float) -> None:
        """Look, if it is time to."""
        pool = self._pool
        if now < self._due or self._play is not None or pool.paused or pool.retired:
            return
        is_certain = self._is_certain or bool(self.found)
        if not is_certain and not all(
            any(part.idle for part in shard if part.is_primary) for shard in pool.shards
        ):
            return  # no connection is opened for what is hardly there
        self._is_certain = False
        label = "two-phase commit"
        self._play = Play(pool, len(pool.shards), EMPTY, label)
        self._play.begin(self._look(self._play.participants), self._looked)

    def _looked(self) -> None:
        play, self._play = self._play, None
        assert play is not None
        play.end()
        is_all_told = all(each.error is None for each in play.participants)
        self._is_certain |= not is_all_told
        pause = _OFTEN if self.found or not is_all_told else _RARELY
        if any(each.state == _UNDECIDED for each in self.found):
            pause = _SOON
        self._due = self._pool.shards[0][0].engine.now + pause

    def _look(self, parts: list[Participant]) -> Story:
        for participant in parts:
            participant.get()
            yield
            participant.run(_LEFT)
            yield
        told = {each: each.rows for each in parts if each.error is None and each.rows}
        places = Places({each: rows[0][2:] for each, rows in told.items()})
        found = []
        for participant, name, seconds in _in_order(told, places):
            state = yield from self._judge(participant, name, seconds, places)
            if state:
                found.append(Prepared(name[0], participant.shard, seconds, state))
        self.found = tuple(found)

    def _judge(
        self,
        participant: Participant,
        name: re.Match[str],
        seconds: int,
        places: Places,
    ) -> Generator[None, None, str]:
        """End one of them, if it is known how; returns why it is not ended, or ""."""
        xid = name[4]
        first = places.deciding(name)
        if first is None:
            if places.has_moved(name):
                return "the deciding shard has failed over since: compare, and end it by hand"
            return "the deciding shard cannot be reached, or is none of this pool"
        if first is participant:
            status: str | None = "aborted"
            if seconds < _LONGEST:
                return _UNDECIDED
        else:
            first.run(_STATUS.format(xid).encode())
            yield
            status = first.rows[0][0] if first.error is None and first.rows else None
        if status == _UNDECIDED:
            return _UNDECIDED
        if status not in ("committed", "aborted"):
            return "the deciding shard does not know the transaction: end it by hand"
        verb = "COMMIT" if status == "committed" else "ROLLBACK"
        participant.run(f"{verb} PREPARED '{name[0]}'".encode())
        yield
        if not is_gone(participant.error):
            return f"{status}, and {verb} PREPARED has failed"
        participant.error = None
        log.warning(
            "[%s/%s] shard %d: %s PREPARED %s, which was left",
            self._pool.database,
            self._pool.user,
            participant.shard,
            verb,
            name[0],
            extra=fields(
                database=self._pool.database, user=self._pool.user, shard=participant.shard
            ),
        )
        return ""


def _in_order(
    told: Mapping[Participant, Sequence[Row]], places: Places
) -> list[tuple[Participant, re.Match[str], int]]:
    """List what was found, with its age in seconds: first those that decide about others."""
    found = []
    for participant, rows in told.items():
        for gid, seconds, *_ in rows[1:]:
            name = _NAME.fullmatch(gid or "")
            if name is not None:
                found.append((participant, name, int(seconds or 0)))
    return sorted(found, key=lambda each: places.deciding(each[1]) is not each[0])
