"""Literals and parameters in a syntax tree, seen as sharding keys."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from sqlglot import exp

from ..constants import CONCATENATED, ESCAPED, NEGATIVE, NULL
from ..lists import parameter_number
from ..types import KeyTerm, KeyType

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..types import Constant, KeyTerms
    from .trees import Tree

_Type: Final = exp.DataType.Type
# A cast to one of these leaves a key of the type what it is, or fails.
_TYPES: Final = {
    KeyType.BIGINT: frozenset((_Type.SMALLINT, _Type.INT, _Type.BIGINT)),
    KeyType.UUID: frozenset((_Type.UUID,)),
    KeyType.TEXT: frozenset((_Type.TEXT, _Type.VARCHAR)),
}
_ARITHMETIC: Final[dict[type[exp.Expr], str]] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}
# So deeply an expression may be nested.
_MAX_OPERATORS: Final = 50


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


def term_of(node: Tree, kind: KeyType, *, is_compared: bool = False) -> KeyTerm | None:
    """Read a literal, a parameter or a constant expression, perhaps cast or bracketed.

    Args:
        node: the value.
        kind: the type of sharding keys.
        is_compared: whether a column must have the value for its row to matter.
    """
    value = node
    negative = False
    while True:
        node = uncast(node, kind)
        if not isinstance(node, exp.Neg):
            break
        negative = not negative
        node = node.args["this"]
    if isinstance(node, exp.Literal | exp.ByteString):
        # Literals are their own numbers in a fingerprint; ".5" alone is not taken apart there.
        index = node.name
        if not index.isdigit():
            return None
        escaped = isinstance(node, exp.ByteString)
        return KeyTerm(
            literal=int(index), negative=negative, escaped=escaped, is_compared=is_compared
        )
    if isinstance(node, exp.Null):
        return KeyTerm(constant=NULL, is_compared=True) if is_compared else None
    number = parameter_of(node)
    if number and not negative:
        return KeyTerm(parameters=(number,), is_compared=is_compared)
    constant = None if number else _expression(value, kind)
    return None if constant is None else KeyTerm(constant=constant)


def _expression(node: Tree, kind: KeyType) -> Constant | None:
    found = _operand(node, kind, _MAX_OPERATORS)
    return found if isinstance(found, tuple) else None


def _operand(node: Tree, kind: KeyType, budget: int) -> int | Constant | None:
    """Read an expression of literals; None if it is another, or too deep."""
    if budget == 0:
        return None
    if kind is KeyType.TEXT:
        return _text_operand(bare(node), kind, budget)
    node = uncast(node, kind) if kind is KeyType.BIGINT else node
    if isinstance(node, exp.Literal):
        # One in quotes would be cast to the type of the other operand.
        return int(node.name) if not node.is_string and node.name.isdigit() else None
    if isinstance(node, exp.Neg):
        inner = _operand(node.args["this"], kind, budget - 1)
        return None if inner is None else (NEGATIVE, (inner,))
    operator = _ARITHMETIC.get(type(node)) if kind is KeyType.BIGINT else None
    return None if operator is None else _binary(operator, node, kind, budget)


def _text_operand(node: Tree, kind: KeyType, budget: int) -> int | Constant | None:
    if isinstance(node, exp.ByteString) and node.name.isdigit():
        return (ESCAPED, (int(node.name),))
    if isinstance(node, exp.Literal):
        return int(node.name) if node.is_string and node.name.isdigit() else None
    return _binary(CONCATENATED, node, kind, budget) if isinstance(node, exp.DPipe) else None


def _binary(operator: str, node: Tree, kind: KeyType, budget: int) -> Constant | None:
    left = _operand(node.args["this"], kind, budget - 1)
    right = None if left is None else _operand(node.args["expression"], kind, budget - 1)
    return None if left is None or right is None else (operator, (left, right))


def terms_of(nodes: Sequence[Tree], kind: KeyType, *, is_compared: bool = False) -> KeyTerms:
    """Read all of some values, or none if one of them is nothing that is known."""
    terms = []
    for node in nodes:
        term = term_of(node, kind, is_compared=is_compared)
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
        return terms_of(array.expressions, kind, is_compared=True)
    if isinstance(array, exp.Literal | exp.Parameter):
        term = term_of(array, kind)
        if term is not None:
            return (replace(term, is_array=True, is_compared=True),)
    return ()


def parameter_of(node: Tree) -> int:
    """Return the number of a parameter ``$n``, or 0."""
    if isinstance(node, exp.Parameter) and node.name.isdigit():
        return parameter_number(node.name.encode())
    return 0


def _is_harmless(to: exp.DataType, kind: KeyType) -> bool:
    """Say whether a cast can only fail or leave the value be; varchar(3) would shorten it."""
    return to.args["this"] in _TYPES[kind] and not to.expressions
