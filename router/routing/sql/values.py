"""Literals and parameters in a syntax tree, seen as sharding keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from ..types import KeyTerm

if TYPE_CHECKING:
    from .trees import Tree

_INTEGER_TYPES: Final = frozenset(
    (exp.DataType.Type.SMALLINT, exp.DataType.Type.INT, exp.DataType.Type.BIGINT)
)


def integer_type(cast: exp.Cast) -> bool:
    """Say whether a cast is to an integer type."""
    return cast.to.this in _INTEGER_TYPES


def term_of(node: Tree) -> KeyTerm | None:
    """Read a literal or parameter, perhaps signed, cast to an integer or bracketed."""
    negative = False
    while True:
        if isinstance(node, exp.Neg):
            negative = not negative
        elif not isinstance(node, exp.Paren) and not (
            isinstance(node, exp.Cast) and integer_type(node)
        ):
            break
        node = node.this
    if isinstance(node, exp.Literal):
        # In a shape the literals are their own numbers; ".5" alone is not taken apart there.
        index: str = node.name
        return KeyTerm(literal=int(index), negative=negative) if index.isdigit() else None
    if isinstance(node, exp.Parameter) and node.name.isdigit() and not negative:
        return KeyTerm(parameter=int(node.name))
    return None
