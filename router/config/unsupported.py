"""Keys that are understood and do nothing, or nothing yet: the operator must hear it."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from .declared import KeyPath, Nesting, declarations, show_path
from .keys import Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from .declared import Declaration
    from .model import Config


def unsupported(config: Config) -> Iterator[str]:
    """Name what the file asks for in vain, a line each."""
    return _below(config, ())


def _below(section: Section, path: KeyPath) -> Iterator[str]:
    for declared in declarations(type(section)).values():
        # What the file does not mention promises nothing.
        if declared.field not in section.model_fields_set:
            continue
        value, here = getattr(section, declared.field), (*path, declared.name)
        if not declared.key.unused:
            for name, inner in _sections(value, declared):
                yield from _below(inner, (*here, *name))
        elif not _asks_for_nothing(value):
            yield f"{show_path(here)}: has no effect: {declared.key.unused}"


def _sections(value: object, declared: Declaration) -> Iterator[tuple[KeyPath, Section]]:
    """The sections in a value, each with the rest of its path; arrays give positions."""
    if isinstance(value, Section):
        yield (), value
    elif declared.nesting is not Nesting.NONE and isinstance(value, dict):
        for name, inner in cast("Mapping[str, Section]", value).items():
            yield (name,), inner
    elif declared.nesting is not Nesting.NONE and isinstance(value, tuple):
        for position, inner in enumerate(cast("tuple[Section, ...]", value)):
            yield (position,), inner


def _asks_for_nothing(value: object) -> bool:
    """Whether it turns off what is not there anyway; a number never does."""
    return value is None or value is False or value in ("", ())
