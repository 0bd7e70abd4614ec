"""Reads are shared among real servers as load_balancing_mode, weights and the like say."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from tests.support.router import PoolText, servers_of
from tests.support.wire import WireClient

from .test_replicas import PORT, SPLITTING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.cluster.cluster import Cluster
    from tests.support.postgres import PostgresRun
    from tests.support.router import RouterProcess

_READS = 300


@pytest.fixture(scope="module")
def cluster(postgres_run: PostgresRun) -> Iterator[Cluster]:
    """A primary and two replicas."""
    made = postgres_run.private(replicas=2)
    made.wait_for_replication()
    yield made
    made.close()


def _pool(cluster: Cluster, options: str, weights: Sequence[int] = ()) -> PoolText:
    [shard] = cluster.shards
    return PoolText(
        [servers_of(shard)], pool_size=10, options=SPLITTING + options, weights=weights
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "weights", "shares"),
    [
        ("", (), (0, 1, 1)),
        ("primary_reads_enabled = true\n", (), (1, 1, 1)),
        ("", (1, 1, 3), (0, 1, 3)),
        ("primary_reads_enabled = true\n", (2, 1, 1), (2, 1, 1)),
        ("primary_reads_enabled = true\n", (0, 1, 1), (0, 1, 1)),
        ('load_balancing_mode = "loc"\n', (), (0, 1, 1)),
        ('load_balancing_mode = "loc"\nprimary_reads_enabled = true\n', (), (1, 1, 1)),
    ],
)
def test_reads_are_shared(
    cluster: Cluster,
    start_router: Callable[..., RouterProcess],
    options: str,
    weights: Sequence[int],
    shares: tuple[int, int, int],
) -> None:
    router = start_router({"db": _pool(cluster, options, weights)})
    [shard] = cluster.shards
    with WireClient.login(router.port, "db") as client:
        found = Counter(client.value(PORT) for _ in range(_READS))
    for server, share in zip(shard.servers, shares, strict=True):
        expected = _READS * share / sum(shares)
        part = share / sum(shares)
        slack = 6 * (_READS * part * (1 - part)) ** 0.5
        assert abs(found[str(server.port)] - expected) <= slack, found


@pytest.mark.slow
@pytest.mark.parametrize("busy", [2, 6])
def test_least_outstanding_evens_out_what_is_at_work(
    cluster: Cluster, start_router: Callable[..., RouterProcess], busy: int
) -> None:
    router = start_router({"db": _pool(cluster, 'load_balancing_mode = "loc"\n')})
    [shard] = cluster.shards
    clients = [WireClient.login(router.port, "db") for _ in range(busy)]
    counts: Counter[str] = Counter()
    for client in clients:
        client.query("SET SERVER ROLE TO 'replica'")
        client.query("BEGIN")
        counts[client.value(PORT)] += 1
    assert counts == {str(replica.port): busy // 2 for replica in shard.replicas}
    for client in clients:
        client.close()
