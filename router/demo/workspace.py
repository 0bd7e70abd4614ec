"""The demo's directory, which goes when the demo does, whatever it was that ended it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .account import Account

# A file system in memory, and what it must have free; a cluster of six takes 300 MB and more.
MEMORY = Path("/dev/shm")
ROOM = 4 * 1024**3
# Waits until nobody holds the other end of its input any more, not even a demo that was killed.
# The pid may have a new owner: a postmaster's command line names its directory.
WATCHDOG = """
cat
for data in "$1"/*/; do
    data=${data%/}
    pid=$(head -n 1 "$data/postmaster.pid") || continue
    grep -aqF "$data" "/proc/$pid/cmdline" && kill -QUIT "$pid"
done
for attempt in 1 2 3 4 5 6 7 8 9; do
    rm -rf "$1" && break
    sleep "$attempt"
done
"""
WATCHDOG_SECONDS = 60.0


class Workspace:
    """A directory of servers, owned by the account that they run under."""

    def __init__(self, account: Account | None) -> None:
        self.root = new_directory(account)
        self._watchdog = subprocess.Popen(
            ["/bin/sh", "-c", WATCHDOG, "watchdog", self.root],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )

    def close(self) -> None:
        """Remove the directory, once the servers in it have been stopped."""
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        self._watchdog.wait(WATCHDOG_SECONDS)
        shutil.rmtree(self.root, ignore_errors=True)  # in case that it has been killed


def new_directory(account: Account | None) -> Path:
    """Make a directory for temporary files that an account owns and reaches."""
    root = Path(tempfile.mkdtemp(prefix="pgcat-", dir=_parent(account)))
    if account is not None:
        os.chown(root, account.uid, account.gid)
    return root


def _parent(account: Account | None) -> Path:
    """Return the directory for temporary files that suits: memory, if there is plenty.

    A new cluster is a thousand small files, which take a disk's file system up to a second.
    """
    usual = Path(tempfile.gettempdir())
    if "TMPDIR" not in os.environ and _is_roomy(MEMORY):
        return MEMORY
    if account is None or account.can_reach(usual):
        return usual
    return Path("/tmp")


def _is_roomy(directory: Path) -> bool:
    """Tell whether a directory has space for several clusters, and may hold programs."""
    try:
        status = os.statvfs(directory)
    except OSError:
        return False
    return (
        os.access(directory, os.W_OK | os.X_OK)
        and not status.f_flag & os.ST_NOEXEC
        and status.f_bavail * status.f_frsize >= ROOM
    )
