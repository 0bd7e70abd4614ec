"""`pgcat import`: a pgcat.toml from PgBouncer's files."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .config import bouncer, bouncer_ini, loader
from .errors import ConfigError
from .reasons import reason

if TYPE_CHECKING:
    from collections.abc import Sequence

EXIT_OK: Final = 0
EXIT_PROBLEMS: Final = 1

_EPILOG: Final = """\
examples:
  pgcat import /etc/pgbouncer/pgbouncer.ini                    to stdout
  pgcat import pgbouncer.ini userlist.txt -o pgcat.toml        to a file that is yours alone
  pgcat import pgbouncer.ini --database app --database web     pools by the line of *

What cannot be carried over is told key by key: in comments at the head of the file, on stderr.

exit status: 0, or 1 if the files cannot be used, or the result needs work before it can be.
"""


def parser() -> argparse.ArgumentParser:
    """The options."""
    found = argparse.ArgumentParser(
        prog="pgcat import",
        description="Make a pgcat.toml of a pgbouncer.ini and its userlist.txt.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("ini", metavar="PGBOUNCER.INI", type=Path, help="PgBouncer's file")
    found.add_argument(
        "userlist",
        metavar="USERLIST.TXT",
        nargs="?",
        type=Path,
        help="users and passwords (default: what auth_file says)",
    )
    found.add_argument("-o", "--output", type=Path, help="the file to write (default: stdout)")
    found.add_argument("--force", action="store_true", help="replace the file if it is there")
    found.add_argument(
        "--database",
        metavar="NAME",
        action="append",
        default=[],
        help="a database that clients use and that only * stands for; may be repeated",
    )
    return found


def run(words: Sequence[str]) -> int:
    """Run the command; returns the exit code."""
    options = parser().parse_args(words)
    try:
        ini = bouncer_ini.read_ini(options.ini)
        userlist = _userlist(options.ini, options.userlist, ini.settings.get("auth_file"))
        imported = bouncer.convert(ini, userlist, options.database)
        text = imported.text(str(options.ini))
        _write(text, options.output, force=options.force)
    except ConfigError as error:
        _say(f"pgcat: {error}")
        return EXIT_PROBLEMS
    for note in imported.lost:
        _say(f"not carried over, or not as it was: {note}")
    for note in imported.needless:
        _say(f"not needed: {note}")
    try:
        loaded = loader.parse(text, str(options.output or "the result"))
    except ConfigError as error:
        _say(f"pgcat: {error}")
        return EXIT_PROBLEMS
    for warning in loaded.warnings:
        _say(f"warning: {warning}")
    return EXIT_OK


def _userlist(ini: Path, given: Path | None, auth_file: str | None) -> dict[str, str]:
    if given is not None:
        return bouncer_ini.read_userlist(given)
    if auth_file is None:
        return {}
    # Where PgBouncer finds it depends on where it is started; beside its ini is usual.
    beside = ini.parent / auth_file
    return bouncer_ini.read_userlist(beside if beside.exists() else Path(auth_file))


def _write(text: str, output: Path | None, *, force: bool) -> None:
    """Write the file, which has passwords in it.

    Raises:
        ConfigError: it is there already, or cannot be written.
    """
    if output is None:
        sys.stdout.write(text)
        return
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        descriptor = os.open(output, flags, 0o600)
        with os.fdopen(descriptor, "w") as file:
            os.fchmod(descriptor, 0o600)
            file.write(text)
    except FileExistsError:
        raise ConfigError(f"{output} is there already; --force replaces it") from None
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {reason(error)}") from None


def _say(line: str) -> None:
    print(line, file=sys.stderr)  # noqa: T201
