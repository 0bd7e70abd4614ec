"""The suites: what they need, and how they are run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from router.demo.server import HOST, SUPERUSER
from tests.corpus import fetch

from . import outcomes, regress

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from pathlib import Path

    from tests.support.cluster.server import Server

    from .outcomes import Outcomes

TOOLS: Final = (
    "pytest",
    "pytest-timeout",
    "asyncpg==" + fetch.SDISTS["asyncpg"],
    "pg8000==" + fetch.SDISTS["pg8000"],
    "psycopg[binary]==3.3.9",
    "psycopg2-binary==2.9.13",
    "asgiref",
    "sqlparse",
    "typing_extensions",
    "greenlet",
    "tblib",
    "jinja2",
    "pytz",
    "python-dateutil",
    "pytest-mock",
    "distro",
    "unittest-xml-reporting",
)
NODE: Final = {
    "pg": "8.23.1",
    "pg-pool": "2.0.10",
    "pg-cursor": "2.0.0",
    "pg-query-stream": "2.1.2",
}
# With tests in what npm has; they are run on the pg above and not on that of their day.
NODE_SUITES: Final = ("pg-pool", "pg-cursor", "pg-query-stream")
NODE_TOOLS: Final = (
    "mocha@5",
    "expect.js",
    "lodash",
    "bluebird",
    "concat-stream@1",
    "co",
    "co-mocha",
    "JSONStream",
)
# Their helpers are on no registry; setup.js ends the run with the first deprecation.
NODE_WITHOUT: Final = (
    "setup.js",
    "stream-tester.js",
    "stream-tester-timestamp.js",
    "pauses.js",
)
PQ: Final = "v1.12.3"
RUN_SECONDS: Final = 3000.0
TEST_SECONDS: Final = 120

_DJANGO: Final = """
aggregation async backends basic bulk_create constraints datetimes db_functions delete
expressions expressions_window fixtures get_or_create indexes inspectdb introspection lookup
migrations model_fields postgres_tests queries raw_query schema select_for_update select_related
test_utils timezones transaction_hooks transactions update
"""
_SETTINGS: Final = """
DATABASES = {{
    name: {{
        "ENGINE": "django.db.backends.postgresql", "NAME": name, "USER": "{user}",
        "HOST": "{host}", "PORT": "{port}", "TEST": {{"NAME": "test_" + name}},
    }}
    for name in ("default", "other")
}}
SECRET_KEY = "compat"
USE_TZ = False
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
TEST_RUNNER = "xmlrunner.extra.djangotestrunner.XMLTestRunner"
TEST_OUTPUT_DIR = "{reports}"
"""
_DJANGO_DATABASES: Final = ("default", "other", "test_default", "test_other")
_EXTENSIONS: Final = ("citext", "hstore", "pg_trgm", "unaccent", "btree_gin", "btree_gist")


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a suite.

    Attributes:
        directory: of what has been fetched.
        place: an empty directory for this run.
        port: to connect to.
        name: what is there, one of `places`.
        programs: where PostgreSQL's are.
    """

    directory: Path
    place: Path
    port: int
    name: str
    programs: Path

    @property
    def report(self) -> Path:
        """Where the outcomes are written, if that is one file."""
        return self.place / "report.xml"

    def environment(self, more: Mapping[str, str]) -> dict[str, str]:
        """What a program needs that connects there, and more."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        theirs = {
            "PGHOST": HOST,
            "PGPORT": str(self.port),
            "PGUSER": SUPERUSER,
            "PGDATABASE": SUPERUSER,
            "PYTHONHASHSEED": "0",
            "TZ": "UTC",
        }
        return {**ours, **theirs, **more}

    def run(
        self,
        command: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        statuses: Container[int] = range(256),
    ) -> Path:
        """Run a suite to its end; return what it said.

        Raises:
            FetchError: it has another exit status than those of a suite that has come to its
                end, so that what it has reported is not all.
        """
        output = self.place / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=self.environment(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                process.wait(RUN_SECONDS)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode not in statuses:
            raise fetch.FetchError(f"{command[0]}: exit status {process.returncode}")
        return output

    def pytest(self, cwd: Path, *arguments: str, path: Sequence[Path] = ()) -> Outcomes:
        """Run a suite by pytest."""
        command = [
            str(fetch.interpreter(self.directory, TOOLS)),
            *("-m", "pytest", "-v", "-p", "no:cacheprovider", "--tb=native"),
            *("--timeout", str(TEST_SECONDS), f"--junitxml={self.report}"),
            *arguments,
        ]
        environment = {"PYTHONPATH": os.pathsep.join(map(str, path))}
        self.run(command, cwd, environment, (0, 1))
        return outcomes.from_junit([self.report])


@dataclass(frozen=True, slots=True)
class Suite:
    """A suite: the databases that it uses, what they must have, and how it is run."""

    databases: tuple[str, ...]
    run: Callable[[Job], Outcomes]
    prepare: Callable[[Server], None] = lambda server: None


def with_extensions(*databases: str) -> Callable[[Server], None]:
    """Return what makes the extensions that suites use in databases."""

    def prepare(server: Server) -> None:
        for database in databases:
            for extension in _EXTENSIONS:
                server.execute(f"CREATE EXTENSION IF NOT EXISTS {extension}", database=database)

    return prepare


def _tests_alone(job: Job, project: str, folder: str) -> Path:
    """Copy the tests away from the sources: they are to test what is installed."""
    sources = fetch.sdist(job.directory, project)
    shutil.copytree(sources / folder, job.place / folder)
    return job.place


def asyncpg(job: Job) -> Outcomes:
    """asyncpg's own suite, on a server that it does not manage."""
    place = _tests_alone(job, "asyncpg", "tests")
    leave_out = ("test__sourcecode", "test__environment", "test_subinterpreters")
    ignored = [f"--ignore=tests/{name}.py" for name in leave_out]
    return job.pytest(place, *ignored, "tests")


