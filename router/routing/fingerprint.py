"""The fingerprint of an SQL text: the text without its literals and its comments.

Texts of one fingerprint differ in values only, so they share one analysis. In it the n-th
literal is replaced by its number: ``WHERE id = 7 AND name = 'x'`` has the fingerprint
``WHERE id = 0 AND name = '1'`` and the literals ``7`` and ``'x'``.

The rules are those of the PostgreSQL manual's section "Lexical Structure". What lies in strings
and comments never reaches the parser, so the two cannot disagree about where a string ends.
"""

from __future__ import annotations

import re
from typing import Final

from ..firstwords import COMMENT_BODY, MAX_SLASHES
from ..turns import work
from . import lists
from .limits import MAX_LEXEMES, MAX_LISTS, MAX_TOKENS, too_many

_WORD: Final = rb"[\w$\x80-\xff]"


_SCALARS, _ROWS, _STRING, _ESCAPED, _DOLLAR, _NUMBER, _IDENTIFIER, _COMMENT = (
    1,
    2,
    3,
    4,
    6,
    7,
    8,
    9,
)
# B'101' and X'1F' stay: a number in their place would not have their digits.
_DIGIT_STRINGS: Final = frozenset((b"b", b"B", b"x", b"X"))
_STRINGS: Final = frozenset((_STRING, _ESCAPED, _DOLLAR))

# A repeated group must not be possessive: Python 3.11 before its fifth release gets that wrong.
# The empty groups tell by their number which alternative it was. The pattern begins with a set
# of characters because the regex engine skims over a text for such a set and nothing else.
# Digits in words and signs that begin nothing are dismissed first.
_TOKEN: Final = rb"""['"$/\-0-9\x00](?<!%(word)s[0-9$])
    (?:(?<![-/$])|(?<=-)(?=[-0-9.])|(?<=/)(?=\*)|(?<=\$)(?=%(dollar)s))
    (?:
    %(lists)s
    | (?<=')(?:
        (?<![^\w$\x80-\xff][eE]')[^']*+(?:''[^']*+)*'(?!')()
        | (?<=[^\w$\x80-\xff][eE]')(?:[^'\\]++|\\.|'')*'(?!')()
    )
    | (?<=\$)(?<!%(word)s\$)((?:[A-Za-z_\x80-\xff][\w\x80-\xff]*+)?\$).*?\$\5()
    | (?<=[0-9])(?:
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
        | (?<=[0-9])
    )()
    )"""


def _compiled(lists: bytes, dollar: bytes) -> re.Pattern[bytes]:
    parts = {
        b"word": _WORD,
        b"comment": COMMENT_BODY,
        b"lists": lists,
        b"dollar": dollar,
    }
    return re.compile(_TOKEN % parts, re.DOTALL | re.VERBOSE)


# Most dollar signs begin a parameter, which matters only where a list can begin.
_NO_PARAMETER: Final = rb"[^0-9]|[0-9]++[A-Za-z_\x80-\xff]"
_SINGLE: Final = _compiled(rb"(?!)()|(?!)()", _NO_PARAMETER)
_WITH_LISTS: Final = _compiled(
    rb"%b()|%b()" % (lists.SCALARS, lists.ROWS), _NO_PARAMETER + b"|" + lists.BEFORE_FIRST
)
_PARAMETER: Final = re.compile(rb"\$([0-9]++)")


class UnknownLexeme(ValueError):
    """The text cannot be cut into tokens with certainty."""


def fingerprint_of(text: bytes) -> tuple[bytes, list[bytes]]:
    """Return a text's fingerprint and its literals as they are written, in linear time.

    Raises:
        TooComplex: there are more of them than anybody should wait for.
        UnknownLexeme: a string, identifier or comment is not closed, or a backslash before a
            quote makes the end of a string depend on the session's settings.
    """
    _check_slashes(text)
    literals: list[bytes] = []
    return _reduced(_SINGLE, text, literals), literals


def _check_slashes(text: bytes) -> None:
    """Say no to a text with too many slashes to find out where its comments end."""
    first = text.find(b"/*")
    if first >= 0 and text.count(b"/", first) > MAX_SLASHES:
        raise too_many(MAX_SLASHES, "slashes in a text with comments")


class _Last:
    """The text that was reduced last: who routes it asks, and then who counts it."""

    __slots__ = ("fingerprint", "literals", "text")

    def __init__(self) -> None:
        self.text = b""
        self.fingerprint = b""
        self.literals: list[bytes] = []


_last: Final = _Last()


def short_fingerprint_of(text: bytes) -> tuple[bytes, list[bytes]]:
    """Return what `fingerprint_of` does, with one literal for all members of a list.

    See `lists`; a list may also consist of parameters that are used nowhere else.
    """
    if text is not _last.text:
        work.note_text(len(text))
        _last.fingerprint, _last.literals = _short_fingerprint_of(text)
        _last.text = text
    return _last.fingerprint, _last.literals


