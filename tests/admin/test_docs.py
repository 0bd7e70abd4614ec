"""The page docs/admin.md has every command and every column, in their order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from router.admin import console, registry

PAGE = (Path(__file__).parents[2] / "docs" / "admin.md").read_text()
assert console.__doc__  # it brings all commands along
COMMANDS = list(registry.COMMANDS.values())
BOUNCER = list(registry.BOUNCER.values())


def section(title: str) -> str:
    """What stands below a heading of the third level."""
    found = re.search(rf"^### {title}\n(.*?)(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, f"{title} has no section"
    return found.group(1)


@pytest.mark.parametrize(
    "name", [command.name for command in COMMANDS if command.headings is not None]
)
def test_every_column_of_a_table_is_explained(name: str) -> None:
    [headings] = [command.headings for command in COMMANDS if command.name == name]
    assert headings is not None
    # A table with two names is explained under its first.
    title = next(command.name for command in COMMANDS if command.headings == headings)
    explained = re.findall(r"^\| `(\w+)` \| .+ \|$", section(title), re.MULTILINE)
    assert explained == [heading.name for heading in headings]


@pytest.mark.parametrize("name", [command.name for command in BOUNCER])
def test_every_column_of_a_table_of_pgbouncer_is_explained(name: str) -> None:
    [headings] = [command.headings for command in BOUNCER if command.name == name]
    assert headings is not None
    text = section(f"{name} in pgbouncer")
    explained = re.findall(r"^\| `(\w+)` \| .+ \|$", text, re.MULTILINE)
    assert explained == [heading.name for heading in headings]


@pytest.mark.parametrize("name", [command.name for command in COMMANDS])
def test_every_command_is_mentioned(name: str) -> None:
    assert re.search(rf"`{name}( [^`]*)?`", PAGE)
