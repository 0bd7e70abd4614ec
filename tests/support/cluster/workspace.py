"""A throw-away directory that several processes may lease, gone with the last of them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Self

from router.demo.account import Account, ClusterError, unprivileged_account
from router.demo.workspace import new_directory

from . import reaper

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

# The reaper itself kills after some seconds what has not stopped by then.
REAPER_SECONDS = 120.0

# A Popen that is collected while its process runs complains; these are for others to wait for.
left_running: list[subprocess.Popen[bytes]] = []


class Workspace:
    """A lease on a directory of servers, which the reaper ends after the last lease."""

    def __init__(self, root: Path, lease: int, account: Account | None) -> None:
        self.root = root
        self.account = account
        self._lease: int | None = lease
        self._reaper: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<Workspace {self.root}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @classmethod
    def create(cls) -> Workspace:
        """Make a new directory, owned by the account that PostgreSQL will run under."""
        account = unprivileged_account()
        root = new_directory(account)
        lease = _lease(root, os.O_CREAT)
        if lease is None:
            raise ClusterError(f"cannot lock {root}/{reaper.LEASE}")
        workspace = cls(root, lease, account)
        workspace._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(root)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # Ctrl-C in the terminal is not meant for it
        )
        return workspace

    @classmethod
    def join(cls, root: Path) -> Workspace | None:
        """Lease a directory made by another process; None when it is gone or going."""
        lease = _lease(root, 0)
        return None if lease is None else cls(root, lease, unprivileged_account())

    def release(self) -> None:
        """Give the lease up and leave what runs here to the other holders."""
        self._unlock()
        if self._reaper is not None:
            left_running.append(self._reaper)
            self._reaper = None

    def close(self) -> None:
        """Give the lease up and, as the maker, wait until everything in here is gone.

        For a workspace that nobody has joined: others would keep the reaper, and us, waiting.
        """
        self._unlock()
        if self._reaper is not None:
            self._reaper.wait(REAPER_SECONDS)
            self._reaper = None
            reaper.reap(self.root)  # only has work to do when the reaper was killed

    def _unlock(self) -> None:
        if self._lease is not None:
            os.close(self._lease)
            self._lease = None


def _lease(root: Path, flags: int) -> int | None:
    """Lock the lease file, shared; None when the reaper was there first."""
    try:
        lease = os.open(root / reaper.LEASE, os.O_RDWR | flags, 0o600)
    except OSError:
        return None
    try:
        fcntl.flock(lease, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        os.close(lease)
        return None
    if os.fstat(lease).st_nlink == 0:
        os.close(lease)
        return None
    return lease
