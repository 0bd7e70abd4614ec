"""Values made at random, written into statements or bound to their parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .schema import WORDS, literal

if TYPE_CHECKING:
    from random import Random

    from .schema import Schema


_PLACES: Final = re.compile(r"\{(?:key|text|number)\}")


class Values:
    """Makes values, most of them such that a statement stays on one shard.

    Attributes:
        bound: the values of the statement's parameters.
        kinds: what they are: "key", "int" or "text".
    """

    def __init__(self, rng: Random, schema: Schema) -> None:
        self._rng = rng
        self._schema = schema
        self._binds = False
        self._focus: list[str] = []
        self._stray = 0.0
        self.bound: list[str] = []
        self.kinds: list[str] = []
        self.refocus()

    def refocus(self) -> None:
        """Choose the keys of the statements that follow."""
        self._focus = self._rng.sample(self._schema.keys, self._rng.choice((1, 1, 1, 2)))
        self._stray = self._rng.choice((0.0, 0.02, 0.1))

    def begin(self, *, binds: bool) -> None:
        """Begin a statement."""
        self._binds = binds
        self.bound = []
        self.kinds = []

    def raw_key(self) -> str:
        """Choose a key."""
        if self._rng.random() < self._stray:
            return self._rng.choice(self._schema.keys)
        return self._focus[0] if self._rng.random() < 0.9 else self._rng.choice(self._focus)

    def any_key(self) -> str:
        """Choose any key, as a literal or a parameter."""
        return self._written(self._rng.choice(self._schema.keys), "key")

    def key(self) -> str:
        """Write a key, where its type is known."""
        return self._written(self.raw_key(), "key")

    def filled(self, form: str) -> str:
        """Put values in the place of {key}, {text} and {number}."""
        makers = {"{key}": self.key, "{text}": self.text, "{number}": self.number}
        return _PLACES.sub(lambda match: makers[match[0]](), form)

    def word(self) -> str:
        """Choose a text."""
        return self._rng.choice(WORDS)

    def text(self) -> str:
        """Write a text."""
        return self._written(self.word(), "text")

    def number(self, below: int = 8) -> str:
        """Write a number, where its type is known."""
        return self._written(str(self._rng.randrange(below)), "int")

    def another(self, kind: str) -> str:
        """Choose another value for a parameter."""
        if kind == "key":
            return self._rng.choice(self._schema.keys)
        return self.word() if kind == "text" else str(self._rng.randrange(40))

    def _written(self, value: str, kind: str) -> str:
        key_type = self._schema.key_type
        cast = {"key": key_type, "int": "int", "text": "text"}[kind]
        if self._binds and self._rng.random() < 0.6:
            self.bound.append(value)
            self.kinds.append(kind)
            number = f"${len(self.bound)}"
            # Nothing else is known to be of the same type wherever it stands.
            return number if kind == "key" else f"{number}::{cast}"
        is_number = kind == "int" or (kind == "key" and key_type == "bigint")
        if is_number and self._rng.random() < 0.8:
            return f"({value})" if value.startswith("-") else value
        written = literal(value)
        return f"{written}::{cast}" if self._rng.random() < 0.2 else written
