"""LISTEN in a pool with several shards: it is of the shard that it goes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.strict.test_listening import notification
from tests.support.router import PoolText, primary_of, wait_until
from tests.support.wire import WireClient, query

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.cluster.server import Server
    from tests.support.postgres import Database
    from tests.support.router import RouterProcess

SHARDS = 2


@pytest.fixture
def shards(postgres: Server, make_database: Callable[..., Database]) -> list[Database]:
    """A database for each shard."""
    return [make_database(postgres) for _ in range(SHARDS)]


def pool_of(shards: list[Database], default: str) -> PoolText:
    """A pool in front of them."""
    return PoolText(
        [primary_of(shard.server) for shard in shards],
        databases=[shard.name for shard in shards],
        options=f'listen = "shared"\ndefault_shard = "{default}"',
    )


def listeners(router: RouterProcess) -> list[tuple[str, str]]:
    """Which channels of which shards somebody listens to."""
    found = router.admin("SHOW LISTENERS")
    return sorted((row["shard"], row["channel"]) for row in found if row["listeners"] != "0")


def test_each_shard_has_channels_of_its_own(
    shards: list[Database], start_router: Callable[..., RouterProcess]
) -> None:
    router = start_router({"app": pool_of(shards, "shard_0")})
    with WireClient.login(router.port, "app") as client:
        client.query("LISTEN a")
        client.query("SET SHARD TO 1")
        client.query("LISTEN b")
        client.query("LISTEN c")
        wait_until(
            "all are heard", lambda: listeners(router) == [("0", "a"), ("1", "b"), ("1", "c")]
        )
        for shard in shards:
            for channel in "abc":
                shard.execute(f"NOTIFY {channel}, '{shards.index(shard)}'")
        told = sorted(notification(client.read_message()) for _ in range(3))
        assert told == [("a", "0"), ("b", "1"), ("c", "1")]
        client.query("UNLISTEN *")
        wait_until("those of the shard are gone", lambda: listeners(router) == [("0", "a")])
        client.query("SET SHARD TO 0")
        assert notification(client.ask(query("NOTIFY a, 'own'"))[-2]) == ("a", "own")
        client.query("DISCARD ALL")
        wait_until("all are gone", lambda: listeners(router) == [])


def test_who_listens_on_a_shard_that_was_drawn_is_told_which(
    shards: list[Database], start_router: Callable[..., RouterProcess]
) -> None:
    router = start_router({"app": pool_of(shards, "random")})
    with WireClient.login(router.port, "app") as client:
        client.query("LISTEN a")
        notice = client.read_message()
        assert notice.fields["M"].startswith("you listen on shard ")
        number = int(notice.fields["M"].split()[4])
        shards[number].execute("NOTIFY a, 'heard'")
        assert notification(client.read_message()) == ("a", "heard")
