"""Small configurations, changed key by key."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING

import pytest

from router.config.loader import parse
from router.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from router.config.model import Config

Table = dict[str, object]

BASE: Table = {
    "general": {"admin_username": "admin", "admin_password": "admin-secret"},
    "pools": {
        "app": {
            "users": {"0": {"username": "ann", "password": "ann-secret", "pool_size": 5}},
            "shards": {"0": {"database": "app0", "servers": [["one", 5432, "primary"]]}},
        }
    },
}

REMOVED = object()
"""As a value: take the key out."""


def toml(changes: Mapping[str, object] | None = None) -> str:
    """The base with changes by key path, as the text of a file."""
    table: Table = copy.deepcopy(BASE)
    for path, value in (changes or {}).items():
        *parents, name = path.split("/")
        place = table
        for parent in parents:
            below = place.setdefault(parent, {})
            assert isinstance(below, dict)
            place = below
        if value is REMOVED:
            place.pop(name, None)
        else:
            place[name] = copy.deepcopy(value)
    return "\n".join(f"{json.dumps(name)} = {_inline(value)}" for name, value in table.items())


def _inline(value: object) -> str:
    if isinstance(value, dict):
        pairs = (f"{json.dumps(str(key))} = {_inline(item)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_inline, value)) + "]"
    return json.dumps(value)


def config(changes: Mapping[str, object] | None = None) -> Config:
    """A configuration that must load without a warning, but for keys that have no effect."""
    loaded = parse(toml(changes), "test.toml")
    assert [each for each in loaded.warnings if ": has no effect: " not in each] == []
    return loaded.config


def warnings(changes: Mapping[str, object]) -> tuple[str, ...]:
    """The warnings of a configuration that must load."""
    return parse(toml(changes), "test.toml").warnings


def problems(changes: Mapping[str, object]) -> list[str]:
    """What is wrong with a configuration that must not load."""
    with pytest.raises(ConfigError) as caught:
        parse(toml(changes), "test.toml")
    return list(caught.value.problems)
