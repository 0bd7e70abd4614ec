"""How much of a text is analysed, in counts, so that the same text always has the same verdict.

All clients wait while a text is analysed. These bounds keep that to a few milliseconds,
whatever the text: each is where its own kind of work takes as long as that.
"""

from __future__ import annotations

from typing import Final

MAX_LENGTH: Final = 256 << 10
"""Longest text in bytes: the default of query_parser_max_length. Longer ones are not held."""
MAX_LEXEMES: Final = 5_000
"""Most literals, comments and quoted names in a text; a list of literals counts as one."""
MAX_LISTS: Final = 300
"""Most lists of literals that count as one each."""
MAX_TOKENS: Final = 5_000
"""Most tokens in a text that is looked at."""
MAX_PARSED: Final = 1_000
"""Most tokens of a text that the parser is given: the default of query_parser_max_tokens."""
TOKENS_PER_STATEMENT: Final = 20
"""As how many tokens each further statement counts that is given to the parser."""
MAX_STATEMENTS: Final = 500
"""Most statements in a text that is looked at."""
MAX_DEPTH: Final = 30
"""How deeply brackets are nested at most in what the parser is given."""
STEPS_PER_TOKEN: Final = 10
"""Most steps of the search for sharding keys, for each token that the parser may be given."""
MAX_KEYS: Final = 10_000
"""Most sharding keys that are read from one list, array or message."""


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
