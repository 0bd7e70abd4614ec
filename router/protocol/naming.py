"""What a text says of prepared statements by their names: PREPARE, EXECUTE and DEALLOCATE.

A text is cut into tokens as PostgreSQL does with `standard_conforming_strings` on. Where it is
not certain how, nothing is told of it, and what it prepares keeps its server as anything else
that is not understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ..firstwords import GAP

if TYPE_CHECKING:
    from collections.abc import Sequence

# Longer texts are not read, so that nobody waits for that.
LONGEST: Final = 8 << 10
# And so many names are told of one text.
_MOST_NAMES: Final = 100
# Longer names are cut off by PostgreSQL.
_LONGEST_NAME: Final = 63

PREPARE: Final = b"PREPARE"
DEALLOCATE: Final = b"DEALLOCATE"
DEALLOCATE_ALL: Final = b"DEALLOCATE ALL"
DISCARD_ALL: Final = b"DISCARD ALL"

TAGS: Final = frozenset((PREPARE, DEALLOCATE, DEALLOCATE_ALL, DISCARD_ALL))
"""Tags of the commands that change what names mean."""

# In this order. What begins a string, a comment or a quoted name, and is none of these, is not
# understood. E'' goes on in the next line: not read either.
_TOKEN: Final = re.compile(
    rb"""(?P<gap>%b+)
    |(?P<escaped>[eE]'(?:[^'\\]|\\[\x01-\xff]|'')*'(?!(?:\s|--[^\n\r]*+)*'))
    |(?P<string>(?:[bBnNxX]|[uU]&)?'[^']*+')
    |(?P<coded>[uU]&"[^"]*+")
    |(?P<word>(?![eE]')[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*+)
    |"(?P<quoted>(?:[^"]|"")*)"
    |(?P<dollar>\$(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*+)?\$)
    |(?P<other>\$[0-9]++|[0-9.]++|[^\s'"/\-$eE]|/(?!\*)|-(?!-))
    """
    % GAP,
    re.VERBOSE,
)
# Type oids that a declared type stands for; any other is one that nobody here knows.
_OIDS: Final = {
    b"bigint": 20,
    b"int8": 20,
    b"smallint": 21,
    b"int2": 21,
    b"integer": 23,
    b"int": 23,
    b"int4": 23,
    b"text": 25,
    b"varchar": 1043,
    b"character varying": 1043,
    b"uuid": 2950,
}
_TYPE_NAMES: Final = {20: b"bigint", 21: b"smallint", 23: b"integer", 25: b"text"} | {
    1043: b"varchar",
    2950: b"uuid",
}
_UNKNOWN_TYPE: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Change:
    """A command that changes what a name means, once its tag has come.

    Attributes:
        tag: which.
        name: of the statement; b"" of all of them.
        rest: of a PREPARE, what follows the name: types and query.
        body: the same as that of a Parse: the query, and the types as far as they are known.
    """

    tag: bytes
    name: bytes = b""
    rest: bytes = b""
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Naming:
    """What one text says of names.

    Attributes:
        names: all that it mentions.
        changes: in the order of its statements.
        runs: names that it may run, and does not prepare itself.
        is_lone: it is one statement, which does nothing but use a name.
        only_prepares: it is one PREPARE.
    """

    names: tuple[bytes, ...]
    changes: tuple[Change, ...]
    runs: tuple[bytes, ...]
    is_lone: bool
    only_prepares: bool


class _Token:
    """A token that is neither gap nor comment; `word` is lower case, `name` what it names."""

    __slots__ = ("end", "name", "start", "word")

    def __init__(self, start: int, end: int, word: bytes, name: bytes) -> None:
        self.start: Final = start
        self.end: Final = end
        self.word: Final = word
        self.name: Final = name


def quoted(name: bytes) -> bytes:
    """A name as an identifier."""
    return b'"' + name.replace(b'"', b'""') + b'"'


def prepare(name: bytes, rest: bytes) -> bytes:
    """The PREPARE of a statement by a name.

    As long as most clients write it, so that places in its errors are what they would be.
    """
    return b"PREPARE" + quoted(name) + (rest[1:] if rest[:1] == b" " else rest)


def declared(name: bytes, body: bytes, types: Sequence[int]) -> bytes:
    """The PREPARE that would do the same as a Parse with this body, for those who read it."""
    while types and types[-1] == 0:
        types = types[:-1]
    listed = b", ".join(_TYPE_NAMES.get(oid, b"unknown") for oid in types)
    rest = b" (" + listed + b")" if listed else b""
    return b"PREPARE " + quoted(name) + rest + b" AS " + body[: body.index(b"\0")]


def naming_in(sql: bytes) -> Naming | None:
    """What a text says of names; None if that is nothing, or not certain."""
    if len(sql) > LONGEST:
        return None
    statements = _statements(sql)
    if statements is None:
        return None
    names: dict[bytes, None] = {}
    runs: dict[bytes, None] = {}
    changes: list[Change] = []
    for tokens, end in statements:
        change = _change(sql, tokens, end)
        if change is not None:
            changes.append(change)
            if change.name:
                names[change.name] = None
        for i in range(len(tokens) - 1):
            if tokens[i].word == b"execute" and tokens[i + 1].name:
                names[tokens[i + 1].name] = runs[tokens[i + 1].name] = None
    if not (names or changes) or len(names) > _MOST_NAMES:
        return None
    for change in changes:
        if change.tag == PREPARE:
            runs.pop(change.name, None)
    is_one = len(statements) == 1
    return Naming(
        tuple(names),
        tuple(changes),
        tuple(runs),
        is_lone=is_one and not changes,
        only_prepares=is_one and bool(changes) and changes[0].tag == PREPARE,
    )


def _statements(sql: bytes) -> list[tuple[list[_Token], int]] | None:
    """Cut a text at its semicolons; returns the tokens of each statement, and where it ends."""
    found: list[tuple[list[_Token], int]] = []
    tokens: list[_Token] = []
    pos, end, level = 0, len(sql), 0
    while pos < end:
        match = _TOKEN.match(sql, pos)
        if match is None:
            return None
        kind, start, pos = match.lastgroup, pos, match.end()
        if kind == "gap":
            continue
        if kind == "word":
            word = match[0].lower()
            tokens.append(_Token(start, pos, word, _plain(word)))
        elif kind == "quoted":
            tokens.append(_Token(start, pos, b"", _plain(match["quoted"].replace(b'""', b'"'))))
        elif kind == "dollar":
            closing = sql.find(match[0], pos)
            if closing < 0:
                return None
            pos = closing + len(match[0])
            tokens.append(_Token(start, pos, b"", b""))
        else:
            text = match[0]
            level += (text == b"(") - (text == b")")
            if text == b";" and level == 0:
                if tokens:
                    found.append((tokens, start))
                tokens = []
                continue
            tokens.append(_Token(start, pos, text if len(text) == 1 else b"", b""))
    if tokens:
        found.append((tokens, end))
    return found


def _plain(name: bytes) -> bytes:
    """A name if it is certain what PostgreSQL makes of it, else b""."""
    return name if name.isascii() and len(name) <= _LONGEST_NAME else b""


def _change(sql: bytes, tokens: list[_Token], end: int) -> Change | None:
    """The change that a statement is."""
    first = tokens[0].word
    if len(tokens) < 2:
        return None
    if first == b"prepare":
        return _prepared(sql, tokens, end)
    if first == b"deallocate":
        rest = tokens[1:]
        if rest[0].word == b"prepare" and len(rest) > 1:
            rest = rest[1:]
        if rest[0].word == b"all":
            return Change(DEALLOCATE_ALL)
        return Change(DEALLOCATE, rest[0].name) if rest[0].name else None
    if first == b"discard" and tokens[1].word == b"all":
        return Change(DISCARD_ALL)
    return None


def _prepared(sql: bytes, tokens: list[_Token], end: int) -> Change | None:
    """The change that a PREPARE is, unless it is PREPARE TRANSACTION or of no certain name."""
    name = tokens[1]
    if not name.name:
        return None
    start, types = 2, list[int]()
    if tokens[2:3] and tokens[2].word == b"(":
        words: list[bytes] = []
        level, start = 1, 3
        while level and start < len(tokens):
            token = tokens[start]
            level += (token.word == b"(") - (token.word == b")")
            if (token.word == b"," and level == 1) or not level:
                types.append(_OIDS.get(b" ".join(words), _UNKNOWN_TYPE))
                words = []
            else:
                words.append(token.word or b"?")
            start += 1
    if len(tokens) <= start or tokens[start].word != b"as":
        return None
    body = sql[tokens[start].end : end] + b"\0" + len(types).to_bytes(2, "big")
    body += b"".join(oid.to_bytes(4, "big") for oid in types)
    return Change(PREPARE, name.name, sql[name.end : end], body)
