"""One run of pgbench, and what it printed."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from router.demo.server import HOST, SUPERUSER

from .targets import DATABASE, BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from router.demo.installation import Installation

SCRIPTS = {"select-only": "select-only", "tpcb": "tpcb-like"}
# For the latencies that a sample is logged of: enough for a p99, too few to be felt.
SAMPLES_PER_SECOND = 1000.0

_TPS = re.compile(r"^tps = ([\d.]+) \(without initial connection time\)", re.MULTILINE)
_LATENCY = re.compile(r"^latency average = ([\d.]+) ms", re.MULTILINE)
_COUNT = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench is asked to do."""

    script: str
    protocol: str
    clients: int
    seconds: int
    threads: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; latencies in milliseconds."""

    tps: float
    transactions: int
    latency_average: float
    latency_p50: float | None
    latency_p99: float | None


def initialise(installation: Installation, port: int, scale: int) -> None:
    """Fill the benchmark's tables."""
    installation.run("pgbench", *_where(port), "-i", "-q", "-s", str(scale))


def run(installation: Installation, port: int, load: Load, *, rate: float = 0.0) -> Outcome:
    """Run pgbench to its end; `rate` is the share of transactions whose latency is logged.

    Raises:
        BenchmarkError: it failed, or a transaction did.
    """
    prefix = installation.cwd / "latency"
    arguments = [*_where(port), "-n", "-b", SCRIPTS[load.script], "-M", load.protocol]
    arguments += ["-c", str(load.clients), "-j", str(load.threads), "-T", str(load.seconds)]
    if rate:
        arguments += ["-l", f"--sampling-rate={rate:.6f}", f"--log-prefix={prefix}"]
    process = installation.popen("pgbench", *arguments, stdout=subprocess.PIPE)
    try:
        output, _ = process.communicate(timeout=load.seconds + 60)
    except BaseException:
        process.kill()
        process.communicate()
        raise
    text = output.decode(errors="replace")
    latencies = _take_latencies(installation.cwd)
    if process.returncode != 0:
        raise BenchmarkError(f"pgbench {load} on port {port} failed:\n{text}")
    return parse(text, latencies)


def parse(text: str, latencies: Sequence[float]) -> Outcome:
    """Read pgbench's report."""
    if (failed := _FAILED.search(text)) is not None and int(failed[1]):
        raise BenchmarkError(f"pgbench reports failed transactions:\n{text}")
    return Outcome(
        tps=_number(_TPS, text),
        transactions=int(_number(_COUNT, text)),
        latency_average=_number(_LATENCY, text),
        latency_p50=percentile(latencies, 0.50),
        latency_p99=percentile(latencies, 0.99),
    )


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value that a share of the others does not exceed; None of too few to say."""
    if len(values) < 100:
        return None
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def _where(port: int) -> list[str]:
    return ["-h", HOST, "-p", str(port), "-U", SUPERUSER, "-d", DATABASE]


def _number(pattern: re.Pattern[str], text: str) -> float:
    match = pattern.search(text)
    if match is None:
        raise BenchmarkError(f"pgbench did not print {pattern.pattern!r}:\n{text}")
    return float(match[1])


def _take_latencies(directory: Path) -> list[float]:
    """Read and remove the logs: the third field is a transaction's microseconds."""
    latencies: list[float] = []
    for path in directory.glob("latency.*"):
        lines = path.read_text().splitlines()
        latencies += [int(line.split()[2]) / 1000 for line in lines]
        path.unlink()
    return latencies
