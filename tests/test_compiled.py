"""What compiled code would do differently is not written in the modules that are compiled."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import router

PACKAGE = Path(router.__file__).parent
SETUP = Path(__file__).parent.parent / "setup.py"
COMPILED = re.findall(r'"router/([\w/]+\.py)"', SETUP.read_text())

# A slice of bytes that ends before it begins is empty; in compiled code it is a SystemError. So
# bounds that subtract are written with max(), or it is told here why they cannot cross.
CANNOT_CROSS = {
    "routing/tokens.py": {"token[1:-1]": "text is not affected, and it has two quotes"},
    "routing/shape.py": {
        "literal[tag:-tag]": "the tag is there twice",
        "literal[1:-1]": "it has two quotes",
    },
    "routing/verdicts.py": {"tokens[2:start - 1]": "lists are not affected"},
    "session/operations.py": {"data[start + 6:end - 1]": "the length has been looked at"},
}


def test_there_are_compiled_modules() -> None:
    assert len(COMPILED) > 50


@pytest.mark.parametrize("name", COMPILED)
def test_no_slice_can_end_before_it_begins(name: str) -> None:
    tree = ast.parse((PACKAGE / name).read_text())
    doubtful = {
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Slice)
        and node.slice.lower is not None
        and node.slice.upper is not None
        and (_subtracts(node.slice.lower) or _subtracts(node.slice.upper))
    }
    assert doubtful == set(CANNOT_CROSS.get(name, ()))


def _subtracts(bound: ast.expr) -> bool:
    return (isinstance(bound, ast.UnaryOp) and isinstance(bound.op, ast.USub)) or (
        isinstance(bound, ast.BinOp) and isinstance(bound.op, ast.Sub)
    )
