"""A Query that ends a batch without a Sync, and who pays for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.wire import SYNC, WireClient, query, rows, run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.strict.conftest import ModuleRouter, PoolFor
    from tests.support.router import RouterProcess

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def router(module_router: ModuleRouter, pool_for: PoolFor) -> RouterProcess:
    """With a pool of one server."""
    return module_router({"one": pool_for()})


@pytest.fixture
def other(router: RouterProcess) -> Iterator[WireClient]:
    """Who gets the server next."""
    with WireClient.login(router.port, "one") as made:
        yield made


def test_the_next_client_does_not_pay_for_a_query_within_a_batch(
    router: RouterProcess, other: WireClient
) -> None:
    with WireClient.login(router.port, "one") as client:
        for number in range(5):
            client.send(run("SELECT 'batch'") + query(f"SELECT {number}") + SYNC)
            assert rows(client.read_until("ZZ")) == [[b"batch"], [b"%d" % number]]
            # PostgreSQL has told that it is idle, and would fail this with XX000.
            assert other.value(f"SELECT {number}") == str(number)
