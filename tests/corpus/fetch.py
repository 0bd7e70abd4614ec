"""Fetches the sources that the corpus is made of, by apt and pip, into a directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

SDISTS: Final = {
    "asyncpg": "0.32.0",
    "django": "5.2.19",
    "pg8000": "1.31.6",
    "sqlalchemy": "2.1.9",
}
"""Versions, so that the figures of two runs can be compared."""

# The suites run outside this project's environment: they bring test plugins of their own.
_TOOLS: Final = (
    "pytest",
    "psycopg[binary]",
    "asgiref",
    "sqlparse",
    "typing_extensions",
    "greenlet",
    "tblib",
    "jinja2",
)
_MIRROR: Final = "http://deb.debian.org/debian"


class FetchError(Exception):
    """A source cannot be had; says which and why."""


def postgresql(directory: Path, major: int) -> Path:
    """Return the unpacked source package of Debian's PostgreSQL.

    Raises:
        FetchError: apt does not give it.
    """
    package = f"postgresql-{major}"
    place = directory / package
    if not (found := sorted(place.glob("postgresql-*/src/test/regress"))):
        place.mkdir(parents=True, exist_ok=True)
        _apt(place, "update")
        _apt(place, "source", "--download-only", package)
        for archive in place.glob("*.orig.tar.*"):
            unpack(archive, place)
        found = sorted(place.glob("postgresql-*/src/test/regress"))
    if not found:
        raise FetchError(f"{package}: there are no regression tests in it")
    return found[0].parents[2]


def _apt(place: Path, *arguments: str) -> None:
    """Run apt-get with a list of sources of its own, as the system's has no source packages."""
    sources = place / "sources.list"
    keys = "/usr/share/keyrings/debian-archive-keyring.gpg"
    sources.write_text(f"deb-src [signed-by={keys}] {_MIRROR} {_suite()} main\n")
    for name in ("lists/partial", "cache/archives/partial"):
        (place / name).mkdir(parents=True, exist_ok=True)
    options = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "-",
        "Dir::State::Lists": place / "lists",
        "Dir::Cache": place / "cache",
    }
    settings = [text for name, value in options.items() for text in ("-o", f"{name}={value}")]
    run(["apt-get", "-q", *settings, *arguments], place)


def _suite() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        name, _, value = line.partition("=")
        if name == "VERSION_CODENAME":
            return value.strip('"')
    raise FetchError("not a release of Debian's: /etc/os-release has no VERSION_CODENAME")


def sdist(directory: Path, project: str) -> Path:
    """Return the unpacked source distribution of a project on PyPI.

    Raises:
        FetchError: pip does not give it.
    """
    version = SDISTS[project]
    place = directory / f"{project}-{version}"
    if not place.is_dir():
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        run([*command, "--no-binary", project, f"{project}=={version}"], directory)
        [archive] = directory.glob(f"[{project[0].upper()}{project[0]}]*-{version}.tar.gz")
        unpack(archive, directory)
    return place


def interpreter(directory: Path, tools: Sequence[str] = _TOOLS) -> Path:
    """Return a Python with what the suites need besides themselves.

    Raises:
        FetchError: it cannot be made.
    """
    place = directory / "venv"
    python = place / "bin" / "python"
    finished = place / "finished"
    wanted = "\n".join(tools)
    if not finished.exists() or finished.read_text() != wanted:
        directory.mkdir(parents=True, exist_ok=True)
        run([sys.executable, "-m", "venv", "--clear", str(place)], directory)
        run([str(python), "-m", "pip", "install", "--quiet", *tools], directory)
        finished.write_text(wanted)
    return python


def unpack(archive: Path, place: Path) -> None:
    """Unpack an archive into a directory."""
    with tarfile.open(archive) as tar:
        tar.extractall(place, filter="data")


def run(command: Sequence[str], place: Path) -> str:
    """Run a program in a directory; return what it printed.

    Raises:
        FetchError: it is not there, or it failed.
    """
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(
            command, cwd=place, env=environment, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise FetchError(f"{command[0]}: {error}") from None
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-5:])
        raise FetchError(f"{' '.join(command)}: exit status {done.returncode}\n{tail}")
    return done.stdout
