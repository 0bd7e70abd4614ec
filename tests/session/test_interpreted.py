"""What compiled code calls that is not compiled, on the way of a statement."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import COMPILED_MODULES, PACKAGE, Build, build
from tests.support.harness import Harness
from tests.support.wire import SYNC, bind, describe, execute, parse, query, run

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

BOUND = bind(name="s") + describe() + execute() + SYNC
STATEMENTS = {
    "a query": [query("SELECT 1")],
    "another text each time": [query("SELECT 10"), query("SELECT 11"), query("SELECT 12")],
    "a bound statement": [BOUND],
    "an unnamed statement": [run("SELECT 1") + SYNC],
    "a transaction": [query("BEGIN"), query("SELECT 1"), BOUND, query("COMMIT")],
    "a transaction in batches": [run(text) + SYNC for text in ("BEGIN", "SELECT 1", "END")],
    "a transaction at once": [run("BEGIN") + run("SELECT 1") + run("COMMIT") + SYNC],
    "a setting of a transaction": [query("BEGIN"), query("SET LOCAL a.b = 1"), query("END")],
    "a text behind a comment": [query("/* page */ SELECT 1"), run("-- page\nSELECT 1") + SYNC],
    "an error": [query("SELECT 1/0")],
}
# What compiled modules import of others than compiled ones: errors, values, what is needed
# when something goes wrong, when a pool is made, when a client logs in, or for the first
# statement of a form. What is called for each statement does not belong here, and is compiled.
INTERPRETED = {
    "compiling.py",
    "config/values.py",
    "engine/proxy.py",
    "engine/tls.py",
    "engine/wire.py",
    "errors.py",
    "pool/address.py",
    "pool/discovery.py",
    "pool/health.py",
    "pool/laggards.py",
    "pool/refusals.py",
    "pool/roles.py",
    "pool/throttle.py",
    "pool/two_phase.py",
    "printable.py",
    "protocol/auth.py",
    "protocol/passwords.py",
    "protocol/startup.py",
    "protocol/variables.py",
    "reasons.py",
    "records.py",
    "routing/activity.py",
    "routing/comments.py",
    "routing/explain.py",
    "routing/for_all.py",
    "routing/functions.py",
    "routing/operator_functions.py",
    "routing/rows.py",
    "routing/sameness.py",
    "session/admission.py",
    "session/alike.py",
    "session/credentials.py",
    "session/peers.py",
    "session/requests.py",
    "session/split.py",
}


def imported(name: str) -> Iterator[str]:
    """The modules of the package that one imports when it runs."""
    tree = ast.parse((PACKAGE / name).read_text())
    guarded = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level or id(node) in guarded:
            continue
        module = (
            (PACKAGE / name)
            .parents[node.level - 1]
            .joinpath(*(node.module or "").split(".") if node.module else ())
        )
        for alias in node.names:
            is_file = node.module and module.with_suffix(".py").is_file()
            path = module.with_suffix(".py") if is_file else module / f"{alias.name}.py"
            yield path.relative_to(PACKAGE).as_posix()


def test_compiled_modules_lean_on_few_that_are_not() -> None:
    found = {module for name in COMPILED_MODULES for module in imported(name)}
    assert found - set(COMPILED_MODULES) == INTERPRETED


def frames_of_ours(harness: Harness, statements: list[bytes]) -> set[str]:
    """The functions of the package that the interpreter runs while these are answered."""
    called: set[str] = set()

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents:
            module = path.relative_to(PACKAGE).as_posix()
            called.add(f"{module}: {frame.f_code.co_qualname}")

    client, other = harness.clients[:2]
    sys.setprofile(watch)
    try:
        for statement in statements:
            client.send(statement)
            other.send(query("SELECT 2"))  # which waits if there is one server only
            harness.run()
    finally:
        sys.setprofile(None)
    return called


@pytest.mark.skipif(build() is not Build.COMPILED, reason="of plain code all is interpreted")
@pytest.mark.parametrize("timeout", [0.0, 60.0])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_is_interpreted_on_the_way_of_a_warm_statement(
    name: str, size: int, timeout: float
) -> None:
    harness = Harness(pool_size=size, query_timeout=timeout)
    client, other = harness.connect(), harness.connect()
    for one in (client, other):
        harness.ask(one, parse("SELECT 1", "s") + SYNC)
    for _ in range(3):
        frames_of_ours(harness, STATEMENTS[name])
    assert frames_of_ours(harness, STATEMENTS[name]) == set()
