"""Clusters whose members are asked for: whom, how often, and what their answers change."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

from router.pool import discovery
from router.pool.discovery import Cluster, Discovery, Site
from tests.config.builders import config
from tests.support.harness import FakeEngine
from tests.support.patroni import Patroni

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from router.pool.discovery import Key

KEY = ("app", 0)
SHARD = "pools/app/shards/0"


class Shards:
    """Who has the servers: notes what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def change_servers(self, key: Key, sites: Sequence[Site]) -> None:
        """There are other servers."""
        self.told.append([f"{site.host}*{site.weight}" for site in sites])

    def restore_servers(self, key: Key) -> None:
        """There are those of the configuration."""
        self.told.append("restored")

    def doubt_servers(self, key: Key) -> None:
        """They may have changed their roles."""
        self.told.append("doubted")

    def take(self) -> list[object]:
        """What it has been told since the last time."""
        told, self.told = self.told, []
        return told


def member(
    name: str, role: str = "replica", state: str = "streaming", **more: object
) -> object:
    """One of a cluster."""
    return {"name": name, "host": name, "port": 5432, "role": role, "state": state, **more}


LEADER = member("a", "leader", "running")


@pytest.fixture
def shards() -> Shards:
    """Told by `asked`."""
    return Shards()


@pytest.fixture
def found(shards: Shards) -> Discovery:
    """Of a configuration without any."""
    return Discovery(FakeEngine(), shards)


@pytest.fixture
def api() -> Iterator[Patroni]:
    """The API of one member."""
    with Patroni() as made:
        yield made


def tell(api: Patroni, *members: object) -> None:
    """Have these be the members."""
    api.body = json.dumps({"members": members}).encode()


async def test_servers_are_changed_when_members_are_others_and_doubted_when_another_leads(
    found: Discovery, shards: Shards, api: Patroni
) -> None:
    cluster = Cluster(KEY, (api.url,))
    tell(api, LEADER, member("b"))
    await found.ask(cluster)
    assert shards.take() == [["a*1", "b*1"], "doubted"]
    await found.ask(cluster)
    assert shards.take() == []
    tell(api, member("a"), member("b", "leader", "running"))
    await found.ask(cluster)
    assert shards.take() == ["doubted"]
    tell(api, member("b", "leader", "running"))
    await found.ask(cluster)
    assert shards.take() == [["b*1"]]
    tell(api, member("b", "leader", "running", tags={"noloadbalance": True}))
    await found.ask(cluster)
    assert shards.take() == [["b*0"]]


async def test_who_does_not_run_is_not_taken_in_and_not_left_out(
    found: Discovery, shards: Shards, api: Patroni
) -> None:
    cluster = Cluster(KEY, (api.url,))
    for state, expected in (("starting", ["a*1"]), ("streaming", ["a*1", "b*1"])):
        tell(api, LEADER, member("b", state=state))
        await found.ask(cluster)
        assert shards.take()[0] == expected
    tell(api, LEADER, member("b", state="stopped"))
    await found.ask(cluster)
    assert shards.take() == []


@pytest.mark.parametrize("members", [(), (member("a", state="stopped"), member("b", state=""))])
async def test_an_answer_without_anybody_who_runs_is_none(
    found: Discovery, shards: Shards, api: Patroni, members: Sequence[object]
) -> None:
    cluster = Cluster(KEY, (api.url,))
    tell(api, LEADER)
    await found.ask(cluster)
    shards.take()
    tell(api, *members)
    await found.ask(cluster)
    assert shards.take() == []
    assert cluster.error == f"{api.url}: no member is running"
    assert [each.name for each in cluster.members] == ["a"]


async def test_the_one_that_has_told_is_asked_first_and_then_the_others(
    found: Discovery, api: Patroni, caplog: pytest.LogCaptureFixture
) -> None:
    with Patroni() as other:
        with Patroni() as gone:
            pass
        cluster = Cluster(KEY, (gone.url, api.url, other.url))
        for each in (api, other):
            tell(each, LEADER)
        for _ in range(3):
            await found.ask(cluster)
        assert (api.asked, other.asked, cluster.url) == (3, 0, api.url)
        api.status = 503
        await found.ask(cluster)
        assert (api.asked, other.asked, cluster.url) == (4, 1, other.url)
        other.status = 503
        for _ in range(2):
            await found.ask(cluster)
        # The first that was asked has the word.
        assert cluster.error == f"{other.url}: the answer is HTTP status 503"
        assert (api.asked, other.asked) == (6, 3)
        assert caplog.text.count("Patroni tells nothing") == 1
        api.status = 200
        await found.ask(cluster)
        assert cluster.error == ""


async def test_an_api_that_says_nothing_has_its_time(
    found: Discovery, api: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "TIME_LIMIT", 0.05)
    api.body = None
    cluster = Cluster(KEY, (api.url,))
    with trio.fail_after(60):
        await found.ask(cluster)
    assert cluster.error == f"{api.url}: it did not answer in time"


async def test_an_answer_that_comes_when_nobody_wants_it_changes_nothing(
    found: Discovery, shards: Shards, api: Patroni
) -> None:
    cluster = Cluster(KEY, (api.url,))
    cluster.over.set()
    tell(api, LEADER)
    await found.ask(cluster)
    assert shards.take() == []


def test_a_reload_asks_for_what_it_wants_and_no_more(found: Discovery, shards: Shards) -> None:
    def use(**keys: object) -> list[Cluster]:
        entry = {"database": "d", "servers": [["h", 5432, "auto"]], **keys}
        found.use(config({SHARD: entry}))
        return found.clusters()

    assert use() == []
    [first] = use(patroni=["http://a:8008"])
    assert (first.key, first.urls) == (KEY, ("http://a:8008",))
    assert use(patroni=["http://a:8008"]) == [first]
    assert (shards.take(), first.over.is_set()) == ([], False)
    [second] = use(patroni=["http://b:8008"])
    assert first.over.is_set()
    assert shards.take() == ["restored"]
    assert second.urls == ("http://b:8008",)
    assert use() == []
    assert second.over.is_set()
    assert shards.take() == ["restored"]


async def test_each_cluster_is_asked_until_it_is_over(
    found: Discovery, shards: Shards, api: Patroni, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "INTERVAL", 0.001)
    tell(api, LEADER)
    entry = {"database": "d", "servers": [["h", 5432, "auto"]], "patroni": [api.url]}

    async def until(condition: Callable[[], bool]) -> None:
        with trio.fail_after(60):
            while not condition():
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(found.watch)
        found.use(config({SHARD: entry}))
        await until(lambda: api.asked >= 3)
        found.use(config({SHARD: {**entry, "patroni": []}}))
        asked = api.asked
        found.use(config({SHARD: entry}))
        await until(lambda: api.asked > asked)
        nursery.cancel_scope.cancel()
