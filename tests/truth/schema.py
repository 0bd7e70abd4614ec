"""Schemas made at random: tables with keys, tables on every shard, and what is made of them."""

from __future__ import annotations

import hashlib
import itertools
import uuid
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

KEY_TYPES: Final = {"bigint": "bigint", "uuid": "uuid", "text": "text"}
HASHES: Final = {"pg_bigint_hash": "bigint", "pg_uuid_hash": "uuid", "pg_text_hash": "text"}
FUNCTIONS: Final = (*HASHES, "sha1", "list", "range")
WORDS: Final = (
    "ann",
    "Bob",
    "",
    "it's",
    "null",
    "a,b",
    "ü",
    "x\\y",
    "zoë",
    '"q"',
    "$1",
    "%s",
    "; --",
    "42",
    "tom",
    "r2",
)
KEY_COUNT: Final = 14


@dataclass(frozen=True)
class Table:
    """A table, which has the columns id, n and s besides its key.

    Attributes:
        name: its.
        key: the column with the sharding key; "" if the table has none.
        primary: the columns of its primary key, if it has one.
        refers: the clause of a foreign key from `n`, or "".
        is_everywhere: every shard has all rows.
    """

    name: str
    key: str = ""
    primary: tuple[str, ...] = ()
    refers: str = ""
    is_everywhere: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns, in their order."""
        return (self.key, "id", "n", "s") if self.key else ("id", "n", "s")


@dataclass
class Schema:
    """All that the databases have in common, and where keys belong.

    Attributes:
        shards: how many there are.
        function, key_type: settings of the pool.
        tables: those there are in the beginning, those that refer to others behind them.
        late: a table with a key that is not there yet.
        keys: those that there are rows of.
        is_partitioned: shards refuse rows that are not theirs.
    """

    shards: int
    function: str
    key_type: str
    tables: tuple[Table, ...]
    late: Table
    keys: list[str]
    is_partitioned: bool
    has_wildcard: bool
    lists: list[list[str]] = field(default_factory=list)
    bounds: list[str] = field(default_factory=list)

    @property
    def sharded(self) -> list[Table]:
        """The tables with keys."""
        return [table for table in self.tables if table.key]

    @property
    def plain(self) -> list[Table]:
        """The tables that no setting names."""
        return [table for table in self.tables if not (table.key or table.is_everywhere)]

    @property
    def everywhere(self) -> list[Table]:
        """The tables that every shard has."""
        return [table for table in self.tables if table.is_everywhere]

    def options(self) -> str:
        """The lines of the pool's settings."""
        listed = [*self.sharded, self.late]
        keys = {f"{'*' if self.has_wildcard else table.name}.{table.key}" for table in listed}
        return "\n".join(
            (
                "query_parser_enabled = true",
                f"automatic_sharding_key = {_toml(sorted(keys))}",
                f"omnisharded_tables = {_toml([table.name for table in self.everywhere])}",
                f'sharding_function = "{self.function}"',
                *(
                    []
                    if self.function in HASHES
                    else [f'sharding_key_type = "{self.key_type}"']
                ),
            )
        )

    def shard_options(self) -> list[str]:
        """The lines of each shard's settings."""
        if self.function == "list":
            return [
                f"sharding_values = [{', '.join(map(self._toml_key, keys))}]\n"
                f"sharding_default = {str(not number).lower()}"
                for number, keys in enumerate(self.lists)
            ]
        if self.function == "range":
            places = ['"MINVALUE"', *map(self._toml_key, self.bounds), '"MAXVALUE"']
            return [
                f"sharding_ranges = [[{low}, {high}]]"
                for low, high in itertools.pairwise(places)
            ]
        return [""] * self.shards

    def place(self, key: str, hashed: Callable[[str], int]) -> int:
        """The shard of a key, as found out without the router.

        Args:
            key: as PostgreSQL writes it.
            hashed: asks PostgreSQL for the partition of a hash.
        """
        if self.shards == 1:
            return 0
        if self.function == "list":
            return next((i for i, keys in enumerate(self.lists) if key in keys), 0)
        if self.function == "range":
            return bisect_right([self.order(bound) for bound in self.bounds], self.order(key))
        if self.function == "sha1":
            digest = hashlib.sha1(key.encode(), usedforsecurity=False).digest()
            return int.from_bytes(digest[-4:], "big") % self.shards
        return hashed(key)

    def create(self, shard: int | None) -> str:
        """The SQL that makes a shard, or with None the database with everything."""
        parts = []
        for table in self.tables:
            columns = [f"{table.key} {self.key_type} NOT NULL"] if table.key else []
            columns += ["id int NOT NULL", f"n int {table.refers}", "s text DEFAULT 'none'"]
            if table.primary:
                columns.append(f"PRIMARY KEY ({', '.join(table.primary)})")
            made = f"CREATE TABLE {table.name} ({', '.join(columns)})"
            if table.key and self.is_partitioned and shard is not None:
                made += (
                    f" PARTITION BY HASH ({table.key}); CREATE TABLE {table.name}_here "
                    f"PARTITION OF {table.name} "
                    f"FOR VALUES WITH (MODULUS {self.shards}, REMAINDER {shard})"
                )
            parts.append(made)
        first, everywhere = self.sharded[0], self.everywhere[0]
        parts += [
            f"CREATE VIEW seen AS SELECT * FROM {first.name} WHERE n IS NOT NULL",
            f"CREATE VIEW summed AS SELECT max({first.key}) AS {first.key}, "
            "count(*)::int AS id, "
            f"max(s) AS s FROM {first.name}"
            if self.key_type != "uuid"
            else f"CREATE VIEW summed AS SELECT {first.key}, id, s FROM {first.name}",
            f"CREATE VIEW known AS SELECT id, upper(s) AS s FROM {everywhere.name}",
            "CREATE FUNCTION counted() RETURNS bigint LANGUAGE sql STABLE "
            f"AS 'SELECT count(*) FROM {first.name}'",
            "CREATE FUNCTION doubled(int) RETURNS int LANGUAGE sql IMMUTABLE "
            "AS 'SELECT $1 * 2'",
        ]
        return ";\n".join(parts)

    def rows(self, rng: Random) -> list[tuple[Table, list[str]]]:
        """Make rows: for each table, tuples of literals of which the first is the key's."""
        made = []
        for table in self.tables:
            count = 8 if table.is_everywhere else 30
            rows = []
            for number in range(count):
                n = "NULL" if rng.random() < 0.15 else str(rng.randrange(8))
                values = [str(number), n, literal(rng.choice(WORDS))]
                if table.key:
                    values.insert(0, literal(self.keys[number % len(self.keys)]))
                rows.append(f"({', '.join(values)})")
            made.append((table, rows))
        return made

    def order(self, key: str) -> int | bytes:
        """What keys of ranges are compared by."""
        return int(key) if self.key_type == "bigint" else key.encode()

    def _toml_key(self, key: str) -> str:
        return key if self.key_type == "bigint" else _toml(key)


