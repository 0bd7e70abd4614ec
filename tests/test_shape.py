"""Limits that keep the code readable."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import PACKAGE

if TYPE_CHECKING:
    from pathlib import Path

MODULES = sorted(PACKAGE.rglob("*.py"))
# Lines.
LONGEST_FILE = 600
LONGEST_FUNCTION = 60
# Generated from PostgreSQL's catalogue.
TABLES = {"routing/functions.py"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_says_what_it_is_for_and_stays_short(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree) or path.name == "__main__.py", "no module docstring"
    if str(path.relative_to(PACKAGE)) not in TABLES:
        assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= LONGEST_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_regular_expression_repeats_a_group_possessively(path: Path) -> None:
    # Python 3.11 before its fifth release, as in Debian 12, does not match what it should then.
    assert re.search(r"(\)|\)s|%[sb]|\})[*+?]\+", path.read_text()) is None
