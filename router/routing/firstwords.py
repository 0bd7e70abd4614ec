"""The words that statements begin with, and what may stand before them."""

from __future__ import annotations

from typing import Final

QUERIES: Final = frozenset(("select", "values", "table", "with", "("))
"""How a query begins, by its first token."""

CHANGES: Final = frozenset(("insert", "update", "delete", "merge"))
"""How a change of data begins."""

QUERY_STARTS: Final = QUERIES | CHANGES
"""How what has columns begins, and so what stands in brackets behind WITH."""
