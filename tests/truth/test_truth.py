"""Programs do on shards what they do on one plain PostgreSQL, or are told why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .outcomes import reason
from .runner import SETTINGS, Tally, World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.router import RouterProcess

PROGRAMS = 8


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 3, 4])
def test_a_program_does_the_same_or_is_refused(
    shards: int,
    private_primary: Callable[..., Server],
    start_router: Callable[..., RouterProcess],
) -> None:
    server = private_primary(**SETTINGS)
    tally = Tally()
    for seed in (1_000_001, 1_000_002):
        with World(server, start_router, seed, shards) as world:
            world.run(PROGRAMS, tally)
    assert tally.total > 170
    assert tally.same > tally.total / 3
    assert bool(tally.refused) == (shards > 1)


def test_reasons_are_told_without_names_and_numbers() -> None:
    assert reason('table "a" is on shards 1, 2') == reason('table "b" is on shards 0')
