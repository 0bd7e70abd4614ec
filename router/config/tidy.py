"""What comes before validation: other names of keys, and keys that nobody knows."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from .declared import Declaration, KeyPath, Nesting, declarations, show_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .keys import Section

Table = dict[str, object]


@dataclass(slots=True)
class Tidied:
    """A copy of a file's tables in which every key has its first name.

    Attributes:
        written: the path in the file for each path that has another one here.
        misspelled: those of the warnings that have a suggestion.
    """

    table: Table = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)
    misspelled: list[str] = field(default_factory=list)

    def as_written(self, path: KeyPath) -> KeyPath:
        """What the file calls a path."""
        return self.written.get(path, path)


def tidy(raw: Mapping[str, object], root: type[Section]) -> Tidied:
    """Rename and warn; the copy keeps unknown keys out."""
    tidied = Tidied()
    tidied.table = _table(raw, root, (), tidied)
    return tidied


def _table(
    raw: Mapping[str, object], section: type[Section], path: KeyPath, out: Tidied
) -> Table:
    known = declarations(section)
    aliases = {
        alias: name for name, declared in known.items() for alias in declared.key.aliases
    }
    table: Table = {}
    for written, value in raw.items():
        name = aliases.get(written, written)
        if name not in known:
            _note_unknown((*path, written), [*known, *aliases], out)
        elif name != written and name in raw:
            given = show_path((*path, name))
            out.warnings.append(f"{show_path((*path, written))}: ignored, {given} is set too")
        else:
            if name != written:
                out.written[*path, name] = (*path, written)
            table[name] = _value(value, known[name], (*path, name), out)
    return table


def _value(value: object, declared: Declaration, path: KeyPath, out: Tidied) -> object:
    section = declared.section
    if section is None:
        return value
    if declared.nesting is Nesting.ARRAY:
        if not isinstance(value, list):
            return value
        items = cast("list[object]", value)
        return [_entry(item, section, (*path, i), out) for i, item in enumerate(items)]
    if declared.nesting is Nesting.TABLE or not isinstance(value, dict):
        return _entry(value, section, path, out)
    entries = cast("Table", value)
    return {key: _entry(entry, section, (*path, key), out) for key, entry in entries.items()}


def _entry(value: object, section: type[Section], path: KeyPath, out: Tidied) -> object:
    return _table(value, section, path, out) if isinstance(value, dict) else value


def _note_unknown(path: KeyPath, known: list[str], out: Tidied) -> None:
    nearest = difflib.get_close_matches(str(path[-1]), known, n=1)
    hint = f", did you mean {nearest[0]}?" if nearest else ""
    warning = f"{show_path(path)}: unknown key, ignored{hint}"
    out.warnings.append(warning)
    if nearest:
        out.misspelled.append(warning)
