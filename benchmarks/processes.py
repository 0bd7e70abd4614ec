"""What a process has cost so far, read from /proc."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Processor time in seconds, by where it went."""

    user: float = 0.0
    system: float = 0.0

    def __add__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user + other.user, self.system + other.system)

    def __sub__(self, other: CpuTime) -> CpuTime:
        return CpuTime(self.user - other.user, self.system - other.system)

    @property
    def total(self) -> float:
        """User and system together: exact, while their split is the kernel's estimate."""
        return self.user + self.system


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used while something ran.

    Attributes:
        cpu: of the process asked about, None if none was.
        machine_busy: the share of all processors that was in use by anything.
        machine_stolen: the share that the host gave to others.
    """

    cpu: CpuTime | None
    machine_busy: float
    machine_stolen: float


class Meter:
    """Tells what a process and the machine have used since it was made."""

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._cpu = CpuTime() if pid is None else cpu_time(pid)
        self._machine = machine_cpu_time()
        self._began = time.monotonic()

    def read(self) -> Usage:
        """Until now."""
        busy, stolen = machine_cpu_time()
        seconds = (time.monotonic() - self._began) * processors()
        return Usage(
            None if self._pid is None else cpu_time(self._pid) - self._cpu,
            round((busy - self._machine[0]) / seconds, 3),
            round((stolen - self._machine[1]) / seconds, 3),
        )


def processors() -> int:
    """How many processors we may use."""
    return len(os.sched_getaffinity(0))


def cpu_time(pid: int) -> CpuTime:
    """What a process and all its descendants have used, those that have ended included."""
    return sum((_own_cpu_time(process) for process in family(pid)), CpuTime())


def resident_bytes(pid: int) -> int:
    """Resident memory of a process and all its descendants."""
    return sum(int(_read(process, "statm").split()[1]) * _PAGE for process in family(pid))


def connections_to(port: int) -> int:
    """How many connections over IPv4 there are from this machine to a port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    ends = (line.split()[2:4] for line in lines)
    return sum(int(peer[-4:], 16) == port and state == "01" for peer, state in ends)


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    found = [pid]
    for member in found:
        for task in Path(f"/proc/{member}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def machine_cpu_time() -> tuple[float, float]:
    """Seconds of all processors since the start: busy with anything, and stolen by the host."""
    fields = [int(text) / _TICKS for text in Path("/proc/stat").read_text().split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return user + nice + system + irq + softirq, steal


def _own_cpu_time(pid: int) -> CpuTime:
    # The second field, the program's name in parentheses, may itself hold blanks.
    fields = _read(pid, "stat").rpartition(")")[2].split()
    user, system, child_user, child_system = (int(text) / _TICKS for text in fields[11:15])
    return CpuTime(user + child_user, system + child_system)


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()
