"""Which features of a session clients use: the figures of SHOW SESSION_FEATURES.

What a statement uses is seen in its text, and remembered with whatever remembers the text.
What it has left at a server is told by the server, when a client is pinned there for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..firstwords import SHORT_GAP

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# So many applications of one pool are told apart, and so much of their names.
MOST_APPLICATIONS: Final = 50
_LONGEST_NAME: Final = 64
# So much of a text is read for commands.
_READ: Final = 8 << 10
OTHERS: Final = "(others)"
"""All applications beyond those."""

FOLLOWS: Final = "follows"
"""In transaction mode it goes with the client from server to server."""
KEEPS: Final = "keeps the server"
"""There the client keeps its server while it is there."""
ASKED: Final = "is looked at"
"""There the server is asked what it has left."""

TEMPORARY: Final = "temporary table"
LOCK: Final = "advisory lock"
HOLD: Final = "cursor WITH HOLD"
LISTEN: Final = "LISTEN"
PREPARE: Final = "PREPARE"
HIDDEN: Final = "LOAD, setseed or dblink"
AUTHORIZATION: Final = "SET SESSION AUTHORIZATION"

# Each is a bit, by its place. Those that keep a server have the names of reasons to do so.
_FEATURES: Final = (
    ("SET", FOLLOWS),
    ("RESET", FOLLOWS),
    ("set_config()", FOLLOWS),
    ("SET ROLE", FOLLOWS),
    (PREPARE, FOLLOWS),
    ("DISCARD ALL", FOLLOWS),
    (TEMPORARY, KEEPS),
    (LOCK, KEEPS),
    (HOLD, KEEPS),
    (LISTEN, KEEPS),
    (AUTHORIZATION, KEEPS),
    (HIDDEN, KEEPS),
    ("large object", ASKED),
    ("DO or CALL", ASKED),
)
_KIND: Final = dict(_FEATURES)
BITS: Final = {name: 1 << place for place, (name, _) in enumerate(_FEATURES)}

# Comments before a command are few and short: whoever hides it behind others is not counted.
_GAP: Final = SHORT_GAP.decode()
_COMMAND: Final = re.compile(
    rf"(?:\A|;){_GAP}{{0,8}}(set|reset|listen|load|discard|do|call)\b"
    rf"(?:{_GAP}{{1,8}}(session|local|role|transaction|constraints|all))?\b"
    rf"(?:{_GAP}{{1,8}}(authorization|role))?\b"
)


def commands_in(low: str) -> int:
    """The features, as bits, of the commands in a text in lower case; in its beginning."""
    found = 0
    for first, second, third in _COMMAND.findall(low[:_READ]):
        if first == "set":
            found |= _of_set(second, third)
        elif first == "discard":
            found |= BITS["DISCARD ALL"] if second == "all" else 0
        elif first == "load":
            found |= BITS[HIDDEN]
        elif first in ("do", "call"):
            found |= BITS["DO or CALL"]
        else:
            found |= BITS[first.upper()]
    return found


def _of_set(second: str, third: str) -> int:
    if second in ("local", "transaction", "constraints"):
        return 0  # for the transaction only
    if third == "authorization":
        return BITS[AUTHORIZATION]
    if "role" in (second, third):
        return BITS["SET ROLE"]
    return BITS["SET"]


class _Use:
    """What has been counted of one feature of one application. Times are time.monotonic()."""

    __slots__ = ("count", "last", "longest", "pins", "refused", "since")

    def __init__(self) -> None:
        self.count = 0
        self.last = 0.0
        self.pins = 0
        self.refused = 0
        self.longest = 0.0
        # When those began that last, by whatever they are known by.
        self.since: dict[object, float] = {}


@dataclass(frozen=True, slots=True)
class FeatureSnapshot:
    """A row of SHOW SESSION_FEATURES; ages are in seconds.

    Attributes:
        transaction_mode: what becomes of it there.
        uses: statements that use it.
        age: of the last one; None if there was none.
        pins, pinned: how often it has kept a client at a server, and how many it keeps now.
        longest: for how long at most.
        refused: how often what was left was removed, because too many were kept.
    """

    database: str
    user: str
    application: str
    feature: str
    transaction_mode: str
    uses: int
    age: float | None
    pins: int
    pinned: int
    longest: float
    refused: int


class Features:
    """What the clients of one pool use."""

    def __init__(self) -> None:
        self._applications: dict[str, dict[str, _Use]] = {}

    def note(self, application: str, bits: int, now: float) -> None:
        """A statement is on its way that uses these."""
        for name, bit in BITS.items():
            if bits & bit:
                use = self._use(application, name)
                use.count += 1
                use.last = now

    def pin(self, application: str, pin: object, reasons: Iterable[str], since: float) -> None:
        """A client keeps its server for these reasons, for as long as it has the pin."""
        for name in reasons:
            use = self._use(application, name)
            if pin not in use.since:
                use.since[pin] = since
                use.pins += 1

    def unpin(self, pin: object, now: float) -> None:
        """It does not any more."""
        for uses in self._applications.values():
            for use in uses.values():
                since = use.since.pop(pin, None)
                if since is not None:
                    use.longest = max(use.longest, now - since)

    def refuse(self, application: str, reasons: Iterable[str]) -> None:
        """What a client has left was removed."""
        for name in reasons:
            self._use(application, name).refused += 1

    def snapshots(
        self, database: str, user: str, now: float, *, is_listening: bool
    ) -> Iterator[FeatureSnapshot]:
        """The rows; `is_listening`: one connection listens for all clients of the pool."""
        for application, uses in sorted(self._applications.items()):
            for name in _KIND:
                use = uses.get(name)
                if use is None:
                    continue
                open_for = max([now - since for since in use.since.values()], default=0.0)
                yield FeatureSnapshot(
                    database,
                    user,
                    application,
                    name,
                    FOLLOWS if name == LISTEN and is_listening else _KIND[name],
                    use.count,
                    now - use.last if use.count else None,
                    use.pins,
                    len(use.since),
                    max(use.longest, open_for),
                    use.refused,
                )

    def _use(self, application: str, name: str) -> _Use:
        key = application[:_LONGEST_NAME]
        uses = self._applications.get(key)
        if uses is None:
            if len(self._applications) >= MOST_APPLICATIONS:
                key = OTHERS
            uses = self._applications.setdefault(key, {})
        return uses.setdefault(name, _Use())
