"""Shards that are databases of one server, and a router with a pool before them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .postgres import Database
from .router import PoolText
from .wire import WireClient

if TYPE_CHECKING:
    from .cluster.server import Server
    from .router import RouterProcess

SHARDS: Final = 3
KEYED: Final = 'query_parser_enabled = true\nautomatic_sharding_key = "items.id"'
EXISTS: Final = "SELECT to_regclass('{}') IS NOT NULL"
LEFT: Final = "SELECT count(*) FROM pg_prepared_xacts"


class Shards:
    """Three databases, and a router with a pool before them."""

    def __init__(self, databases: list[Database], router: RouterProcess) -> None:
        self.databases = databases
        self.router = router

    def client(self, pool: str = "items") -> WireClient:
        """A client that is logged in."""
        return WireClient.login(self.router.port, user="postgres", database=pool)

    def has(self, relation: str) -> list[bool]:
        """On which shards there is a table, or whatever is one."""
        return [bool(each.execute(EXISTS.format(relation))[0][0]) for each in self.databases]

    def left(self) -> int:
        """How many prepared transactions there are."""
        return int(self.databases[0].execute(LEFT)[0][0])


def make_shards(server: Server) -> list[Database]:
    """Make the databases."""
    databases = [Database(server, f"shard_{number}") for number in range(SHARDS)]
    for database in databases:
        server.execute(f"CREATE DATABASE {database.name}")
        database.execute("CREATE TABLE items (id bigint, body text)")
    return databases


def pool_of(
    places: list[list[tuple[str, int, str]]], databases: list[Database], options: str = KEYED
) -> PoolText:
    """A pool of theirs, by way of these places."""
    names = [database.name for database in databases]
    return PoolText(shards=places, databases=names, pool_size=2, options=options)
