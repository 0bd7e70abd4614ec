"""The shape of an SQL text: the text with its literals taken out and its comments dropped.

Texts of one shape differ in values only, so they share one analysis. In the shape the n-th
literal is written as n, a number bare and a string in quotes: ``WHERE id = 7 AND name = 'x'``
has the shape ``WHERE id = 0 AND name = '1'`` and the literals ``7`` and ``'x'``.

The rules are those of the PostgreSQL manual's section "Lexical Structure". What lies in strings
and comments never reaches the parser, so the two cannot disagree about where a string ends.
"""

from __future__ import annotations

import re
from typing import Final

_WORD: Final = rb"[\w$\x80-\xff]"


def _block_comment(depth: int) -> bytes:
    """Write a pattern for what follows "/" in a comment that holds ``depth`` levels of them."""
    inner = b"|/" + _block_comment(depth - 1) if depth else b""
    return rb"\*(?:[^*/]++|\*(?!/)|/(?!\*)" + inner + rb")*\*/"


_STRING, _ESCAPED, _DOLLAR, _NUMBER, _IDENTIFIER, _COMMENT = 1, 2, 4, 5, 6, 7
# B'101' and X'1F' stay: a number in their place would not have their digits.
_DIGIT_STRINGS: Final = frozenset((b"b", b"B", b"x", b"X"))
_STRINGS: Final = frozenset((_STRING, _ESCAPED, _DOLLAR))

# A repeated group must not be possessive: Python 3.11 before its fifth release gets that wrong.
# The empty groups tell by their number which alternative it was. The pattern begins with a set
# of characters because the regex engine skims over a text for such a set and nothing else.
_TOKEN: Final = re.compile(
    rb"""['"$/\-0-9\x00](?:
    (?<=')(?:
        (?<![^\w$\x80-\xff][eE]')[^']*+(?:''[^']*+)*'(?!')()
        | (?<=[^\w$\x80-\xff][eE]')(?:[^'\\]++|\\.|'')*'(?!')()
    )
    | (?<=\$)(?<!%(word)s\$)((?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?\$).*?\$\3()
    | (?<=[0-9])(?<!%(word)s[0-9])(?:
        (?<=0)(?:[xX][0-9A-Fa-f_]++|[oO][0-7_]++|[bB][01_]++)
        | [0-9_]*+(?:\.[0-9_]*+)?(?:[eE][+-]?[0-9]++)?
    )(?!%(word)s)()
    | (?<=")[^"]*+(?:""[^"]*+)*"(?!")()
    | (?:(?<=-)-[^\n\r]*+|(?<=/)%(comment)s)()
    # What is left is not closed, or nested too deeply, or runs into a word.
    | (?:(?<=['"\x00])
        | (?<=/)\*
        | (?<=\$)(?<!%(word)s\$)(?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?\$
        | (?<=\$)(?<!%(word)s\$)[0-9]++[A-Za-z_\x80-\xff]
        | (?<=[0-9])(?<!%(word)s[0-9])
    )()
    )"""
    % {b"word": _WORD, b"comment": _block_comment(4)},
    re.DOTALL | re.VERBOSE,
)


class UnknownLexeme(ValueError):
    """The text cannot be cut into tokens with certainty."""


def shape_of(text: bytes) -> tuple[bytes, list[bytes]]:
    """Return the shape of a text and its literals as they are written, in linear time.

    Raises:
        UnknownLexeme: a string, identifier or comment is not closed, or a backslash before a
            quote makes the end of a string depend on the session's settings.
    """
    literals: list[bytes] = []

    def replaced(match: re.Match[bytes]) -> bytes:
        kind = match.lastindex
        token = match[0]
        if kind == _NUMBER:
            literals.append(token)
            return b"%d" % (len(literals) - 1)
        if kind == _STRING and b"\\'" in token:
            # Where it ends depends on standard_conforming_strings.
            raise UnknownLexeme("backslash before a quote")
        if (
            kind == _STRING
            and text[max(match.start() - 1, 0) : match.start()] in _DIGIT_STRINGS
        ):
            return token
        if kind in _STRINGS:
            literals.append(token)
            return b"'%d'" % (len(literals) - 1)
        if kind == _IDENTIFIER:
            return token
        if kind == _COMMENT:
            return b" "
        raise UnknownLexeme("not closed")

    return _TOKEN.sub(replaced, text), literals


def comments_of(text: bytes, limit: int) -> tuple[list[tuple[int, int]], int]:
    """Find the comments that begin in the first ``limit`` bytes.

    Returns:
        Where each begins and ends, a line's end included; and up to where that is certain.
    """
    found: list[tuple[int, int]] = []
    for match in _TOKEN.finditer(text):
        start, end, kind = match.start(), match.end(), match.lastindex
        if start >= limit:
            break
        if kind == _COMMENT:
            if text[start] == ord("-"):
                end += text[end : end + 2] == b"\r\n"
                end = min(end + 1, len(text))
            found.append((start, end))
        elif kind is not None and kind > _COMMENT:
            return found, start
        elif kind == _STRING and b"\\'" in match[0]:
            return found, start  # where it ends depends on standard_conforming_strings
    return found, len(text)


def string_value(literal: bytes) -> bytes:
    """Return what stands between the quotes of a string literal, doubled quotes included."""
    if literal[:1] == b"$":
        tag = literal.index(b"$", 1) + 1
        return literal[tag:-tag]
    return literal[1:-1]
