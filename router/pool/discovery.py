"""Servers that are not configured but found: the members of clusters that Patroni manages.

Each cluster, which is a shard of a database with the key `patroni`, has a task that asks one of
its APIs again and again. What they tell replaces the servers of the shard in site: who stays a
member keeps its connections, its bans and its health. Who is the primary is not taken from
there: servers are asked themselves, as all with `role = "auto"` are. While nobody answers, and
if an answer makes no sense, the members that were known last stay.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import trio

from ..errors import ServerProtocolError
from ..printable import printable
from ..reasons import reason
from . import patroni

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..config.model import Config
    from ..engine.loop import Engine
    from .address import Address
    from .patroni import Member

log = logging.getLogger("router.pool")

# How often a cluster is asked, and how long one of its APIs may take, in seconds.
INTERVAL: Final = 2.0
TIME_LIMIT: Final = 2.0

Key = tuple[str, int]
"""Of a cluster: the database, and the number of the shard."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a server is that a shard has now, and its share of reads."""

    host: str
    port: int
    weight: int = 1


def site_of(address: Address) -> Site:
    """Where a server is that a shard has."""
    return Site(address.host, address.port, address.weight)


def address_of(site: Site, template: Address, number: int) -> Address:
    """The server there, in the shard of another one."""
    return replace(
        template,
        host=site.host,
        port=site.port,
        weight=site.weight,
        index=number,
        number=number,
    )


class Shards(Protocol):
    """Who has the servers."""

    def change_servers(self, key: Key, sites: Sequence[Site]) -> None:
        """A shard has these servers from now on."""

    def restore_servers(self, key: Key) -> None:
        """A shard has the servers of its configuration again."""

    def doubt_servers(self, key: Key) -> None:
        """The servers of a shard may have changed their roles."""


class Cluster:
    """One cluster and what is known of it.

    Attributes:
        urls: of its APIs.
        members: as they were told last; none before.
        url: which API has told, or was asked last.
        error: why there was no answer, or "".
        asked_at, answered_at: as time.monotonic(), or None.
        over: set when the configuration has it no more.
    """

    def __init__(self, key: Key, urls: tuple[str, ...]) -> None:
        self.key: Final = key
        self.urls: Final = urls
        self.members: tuple[Member, ...] = ()
        self.url = urls[0]
        self.error = ""
        self.asked_at: float | None = None
        self.answered_at: float | None = None
        self.over: Final = trio.Event()
        self.sites: tuple[Site, ...] = ()

    @property
    def name(self) -> str:
        """What logs call it."""
        return f"shard {self.key[1]} of {printable(self.key[0])}"

    @property
    def leader(self) -> str:
        """The name of the member that leads, or ""."""
        return next((each.name for each in self.members if each.is_leader), "")


class Discovery:
    """All clusters, and the tasks that ask."""

    def __init__(self, engine: Engine, shards: Shards) -> None:
        self._engine: Final = engine
        self._shards: Final = shards
        self._clusters: dict[Key, Cluster] = {}
        self._news = trio.Event()
        self._trust = patroni.Trust()

    def clusters(self) -> list[Cluster]:
        """Those of the configuration."""
        return list(self._clusters.values())

    def use(self, config: Config) -> None:
        """Ask for what a configuration wants; call it when the pools are as it says."""
        general = config.general
        self._trust = patroni.Trust(
            general.patroni_ca_file, general.patroni_certificate, general.patroni_private_key
        )
        wanted = {
            (pool.name, number): shard.patroni
            for pool in config.pools.values()
            for number, shard in enumerate(pool.shards)
            if shard.patroni
        }
        for key, cluster in list(self._clusters.items()):
            if wanted.get(key) != cluster.urls:
                del self._clusters[key]
                cluster.over.set()
                self._shards.restore_servers(key)
        for key, urls in wanted.items():
            if key not in self._clusters:
                self._clusters[key] = Cluster(key, urls)
        self._news.set()
        self._news = trio.Event()

    async def watch(self) -> None:
        """Ask for ever."""
        async with trio.open_nursery() as nursery:
            followed: set[Cluster] = set()
            while True:
                news = self._news
                for cluster in self.clusters():
                    if cluster not in followed:
                        followed.add(cluster)
                        nursery.start_soon(self._follow, cluster, followed)
                await news.wait()

    async def _follow(self, cluster: Cluster, followed: set[Cluster]) -> None:
        while not cluster.over.is_set():
            await self.ask(cluster)
            with trio.move_on_after(INTERVAL):
                await cluster.over.wait()
        followed.discard(cluster)

    async def ask(self, cluster: Cluster) -> None:
        """Ask a cluster's APIs, first the one that has answered last, until one tells."""
        urls = [cluster.url, *(url for url in cluster.urls if url != cluster.url)]
        first_error = ""
        for url in urls:
            try:
                with trio.fail_after(TIME_LIMIT):
                    members = await patroni.ask(url, self._trust)
                if not any(member.is_running for member in members):
                    raise ServerProtocolError("no member is running")
            except trio.TooSlowError:
                error = "it did not answer in time"
            except (OSError, UnicodeError) as failure:
                error = reason(failure) if isinstance(failure, OSError) else str(failure)
            except trio.BrokenResourceError:
                error = "the connection broke"
            except ServerProtocolError as failure:
                error = failure.message
            except Exception:
                log.exception("cannot ask Patroni at %s", printable(url))
                error = "internal error"
            else:
                self._engine.attempt(partial(self._answered, cluster, url, members))
                return
            first_error = first_error or f"{url}: {error}"
        self._unanswered(cluster, first_error)

    def _unanswered(self, cluster: Cluster, error: str) -> None:
        cluster.asked_at = self._engine.now
        if not cluster.error:
            log.warning(
                "%s: Patroni tells nothing, the servers stay as they are: %s",
                cluster.name,
                printable(error),
            )
        cluster.error = error

    def _answered(self, cluster: Cluster, url: str, members: tuple[Member, ...]) -> None:
        if cluster.over.is_set():
            return
        if cluster.error:
            log.info("%s: Patroni tells again, at %s", cluster.name, printable(url))
        led, cluster.url, cluster.error = cluster.leader, url, ""
        cluster.asked_at = cluster.answered_at = self._engine.now
        cluster.members = members
        known = {(site.host, site.port) for site in cluster.sites}
        # Who does not run is not taken in; but who is in is asked, as ever, how it is.
        sites = tuple(
            Site(member.host, member.port, weight=0 if member.is_spared else 1)
            for member in members
            if member.is_running or (member.host, member.port) in known
        )
        if sites != cluster.sites:
            cluster.sites = sites
            told = ", ".join(f"{site.host}:{site.port}" for site in sites)
            log.info("%s: the servers are %s, says Patroni", cluster.name, printable(told))
            self._shards.change_servers(cluster.key, sites)
        if cluster.leader != led:
            log.info("%s: %s leads, says Patroni", cluster.name, printable(cluster.leader))
            self._shards.doubt_servers(cluster.key)
