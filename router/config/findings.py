"""What is wrong with a configuration, or surely not meant: findings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .declared import show_path

if TYPE_CHECKING:
    from .declared import KeyPath


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake, or one thing that is surely not meant.

    Attributes:
        path: the key to change.
        also: other keys that the judgement rests on.
    """

    path: KeyPath
    message: str
    also: tuple[KeyPath, ...] = ()
    is_warning: bool = False

    def __str__(self) -> str:
        return f"{show_path(self.path)}: {self.message}"

    def rests_on(self, path: KeyPath) -> bool:
        """Whether the judgement is void when there is a mistake at the path."""
        return any(_overlap(path, own) for own in (self.path, *self.also))


def _overlap(one: KeyPath, other: KeyPath) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
