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

from ..functions import names
from ..tokens import closing, is_word, unescaped_name
from . import clauses
from .clauses import BEFORE_OPERAND, BINARY, PREFIX, ends_operand, following, plain
from .trees import TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Rewriter = Callable[[list[str], Sequence[str], int], int]


_OPERATOR_CHARACTERS: Final = frozenset("+-*/<>=~!@#%^&|`?")
# A name that ends in a sign has one of these, says the manual's section "Operators".
_BEFORE_SIGN: Final = frozenset("~!@#%^&|`?")
# Common, and the same to both in every place.
_SHARED: Final = frozenset(
    ("=", "<", ">", "<=", ">=", "<>", "!=", "+", "-", "*", "/", "||", "->", "->>", "=>", "~")
)
# The same to both between two operands.
_SHARED_BINARY: Final = names(
    "% ^ & | # << >> #> #>> #- @> <@ @@ @? ? ?| ?& && !~ ~* !~* ~~ !~~ ~~* !~~* <-> ^@"
)

# No names of types, though a string may follow them.
_BEFORE_STRING: Final = BEFORE_OPERAND | names(
    "content default document is key precision varying zone"
)
# What sqlglot reads as a type in front of a string.
_READ_TYPES: Final = names(
    """
    bigint bit boolean bytea char date decimal float4 float8 int int2 int4 int8 integer interval
    json jsonb numeric real smallint text time timestamp timestamptz timetz uuid
    varchar
    """
)
_STARTS_OF_TYPES: Final = TYPES | names("bit character dec double interval national nchar time")
# Types that sqlglot knows, and does not expect "[]" behind.
_OBJECT_TYPES: Final = names(
    """
    cstring oid regclass regcollation regconfig regdictionary regnamespace regoper regoperator
    regproc regprocedure regrole regtype
    """
)
# Words of sqlglot's grammar, and none of PostgreSQL's within a query.
_FOREIGN: Final = names(
    """
    alter anti asof auto_increment autoincrement describe drop file glob keep kill namespace
    overwrite partitioned_by percent pivot pragma qualify regexp revoke rlike rollback semi
    settings straight_join uncache unpivot use xor
    """
)
_COMMANDS: Final = frozenset(("alter", "create", "drop"))
# Functions that sqlglot expects other arguments of.
_CALLED_OTHERWISE: Final = names(
    "convert day hour inline jsonb_object_agg match minute month second vector year"
)

# How far it is looked for the end of a bracket, as brackets may hold brackets.
_MOST_SEEN: Final = 60


def normalised(tokens: Sequence[str]) -> list[str]:
    """Return the tokens that are to be parsed in the place of some, which may be the same.

    Raises:
        ValueError: there are no such tokens.
    """
    out: list[str] = []
    done = 0
    previous = ""
    for i, token in enumerate(tokens):
        if i < done:
            continue
        first = token[0]
        if first in _OPERATOR_CHARACTERS:
            if token in _SHARED:
                out.append(token)
            else:
                _add_operator(out, token)
        elif previous == "::":
            out.append(_type(token))
        elif token in _REWRITERS:
            done = _REWRITERS[token](out, tokens, i)
        elif token[-1] == "'" and _is_typed(tokens, i):
            out += ("(", token, ")")
        elif first == "u" and token[-1] == '"':
            out.append(unescaped_name(token[2:]))
        else:
            out.append(token)
        previous = token
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
    elif ends_operand(out, len(out)):
        out.append(operator if operator in _SHARED_BINARY else BINARY)
    elif not out or out[-1] != PREFIX:
        # More than one in a row would only be deeper.
        out.append(PREFIX)
    out.extend(signs)


def _named_operator(out: list[str], tokens: Sequence[str], i: int) -> int:
    """OPERATOR(schema.name)."""
    if tokens[i + 1 : i + 2] != ["("]:
        return plain(out, tokens, i)
    out.append(BINARY if ends_operand(out, len(out)) else PREFIX)
    return closing(tokens, i + 1) + 1


