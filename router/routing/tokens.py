"""The tokens of an SQL fingerprint, and the questions about them that need no grammar.

In it (see `fingerprint`) strings and comments are gone, so what is left is words, quoted
identifiers, numbers, parameters and punctuation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..escapes import unescaped_unicode
from ..firstwords import QUERY_STARTS
from .functions import AFTER_OPERAND, AFTER_WORD, BEFORE_PARENTHESIS, RESERVED
from .limits import MAX_TOKENS, too_many

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Blanks are taken with what follows them: to look for the next token at each of them is slow.
_TOKEN: Final = re.compile(
    r"""\s*+(
    (?:[benx]|u&)?'[^']*+(?:''[^']*+)*'|u&"[^"]*+(?:""[^"]*+)*"
    |[a-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*  # a word
    |"[^"]*+(?:""[^"]*+)*"|[0-9]+|\$[0-9]+
    |::|:=|[-+*/<>=~!@\#%^&|`?]+  # an operator, whether there is such a one or not
    |[^\s])""",
    re.VERBOSE,
)
_CONSTANTS: Final = frozenset(("true", "false", "null", "end", "default"))
_GROUPING_STARTS: Final = frozenset(("sets", "rollup", "cube", "("))
_NO_GROUPING: Final = frozenset(("select", "from", "where", "having"))


@dataclass(frozen=True, slots=True)
class Call:
    """A function call: the function's schema, or "", and its name, as PostgreSQL folds them."""

    schema: str
    name: str


def fold(fingerprint: bytes) -> str:
    """Decode a fingerprint and fold it to lower case as PostgreSQL does, but for quoted names.

    Raises:
        UnicodeDecodeError: it is not UTF-8.
    """
    if b'"' not in fingerprint:
        return fingerprint.lower().decode()
    pieces = fingerprint.split(b'"')
    pieces[::2] = [piece.lower() for piece in pieces[::2]]
    return b'"'.join(pieces).decode()


def statements_of(folded: str, most: int = MAX_TOKENS) -> list[tuple[str, list[str]]]:
    """Cut a folded fingerprint at its semicolons into the statements' texts and tokens.

    Raises:
        TooComplex: it has more than ``most`` tokens, the semicolons included.
    """
    folded = folded.rstrip()
    if ";" not in folded and len(folded) < 4 * most:
        found: list[str] = _TOKEN.findall(folded)
        if len(found) > most:
            raise too_many(most, "tokens")
        return [(folded, found)] if found else []
    statements = []
    tokens: list[str] = []
    start = count = 0
    for match in _TOKEN.finditer(folded):
        count += 1
        if count > most:
            raise too_many(most, "tokens")
        token = match[1]
        if token != ";":
            tokens.append(token)
            continue
        if tokens:
            statements.append((folded[start : match.start(1)], tokens))
            tokens = []
        start = match.end()
    if tokens:
        statements.append((folded[start:], tokens))
    return statements


def tokens_of(folded: str, most: int = MAX_TOKENS) -> list[str]:
    """Cut a folded fingerprint into tokens, the semicolons among them.

    Raises:
        TooComplex: it has more than ``most``.
    """
    found: list[str] = _TOKEN.findall(folded.rstrip())
    if len(found) > most:
        raise too_many(most, "tokens")
    return found


def is_word(token: str) -> bool:
    """Say whether a token is a keyword or an identifier, quoted or not."""
    first = token[0]
    return first.isalpha() or first == "_" or first == '"' or first >= "\x80"


def unquoted(token: str) -> str:
    """Return the name that an identifier stands for."""
    return token[1:-1].replace('""', '"') if token[0] == '"' else token


def unescaped_name(quoted: str) -> str:
    r"""Return the quoted identifier ``"data"`` for what follows U& in ``U&"d\0061ta"``.

    Raises:
        ValueError: there is a wrong escape in it.
    """
    return unescaped_unicode(quoted, '"')


def deepest(tokens: Sequence[str]) -> int:
    """Return how deeply brackets are nested, or -1 if they do not match."""
    level = deepest_level = 0
    for token in tokens:
        if token == "(" or token == "[":
            level += 1
            if level > deepest_level:
                deepest_level = level
        elif token == ")" or token == "]":
            level -= 1
            if level < 0:
                return -1
    return -1 if level else deepest_level


def calls(tokens: list[str]) -> Iterator[Call]:
    """Name the functions called; lists of column names do not count as calls.

    Where only the grammar could tell the two apart, it is a call.
    """
    brackets = _Brackets(tokens)
    for i, token in enumerate(tokens):
        if token != "(" or i == 0:
            continue
        name = tokens[i - 1]
        if not is_word(name):
            continue
        before = tokens[i - 2] if i > 1 else ""
        if before == ".":
            if not _is_insert_target(tokens, i - 4):
                yield Call(unquoted(tokens[i - 3]) if i > 2 else "", unquoted(name))
        elif not (
            name in BEFORE_PARENTHESIS
            or _is_grammar(brackets, i, before)
            or _has_column_names(brackets, i, before)
        ):
            yield Call("", unquoted(name))


class _Brackets:
    """The tokens of a statement, with what one pass finds out about their brackets.

    Attributes:
        tokens: all of them.
        partners: where each bracket is closed or opened, by its index.
        groupings: indices of those ROLLUP and CUBE that are part of GROUP BY.
    """

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.partners: dict[int, int] = {}
        self.groupings: set[int] = set()
        # For each open bracket where it is, and whether a list of GROUP BY surrounds it.
        opened: list[int] = []
        outside: list[bool] = []
        is_grouping = False
        before = ""
        for i, token in enumerate(tokens):
            if token == "(":
                opened.append(i)
                outside.append(is_grouping)
                is_grouping = is_grouping and before in _GROUPING_STARTS
            elif token == ")":
                if opened:
                    start = opened.pop()
                    is_grouping = outside.pop()
                    self.partners[start] = i
                    self.partners[i] = start
            elif token == "by":
                is_grouping = before == "group"
            elif token in _NO_GROUPING:
                is_grouping = False
            elif is_grouping and token in _GROUPING_STARTS:
                self.groupings.add(i)
            before = token


def closing(tokens: Sequence[str], opening: int) -> int:
    """Return the index of the bracket that closes the one at ``opening``."""
    level = 0
    for i in range(opening, len(tokens)):
        if tokens[i] == "(":
            level += 1
        elif tokens[i] == ")":
            level -= 1
            if level == 0:
                return i
    return len(tokens)


def _is_grammar(brackets: _Brackets, opening: int, before: str) -> bool:
    """Say whether the word at ``opening - 1`` is none that could be a function's name here."""
    tokens = brackets.tokens
    name = tokens[opening - 1]
    # Nothing can be called behind a literal: it is INTERVAL '1' SECOND (3).
    if before in AFTER_WORD.get(name, ()) or before[-1:] == "'":
        return True
    if name in AFTER_OPERAND:
        return before in (")", "]") or _is_operand(before)
    if name in ("rollup", "cube"):
        return opening - 1 in brackets.groupings
    return name == "insert" and before == "then" and tokens[0] in ("merge", "with")


def _is_operand(token: str) -> bool:
    """Say whether a token other than a bracket is the end of an expression or a table."""
    if token in RESERVED:
        return token in _CONSTANTS
    return token != "" and (is_word(token) or token[0] in "0123456789'$")


def _has_column_names(brackets: _Brackets, opening: int, before: str) -> bool:
    """Say whether ``before name (`` begins a list of column names."""
    tokens = brackets.tokens
    if before in ("as", "into", "ordinality"):
        return True
    if before == ")":
        return not _precedes_expression(brackets, opening - 2)
    if before in ("with", "recursive", ","):
        return _is_cte(brackets, opening)
    if tokens[max(opening - 3, 0)] in ("from", "join") and _is_operand(before):
        # A table, its alias and the names of its columns.
        end = opening + 1
        while end < len(tokens) and (tokens[end] == "," or is_word(tokens[end])):
            end += 1
        return tokens[end : end + 1] == [")"]
    return False


def _is_cte(brackets: _Brackets, opening: int) -> bool:
    """Say whether ``name (a, b) AS (query)`` is what begins at ``opening``."""
    start = brackets.partners.get(opening, -1) + 1
    after = brackets.tokens[start : start + 5] if start else []
    if not after or after[0] != "as":
        return False
    body = [token for token in after[1:] if token not in ("not", "materialized")]
    return len(body) > 1 and body[0] == "(" and body[1] in QUERY_STARTS


def _precedes_expression(brackets: _Brackets, end: int) -> bool:
    """Say whether the bracket at ``end`` closes DISTINCT ON (..) or OPERATOR (..)."""
    start = brackets.partners.get(end)
    if start is None:
        return True
    before = brackets.tokens[max(start - 2, 0) : start]
    return before == ["distinct", "on"] or before[-1:] == ["operator"]


def _is_insert_target(tokens: list[str], i: int) -> bool:
    """Say whether the qualified name whose schema is at ``i + 1`` follows INTO."""
    while i > 1 and tokens[i] == ".":
        i -= 2
    return i >= 0 and tokens[i] == "into"
