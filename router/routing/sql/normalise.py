"""The tokens of a statement, written so that sqlglot takes them for what PostgreSQL does.

Where a token ends is for our own lexer to say, not for sqlglot's, to which ``$1,$`` begins a
string: what sqlglot is given has a space between any two tokens. What it does not know is
written in another way, if only the value of an expression depends on it.

Whether a statement writes is judged by the tokens as they came, so nothing here can hide a
write. What takes the place of something must not look like a sharding key or a comparison with
one: an unknown operator becomes ``||`` or ``~``, a typed literal becomes a call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..functions import RESERVED
from ..tokens import closing, is_word, unescaped_name

if TYPE_CHECKING:
    from collections.abc import Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_OPERATOR_CHARACTERS: Final = frozenset("+-*/<>=~!@#%^&|`?")
# A name that ends in a sign has one of these, says the manual's section "Operators".
_BEFORE_SIGN: Final = frozenset("~!@#%^&|`?")
# Common, and the same to both in every place.
_SHARED: Final = frozenset(
    ("=", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "*", "/", "||", "->", "->>", "=>", "~")
)
# The same to both between two operands.
_SHARED_BINARY: Final = _words(
    "% ^ & | # << >> #> #>> #- @> <@ @@ @? ? ?| ?& && !~ ~* !~* ~~ !~~ ~~* !~~* <-> ^@"
)
_UNKNOWN_BINARY: Final = "||"
_UNKNOWN_PREFIX: Final = "~"

_VALUES: Final = _words(
    """
    true false null default end current_date current_time current_timestamp localtime
    localtimestamp current_role current_user current_catalog current_schema session_user user
    """
)
_BEFORE_OPERAND: Final = (RESERVED - _VALUES) | frozenset(
    ("between", "by", "escape", "ilike", "like", "values", "variadic")
)
# No names of types, though a string may follow them.
_BEFORE_STRING: Final = _BEFORE_OPERAND | _words(
    """
    content delimiter document format is key no path ref separator uescape value version zone
    """
)
# What sqlglot reads as a type in front of a string.
_READ_TYPES: Final = _words(
    """
    bigint boolean bytea date decimal float4 float8 int int2 int4 int8 integer interval json
    jsonb numeric precision real smallint text time timestamp timestamptz timetz uuid varchar
    varying
    """
)
_TRIGGERS: Final = frozenset(("operator", "similar", "uescape", "using"))


def normalised(tokens: Sequence[str]) -> list[str]:
    """Return the tokens that are to be parsed in the place of some, which may be the same.

    Raises:
        ValueError: there are no such tokens.
    """
    out: list[str] = []
    done = 0
    for i, token in enumerate(tokens):
        if i < done:
            continue
        first = token[0]
        if first in _OPERATOR_CHARACTERS:
            if token in _SHARED:
                out.append(token)
            else:
                _add_operator(out, token)
        elif token[-1] == "'" and i and _is_typed(tokens, i):
            _add_typed(out, token)
        elif token in _TRIGGERS:
            done = _add_clause(out, tokens, i)
        elif first == "u" and token[-1] == '"':
            out.append(unescaped_name(token[2:]))
        else:
            out.append(token)
    return out


# --- operators


def _add_operator(out: list[str], operator: str) -> None:
    """Add an operator that is perhaps several."""
    signs = ""
    if operator[-1] in "+-" and _BEFORE_SIGN.isdisjoint(operator):
        name = operator.rstrip("+-") or operator[0]
        signs = operator[len(name) :]
        operator = name
    if operator in _SHARED:
        out.append(operator)
    elif _follows_operand(out):
        out.append(operator if operator in _SHARED_BINARY else _UNKNOWN_BINARY)
    elif not out or out[-1] != _UNKNOWN_PREFIX:
        out.append(_UNKNOWN_PREFIX)
    out.extend(signs)


def _follows_operand(out: list[str]) -> bool:
    """Say whether an operator that comes next has an operand on its left."""
    if not out:
        return False
    last = out[-1]
    if is_word(last):
        return last not in _BEFORE_OPERAND
    if last == "*":
        return len(out) > 1 and out[-2] == "."
    return last == ")" or last == "]" or last[0] in "0123456789'$"


# --- typed literals


def _is_typed(tokens: Sequence[str], string: int) -> bool:
    """Say whether there is a type in front of a string that sqlglot would not take for one."""
    before = tokens[string - 1]
    if not is_word(before) or before[-1] == "'" or before in _BEFORE_STRING:
        return False
    return before not in _READ_TYPES or tokens[string - 2 : string - 1] == ["."]


def _add_typed(out: list[str], string: str) -> None:
    """Add ``type 'x'`` as the call of a function that has the type's name."""
    out += ("(", string, ")")


# --- clauses


def _add_clause(out: list[str], tokens: Sequence[str], i: int) -> int:
    """Add what one of the triggers begins, if it is a clause; return where it ends."""
    token = tokens[i]
    following = tokens[i + 1] if i + 1 < len(tokens) else ""
    if token == "similar" and following == "to":
        out.append("like")
        return i + 2
    if token == "operator" and following == "(":
        out.append(_UNKNOWN_BINARY if _follows_operand(out) else _UNKNOWN_PREFIX)
        return closing(tokens, i + 1) + 1
    if token == "uescape" and following[:1] == "'":
        if out[-1:] != [] and out[-1][-1] == '"':
            raise ValueError("the escape character of a name is not part of a shape")
        return i + 2
    if token == "using" and following != "":
        if following == "operator" and tokens[i + 2 : i + 3] == ["("]:
            return closing(tokens, i + 2) + 1
        if following[0] in _OPERATOR_CHARACTERS:
            return i + 2
    out.append(token)
    return i + 1
