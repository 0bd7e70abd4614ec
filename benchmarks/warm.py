"""What a warm statement costs in the data plane alone, with statistics off and on.

No sockets and no server: the same bytes come again and again, so that system calls and
PostgreSQL do not hide the difference. Count instructions with `valgrind --tool=callgrind`.
"""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from tests.support.harness import Harness
from tests.support.wire import SYNC, bind, execute, parse, query

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROUNDS: Final = 5
_ROWS: Final = 1000
_SELECT: Final = "SELECT * FROM accounts WHERE aid = %d"

KINDS: Final[dict[str, Callable[[int], bytes]]] = {
    "a Query": lambda _: query("SELECT 1"),
    "Bind, Execute, Sync": lambda _: bind(name="s") + execute() + SYNC,
    "a Query with other literals": lambda number: query(_SELECT % number),
    "Parse, Bind, Execute, Sync": lambda _: parse("SELECT 1") + bind() + execute() + SYNC,
}


@dataclass(frozen=True, slots=True)
class Warm:
    """Processor time of a statement in nanoseconds, by whether statistics are on."""

    kind: str
    off: float
    on: float


def measure(count: int) -> list[Warm]:
    """Measure each kind of statement, off and on in turn; medians of the rounds."""
    found = []
    for kind, make in KINDS.items():
        times: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(ROUNDS):
            for is_on, spent in times.items():
                spent.append(_run([make(number) for number in range(count)], is_on=is_on))
        found.append(Warm(kind, median(times[False]), median(times[True])))
    return found


def _run(texts: Sequence[bytes], *, is_on: bool) -> float:
    harness = Harness()
    harness.engine.figures.queries.use(_ROWS if is_on else 0)
    client = harness.connect()
    harness.ask(client, parse("SELECT 1", "s") + SYNC)
    for text in texts[:3]:
        harness.ask(client, text)
    [server] = harness.servers
    client.session.on_data(texts[0])
    server.work()
    answer = server.model.take_output()
    server.connection.on_data(answer)
    ask, tell = client.session.on_data, server.connection.on_data
    gc.collect()
    began = time.process_time()
    for text in texts:
        ask(text)
        server.link.written = b""
        tell(answer)
        client.link.written = b""
    return (time.process_time() - began) / len(texts) * 1e9
