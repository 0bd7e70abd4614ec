"""Clients that read and write while something is done to the servers, and their records."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from tests.support.router import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from psycopg.rows import TupleRow

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

    Link = psycopg.Connection[TupleRow]

OPTIONS = """\
query_parser_enabled = true
query_parser_read_write_splitting = true
query_wait_timeout = 60000
"""
GENERAL = "healthcheck_delay = 500\nhealthcheck_timeout = 2000\n"
TABLES = """\
CREATE TABLE written (n bigint PRIMARY KEY, at timestamptz DEFAULT clock_timestamp());
CREATE TABLE few AS SELECT generate_series(1, 10) AS n
"""
# What a statement may fail with that a server has been sent: nobody knows what became of it.
IN_FLIGHT = frozenset(("08006", "57P01", "57P02", "connection"))
# Numbers of a client's rows begin here times its own.
_RANGE = 1_000_000


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that has failed.

    Attributes:
        sqlstate: "connection" if the end of the connection was all that came; it begins with
            "login " if there was no session yet.
    """

    began: float
    ended: float
    sqlstate: str


@dataclass
class Record:
    """What one client has seen.

    Attributes:
        done: when each call began and ended that succeeded.
        acknowledged: the numbers that have been written by these.
        failures: the others.
    """

    done: list[tuple[float, float]] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @classmethod
    def of_all(cls, records: Sequence[Record]) -> Record:
        """What all clients have seen."""
        joined = cls()
        for record in records:
            joined.done += record.done
            joined.acknowledged += record.acknowledged
            joined.failures += record.failures
        return joined

    @property
    def longest(self) -> float:
        """The longest time that a call took which succeeded."""
        return max((end - begin for begin, end in self.done), default=0.0)

    @property
    def failed(self) -> dict[str, int]:
        """How many calls have failed, by SQLSTATE."""
        return dict(Counter(failure.sqlstate for failure in self.failures))

    def line(self, name: str) -> str:
        """The figures."""
        return (
            f"{name}: {len(self.done)} done, the longest in {self.longest:.2f} s; "
            f"failed: {self.failed or 'none'}"
        )


class Clients:
    """Clients in threads, which connect again when they are cut off."""

    def __init__(
        self,
        dsn: str,
        *,
        writers: int,
        readers: int,
        transactions: int = 0,
        preparers: int = 0,
    ) -> None:
        self._dsn = dsn
        self._stop = threading.Event()
        self.writes = [Record() for _ in range(writers)]
        self.reads = [Record() for _ in range(readers)]
        self.transactions = [Record() for _ in range(transactions)]
        self.prepared = [Record() for _ in range(preparers)]
        kinds = [(record, _write) for record in self.writes]
        kinds += [(record, _read) for record in self.reads]
        kinds += [(record, _transaction) for record in self.transactions]
        kinds += [(record, _prepared) for record in self.prepared]
        self._threads = [
            threading.Thread(target=self._run, args=(record, call, number * _RANGE))
            for number, (record, call) in enumerate(kinds)
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, after the calls that are under way."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def by_kind(self) -> dict[str, list[Record]]:
        """The records, by what the clients do."""
        return {
            "writes": self.writes,
            "reads": self.reads,
            "transactions": self.transactions,
            "prepared": self.prepared,
        }

    def wait_for_calls(self) -> None:
        """Wait until each client has had an answer to something that it has asked from now."""
        now = time.monotonic()
        for record in (record for records in self.by_kind.values() for record in records):
            wait_until("all go on", lambda: record.done and record.done[-1][0] > now)  # noqa: B023

    def acknowledged_after(self, moment: float) -> float:
        """When the first write was acknowledged from then on, whenever it began."""
        ends = [end for record in self.writes for _, end in record.done if end > moment]
        return min(ends, default=0.0)

    def first_write_after(self, moment: float) -> float:
        """When the first write was acknowledged that has begun later."""
        done = [each for record in self.writes for each in record.done if each[0] > moment]
        return min((end for _, end in done), default=0.0)

    def _run(self, record: Record, call: Callable[[Link, int], list[int]], number: int) -> None:
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                link = psycopg.connect(self._dsn, autocommit=True)
            except psycopg.Error as error:
                _note(record, began, error, "login ")
                continue
            while not self._stop.is_set() and not link.closed:
                number += 2
                _call(record, link, call, number)
            link.close()


def health_of(router: RouterProcess, server: Server) -> dict[str, str]:
    """The row of SHOW HEALTH for a server."""
    rows = router.admin("SHOW HEALTH")
    [row] = [row for row in rows if row["port"] == str(server.port)]
    return row


def _call(
    record: Record, link: Link, call: Callable[[Link, int], list[int]], number: int
) -> None:
    began = time.monotonic()
    try:
        written = call(link, number)
    except psycopg.Error as error:
        _note(record, began, error)
        return
    record.done.append((began, time.monotonic()))
    record.acknowledged += written


def _note(record: Record, began: float, error: psycopg.Error, where: str = "") -> None:
    sqlstate = where + (error.sqlstate or "connection")
    record.failures.append(Failure(began, time.monotonic(), sqlstate))


def _write(link: Link, number: int) -> list[int]:
    link.execute("INSERT INTO written VALUES (%s)", (number,))
    return [number]


def _read(link: Link, number: int) -> list[int]:
    link.execute("SELECT count(*) FROM few")
    return []


def _transaction(link: Link, number: int) -> list[int]:
    with link.transaction():
        link.execute("INSERT INTO written VALUES (%s)", (number,))
        link.execute("SELECT count(*) FROM few")
        link.execute("INSERT INTO written VALUES (%s)", (number + 1,))
    return [number, number + 1]


def _prepared(link: Link, number: int) -> list[int]:
    link.execute("SELECT count(*) FROM few WHERE n <> %s", (number,), prepare=True)
    link.execute("INSERT INTO written VALUES (%s)", (number,), prepare=True)
    return [number]
