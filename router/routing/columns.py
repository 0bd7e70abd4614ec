"""The tables of a pool as far as sharding goes: which have a key, which are on every shard.

Names are those of PostgreSQL's catalogue: what a text has without quotes is in lower case, what
it has in quotes as it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ..errors import ConfigError
from .derived import FUNCTION, PLAIN
from .types import KeyType

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from .derived import Relation

_PART: Final = re.compile(r'"((?:[^"]|"")+)"|([^".]+)')
_SYSTEM: Final = frozenset(("pg_catalog", "information_schema"))
_FORMS: Final = "table.column, schema.table.column or *.column"


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """A column whose values are sharding keys.

    Attributes:
        table: the table's name, or "" for any table that has the column.
        column: the column's name.
        schema: the table's schema, or "" if the setting does not tell.
    """

    table: str
    column: str
    schema: str = ""

    @classmethod
    def of(cls, setting: str) -> KeyColumn:
        """Read ``table.column``, ``schema.table.column`` or ``*.column``.

        Raises:
            ConfigError: it is none of them.
        """
        parts = _parts(setting)
        if len(parts) not in (2, 3) or parts[-1] == "*":
            raise ConfigError(f'automatic_sharding_key: "{setting}" is not one of {_FORMS}')
        schema = parts[0] if len(parts) == 3 else ""
        return cls("" if parts[-2] == "*" else parts[-2], parts[-1], schema)

    def is_in(self, schema: str, table: str) -> bool:
        """Say whether the table of that name has the column."""
        if self.table and self.table != table:
            return False
        return not self.schema or not schema or schema == self.schema

    def __str__(self) -> str:
        return ".".join(part for part in (self.schema, self.table or "*", self.column) if part)


@dataclass(frozen=True, slots=True)
class ShardedTables:
    """What is known about the tables of a pool.

    Attributes:
        keys: the columns with sharding keys.
        omnisharded: (schema or "", name) of the tables that every shard has a copy of.
        type: what the keys are.
        columns: names of the columns, in their order, of those tables that have been asked
            for, by the table's name with and without its schema.
        names: the names of the tables with sharding keys, and of what is made of them, without
            schemas, as far as known.
        functions: the names of functions that use such tables.
        relations: what servers have told of both, by name.
        plain: (schema, name) of the tables that no setting names, and of views of them: their
            rows are those of default_shard.
    """

    keys: tuple[KeyColumn, ...] = ()
    omnisharded: frozenset[tuple[str, str]] = frozenset()
    type: KeyType = KeyType.BIGINT
    columns: Mapping[str, tuple[str, ...]] | None = None
    names: frozenset[str] = frozenset()
    functions: frozenset[str] = frozenset()
    relations: Mapping[str, tuple[Relation, ...]] | None = None
    plain: frozenset[tuple[str, str]] = frozenset()

    @classmethod
    def of(
        cls,
        keys: str | Sequence[str] | None,
        omnisharded: Sequence[str] = (),
        kind: KeyType = KeyType.BIGINT,
    ) -> ShardedTables:
        """Read automatic_sharding_key and omnisharded_tables.

        Raises:
            ConfigError: one of them does not name what it should.
        """
        settings = (keys,) if isinstance(keys, str) else keys or ()
        columns = tuple(dict.fromkeys(map(KeyColumn.of, settings)))
        names = frozenset(key.table for key in columns if key.table)
        return cls(columns, frozenset(map(_table, omnisharded)), kind, names=names)

    def with_columns(self, columns: Mapping[str, tuple[str, ...]]) -> ShardedTables:
        """Take in the names of the columns of tables."""
        return replace(self, columns=dict(columns))._named()

    def with_relations(self, relations: Iterable[Relation]) -> ShardedTables:
        """Take in what servers tell of sharded tables, and of what is made of them."""
        found: dict[str, tuple[Relation, ...]] = {}
        plain = set()
        for relation in relations:
            if relation.kind == PLAIN:
                plain.add((relation.schema, relation.name))
            else:
                found[relation.name] = (*found.get(relation.name, ()), relation)
        return replace(self, relations=found, plain=frozenset(plain))._named()

    def _named(self) -> ShardedTables:
        """Find the names."""
        names = {key.table for key in self.keys if key.table}
        functions: set[str] = set()
        for name, known in (self.columns or {}).items():
            schema, _, table = name.rpartition(".")
            if schema and any(
                key.column in known and key.is_in(schema, table) for key in self.keys
            ):
                names.add(table)
        for relation in self.all_relations:
            if self.is_omnisharded(relation.schema, relation.name):
                continue
            (functions if relation.kind == FUNCTION else names).add(relation.name)
        return replace(self, names=frozenset(names), functions=frozenset(functions))

    @property
    def all_relations(self) -> Iterator[Relation]:
        """What servers have told of sharded tables, and of what is made of them."""
        for relations in (self.relations or {}).values():
            yield from relations

    @property
    def are_known(self) -> bool:
        """Whether `names` has all of them: those of any table with a column must be learned."""
        return self.columns is not None or all(key.table for key in self.keys)

    @property
    def matter(self) -> bool:
        """Whether any table is sharded in a way that its statements tell."""
        return bool(self.keys or self.omnisharded)

    def is_sharded(self, schema: str, table: str) -> bool:
        """Say whether a table is known to have its rows on several shards."""
        if table not in self.names or schema in _SYSTEM:
            return False
        return self.key_of(schema, table)[1] or bool(self._named_so(schema, table))

    def _named_so(self, schema: str, table: str) -> list[Relation]:
        """List what has been told of the relations of a name."""
        if self.relations is None or table not in self.relations:
            return []
        return [
            relation
            for relation in self.relations[table]
            if relation.kind != FUNCTION and relation.is_named(schema, table)
        ]

    def key_of(self, schema: str, table: str) -> tuple[str, bool]:
        """Return the name of a table's key column, and whether the table has it for sure.

        The name is "" if there is none. A setting that names the table counts before one for
        any table, and the latter only for tables, and as long as it is not known that the table
        lacks the column.
        """
        found = "", False
        if schema in _SYSTEM:
            return found
        for key in self.keys:
            if not key.is_in(schema, table):
                continue
            if key.table:
                return key.column, True
            columns, told = self.columns_of(schema, table), self._named_so(schema, table)
            if any(relation.root is None for relation in told):
                continue  # what a view has by the name of the key need not be one
            if not found[0] and (columns is None or key.column in columns):
                found = key.column, columns is not None or bool(told)
        if found[0] and self.is_omnisharded(schema, table):
            return "", False
        return found if found[0] else self._inherited(schema, table)

    def _inherited(self, schema: str, table: str) -> tuple[str, bool]:
        """Return the key column of a part of a table, and whether it has it for sure."""
        keys = set()
        for relation in self._named_so(schema, table):
            root = relation.root
            own = None if root is None else (relation.schema, relation.name)
            if root is None or root == own:
                return "", False
            keys.add(self.key_of(*root)[0])
        return (keys.pop(), True) if len(keys) == 1 and "" not in keys else ("", False)

    def is_omnisharded(self, schema: str, table: str) -> bool:
        """Say whether every shard has a copy of the table."""
        if not self.omnisharded:
            return False
        if not schema:
            return any(name == table for _, name in self.omnisharded)
        return (schema, table) in self.omnisharded or ("", table) in self.omnisharded

    def is_plain(self, schema: str, table: str) -> bool:
        """Say whether a table is known that no setting names, and that has this name."""
        if schema:
            is_there = (schema, table) in self.plain
        else:
            is_there = any(name == table for _, name in self.plain)
        return is_there and not (
            self.is_omnisharded(schema, table) or self.is_sharded(schema, table)
        )

    def listed(self) -> Iterator[tuple[str, str, str, str]]:
        """List what is sharded, and what every shard has: schema, name, kind, key column."""
        for key in self.keys:
            yield key.schema, key.table or "*", "automatic_sharding_key", key.column
        for one in sorted(self.all_relations, key=lambda one: (one.schema, one.name)):
            column = self.key_of(one.schema, one.name)[0] if one.kind != FUNCTION else ""
            yield one.schema, one.name, one.kind, column
        for schema, name in sorted(self.omnisharded):
            yield schema, name, "omnisharded_tables", ""

    def columns_of(self, schema: str, table: str) -> tuple[str, ...] | None:
        """Return the names of a table's columns in their order, if they are known."""
        if self.columns is None:
            return None
        return self.columns.get(f"{schema}.{table}" if schema else table)


def _parts(setting: str) -> list[str]:
    """Take a name with dots apart as PostgreSQL does; nothing if it is not one."""
    parts: list[str] = []
    position = 0
    while match := _PART.match(setting, position):
        quoted, plain = match.groups()
        # Like PostgreSQL, only ASCII letters: others depend on the database's locale.
        parts.append(quoted.replace('""', '"') if quoted else plain.encode().lower().decode())
        position = match.end() + 1
        if setting[match.end() : position] != ".":
            break
    return parts if position == len(setting) + 1 else []


def _table(setting: str) -> tuple[str, str]:
    parts = _parts(setting)
    if len(parts) not in (1, 2):
        raise ConfigError(f'omnisharded_tables: "{setting}" is not table or schema.table')
    return parts[0] if len(parts) == 2 else "", parts[-1]
