"""One server of one shard, as the configuration names it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and what it is.

    Attributes:
        pool: name of the pool, which is the database that clients ask for.
        database: the database on the server.
        index: position in the shard's list of servers.
        number: counts the replicas of the shard from 0; 0 for a primary.
        is_primary: or else a replica.
    """

    pool: str
    shard: int
    index: int
    number: int
    is_primary: bool
    host: str
    port: int
    database: str

    @property
    def role(self) -> str:
        """The word for it in pgcat.toml and SHOW."""
        return "primary" if self.is_primary else "replica"

    @property
    def name(self) -> str:
        """PgCat's name for it, such as app_shard_0_replica_1."""
        suffix = "" if self.is_primary else f"_{self.number}"
        return f"{self.pool}_shard_{self.shard}_{self.role}{suffix}"

    @property
    def label(self) -> str:
        """What an error should call it."""
        return f"{self.role} {self.host}:{self.port} of shard {self.shard}"
