"""How many files a statement crosses on its way there and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.builds import PACKAGE, Build, build
from tests.support.harness import Harness
from tests.support.wire import SYNC, bind, execute, parse, query, run

if TYPE_CHECKING:
    from types import FrameType

# What docs/design.md says; the engine and its links come besides, and where it is counted.
MOST = {"a query": 9, "a bound statement": 14, "an unnamed statement": 21}
COUNTING = {"queries.py", "histograms.py"}
STATEMENTS = {
    "a query": query("SELECT 1"),
    "a bound statement": bind(name="s") + execute() + SYNC,
    "an unnamed statement": run("SELECT 1") + SYNC,
}


@pytest.mark.skipif(build() is not Build.PLAIN, reason="compiled code cannot be watched")
@pytest.mark.parametrize("name", STATEMENTS)
def test_a_warm_statement_crosses_few_files(name: str) -> None:
    harness = Harness()
    client = harness.connect()
    harness.ask(client, parse("SELECT 1", "s") + SYNC)
    for _ in range(3):
        harness.ask(client, STATEMENTS[name])
    crossed: set[str] = set()

    def watch(frame: FrameType, event: str, _argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and PACKAGE in path.parents:
            crossed.add(path.relative_to(PACKAGE).as_posix())

    [server] = harness.servers
    sys.setprofile(watch)
    try:
        client.session.on_data(STATEMENTS[name])
    finally:
        sys.setprofile(None)
    server.work()
    answer = server.model.take_output(None)
    sys.setprofile(watch)
    try:
        server.connection.on_data(answer)
    finally:
        sys.setprofile(None)
    assert answer[-6:-5] == b"Z"
    assert crossed >= COUNTING
    assert len(crossed - COUNTING) <= MOST[name], " ".join(sorted(crossed))
