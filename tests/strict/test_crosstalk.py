"""Nobody is answered what is another's, while everything goes wrong at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from benchmarks.crosstalk import Plan, play

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import Database

PLAN = Plan(seconds=6.0, seed=20, clients=60, length=40, pool_size=6, processes=1)


def test_nobody_is_answered_what_is_anothers(database: Database, tmp_path: Path) -> None:
    outcome = play(database.server, database.name, tmp_path, PLAN)
    tally = outcome.tally
    assert tally.mismatches == []
    assert tally.unanswered == []
    assert tally.messages > 0
    assert outcome.is_right
    assert 0 < sum(tally.lost.values()) <= outcome.kills  # whose server is well hears of none
    assert outcome.reloads > 0
    assert tally.left > 0
    assert tally.canceled > 0


def test_nor_do_those_who_share_a_server(database: Database, tmp_path: Path) -> None:
    plan = replace(PLAN, seed=21, options='multiplexing = "reads"')
    outcome = play(database.server, database.name, tmp_path, plan)
    assert outcome.tally.mismatches == []
    assert outcome.tally.unanswered == []
    assert outcome.is_right
    assert outcome.shared > 0
