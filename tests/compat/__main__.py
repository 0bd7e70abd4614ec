"""Runs the suites of drivers and ORMs directly, through the router and through PgBouncer.

``python -m tests.compat`` fetches the suites (from PyPI, npm and Go's proxy), runs each in
each place on a server of its own, and prints how many tests passed, failed and were skipped,
and which of those that pass directly do not pass elsewhere. What PostgreSQL and PgBouncer have
come to is kept. The exit status is 1 if the router loses a test without a known reason.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.targets import find_pgbouncer
from tests.corpus import fetch
from tests.support.cluster.cluster import Cluster

from . import outcomes, places, report
from .suites import SUITES, Job

if TYPE_CHECKING:
    from .outcomes import Outcomes

INSTALLATIONS: Final = Path("/usr/lib/postgresql")
SETTINGS: Final = {
    "max_connections": "200",
    "max_prepared_transactions": "20",
    "wal_level": "logical",
    "lc_messages": "C",
    "allow_in_place_tablespaces": "on",
}
EXISTING: Final = ("postgres", "template1")


def main() -> int:
    """Run the command."""
    arguments = parse()
    results: dict[str, dict[str, Outcomes]] = {}
    try:
        for suite in arguments.suite or SUITES:
            for place in arguments.place or places.PLACES:
                if place == places.PGBOUNCER and arguments.pgbouncer is None:
                    continue
                found = result(suite, place, arguments)
                if found is not None:
                    results.setdefault(suite, {})[place] = found
    except fetch.FetchError as error:
        say(str(error))
        return 2
    for line in (*report.table(results), *report.losses(results)):
        sys.stdout.write(line + "\n")
    return int(report.unexplained(results) > 0)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.compat", description=__doc__)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument(
        "--directory",
        type=Path,
        default=cache / "pgcat-router-compat",
        help="where what is fetched and found out is kept (%(default)s)",
    )
    parser.add_argument(
        "--suite", nargs="+", choices=SUITES, help="only these; without it all of them"
    )
    parser.add_argument("--place", nargs="+", choices=places.PLACES, help="only there")
    parser.add_argument(
        "--again", action="store_true", help="run directly and on PgBouncer anew, too"
    )
    parser.add_argument(
        "--kept", action="store_true", help="run nothing: show what has been kept"
    )
    parser.add_argument(
        "--pgbouncer", default=find_pgbouncer(), help="PgBouncer's program (%(default)s)"
    )
    return parser.parse_args()


def result(suite: str, place: str, arguments: argparse.Namespace) -> Outcomes | None:
    """Find out what becomes of a suite in a place, or look up what has."""
    path: Path = arguments.directory / "results" / f"{suite}-{place}.json"
    is_router = place in (places.SESSION, places.TRANSACTION)
    if path.exists() and (arguments.kept or not (is_router or arguments.again)):
        return outcomes.read(path)
    if arguments.kept:
        return None
    found = run(suite, place, arguments.directory, arguments.pgbouncer)
    outcomes.write(path, found)
    return found


def run(name: str, place: str, directory: Path, pgbouncer: str | None) -> Outcomes:
    """Run a suite in a place, on a server that nobody has used before."""
    suite = SUITES[name]
    kept = directory / "logs" / f"{name}-{place}"
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    with (
        Cluster(shards=1, replicas=0, settings=SETTINGS, bin_dir=programs()) as cluster,
        tempfile.TemporaryDirectory() as empty,
    ):
        server = cluster.primary
        for database in suite.databases:
            if database not in EXISTING:
                server.execute(f'CREATE DATABASE "{database}"')
        suite.prepare(server)
        with places.opened(place, server, suite.databases, pgbouncer) as opened:
            say(f"{name}, {place}: {opened.version} on port {opened.port}")
            try:
                found = suite.run(Job(directory, Path(empty), opened.port, place, programs()))
            finally:
                keep_logs(kept, Path(empty), cluster.root, server.log_path)
    found.version = opened.version
    say(f"{name}, {place}: {found.count(outcomes.PASSED)} passed")
    return found


def keep_logs(kept: Path, run_directory: Path, root: Path, server_log: Path) -> None:
    """Copy what the suite, the pooler and the server have said."""
    logs = [run_directory / "output", server_log, *root.glob("pgcat-*.log")]
    for log in filter(Path.exists, [*logs, root / "compat.out"]):
        shutil.copy(log, kept)


def programs() -> Path:
    """Return where the newest PostgreSQL of the system is: it has the extensions."""
    found = sorted(INSTALLATIONS.glob("*/bin"), key=lambda place: int(place.parts[-2]))
    if not found:
        raise fetch.FetchError(f"no PostgreSQL of the system in {INSTALLATIONS}")
    return found[-1]


def say(text: str) -> None:
    """Tell what goes on."""
    sys.stderr.write(f"compat: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
