"""PostgreSQL's own regression tests: what psql prints is to be what it prints directly."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
from typing import TYPE_CHECKING, Final

from tests.corpus import fetch
from tests.corpus.scripts import schedule

from .outcomes import FAILED, PASSED, Outcomes
from .places import DIRECT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.cluster.server import Server

    from .suites import Job

DATABASE: Final = "regression"
# As pg_regress has it.
_ENVIRONMENT: Final = {
    "PGTZ": "PST8PDT",
    "PGDATESTYLE": "Postgres, MDY",
    "PGOPTIONS": "-c intervalstyle=postgres_verbose",
    "LC_MESSAGES": "C",
}
_SECONDS: Final = 300.0
_DIFFERENCE: Final = 12
# What is another one each time: numbers of objects and processes, positions in the log, times.
_FLEETING: Final = re.compile(
    r"\b(?:pg_toast|pg_temp|pg_toast_temp)_[0-9]+|\b[0-9]{5,}\b|[0-9]+\.[0-9]+ ms"
    r"|\b[0-9A-F]+/[0-9A-F]{5,}\b"
)


def prepare(server: Server) -> None:
    """Make the database as pg_regress makes it."""
    for sql in (
        "SET lc_messages TO 'C'",
        "SET lc_monetary TO 'C'",
        "SET lc_numeric TO 'C'",
        "SET lc_time TO 'C'",
        "SET bytea_output TO 'hex'",
        "SET timezone_abbreviations TO 'Default'",
    ):
        server.execute(f"ALTER DATABASE {DATABASE} {sql}")


def regress(job: Job) -> Outcomes:
    """Run the tests, and compare with what has been printed directly, which is kept."""
    kept = job.directory / "results" / "regress-printed.json"
    printed = _play(job)
    if job.name == DIRECT:
        kept.write_text(json.dumps(printed))
    elif not kept.exists():
        raise fetch.FetchError(f"{kept} is missing: run it directly first")
    return compared(printed, json.loads(kept.read_text()))


def _play(job: Job) -> dict[str, str]:
    """Run the tests one after the other; returns what psql has printed, by test."""
    major = int(job.programs.parts[-2])
    tests = fetch.postgresql(job.directory, major) / "src" / "test" / "regress"
    environment = job.environment(
        {
            **_ENVIRONMENT,
            "PGDATABASE": DATABASE,
            "PG_ABS_SRCDIR": str(tests),
            "PG_ABS_BUILDDIR": str(job.directory),
            "PG_LIBDIR": str(job.directory),
            "PG_DLSUFFIX": ".so",
        }
    )
    psql = [str(job.programs / "psql"), "-X", "-a", "-q"]
    hidden = ["-v", "HIDE_TABLEAM=on", "-v", "HIDE_TOAST_COMPRESSION=on"]
    found = {}
    for name in schedule(tests / "parallel_schedule"):
        script = tests / "sql" / f"{name}.sql"
        if not script.exists():
            continue
        with script.open("rb") as text:
            done = subprocess.run(
                [*psql, *hidden],
                stdin=text,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                timeout=_SECONDS,
                check=False,
            )
        found[name] = done.stdout.decode("utf-8", "replace")
    return found


def compared(printed: Mapping[str, str], directly: Mapping[str, str]) -> Outcomes:
    """Say of each test whether it has printed what it prints directly."""
    found = Outcomes()
    for name, text in printed.items():
        ours, theirs = (_FLEETING.sub("N", each) for each in (text, directly[name]))
        lines = [
            line
            for line in difflib.unified_diff(theirs.splitlines(), ours.splitlines(), n=0)
            if not line.startswith(("---", "+++", "@@"))
        ]
        why = "\n".join(lines[:_DIFFERENCE])
        found.add(f"regress::{name}", FAILED if lines else PASSED, why)
    return found
