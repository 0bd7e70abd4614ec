"""What the router makes of the corpus: verdicts, and the table of them."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from router.routing.classify import ClassifierOptions, classify
from router.routing.columns import ShardedTables
from router.routing.learned import Learned
from router.routing.verdicts import FunctionRules

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from router.routing.types import Analysis

    from .records import Record

LEAST_OFFLOADED: Final = 0.98
"""The share of the statements that a standby accepts that must go to it."""

NOT_IN_THE_TEXT: Final = {
    "my_locks": "a view calls pg_current_xact_id",
    "tstu": "the table is unlogged, so that standbys do not have it",
    "'pg_temp'": "the search path has pg_temp, which has to be made",
}
"""Why a standby refuses some reads: what they have in them, and what nobody can see in them."""

_SHARDED: Final = ShardedTables.of("*.id")


@dataclass(slots=True)
class Row:
    """The figures of one source.

    Attributes:
        source: its name.
        statements: how many there are.
        accepted: how many the standby has run.
        opaque: how many of those call the database's own functions that are not proven to
            only read: dynamic SQL for the most part. Only read_functions can say so.
        offloaded: how many of the accepted are reads to the router.
        reasons: why the others are none.
        hidden: reads to the router that need a primary, which the text does not tell.
        wrong: other reads to the router that need a primary.
        slowest: seconds that the longest analysis took.
    """

    source: str
    statements: int = 0
    accepted: int = 0
    opaque: int = 0
    offloaded: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: float = 0.0

    @property
    def share(self) -> float:
        """The share that is offloaded of all that the standby has run."""
        return self.offloaded / self.accepted if self.accepted else 1.0

    @property
    def told_share(self) -> float:
        """The same without what is opaque."""
        told = self.accepted - self.opaque
        return self.offloaded / told if told else 1.0

    def line(self) -> str:
        """Write it as a line of the table."""
        return (
            f"{self.source:<16}{self.statements:>11}{self.accepted:>10}{self.opaque:>8}"
            f"{self.offloaded:>11}{self.share:>9.2%}{self.told_share:>9.2%}{len(self.wrong):>7}"
            f"{self.slowest * 1000:>8.1f} ms"
        )

    def add(self, record: Record, analysis: Analysis, seconds: float) -> None:
        """Count a statement."""
        self.statements += 1
        self.slowest = max(self.slowest, seconds)
        if record.is_accepted:
            self.accepted += 1
            if analysis.is_read:
                self.offloaded += 1
            elif is_opaque(record, analysis):
                self.opaque += 1
            else:
                self.reasons[analysis.reason] += 1
        elif record.is_refused and analysis.is_read:
            why = next((why for part, why in NOT_IN_THE_TEXT.items() if part in record.sql), "")
            if why:
                self.hidden[why] += 1
            else:
                self.wrong.append(record.sql)


def is_opaque(record: Record, analysis: Analysis) -> bool:
    """Say whether a function of the database's own is why a statement is no read."""
    return any(analysis.reason.endswith(f"function {name} may write") for name in record.own)


def analysed(record: Record) -> tuple[Analysis, float]:
    """Analyse a statement as a pool with a sharding key does; return the seconds, too."""
    rules = FunctionRules(learned=Learned.of(record.learned))
    options = ClassifierOptions(rules=rules, sharded=_SHARDED)
    best = float("inf")
    while True:
        start = time.thread_time()
        analysis = classify(record.sql, options)
        seconds = time.thread_time() - start
        # One that seems slow is tried again: the machine may have been busy.
        if seconds >= best or seconds < 0.002:
            return analysis, min(seconds, best)
        best = seconds


def rows(records: Iterable[Record]) -> tuple[list[Row], list[str]]:
    """Count by source; return the verdicts, too, a line for each statement."""
    found: dict[str, Row] = {}
    verdicts = []
    for record in records:
        analysis, seconds = analysed(record)
        found.setdefault(record.source, Row(record.source)).add(record, analysis, seconds)
        verdict = [record.sql, analysis.verdict.value, analysis.reason, repr(analysis)]
        verdicts.append(json.dumps(verdict))
    return list(found.values()), verdicts


def total(found: Sequence[Row]) -> Row:
    """Add all up."""
    whole = Row("all")
    for row in found:
        whole.statements += row.statements
        whole.accepted += row.accepted
        whole.opaque += row.opaque
        whole.offloaded += row.offloaded
        whole.reasons += row.reasons
        whole.hidden += row.hidden
        whole.wrong += row.wrong
        whole.slowest = max(whole.slowest, row.slowest)
    return whole


def table(found: Sequence[Row]) -> str:
    """Write the table."""
    lines = [
        f"{'source':<16}{'statements':>11}{'accepted':>10}{'opaque':>8}{'offloaded':>11}{'share':>9}"
        f"{'told':>9}"
        f"{'wrong':>7}{'slowest':>11}"
    ]
    whole = total(found)
    lines += [row.line() for row in [*found, whole]]
    lines.append("\nto the primary though a standby accepts it:")
    lines += [f"{count:>8}  {reason}" for reason, count in whole.reasons.most_common(25)]
    if whole.hidden:
        lines.append("\nsent to a replica, which refuses for reasons that are not in the text:")
        lines += [f"{count:>8}  {why}" for why, count in whole.hidden.most_common()]
    if whole.wrong:
        lines.append("\nsent to a replica, which refuses:")
        lines += [f"  {sql}" for sql in whole.wrong]
    return "\n".join(lines)
