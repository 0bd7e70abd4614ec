"""Servers are restarted one after the other under load, and only what was under way fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.cluster.server import StopMode

from .rolling import POOL_SIZE, restart_all

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.postgres import PrivateCluster


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "role"), [(StopMode.FAST, ""), (StopMode.IMMEDIATE, "auto")], ids=["fast", "auto"]
)
def test_a_rolling_restart_fails_only_what_was_under_way(
    private_cluster: PrivateCluster, tmp_path: Path, mode: StopMode, role: str
) -> None:
    cluster = private_cluster(replicas=2)
    cluster.wait_for_replication()
    outcome = restart_all(cluster, tmp_path, 12, mode, role)
    assert outcome.unsent == {}, outcome.lines()
    assert outcome.records["reads"].failed == {}, outcome.lines()
    assert outcome.cut_off == 0, outcome.lines()
    assert outcome.lost == 0, outcome.lines()
    # As many as there were connections to the three servers.
    failed = sum(len(record.failures) for record in outcome.records.values())
    assert failed <= 3 * POOL_SIZE, outcome.lines()


@pytest.mark.slow
@pytest.mark.parametrize("role", ["", "auto"], ids=["named", "auto"])
def test_servers_that_wait_for_their_clients_are_restarted_without_any_error(
    private_cluster: PrivateCluster, tmp_path: Path, role: str
) -> None:
    cluster = private_cluster(replicas=2)
    cluster.wait_for_replication()
    outcome = restart_all(cluster, tmp_path, 50, StopMode.SMART, role)
    failed = sum(len(record.failures) for record in outcome.records.values())
    assert failed == 0, outcome.lines()
    assert (outcome.cut_off, outcome.lost) == (0, 0), outcome.lines()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "role"), [(StopMode.FAST, ""), (StopMode.IMMEDIATE, "auto")], ids=["fast", "auto"]
)
def test_servers_that_are_paused_one_by_one_are_restarted_without_any_error(
    private_cluster: PrivateCluster, tmp_path: Path, mode: StopMode, role: str
) -> None:
    cluster = private_cluster(replicas=2)
    cluster.wait_for_replication()
    outcome = restart_all(cluster, tmp_path, 50, mode, role, is_paused=True)
    failed = sum(len(record.failures) for record in outcome.records.values())
    assert failed == 0, outcome.lines()
    assert (outcome.cut_off, outcome.lost) == (0, 0), outcome.lines()
