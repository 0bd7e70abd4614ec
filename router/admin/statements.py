"""Cuts what an administrator typed into statements, and these into words, as PostgreSQL would.

A word is a name, quoted or not, a string in any of PostgreSQL's notations, a comma, an equals
sign, or anything else between blanks. Quotes stay on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ..errors import ClientError
from ..firstwords import GAP

Words = tuple[str, ...]

_LONGEST_SHOWN: Final = 200

_TOKEN: Final = re.compile(
    rf"(?P<gap> {GAP.decode()} )"
    r"""
    | (?P<end> ; )
    | (?P<word>
          [,=]
        | [eE]'(?: [^'\\] | '' | \\. )*'
        | '(?: [^'] | '' )*'
        | "(?: [^"] | "" )*"
        | (?P<dollar> \$ (?: [^\W\d]\w* )? \$ ) .*? (?P=dollar)
        | (?! [eE]' | \$ (?: [^\W\d]\w* )? \$ ) (?: (?! --|/\* ) [^ \t\n\r\f\v;,='"] )+
      )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class ConsoleStatement:
    """One statement: the text of it, and its words."""

    text: str
    words: Words

    def invalid(self) -> ClientError:
        """The error for what is no command, or one with something behind it."""
        kind = "SHOW " if self.words and keyword(self.words[0]) == "SHOW" else ""
        text = self.text
        if len(text) > _LONGEST_SHOWN:
            text = text[:_LONGEST_SHOWN] + "..."
        # The message is PgBouncer's, the detail PgCat's: there are tools that look for either.
        return ClientError(
            f"invalid command '{text}', use SHOW HELP;",
            detail=f"Unsupported {kind}query against the admin database.",
        )


def split(text: str) -> list[ConsoleStatement]:
    """The statements that have words; none for the empty query.

    Raises:
        ClientError: a quote or a comment is never closed, or there are but semicolons.
    """
    statements: list[ConsoleStatement] = []
    words: list[str] = []
    start = position = ends = 0
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise ConsoleStatement(text[start:].strip(), tuple(words)).invalid()
        position = token.end()
        if token.lastgroup == "word":
            words.append(token.group())
        elif token.lastgroup == "end":
            ends += 1
            if words:
                statements.append(
                    ConsoleStatement(text[start : token.start()].strip(), tuple(words))
                )
                words = []
            start = position
    if words:
        statements.append(ConsoleStatement(text[start:].strip(), tuple(words)))
    # One semicolon is a query for nothing, as drivers send; more are a mistake, as in PgCat.
    if ends > 1 and not statements:
        raise ConsoleStatement(text.strip(), ()).invalid()
    return statements


def keyword(word: str) -> str:
    """A word as the commands are declared; case matters only outside of ASCII."""
    return word.upper() if word.isascii() else word


def name(word: str) -> str | None:
    """What a name stands for; None for what is none."""
    if word[0] == '"':
        return word[1:-1].replace('""', '"')
    return None if is_string(word) or word in (",", "=") else word


def is_string(word: str) -> bool:
    """Whether it is a string and not a name or a number."""
    return word[0] in "'$" or word[:2] in ("e'", "E'")
