"""Values that are not in the file itself: `{ env = "NAME" }` and `{ file = "PATH" }`.

What they give is never shown, whatever the key: a key may be pointed at the wrong file.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, cast

from pydantic import SecretStr

from ..reasons import reason

if TYPE_CHECKING:
    from .declared import Declaration

# More is a mistake: a device, a log.
_MOST_BYTES: Final = 65536
# As many as the largest integers of TOML have, written in binary.
_MOST_DIGITS: Final = 66
_FLAGS: Final = {"true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from.

    Attributes:
        kind: "env" or "file".
        name: of the variable, or the path of the file.
    """

    kind: str
    name: str

    @classmethod
    def of(cls, value: object, declared: Declaration) -> Self | None:
        """What a key's value stands for; None if it is the value itself."""
        if not isinstance(value, dict) or not is_single(declared):
            return None
        items = list(cast("dict[str, object]", value).items())
        if len(items) != 1:
            return None
        [(kind, name)] = items
        if kind not in ("env", "file") or not isinstance(name, str):
            return None
        return cls(kind, name)

    def __str__(self) -> str:
        return f"the environment variable {self.name}" if self.kind == "env" else self.name

    def path(self, directory: Path) -> Path | None:
        """The file; None for a variable. A relative path begins at `directory`."""
        return directory / self.name if self.kind == "file" else None

    def fetch(self, declared: Declaration, directory: Path) -> object:
        """The value, as if the file had it.

        Raises:
            ValueError: it cannot be had; the message completes the path of the key.
        """
        path = self.path(directory)
        text = self._variable() if path is None else _content(path)
        return _typed(text, declared)

    def _variable(self) -> str:
        try:
            return os.environ[self.name]
        except (KeyError, ValueError):
            raise ValueError(f"{self} is not set") from None


def is_single(declared: Declaration) -> bool:
    """Whether a key's value is one word or number, so that it may come from elsewhere."""
    base = declared.base
    kinds = str | int | float | SecretStr | Path | Enum
    return isinstance(base, type) and issubclass(base, kinds)


def _content(path: Path) -> str:
    try:
        # Not to wait for a pipe's other end.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        cause = reason(error) if isinstance(error, OSError) else "not a path"
        raise ValueError(f"cannot read {path}: {cause}") from None
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{path} has more than {_MOST_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8") from None
    # Editors and `echo` end a file with one.
    return text.removesuffix("\n").removesuffix("\r")


def _typed(text: str, declared: Declaration) -> object:
    """A number or a flag, where the key wants one; what is none is told as in the file.

    Numbers may be written in all ways of TOML: -1, 0o770, 30_000.
    """
    if declared.base is bool:
        return _FLAGS.get(text.strip().lower(), text)
    if declared.base is float:
        try:
            return float(text)
        except ValueError:
            return text
    if declared.base is int and len(digits := text.strip()) <= _MOST_DIGITS:
        try:
            return int(digits, 0) if digits.isascii() else text
        except ValueError:
            return text
    return text
