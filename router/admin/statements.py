"""Cuts what an administrator typed into statements, and these into words."""

from __future__ import annotations

import re
from typing import Final

Words = tuple[str, ...]

# Every character is part of some match. What nobody closed goes on to the end.
_TOKEN: Final = re.compile(
    r"""
      (?P<space> \s+ | --[^\n]* | /\*.*?(?:\*/|\Z) )
    | (?P<end> ; )
    | (?P<word> , | (?: '[^']*(?:'|\Z) | "[^"]*(?:"|\Z) | (?!--|/\*)[^\s;,'"] )+ )
    """,
    re.VERBOSE | re.DOTALL,
)


def split(text: str) -> list[Words]:
    """The words of each statement; a comma is a word of its own.

    Statements without words are left out.
    """
    statements: list[Words] = []
    words: list[str] = []
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "word":
            words.append(token.group())
        elif token.lastgroup == "end" and words:
            statements.append(tuple(words))
            words = []
    if words:
        statements.append(tuple(words))
    return statements


def is_blank(text: str) -> bool:
    """Whether it is a query that asks for nothing, as drivers send to see whether we live.

    That is at most one semicolon: more of them are a mistake, as in PgCat.
    """
    return (
        not split(text) and sum(token.lastgroup == "end" for token in _TOKEN.finditer(text)) < 2
    )
