"""What compiled code calls that is not compiled, on the way of a statement."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import PACKAGE, Build, build
from tests.support.harness import Harness
from tests.support.wire import SYNC, bind, describe, execute, parse, query, run

if TYPE_CHECKING:
    from types import FrameType

BOUND = bind(name="s") + describe() + execute() + SYNC
STATEMENTS = {
    "a query": [query("SELECT 1")],
    "another text each time": [query("SELECT 10"), query("SELECT 11"), query("SELECT 12")],
    "a bound statement": [BOUND],
    "an unnamed statement": [run("SELECT 1") + SYNC],
    "a transaction": [query("BEGIN"), query("SELECT 1"), BOUND, query("COMMIT")],
    "an error": [query("SELECT 1/0")],
}
# Whom the compiled modules import from modules that are not: beside classes of values, errors
# and what is needed when a pool is made, nobody is to be added who is called for a statement.
NOT_COMPILED = {
    line.split(": ")[0]: line.split(": ")[1].split(", ")
    for line in """\
""".splitlines()
}


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
@pytest.mark.parametrize("limits", [{}, {"query_timeout": 60.0}], ids=["", "with time limits"])
@pytest.mark.parametrize("size", [1, 2])
@pytest.mark.parametrize("name", STATEMENTS)
def test_nothing_is_interpreted_on_the_way_of_a_warm_statement(
    name: str, size: int, limits: dict[str, float]
) -> None:
    harness = Harness(pool_size=size, **limits)
    client, other = harness.connect(), harness.connect()
    for one in (client, other):
        harness.ask(one, parse("SELECT 1", "s") + SYNC)
    for _ in range(3):
        frames_of_ours(harness, STATEMENTS[name])
    assert frames_of_ours(harness, STATEMENTS[name]) == set()
