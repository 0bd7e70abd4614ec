"""The command line, before it serves."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from router import cli

if TYPE_CHECKING:
    from pathlib import Path

# What a router needs, and what only some routers need.
SERVING = {"trio", "pydantic", "sqlglot", "tomli"}
OPTIONAL = {"h11", "hypercorn", "prometheus_client", "rich", "psycopg"}
CONFIG = """\
[general]
admin_username = "admin"
admin_password = "admin"
[pools.db.users.0]
username = "a"
password = "b"
pool_size = 1
[pools.db.shards.0]
database = "db"
servers = [["127.0.0.1", 5432, "primary"]]
"""
_COLLECTOR = """\
import gc, sys, trio
from router import cli
def run(*_, **__):
    print(gc.get_threshold()[0], gc.get_freeze_count(), file=sys.stderr)
trio.run = run
cli.main(sys.argv[1:])
"""


def imported_by(program: str) -> set[str]:
    """The top-level modules that a program has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", f"{program}\nprint('\\n', *sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in done.stdout.splitlines()[-1].split()}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_what_does_not_serve_imports_nothing_that_does(option: str) -> None:
    found = imported_by(
        "import sys\nfrom router import cli\n"
        f"try: cli.main([{option!r}])\nexcept SystemExit as end: assert not end.code"
    )
    assert "router" in found
    assert not found & (SERVING | OPTIONAL)


def test_a_router_without_metrics_does_without_a_web_server() -> None:
    found = imported_by("import sys\nimport router.app")
    assert found >= SERVING
    assert not found & OPTIONAL


@pytest.mark.parametrize(
    ("name", "value", "choices"),
    [
        ("LOG_FORMAT", "xml", "text, structured, debug"),
        ("LOG_FORMAT", "", "text, structured, debug"),
        ("LOG_LEVEL", "bogus", "trace, debug, info, warn, error"),
    ],
)
def test_a_variable_that_says_nothing_sensible_is_named(
    name: str,
    value: str,
    choices: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(name, value)
    assert cli.main([]) == 78
    assert capsys.readouterr().err == f"pgcat: {name}={value!r} is none of {choices}\n"


def test_an_option_goes_before_its_variable(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "router", "--log-format", "text", "nowhere.toml"],
        env={**os.environ, "LOG_FORMAT": "xml"},
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 78
    assert "nowhere.toml" in done.stderr


def test_the_collector_looks_at_little(tmp_path: Path) -> None:
    path = tmp_path / "pgcat.toml"
    path.write_text(CONFIG)
    done = subprocess.run(
        [sys.executable, "-c", _COLLECTOR, str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    threshold, frozen = map(int, done.stderr.split()[-2:])
    assert threshold == 10_000
    assert frozen > 10_000