def _short_fingerprint_of(text: bytes) -> tuple[bytes, list[bytes]]:
    if b"(" not in text and b"[" not in text:
        return fingerprint_of(text)  # there can be no list
    _check_slashes(text)
    literals: list[bytes] = []
    fingerprint = _reduced(_WITH_LISTS, text, literals)
    if b"$" in text:
        listed = lists.parameters_in(literals)
        if listed:
            others = list(map(lists.parameter_number, _PARAMETER.findall(fingerprint)))
            if len({*listed, *others}) < len(listed) + len(set(others)):
                if len(listed) > MAX_TOKENS:  # each of them would be one
                    raise too_many(MAX_TOKENS, "tokens")
                return fingerprint_of(text)
    return fingerprint, literals


def _reduced(pattern: re.Pattern[bytes], text: bytes, literals: list[bytes]) -> bytes:
    """Take the literals out of a text, and add them to those that there are."""

    runs: list[int] = []

    def replaced(match: re.Match[bytes]) -> bytes:
        kind = match.lastindex
        token = match[0]
        if kind == _NUMBER:
            literals.append(token)
            return b"%d" % (len(literals) - 1)
        if kind == _STRING and b"\\'" in token:
            # Where it ends depends on standard_conforming_strings.
            raise UnknownLexeme("backslash before a quote")
        start = match.start()
        if kind == _STRING and start and text[start - 1 : start] in _DIGIT_STRINGS:
            return token
        if kind in _STRINGS:
            literals.append(token)
            return b"'%d'" % (len(literals) - 1)
        if kind == _IDENTIFIER:
            return token
        if kind == _COMMENT:
            return b" "
        if kind is not None and kind <= _ROWS:
            runs.append(start)
            if len(literals) > MAX_LEXEMES:
                raise too_many(MAX_LEXEMES, "literals, comments and quoted names")
            if len(runs) > MAX_LISTS:
                return _reduced(_SINGLE, token, literals)
            # It begins with its bracket, which has been passed already, a few bytes before.
            near = max(start - lists.MOST_BEFORE, 0)
            bracket = max(text.rfind(b"(", near, start), text.rfind(b"[", near, start))
            reduced = _scalars if kind == _SCALARS else _rows
            return reduced(text[bracket : match.end()], start - bracket, literals)
        raise UnknownLexeme("not closed")

    fingerprint, count = pattern.subn(replaced, text, MAX_LEXEMES + 1)
    if count > MAX_LEXEMES or len(literals) > MAX_LEXEMES:
        raise too_many(MAX_LEXEMES, "literals, comments and quoted names")
    return fingerprint


def _scalars(run: bytes, skipped: int, literals: list[bytes]) -> bytes:
    """Take out the list at the beginning of a run, of which so many bytes have their place."""
    end = lists.one(run)
    if lists.is_continued(run[:end]):
        end = 0
    cast = lists.common_cast(run[:end]) if end else None
    if cast is None:
        return _reduced(_SINGLE, run[skipped:], literals)
    form = b"'%d'" if b"'" in run[:end] else b"%d"
    fingerprint = form % len(literals) + cast + run[end - 1 : end]
    literals.append(run[:end])
    return fingerprint + _reduced(_SINGLE, run[end:], literals)


def _rows(run: bytes, skipped: int, literals: list[bytes]) -> bytes:
    """Take out all rows but the first at the beginning of a run, in the same way."""
    first = lists.one(run)
    end = lists.rows_end(run, first) if first else 0
    if end == first:
        return _reduced(_SINGLE, run[skipped:], literals)
    fingerprint = _reduced(_SINGLE, run[skipped:first], literals)
    casts = lists.casts_of(run[:first])
    begin = len(literals)
    rest = begin + len(casts)
    cells = [b"'%d'%b" % (begin + i, cast) for i, cast in enumerate(casts)]
    literals += [lists.reference(i, rest, cast) for i, cast in enumerate(casts)]
    literals.append(run[first:end].lstrip())
    fingerprint += b", (%b)" % b", ".join(cells)
    return fingerprint + _reduced(_SINGLE, run[end:], literals)


def comments_of(text: bytes, limit: int) -> tuple[list[tuple[int, int]], int]:
    """Find the comments that begin in the first ``limit`` bytes.

    Returns:
        Where each begins and ends, a line's end included; and up to where that is certain.
    """
    found: list[tuple[int, int]] = []
    # One that begins there may go on for long: where there are too many slashes it has to end
    # there as well.
    size = len(text) if text.count(b"/", limit) <= MAX_SLASHES else limit
    for match in _SINGLE.finditer(text, 0, size):
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
    return found, size


def string_value(literal: bytes) -> bytes:
    """Return what stands between the quotes of a string literal, doubled quotes included."""
    if literal[:1] == b"$":
        tag = literal.index(b"$", 1) + 1
        return literal[tag:-tag]
    return literal[1:-1]
