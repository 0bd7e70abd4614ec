"""Literals and parameters in a syntax tree, seen as sharding keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlglot import exp

from ..types import KeyTerm, KeyType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import KeyTerms
    from .trees import Tree

_Type: Final = exp.DataType.Type
# A cast to one of these leaves a key of the type what it is, or fails.
_TYPES: Final = {
    KeyType.BIGINT: frozenset((_Type.SMALLINT, _Type.INT, _Type.BIGINT)),
    KeyType.UUID: frozenset((_Type.UUID,)),
    KeyType.TEXT: frozenset((_Type.TEXT, _Type.VARCHAR)),
}


def bare(node: Tree) -> Tree:
    """Take brackets off."""
    while isinstance(node, exp.Paren):
        node = node.args["this"]
    return node


def uncast(node: Tree, kind: KeyType) -> Tree:
    """Take brackets and harmless casts off."""
    while True:
        if isinstance(node, exp.Paren) or (
            isinstance(node, exp.Cast) and _is_harmless(node.args["to"], kind)
        ):
            node = node.args["this"]
        else:
            return node


def term_of(node: Tree, kind: KeyType) -> KeyTerm | None:
    """Read a literal or parameter, perhaps signed, cast or bracketed."""
    negative = False
    while True:
        node = uncast(node, kind)
        if not isinstance(node, exp.Neg):
            break
        negative = not negative
        node = node.args["this"]
    if isinstance(node, exp.Literal | exp.ByteString):
        # In a shape the literals are their own numbers; ".5" alone is not taken apart there.
        index = node.name
        if not index.isdigit():
            return None
        escaped = isinstance(node, exp.ByteString)
        return KeyTerm(literal=int(index), negative=negative, escaped=escaped)
    if negative:
        return None
    number = parameter_of(node)
    return KeyTerm(parameter=number) if number else None


def terms_of(nodes: Sequence[Tree], kind: KeyType) -> KeyTerms:
    """Read all of some values, or none if one of them is neither literal nor parameter."""
    terms = []
    for node in nodes:
        term = term_of(node, kind)
        if term is None:
            return ()
        terms.append(term)
    return tuple(terms)


def members_of(array: Tree, kind: KeyType) -> KeyTerms:
    """Read the members of an array: ARRAY[..], '{..}' or a parameter; nothing if not known."""
    array = bare(array)
    if isinstance(array, exp.Cast):
        element = array.args["to"]
        inner = element.expressions
        if element.this is not _Type.ARRAY or len(inner) != 1:
            return ()
        if not _is_harmless(inner[0], kind):
            return ()
        array = bare(array.args["this"])
    if isinstance(array, exp.Array):
        return terms_of(array.expressions, kind)
    if isinstance(array, exp.Literal | exp.Parameter):
        term = term_of(array, kind)
        if term is not None:
            is_array = KeyTerm(parameter=term.parameter, literal=term.literal, is_array=True)
            return (is_array,)
    return ()


def parameter_of(node: Tree) -> int:
    """Return the number of a parameter ``$n``, or 0."""
    if isinstance(node, exp.Parameter) and node.name.isdigit():
        return int(node.name)
    return 0


def _is_harmless(to: exp.DataType, kind: KeyType) -> bool:
    """Say whether a cast can only fail or leave the value be; varchar(3) would shorten it."""
    return to.args["this"] in _TYPES[kind] and not to.expressions
