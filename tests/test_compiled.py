"""What compiled code would do differently is not written in the modules that are compiled."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import COMPILED_MODULES, PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

# A slice of bytes that ends before it begins is empty; in compiled code it is a SystemError. So
# bounds that subtract are written with max(), or it is told here why they cannot cross.
CANNOT_CROSS = {
    "routing/tokens.py": {"token[1:-1]": "text is not affected, and it has two quotes"},
    "routing/fingerprint.py": {
        "literal[tag:-tag]": "the tag is there twice",
        "literal[1:-1]": "it has two quotes",
        "text[start - 1:start]": "not at the beginning",
        "run[end - 1:end]": "a list has its parentheses",
    },
    "routing/cache.py": {
        "written[1:-1]": "a list has its parentheses",
        "text.strip(BLANKS)[1:-1]": "an array has its braces",
    },
    "routing/sharding.py": {"value.strip(BLANKS)[1:-1]": "an array has its braces"},
    "routing/verdicts.py": {"tokens[2:start - 1]": "lists are not affected"},
    "routing/sql/clauses.py": {
        "out[-2:-1]": "lists are not affected",
        "out[-3:-1]": "lists are not affected",
    },
    "routing/sql/normalise.py": {"out[-2:-1]": "lists are not affected"},
}


@pytest.mark.parametrize("name", COMPILED_MODULES)
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


@pytest.mark.parametrize("name", COMPILED_MODULES)
def test_what_is_set_to_none_is_not_read_again_before_the_end(name: str) -> None:
    # The type checker takes it to be None until it is set again, whatever is called meanwhile,
    # and compiled code insists on it: a TypeError.
    tree = ast.parse((PACKAGE / name).read_text())
    for node in ast.walk(tree):
        for block in ("body", "orelse", "finalbody"):
            statements = getattr(node, block, [])
            if isinstance(statements, list) and not isinstance(node, ast.ClassDef):
                assert list(_reads_of_none(statements)) == []


def _reads_of_none(statements: list[ast.stmt]) -> Iterator[str]:
    unset: set[str] = set()
    for statement in statements:
        for node in ast.walk(statement):
            is_read = isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
            if is_read and ast.unparse(node) in unset:
                yield ast.unparse(node)
        for target in getattr(statement, "targets", ()):
            if isinstance(target, ast.Attribute):
                unset.discard(ast.unparse(target))
                assert isinstance(statement, ast.Assign)
                if isinstance(statement.value, ast.Constant) and statement.value.value is None:
                    unset.add(ast.unparse(target))


@pytest.mark.parametrize("name", COMPILED_MODULES)
def test_fields_are_of_types_that_are_there(name: str) -> None:
    # The compiled class of a dataclass looks the types of its fields up, unions apart.
    tree = ast.parse((PACKAGE / name).read_text())
    guarded = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
        if isinstance(inner, ast.ImportFrom)
        for alias in inner.names
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        if not any("dataclass" in ast.unparse(one) for one in node.decorator_list):
            continue
        for field in node.body:
            if isinstance(field, ast.AnnAssign) and isinstance(field.annotation, ast.Subscript):
                assert ast.unparse(field.annotation.value) not in guarded, ast.unparse(field)
