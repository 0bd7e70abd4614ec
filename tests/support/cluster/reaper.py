"""Stops every server below a directory and removes it, once nobody leases it any more.

Runs as a process of its own (`python reaper.py DIRECTORY`), standard library only, and outlives
whoever started the servers: the kernel drops a killed process's lock, so even `kill -9` leaves
neither a PostgreSQL nor a directory behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import signal
import sys
import time
from pathlib import Path

LEASE = "lease"
IPC_RMID = 0
STOP_SECONDS = 5.0
REMOVE_SECONDS = 30.0
POLL_SECONDS = 0.005


def main() -> None:
    """Wait until the last holder of the directory's lease is gone, then clear it away."""
    root = Path(sys.argv[1])
    with (root / LEASE).open() as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        reap(root)


def reap(root: Path, patience: float = STOP_SECONDS) -> None:
    """Stop the servers whose data directories lie in `root`, at once, and delete it.

    Those that have not stopped after so many seconds are killed.
    """
    running = [
        pid for path in root.glob("*/postmaster.pid") if (pid := postmaster_pid(path.parent))
    ]
    for pid in running:
        send(pid, signal.SIGQUIT)
        send(pid, signal.SIGCONT)  # a stopped process would never see the first
    deadline = time.monotonic() + patience
    for pid in running:
        while is_alive(pid):
            if time.monotonic() > deadline:
                send(pid, signal.SIGKILL)
            time.sleep(POLL_SECONDS)
    for data_dir in root.glob("*/"):
        remove_shared_memory(data_dir)
    # The last orphan of a killed postmaster may still be writing.
    deadline = time.monotonic() + REMOVE_SECONDS
    while root.exists() and time.monotonic() <= deadline:
        shutil.rmtree(root, ignore_errors=True)


def postmaster_pid(data_dir: Path) -> int | None:
    """Return the process that serves `data_dir`, or None, whatever the pid file says."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text().split("\n", 1)[0])
        # The pid may have a new owner. Everyone may read a command line; the working directory,
        # which would tell too, is hidden from the root of a container.
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return None
    serves_it = os.fsencode(data_dir) in arguments
    return pid if serves_it and is_alive(pid) else None


def remove_shared_memory(data_dir: Path) -> None:
    """Remove the System V segment that a killed postmaster has left, if it has."""
    try:
        # "key id": https://www.postgresql.org/docs/current/storage-file-layout.html
        line = (data_dir / "postmaster.pid").read_text().splitlines()[6]
        segment = int(line.split()[1])
    except (OSError, ValueError, IndexError):
        return
    ctypes.CDLL(None).shmctl(segment, IPC_RMID, None)


def is_alive(pid: int) -> bool:
    """Tell whether the process runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rpartition(")")[2].split()[0] not in {"Z", "X"}


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


if __name__ == "__main__":
    main()
