"""Whoever is a client to a pool does all that pools count on."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import PACKAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTRACTS = ("ReplySink", "PoolClient")


def classes() -> Iterator[ast.ClassDef]:
    """All classes of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                yield node


CLASSES = {node.name: node for node in classes()}


def bases(name: str) -> list[str]:
    """A class of the package and those that it inherits from."""
    found = [name]
    for base in CLASSES[name].bases:
        if isinstance(base, ast.Name) and base.id in CLASSES:
            found += bases(base.id)
    return found


def methods(name: str, *, are_missing: bool) -> set[str]:
    """The methods of a class that are there, or that are left to those below it."""
    return {
        node.name
        for node in CLASSES[name].body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(part, ast.Raise) for part in node.body[-1:]) == are_missing
    }


# It waits for a connection, but no connection ever works for it as its client.
ONLY_WAITS = "Probe"
HEIRS = [
    name
    for name in CLASSES
    if "PoolClient" in bases(name)
    and name not in ("PoolClient", ONLY_WAITS)
    and not any(name in bases(other) for other in CLASSES if other != name)
]


def test_there_are_some() -> None:
    assert {"Session", "Participant"} <= {base for name in HEIRS for base in bases(name)}


@pytest.mark.parametrize("name", HEIRS)
def test_a_client_of_a_pool_leaves_nothing_out(name: str) -> None:
    wanted = {each for base in CONTRACTS for each in methods(base, are_missing=True)}
    done = {
        each
        for base in bases(name)
        if base not in CONTRACTS
        for each in methods(base, are_missing=False)
    }
    assert wanted - done - methods("PoolClient", are_missing=False) == set()
