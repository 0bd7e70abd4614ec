"""The declarations of the models, as data for the loader, the checks and the reference page."""

from __future__ import annotations

import json
import pathlib
import types
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import TYPE_CHECKING, Annotated, Union, cast, get_args, get_origin

import annotated_types
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from .keys import LARGEST, Form, Key, Numbered, Reload, Section, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

KeyPath = tuple[str | int, ...]
"""Table keys and positions in arrays."""


class Nesting(Enum):
    """How a key holds the values of another section."""

    NONE = "a value"
    TABLE = "a table"
    TABLES = "a table of tables"
    ARRAY = "an array of tables"


@dataclass(frozen=True, slots=True)
class Declaration:
    """One key of a section.

    Attributes:
        name: as the file has it.
        field: the model's name for it.
        default: meaningless if required.
        base: its type without bounds and without None.
        form: what is allowed, to complete "must be".
        section: the section that it holds, unless nesting is NONE.
    """

    name: str
    field: str
    key: Key
    required: bool
    default: object
    base: object
    form: str
    unit: Unit | None
    nesting: Nesting
    section: type[Section] | None

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return self.base is SecretStr

    @property
    def changes_at_reload(self) -> bool:
        """Whether a changed value takes effect without a restart."""
        return not self.key.unused and self.key.reload is not Reload.RESTART

    @property
    def stand_in(self) -> object:
        """Some value that is valid where the key is required, in the words of the file."""
        if self.nesting in (Nesting.TABLE, Nesting.TABLES):
            return {}
        return {str: "-", SecretStr: "-", int: 1}.get(cast("type", self.base), [])


@cache
def declarations(section: type[Section]) -> dict[str, Declaration]:
    """The keys of a section, by their names in the file; those that it inherits come last."""
    own = section.__annotations__
    fields = sorted(section.model_fields.items(), key=lambda item: item[0] not in own)
    found = (_declaration(name, field) for name, field in fields)
    return {declared.name: declared for declared in found if declared is not None}


def changes(
    old: Section, new: Section, *reloads: Reload
) -> Iterator[tuple[Declaration, object, object]]:
    """The keys of a section with other values, old and new: those that reload in these ways."""
    for declared in declarations(type(old)).values():
        was, becomes = getattr(old, declared.field), getattr(new, declared.field)
        if was != becomes and declared.key.reload in reloads:
            yield declared, was, becomes


def resolve(
    root: type[Section], path: Sequence[str | int]
) -> tuple[Declaration | None, KeyPath]:
    """The declaration that a path leads to, and what is left of the path below its value.

    Keys of a table of tables and positions in an array belong to the path above the value: for
    ("pools", "x") the declaration is that of `pools`, and ("x",) is left.
    """
    declared = declarations(root).get(str(path[0])) if path else None
    if declared is None:
        return None, tuple(path)
    below = tuple(path[1:])
    inner = below if declared.nesting is Nesting.TABLE else below[1:]
    if declared.section is None or not inner:
        return declared, below
    deeper, rest = resolve(declared.section, inner)
    return (declared, below) if deeper is None else (deeper, rest)


def show_path(path: Sequence[str | int]) -> str:
    """A path as one writes it in TOML."""
    return ".".join(_quoted(str(part)) for part in path)


def _quoted(part: str) -> str:
    bare = part.isascii() and part.replace("-", "").replace("_", "").isalnum()
    return part if bare or part in ("-", "_") else json.dumps(part, ensure_ascii=False)


def _declaration(name: str, field: FieldInfo) -> Declaration | None:
    base, details = _flatten(field.annotation, field.metadata)
    key = next((detail for detail in details if isinstance(detail, Key)), None)
    if key is None:
        return None
    nesting, section = _nesting(base, details)
    return Declaration(
        name=field.alias or name,
        field=name,
        key=key,
        required=field.is_required(),
        default=None if field.is_required() else field.default,
        base=base,
        form=_form(base, details, nesting),
        unit=next((detail for detail in details if isinstance(detail, Unit)), None),
        nesting=nesting,
        section=section,
    )


def _flatten(annotation: object, metadata: Sequence[object]) -> tuple[object, list[object]]:
    """Take `Annotated` and `| None` off a type."""
    details = list(_spread(metadata))
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        base, deeper = _flatten(inner, more)
        return base, [*deeper, *details]
    if get_origin(annotation) in (Union, types.UnionType):
        [inner] = (arg for arg in get_args(annotation) if arg is not type(None))
        base, deeper = _flatten(inner, ())
        return base, [*deeper, *details]
    return annotation, details


def _spread(metadata: Sequence[object]) -> Iterator[object]:
    for detail in metadata:
        if isinstance(detail, FieldInfo):
            yield from detail.metadata
        else:
            yield detail


def _nesting(base: object, details: list[object]) -> tuple[Nesting, type[Section] | None]:
    if isinstance(base, type) and issubclass(base, Section):
        return Nesting.TABLE, base
    inner = next(
        (a for a in get_args(base) if isinstance(a, type) and issubclass(a, Section)), None
    )
    if inner is None:
        return Nesting.NONE, None
    is_table = get_origin(base) is dict or any(
        isinstance(detail, Numbered) for detail in details
    )
    return (Nesting.TABLES if is_table else Nesting.ARRAY), inner


def _form(base: object, details: list[object], nesting: Nesting) -> str:
    forms = [detail.text for detail in details if isinstance(detail, Form)]
    if forms:
        return forms[-1]  # the outermost
    if base is int:
        return _range(details)
    if base is bool:
        return "true or false"
    if isinstance(base, type) and issubclass(base, Enum):
        *most, last = (f'"{member.value}"' for member in base)
        return f"{', '.join(most)} or {last}"
    if base is pathlib.Path:
        return "the name of a file"
    return "a string" if nesting is Nesting.NONE else nesting.value


def _range(details: list[object]) -> str:
    low = next((d.ge for d in details if isinstance(d, annotated_types.Ge)), 0)
    high = next((d.le for d in details if isinstance(d, annotated_types.Le)), None)
    return (
        f"an integer of {low} or more"
        if high in (None, LARGEST)
        else f"an integer from {low} to {high}"
    )
