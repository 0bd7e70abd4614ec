"""What makes a query a write, apart from the functions that it calls."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..firstwords import CHANGES

if TYPE_CHECKING:
    from collections.abc import Sequence


def hidden_write(tokens: Sequence[str]) -> str:
    """Return what makes a query a write apart from functions, or ""."""
    found = ""
    for i, token in enumerate(tokens):
        if token == "into":
            # The target of INSERT and MERGE; everywhere else it makes a table.
            if i == 0 or tokens[i - 1] not in ("insert", "merge"):
                return "SELECT INTO"
        elif token in CHANGES:
            # As words they are free to be column names, but never after a bracket.
            if i == 0 or tokens[i - 1] in ("(", ")"):
                found = found or f"{token.upper()} writes"
        elif token == "for":
            found = found or _lock(tokens[i + 1 : i + 4])
    return found


def _lock(after: Sequence[str]) -> str:
    """Return the locking clause whose words follow FOR, or ""."""
    for words in (["update"], ["share"], ["no", "key", "update"], ["key", "share"]):
        if list(after[: len(words)]) == words:
            return f"FOR {' '.join(words).upper()}"
    return ""
