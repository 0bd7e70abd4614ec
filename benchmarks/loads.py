"""The loads of the suite, a row each: what is done, by how many, with which setup."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from .beds import USUAL, Routing, Setup
from .targets import SCRAM
from .works import Bench, Crowd, Idle, Storm, Stream, Work


@dataclass(frozen=True, slots=True)
class Load:
    """One row of the suite's tables.

    Attributes:
        group: what it is about; rows of one group stand together.
        is_quick: whether the short suite has it, too.
    """

    group: str
    name: str
    work: Work
    setup: Setup = USUAL
    is_quick: bool = False

    def matches(self, words: tuple[str, ...]) -> bool:
        """Whether one of the words is in its name; no words are in all."""
        return not words or any(word in f"{self.group}: {self.name}" for word in words)


READS: Final = "reads (pgbench -S)"
POOLS: Final = "reads, other pools"
WRITES: Final = "writes"
LOGINS: Final = "logins"
SIZES: Final = "large answers and COPY"
ROUTING: Final = "routing"
IDLE: Final = "memory"
STORM: Final = "while others log in"

LOADS: Final = (
    Load(READS, "simple, 1 client", Bench(1), is_quick=True),
    Load(READS, "simple, 8 clients", Bench(8)),
    Load(READS, "simple, 32 clients", Bench(32), is_quick=True),
    Load(READS, "simple, 128 clients", Bench(128), is_quick=True),
    Load(READS, "simple, 256 clients", Bench(256)),
    Load(READS, "simple, 1,000 clients", Bench(1000), is_quick=True),
    Load(READS, "extended, 8 clients", Bench(8, "extended")),
    Load(READS, "extended, 32 clients", Bench(32, "extended"), is_quick=True),
    Load(READS, "prepared, 1 client", Bench(1, "prepared")),
    Load(READS, "prepared, 8 clients", Bench(8, "prepared")),
    Load(READS, "prepared, 32 clients", Bench(32, "prepared"), is_quick=True),
    Load(READS, "prepared, 128 clients", Bench(128, "prepared")),
    Load(POOLS, "simple, 128 clients, pool of 8", Bench(128), Setup(pool=8)),
    Load(POOLS, "simple, 128 clients, pool of 40", Bench(128), Setup(pool=40)),
    Load(WRITES, "TPC-B, 32 clients", Bench(32, script="tpcb"), is_quick=True),
    Load(LOGINS, "one a transaction, trust", Bench(16, reconnects=True), is_quick=True),
    Load(LOGINS, "one a transaction, SCRAM", Bench(16, reconnects=True), Setup(login=SCRAM)),
    Load(LOGINS, "1,000 at once, trust", Crowd(1000), is_quick=True),
    Load(LOGINS, "1,000 at once, SCRAM", Crowd(1000), Setup(login=SCRAM)),
    Load(SIZES, "100 rows, 8 clients", Bench(8, script="100 rows")),
    Load(SIZES, "1 MB, 8 clients", Bench(8, script="1 MB"), is_quick=True),
    Load(SIZES, "a result of 2 million rows", Stream("rows", 2_000_000)),
    Load(SIZES, "COPY of 2 million rows out", Stream("copy out", 2_000_000), is_quick=True),
    Load(SIZES, "COPY of 1 million rows in", Stream("copy in", 1_000_000), is_quick=True),
    Load(
        ROUTING,
        "32 clients: reads to a replica",
        Bench(32),
        Setup(routing=Routing.REPLICA),
    ),
    Load(
        ROUTING,
        "32 clients: 9 reads to a replica, 1 TPC-B",
        Bench(32, script="mixed"),
        Setup(routing=Routing.REPLICA),
    ),
    Load(
        ROUTING,
        "32 clients: automatic key, 2 shards",
        Bench(32),
        Setup(routing=Routing.KEY),
        is_quick=True,
    ),
    Load(IDLE, "1,000 idle clients", Idle(1000), Setup(is_fresh=True), is_quick=True),
    Load(IDLE, "1,000 idle clients, TLS", Idle(1000, is_tls=True), Setup(is_tls=True)),
    Load(STORM, "reads of 8 beside 1,000 newcomers, trust", Storm(8, 1000), is_quick=True),
)


def select(*, is_quick: bool, words: tuple[str, ...]) -> list[Load]:
    """The rows that are asked for; those of one setup follow each other."""
    found = [load for load in LOADS if (load.is_quick or not is_quick) and load.matches(words)]
    setups = list(dict.fromkeys(load.setup for load in found))
    return sorted(found, key=lambda load: setups.index(load.setup))
