"""Reading pgcat.toml: from its text to a configuration, or to all that is wrong with it."""

from __future__ import annotations

import copy
import difflib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import tomli
from pydantic import ValidationError

from ..errors import ConfigError
from ..reasons import reason
from .checks import check
from .declared import Declaration, KeyPath, Nesting, declarations, resolve, show_path
from .model import Config
from .sources import Source

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic_core import ErrorDetails

    from .keys import Section

Table = dict[str, object]

_LONGEST_SHOWN = 60

_TYPES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a float",
}

# Each round can uncover what the one before made visible: a missing key below a missing table.
_MOST_ROUNDS = 6


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be used.

    Attributes:
        warnings: one line per thing that is hardly meant so, each beginning with its key path.
        files: what else has been read for values of keys.
    """

    config: Config
    warnings: tuple[str, ...]
    files: tuple[Path, ...]


def load(path: Path) -> Loaded:
    """Read a file.

    Raises:
        ConfigError: it cannot be read or used; names everything that is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {reason(error)}") from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{path}: not UTF-8 (at line {line}, column {column})") from None
    return parse(text, str(path), path.parent)


def parse(text: str, source: str, directory: Path = Path()) -> Loaded:
    """Make a configuration of the text of a file.

    Args:
        source: its name for errors.
        directory: where relative paths of other files begin.

    Raises:
        ConfigError: it cannot be used; names everything that is wrong.
    """
    try:
        raw: dict[str, object] = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigError(f"{source}: not valid TOML: {error}") from None
    except ValueError:  # Python's own, of a number of more digits than it cares to read
        raise ConfigError(f"{source}: not valid TOML: a number is too long") from None
    except RecursionError:
        raise ConfigError(f"{source}: nested too deeply") from None
    tidied = tidy(raw, Config, directory)
    validated = validate(tidied)
    problems = list(validated.mistakes.values())
    warnings = tidied.warnings
    config = validated.config
    if config is not None:
        for finding in check(config, validated.table):
            if not any(finding.rests_on(path) for path in validated.mistakes):
                (warnings if finding.is_warning else problems).append(str(finding))
    if problems or config is None:
        # First, since a key that is missing may be there by another spelling.
        problems = [*tidied.misspelled, *problems]
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise ConfigError(f"{source}: {count}", problems)
    return Loaded(config, tuple(warnings), tuple(tidied.files))


# --- before validation: other names of keys, and keys that nobody knows


@dataclass(slots=True)
class Tidied:
    """A copy of a file's tables in which every key has its first name.

    Attributes:
        written: the path in the file for each path that has another one here.
        misspelled: those of the warnings that have a suggestion.
        sources: where values come from that are not in the file, by path here.
        missing: why there are none, by path in the file.
        files: those of other values.
    """

    directory: Path
    table: Table = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)
    misspelled: list[str] = field(default_factory=list)
    sources: dict[KeyPath, Source] = field(default_factory=dict)
    missing: dict[KeyPath, str] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)

    def as_written(self, path: KeyPath) -> KeyPath:
        """What the file calls a path."""
        return self.written.get(path, path)


def tidy(raw: Mapping[str, object], root: type[Section], directory: Path) -> Tidied:
    """Rename, fetch and warn; the copy keeps unknown keys out."""
    tidied = Tidied(directory)
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
            _take(value, known[name], (*path, name), table, out)
    return table


def _take(
    value: object, declared: Declaration, path: KeyPath, table: Table, out: Tidied
) -> None:
    """Put a key's value into the copy, from wherever it is."""
    source = Source.of(value, declared)
    if source is None:
        table[declared.name] = _value(value, declared, path, out)
        return
    out.sources[path] = source
    file = source.path(out.directory)
    if file is not None:
        out.files.append(file)
    try:
        table[declared.name] = source.fetch(declared, out.directory)
    except ValueError as error:
        written = out.as_written(path)
        out.missing[written] = f"{show_path(written)}: {error}"


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


# --- from tables to models, with every mistake told in terms of the file
#
# A model that has a mistake anywhere does not come into being, and then the rules across its
# fields could not be looked at. So wrong values are replaced by valid ones once they have been
# reported, and the rules judge the rest.


@dataclass(frozen=True, slots=True)
class Validated:
    """The outcome.

    Attributes:
        config: None if nothing useful could be made of the tables.
        table: what config was made of.
        mistakes: what is wrong, by path.
    """

    config: Config | None
    table: Table
    mistakes: dict[KeyPath, str]


def validate(tidied: Tidied) -> Validated:
    """Make models of the tables; if there are mistakes, of as much of them as is right."""
    table = tidied.table
    mistakes = dict(tidied.missing)
    for round_number in range(_MOST_ROUNDS):
        try:
            return Validated(Config.model_validate(table), table, mistakes)
        except ValidationError as error:
            details = error.errors(include_url=False)
        if not round_number:
            table = copy.deepcopy(table)
            for detail in details:
                path = tidied.as_written(_path(detail))
                told = _explain(detail, tidied.sources.get(_path(detail)))
                mistakes.setdefault(path, f"{show_path(path)}: {told}")
        for detail in details:
            _repair(table, detail)
    return Validated(None, table, mistakes)


def _path(detail: ErrorDetails) -> KeyPath:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _explain(detail: ErrorDetails, source: Source | None) -> str:
    """One mistake, without its path; what came from elsewhere is not shown."""
    declared, rest = resolve(Config, _path(detail))
    if "[key]" in detail["loc"]:
        return "must have a name that is not empty"
    if detail["type"] == "missing":
        form = "" if declared is None else f": {declared.form}"
        return f"is required{form}"
    if detail["type"] == "value_error":
        must = str(detail["ctx"]["error"])
    else:
        form = "a table" if declared is None else _form_below(declared, rest)
        must = f"must be {form}"
    if source is not None:
        return f"{must}, got something else from {source}"
    return f"{must}, got {_show(detail['input'], declared)}"


def _form_below(declared: Declaration, rest: KeyPath) -> str:
    """What is allowed `rest` below the value of a key."""
    if not rest:
        return declared.form
    if declared.section is not None:
        order = declared.section.array_form
        return f"[{', '.join(order)}]" if order else "a table"
    rows = declared.form in ("an array of arrays of strings", "an array of [name, type]")
    return "an array of strings" if rows and len(rest) == 1 else "a string"


def _show(value: object, declared: Declaration | None) -> str:
    """A value for an error; never one that could be or hold a password."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    is_url = isinstance(value, str) and "://" in value  # may have a password in it
    if is_url or declared is None or declared.is_secret or declared.nesting is not Nesting.NONE:
        return _TYPES.get(type(value), "something else")
    if not isinstance(value, str | int | float):
        return str(value)  # a date or a time
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def _repair(table: Table, detail: ErrorDetails) -> None:
    """Take a wrong value away, or put something valid where a value is missing."""
    # An array that has something wrong in it goes as a whole.
    path = _path(detail)
    end = next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))
    parent = table
    for part in path[: end - 1]:
        below = parent.get(str(part))
        if not isinstance(below, dict):
            return
        parent = cast("Table", below)
    name = str(path[end - 1])
    declared, _ = resolve(Config, path)
    if declared is not None and detail["type"] == "missing" and end == len(path):
        parent[name] = declared.stand_in
    else:
        parent.pop(name, None)
