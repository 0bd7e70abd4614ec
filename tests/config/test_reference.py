"""The reference page, its example and the JSON schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from router.config.declared import declarations
from router.config.loader import parse
from router.config.model import Config
from router.config.reference import EXAMPLE, json_schema, main, render

if TYPE_CHECKING:
    from router.config.keys import Section

PAGE = Path(__file__).parent.parent.parent / "docs" / "config.md"


def sections(root: type[Section]) -> set[type[Section]]:
    """The section and all below it."""
    below = {d.section for d in declarations(root).values() if d.section is not None}
    found = {root}
    for section in below:
        found |= sections(section)
    return found


def test_the_committed_page_is_what_the_declarations_say() -> None:
    assert PAGE.read_text() == render(), (
        "run: python -m router.config.reference > docs/config.md"
    )


@pytest.mark.parametrize("section", sorted(sections(Config) - {Config}, key=repr))
def test_every_key_is_on_the_page_with_its_meaning(section: type[Section]) -> None:
    lines = render().splitlines()
    for declared in declarations(section).values():
        rows = [line for line in lines if line.startswith(f"| `{declared.name}`")]
        assert any(declared.key.meaning in row for row in rows), declared.name
        assert all(f"`{alias}`" in "".join(rows) for alias in declared.key.aliases)


@pytest.mark.parametrize("section", sorted(sections(Config), key=repr))
def test_every_field_is_declared_with_a_meaning(section: type[Section]) -> None:
    declared = {d.field for d in declarations(section).values()}
    assert declared >= set(section.model_fields) - {"name"}
    assert all(d.key.meaning.endswith(".") for d in declarations(section).values())


def test_the_example_loads_and_has_ten_lines() -> None:
    loaded = parse(EXAMPLE, "example")
    assert loaded.warnings == ()
    assert len([line for line in EXAMPLE.splitlines() if line]) <= 12


def test_the_schema_allows_servers_as_arrays() -> None:
    text = json.dumps(json_schema())
    assert '"prefixItems"' in text
    assert '"name"' not in json.dumps(json_schema()["$defs"]).partition('"PoolConfig"')[2][:200]


def test_the_command_prints_the_page_or_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    main([])
    assert capsys.readouterr().out == render()
    main(["schema"])
    assert json.loads(capsys.readouterr().out)["title"] == "pgcat.toml"
