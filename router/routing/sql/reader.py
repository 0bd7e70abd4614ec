"""Reads from one statement what only its syntax tree tells, and never fails."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..limits import MAX_PARSED, STEPS_PER_TOKEN, TooComplex, too_many
from . import trees
from .keys import Keys, extract
from .normalise import normalised
from .values import term_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..columns import ShardedTables
    from ..types import KeyTerm, KeyType


@dataclass(frozen=True, slots=True)
class Reading:
    """What a syntax tree tells.

    Attributes:
        is_query: whether it is that of a query or of a change of data.
        tables: the relations, by name.
        keys: what it says about the sharding key.
    """

    is_query: bool
    tables: tuple[str, ...]
    keys: Keys


def read(tokens: Sequence[str], sharded: ShardedTables | None, most: int) -> Reading | None:
    """Read the tokens of a statement; None if they cannot be parsed.

    Raises:
        TooComplex: it would take too long, or not end at all.
    """
    if not trees.is_balanced(tokens):
        return None
    try:
        tokens = normalised(tokens)
        if len(tokens) > 2 * most:  # one operator can become very many
            raise too_many(2 * most, "tokens to parse")
        trees.check(tokens)
        tree = trees.parse(" ".join(tokens))
        if tree is None:
            return None
        keys = (
            Keys()
            if sharded is None
            else extract(tree, sharded, tokens, most * STEPS_PER_TOKEN)
        )
        return Reading(trees.is_query(tree), trees.tables(tree), keys)
    except TooComplex:
        raise
    except Exception:  # hostile text can make sqlglot fail in any way, and trees take any form
        return None


def arguments_of(tokens: Sequence[str], kind: KeyType) -> tuple[KeyTerm | None, ...]:
    """Read the values in the brackets of an EXECUTE; those that are not known are None."""
    if len(tokens) > MAX_PARSED or not trees.is_balanced(tokens):
        return ()
    try:
        tokens = normalised(["values", *tokens])
        trees.check(tokens)
        tree = trees.parse(" ".join(tokens))
        if tree is None:
            return ()
        [row] = tree.expressions
        return tuple(term_of(value, kind, is_compared=True) for value in row.expressions)
    except Exception:  # as above
        return ()
