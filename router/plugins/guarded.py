"""The names that table_access guards, compared with those of a text as PostgreSQL does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from ..routing.functions import RESERVED
from ..routing.tokens import is_word, unquoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# PostgreSQL cuts longer identifiers (NAMEDATALEN - 1).
_NAME_BYTES: Final = 63
_PART: Final = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([^".\s]+))\s*(\.|\Z)')


def cut(name: str) -> str:
    """Shorten an identifier as PostgreSQL does."""
    if len(name) * 4 <= _NAME_BYTES:
        return name
    return name.encode("utf-8", "surrogateescape")[:_NAME_BYTES].decode("utf-8", "ignore")


def spellings(entry: str) -> list[tuple[str, str]]:
    """The (schema, table) pairs that an entry of `tables` stands for; "" is any schema.

    What is in double quotes is meant exactly. A name without them that has capitals stands for
    both: what SQL makes of it, and what it says.

    Raises:
        ValueError: it is no name of a table.
    """
    parts: list[set[str]] = []
    end = 0
    while True:
        match = _PART.match(entry, end)
        if match is None:
            raise ValueError(f"not the name of a table: {entry!r}")
        quoted, bare, separator = match.groups()
        names = (quoted.replace('""', '"'),) if quoted else (bare, _folded(bare))
        parts.append(set(map(cut, names)))
        end = match.end()
        if not separator:
            break
    schemas = parts[-2] if len(parts) > 1 else {""}
    return [(schema, table) for schema in sorted(schemas) for table in sorted(parts[-1])]


def _folded(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").lower().decode("utf-8", "surrogateescape")


class Guarded:
    """The guarded tables.

    Attributes:
        names: their names without schema.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        self._schemas: Final[dict[str, set[str]]] = {}
        for entry in entries:
            for schema, table in spellings(entry):
                self._schemas.setdefault(table, set()).add(schema)

    @property
    def names(self) -> Sequence[str]:
        """The names without schema."""
        return tuple(self._schemas)

    def first_in(self, tokens: Sequence[str]) -> str | None:
        """The first guarded name among the tokens of a statement, whatever it stands for there.

        Without a schema before it, search_path decides: it may be that of the guarded one.
        """
        for i, token in enumerate(tokens):
            if not is_word(token):
                continue
            is_qualified = i > 1 and tokens[i - 1] == "."
            if token in RESERVED and not is_qualified:
                continue  # a word of the grammar: as a table's name it would be in quotes
            name = cut(unquoted(token))
            schemas = self._schemas.get(name, ())
            if schemas and (
                not is_qualified or "" in schemas or cut(unquoted(tokens[i - 2])) in schemas
            ):
                return name
        return None