def pg8000(job: Job) -> Outcomes:
    """pg8000's own suite, but for those tests that need ways of logging in and benchmarks."""
    place = _tests_alone(job, "pg8000", "test")
    ignored = [f"--ignore-glob=*{name}*" for name in ("auth", "benchmarks", "readme")]
    return job.pytest(place, *ignored, "test")


def prepare_sqlalchemy(server: Server) -> None:
    """Make the database that SQLAlchemy's README.unittests asks for."""
    for sql in (
        "CREATE SCHEMA test_schema",
        "CREATE SCHEMA test_schema_2",
        "CREATE EXTENSION IF NOT EXISTS hstore",
        "CREATE EXTENSION IF NOT EXISTS citext",
    ):
        server.execute(sql, database="test")


def sqlalchemy(driver: str) -> Callable[[Job], Outcomes]:
    """SQLAlchemy's suite for dialects, and that of its PostgreSQL dialect."""

    def run(job: Job) -> Outcomes:
        sources = fetch.sdist(job.directory, "sqlalchemy")
        uri = f"postgresql+{driver}://{SUPERUSER}@{HOST}:{job.port}/test"
        places = ("test/dialect/postgresql", "test/dialect/test_suite.py")
        options = ("--maxfail=100000", "--dburi", uri)
        return job.pytest(sources, *options, *places, path=[sources / "lib"])

    return run


def django(job: Job) -> Outcomes:
    """Those parts of Django's suite that have to do with PostgreSQL."""
    sources = fetch.sdist(job.directory, "django")
    reports = job.place / "reports"
    settings = job.place / "compat_settings.py"
    settings.write_text(
        _SETTINGS.format(host=HOST, port=job.port, user=SUPERUSER, reports=reports)
    )
    script = [str(sources / "tests" / "runtests.py"), "--settings=compat_settings"]
    python = str(fetch.interpreter(job.directory, TOOLS))
    options = ("--parallel=1", "--noinput", "--keepdb", "-v1")
    modules = [name for name in _DJANGO.split() if (sources / "tests" / name).is_dir()]
    path = os.pathsep.join(map(str, (sources, job.place)))
    command = [python, *script, *options, *modules]
    job.run(command, sources / "tests", {"PYTHONPATH": path}, (0, 1))
    return outcomes.from_junit(sorted(reports.glob("*.xml")))


def node(job: Job) -> Outcomes:
    """The suites of node-postgres that npm has: of its pool, its cursor and its stream."""
    base = job.directory / "node"
    if not (finished := base / "finished").exists():
        base.mkdir(parents=True, exist_ok=True)
        packages = [f"{name}@{version}" for name, version in NODE.items()]
        fetch.run(["npm", "init", "-y"], base)
        fetch.run(
            ["npm", "install", "--no-audit", "--no-fund", "--force", *packages, *NODE_TOOLS],
            base,
        )
        finished.touch()
    reports = []
    for name in NODE_SUITES:
        report = job.place / f"{name}.xml"
        found = sorted((base / "node_modules" / name / "test").glob("*.js"))
        tests = [path for path in found if path.name not in NODE_WITHOUT]
        command = [
            *("npx", "--no-install", "mocha", "--exit", "--timeout", "30000"),
            *("--reporter", "xunit", "--reporter-options", f"output={report}"),
            *("--require", "co-mocha"),
            *map(str, tests),
        ]
        job.run(command, base)
        reports.append(report)
    return outcomes.from_junit(reports)


def pq(job: Job) -> Outcomes:
    """The suite of lib/pq; modules carry theirs. Each test by itself: some end in a panic."""
    path, sources = job.directory / "go", job.directory / f"pq-{PQ}"
    cache = {"GOPATH": str(path), "GOFLAGS": "-mod=mod", "GOCACHE": str(path / "cache")}
    if not (sources / "compat.test").exists():
        path.mkdir(parents=True, exist_ok=True)
        os.environ.update(cache)
        (path / "go.mod").write_text("module compat\n")
        fetch.run(["go", "mod", "download", f"github.com/lib/pq@{PQ}"], path)
        shutil.copytree(path / "pkg/mod/github.com/lib" / f"pq@{PQ}", sources)
        fetch.run(["chmod", "-R", "u+w", str(sources)], path)
        fetch.run(["go", "test", "-c", "-o", "compat.test", "."], sources)
    each = 'go tool test2json -p pq ./compat.test -test.v -test.timeout 60s -test.run "^$name$"'
    script = f"for name in $(./compat.test -test.list '^Test'); do {each}; done"
    output = job.run(["sh", "-c", script], sources, {**cache, "PGDATABASE": "pqgo"})
    with output.open(errors="replace") as lines:
        return outcomes.from_go(lines)


SUITES: Final = {
    "regress": Suite((regress.DATABASE,), regress.regress, regress.prepare),
    "pg8000": Suite((SUPERUSER,), pg8000, with_extensions(SUPERUSER)),
    "asyncpg": Suite((SUPERUSER,), asyncpg),
    "node": Suite((SUPERUSER,), node),
    "pq": Suite(("pqgo",), pq),
    "sqlalchemy-psycopg": Suite(("test",), sqlalchemy("psycopg"), prepare_sqlalchemy),
    "sqlalchemy-asyncpg": Suite(("test",), sqlalchemy("asyncpg"), prepare_sqlalchemy),
    # Its databases for tests are made before and kept: who is pooled cannot be dropped.
    "django": Suite(
        (SUPERUSER, *_DJANGO_DATABASES), django, with_extensions(*_DJANGO_DATABASES)
    ),
}
