"""From tables to models, with every mistake told in terms of the file.

A model that has a mistake anywhere does not come into being, and then the rules across its
fields could not be looked at. So wrong values are replaced by valid ones once they have been
reported, and the rules judge the rest.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pydantic import ValidationError

from .declared import Declaration, KeyPath, Nesting, resolve, show_path
from .model import Config

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from .tidy import Table, Tidied

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
    mistakes: dict[KeyPath, str] = {}
    for _ in range(_MOST_ROUNDS):
        try:
            return Validated(Config.model_validate(table), table, mistakes)
        except ValidationError as error:
            details = error.errors(include_url=False)
        if not mistakes:
            table = copy.deepcopy(table)
            for detail in details:
                path = tidied.as_written(_path(detail))
                mistakes.setdefault(path, f"{show_path(path)}: {_explain(detail)}")
        for detail in details:
            _repair(table, detail)
    return Validated(None, table, mistakes)


def _path(detail: ErrorDetails) -> KeyPath:
    return tuple(part for part in detail["loc"] if part != "[key]")


def _explain(detail: ErrorDetails) -> str:
    """One mistake, without its path."""
    declared, rest = resolve(Config, _path(detail))
    if "[key]" in detail["loc"]:
        return "must have a name that is not empty"
    if detail["type"] == "missing":
        form = "" if declared is None else f": {declared.form}"
        return f"is required{form}"
    if detail["type"] == "value_error":
        message = str(detail["ctx"]["error"])
        return f"{message}, got {_show(detail['input'], declared)}"
    form = "a table" if declared is None else _form_below(declared, rest)
    return f"must be {form}, got {_show(detail['input'], declared)}"


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
    if declared is None or declared.is_secret or declared.nesting is not Nesting.NONE:
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
    if detail["type"] != "missing":
        parent.pop(name, None)
        return
    declared, _ = resolve(Config, path)
    if declared is not None:
        parent[name] = declared.stand_in
