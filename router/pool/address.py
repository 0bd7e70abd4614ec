"""One server of one shard, as the configuration names it."""

from __future__ import annotations

from dataclasses import dataclass

from ..records import fields


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is and what it is.

    Attributes:
        pool: name of the pool, which is the database that clients ask for.
        database: the database on the server.
        index: position in the shard's list of servers.
        weight: its share of what several servers could do.
        number: counts the servers of the shard that have the same role from 0.
        is_primary: or else a replica; False as well if it `is_auto`, that is, tells by itself.
    """

    pool: str
    shard: int
    index: int
    number: int
    is_primary: bool
    host: str
    port: int
    database: str
    is_auto: bool = False
    weight: int = 1

    @property
    def role(self) -> str:
        """The word for it in pgcat.toml."""
        if self.is_auto:
            return "auto"
        return "primary" if self.is_primary else "replica"

    @property
    def name(self) -> str:
        """PgCat's name for it, such as app_shard_0_replica_1 or app_shard_0_auto_1."""
        suffix = "" if self.is_primary else f"_{self.number}"
        return f"{self.pool}_shard_{self.shard}_{self.role}{suffix}"

    @property
    def where(self) -> str:
        """Host and port, as they are written in one word."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def fields(self, user: str, **more: object) -> dict[str, object]:
        """What it is to the pool of a user, and `more`, for the `extra` of a log call."""
        return fields(
            database=self.pool,
            user=user,
            server=self.where,
            shard=self.shard,
            role=self.role,
            **more,
        )

    @property
    def label(self) -> str:
        """What an error should call it."""
        role = "server" if self.is_auto else self.role
        where = f" {self.where}" if self.host else ""
        return f"{role}{where} of shard {self.shard}"
