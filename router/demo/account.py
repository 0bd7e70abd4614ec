"""Under whom PostgreSQL, which refuses to be root, runs, and what that account can reach."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import RouterError

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT_NAMES = ("nobody", "postgres", "daemon")


class ClusterError(RouterError):
    """PostgreSQL could not be found, prepared, started or stopped."""


@dataclass(frozen=True, slots=True)
class Account:
    """An unprivileged account of the operating system."""

    uid: int
    gid: int

    def can_reach(self, path: Path) -> bool:
        """Tell whether the account may pass every directory on the way, and read the last part.

        Judged by the permission bits alone: group membership and ACLs only ever allow more.
        """
        path = path.resolve()
        passable = all(self._may(parent, stat.S_IXUSR) for parent in path.parents)
        return passable and self._may(path, stat.S_IRUSR | stat.S_IXUSR)

    def _may(self, path: Path, owner_bits: int) -> bool:
        status = path.stat()
        wanted = owner_bits if status.st_uid == self.uid else owner_bits >> 6
        return status.st_mode & wanted == wanted


def unprivileged_account() -> Account | None:
    """Return the account to run PostgreSQL under when we are root; None: our own will do."""
    if os.geteuid() != 0:
        return None
    for name in ACCOUNT_NAMES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise ClusterError(
        "PostgreSQL cannot run as root and there is no account to run it under",
        hint=f"add one of the users {', '.join(ACCOUNT_NAMES)}, or do not run as root",
    )
