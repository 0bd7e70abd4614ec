"""Errors that clients were answered with, by SQLSTATE: the figures of SHOW ERRORS."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .errors import ServerRefused
from .printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .errors import RouterError

MOST: Final = 500
"""So many kinds of errors are told apart; the rest is counted as `OTHER`."""
OTHER: Final = "other"
"""Stands for the SQLSTATEs beyond: functions can make up any code."""

# What may be somebody's value: all from the first quote to the last, and numbers.
_VALUE: Final = re.compile(r"'.*'|\".*\"|'.*|\".*|\d+", re.DOTALL)
_SQLSTATE: Final = re.compile(rb"[0-9A-Z]{5}")


class Fault:
    """One kind of error.

    Attributes:
        count: how often it was the answer.
        last_at: when it was that last, as time.monotonic().
        message: how the router's own words for it begin, without values; "" of a server.
    """

    __slots__ = ("count", "last_at", "message")

    def __init__(self) -> None:
        self.count = 0
        self.last_at = 0.0
        self.message = ""


class Ledger:
    """Where the errors of one pool are noted; of clients without one, `database` is ""."""

    __slots__ = ("_faults", "database", "is_closed", "user")

    def __init__(self, faults: Faults, database: str, user: str) -> None:
        self._faults: Final = faults
        self.database: Final = database
        self.user: Final = user
        self.is_closed = False

    def note_own(self, error: RouterError) -> None:
        """The router has answered with an error; or it has passed on why a server refused."""
        if isinstance(error, ServerRefused):
            self.note_of_server(error.sqlstate.encode("ascii", "replace"))
        else:
            self.note_message(error.sqlstate, error.message)

    def note_message(self, sqlstate: str, message: str) -> None:
        """The router has answered with these words."""
        if not self.is_closed:
            fault = self._faults.fault(self, "router", sqlstate)
            fault.message = printable(_VALUE.sub("?", message[:_LONGEST]))

    def note_of_server(self, sqlstate: bytes) -> None:
        """A server has answered with an error. Its words may have values in them."""
        if not self.is_closed:
            is_code = _SQLSTATE.fullmatch(sqlstate) is not None
            self._faults.fault(self, "server", sqlstate.decode() if is_code else OTHER)


_LONGEST: Final = 1000

Key = tuple[Ledger, str, str]


class Faults:
    """All kinds of errors: by ledger, source and SQLSTATE."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now: Final = now
        self._ledgers: dict[tuple[str, str], Ledger] = {}
        self._faults: dict[Key, Fault] = {}
        self.strangers: Final = Ledger(self, "", "")

    def ledger(self, database: str, user: str) -> Ledger:
        """That of a pool."""
        found = self._ledgers.get((database, user))
        if found is None:
            found = self._ledgers[database, user] = Ledger(self, database, user)
        return found

    def fault(self, ledger: Ledger, source: str, sqlstate: str) -> Fault:
        """What is known of a kind of error, that has just been the answer again."""
        key = (ledger, source, sqlstate)
        found = self._faults.get(key)
        if found is None:
            if len(self._faults) >= MOST:
                key = (ledger, source, OTHER)
            found = self._faults.setdefault(key, Fault())
        found.count += 1
        found.last_at = self._now()
        return found

    def __iter__(self) -> Iterator[tuple[Key, Fault]]:
        return iter(self._faults.items())

    def __len__(self) -> int:
        return len(self._faults)

    def reset(self) -> None:
        """Begin anew."""
        self._faults.clear()

    def keep(self, pools: Iterable[tuple[str, str]]) -> None:
        """Forget all pools but these, and what their clients may still be told."""
        kept = set(pools)
        for name, ledger in list(self._ledgers.items()):
            if name not in kept:
                ledger.is_closed = True
                del self._ledgers[name]
        self._faults = {
            key: fault for key, fault in self._faults.items() if not key[0].is_closed
        }