def make(rng: Random, shards: int) -> Schema:
    """Make a schema."""
    function = rng.choice(FUNCTIONS)
    key_type = HASHES.get(function) or rng.choice(sorted(KEY_TYPES))
    keys = _keys(rng, key_type)
    wildcard = rng.random() < 0.3
    names = ["tenant"] * 4 if wildcard else ["tenant", "owner_id", "k", "tenant"]
    everywhere = [
        Table("o0", primary=("id",), is_everywhere=True),
        Table("o1", is_everywhere=True),
    ]
    actions = ("", " ON DELETE CASCADE", " ON DELETE SET NULL")
    refers = f"REFERENCES o0 (id){rng.choice(actions)}" if rng.random() < 0.4 else ""
    sharded = [
        Table(f"t{i}", key, (key, *rng.choice(((), ("id",)))) if rng.random() < 0.7 else ())
        for i, key in enumerate(names[:3])
    ]
    sharded[0] = Table("t0", names[0], (names[0], "id"))
    sharded[2] = Table("t2", names[2], (names[2], "id"), refers)
    schema = Schema(
        shards,
        function,
        key_type,
        (*everywhere, *sharded, Table("h0", primary=("id",)), Table("h1")),
        Table("late", names[3], (names[3], "id")),
        keys,
        is_partitioned=shards > 1 and function in HASHES and rng.random() < 0.5,
        has_wildcard=wildcard,
    )
    if function == "list":
        schema.lists = [keys[number::shards] for number in range(shards)]
        schema.lists[0] = schema.lists[0][1:]  # the default has it
    elif function == "range":
        order = sorted(keys, key=schema.order)
        schema.bounds = [order[len(order) * i // shards] for i in range(1, shards)]
    return schema


def literal(value: str) -> str:
    """Write a value of any type as a string literal."""
    return "'" + value.replace("'", "''") + "'"


def _keys(rng: Random, key_type: str) -> list[str]:
    if key_type == "uuid":
        return [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(KEY_COUNT)]
    if key_type == "text":
        return rng.sample(WORDS, KEY_COUNT)
    large = [str(rng.randint(-(2**63), 2**63 - 1)) for _ in range(2)]
    return [*large, "-1", "0", *(str(n) for n in rng.sample(range(1, 40), KEY_COUNT - 4))]


def _toml(value: str | list[str]) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