def _using(out: list[str], tokens: Sequence[str], i: int) -> int:
    """ORDER BY .. USING operator."""
    after = following(tokens, i)
    if after == "operator" and tokens[i + 2 : i + 3] == ["("]:
        return closing(tokens, i + 2) + 1
    if after[:1] in _OPERATOR_CHARACTERS:
        return i + 2
    return plain(out, tokens, i)


# --- types and names


def _type(token: str) -> str:
    """Return the first word of a type."""
    if token in _OBJECT_TYPES:
        return f'"{token}_"'
    if token in _STARTS_OF_TYPES or not is_word(token) or token[-1] == '"':
        return token
    return f'"{token}"'


def _is_typed(tokens: Sequence[str], string: int) -> bool:
    """Say whether a string has a type in front that sqlglot would not take for one.

    It becomes the argument of a function with the type's name.
    """
    if string == 0:
        return False
    before = tokens[string - 1]
    if not is_word(before) or before[-1] == "'":
        return False
    if string > 1 and tokens[string - 2] == ".":
        return True
    if before in _BEFORE_STRING or (before in _READ_TYPES and tokens[string][0] == "'"):
        return False
    # Behind an operand it is a word of the grammar, as PATH is in XMLTABLE.
    return not ends_operand(tokens, string - 1)


def _varying(out: list[str], tokens: Sequence[str], i: int) -> int:
    """BIT VARYING."""
    return i + 1 if out[-1:] == ["bit"] else plain(out, tokens, i)


def _foreign(out: list[str], tokens: Sequence[str], i: int) -> int:
    """A name that sqlglot would take for something else."""
    if tokens[0] in _COMMANDS:
        return plain(out, tokens, i)
    out.append(f'"{tokens[i]}"')
    return i + 1


def _called_otherwise(out: list[str], tokens: Sequence[str], i: int) -> int:
    """A function whose arguments sqlglot would check."""
    if (
        following(tokens, i) == "("
        and out[-1:] not in (["."], ["to"])
        and not ends_operand(out, len(out))
    ):
        out += ("pg_catalog", ".")
    return plain(out, tokens, i)


def _json_object(out: list[str], tokens: Sequence[str], i: int) -> int:
    """JSON_OBJECT(..) with arguments and not with keys and values."""
    inner = tokens[i + 1 : i + _MOST_SEEN]
    inner = inner[: closing(inner, 0)]
    is_call = ":" not in inner and "value" not in inner and "returning" not in inner
    return (_called_otherwise if is_call else plain)(out, tokens, i)


def _delete(out: list[str], tokens: Sequence[str], i: int) -> int:
    """DELETE as the name of a function."""
    return (_foreign if following(tokens, i) == "(" else plain)(out, tokens, i)


def _cube(out: list[str], tokens: Sequence[str], i: int) -> int:
    """CUBE where it must be a name; in a list it may be a part of GROUP BY."""
    before = out[-1] if out else ""
    if before in ("by", ",") or (before == "(" and out[-2:-1] == ["sets"]):
        return plain(out, tokens, i)
    return _foreign(out, tokens, i)


_REWRITERS: Final[dict[str, Rewriter]] = {
    **dict.fromkeys(_FOREIGN, _foreign),
    **dict.fromkeys(_CALLED_OTHERWISE, _called_otherwise),
    "at": clauses.at,
    "collation": clauses.collation,
    "cube": _cube,
    "cycle": clauses.traversal,
    "delete": _delete,
    "escape": clauses.escape,
    "is": clauses.test,
    "json_object": _json_object,
    "operator": _named_operator,
    "overriding": clauses.overriding,
    "passing": clauses.xml_exists,
    "search": clauses.traversal,
    "similar": clauses.similar,
    "standalone": clauses.xml_root,
    "uescape": clauses.uescape,
    "using": _using,
    "varying": _varying,
    "version": clauses.xml_root,
    "xmlparse": clauses.xml_content,
    "xmlpi": clauses.xml_instruction,
    "xmlserialize": clauses.xml_content,
}
"""What rewrites the clauses that words begin, or may begin."""
