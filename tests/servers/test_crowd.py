"""Five hundred clients share five connections, first come, first served."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest

from .crowd import gather, p99

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.cluster.server import Server


@pytest.mark.slow
@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_each_of_a_crowd_has_its_turn_before_anybody_has_another(
    postgres: Server, tmp_path: Path, extended: bool
) -> None:
    outcome = gather(postgres, tmp_path, 500, 10, extended=extended)
    # Who has been served goes to the end of the queue: nobody is served again before the rest,
    # but for those who were served or read at the same moment.
    assert max(outcome.turns) - min(outcome.turns) <= 2, outcome.lines()
    # Not in seconds, of which a busy machine has too many.
    assert p99(outcome.passed) < 3 * statistics.fmean(outcome.passed), outcome.lines()
