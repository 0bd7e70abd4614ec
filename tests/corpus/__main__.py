"""Compares the router's verdicts on a corpus of SQL with what a hot standby says.

``python -m tests.corpus`` fetches PostgreSQL's sources from Debian and those of Django and
SQLAlchemy from PyPI, runs their statements on a primary and its standby, and prints where the
router would send them. What the servers said is kept, so that the next time takes seconds. The
exit status is 1 if a replica would get a write, or too few of the reads.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.support.cluster.cluster import Cluster

from . import fetch, records, report, suites
from .replay import Replay
from .scripts import schedule

if TYPE_CHECKING:
    from tests.support.cluster.cluster import Shard

INSTALLATIONS: Final = Path("/usr/lib/postgresql")
# The standby has whatever the primary has committed by the time the primary says so.
OF_PRIMARY: Final = {
    "synchronous_standby_names": "*",
    "synchronous_commit": "remote_apply",
}
SETTINGS: Final = {
    "max_connections": "100",
    "max_prepared_transactions": "10",
    "wal_level": "logical",
    "allow_in_place_tablespaces": "on",
    "lc_messages": "C",
}


def main() -> int:
    """Run the command."""
    arguments = parse()
    directory: Path = arguments.directory
    directory.mkdir(parents=True, exist_ok=True)
    found: list[records.Record] = []
    try:
        for name in arguments.source or SOURCES:
            path = directory / f"{name}.jsonl"
            if not path.exists() or arguments.again:
                say(f"{name}: asking the servers, which takes minutes")
                make(name, path, directory)
            found += records.read(path)
    except fetch.FetchError as error:
        say(str(error))
        return 2
    rows, verdicts = report.rows(found)
    if arguments.verdicts:
        arguments.verdicts.write_text("".join(line + "\n" for line in verdicts))
    sys.stdout.write(report.table(rows) + "\n")
    whole = report.total(rows)
    return int(bool(whole.wrong) or whole.share < report.LEAST_OFFLOADED)


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.corpus", description=__doc__)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument(
        "--directory",
        type=Path,
        default=cache / "pgcat-router-corpus",
        help="where what is fetched and found out is kept (%(default)s)",
    )
    parser.add_argument(
        "--source", action="append", choices=SOURCES, help="only this one; more than once"
    )
    parser.add_argument("--again", action="store_true", help="ask the servers anew")
    parser.add_argument(
        "--verdicts", type=Path, help="a file for the verdict on each statement"
    )
    return parser.parse_args()


def make(name: str, path: Path, directory: Path) -> None:
    """Find out what the servers say to the statements of a source."""
    programs = sorted(INSTALLATIONS.glob("*/bin"), key=lambda place: int(place.parts[-2]))
    if not programs:
        raise fetch.FetchError(f"no PostgreSQL of the system in {INSTALLATIONS}")
    major = int(programs[-1].parts[-2])
    with Cluster(shards=1, replicas=1, settings=SETTINGS, bin_dir=programs[-1]) as cluster:
        [shard] = cluster.shards
        shard.primary.configure(OF_PRIMARY)
        shard.primary.reload()
        records.write(path, SOURCES[name](directory, shard, major))


def regress(directory: Path, shard: Shard, major: int) -> Iterator[records.Record]:
    """PostgreSQL's regression tests, in the order of their schedule."""
    tests = fetch.postgresql(directory, major) / "src" / "test" / "regress"
    names = schedule(tests / "parallel_schedule")
    scripts = [path for name in names if (path := tests / "sql" / f"{name}.sql").exists()]
    shard.primary.execute("CREATE DATABASE regression TEMPLATE template0 ENCODING 'UTF8'")
    replay = Replay(shard, "regression", {"PG_ABS_SRCDIR": str(tests)})
    yield from replay.records("regress", scripts)


def contrib(directory: Path, shard: Shard, major: int) -> Iterator[records.Record]:
    """The tests of the extensions in PostgreSQL's sources, each with a database of its own."""
    modules = sorted((fetch.postgresql(directory, major) / "contrib").glob("*/sql"))
    for number, place in enumerate(modules):
        database = f"contrib_{number}"
        shard.primary.execute(f"CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8'")
        replay = Replay(shard, database, {"PG_ABS_SRCDIR": str(place.parent)})
        # Those that others need are called init.
        scripts = sorted(place.glob("*.sql"), key=lambda path: ("init" not in path.stem, path))
        yield from replay.records("contrib", scripts)


def django(directory: Path, shard: Shard, major: int) -> Iterator[records.Record]:
    """Django's suite, with values in the text and then with parameters."""
    yield from itertools.chain.from_iterable(
        suites.django(directory, shard, binding=binding) for binding in (False, True)
    )


def sqlalchemy(directory: Path, shard: Shard, major: int) -> Iterator[records.Record]:
    """SQLAlchemy's suite."""
    yield from suites.sqlalchemy(directory, shard)


Maker = Callable[["Path", "Shard", int], Iterator[records.Record]]
SOURCES: Final[dict[str, Maker]] = {
    "regress": regress,
    "contrib": contrib,
    "django": django,
    "sqlalchemy": sqlalchemy,
}


def say(text: str) -> None:
    """Tell what goes on."""
    sys.stderr.write(f"corpus: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
