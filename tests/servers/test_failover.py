"""A failover under load loses nothing that was acknowledged, and fails no read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .failover import SETTINGS, fail_over

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import PrivateCluster


@pytest.mark.slow
def test_a_failover_under_load_loses_nothing_and_reads_go_on(
    private_cluster: PrivateCluster, tmp_path: Path
) -> None:
    cluster = private_cluster(replicas=2, settings=SETTINGS)
    cluster.wait_for_replication()
    outcome = fail_over(cluster, tmp_path, clients=10)
    assert (outcome.lost, outcome.strays) == (0, 0), outcome.lines()
    assert outcome.reads.failed == {}, outcome.lines()
    # Each of the five that write loses at most what it had under way.
    assert set(outcome.writes.failed) <= {"08006", "57P01", "57P02"}
    assert sum(outcome.writes.failed.values()) <= 5
