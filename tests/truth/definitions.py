"""Definitions made at random: what concerns every shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

    from .schema import Schema
    from .values import Values


class Definitions:
    """Makes definitions."""

    def __init__(self, rng: Random, schema: Schema, values: Values) -> None:
        self._rng = rng
        self._schema = schema
        self._values = values

    def make(self, *, in_transaction: bool) -> str:
        """Make one."""
        rng = self._rng
        table = rng.choice(self._schema.tables)
        late = self._schema.late
        create = (
            f"CREATE TABLE IF NOT EXISTS {late.name} ("
            f"{late.key} {self._schema.key_type} NOT NULL, "
            f"id int, n int, s text DEFAULT 'none', PRIMARY KEY ({', '.join(late.primary)}))"
        )
        added = f"a{rng.randrange(3)}"
        index = f"i{rng.randrange(3)}_{table.name}"
        forms = [
            create,
            create,
            f"DROP TABLE IF EXISTS {late.name}",
            f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {added} int DEFAULT 3",
            f"ALTER TABLE {table.name} DROP COLUMN IF EXISTS {added}",
            f"CREATE INDEX IF NOT EXISTS {index} ON {table.name} (n, s)",
            f"DROP INDEX IF EXISTS {index}",
            f"COMMENT ON TABLE {table.name} IS 'said'",
            f"ALTER TABLE {table.name} ALTER COLUMN s SET DEFAULT 'd{rng.randrange(9)}'",
            f"CREATE OR REPLACE VIEW more AS SELECT id, s FROM {table.name}",
            "DROP VIEW IF EXISTS more",
            "CREATE TABLE t0 (id int)",
            f"ALTER TABLE {table.name} ADD CHECK (n < {rng.randint(3, 5000)})",
        ]
        if rng.random() < 0.15:
            forms.append(f"TRUNCATE {rng.choice(('t1', 't2', 'o1', 't0, t1'))}")
        if not in_transaction:
            forms += [
                f"VACUUM {table.name}",
                f"ANALYZE {table.name}",
                f"REINDEX TABLE {table.name}",
            ]
        return rng.choice(forms)
