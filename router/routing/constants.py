"""Constant expressions as sharding keys: what PostgreSQL makes of ``5 + 1`` or ``'a' || 'b'``.

Only what is the same in every session is worked out: integers with + - * / %, and strings
with ||. Where PostgreSQL would raise an error it does not matter what comes out here; where
types matter that nobody knows here, nothing does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .keyvalues import KEY_MAX, KEY_MIN, parse_text, whole_number
from .literals import text_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .types import Constant, KeyValue

NULL: Final[Constant] = ("null", ())
CONCATENATED: Final = "||"
ESCAPED: Final = "e"
NEGATIVE: Final = "neg"


def value_of(constant: Constant, literals: Sequence[bytes]) -> KeyValue | None:
    """Return the value of an expression other than NULL; None if it is not known.

    Raises:
        InvalidShardingKey: it is text that cannot be.
    """
    if constant[0] == CONCATENATED:
        text = _text(constant, literals)
        return None if text is None else parse_text(text)
    return _integer(constant, literals)


def _text(node: int | Constant, literals: Sequence[bytes]) -> bytes | None:
    if isinstance(node, int):
        return text_of(literals[node], escaped=False)
    operator, operands = node
    if operator == ESCAPED:
        literal = operands[0]
        assert isinstance(literal, int)
        return text_of(literals[literal], escaped=True)
    parts = [_text(operand, literals) for operand in operands]
    known = [part for part in parts if part is not None]
    return b"".join(known) if len(known) == len(parts) else None


def _integer(node: int | Constant, literals: Sequence[bytes]) -> int | None:
    if isinstance(node, int):
        # With a point, or beyond 64 bits, it is numeric, and divides in another way.
        found = whole_number(literals[node], decimals=False)
        return None if found is None else _bounded(found)
    operator, operands = node
    left = _integer(operands[0], literals)
    if left is None:
        return None
    if operator == NEGATIVE:
        return _bounded(-left)
    right = _integer(operands[1], literals)
    if right is None:
        return None
    if operator == "+":
        return _bounded(left + right)
    if operator == "-":
        return _bounded(left - right)
    if operator == "*":
        return _bounded(left * right)
    if right == 0:
        return None
    # Towards zero, as in C; the remainder has the sign of what is divided.
    quotient = abs(left) // abs(right)
    if (left < 0) is not (right < 0):
        quotient = -quotient
    return _bounded(quotient if operator == "/" else left - quotient * right)


def _bounded(value: int) -> int | None:
    return value if KEY_MIN <= value <= KEY_MAX else None
