"""What a catalogue tells of the relations and functions that are made of sharded tables."""

from __future__ import annotations

from dataclasses import dataclass

FUNCTION = "function"
PLAIN = "plain"
KINDS = {
    "r": "table",
    "p": "table",
    "f": "foreign table",
    "v": "view",
    "m": "materialized view",
    FUNCTION: FUNCTION,
    PLAIN: PLAIN,
}


@dataclass(frozen=True, slots=True)
class Relation:
    """A table with a sharding key, or what has its rows: a part of it, a view, a function.

    Or, as PLAIN, a table that no setting names, or a view of it.

    Attributes:
        schema, name: its own.
        kind: one of the values of KINDS.
        root: schema and name of the table whose key it has as well, itself included; None if
            it has none, as with views.
    """

    schema: str
    name: str
    kind: str
    root: tuple[str, str] | None = None

    def is_named(self, schema: str, name: str) -> bool:
        """Say whether it may be meant; the schema is "" where a text has none."""
        return self.name == name and (not schema or schema == self.schema)
