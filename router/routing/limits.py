"""How much of a text is analysed, in counts, so that the same text always has the same verdict.

All clients wait while a text is analysed. These bounds keep that to a few milliseconds,
whatever the text: each is where its own kind of work takes as long as that.
"""

from __future__ import annotations

from typing import Final

from ..turns import work

MAX_LENGTH: Final = 256 << 10
"""Longest text in bytes, whatever the settings. Longer ones are not held."""
DEFAULT_LENGTH: Final = 96 << 10
"""Longest text in bytes that is analysed: the default of query_parser_max_length."""
MAX_LEXEMES: Final = 4_000
"""Most literals, comments and quoted names in a text; a list of literals counts as one."""
MAX_LISTS: Final = 300
"""Most lists of literals that count as one each."""
MAX_TOKENS: Final = 5_000
"""Most tokens in a text that is looked at."""
MAX_PARSED: Final = 1_000
"""Most tokens of a text that the parser is given: the default of query_parser_max_tokens."""
TOKENS_PER_STATEMENT: Final = 40
"""As how many tokens each further statement counts that is given to the parser."""
MAX_STATEMENTS: Final = 500
"""Most statements in a text that is looked at."""
MAX_DEPTH: Final = 30
"""How deeply brackets are nested at most in what the parser is given."""
STEPS_PER_TOKEN: Final = 10
"""Most steps of the search for sharding keys, for each token that the parser may be given."""
MAX_KEYS: Final = 10_000
"""Most sharding keys in the lists and arrays of a text, or of a message."""
MAX_DISTINCT: Final = 4_000
"""Most of these that are different, for keys that are bigints."""
MAX_CONVERTED: Final = 1_000
"""The same for keys of other types, which take longer to read and to hash."""
MAX_BODY: Final = 8 << 10
"""Longest body in bytes of a function that is judged by it."""
MAX_BODIES: Final = 16 << 10
"""Most bytes of the bodies of a function and of those that it calls."""


class TooComplex(ValueError):
    """To analyse a statement would take too long: the message says what it has too much of."""


def too_many(count: int, what: str) -> TooComplex:
    """Make the exception for more than ``count`` of something."""
    return TooComplex(f"more than {count} {what}")


class Budget:
    """Steps that are left of those that the search for sharding keys may take."""

    __slots__ = ("_left",)

    def __init__(self, steps: int) -> None:
        self._left = steps

    def spend(self, steps: int) -> None:
        """Take some.

        Raises:
            TooComplex: there are not enough left.
        """
        self._left -= steps
        if self._left < 0:
            raise TooComplex("more queries, conditions and tables than are followed")


class KeyBudget:
    """How many sharding keys may still be read from lists and arrays."""

    __slots__ = ("_distinct", "_most_distinct", "_read")

    def __init__(self, *, are_bigints: bool) -> None:
        self._most_distinct: Final = MAX_DISTINCT if are_bigints else MAX_CONVERTED
        self._read = 0
        self._distinct = 0

    def read(self, count: int) -> None:
        """Take so many as are written.

        Raises:
            TooComplex: there are not enough left.
        """
        work.note_keys(count)
        self._read += count
        if self._read > MAX_KEYS:
            raise too_many(MAX_KEYS, "sharding keys in lists")

    def convert(self, count: int) -> None:
        """Take so many that differ.

        Raises:
            TooComplex: there are not enough left.
        """
        self._distinct += count
        if self._distinct > self._most_distinct:
            raise too_many(self._most_distinct, "different sharding keys in lists")
