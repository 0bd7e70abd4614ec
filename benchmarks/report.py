"""Results as tables for people and as JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from .processes import processors

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .compare import Comparison
    from .copies import Copied
    from .crosstalk import Outcome
    from .fairness import Wait
    from .memory import Memory
    from .processes import CpuTime
    from .targets import Target
    from .warm import Warm

NOTHING = "n/a"


def comparison_table(comparisons: Sequence[Comparison], title: str) -> Table:
    """Throughput, latency and processor time, a row per load."""
    table = Table(title=title, caption="Ratios: medians of the rounds' own ratios.")
    for header in ("protocol", "clients"):
        table.add_column(header, justify="left" if header == "protocol" else "right")
    for header in (
        "tps\ndirect",
        "tps\nrouter",
        "tps\nPgBouncer",
        "router /\nPgBouncer",
        "router /\ndirect",
        "spread",
        "p99 ms\nrouter",
        "p99 ms\nPgBouncer",
        "CPU us/txn (user+sys)\nrouter",
        "\nPgBouncer",
        "\nratio",
    ):
        table.add_column(header, justify="right", no_wrap=True)
    for comparison in comparisons:
        table.add_row(*_cells(comparison))
    return table


def _cells(comparison: Comparison) -> list[str]:
    spreads = map(comparison.spread, ("direct", "router", "pgbouncer"))
    return [
        comparison.load.protocol,
        str(comparison.load.clients),
        *(_number(comparison.tps(name), ",.0f") for name in ("direct", "router", "pgbouncer")),
        _number(comparison.tps_ratio("router", "pgbouncer"), ".2f"),
        _number(comparison.tps_ratio("router", "direct"), ".2f"),
        _number(max((one for one in spreads if one is not None), default=None), ".0%"),
        *(_number(comparison.latency_p99(name), ".2f") for name in ("router", "pgbouncer")),
        *(_cpu(comparison.cpu(name)) for name in ("router", "pgbouncer")),
        _number(comparison.cpu_ratio("router", "pgbouncer"), ".2f"),
    ]


def routing_table(comparisons: Sequence[Comparison], title: str) -> Table:
    """The router that looks at queries beside the one that does not, a row per load."""
    table = Table(title=title, caption="Ratios: medians of the rounds' own ratios.")
    table.add_column("protocol")
    for header in ("clients", "tps\noff", "tps\non", "on / off", "CPU us/txn\noff", "\non"):
        table.add_column(header, justify="right", no_wrap=True)
    for comparison in comparisons:
        table.add_row(
            comparison.load.protocol,
            str(comparison.load.clients),
            *(_number(comparison.tps(name), ",.0f") for name in ("router", "routing")),
            _number(comparison.tps_ratio("routing", "router"), ".2f"),
            *(_cpu(comparison.cpu(name)) for name in ("router", "routing")),
        )
    return table


def warm_table(measured: Sequence[Warm], *, is_compiled: bool) -> Table:
    """Processor time of warm statements, a row per kind."""
    build = "compiled" if is_compiled else "not compiled"
    table = Table(title=f"A statement in the data plane alone, {build}, by query_statistics")
    table.add_column("statement")
    for header in ("off ns", "on ns", "statistics ns"):
        table.add_column(header, justify="right")
    for row in measured:
        cells = (row.off, row.on, row.on - row.off)
        table.add_row(row.kind, *(f"{cell:.0f}" for cell in cells))
    return table


def copies_table(measured: Sequence[Copied]) -> Table:
    """COPY over all shards beside one, a row per kind of rows."""
    table = Table(title="COPY FROM STDIN over three shards, and into one of them")
    table.add_column("rows")
    for header in ("split / one", "split rows/s", "one rows/s", "split us/row", "one us/row"):
        table.add_column(header, justify="right")
    for row in measured:
        table.add_row(
            row.kind,
            f"{row.ratio:.2f}",
            f"{row.split:,.0f}",
            f"{row.single:,.0f}",
            f"{row.cpu_split:.2f}",
            f"{row.cpu_single:.2f}",
        )
    return table


def memory_table(measured: Sequence[Memory]) -> Table:
    """Resident memory, a row per proxy."""
    table = Table(title="Resident memory of idle clients, each after one query")
    table.add_column("proxy")
    for header in ("clients", "before MB", "with them MB", "after MB", "kB per client"):
        table.add_column(header, justify="right")
    for memory in measured:
        sizes = (memory.before, memory.connected, memory.after)
        table.add_row(
            memory.target,
            str(memory.clients),
            *(f"{size / 1e6:.1f}" for size in sizes),
            f"{memory.per_client / 1e3:.1f}",
        )
    return table


def fairness_table(waits: Sequence[Wait], title: str) -> Table:
    """What the others waited, a row per flood and target."""
    table = Table(title=title)
    for header in ("one client sends", "target"):
        table.add_column(header)
    for header in ("queries", "p50 ms", "p99 ms", "longest ms", "flood MB"):
        table.add_column(header, justify="right")
    for wait in waits:
        table.add_row(
            wait.flood,
            wait.target,
            f"{wait.queries:,}",
            *(f"{1e3 * time:.2f}" for time in (wait.p50, wait.p99, wait.longest)),
            f"{wait.sent / 1e6:.1f}",
        )
    return table


def crosstalk_table(outcome: Outcome) -> Table:
    """What the clients were answered, and what happened meanwhile."""
    tally, table = outcome.tally, Table(title=f"crosstalk, {outcome.seconds:.0f} s")
    table.add_column("")
    table.add_column("count", justify="right")
    lost = ", ".join(f"{count:,} {what}" for what, count in sorted(tally.lost.items()))
    for name, value in (
        ("messages compared", f"{tally.messages:,}"),
        ("a second", f"{tally.messages / outcome.seconds:,.0f}"),
        ("answers", f"{tally.answers:,}"),
        ("logins", f"{tally.logins:,}"),
        ("clients that left in an answer", f"{tally.left:,}"),
        ("cancel requests", f"{tally.cancels:,}"),
        ("statements cancelled", f"{tally.canceled:,}"),
        ("servers killed", f"{outcome.kills:,}"),
        ("clients that were told so", lost or "0"),
        ("reloads", f"{outcome.reloads:,}"),
        ("statements behind others'", f"{outcome.shared:,}"),
        ("mismatches", f"{tally.wrong:,}"),
        ("without an answer", f"{len(tally.unanswered):,}"),
    ):
        table.add_row(name, value)
    return table


def write_json(
    path: Path,
    *,
    options: Mapping[str, object],
    targets: Sequence[Target],
    results: Sequence[Comparison | Memory | Wait],
) -> None:
    """Write every single run, and what is needed to judge it."""
    document = {
        "machine": machine_facts(),
        "options": {name: _plain(value) for name, value in options.items()},
        "targets": {target.name: target.version for target in targets},
        "results": [dataclasses.asdict(result) for result in results],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | str | tuple | None) else str(value)


def machine_facts() -> dict[str, object]:
    """What the numbers depend on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": platform.machine() if model is None else model[1],
        "processors": processors(),
        "load_average": list(os.getloadavg()),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
    }


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)


def _cpu(value: CpuTime | None) -> str:
    if value is None:
        return NOTHING
    return f"{value.total:.1f} ({value.user:.1f}+{value.system:.1f})"
