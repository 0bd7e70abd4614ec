"""What is known of each statement of the corpus, as lines of JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SUCCESS: Final = ""
# Refusals that are due to the standby's being one. It says the third of locks, two-phase commit
# and isolation levels, the second of WAL functions.
STANDBY_REFUSES: Final = frozenset(("25006", "55000", "0A000"))


@dataclass(slots=True)
class Record:
    """A statement, and what a primary and its hot standby said to it, by SQLSTATE.

    Attributes:
        source: where it is from.
        sql: as it was sent.
        standby: "" if the standby has run it.
        primary: "" if the primary has; None if it was not asked.
        learned: functions in it that the catalogue says only read.
        own: other functions in it that are the database's own.
    """

    source: str
    sql: str
    standby: str
    primary: str | None = None
    learned: Sequence[str] = ()
    own: Sequence[str] = ()

    @property
    def is_accepted(self) -> bool:
        """Whether the standby has run it."""
        return self.standby == SUCCESS

    @property
    def is_refused(self) -> bool:
        """Whether it needs a primary: the standby objects to it and not because it is wrong."""
        if self.standby == "25006":
            return True
        return self.standby in STANDBY_REFUSES and self.primary == SUCCESS


def write(path: Path, records: Iterator[Record]) -> None:
    """Write the file of a source; it is there only when it is complete."""
    unfinished = path.with_suffix(".part")
    with unfinished.open("w") as file:
        for record in records:
            file.write(json.dumps(asdict(record)) + "\n")
    unfinished.replace(path)


def read(path: Path) -> list[Record]:
    """Read a file, each statement once: accepted if it has ever been, refused likewise."""
    found: dict[str, Record] = {}
    with path.open() as file:
        for line in file:
            record = Record(**json.loads(line))
            known = found.setdefault(record.sql, record)
            if record.is_refused or (record.is_accepted and not known.is_refused):
                found[record.sql] = record
    return list(found.values())
