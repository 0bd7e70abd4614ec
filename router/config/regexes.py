"""Regular expressions of the file, matched by RE2: in time linear in the text, all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import re2
from pydantic_core import CoreSchema, core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue

# What each instruction takes at each byte, in seconds, if a text makes all of them match.
_STEP: Final = 10e-9


class Regex:
    """An expression whose group 1 is looked for in UTF-8; equal to those of the same text."""

    __slots__ = ("_compiled", "text")

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ValueError: that is not possible, or it has no group 1; says what it must be.
        """
        options = re2.Options()
        options.log_errors = False  # to standard error, and while it serves
        self.text: Final = text
        try:
            self._compiled: Final = re2.compile(text, options)
        except re2.error as error:
            [why] = error.args
            raise ValueError(
                f"must be a regular expression of RE2 ({why.decode()}), which has no "
                "look-around, no back-references, and no possessive or atomic parts; "
                "see By comment in docs/sharding.md"
            ) from None
        if not self._compiled.groups:
            raise ValueError("must have a group: the number or key is what its group 1 matches")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"Regex({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Regex) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)

    def find(self, text: bytes, start: int, end: int) -> tuple[int, int] | None:
        """Where group 1 of the first match within the bounds is; (-1, -1) if it has no part."""
        match = self._compiled.search(text, start, end)
        if match is None:
            return None
        first, last = match.span(1)
        return int(first), int(last)

    @property
    def is_ascii_only(self) -> bool:
        """Whether it has classes or borders of words, which are those of ASCII to RE2."""
        escaped = re.findall(r"\\(.)", self.text, re.DOTALL)
        return not {"w", "W", "b", "B"}.isdisjoint(escaped)

    def longest_search(self, length: int) -> float:
        """Roughly the most seconds that a text of the length takes, one that is made for it."""
        return float(self._compiled.programsize * length * _STEP)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: object, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Take a string, or what has been made of one."""
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls(_string(value)),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """A string."""
        return {"type": "string"}


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a regular expression")
    return value
