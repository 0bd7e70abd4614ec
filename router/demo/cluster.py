"""Throw-away PostgreSQL clusters: shards, each a primary with streaming replicas."""

from __future__ import annotations

import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from .account import ClusterError, unprivileged_account
from .installation import Installation, find_installation
from .server import (
    SUPERUSER,
    PortInUse,
    Server,
    free_port,
    throw_away_settings,
    wait_until,
)
from .workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

REPLICATION_SECONDS = 120.0
START_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Shard:
    """One primary and the standbys that stream from it."""

    primary: Server
    replicas: tuple[Server, ...] = ()


class Cluster:
    """Shards of one primary and some replicas each.

    Args:
        shards: how many primaries.
        replicas: how many standbys for each primary.
        hba: lines for pg_hba.conf, after those that let the superuser in from the loopback.
        base_port: first of consecutive ports; any free ones when not given.
    """

    def __init__(
        self,
        *,
        shards: int = 3,
        replicas: int = 1,
        hba: Sequence[str] = (),
        base_port: int | None = None,
    ) -> None:
        self.shards: tuple[Shard, ...] = ()
        self._counts = (shards, replicas)
        self._hba = hba
        self._base_port = base_port
        self._made: list[Server] = []
        self._workspace: Workspace | None = None

    @property
    def primary(self) -> Server:
        """The first shard's primary."""
        return self.shards[0].primary

    @property
    def root(self) -> Path:
        """The directory of everything that belongs to the cluster."""
        assert self._workspace is not None, "not started"
        return self._workspace.root

    def start(self) -> None:
        """Make the servers and start them, all at once; undo everything if one fails."""
        account = unprivileged_account()
        self._workspace = Workspace(account)
        try:
            self._make(find_installation(self.root, account))
            bring_up([shard.primary for shard in self.shards], can_move=self._can_move)
            for shard in self.shards:
                for replica in shard.replicas:
                    replica.follow(shard.primary)
            replicas = [replica for shard in self.shards for replica in shard.replicas]
            bring_up(replicas, can_move=self._can_move)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop all servers at once, without ceremony, and remove what belongs to them."""
        try:
            for server in self._made:
                server.stop()
        finally:
            self._made.clear()
            if self._workspace is not None:
                self._workspace.close()
                self._workspace = None

    def wait_for_replication(self) -> None:
        """Wait until every replica has replayed what its primary has written by now."""
        for shard in self.shards:
            wait_for_replicas(shard.primary, shard.replicas, REPLICATION_SECONDS)

    @property
    def _can_move(self) -> bool:
        return self._base_port is None

    def _make(self, installation: Installation) -> None:
        """Copy a template for every server, and arrange them in shards."""
        shards, replicas = self._counts
        template = self.root / "template"
        initialise(installation, template)
        names = [f"server{number}" for number in range(shards * (1 + replicas))]
        data_dirs = copies(installation, template, names)
        for number, data_dir in enumerate(data_dirs):
            port = free_port() if self._base_port is None else self._base_port + number
            server = Server(installation, data_dir, port)
            server.configure(throw_away_settings(data_dir))
            server.set_hba(self._hba)
            self._made.append(server)
        standbys = self._made[shards:]
        self.shards = tuple(
            Shard(primary, tuple(standbys[number * replicas : (number + 1) * replicas]))
            for number, primary in enumerate(self._made[:shards])
        )


def initialise(installation: Installation, directory: Path) -> None:
    """Make an empty data directory that servers can be copied from."""
    installation.run(
        "initdb",
        "--no-sync",
        "--encoding=UTF8",
        "--locale=C",
        "--auth=trust",
        f"--username={SUPERUSER}",
        "-D",
        directory,
    )


def copies(installation: Installation, template: Path, names: Iterable[str]) -> list[Path]:
    """Copy a data directory, once for each name."""
    data_dirs = [installation.cwd / name for name in names]
    copy = partial(installation.run, "/bin/cp", "-a", template)
    with ThreadPoolExecutor() as pool:
        list(pool.map(copy, data_dirs))
    return data_dirs


def bring_up(servers: Sequence[Server], *, can_move: bool) -> None:
    """Start servers side by side; one whose port was taken meanwhile gets another if it may."""
    for server in servers:
        server.launch()
    for server in servers:
        for attempts_left in reversed(range(START_ATTEMPTS)):
            try:
                server.wait_until_ready()
                break
            except PortInUse:
                if not can_move or not attempts_left:
                    raise
                server.port = free_port()
                server.launch()


def wait_for_replicas(primary: Server, replicas: Sequence[Server], seconds: float) -> None:
    """Wait until every replica has replayed what the primary has written by now.

    Raises:
        ClusterError: one of them did not get that far in time.
    """
    if not replicas:
        return
    [(position,)] = primary.execute("SELECT pg_current_wal_flush_lsn()::text")
    deadline = time.monotonic() + seconds
    for replica in replicas:
        if not _has_replayed(replica, str(position), deadline - time.monotonic()):
            raise ClusterError(f"{replica!r} has not replayed {position} in {seconds:g} s")


def _has_replayed(replica: Server, position: str, seconds: float) -> bool:
    with contextlib.closing(replica.connect()) as connection:

        def has_replayed() -> bool:
            cursor = connection.execute(
                "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (position,)
            )
            return cursor.fetchone() == (True,)

        return wait_until(has_replayed, seconds)
