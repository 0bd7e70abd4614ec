"""One run of pgbench, and what it printed."""

from __future__ import annotations

import re
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from router.demo.server import HOST, SUPERUSER

from .processes import connections_to
from .targets import DATABASE, BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from router.demo.installation import Installation

    from .targets import Target

# pgbench's own scripts, with their share of the transactions.
SCRIPTS = {
    "select-only": ("select-only",),
    "tpcb": ("tpcb-like",),
    "mixed": ("select-only@9", "tpcb-like@1"),
}
# Scripts of ours.
TEXTS = {
    "100 rows": "SELECT * FROM pgbench_accounts WHERE aid <= 100;\n",
    "1 MB": "SELECT repeat('x', 1024) FROM generate_series(1, 1024);\n",
}
# For the latencies that a sample is logged of: enough for a p99, too few to be felt.
SAMPLES_PER_SECOND = 1000.0
_POLL_SECONDS = 0.005

_TPS = re.compile(
    r"^tps = ([\d.]+) \((?:without initial connection|including reconnection) time",
    re.MULTILINE,
)
_LATENCY = re.compile(r"^latency average = ([\d.]+) ms", re.MULTILINE)
_COUNT = re.compile(r"^number of transactions actually processed: (\d+)", re.MULTILINE)
_FAILED = re.compile(r"^number of failed transactions: (\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench is asked to do.

    Attributes:
        script: a key of SCRIPTS or TEXTS.
        reconnects: whether each transaction has a connection of its own.
    """

    script: str
    protocol: str
    clients: int
    seconds: int
    threads: int
    reconnects: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; latencies in milliseconds."""

    tps: float
    transactions: int
    latency_average: float
    latency_p50: float | None
    latency_p99: float | None


class Logged(NamedTuple):
    """A transaction: when it ended, as `time.time()` tells, and its milliseconds."""

    ended: float
    latency: float


def initialise(installation: Installation, port: int, scale: int) -> None:
    """Fill the benchmark's tables."""
    where = ["-h", HOST, "-p", str(port), "-U", SUPERUSER, "-d", DATABASE]
    installation.run("pgbench", *where, "-i", "-q", "-s", str(scale))


def run(
    installation: Installation, target: Target, load: Load, *, rate: float = 0.0
) -> Outcome:
    """Run pgbench to its end; `rate` is the share of transactions whose latency is logged.

    Raises:
        BenchmarkError: it failed, or a transaction did.
    """
    return start(installation, target, load, rate=rate).finish()[0]


class Running:
    """A pgbench at work."""

    def __init__(
        self, process: subprocess.Popen[bytes], load: Load, prefix: Path, target: Target
    ) -> None:
        self._process = process
        self._load = load
        self._prefix = prefix
        self._target = target

    def wait_until_connected(self) -> None:
        """Wait until all clients are connected: before that none sends anything."""
        end = time.monotonic() + self._load.seconds
        while self._process.poll() is None and time.monotonic() < end:
            if connections_to(self._target.port) >= self._load.clients:
                return
            time.sleep(_POLL_SECONDS)

    def finish(self) -> tuple[Outcome, list[Logged]]:
        """Wait for its end; return what it printed, and the transactions it logged."""
        try:
            output, _ = self._process.communicate(timeout=self._load.seconds + 60)
        except subprocess.TimeoutExpired:
            self.stop()
            raise BenchmarkError(
                f"{self._target.name}: pgbench {self._load} does not end"
            ) from None
        except BaseException:
            self.stop()
            raise
        text = output.decode(errors="replace")
        logged = _take_logs(self._prefix)
        if self._process.returncode != 0:
            raise BenchmarkError(f"pgbench {self._load} on {self._target.name} failed:\n{text}")
        return parse(text, [each.latency for each in logged]), logged

    def stop(self) -> None:
        """End it now."""
        self._process.kill()
        self._process.communicate()
        _take_logs(self._prefix)


def start(
    installation: Installation, target: Target, load: Load, *, rate: float = 0.0
) -> Running:
    """Start pgbench; `rate` is the share of transactions that it logs."""
    prefix = installation.cwd / "latency"
    arguments = ["-n", "-M", load.protocol, "-c", str(load.clients), "-j", str(load.threads)]
    arguments += ["-T", str(load.seconds), *_script(installation, load.script)]
    if load.reconnects:
        arguments.append("-C")
    if rate:
        arguments += ["-l", f"--log-prefix={prefix}"]
    if 0 < rate < 1:
        arguments.append(f"--sampling-rate={rate:.6f}")
    arguments.append(target.conninfo)
    process = installation.popen("pgbench", *arguments, stdout=subprocess.PIPE)
    return Running(process, load, prefix, target)


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


def _script(installation: Installation, name: str) -> list[str]:
    if name in SCRIPTS:
        return [f"--builtin={script}" for script in SCRIPTS[name]]
    path = installation.cwd / "script.sql"
    installation.write(path, [TEXTS[name]])
    return [f"--file={path}"]


def _number(pattern: re.Pattern[str], text: str) -> float:
    match = pattern.search(text)
    if match is None:
        raise BenchmarkError(f"pgbench did not print {pattern.pattern!r}:\n{text}")
    return float(match[1])


def _take_logs(prefix: Path) -> list[Logged]:
    """Read and remove the logs: microseconds are the third field, the end the last two."""
    logged: list[Logged] = []
    for path in prefix.parent.glob(f"{prefix.name}.*"):
        for line in path.read_text().splitlines():
            fields = line.split()
            ended = int(fields[4]) + int(fields[5]) / 1e6
            logged.append(Logged(ended, int(fields[2]) / 1000))
        path.unlink()
    return logged
