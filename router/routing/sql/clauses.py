"""Clauses of PostgreSQL's that sqlglot does not know, in words that it does.

Each function gets the tokens written so far, those of the statement, and the index of a word
that may begin its clause. It adds what is to be parsed and returns the index behind what that
stands for. Expressions stay where they are, so that nothing in them is overlooked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ..functions import RESERVED, names
from ..tokens import is_word

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFIX: Final = "~"
"""What a prefix operator becomes."""
BINARY: Final = "||"
"""What an operator between two operands becomes."""


_VALUES: Final = names(
    """
    true false null default end current_date current_time current_timestamp localtime
    localtimestamp current_role current_user current_catalog current_schema session_user user
    """
)
BEFORE_OPERAND: Final = (RESERVED - _VALUES) | names(
    "between by escape ilike like values variadic"
)
"""Words that are followed by an expression."""

_ENDS: Final = frozenset(("", ",", ")", ".", "from"))
_NORMAL_FORMS: Final = names("nfc nfd nfkc nfkd")


def following(tokens: Sequence[str], i: int) -> str:
    """Return the token behind one, or ""."""
    return tokens[i + 1] if i + 1 < len(tokens) else ""


def ends_operand(tokens: Sequence[str], end: int) -> bool:
    """Say whether what stands before ``end`` can be the end of an expression."""
    if end == 0:
        return False
    last = tokens[end - 1]
    if is_word(last):
        return last not in BEFORE_OPERAND
    if last == "*":
        return end > 1 and tokens[end - 2] == "."
    return last == ")" or last == "]" or last[0] in "0123456789'$"


def plain(out: list[str], tokens: Sequence[str], i: int) -> int:
    """A word as it is."""
    out.append(tokens[i])
    return i + 1


def similar(out: list[str], tokens: Sequence[str], i: int) -> int:
    """SIMILAR TO, or SUBSTRING(.. SIMILAR .. ESCAPE ..)."""
    after = following(tokens, i)
    if after == "to":
        out.append("like")
        return i + 2
    if after in _ENDS or not ends_operand(out, len(out)):
        return plain(out, tokens, i)
    out.append(",")
    return i + 1


def escape(out: list[str], tokens: Sequence[str], i: int) -> int:
    """LIKE .. ESCAPE expression: sqlglot wants a literal there."""
    if following(tokens, i) in _ENDS or not ends_operand(out, len(out)):
        return plain(out, tokens, i)
    out.append(BINARY)
    return i + 1


def uescape(out: list[str], tokens: Sequence[str], i: int) -> int:
    """UESCAPE 'character'."""
    if following(tokens, i)[:1] != "'":
        return plain(out, tokens, i)
    if out[-1:] and out[-1][-1] == '"':
        raise ValueError("the escape character of a name is not part of a fingerprint")
    return i + 2


def test(out: list[str], tokens: Sequence[str], i: int) -> int:
    """IS [NOT] .. NORMALIZED and IS [NOT] DOCUMENT."""
    end = i + 2 if following(tokens, i) == "not" else i + 1
    tested = tokens[end : end + 2]
    if tested[-1:] == ["normalized"] and (len(tested) == 1 or tested[0] in _NORMAL_FORMS):
        end += len(tested)
    elif tested[:1] == ["normalized"] or tested[:1] == ["document"]:
        end += 1
    else:
        return plain(out, tokens, i)
    out += ("is", "null")
    return end


def traversal(out: list[str], tokens: Sequence[str], i: int) -> int:
    """SEARCH .. BY a, b SET c and CYCLE a, b SET c .. behind a query: one column will do."""
    if out[-1:] != [")"] and out[-2:-1] != ["set"]:
        return plain(out, tokens, i)
    first = i + 4 if tokens[i + 2 : i + 4] == ["first", "by"] else i + 1
    end = first + 1
    while tokens[end : end + 1] == [","] and is_word(following(tokens, end) or ","):
        end += 2
    if tokens[end : end + 1] != ["set"]:
        return plain(out, tokens, i)
    out += tokens[i : first + 1]
    return end


def collation(out: list[str], tokens: Sequence[str], i: int) -> int:
    """COLLATION FOR (expression)."""
    if tokens[i + 1 : i + 3] != ["for", "("]:
        return plain(out, tokens, i)
    out.append(PREFIX)
    return i + 2


def at(out: list[str], tokens: Sequence[str], i: int) -> int:
    """Expression AT LOCAL."""
    if following(tokens, i) != "local" or not ends_operand(out, len(out)):
        return plain(out, tokens, i)
    out += (BINARY, "null")
    return i + 2


def overriding(out: list[str], tokens: Sequence[str], i: int) -> int:
    """OVERRIDING SYSTEM VALUE in an INSERT; with USER the values may not be what is stored."""
    if tokens[i + 1 : i + 3] != ["system", "value"]:
        return plain(out, tokens, i)
    return i + 3


# --- XML


def xml_content(out: list[str], tokens: Sequence[str], i: int) -> int:
    """XMLPARSE (CONTENT expression) and XMLSERIALIZE (CONTENT expression AS type)."""
    if tokens[i + 1 : i + 3] not in (["(", "content"], ["(", "document"]):
        return plain(out, tokens, i)
    # What is serialised looks like a cast, but not every value stays what it is.
    out += (PREFIX, "cast", "(") if tokens[i] == "xmlserialize" else (tokens[i], "(")
    return i + 3


def xml_instruction(out: list[str], tokens: Sequence[str], i: int) -> int:
    """XMLPI (NAME name, expression)."""
    if tokens[i + 1 : i + 3] != ["(", "name"]:
        return plain(out, tokens, i)
    out += (tokens[i], "(")
    return i + 5 if tokens[i + 4 : i + 5] == [","] else i + 4


def xml_root(out: list[str], tokens: Sequence[str], i: int) -> int:
    """The parts VERSION and STANDALONE of XMLROOT, where they cannot be names."""
    after = tokens[i + 1 : i + 3]
    if out[-1:] != [","] or len(after) < 2:
        return plain(out, tokens, i)
    if after == ["no", "value"]:
        out.append("null")
        return i + 3
    if tokens[i] == "standalone" and after[0] in ("yes", "no") and after[1] == ")":
        out.append("null")
        return i + 2
    if tokens[i] == "version" and after[0][-1] == "'":
        return i + 1
    return plain(out, tokens, i)


def xml_exists(out: list[str], tokens: Sequence[str], i: int) -> int:
    """XMLEXISTS (path PASSING BY REF expression), whose path is a string or a name."""
    if out[-3:-1] != ["xmlexists", "("]:
        return plain(out, tokens, i)
    out.append(",")
    return i + 3 if following(tokens, i) == "by" else i + 1
