"""How long everybody waits for one text: the longest hold of the loop, by its kind and size.

What is timed is what a Query costs before it goes on its way: the looks for the router's own
commands, the marks of what it leaves behind, and its route in a router that has never seen the
like. It is processor time of the thread, the least of some runs, so that other programs count
for little.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.table import Table

from router.errors import RouterError
from router.protocol import marks
from router.routing import commands, explain, fingerprint, lists
from router.routing.router import QueryRouter
from router.routing.state import RoutingState
from router.routing.types import RouterOptions
from router.session import answered

from .hostile import KINDS
from .targets import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SIZES: Final = (2, 3, 4, 16, 64, 95, 127, 255)
"""In KiB."""

_RUNS: Final = 3
_OPTIONS: Final = RouterOptions(
    shard_count=3,
    query_parser_enabled=True,
    query_parser_read_write_splitting=True,
    automatic_sharding_key=("users.id", "*.tenant"),
    omnisharded_tables=("things",),
)


@dataclass(frozen=True, slots=True)
class Hold:
    """What one text costs.

    Attributes:
        kind: of text.
        size: in KiB.
        milliseconds: that everybody waits.
        verdict: where it goes and why, or how it is refused.
    """

    kind: str
    size: int
    milliseconds: float
    verdict: str


def measure(sizes: Sequence[int], kinds: Sequence[str]) -> Iterator[Hold]:
    """Measure with the router that is imported here."""
    for kind in kinds:
        for size in sizes:
            text = KINDS[kind].text(size << 10)
            options = replace(_OPTIONS, sharding_function=KINDS[kind].sharding_function)
            runs = [_held(text, options) for _ in range(_RUNS)]
            yield Hold(kind, size, min(run[0] for run in runs) * 1e3, runs[0][1])


def _held(text: bytes, options: RouterOptions) -> tuple[float, str]:
    lists.plain_parameters.cache_clear()
    router = QueryRouter(options)
    state = RoutingState()
    router.route(b"SELECT 1", state)
    start = time.thread_time()
    try:
        if answered.may_concern(text):
            commands.worded(text)
            explain.explained(text)
            answered.deallocation(text)
        marks.of_text(text)
        route = router.route(text, state)
        verdict = f"{route.role and route.role.value} of {route.shard}: {route.reason}"
    except RouterError as error:
        verdict = f"{error.sqlstate}: {error.message}"
    return time.thread_time() - start, verdict


def measure_build(path: str, sizes: Sequence[int], kinds: Sequence[str]) -> list[Hold]:
    """Measure with the router in a folder, in a process of its own."""
    here = str(Path(__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((os.path.abspath(path), here))}
    order = json.dumps({"sizes": list(sizes), "kinds": list(kinds)})
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "benchmarks.stalls", order],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode != 0:
        raise BenchmarkError(f"{path}: {done.stderr.strip().splitlines()[-1:]}")
    return [Hold(**each) for each in json.loads(done.stdout)]


def is_compiled() -> bool:
    """Whether the router that is imported here is compiled."""
    return not str(fingerprint.__file__).endswith(".py")


def stalls_table(builds: Mapping[str, Sequence[Hold]], *, least: float) -> Table:
    """Show the holds of all builds side by side, but for texts that are below a time in all."""
    sizes = sorted({hold.size for holds in builds.values() for hold in holds})
    table = Table(title="Longest hold of the loop, ms")
    table.add_column("text")
    for name in builds:
        for size in sizes:
            table.add_column(f"{name}\n{size} KiB", justify="right")
    table.add_column(f"verdict at {sizes[-1]} KiB", overflow="fold", max_width=60)
    by_key = {
        (name, hold.kind, hold.size): hold for name, holds in builds.items() for hold in holds
    }
    first = next(iter(builds))
    for kind in dict.fromkeys(hold.kind for hold in builds[first]):
        row = [by_key[name, kind, size] for name in builds for size in sizes]
        if max(hold.milliseconds for hold in row) >= least:
            times = [f"{hold.milliseconds:.1f}" for hold in row]
            table.add_row(kind, *times, by_key[first, kind, sizes[-1]].verdict)
    worst = [
        max(by_key[name, kind, size].milliseconds for kind in {h.kind for h in builds[first]})
        for name in builds
        for size in sizes
    ]
    table.add_section()
    table.add_row("longest", *(f"{milliseconds:.1f}" for milliseconds in worst), "")
    return table


def differences(builds: Mapping[str, Sequence[Hold]]) -> list[str]:
    """Name the texts on which the builds disagree."""
    verdicts = [[(hold.kind, hold.size, hold.verdict) for hold in b] for b in builds.values()]
    return [
        f"{one[0]}, {one[1]} KiB"
        for each in zip(*verdicts, strict=True)
        for one in each[:1]
        if len(set(each)) > 1
    ]


if __name__ == "__main__":
    _order = json.loads(sys.argv[1])
    json.dump([asdict(h) for h in measure(_order["sizes"], _order["kinds"])], sys.stdout)
